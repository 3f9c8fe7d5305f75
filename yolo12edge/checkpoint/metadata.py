"""What a checkpoint says of itself, read from the file's header without torch.

A checkpoint is a safetensors file: 8 bytes with the length of a JSON header (little endian), the header,
the tensors. Our metadata is a JSON text in the header's ``__metadata__`` under the key ``yolo12edge``.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec

from ..errors import CheckpointError, InputError
from ..keypoints import KeypointSpec
from ..manifest import Format, Int8Before, Task

__all__ = [
    "FORMAT_VERSION",
    "INT8_PREFIX",
    "METADATA_KEY",
    "CheckpointHeader",
    "CheckpointMeta",
    "Int8Facts",
    "not_a_model",
    "read_header",
    "read_metadata",
]

FORMAT_VERSION = 1
METADATA_KEY = "yolo12edge"
INT8_PREFIX = "int8."
"""What the keys of learned ranges begin with."""

_MAX_HEADER = 16 * 2**20  # the largest model's is 0.2 MB
_NOT_PARAMETERS = ("running_mean", "running_var", "num_batches_tracked")

Positive = Annotated[int, msgspec.Meta(ge=1)]


class Int8Facts(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The INT8 form that quantization-aware training has learned ranges for; they lie beside the weights.

    Attributes:
        format: That of the artifact.
        target: Where it is to run.
        method: How the ranges were solved that training began with.
        attention: Whether the products of attention read 8-bit values, ``float`` or ``int8``.
        join_concats: Whether all that meets in a concatenation has one scale.
        float_groups: Groups of layers that stay float.
        image_size: Side of the square input that it is for, in pixels.
        began: The INT8 artifact that training began with.
    """

    format: Format
    target: str
    method: str
    attention: Literal["float", "int8"]
    join_concats: bool
    float_groups: tuple[str, ...]
    image_size: Annotated[int, msgspec.Meta(ge=32, le=65536, multiple_of=32)]
    began: Int8Before


class CheckpointMeta(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """All that the weights alone do not tell.

    Attributes:
        format_version: Version of this schema.
        task: What the model does.
        scale: n, s, m, l or x.
        variant: ``v1`` or ``turbo``.
        class_names: In the order of the class ids; none of a backbone.
        part: A whole model, or what came of pretraining: the layers of a backbone alone, to start a training from.
        multi_label: Whether classes do not exclude each other; classify only.
        keypoints: Which points an object has; pose only.
        image_size: Side of the square input that it was trained with, in pixels.
        bn_eps: Epsilon of the batch norms.
        mlp_ratio: Hidden width of the attention MLP over its input.
        residual: Whether R-ELAN blocks with attention have a scaled residual.
        areas: Token runs of attention at P4 (1, 2 or 4) and P5 (1).
        source: Whether this project trained the weights or read them from elsewhere.
        weights_license: Licence of the weights, None if unknown.
        training: Summary of the training, free in form.
        int8: What quantization-aware training has learned ranges for; None without.

    Raises:
        CheckpointError: If the areas do not suit every input, or the fields of other tasks or parts are set.
    """

    format_version: int = FORMAT_VERSION
    task: Task = "detect"
    scale: Literal["n", "s", "m", "l", "x"]
    variant: Literal["v1", "turbo"]
    class_names: list[str]
    part: Literal["model", "backbone"] = "model"
    multi_label: bool = False
    keypoints: KeypointSpec | None = None
    image_size: Annotated[int, msgspec.Meta(ge=32, le=65536, multiple_of=32)]
    bn_eps: Annotated[float, msgspec.Meta(gt=0, lt=1)]
    mlp_ratio: Annotated[float, msgspec.Meta(gt=0, le=64)]
    residual: bool
    areas: tuple[Positive, Positive]
    source: Literal["trained", "imported"]
    weights_license: str | None
    training: dict[str, Any]
    int8: Int8Facts | None = None

    def __post_init__(self) -> None:
        # The tokens of an input of 32 * m by 32 * n: 4 * m * n at P4, m * n at P5.
        if self.areas[0] not in (1, 2, 4) or self.areas[1] != 1:
            raise CheckpointError(
                f"the attention areas are {self.areas}",
                expected="1, 2 or 4 at P4 and 1 at P5, which divide the tokens of every input",
                remedy="take the checkpoint from its source again",
            )
        if (self.keypoints is not None) != (self.task == "pose") or (self.multi_label and self.task != "classify"):
            raise CheckpointError(
                f"the task is {self.task}, keypoints are {'absent' if self.keypoints is None else 'given'} and "
                f"multi_label is {str(self.multi_label).lower()}",
                expected="keypoints for pose alone, multi_label for classify alone",
                remedy="take the checkpoint from its source again",
            )
        if bool(self.class_names) != (self.part == "model"):
            raise CheckpointError(
                f"class_names has {len(self.class_names)} entries and the part is {self.part}",
                expected="at least one for a model, none for a backbone",
                remedy="take the checkpoint from its source again",
            )

    def to_json(self) -> str:
        """Return the metadata as JSON text."""
        return msgspec.json.encode(self).decode()

    @classmethod
    def from_json(cls, text: str, *, source: str) -> CheckpointMeta:
        """Parse and validate.

        Args:
            text: JSON as ``to_json`` writes it.
            source: Where it was read, for the message.

        Raises:
            CheckpointError: If it is not JSON, of another version, or breaks the schema.
        """
        raw = _json(text.encode(errors="surrogatepass"), f"the metadata of {source}")
        version = raw.get("format_version") if isinstance(raw, dict) else None
        if version != FORMAT_VERSION:
            raise CheckpointError(
                f"{source} has checkpoint format version {version!r}",
                expected=f"version {FORMAT_VERSION}",
                remedy="use the version of yolo12edge that wrote it, or write it again with this one",
            )
        try:
            return msgspec.convert(raw, cls)
        except (msgspec.ValidationError, InputError) as error:
            raise CheckpointError(
                f"the metadata of {source} breaks the schema: {error}",
                remedy="train, import or copy the checkpoint again",
            ) from error


@dataclass(frozen=True, slots=True)
class CheckpointHeader:
    """A checkpoint without its weights.

    Attributes:
        meta: Its metadata.
        shapes: Shape of each tensor.
    """

    meta: CheckpointMeta
    shapes: dict[str, tuple[int, ...]]

    @property
    def parameters(self) -> int:
        """Number of parameters, counted as PyTorch does: buffers left out, frozen ones included."""
        return sum(
            prod(shape)
            for key, shape in self.shapes.items()
            if not key.endswith(_NOT_PARAMETERS) and not key.startswith(INT8_PREFIX)
        )


class _TensorInfo(msgspec.Struct, frozen=True):
    dtype: str
    shape: tuple[Annotated[int, msgspec.Meta(ge=0)], ...]
    data_offsets: tuple[int, int]


def read_header(path: Path | str) -> CheckpointHeader:
    """Read metadata and shapes; neither torch nor safetensors is needed, no weight is read.

    Raises:
        CheckpointError: If the file is missing, not a safetensors file, or not one of ours.
    """
    path = Path(path)
    raw = _json(_header_bytes(path), f"the header of {path.name}")
    try:
        metadata = msgspec.convert(raw.pop("__metadata__", {}), dict[str, str])
        tensors = msgspec.convert(raw, dict[str, _TensorInfo])
    except (msgspec.ValidationError, AttributeError, TypeError) as error:
        raise _not_safetensors(path) from error
    if METADATA_KEY not in metadata:
        raise CheckpointError(
            f"{path.name} is a safetensors file, but not one that yolo12edge wrote",
            expected=f"metadata under the key {METADATA_KEY!r} in its header",
            remedy="give a checkpoint of `yolo12edge train` or `yolo12edge import`",
        )
    meta = CheckpointMeta.from_json(metadata[METADATA_KEY], source=path.name)
    return CheckpointHeader(meta, {key: info.shape for key, info in tensors.items()})


def read_metadata(path: Path | str) -> CheckpointMeta:
    """Read the metadata of a model's checkpoint, and nothing else of it, without torch.

    Raises:
        CheckpointError: As ``read_header``, and if the file holds a backbone alone.
    """
    meta = read_header(path).meta
    if meta.part != "model":
        raise not_a_model(str(path))
    return meta


def not_a_model(name: str) -> CheckpointError:
    """Return the error of a file that holds a backbone where a model is needed."""
    return CheckpointError(
        f"{name} holds a pretrained backbone, which finds nothing by itself",
        expected="a model",
        remedy=f"fine-tune it first: yolo12edge train --weights {name} --data data.yaml",
    )


def _header_bytes(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            start = file.read(8)
            length = int.from_bytes(start, "little")
            if len(start) < 8 or length > min(_MAX_HEADER, path.stat().st_size - 8):
                raise _not_safetensors(path)
            return file.read(length)
    except OSError as error:
        raise CheckpointError(
            f"{path} cannot be read: {error.strerror or error}", remedy="check the path of the checkpoint"
        ) from error


def _json(text: bytes, what: str) -> Any:
    try:
        return msgspec.json.decode(text)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise CheckpointError(
            f"{what} is not valid JSON: {error}",
            expected="a .safetensors checkpoint of yolo12edge",
            remedy="the file may be cut off or of another kind: copy it again",
        ) from error


def _not_safetensors(path: Path) -> CheckpointError:
    return CheckpointError(
        f"{path.name} is not a safetensors file, or it is cut off",
        expected="a .safetensors checkpoint of yolo12edge",
        remedy="convert a public .pt file with `yolo12edge import`, or copy the checkpoint again",
    )
