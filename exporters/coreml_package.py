"""An ONNX model as a Core ML package (``model.mlpackage``): the files of an ML program, the same bytes every time."""

from __future__ import annotations

import hashlib
import json
import tempfile
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import msgspec
import numpy as np

from ..errors import ExportError, InputError
from ..files import atomic_directory
from ..manifest import EMBEDDED_KEY, Manifest, Report, Weights
from ..runtimes.coreml_library import import_coremltools, one_line
from .coreml_library import CoremlTarget, quietly, target_of
from .coreml_program import mil_program

__all__ = [
    "CLASSES_KEY",
    "PACKAGE",
    "CoremlForm",
    "coreml_files",
    "coreml_manifest",
    "finished_spec",
    "new_package",
    "package_files",
    "written_program",
]

PACKAGE = "model.mlpackage"
CLASSES_KEY = "classes"
_FOLDER = "com.apple.CoreML"
_PASSES = (
    "common::merge_consecutive_transposes",
    "common::fuse_transpose_matmul",
    "common::dedup_op_and_var_names",
    "common::add_fp16_cast",
    "common::update_output_dtypes",
    "common::const_elimination",
    "common::cast_optimization",
    "common::const_deduplication",
    "common::dead_code_elimination",
)
"""What coremltools is to do: the graph is the way it should be already, so none of its hundred other passes is needed,
which take most of the time, and might move what calibration has placed."""
_NAMESPACE = uuid.UUID("5d0c1f0e-6a3f-5f0c-9a53-0f8f2b1c7a12")  # of the identifiers in packages, which are digests


@dataclass(frozen=True, slots=True)
class CoremlForm:
    """Which ML program to make of a model.

    Attributes:
        precision: Of what is not INT8. In half precision the last few operators, which give places, stay float32.
        weights: How the weights of a float model are stored: as they are, int8 with a scale a channel, or a palette.
        target: The oldest system that is to run it; W8A8 needs iOS17.
        image_input: Whether the input is an image, whose scale and colour the program sees to; else it is the float
            tensor that the preprocessor makes.
        batch: Images at a time; only one with an image input.
        min_batch: If given, any number from it to ``batch``.
        float_names: Nodes of the ONNX model that stay float32 in half precision (``fp16.half_overflows``).

    Raises:
        InputError: If these do not go together.
    """

    precision: Literal["fp16", "fp32"] = "fp16"
    weights: Weights = "float"
    target: CoremlTarget = "iOS17"
    image_input: bool = True
    batch: int = 1
    min_batch: int | None = None
    float_names: frozenset[str] = frozenset()

    def __post_init__(self) -> None:
        for name, value, known in (
            ("precision", self.precision, ("fp16", "fp32")),
            ("weights", self.weights, get_args(Weights)),
            ("deployment target", self.target, get_args(CoremlTarget)),
        ):
            if value not in known:
                raise InputError(f"{name} {value!r} is not known", expected=f"one of {', '.join(known)}")
        if self.weights != "float" and self.precision != "fp16":
            raise InputError(
                f"weights {self.weights} were asked for in {self.precision}", expected="fp16 beside compressed weights"
            )
        if not 1 <= (self.min_batch or 1) <= self.batch:
            raise InputError(f"the batch is {self.batch}, at least {self.min_batch}", expected="1 <= least <= batch")
        if self.image_input and self.batch != 1:
            raise InputError(
                f"a batch of {self.batch} was asked for with an image input, which takes one image",
                remedy="ask for a tensor input",
            )


def coreml_manifest(manifest: Manifest, form: CoremlForm) -> Manifest:
    """Return the manifest of a Core ML artifact.

    Args:
        manifest: Of the ONNX model that it is made from; of its INT8 form with its calibration.
        form: What is made of it.
    """
    spec = msgspec.structs.replace(manifest.input, batch=form.batch, min_batch=form.min_batch)
    if form.image_input:
        spec = msgspec.structs.replace(spec, dtype="uint8", layout="NHWC", color="RGB")
    outputs = [msgspec.structs.replace(item, shape=(form.batch, *item.shape[1:])) for item in manifest.outputs]
    versions = {**manifest.provenance.versions, "coremltools": str(import_coremltools().__version__)}
    return msgspec.structs.replace(
        manifest,
        format="coreml",
        precision="int8" if manifest.precision == "int8" else form.precision,
        weights=form.weights,
        input=spec,
        outputs=outputs,
        files=[],
        provenance=msgspec.structs.replace(manifest.provenance, versions=versions),
        report=Report(),
    )


def coreml_files(model: bytes, manifest: Manifest, form: CoremlForm) -> dict[str, bytes]:
    """Convert an ONNX model, float or with Q/DQ pairs, whose INT8 weights stay INT8.

    Args:
        model: Content of the ``.onnx`` file.
        manifest: Of the artifact (``coreml_manifest``); it is embedded, and so are the class names.
        form: How.

    Returns:
        What belongs into the artifact, by name: ``model.mlpackage/Manifest.json`` first.

    Raises:
        MissingDependencyError: If coremltools or onnx is not installed.
        InputError: If the manifest is not of this form, or the target cannot run it.
        ExportError: If the model is not what the manifest says, or has an operator without a counterpart.
    """
    _check(model, manifest, form)
    spec, target = manifest.input, target_of(form.target)
    with quietly():
        program, floats = mil_program(
            model,
            spec,
            target=target,
            weights=form.weights,
            half=form.precision == "fp16",
            float_names=form.float_names,
        )
        description, weights = written_program(
            program,
            inputs=[_input_type(manifest)],
            outputs=[output.name for output in manifest.outputs],
            precision=_precision(form, floats),
            target=target,
        )
    finished_spec(description, manifest)
    _check_interface(description, manifest)
    return package_files(description, weights)


def finished_spec(spec: Any, manifest: Manifest, *, embed: bool = True) -> Any:
    """Return coremltools' description of a model with our metadata in place of its own, which holds the date.

    Args:
        spec: The protobuf message; it is changed.
        manifest: Of the model.
        embed: Whether the manifest itself goes into it; else only what it says for people, and the class names.
    """
    metadata = spec.description.metadata
    metadata.shortDescription = (
        f"YOLO12{manifest.scale}, {len(manifest.class_names)} classes, "
        f"{manifest.input.width} x {manifest.input.height} pixels"
    )
    metadata.license = manifest.provenance.weights_license or ""
    metadata.author = "yolo12edge"
    metadata.userDefined.clear()
    metadata.userDefined[CLASSES_KEY] = json.dumps(manifest.class_names)
    if embed:  # in ASCII: nothing then depends on who reads it
        metadata.userDefined[EMBEDDED_KEY] = json.dumps(json.loads(manifest.to_embedded_json()), separators=(",", ":"))
    size = f"{manifest.input.width} x {manifest.input.height}"
    fitted = {
        "letterbox": f"scaled to fit and padded with gray {manifest.input.pad_value} (letterbox)",
        "centre-crop": "the middle of a picture whose shorter side was scaled to fit",
    }
    words = {
        "images": f"RGB, {size}: {fitted[manifest.input.resize]}",
        "boxes": f"left, top, right, bottom in pixels of the {size} input; (batch, 4, candidates)",
        "scores": "probability of each class; (batch, classes, candidates)",
        "coefficients": "what prototypes are mixed by to a mask, above 0 inside; (batch, 32, candidates)",
        "prototypes": "maps that masks are mixed from; (batch, 32, height / 4, width / 4)",
        "keypoints": f"values of each point, x and y in pixels of the {size} input; (batch, values, candidates)",
        "rotated_boxes": f"centre, width, height in pixels of the {size} input; (batch, 4, candidates)",
        "angles": "of a box, clockwise in the picture, in radians; (batch, 1, candidates)",
        "probabilities": "probability of each class; (batch, classes)",
    }
    roles = {manifest.input.name: "images", **{output.name: output.role for output in manifest.outputs}}
    for item in (*spec.description.input, *spec.description.output):
        if item.name in roles:
            item.shortDescription = words[roles[item.name]]
    return spec


def package_files(spec: Any, weights: bytes) -> dict[str, bytes]:
    """Return the files of a package, whose identifiers are digests of what they name.

    Args:
        spec: The protobuf message of the model.
        weights: Content of the file of weights.
    """
    content = spec.SerializeToString(deterministic=True)
    entries, identifiers = {}, []
    for path, name, words, digested in (
        ("model.mlmodel", "model.mlmodel", "CoreML Model Specification", content),
        ("weights", "weights", "CoreML Model Weights", weights),
    ):
        identifier = str(uuid.uuid5(_NAMESPACE, path + _digest(digested))).upper()
        identifiers.append(identifier)
        entries[identifier] = {
            "author": _FOLDER,
            "description": words,
            "name": name,
            "path": f"{_FOLDER}/{path}",
        }
    index = {
        "fileFormatVersion": "1.0.0",
        "itemInfoEntries": entries,
        "rootModelIdentifier": identifiers[0],
    }
    return {
        f"{PACKAGE}/Manifest.json": (json.dumps(index, indent=4, sort_keys=True) + "\n").encode(),
        f"{PACKAGE}/Data/{_FOLDER}/model.mlmodel": content,
        f"{PACKAGE}/Data/{_FOLDER}/weights/weight.bin": weights,
    }


def written_program(
    program: Any, *, inputs: list[Any], outputs: list[str], precision: Any, target: Any
) -> tuple[Any, bytes]:
    """Let coremltools write a program, without its metadata's date; return its description and its file of weights.

    Args:
        program: Of MIL.
        inputs: Their types, of coremltools.
        outputs: Their names; all are float32.
        precision: ``compute_precision`` of coremltools.
        target: A member of ``coremltools.target``.

    Raises:
        ExportError: If coremltools cannot.
    """
    ct = import_coremltools()
    pipeline = ct.PassPipeline(pass_names=list(_PASSES), pipeline_name="yolo12edge")
    # Small ones too: strides, pads and the like of 140 convolutions are a hundred kilobytes.
    pipeline.set_options("common::const_deduplication", {"const_threshold": 1})
    with tempfile.TemporaryDirectory(prefix="yolo12edge-") as folder:  # its own would stay until the process ends
        try:
            model = ct.convert(
                program,
                convert_to="mlprogram",
                inputs=inputs,
                outputs=[ct.TensorType(name=name, dtype=np.float32) for name in outputs],
                compute_precision=precision,
                minimum_deployment_target=target,
                pass_pipeline=pipeline,
                skip_model_load=True,
                package_dir=str(Path(folder, PACKAGE)),
            )
            return model.get_spec(), Path(model.weights_dir, "weight.bin").read_bytes()
        except Exception as error:  # whatever its passes run into, and a full disk
            raise ExportError(f"coremltools cannot write the program: {one_line(error)}") from error


@contextmanager
def new_package(place: Path, *, overwrite: bool) -> Iterator[Callable[[Mapping[str, bytes]], None]]:
    """Make a package that is there whole, or not at all; give a function that writes its files.

    Args:
        place: The package, ``….mlpackage``.
        overwrite: Whether a package that is already there may be replaced.

    Raises:
        InputError: If it has another name, cannot be written, or must not be replaced.
    """
    if place.suffix != ".mlpackage":
        raise InputError(f"{place} is not the name of a package", expected="a name that ends with .mlpackage")

    def is_package(directory: Path) -> None:
        if not (directory / "Manifest.json").is_file():
            raise InputError(f"{directory} is not a package and is not replaced", remedy="name another")

    with atomic_directory(place, overwrite=overwrite, check=is_package) as building:

        def write(files: Mapping[str, bytes]) -> None:
            for name, content in files.items():
                file = building / Path(name).relative_to(PACKAGE)
                file.parent.mkdir(parents=True, exist_ok=True)
                file.write_bytes(content)

        yield write


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _check(model: bytes, manifest: Manifest, form: CoremlForm) -> None:
    spec = manifest.input
    given = (manifest.format, manifest.weights, spec.pixels, spec.batch, spec.min_batch)
    if given != ("coreml", form.weights, form.image_input, form.batch, form.min_batch):
        raise InputError(f"the manifest is not of the form {form}", remedy="make it with coreml_manifest")
    manifest.check()
    quantized = b"QuantizeLinear" in model
    if (manifest.precision == "int8") != quantized:
        raise InputError(
            f"precision {manifest.precision} was asked for of a model {'with' if quantized else 'without'} Q/DQ pairs",
            remedy="calibrate: `yolo12edge export --format coreml --int8 --data data.yaml`",
        )
    if quantized and form.target == "iOS16":
        raise InputError(
            f"the deployment target {form.target} has no INT8 activations",
            expected="iOS17 (macOS 14) or later",
            remedy="raise the target, or ask for weights in int8 or a palette, which iOS16 runs",
        )


def _input_type(manifest: Manifest) -> Any:
    ct, spec = import_coremltools(), manifest.input
    if spec.pixels:
        return ct.ImageType(name=spec.name, shape=(1, 3, spec.height, spec.width), color_layout=ct.colorlayout.RGB)
    batch: Any = spec.batch
    if spec.least_batch != spec.batch:
        batch = ct.RangeDim(lower_bound=spec.least_batch, upper_bound=spec.batch, default=spec.least_batch)
    return ct.TensorType(name=spec.name, shape=ct.Shape((batch, 3, spec.height, spec.width)), dtype=np.float32)


def _precision(form: CoremlForm, floats: frozenset[str]) -> Any:
    ct = import_coremltools()
    if form.precision == "fp32":
        return ct.precision.FLOAT32
    return ct.transform.FP16ComputePrecision(op_selector=lambda op: op.name not in floats)


def _check_interface(spec: Any, manifest: Manifest) -> None:
    """Refuse a package whose input and outputs are not those of the manifest."""
    images = manifest.input
    found: dict[str, object] = {}
    float32 = import_coremltools().proto.FeatureTypes_pb2.ArrayFeatureType.FLOAT32
    for item in (*spec.description.input, *spec.description.output):
        array, picture = item.type.multiArrayType, item.type.imageType
        if item.type.HasField("imageType"):
            found[item.name] = (picture.height, picture.width)
        elif array.dataType == float32:
            found[item.name] = tuple(array.shape)
    if images.least_batch != images.batch:  # the shapes of outputs are not known then
        if set(found) != {images.name, *(output.name for output in manifest.outputs)}:
            raise ExportError(f"the package has the tensors {sorted(found)}")
        return
    own = (images.height, images.width) if images.pixels else images.shape(images.batch)
    wanted: dict[str, object] = {images.name: own, **{output.name: output.shape for output in manifest.outputs}}
    if found != wanted:
        raise ExportError(f"the package has the float32 tensors {found}", expected=f"{wanted}")
