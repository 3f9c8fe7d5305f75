"""What NNCF's default, ``nncf.quantize(preset=MIXED)``, makes of this project's float ONNX model."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
from commands import CommandError, run_command
from contenders import OPENVINO, ORT, Contender

from yolo12edge.artifact import Artifact
from yolo12edge.calibration.graph import Graph, load_model
from yolo12edge.calibration.images import choose_images
from yolo12edge.data.dataset import read_dataset
from yolo12edge.preprocess import Preprocessor

__all__ = ["nncf_models"]

_IMAGES = 300  # NNCF's own default


def nncf_models(python: Path, float_onnx: Path, data: Path, *, out: Path) -> list[Contender]:
    """Quantize as OpenVINO IR and as ONNX, on the images that this project calibrates on; what is there is kept.

    Twice: with nothing but NNCF's defaults, and with the head's last convolutions and the decoding left float.

    Args:
        python: Interpreter of an environment with ``nncf``, ``onnx`` and ``openvino``.
        float_onnx: The float ONNX artifact.
        data: The ``data.yaml``.
        out: Folder for the models.
    """
    artifact = Artifact.load(float_onnx)
    manifest = artifact.manifest
    out.mkdir(parents=True, exist_ok=True)
    listing = out / "models.json"
    if not listing.is_file():
        images, job = out / "images.npy", out / "job.json"
        _save_images(artifact, data, images)
        job.write_text(
            json.dumps({"model": str(artifact.model_file), "images": str(images), "decode": _decode(artifact)})
        )
        environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
        script = Path(__file__).with_name("nncf_quantize.py")
        try:
            run_command([python, script, job, out], env=environment)
        except CommandError as error:
            return [Contender("NNCF", OPENVINO, "INT8", None, manifest, problem=str(error)[-200:])]
        finally:
            images.unlink()
    made = json.loads(listing.read_text(encoding="utf-8"))
    contenders = []
    for model in made["models"]:
        file = out / model["file"]
        left = f", {' + '.join(model['float'])} float" if model["float"] else ""
        maker = f"NNCF {made['version']} MIXED on {'IR' if file.suffix == '.xml' else 'ONNX'}{left}"
        path = None if model["problem"] else file
        for engine in (OPENVINO,) if file.suffix == ".xml" else (ORT, OPENVINO):
            contenders.append(Contender(maker, engine, "INT8", path, manifest, problem=model["problem"]))
    return contenders


def _decode(artifact: Artifact) -> list[str]:
    """Return the names of the last convolutions and of what follows them."""
    graph = Graph.of(load_model(artifact.model_file.read_bytes()))
    return [node.name for node in graph.nodes if set(node.output) <= graph.decoded]


def _save_images(artifact: Artifact, data: Path, place: Path) -> None:
    dataset = read_dataset(data)
    scored = [sample.image for sample in dataset.samples("val")]
    images = choose_images(dataset, count=_IMAGES, seed=0, exclude=scored)
    spec = artifact.manifest.input
    pixels = np.empty((len(images.paths), 3, spec.height, spec.width), np.uint8)
    for row, batch in zip(pixels, images.batches(Preprocessor(spec)), strict=True):
        row[:] = np.rint(batch[0] / spec.scale)
    np.save(place, pixels)
