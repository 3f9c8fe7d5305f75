"""Reading the metadata of an OpenVINO ``.xml`` file without ``openvino``.

The file describes the graph; its weights lie beside it, in a ``.bin``. Below the root ``net`` come ``layers``,
``edges`` and ``rt_info``, whose children ``<KEY value="…"/>`` or ``<info name="KEY" value="…"/>`` are the metadata.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path
from xml.parsers import expat

from .errors import ArtifactError
from .signature import Signature, Tensor

__all__ = ["OpenVinoMetadata", "find_weights", "read_openvino_metadata"]

_LIMIT = 32 << 20  # bytes; YOLO12x in INT8 takes 3 MiB
# Large pieces: Expat looks at an unfinished attribute again with each one, so that small ones take quadratic time.
_PIECE = 1 << 20
_DEEPEST = 64  # elements in elements; OpenVINO nests seven, and three more for each loop or condition


@dataclass(frozen=True, slots=True)
class OpenVinoMetadata:
    """What an ``.xml`` file says of itself.

    Attributes:
        entries: Keys and values of ``rt_info``; what is nested deeper is left out.
        weights_bytes: Size of the ``.bin`` that belongs to the file: where the last constant ends.
        signature: Inputs and outputs. An output without a name is called ``output0``, ``output1``, … by its place, as
            the runtime calls it too.
    """

    entries: dict[str, str]
    weights_bytes: int
    signature: Signature


class _Damaged(Exception):
    """The file is XML, but not what OpenVINO writes."""


def read_openvino_metadata(path: Path) -> OpenVinoMetadata:
    """Read the metadata of an OpenVINO ``.xml`` file.

    The file is untrusted: it is read in pieces up to a limit, and one that declares a document type, hence could
    declare entities that expand to any size or name other files, is refused.

    Raises:
        ArtifactError: If the file is missing, too large, not OpenVINO's XML, or has a key twice.
    """
    parser = expat.ParserCreate("UTF-8")
    reader = _Reader(parser)
    parser.StartElementHandler = reader.start
    parser.EndElementHandler = reader.end
    parser.StartDoctypeDeclHandler = reader.doctype
    try:
        with path.open("rb") as file:
            if os.fstat(file.fileno()).st_size > _LIMIT:
                raise _Damaged(f"it has more than {_LIMIT >> 20} MiB")
            while piece := file.read(_PIECE):
                parser.Parse(piece, False)
            parser.Parse(b"", True)
    except OSError as error:
        raise ArtifactError(f"cannot read {path}: {error.strerror}") from error
    except (_Damaged, expat.ExpatError, UnicodeError) as error:
        raise ArtifactError(
            f"{path} is not an OpenVINO model, or is damaged: {error}", remedy="copy or export it again"
        ) from error
    return OpenVinoMetadata(reader.entries, reader.weights_bytes, reader.signature())


def find_weights(model: Path) -> Path:
    """Return the ``.bin`` that lies beside an ``.xml`` file.

    Raises:
        ArtifactError: If it is missing, or has another size than the ``.xml`` file says: it was cut off, or belongs to
            another model.
    """
    weights = model.with_suffix(".bin")
    expected = read_openvino_metadata(model).weights_bytes
    try:
        size = weights.stat().st_size
    except OSError as error:
        raise ArtifactError(
            f"cannot read {weights}: {error.strerror}",
            expected=f"the weights of {model.name}",
            remedy="copy both files, or export the model again",
        ) from error
    if size != expected:
        raise ArtifactError(
            f"{weights} has {size} bytes",
            expected=f"{expected} bytes, as {model.name} says",
            remedy="copy both files of one export",
        )
    return weights


_DTYPES = {"FP32": "float32", "F32": "float32", "FP16": "float16", "F16": "float16", "U8": "uint8", "I64": "int64"}


@dataclass(slots=True)
class _Layer:
    """The layer that is being read: ``Parameter`` is an input of the model, ``Result`` an output."""

    identity: str = ""
    kind: str = ""
    names: str = ""
    dtype: str = ""
    shape: list[int | None] = field(default_factory=list)


@dataclass(slots=True)
class _Reader:
    parser: expat.XMLParserType
    entries: dict[str, str] = field(default_factory=dict)
    weights_bytes: int = 0
    depth: int = 0
    section: str = ""
    layer: _Layer = field(default_factory=_Layer)
    ends: list[_Layer] = field(default_factory=list)  # inputs and outputs of the model
    names: dict[tuple[str, str], str] = field(default_factory=dict)  # by layer and port
    sources: dict[str, tuple[str, str]] = field(default_factory=dict)  # layer and port that a layer reads last
    quantized: bool = False
    half: bool = False
    dimension: str | None = None

    def start(self, name: str, attributes: dict[str, str]) -> None:
        self.depth += 1
        if self.depth > _DEEPEST:
            raise _Damaged(f"it nests elements more than {_DEEPEST} deep")
        if self.depth == 1 and name != "net":
            raise _Damaged("its root is not <net>")
        if self.depth == 2:
            self.section = name
        elif self.section == "layers":
            self._layers(name, attributes)
        elif self.depth == 3 and self.section == "rt_info":
            self._entry(attributes.get("name", "") if name == "info" else name, attributes.get("value"))
        elif self.depth == 3 and self.section == "edges":
            source = attributes.get("from-layer", ""), attributes.get("from-port", "")
            self.sources[attributes.get("to-layer", "")] = source

    def end(self, name: str) -> None:
        self.depth -= 1
        if self.dimension is not None:
            text = self.dimension.strip()
            self.layer.shape.append(_count(text) if text.isascii() and text.isdigit() else None)
            self.dimension = None
            self.parser.CharacterDataHandler = None

    def text(self, text: str) -> None:
        if self.dimension is not None and len(self.dimension) < 20:
            self.dimension += text

    def doctype(self, *declaration: object) -> None:
        raise _Damaged("it declares a document type")

    def signature(self) -> Signature:
        """Return inputs and outputs, once the file is read."""
        inputs: list[Tensor] = []
        outputs: list[Tensor] = []
        for layer in self.ends:
            # Of several names OpenVINO gives the first in the alphabet.
            name = min(layer.names.split(","))
            if layer.kind == "Result":
                names = layer.names or self.names.get(self.sources.get(layer.identity, ("", "")), "")
                name = min(names.split(",")) or f"output{len(outputs)}"
            tensor = Tensor(name, _DTYPES.get(layer.dtype, layer.dtype), tuple(layer.shape))
            (inputs if layer.kind == "Parameter" else outputs).append(tensor)
        return Signature(tuple(inputs), tuple(outputs), self.quantized, self.half)

    def _layers(self, name: str, attributes: dict[str, str]) -> None:
        if name == "data" and "offset" in attributes:
            end = sum(_count(attributes.get(word, "")) for word in ("offset", "size"))
            self.weights_bytes = max(self.weights_bytes, end)
            self.half |= attributes.get("element_type") == "f16"
        elif name == "layer":
            self.quantized |= attributes.get("type") == "FakeQuantize"
            if self.depth == 3:  # those deeper are in the body of a loop or condition
                kind, names = attributes.get("type", ""), attributes.get("output_names", "")
                self.layer = _Layer(attributes.get("id", ""), kind, names)
                if kind in ("Parameter", "Result"):
                    self.ends.append(self.layer)
        elif name == "port" and self.depth == 5:
            if "names" in attributes:
                self.names[self.layer.identity, attributes.get("id", "")] = attributes["names"]
            if self.layer.kind in ("Parameter", "Result"):
                self.layer.dtype = attributes.get("precision", "")
                self.layer.names = attributes.get("names", self.layer.names)
        elif name == "dim" and self.depth == 6 and self.layer.kind in ("Parameter", "Result"):
            self.dimension = ""
            self.parser.CharacterDataHandler = self.text  # only here: nearly all text of the file is white space

    def _entry(self, key: str, value: str | None) -> None:
        if value is None:
            return
        if key in self.entries:
            raise _Damaged("it has a metadata key twice")
        self.entries[key] = value


def _count(text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) <= 18):
        raise _Damaged("the place of a constant is not a number")
    return int(text)
