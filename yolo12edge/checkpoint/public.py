"""Read the public ``.pt`` checkpoints of YOLO12, of any task, without the packages that wrote them.

Two layouts: a dict that holds the whole module (its attributes give class names, areas and so on), or
a plain state dict. Keys of the weights are the same in both.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from ..errors import CheckpointError
from ..keypoints import COCO_PERSON, KeypointSpec
from ..nn import ModelConfig, build_model
from ..nn.config import TRAITS
from ..nn.infer import infer_config
from .checkpoint import Checkpoint, check_finite, check_tensors, meta_of
from .metadata import CheckpointMeta
from .torch_file import TorchFile
from .unpickle import ForeignObject, TensorRef

__all__ = ["import_public"]

_MAX_DEPTH = 32
_MAX_MODULES = 20_000  # the largest model has 1,200
_FIRST = "0.conv.weight"  # what every state dict of a YOLO has, below some prefix


@dataclass(frozen=True, slots=True)
class _Found:
    """What the file holds, before it is interpreted.

    Attributes:
        tensors: Public key to tensor.
        modules: Public name to module, empty for a plain state dict.
        sources: Where to look for attributes, the most telling first.
        arguments: The arguments of its training, empty if unknown.
        vendor: Whether the module comes from the vendor's package.
    """

    tensors: dict[str, TensorRef]
    modules: dict[str, ForeignObject]
    sources: list[Mapping[str, object]]
    arguments: Mapping[str, object]
    vendor: bool

    def get(self, key: str) -> Any:
        """Return the first value that one of the sources has, or None."""
        return next((source[key] for source in self.sources if source.get(key) is not None), None)


def import_public(path: Path | str) -> Checkpoint:
    """Read a public checkpoint of a YOLO12; no code of the file is run.

    Where the file holds a model and its moving average, the average is taken. What a plain state dict does
    not tell (class names, image size, areas, epsilon, dimensions of keypoints) gets the public defaults;
    ``meta.training["assumed"]`` lists which.

    Args:
        path: A ``.pt`` file of the Ultralytics or the original authors' layout, or a plain state dict.

    Returns:
        The checkpoint with float32 weights, its keys and shapes checked.

    Raises:
        CheckpointError: If the file is damaged, asks for code to be run, or holds no YOLO12.
    """
    with TorchFile(path) as file:
        found = _find(file.root(), file.name)
        try:
            meta, config = _interpret(found)
            with torch.device("meta"):
                wanted = build_model(config).state_dict()
            # Before a weight is read, so that a hostile file cannot make this read more than a model.
            check_tensors(found.tensors, wanted)
        except CheckpointError as error:
            raise CheckpointError(f"{file.name}: {error.fact}", expected=error.expected, remedy=error.remedy) from error
        tensors = {key: file.tensor(ref).to(wanted[key].dtype) for key, ref in found.tensors.items()}
    check_finite(tensors, file.name)
    bins = tensors.get("model.21.dfl.conv.weight")  # a classifier has none
    if bins is not None and not torch.equal(bins.flatten(), torch.arange(bins.numel(), dtype=torch.float32)):
        raise CheckpointError(f"{file.name}: the fixed weights of the box decoder are not 0, 1, 2, …, 15")
    return Checkpoint(meta, tensors)


def _find(root: object, name: str) -> _Found:
    outer = root if isinstance(root, dict) else {}
    candidates = [outer.get("ema"), outer.get("model"), outer.get("state_dict"), root]
    for candidate in candidates:
        modules: dict[str, ForeignObject] = {}
        if isinstance(candidate, ForeignObject):
            modules = dict(_walk(candidate, name))
            tensors = {key: ref for prefix, module in modules.items() for key, ref in _own_tensors(prefix, module)}
        elif isinstance(candidate, dict):
            tensors = {k: v for k, v in candidate.items() if isinstance(k, str) and isinstance(v, TensorRef)}
        else:
            continue
        if tensors:
            break
    else:
        raise CheckpointError(
            f"{name} holds no model", expected="a module or a state dict, alone or under 'ema', 'model' or 'state_dict'"
        )
    prefix = _prefix(tensors, name)
    holders = [m.state for m in modules.values() if "names" in m.state]
    stated = [_attributes(value) for value in (outer.get("train_args"), *(holder.get("args") for holder in holders))]
    return _Found(
        tensors={"model." + k[len(prefix) :]: v for k, v in tensors.items() if k.startswith(prefix)},
        modules={"model." + k[len(prefix) :]: v for k, v in modules.items() if k.startswith(prefix)},
        sources=[*holders, outer],
        arguments=next(filter(None, stated), {}),
        vendor=any(m.cls.module.split(".")[0] == "ultralytics" for m in modules.values()),
    )


def _walk(root: ForeignObject, name: str) -> Iterator[tuple[str, ForeignObject]]:
    """Yield all modules with their names; bounded, because the graph may be cyclic."""
    pending = [("", root, 0)]
    seen = 0
    while pending:
        prefix, module, depth = pending.pop()
        seen += 1
        if depth > _MAX_DEPTH or seen > _MAX_MODULES:
            raise CheckpointError(f"the modules in {name} are nested deeper, or are more, than in any YOLO12 model")
        yield prefix, module
        for key, child in _dict(module, "_modules").items():
            if isinstance(child, ForeignObject):
                pending.append((f"{prefix}{key}.", child, depth + 1))


def _own_tensors(prefix: str, module: ForeignObject) -> Iterator[tuple[str, TensorRef]]:
    hidden = module.state.get("_non_persistent_buffers_set")
    for kind in ("_parameters", "_buffers"):
        for key, ref in _dict(module, kind).items():
            if isinstance(ref, TensorRef) and not (isinstance(hidden, set) and key in hidden):
                yield f"{prefix}{key}", ref


def _dict(module: ForeignObject, kind: str) -> dict[str, object]:
    items = module.state.get(kind)
    return {k: v for k, v in items.items() if isinstance(k, str)} if isinstance(items, dict) else {}


def _prefix(tensors: Mapping[str, TensorRef], name: str) -> str:
    """Return what stands before the layer's number in every key, such as ``model.`` or ``module.model.``."""
    prefixes = [k[: -len(_FIRST)] for k in tensors if k == _FIRST or k.endswith("." + _FIRST)]
    prefixes = [p for p in prefixes if p + "2.cv1.conv.weight" in tensors]  # not a block inside that starts alike
    if len(prefixes) != 1:
        raise CheckpointError(
            f"{name} holds {'no' if not prefixes else 'more than one'} YOLO model",
            expected=f"one state dict with keys such as 'model.{_FIRST}'",
            remedy="give a checkpoint of a YOLO12",
        )
    return prefixes[0]


def _interpret(found: _Found) -> tuple[CheckpointMeta, ModelConfig]:
    assumed: list[str] = []

    def known(value: Any, what: str, default: Any) -> Any:
        if value is None:
            assumed.append(what)
            return default
        return value

    config = infer_config(found.tensors, areas=known(_areas(found.modules), "areas", None))
    traits = TRAITS[config.task]
    config = replace(config, bn_eps=known(_bn_eps(found.modules), "bn_eps", traits.bn_eps))
    names = _class_names(found.get("names"), config.num_classes)
    if config.keypoints is not None:
        read = config.keypoints
        config = replace(config, keypoints=known(_keypoints(found, read, names), "keypoints", read))
    numbered = [f"class {index}" for index in range(config.num_classes)]
    meta = meta_of(
        config,
        class_names=known(names, "class_names", numbered),
        image_size=known(_image_size(found.arguments.get("imgsz")), "image_size", traits.image_size),
        source="imported",
        weights_license=_license(found),
        training=_training(found, assumed),
    )
    return meta, config


def _keypoints(found: _Found, read: KeypointSpec, class_names: list[str] | None) -> KeypointSpec | None:
    """Return the keypoints that the model or its head states, checked against the rows ``read`` from its shapes."""
    head = found.modules.get(f"model.{TRAITS['pose'].head}.")
    stated = (head.state if head else {}).get("kpt_shape") or found.get("kpt_shape")
    if stated is None:
        return None
    count, dimensions = stated if isinstance(stated, (list, tuple)) and len(stated) == 2 else (None, None)
    if type(count) is not int or type(dimensions) is not int or dimensions not in (2, 3):
        raise CheckpointError("the stated shape of the keypoints is not a number of points and 2 or 3")
    if count * dimensions != read.rows:
        raise CheckpointError(f"the keypoints are stated as {count} x {dimensions}, and the head has {read.rows} rows")
    names = _keypoint_names(found, count)
    if not names and (count, dimensions) == (17, 3) and class_names == ["person"]:
        names = list(COCO_PERSON)  # the public models of persons do not name their points
    return KeypointSpec(count=count, dimensions=dimensions, names=names).completed()  # type: ignore[arg-type]


def _keypoint_names(found: _Found, count: int) -> list[str]:
    """Return the names of the points, if there is one list of them that is fit; they are stated a class or once."""
    names = found.get("kpt_names")
    if isinstance(names, dict):
        lists = list(names.values())
        names = lists[0] if lists and all(other == lists[0] for other in lists) else None
    if not isinstance(names, (list, tuple)) or len(names) != count:
        return []
    printable = [_printable(name) if isinstance(name, str) else "" for name in names]
    return printable if all(printable) else []


def _areas(modules: Mapping[str, ForeignObject]) -> tuple[int, int] | None:
    found = []
    for layer in (6, 8):
        stated = [m.state["area"] for n, m in modules.items() if n.startswith(f"model.{layer}.") and "area" in m.state]
        if not stated:
            return None
        if any(type(area) is not int or not 1 <= area <= 64 or area != stated[0] for area in stated):
            raise CheckpointError(f"the attention areas of layer {layer} are not one small number")
        found.append(int(stated[0]))  # type: ignore[call-overload]
    return found[0], found[1]


def _bn_eps(modules: Mapping[str, ForeignObject]) -> float | None:
    stated = [m.state.get("eps") for m in modules.values() if m.cls.name == "BatchNorm2d"]
    if not stated:
        return None
    first = stated[0]
    if not isinstance(first, float) or not 0 < first < 1 or any(eps != first for eps in stated):
        raise CheckpointError("the batch norms differ in their epsilon", expected="one value between 0 and 1")
    return first


def _class_names(names: object, count: int) -> list[str] | None:
    if names is None:
        return None
    if isinstance(names, dict):
        names = [names.get(index) for index in range(len(names))]
    if not isinstance(names, (list, tuple)) or len(names) != count or not all(isinstance(n, str) for n in names):
        raise CheckpointError(
            f"the class names do not fit the head's {count} classes", expected="one text for each class"
        )
    return [_printable(name) for name in names]


def _image_size(value: object) -> int | None:
    sizes = [size for size in (value if isinstance(value, (list, tuple)) else [value]) if type(size) is int]
    if not sizes or not 32 <= max(sizes) <= 8192:
        return None
    return -(-max(sizes) // 32) * 32  # as the network needs it


def _license(found: _Found) -> str | None:
    """Return the licence that the file states; that of the vendor's package, which claims all weights, if none."""
    stated = found.get("license")
    if isinstance(stated, str):
        return "AGPL-3.0" if "AGPL-3.0" in stated else _printable(stated)
    return "AGPL-3.0" if found.vendor else None


def _training(found: _Found, assumed: list[str]) -> dict[str, Any]:
    summary: dict[str, Any] = {"assumed": assumed}
    for key, value in (
        ("version", found.get("version")),
        ("date", found.get("date")),
        ("epochs", found.arguments.get("epochs")),
    ):
        if isinstance(value, str):
            summary[key] = _printable(value)
        elif isinstance(value, int) and 0 <= value < 2**31:
            summary[key] = value
    metrics = found.get("train_metrics")
    if isinstance(metrics, dict):
        items = list(metrics.items())[:100]
        summary["metrics"] = {_printable(k): v for k, v in items if isinstance(k, str) and isinstance(v, float)}
    return summary


def _attributes(value: object) -> dict[str, Any]:
    """Return the entries of a dict or of a foreign namespace."""
    items = value.state if isinstance(value, ForeignObject) else value
    return items if isinstance(items, dict) else {}


def _printable(text: str) -> str:
    """Return text without what could steer a terminal, and of bounded length."""
    return "".join(c if c.isprintable() else " " for c in text[:200]).strip()
