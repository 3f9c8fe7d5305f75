"""A Core ML package with Apple's non-maximum suppression behind the model, for Vision and Xcode.

Vision shows what comes out as ``VNRecognizedObjectObservation``. The Runtime does not run such a package: its outputs
are Apple's. The program itself is that of the artifact, and what Apple's suppression wants is added to it:
``(candidates, classes)`` and ``(candidates, 4)``, centre x, centre y, width, height as parts of the image.
"""

from __future__ import annotations

import shutil
import tempfile
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np

from ..artifact import Artifact
from ..errors import ExportError, InputError, VerificationError
from ..manifest import Manifest
from ..runtimes.coreml_library import import_coremltools, one_line
from .coreml_library import TARGETS, quietly, target_of
from .coreml_package import PACKAGE, finished_spec, new_package, package_files, written_program
from .verify import feeds_of, verification_frames

__all__ = ["coreml_pipeline"]

_CONFIDENCE, _COORDINATES = "confidence", "coordinates"
_ROLES = ("boxes", "scores")
_TOLERANCE = 1e-5  # of the size of the image, and of scores
_RAW = {_CONFIDENCE: "raw_confidence", _COORDINATES: "raw_coordinates"}
_INPUTS = {"iouThreshold": "Overlap (IoU) beyond which the less confident of two boxes of a class is dropped"}
_INPUTS["confidenceThreshold"] = "Least confidence of a detection"
_COLUMNS = 80
"""Behind an ML program, Core ML's suppression is reported to go wrong with other numbers of classes, such as 34
(https://github.com/apple/coremltools/issues/2445), and to be right with multiples of this: columns of zeros fill up."""
_PREVIEW = "com.apple.coreml.model.preview.type"  # lets Xcode show boxes on a picture


def coreml_pipeline(
    artifact: Artifact,
    out: Path | str,
    *,
    iou: float = 0.45,
    confidence: float = 0.25,
    agnostic: bool = False,
    overwrite: bool = False,
) -> Path:
    """Write a package of two models: that of an artifact, and Apple's ``nonMaximumSuppression``.

    Its inputs are the image and, both optional, ``iouThreshold`` and ``confidenceThreshold``. Its outputs are
    ``confidence``, the score of each class for each detection, and ``coordinates``, centre x, centre y, width, height
    relative to the letterboxed image. The number of columns of ``confidence`` is the next multiple of 80: those beyond
    the classes are 0, and their labels ``unused 1`` and so on never come out.

    Args:
        artifact: A Core ML artifact with an image input.
        out: The package to write, ``….mlpackage``.
        iou: Default of ``iouThreshold``.
        confidence: Default of ``confidenceThreshold``.
        agnostic: Whether boxes suppress those of other classes, too.
        overwrite: Whether a package at ``out`` may be replaced.

    Returns:
        ``out``.

    Raises:
        InputError: If the artifact is another, a threshold is not between 0 and 1, or ``out`` must not be replaced.
        MissingDependencyError: If coremltools or torch is not installed.
        ExportError: If coremltools cannot read the artifact's program.
        VerificationError: If the suppression would not be given what the artifact gives; nothing is written then.
    """
    manifest, place = artifact.manifest, Path(out)
    if manifest.format != "coreml" or not manifest.input.pixels:
        raise InputError(
            f"{artifact.path} is no Core ML artifact with an image input",
            expected="what `yolo12edge export --format coreml` wrote",
        )
    if manifest.task != "detect":
        raise InputError(
            f"Apple's suppression gives boxes alone, and the task is {manifest.task}",
            expected="a model that detects",
            remedy="leave --nms out",
        )
    for name, value in (("iou", iou), ("confidence", confidence)):
        if not 0 <= value <= 1:
            raise InputError(f"{name} is {value}", expected="0 to 1")
    with new_package(place, overwrite=overwrite) as write:
        write(_pipeline_files(artifact.path / PACKAGE, manifest, iou=iou, confidence=confidence, agnostic=agnostic))
    return place


def _pipeline_files(
    package: Path, manifest: Manifest, *, iou: float, confidence: float, agnostic: bool
) -> dict[str, bytes]:
    ct = import_coremltools()
    with quietly():
        detector, weights = _detector(package, manifest)
    _verify(detector, weights, package, manifest)
    version = detector.specificationVersion
    candidates = manifest.outputs[0].shape[2]
    labels = _labels(manifest.class_names)
    suppression = _suppression(candidates, labels, version, iou=iou, confidence=confidence, agnostic=agnostic)
    spec = ct.proto.Model_pb2.Model(specificationVersion=version)
    spec.pipeline.models.extend([detector, suppression])
    spec.pipeline.names.extend(["detector", "suppression"])
    spec.description.input.append(detector.description.input[0])
    spec.description.input.extend(_threshold_inputs({"iouThreshold": iou, "confidenceThreshold": confidence}))
    spec.description.output.extend(suppression.description.output)
    finished_spec(spec, manifest, embed=False)  # the manifest is not about these outputs
    spec.description.metadata.userDefined[_PREVIEW] = "objectDetector"
    return package_files(spec, weights)


def _detector(package: Path, manifest: Manifest) -> tuple[Any, bytes]:
    """Return the program of an artifact with the outputs that the suppression reads, and its file of weights."""
    from coremltools.converters.mil import Builder
    from coremltools.converters.mil.frontend.milproto.load import load

    ct = import_coremltools()
    with tempfile.TemporaryDirectory(prefix="yolo12edge-") as folder:  # coremltools writes into what it opens
        try:
            copy = shutil.copytree(package, Path(folder, PACKAGE))
            source = ct.models.MLModel(str(copy), skip_model_load=True)
            version = source.get_spec().specificationVersion
            program = load(source.get_spec(), version, file_weights_dir=source.weights_dir)
        except Exception as error:  # coremltools raises any kind
            raise ExportError(f"coremltools cannot read {package}: {one_line(error)}") from error
    function = program.functions["main"]
    by_name = {var.name: var for var in function.outputs}
    boxes, scores = (by_name[next(o.name for o in manifest.outputs if o.role == role)] for role in _ROLES)
    width, height = manifest.input.width, manifest.input.height
    classes = len(manifest.class_names)
    matrix = np.zeros((4, 4), np.float32)  # rows: centre x, centre y, width, height
    for row, (size, low, factors) in enumerate(
        ((width, 0, (0.5, 0.5)), (height, 1, (0.5, 0.5)), (width, 0, (-1, 1)), (height, 1, (-1, 1)))
    ):
        matrix[row, [low, low + 2]] = np.array(factors, np.float32) / size
    with function:
        rows = Builder.squeeze(x=scores, axes=[0], name="score_rows")
        columns = classes + -classes % _COLUMNS
        # One product turns the rows into columns and fills up with zeros.
        chosen = np.eye(classes, columns, dtype=np.float32)
        raw_confidence = Builder.matmul(x=rows, y=chosen, transpose_x=True, name=_RAW[_CONFIDENCE])
        corners = Builder.transpose(x=Builder.squeeze(x=boxes, axes=[0], name="box_rows"), perm=[1, 0], name="corners")
        raw_coordinates = Builder.matmul(x=corners, y=matrix.T, name=_RAW[_COORDINATES])
        function.set_outputs([raw_confidence, raw_coordinates])
    result, weights = written_program(
        program,
        inputs=[ct.ImageType(name=manifest.input.name, shape=(1, 3, height, width), color_layout=ct.colorlayout.RGB)],
        outputs=list(_RAW.values()),
        precision=ct.precision.FLOAT32,  # what is half precision already stays so
        target=next(target for name in TARGETS if (target := target_of(name)).value == version),
    )
    result.description.metadata.Clear()
    return result, weights


def _verify(detector: Any, weights: bytes, package: Path, manifest: Manifest) -> None:
    """Refuse a program that does not give the suppression what the artifact gives, on a picture."""
    from .mil_evaluator import MilBackend

    feeds, _ = feeds_of(manifest.input, verification_frames(None)[0])
    with closing(MilBackend(package)) as artifact, closing(MilBackend(package_files(detector, weights))) as candidate:
        expected, found = artifact.infer(feeds), candidate.infer(feeds)
    boxes, scores = (expected[next(o.name for o in manifest.outputs if o.role == role)][0] for role in _ROLES)
    sizes = np.array([manifest.input.width, manifest.input.height], np.float64)
    low, high = boxes[:2].T / sizes, boxes[2:].T / sizes
    wanted = {
        _CONFIDENCE: np.pad(scores.T, ((0, 0), (0, -len(scores) % _COLUMNS))),
        _COORDINATES: np.concatenate([(low + high) / 2, high - low], axis=1),
    }
    for name, values in wanted.items():
        array = found.get(_RAW[name], np.empty(0))
        if array.shape != values.shape or not np.abs(array - values).max() <= _TOLERANCE:  # NaN is refused, too
            raise VerificationError(
                f"{_RAW[name]} is not what {package} gives", expected="the same values", remedy="report it"
            )


def _labels(names: list[str]) -> list[str]:
    return [*names, *(f"unused {index + 1}" for index in range(-len(names) % _COLUMNS))]


def _suppression(
    candidates: int, labels: list[str], version: int, *, iou: float, confidence: float, agnostic: bool
) -> Any:
    proto = import_coremltools().proto
    spec = proto.Model_pb2.Model(specificationVersion=version)
    kind = proto.FeatureTypes_pb2.ArrayFeatureType
    words = {
        _CONFIDENCE: "detections x classes: the score of each class",
        _COORDINATES: "detections x [centre x, centre y, width, height], relative to the image",
    }
    for name, columns in ((_CONFIDENCE, len(labels)), (_COORDINATES, 4)):
        item = spec.description.input.add(name=_RAW[name])
        item.type.multiArrayType.dataType = kind.FLOAT32
        item.type.multiArrayType.shape.extend([candidates, columns])
        item = spec.description.output.add(name=name, shortDescription=words[name])
        item.type.multiArrayType.dataType = kind.FLOAT32
        sizes = item.type.multiArrayType.shapeRange.sizeRanges
        sizes.add(lowerBound=0, upperBound=-1)
        sizes.add(lowerBound=columns, upperBound=columns)
    spec.description.input.extend(_threshold_inputs({"iouThreshold": iou, "confidenceThreshold": confidence}))
    layer = spec.nonMaximumSuppression
    layer.confidenceInputFeatureName, layer.coordinatesInputFeatureName = _RAW[_CONFIDENCE], _RAW[_COORDINATES]
    layer.confidenceOutputFeatureName, layer.coordinatesOutputFeatureName = _CONFIDENCE, _COORDINATES
    layer.iouThresholdInputFeatureName = "iouThreshold"
    layer.confidenceThresholdInputFeatureName = "confidenceThreshold"
    layer.iouThreshold, layer.confidenceThreshold = iou, confidence
    layer.pickTop.perClass = not agnostic
    layer.stringClassLabels.vector.extend(labels)
    return spec


def _threshold_inputs(defaults: dict[str, float]) -> list[Any]:
    proto = import_coremltools().proto
    found = []
    for name, value in defaults.items():
        item = proto.Model_pb2.FeatureDescription(name=name, shortDescription=f"{_INPUTS[name]} (default: {value:g})")
        item.type.doubleType.SetInParent()
        item.type.isOptional = True
        found.append(item)
    return found
