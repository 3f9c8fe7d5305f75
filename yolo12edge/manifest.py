"""``Manifest``: what an artifact is, how to feed it and how to read it.

The format is described in prose in ``docs/artifact-format.md``; this module is its schema.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal, get_args

import msgspec

from .errors import ArtifactError, InputError
from .keypoints import KeypointSpec

__all__ = [
    "COPY_AGAIN",
    "EMBEDDED_KEY",
    "MANIFEST_LIMIT",
    "PLAN_SUFFIX",
    "SCHEMA_VERSION",
    "TASKS",
    "TENSORRT_FORMATS",
    "UNITS",
    "Accuracy",
    "Agreement",
    "Budget",
    "Calibration",
    "EngineFacts",
    "FileEntry",
    "InputSpec",
    "Latency",
    "Layers",
    "Manifest",
    "OutputSpec",
    "Parity",
    "Provenance",
    "Report",
    "Role",
    "Task",
    "Weights",
    "output_shapes",
    "resize_of",
]

SCHEMA_VERSION = 1
EMBEDDED_KEY = "yolo12edge"
"""Key of the embedded manifest among the metadata of a model file."""
MANIFEST_LIMIT = 8 << 20
"""Largest manifest that is read, in bytes."""
UNITS = {"boxes": "px", "keypoints": "px", "rotated_boxes": "px", "angles": "rad"}
"""By role, the unit of an output's values; others have none."""
COPY_AGAIN = "copy the artifact again from where it was made, or export it again"
"""Remedy where something is damaged or missing."""

Task = Literal["detect", "segment", "classify", "pose", "obb"]
TASKS: tuple[Task, ...] = get_args(Task)
Precision = Literal["fp32", "fp16", "int8"]
Format = Literal["onnx", "openvino", "tensorrt", "tensorrt-rtx", "coreml", "torch"]
TensorRtFormat = Literal["tensorrt", "tensorrt-rtx"]
TENSORRT_FORMATS: tuple[TensorRtFormat, ...] = get_args(TensorRtFormat)
PLAN_SUFFIX = ".engine"
Weights = Literal["float", "int8", "palettized-4", "palettized-6", "palettized-8"]
Resize = Literal["letterbox", "centre-crop"]
Role = Literal[
    "boxes", "scores", "coefficients", "prototypes", "keypoints", "rotated_boxes", "angles", "probabilities", "fused"
]
# \Z and not $: Python's $ also matches before a final newline.
Sha256 = Annotated[str, msgspec.Meta(pattern=r"^[0-9a-f]{64}\Z")]
# Parts of portable characters that do not begin with a dot: neither "..", an absolute path, a drive, a backslash
# nor a hidden file can be written so.
RelativePath = Annotated[
    str, msgspec.Meta(max_length=200, pattern=r"^[A-Za-z0-9_][A-Za-z0-9._-]*(/[A-Za-z0-9_][A-Za-z0-9._-]*)*\Z")
]
Positive = Annotated[int, msgspec.Meta(ge=1, le=2**31 - 1)]
ImageSide = Annotated[int, msgspec.Meta(ge=1, le=16384)]
Name = Annotated[str, msgspec.Meta(min_length=1, max_length=200)]
_WORD = r"^[A-Za-z0-9._:+-]*\Z"  # fit for a terminal, a command and a file
Fraction = Annotated[float, msgspec.Meta(ge=0, le=1)]
NonNegative = Annotated[float, msgspec.Meta(ge=0)]
Milliseconds = Annotated[float, msgspec.Meta(gt=0)]


class _Struct(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Base of all parts: unknown fields are refused. What each part repeats is not inherited, or not for mypy."""


class InputSpec(_Struct, frozen=True, kw_only=True):
    """The one image input: letterboxed, or its middle cut out where there is no box to bring back (classify).

    It has either of two forms:

    float32, NCHW, RGB, ``pixel * scale``; or pixels: uint8, NHWC, BGR (RGB for CoreML), where the graph does the rest.
    ``batch`` is exact without ``min_batch``, else the largest that the model takes.
    """

    name: Name
    batch: Annotated[int, msgspec.Meta(ge=1, le=1024)]
    min_batch: Annotated[int, msgspec.Meta(ge=1, le=1024)] | None = None
    height: ImageSide
    width: ImageSide
    dtype: Literal["float32", "uint8"] = "float32"
    layout: Literal["NCHW", "NHWC"] = "NCHW"
    color: Literal["RGB", "BGR"] = "RGB"
    resize: Resize = "letterbox"
    pad_value: Annotated[int, msgspec.Meta(ge=0, le=255)] = 114
    scale: Annotated[float, msgspec.Meta(gt=0)] = 1.0 / 255.0

    @property
    def least_batch(self) -> int:
        """The smallest number of images that the model takes at a time."""
        return self.batch if self.min_batch is None else self.min_batch

    @property
    def pixels(self) -> bool:
        """Whether the model takes the letterboxed picture as it is."""
        return self.dtype == "uint8"

    def shape(self, batch: int) -> tuple[int, int, int, int]:
        """Return the shape of the tensor for so many images."""
        if self.pixels:
            return batch, self.height, self.width, 3
        return batch, 3, self.height, self.width


class OutputSpec(_Struct, frozen=True, kw_only=True):
    """One output tensor and its meaning; pixels are those of the network input.

    ``boxes``: (batch, 4, candidates), left, top, right, bottom in pixels.
    ``scores``: (batch, classes, candidates), probability of each class.
    ``coefficients``: (batch, 32, candidates), and ``prototypes``: (batch, 32, height / 4, width / 4): a pixel belongs
    to the object where the product of the two is above 0.
    ``keypoints``: (batch, points * dimensions, candidates), of each point x, y in pixels and, if there are 3
    dimensions, the probability that it is visible.
    ``rotated_boxes``: (batch, 4, candidates), centre x, centre y, width, height in pixels, and ``angles``: (batch, 1,
    candidates), from the x axis to the width, clockwise in the picture, in radians from -pi/4 to 3pi/4.
    ``probabilities``: (batch, classes).
    ``fused``: (batch, 4 + classes, candidates), centre x, centre y, width, height in pixels, then the probability of
    each class. Foreign models have it in place of the first two.
    """

    name: Name
    role: Role
    shape: Annotated[tuple[Positive, ...], msgspec.Meta(min_length=2, max_length=4)]
    dtype: Literal["float32"] = "float32"


_BOXES: dict[Role, tuple[int | str, ...]] = {"boxes": (4, "candidates"), "scores": ("classes", "candidates")}
# What models of each task give for one image, in the order of a manifest.
_OUTPUTS: dict[Task, dict[Role, tuple[int | str, ...]]] = {
    "detect": _BOXES,
    "segment": {**_BOXES, "coefficients": (32, "candidates"), "prototypes": (32, "height / 4", "width / 4")},
    "classify": {"probabilities": ("classes",)},
    "pose": {**_BOXES, "keypoints": ("rows", "candidates")},
    "obb": {
        "rotated_boxes": (4, "candidates"),
        "angles": (1, "candidates"),
        "scores": ("classes", "candidates"),
    },
}


def resize_of(task: Task) -> Resize:
    """Return how a picture becomes the input of a task: only where boxes must be brought back is it letterboxed."""
    return "centre-crop" if "probabilities" in _OUTPUTS[task] else "letterbox"


def output_shapes(
    task: Task, spec: InputSpec, *, classes: int, keypoints: KeypointSpec | None
) -> dict[Role, tuple[int | None, ...]]:
    """Return role and shape of each output of a model; None stands for the number of candidates.

    Args:
        task: What the model does.
        spec: Its input.
        classes: Number of its classes.
        keypoints: The points of an object; pose only.
    """
    sizes = {
        "candidates": None,
        "classes": classes,
        "rows": keypoints.rows if keypoints else 0,
        "height / 4": spec.height // 4,
        "width / 4": spec.width // 4,
    }
    return {
        role: (spec.batch, *(sizes[size] if isinstance(size, str) else size for size in shape))
        for role, shape in _OUTPUTS[task].items()
    }


class FileEntry(_Struct, frozen=True, kw_only=True):
    """One file of the artifact, relative to its directory."""

    path: RelativePath
    sha256: Sha256
    bytes: Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)]


class Int8Before(_Struct, frozen=True, kw_only=True):
    """The INT8 artifact that quantization-aware training began with, and its accuracy, 0 to 1, as it was measured.

    ``metric`` names ``int8``, its own, and ``float32``, that of its float twin; all are left out without labels.
    """

    artifact: str
    dataset: str = ""
    split: str = ""
    metric: str = ""
    int8: Fraction | None = None
    float32: Fraction | None = None


class Calibration(_Struct, frozen=True, kw_only=True):
    """How an INT8 artifact was quantized, and on which images its activation ranges were found.

    ``before`` is what training began with that has learned the ranges.
    """

    method: Name
    split: str
    images: list[str]
    images_digest: Sha256
    placement: str
    float_nodes: list[str]
    reduced_range: bool
    rounding: Literal["nearest", "gptq", "adaround"] = "nearest"
    attention: Literal["float", "int8"] = "float"
    join_concats: bool = False
    float_groups: list[str] = []
    before: Int8Before | None = None


class EngineFacts(_Struct, frozen=True, kw_only=True):
    """What an engine file was built with and for: it runs nowhere else.

    ``cuda`` is empty of an engine that was built without a GPU. ``architectures`` are GPUs as ``sm_87``. ``plugins``
    are operators that must be registered before the file can be read, as ``namespace::name``.
    """

    library: TensorRtFormat
    version: Annotated[str, msgspec.Meta(min_length=1, max_length=40, pattern=_WORD)]
    cuda: Annotated[str, msgspec.Meta(max_length=40, pattern=_WORD)] = ""
    architectures: Annotated[
        list[Annotated[str, msgspec.Meta(pattern=r"^sm_[0-9]{2,3}\Z")]], msgspec.Meta(min_length=1, max_length=32)
    ]
    platform: Annotated[str, msgspec.Meta(min_length=1, max_length=40, pattern=_WORD)]
    hardware_compatible: bool = False
    version_compatible: bool = False
    plugins: Annotated[
        list[Annotated[str, msgspec.Meta(min_length=1, max_length=200, pattern=_WORD)]], msgspec.Meta(max_length=32)
    ] = []


class Parity(_Struct, frozen=True, kw_only=True):
    """Numeric agreement with the source on real or generated images.

    ``errors`` holds the largest difference by role, in the unit of the values (``UNITS``). Of keypoints that is the one
    of x and y; ``visibility`` has that of the third value.
    """

    source: str
    images: Positive
    errors: Annotated[dict[Name, NonNegative], msgspec.Meta(min_length=1, max_length=16)]


Figures = Annotated[dict[Name, Fraction], msgspec.Meta(max_length=32)]


class Accuracy(_Struct, frozen=True, kw_only=True):
    """Accuracy, 0 to 1, of this artifact and of its float twin on the same images.

    ``metric`` names ``value``, the number that models of the task are compared by, such as ``mask AP50-95``;
    ``details`` has others by their names.
    """

    dataset: str
    split: str
    images: Positive
    metric: Name
    value: Fraction
    details: Figures = {}
    reference: str
    reference_value: Fraction
    reference_details: Figures = {}


class Agreement(_Struct, frozen=True, kw_only=True):
    """How far the detections are those of the float twin, from confidence 0.25 on, on the same images."""

    images: Positive
    f1: Fraction
    mean_iou: Fraction | None
    score_shift: Annotated[float, msgspec.Meta(ge=-1, le=1)]
    reference: str


class Budget(_Struct, frozen=True, kw_only=True):
    """What the artifact was allowed to lose, in points of its task's score, and whether it keeps to that.

    ``simulated``: it was measured on another machine than it is for.
    """

    max_map_drop: NonNegative
    held: bool
    simulated: bool = False


class Latency(_Struct, frozen=True, kw_only=True):
    """Median time of the engine alone, this artifact and its float twin interleaved, in ms."""

    engine: str
    device: str
    threads: Annotated[int, msgspec.Meta(ge=0, le=65536)]
    samples: Positive
    median_ms: Milliseconds
    reference: str
    reference_median_ms: Milliseconds


class Layers(_Struct, frozen=True, kw_only=True):
    """What the engine's own tools say of its layers: how many compute in which type, and what became of attention."""

    total: Positive
    attention_blocks: Annotated[int, msgspec.Meta(ge=0, le=2**31 - 1)]
    fused_attention: Annotated[int, msgspec.Meta(ge=0, le=2**31 - 1)]
    precisions: dict[str, Annotated[int, msgspec.Meta(ge=0, le=2**31 - 1)]]


class Report(_Struct, frozen=True, kw_only=True):
    """What was measured when the artifact was made; absent parts were not measured."""

    parity: Parity | None = None
    accuracy: Accuracy | None = None
    agreement: Agreement | None = None
    budget: Budget | None = None
    latency: Latency | None = None
    layers: Layers | None = None


class Provenance(_Struct, frozen=True, kw_only=True):
    """Where the artifact comes from; ``checkpoint_sha256`` is None of a foreign model only."""

    checkpoint_sha256: Sha256 | None = None
    created: Annotated[str, msgspec.Meta(max_length=40)]
    versions: dict[str, str]
    weights_license: str | None = None


class Manifest(_Struct, frozen=True, kw_only=True):
    """Everything a ``Runtime`` needs to know about an artifact.

    ``files`` is empty in a manifest that is embedded in a model file, or that has not been written yet. ``scale`` and
    ``variant`` are None of a foreign model only. ``multi_label``: classes do not exclude each other (classify only).
    ``keypoints`` is there for pose only. ``weights`` says how those of a model are stored that computes in
    float. ``nms_iou``: the graph has set the scores of boxes to 0 that overlap a better one of their class by more.
    ``engine`` is there if the model file is a TensorRT engine.
    """

    schema_version: int
    task: Task
    scale: Literal["n", "s", "m", "l", "x"] | None = None
    variant: Literal["v1", "turbo"] | None = None
    class_names: Annotated[list[Name], msgspec.Meta(min_length=1)]
    multi_label: bool = False
    keypoints: KeypointSpec | None = None
    format: Format
    precision: Precision
    weights: Weights = "float"
    input: InputSpec
    outputs: list[OutputSpec]
    nms_iou: Fraction | None = None
    engine: EngineFacts | None = None
    files: list[FileEntry] = []
    provenance: Provenance
    calibration: Calibration | None = None
    report: Report = Report()

    @property
    def foreign(self) -> bool:
        """Whether another tool made the model: what is known of it was read from its file (``foreign.py``).

        Such a manifest exists in memory only; it is never written.
        """
        return self.provenance.checkpoint_sha256 is None

    def to_json(self) -> bytes:
        """Return the content of ``manifest.json``: indented UTF-8 JSON.

        Raises:
            ArtifactError: If ``from_json`` would refuse it.
        """
        text = self._encoded()
        Manifest.from_json(text)
        return msgspec.json.format(text, indent=2) + b"\n"

    @classmethod
    def from_json(cls, text: bytes | str, *, source: str = "manifest") -> Manifest:
        """Parse and validate the content of a ``manifest.json``.

        Args:
            text: JSON as ``to_json`` writes it.
            source: Where it was read, for the message.

        Raises:
            ArtifactError: If it is too long, not JSON, of another schema version, breaks the schema, contradicts
                itself or names no file.
        """
        manifest = cls._decoded(text, source)
        if not manifest.files:
            raise ArtifactError(f"{source} names no file", remedy=COPY_AGAIN)
        return manifest

    def to_embedded_json(self) -> str:
        """Return the form that goes into the model file itself, as compact JSON.

        Left out is what does not belong to the model: the files (a file cannot hold its own digest), the report
        (measured once the file is finished) and the time of creation, so that equal models are equal bytes.

        Raises:
            ArtifactError: If ``from_embedded_json`` would refuse it.
        """
        provenance = msgspec.structs.replace(self.provenance, created="")
        lone = msgspec.structs.replace(self, files=[], report=Report(), provenance=provenance)
        text = lone._encoded()
        Manifest.from_embedded_json(text)
        return text.decode()

    @classmethod
    def from_embedded_json(cls, text: bytes | str, *, source: str = "embedded manifest") -> Manifest:
        """Parse and validate a manifest that was found inside a model file.

        Args:
            text: JSON as ``to_embedded_json`` writes it.
            source: Where it was read, for the message.

        Raises:
            ArtifactError: As ``from_json``; also if it names files, which a lone model file does not have.
        """
        manifest = cls._decoded(text, source)
        if manifest.files:
            raise ArtifactError(f"{source} names {len(manifest.files)} files", expected="none", remedy=COPY_AGAIN)
        return manifest

    def check(self, source: str = "manifest") -> None:
        """Check what the schema's types cannot say.

        Raises:
            ArtifactError: If outputs, classes, input, files, precision and calibration do not fit each other.
        """
        problem = self._problem()
        if problem:
            raise ArtifactError(f"{source} contradicts itself: {problem}", remedy=COPY_AGAIN)

    def _encoded(self) -> bytes:
        try:
            return msgspec.json.encode(self, order="deterministic")
        except (msgspec.MsgspecError, ValueError, TypeError) as error:
            raise ArtifactError(f"the manifest cannot be written as JSON: {error}") from error

    @classmethod
    def _decoded(cls, text: bytes | str, source: str) -> Manifest:
        if len(text) > MANIFEST_LIMIT:
            raise ArtifactError(f"{source} is larger than {MANIFEST_LIMIT >> 20} MiB", remedy=COPY_AGAIN)
        try:
            raw: Any = msgspec.json.decode(text)
        except (msgspec.MsgspecError, ValueError, RecursionError) as error:
            raise ArtifactError(f"{source} is not valid JSON: {_brief(error)}", remedy=COPY_AGAIN) from error
        version = raw.get("schema_version") if isinstance(raw, dict) else None
        if version != SCHEMA_VERSION:
            # Anything may stand there; only a number of sane size is worth repeating.
            sane = isinstance(version, int) and not isinstance(version, bool) and abs(version) < 1 << 31
            raise ArtifactError(
                f"{source} has schema version {version}" if sane else f"{source} states no schema version",
                expected=f"version {SCHEMA_VERSION}",
                remedy="export the artifact again with this version of yolo12edge, or install the one that made it",
            )
        try:
            manifest = msgspec.convert(raw, cls)
        except (msgspec.ValidationError, RecursionError, InputError) as error:
            raise ArtifactError(f"{source} breaks the manifest schema: {_brief(error)}", remedy=COPY_AGAIN) from error
        if manifest.foreign:
            raise ArtifactError(f"{source} does not say which checkpoint the model was made from", remedy=COPY_AGAIN)
        manifest.check(source)
        return manifest

    def _problem(self) -> str | None:
        if (self.scale is None) != self.foreign or (self.variant is None) != self.foreign:
            return "scale, variant and digest of the checkpoint are not known together"
        given = "absent" if self.calibration is None else "given"
        # How a foreign model was calibrated is not known.
        if (self.precision == "int8" and not self.foreign) != (self.calibration is not None):
            return f"precision is {self.precision} and calibration is {given}"
        if self.weights != "float" and (self.format != "coreml" or self.precision == "int8"):
            return f"weights are {self.weights} in {self.precision} {self.format}"
        return (
            self._task_problem()
            or self._input_problem()
            or self._output_problem()
            or self._engine_problem()
            or self._accuracy_problem()
            or self._path_problem()
        )

    def _input_problem(self) -> str | None:
        spec = self.input
        pixels = ("uint8", "NHWC", "RGB" if self.format == "coreml" else "BGR")
        if (spec.dtype, spec.layout, spec.color) not in (("float32", "NCHW", "RGB"), pixels):
            return f"the input is {spec.dtype} {spec.layout} {spec.color}"
        if spec.min_batch is not None and spec.min_batch > spec.batch:
            return f"the input takes batches from {spec.min_batch} to {spec.batch}"
        return None

    def _engine_problem(self) -> str | None:
        is_plan = self.format in TENSORRT_FORMATS and bool(self.files) and self.files[0].path.endswith(PLAN_SUFFIX)
        if self.engine is None:
            return "its engine does not say what it was built for" if is_plan else None
        if self.engine.library != self.format:
            return f"the format is {self.format}, and the engine of {self.engine.library}"
        if self.files and not is_plan:
            return f"it describes an engine, but {self.files[0].path} is none"
        return None

    def _task_problem(self) -> str | None:
        if (self.keypoints is not None) != (self.task == "pose"):
            return f"the task is {self.task} and keypoints are {'absent' if self.keypoints is None else 'given'}"
        if self.multi_label and self.task != "classify":
            return f"the task is {self.task}, where classes always exclude each other"
        if self.nms_iou is not None and self.task != "detect":
            return f"the task is {self.task}, whose graph suppresses nothing"
        if self.foreign and self.task != "detect":
            return f"a foreign model is made for {self.task}"
        if self.input.resize != resize_of(self.task):
            return f"the task is {self.task} and the input is a {self.input.resize}"
        return None

    def _output_problem(self) -> str | None:
        by_role = {output.role: output for output in self.outputs}
        expected = self._output_shapes()
        if len(by_role) != len(self.outputs) or set(by_role) != set(expected):
            return f"it has the outputs {[output.role for output in self.outputs]}, not {list(expected)}"
        if len({output.name for output in self.outputs}) != len(self.outputs):
            return f"two outputs are named {self.outputs[0].name!r}"
        candidates = {output.shape[-1] for role, output in by_role.items() if None in expected[role]}
        if len(candidates) > 1:
            return f"its outputs have {sorted(candidates)} candidates"
        for role, shape in expected.items():
            found = by_role[role].shape
            if len(found) != len(shape) or any(b is not None and a != b for a, b in zip(found, shape, strict=True)):
                wanted = ", ".join("candidates" if b is None else str(b) for b in shape)
                return f"{role} have shape {found}, not ({wanted}), with {len(self.class_names)} class names"
        return None

    def _output_shapes(self) -> dict[Role, tuple[int | None, ...]]:
        if self.foreign:
            return {"fused": (self.input.batch, 4 + len(self.class_names), None)}
        return output_shapes(self.task, self.input, classes=len(self.class_names), keypoints=self.keypoints)

    def _accuracy_problem(self) -> str | None:
        accuracy = self.report.accuracy
        if accuracy is not None and list(accuracy.details) != list(accuracy.reference_details):
            return "the details of its accuracy are not those of the reference"
        return None

    def _path_problem(self) -> str | None:
        seen: set[str] = set()
        # Lower case: the file systems of Windows and macOS do not tell "Model.onnx" from "model.onnx".
        for path in (entry.path.lower() for entry in self.files):
            if path == "manifest.json":
                return "it lists manifest.json itself"
            if path in seen:
                return f"it lists the file {path!r} twice"
            seen.add(path)
        for path in seen:
            parents = path.split("/")[:-1]
            if any("/".join(parents[: depth + 1]) in seen for depth in range(len(parents))):
                return f"it lists a file that is also a directory of {path!r}"
        return None


def _brief(error: Exception) -> str:
    """Return the error's text fit for a terminal: it may quote the file, with any length and any control character."""
    text = str(error)
    return "".join(char if char.isprintable() else "?" for char in text[:200]) + ("…" if len(text) > 200 else "")
