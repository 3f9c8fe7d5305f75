"""One FP32 pass over real images: what values does each tensor take?"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from ..errors import InputError
from ..manifest import InputSpec
from ..preprocess import Preprocessor
from ..runtimes.cores import physical_cores
from .graph import Graph, graph_digest, load_model, observable_tensors
from .images import CalibrationImages
from .tensor_statistics import BINS, Statistics, TensorStatistics

if TYPE_CHECKING:
    import onnx

__all__ = ["TensorObserver", "activations", "observe", "parts_of"]

_SAMPLES = 16384  # values per tensor and image that enter the histogram; everything else sees all of them
_FETCHED = 512 << 20  # bytes of activations that one run of the model hands out
_CONFIDENCE = 0.25
_SCORES = "scores"


def observe(
    model: bytes,
    images: CalibrationImages,
    spec: InputSpec,
    *,
    threads: int | None = None,
    progress: Callable[[int, int], object] | None = None,
) -> Statistics:
    """Run a float ONNX model on real images and record what its tensors hold.

    Memory does not grow with the number of images. A model whose activations are large goes over the images several
    times, each time looking at a part of its tensors.

    Args:
        model: Content of the ``.onnx`` file that ``yolo12edge export`` wrote.
        images: What to run it on.
        spec: Its input.
        threads: CPU threads; None takes the physical cores that this process may use.
        progress: Called after each run with the number done and the number of all.

    Returns:
        Statistics of every tensor that some placement may quantize.

    Raises:
        MissingDependencyError: If onnx or onnxruntime is not installed.
        ExportError: If the model is not one that this project has exported, or a weight of it is not finite.
        InputError: If there is no image, one cannot be read, or a tensor holds values that are not finite on one.
    """
    if not images.paths:
        raise InputError("there is no image to calibrate with", remedy="give data with images: --data")
    proto = load_model(model)
    contents = images.contents()
    observers = {name: TensorObserver() for name in observable_tensors(Graph.of(proto))}
    detects = any(item.name == _SCORES for item in proto.graph.output)
    parts = parts_of(proto, [*observers, *[_SCORES] * detects])
    threads = threads or physical_cores()
    done = with_objects = 0
    with ThreadPoolExecutor(threads) as pool:  # NumPy lets go of the interpreter while it counts
        for part in parts:
            for index, values in enumerate(activations(proto, part, images, spec, threads=threads)):
                if _SCORES in values:
                    with_objects += bool(values.pop(_SCORES).max() >= _CONFIDENCE)
                finite = pool.map(lambda item: observers[item[0]].add(item[1]), values.items())
                for name, good in zip(values, finite, strict=True):
                    if not good:
                        raise _not_finite(name, images.names[index])
                done += 1
                if progress is not None:
                    progress(done, len(parts) * len(images.paths))
    return Statistics(
        {name: observer.result() for name, observer in observers.items()},
        model_digest=graph_digest(proto),
        input=spec,
        images=tuple(images.names),
        contents=tuple(contents),
        split=images.split,
        images_with_objects=with_objects if detects else len(images.paths),  # a class is in every picture
    )


class TensorObserver:
    """Statistics of one tensor while they grow image by image."""

    def __init__(self) -> None:
        self._images = 0
        self._limit = 0.0
        self._counts = np.zeros(BINS, np.int64)
        self._low: npt.NDArray[np.float32] | None = None  # by channel, as the next two
        self._high: npt.NDArray[np.float32] | None = None
        self._sum: npt.NDArray[np.float64] | None = None

    def add(self, values: npt.NDArray[np.float32]) -> bool:
        """Count the values of one image; return False, with nothing counted, if one is not finite.

        Args:
            values: The tensor, of the same shape each time, C-contiguous.
        """
        channels = values.shape[1] if values.ndim >= 2 else 1
        rows = values.reshape(-1, channels, math.prod(values.shape[2:]) if values.ndim >= 2 else values.size)
        low, high = rows.min(2).min(0), rows.max(2).max(0)
        if not (np.isfinite(low).all() and np.isfinite(high).all()):
            return False
        mean = rows.mean(2).mean(0, dtype=np.float64)
        if self._low is None or self._high is None or self._sum is None:
            self._low, self._high, self._sum = low, high, mean
        else:
            np.minimum(self._low, low, out=self._low)
            np.maximum(self._high, high, out=self._high)
            self._sum += mean
        self._reach(max(-float(low.min()), float(high.max())))
        self._count(values.reshape(-1))
        self._images += 1
        return True

    def result(self) -> TensorStatistics:
        """Return what was found, in at least one image."""
        assert self._low is not None
        assert self._high is not None
        assert self._sum is not None
        return TensorStatistics(
            low=float(self._low.min()),
            high=float(self._high.max()),
            limit=self._limit,
            counts=self._counts.copy(),
            channel_peak=np.maximum(np.abs(self._low), np.abs(self._high)),
            channel_mean=self._sum / self._images,
        )

    def _reach(self, peak: float) -> None:
        """Widen the histogram until ``peak`` lies inside: to the next power of two, or again and again to twice."""
        if not self._images:
            mantissa, exponent = math.frexp(max(peak, 2.0**-126))
            self._limit = 2.0 ** (exponent - (mantissa == 0.5))
        while peak > self._limit:  # two neighbours become one, the new outer bins are empty
            empty = np.zeros(BINS // 4, np.int64)
            self._counts = np.concatenate((empty, self._counts.reshape(-1, 2).sum(1), empty))
            self._limit *= 2

    def _count(self, flat: npt.NDArray[np.float32]) -> None:
        step = -(-flat.size // _SAMPLES)
        while math.gcd(step, flat.size) > 1:  # else some columns or channels would never be met
            step += 1
        start = int(step * (self._images * 0.6180339887 % 1.0))  # other positions in each image
        scale = BINS / (2 * self._limit)
        index = ((flat[start::step].astype(np.float64) + self._limit) * scale).astype(np.intp)
        np.minimum(index, BINS - 1, out=index)
        self._counts += np.bincount(index, minlength=BINS)


def activations(
    model: onnx.ModelProto, tensors: Sequence[str], images: CalibrationImages, spec: InputSpec, *, threads: int
) -> Iterator[dict[str, npt.NDArray[Any]]]:
    """Run a float model on each image and give the tensors that are asked for; one image is in memory at a time.

    Args:
        model: The model.
        tensors: Names of tensors in it; its input may be among them.
        images: What to run it on.
        spec: Its input.
        threads: CPU threads.

    Raises:
        InputError: If an image cannot be read.
    """
    from ..runtimes.ort_backend import OrtBackend

    inner = [name for name in tensors if name != spec.name]
    # A model without a node cannot be opened.
    engine = OrtBackend(_cut(model, inner).SerializeToString(), device="cpu", threads=threads) if inner else None
    for image in images.batches(Preprocessor(spec)):
        found = {spec.name: image, **(engine.infer({spec.name: image}) if engine else {})}
        yield {name: found[name] for name in tensors}


def parts_of(model: onnx.ModelProto, tensors: Sequence[str], *, limit: int = _FETCHED) -> list[list[str]]:
    """Divide tensors into consecutive parts that each take no more than ``limit`` bytes, or are a single tensor."""
    import onnx

    inferred = onnx.shape_inference.infer_shapes(model).graph
    sizes = {
        value.name: 4 * math.prod(dim.dim_value for dim in value.type.tensor_type.shape.dim)
        for value in (*inferred.value_info, *inferred.input, *inferred.output)
    }
    parts: list[list[str]] = [[]]
    room = limit
    for name in tensors:
        size = sizes.get(name, limit)
        if size > room and parts[-1]:
            parts.append([])
            room = limit
        parts[-1].append(name)
        room -= size
    return parts


def _cut(model: onnx.ModelProto, outputs: Sequence[str]) -> onnx.ModelProto:
    """Return the part of a model that these tensors depend on, with them as its outputs."""
    import onnx

    wanted, nodes = set(outputs), []
    for node in reversed(model.graph.node):
        if wanted.intersection(node.output):
            nodes.append(node)
            wanted.update(node.input)
    cut = onnx.ModelProto()
    cut.CopyFrom(model)
    for field, kept in (
        (cut.graph.node, nodes[::-1]),
        (cut.graph.initializer, [item for item in model.graph.initializer if item.name in wanted]),
        (cut.graph.output, [onnx.ValueInfoProto(name=name) for name in outputs]),
    ):
        del field[:]
        field.extend(kept)
    return cut


def _not_finite(tensor: str, image: str) -> InputError:
    return InputError(
        f"the float model gives values that are not finite in {tensor} on {image}",
        remedy="check the model with `yolo12edge val` first; if only this image does it, leave it out",
    )
