"""``Manifest``: what an artifact is, how to feed it and how to read it.

The format is described in prose in ``docs/artifact-format.md``; this module is its schema.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec

from .errors import ArtifactError

__all__ = [
    "SCHEMA_VERSION",
    "Accuracy",
    "Calibration",
    "FileEntry",
    "InputSpec",
    "Latency",
    "Manifest",
    "OutputSpec",
    "Parity",
    "Provenance",
    "Report",
]

SCHEMA_VERSION = 1

Task = Literal["detect"]
Precision = Literal["fp32", "fp16", "int8"]
Format = Literal["onnx", "torch"]
Sha256 = Annotated[str, msgspec.Meta(pattern="^[0-9a-f]{64}$")]
Positive = Annotated[int, msgspec.Meta(ge=1)]
Name = Annotated[str, msgspec.Meta(min_length=1, max_length=200)]


class _Struct(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=False):
    """Base of all parts: immutable, keyword-only, unknown fields refused."""


class InputSpec(_Struct):
    """The one image input: NCHW, RGB, letterboxed, ``pixel * scale``."""

    name: Name
    batch: Positive
    height: Positive
    width: Positive
    dtype: Literal["float32"] = "float32"
    layout: Literal["NCHW"] = "NCHW"
    color: Literal["RGB"] = "RGB"
    resize: Literal["letterbox"] = "letterbox"
    pad_value: Annotated[int, msgspec.Meta(ge=0, le=255)] = 114
    scale: float = 1.0 / 255.0


class OutputSpec(_Struct):
    """One output tensor and its meaning.

    ``boxes``: (batch, 4, candidates), left, top, right, bottom in pixels of the network input.
    ``scores``: (batch, classes, candidates), probability of each class.
    """

    name: Name
    role: Literal["boxes", "scores"]
    shape: tuple[Positive, Positive, Positive]
    dtype: Literal["float32"] = "float32"


class FileEntry(_Struct):
    """One file of the artifact, relative to its directory."""

    path: Name
    sha256: Sha256
    bytes: Annotated[int, msgspec.Meta(ge=0)]


class Calibration(_Struct):
    """How activation ranges of an INT8 artifact were found."""

    method: Name
    split: str
    images: list[str]
    images_digest: Sha256
    placement: str
    float_nodes: list[str]
    reduced_range: bool


class Parity(_Struct):
    """Numeric agreement with the source on real or generated images."""

    source: str
    images: Positive
    max_box_error_px: float
    max_score_error: float


class Accuracy(_Struct):
    """COCO-style average precision of this artifact and of its float twin, same images."""

    dataset: str
    split: str
    images: Positive
    ap: float
    ap50: float
    ap75: float
    reference: str
    reference_ap: float
    reference_ap50: float
    reference_ap75: float


class Latency(_Struct):
    """Median time of the engine alone, this artifact and its float twin interleaved, in ms."""

    engine: str
    device: str
    threads: int
    samples: Positive
    median_ms: float
    reference: str
    reference_median_ms: float


class Report(_Struct):
    """What was measured when the artifact was made; absent parts were not measured."""

    parity: Parity | None = None
    accuracy: Accuracy | None = None
    latency: Latency | None = None


class Provenance(_Struct):
    """Where the artifact comes from."""

    checkpoint_sha256: Sha256
    created: str
    versions: dict[str, str]
    weights_license: str | None = None


class Manifest(_Struct):
    """Everything a ``Runtime`` needs to know about an artifact."""

    schema_version: int
    task: Task
    scale: Literal["n", "s", "m", "l", "x"]
    variant: Literal["v1", "turbo"]
    class_names: Annotated[list[str], msgspec.Meta(min_length=1)]
    format: Format
    precision: Precision
    input: InputSpec
    outputs: list[OutputSpec]
    files: list[FileEntry]
    provenance: Provenance
    calibration: Calibration | None = None
    report: Report = Report()

    def to_json(self) -> bytes:
        """Return the manifest as indented UTF-8 JSON."""
        return msgspec.json.format(msgspec.json.encode(self), indent=2) + b"\n"

    @classmethod
    def from_json(cls, text: bytes | str, *, source: str = "manifest") -> Manifest:
        """Parse and validate a manifest.

        Args:
            text: JSON as ``to_json`` writes it.
            source: Where it was read, for the message.

        Raises:
            ArtifactError: If it is not JSON, of another schema version, or breaks the schema.
        """
        try:
            raw: Any = msgspec.json.decode(text)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise ArtifactError(f"{source} is not valid JSON: {error}", remedy="export the artifact again") from error
        version = raw.get("schema_version") if isinstance(raw, dict) else None
        if version != SCHEMA_VERSION:
            raise ArtifactError(
                f"{source} has schema version {version!r}",
                expected=f"version {SCHEMA_VERSION}",
                remedy="export the artifact again with this version of yolo12edge, or install the one that made it",
            )
        try:
            manifest = msgspec.convert(raw, cls)
        except msgspec.ValidationError as error:
            raise ArtifactError(f"{source} breaks the manifest schema: {error}", remedy="export it again") from error
        manifest.check(source)
        return manifest

    def check(self, source: str = "manifest") -> None:
        """Check what the schema's types cannot say.

        Raises:
            ArtifactError: If outputs, classes and input do not fit each other.
        """
        problem = self._problem()
        if problem:
            raise ArtifactError(f"{source} contradicts itself: {problem}", remedy="export the artifact again")

    def _problem(self) -> str | None:
        by_role = {output.role: output for output in self.outputs}
        if len(by_role) != len(self.outputs) or set(by_role) != {"boxes", "scores"}:
            return f"output roles are {[output.role for output in self.outputs]}, not one 'boxes' and one 'scores'"
        boxes, scores = by_role["boxes"].shape, by_role["scores"].shape
        if boxes[1] != 4:
            return f"boxes have {boxes[1]} coordinates, not 4"
        if scores[1] != len(self.class_names):
            return f"scores have {scores[1]} classes, but there are {len(self.class_names)} class names"
        if boxes[2] != scores[2]:
            return f"boxes have {boxes[2]} candidates and scores {scores[2]}"
        if boxes[0] != self.input.batch or scores[0] != self.input.batch:
            return f"outputs have batch {boxes[0]} and {scores[0]}, the input {self.input.batch}"
        if not self.files:
            return "it names no file"
        if (self.precision == "int8") != (self.calibration is not None):
            return f"precision is {self.precision} and calibration is {'absent' if self.calibration is None else 'given'}"
        return None
