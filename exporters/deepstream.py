"""Artifact → a folder for DeepStream's ``nvinfer``, by the manifest alone."""

from __future__ import annotations

import os
import shlex
from pathlib import Path

from ..artifact import Artifact
from ..errors import ExportError
from ..manifest import TENSORRT_FORMATS, Manifest
from ..thresholds import Thresholds
from .deployment import BUILD_HERE, LABELS_NAME, Deployment, engine_notes, label_lines, only_file, write_folder

__all__ = ["DEEPSTREAM_CONFIG", "DEEPSTREAM_LIBRARY", "deepstream_from_artifact"]

DEEPSTREAM_CONFIG = "config_infer_primary.txt"
DEEPSTREAM_LIBRARY = "libnvdsinfer_yolo12edge.so"
"""What the parser's Makefile builds."""

_PARSER = "NvDsInferParseYolo12Edge"
_PARSER_SOURCE = Path(__file__).with_name("deepstream_parser")
_PARSER_FILES = ("Makefile", "nvdsinfer_yolo12edge.cpp")


def deepstream_from_artifact(artifact: Artifact, out: str | os.PathLike[str], *, overwrite: bool = False) -> Deployment:
    """Write a folder for DeepStream's ``nvinfer``: its configuration, labels, the model and the source of its parser.

    Args:
        artifact: A TensorRT engine, or FP32 ONNX, of which ``nvinfer`` makes an FP32 engine.
        out: The folder.
        overwrite: Whether a folder that was written by this function may be replaced.

    Raises:
        ExportError: If ``nvinfer`` cannot run this artifact as it is meant.
        ArtifactError: If the artifact holds other files than its format has.
        InputError: If the folder cannot be written or must not be replaced.
    """
    manifest = artifact.manifest
    _check(manifest)
    model = "model.engine" if manifest.engine else "model.onnx"
    texts = {
        **{name: (_PARSER_SOURCE / name).read_text() for name in _PARSER_FILES},
        DEEPSTREAM_CONFIG: _config(manifest, model),
        # nvinfer reads what follows a ';' as another label.
        LABELS_NAME: label_lines(manifest.class_names).replace(";", ","),
    }
    target = Path(out)
    others = ("model.engine", "model.onnx", DEEPSTREAM_LIBRARY, _made_by_nvinfer(manifest))
    copies = {model: only_file(artifact)}
    write_folder(target, texts, copies, own=DEEPSTREAM_CONFIG, others=others, overwrite=overwrite)
    notes = [f"Build the parser there, once for a machine: make -C {shlex.quote(str(target))}"]
    if manifest.input.pad_value:
        notes.append(f"nvinfer pads with black, the model expects {manifest.input.pad_value}: see docs/deepstream.md")
    return Deployment(target, (*notes, *engine_notes(manifest, "DeepStream")))


def _check(manifest: Manifest) -> None:
    """Refuse what ``nvinfer`` cannot run as it is meant."""
    spec, engine = manifest.input, manifest.engine
    if manifest.task != "detect":
        raise ExportError(
            f"the parser for nvinfer reads boxes and scores alone, and the task is {manifest.task}",
            expected="a model that detects",
            remedy="run it with yolo12edge's Runtime, or serve it with Triton",
        )
    if manifest.format == "tensorrt-rtx":
        raise ExportError("DeepStream does not use TensorRT-RTX", remedy="export with --format tensorrt")
    if manifest.format in TENSORRT_FORMATS and engine is None:
        raise ExportError(
            "this artifact is typed ONNX, of which nvinfer would make another engine than yolo12edge",
            expected="an engine",
            remedy=BUILD_HERE,
        )
    if engine is None and (manifest.format, manifest.precision) != ("onnx", "fp32"):
        raise ExportError(
            f"nvinfer cannot build {manifest.precision} {manifest.format} as it is meant",
            expected="a TensorRT engine, or fp32 onnx",
            remedy=BUILD_HERE,
        )
    if spec.pixels:
        raise ExportError(
            "nvinfer feeds float32 planes, and this model takes uint8 pixels", remedy="export without --uint8"
        )
    if spec.min_batch is None and spec.batch > 1:
        raise ExportError(
            f"the model takes exactly {spec.batch} images, and nvinfer hands over fewer where a camera is late",
            remedy=f"export with --batch {spec.batch} --min-batch 1",
        )
    if (spec.min_batch or 1) > 1:
        raise ExportError(
            f"the model takes no fewer than {spec.min_batch} images, and nvinfer hands over single ones too",
            remedy="export with --min-batch 1",
        )
    if engine is not None and engine.plugins:
        raise ExportError(
            f"the engine needs {', '.join(engine.plugins)}, which nvinfer does not load",
            remedy="export with --attention native",
        )
    if engine is not None and engine.version_compatible:
        raise ExportError(
            "the engine is for later versions, too, and nvinfer does not allow the code in it that this needs",
            remedy="export without --version-compatible",
        )
    names = {output.role: output.name for output in manifest.outputs}
    if names != {"boxes": "boxes", "scores": "scores"}:
        raise ExportError(f"the outputs are {', '.join(names.values())}", expected="boxes and scores, for the parser")


def _config(manifest: Manifest, model: str) -> str:
    """Return the text of a GLib key file with all that ``nvinfer`` must know."""
    spec, defaults = manifest.input, Thresholds()
    if manifest.engine:
        files = {"model-engine-file": model}
    else:
        files = {"onnx-file": model, "model-engine-file": _made_by_nvinfer(manifest)}
    properties: dict[str, object] = {
        "gpu-id": 0,
        "gie-unique-id": 1,
        "process-mode": 1,
        "network-type": 0,
        **files,
        "network-mode": {"fp32": 0, "int8": 1, "fp16": 2}[manifest.precision],
        "batch-size": spec.batch,
        "infer-dims": f"3;{spec.height};{spec.width}",
        "network-input-order": 0,
        "model-color-format": 0,
        "net-scale-factor": repr(spec.scale),
        "maintain-aspect-ratio": 1,
        "symmetric-padding": 1,
        "scaling-filter": 1,
        "num-detected-classes": len(manifest.class_names),
        "labelfile-path": LABELS_NAME,
        "output-blob-names": "boxes;scores",
        "parse-bbox-func-name": _PARSER,
        "custom-lib-path": DEEPSTREAM_LIBRARY,
        "crop-objects-to-roi-boundary": 1,  # else what reaches beyond the frame is dropped, not clipped
        "cluster-mode": 2 if manifest.nms_iou is None else 4,
    }
    thresholds: dict[str, object] = {"pre-cluster-threshold": defaults.confidence}
    if manifest.nms_iou is None:
        thresholds |= {"nms-iou-threshold": defaults.iou, "topk": defaults.max_detections}
    groups = {"property": properties, "class-attrs-all": thresholds}
    text = (
        "\n".join([f"[{name}]", *(f"{key}={value}" for key, value in keys.items())]) for name, keys in groups.items()
    )
    return "\n\n".join(text) + "\n"


def _made_by_nvinfer(manifest: Manifest) -> str:
    """Return the name under which ``nvinfer`` keeps the engine that it makes of ONNX, to find it at the next start."""
    return f"model.onnx_b{manifest.input.batch}_gpu0_fp32.engine"
