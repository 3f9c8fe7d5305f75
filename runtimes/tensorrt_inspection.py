"""What became of a network inside of an engine: its layers, the types they compute in, and attention that was fused.

``IEngineInspector`` tells it as JSON. An engine that was built with ``DETAILED`` verbosity has for each layer its name,
its kind, the format and type of its inputs and outputs, and in ``Metadata`` the ONNX nodes it was made of
(``[ONNX Layer: model.6.m.0.0.attn.logits]``); another has names only.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterable, Mapping
from types import ModuleType
from typing import Any

from ..errors import BackendError
from ..manifest import Layers

__all__ = ["attention_block", "layers_of", "parse_layers"]

_BLOCK = re.compile(r"(.+\.attn)(?:\.|\Z)")
_NODE = re.compile(r"\[ONNX Layer: ([^\[\]]*)\]")  # without the "[", time would grow with the square of the text
# What lies between the projections of attention, in all its forms (exporters/attention_forms.py).
_CORE = re.compile(r"\.attn\.(?:logits|softmax|mixed|attention)\b")
# Names of fused kernels: _gemm_mha_v2, kgen_mha, fmha …; the operator of the plugin.
_FUSED = re.compile(
    r"(?:^|[_\W]|f|gemm|kgen)mha(?:$|[_\W])|multi_?head_?attention|flash_?attention|AreaAttention", re.I
)
_MOVING = {"reformat", "noop", "shuffle", "reshape", "constant", "signal", "wait", "signal_wait", "shape_call", "slice"}
# Formats as the inspector writes them, "Thirty-two wide channel vectorized row major Int8 format" or just "Half".
_TYPES = (
    (re.compile(r"\bint8\b", re.I), "int8"),
    (re.compile(r"\bfp8\b|\bfloat8", re.I), "fp8"),
    (re.compile(r"\bbfloat16\b|\bbf16\b", re.I), "bf16"),
    (re.compile(r"\bfp16\b|\bhalf\b|\bfloat16\b", re.I), "fp16"),
    (re.compile(r"\bfp32\b|\bfloat\b|\bfloat32\b|\btf32\b", re.I), "fp32"),
)


def layers_of(trt: ModuleType, engine: Any, *, attention_blocks: int | None = None) -> Layers:
    """Ask an engine for its layers.

    Args:
        trt: The library.
        engine: An ``ICudaEngine``.
        attention_blocks: How many the model has; None counts them in what the layers say they were made of.

    Raises:
        BackendError: If it does not tell.
    """
    inspector = engine.create_engine_inspector()
    text = None if inspector is None else inspector.get_engine_information(trt.LayerInformationFormat.JSON)
    return parse_layers(text or "", attention_blocks=attention_blocks)


def parse_layers(text: str, *, attention_blocks: int | None = None) -> Layers:
    """Read the JSON of ``IEngineInspector.get_engine_information``.

    Args:
        text: The JSON.
        attention_blocks: As in ``layers_of``.

    Raises:
        BackendError: If it is none, or names no layers.
    """
    try:
        content = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise BackendError("the engine's layers are not told as JSON", remedy="build it again, or report it") from error
    rows = content.get("Layers") if isinstance(content, dict) else content
    layers = [_Layer(row) for row in rows if isinstance(row, (dict, str))] if isinstance(rows, list) else []
    if not layers:
        raise BackendError("the engine tells no layers", remedy="build it again with this version of yolo12edge")
    blocks = {block for layer in layers for node in layer.nodes if (block := attention_block(node)) is not None}
    count = len(blocks) if attention_blocks is None else attention_blocks
    precisions = Counter(layer.precision for layer in layers if layer.precision is not None)
    return Layers(
        total=len(layers),
        attention_blocks=count,
        fused_attention=min(_fused(layers), count),
        precisions=dict(sorted(precisions.items())),
    )


def attention_block(node: str) -> str | None:
    """Return the attention block that an ONNX node is part of, such as ``model.6.m.0.0.attn``, or None."""
    match = _BLOCK.match(node)
    return match[1] if match else None


class _Layer:
    """One row of the JSON; a row of an engine without details is just a name."""

    def __init__(self, row: Mapping[str, Any] | str) -> None:
        entries: Mapping[str, Any] = {"Name": row} if isinstance(row, str) else row
        self.name = _text(entries, "Name")
        self.kind = _text(entries, "LayerType")
        self.nodes = _NODE.findall(_text(entries, "Metadata"))
        self.fused = any(_FUSED.search(text) for text in self._titles(entries)) or (
            self.kind.lower().startswith("plugin") and any(_CORE.search(node) for node in (self.name, *self.nodes))
        )
        self.precision = None if self.kind.lower() in _MOVING else _precision(entries)

    def _titles(self, entries: Mapping[str, Any]) -> Iterable[str]:
        yield from (self.name, self.kind)
        yield from (_text(entries, key) for key in ("TacticName", "PluginType"))


def _fused(layers: Iterable[_Layer]) -> int:
    """Count attention blocks that a fused kernel computes.

    A kernel that says what it was made of counts for the blocks whose core is in it, and several of one block count
    once; one that does not counts for one.
    """
    known: set[str] = set()
    unknown = 0
    for layer in layers:
        if layer.fused:
            own = {block for node in layer.nodes if _CORE.search(node) and (block := attention_block(node)) is not None}
            known |= own
            unknown += not own
    return len(known) + unknown


def _precision(entries: Mapping[str, Any]) -> str | None:
    """Return the type that a layer computes in: that of its weights, else of its first input that has one of these."""
    weights = entries.get("Weights")
    if isinstance(weights, dict) and (found := _type(weights.get("Type"))) is not None:
        return found
    for side in ("Inputs", "Outputs"):
        tensors = entries.get(side)
        for tensor in tensors if isinstance(tensors, list) else ():
            if isinstance(tensor, dict):
                # One entry for both until some version of TensorRT 10, two from then on.
                for key in ("Datatype", "Format/Datatype"):
                    if (found := _type(tensor.get(key))) is not None:
                        return found
    return None


def _type(value: Any) -> str | None:
    return next((name for pattern, name in _TYPES if pattern.search(value)), None) if isinstance(value, str) else None


def _text(entries: Mapping[str, Any], key: str) -> str:
    value = entries.get(key)
    return value if isinstance(value, str) else ""
