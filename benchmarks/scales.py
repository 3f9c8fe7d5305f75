"""YOLO12 in every scale to convert: the bundled checkpoint for n, random weights for the others."""

from __future__ import annotations

from pathlib import Path

import msgspec
import torch

from yolo12edge.artifact import Artifact
from yolo12edge.assets import DEMO_CHECKPOINT
from yolo12edge.calibration.images import CalibrationImages, images_of_folder
from yolo12edge.calibration.observe import observe
from yolo12edge.calibration.placement import Target
from yolo12edge.calibration.quantize import Quantizer
from yolo12edge.calibration.recipe import Recipe
from yolo12edge.checkpoint import Checkpoint, meta_of
from yolo12edge.data.scenes import render_scene
from yolo12edge.imaging.images import write_image
from yolo12edge.manifest import Calibration, InputSpec, Manifest
from yolo12edge.nn import ModelConfig, build_model
from yolo12edge.preprocess import Preprocessor

SCALES = ("n", "s", "m", "l", "x")
CLASSES = 80


def checkpoint_of(folder: Path, scale: str, size: int) -> Path:
    """Return the bundled checkpoint for scale n; else write one with random weights, to be run at this image size."""
    if scale == "n":
        return DEMO_CHECKPOINT
    path = folder / f"{scale}-{size}.safetensors"
    if not path.exists():
        torch.manual_seed(0)
        model = build_model(ModelConfig(scale=scale, num_classes=CLASSES)).train()
        spread(model, size)
        meta = meta_of(
            model.config,
            class_names=[str(index) for index in range(CLASSES)],
            image_size=640,
            source="trained",
            weights_license=None,
            training={},
        )
        Checkpoint(meta, dict(model.state_dict())).save(path)
    return path


def spread(model: torch.nn.Module, size: int) -> None:
    """Fit the batch norms to two scenes: otherwise activations vanish, and all differences with them."""
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.momentum = 1.0
    frames = [render_scene(seed=0, split="spread", index=index, size=size).image for index in range(2)]
    batch, _ = Preprocessor(InputSpec(name="images", batch=1, height=size, width=size)).batch(frames)
    with torch.no_grad():
        model(torch.from_numpy(batch))


def quantize(folder: Path, source: Artifact, target: Target) -> bytes:
    """Return the INT8 form, calibrated on one scene: its accuracy is nobody's concern here."""
    model = source.model_file.read_bytes()
    return Quantizer(model, observe(model, pictures(folder), source.manifest.input, threads=1))(Recipe(target))


def pictures(folder: Path) -> CalibrationImages:
    """Draw a picture to calibrate on."""
    place = folder / "pictures"
    place.mkdir(exist_ok=True)
    write_image(place / "0.png", render_scene(seed=0, split="builds", index=0, size=640).image)
    return images_of_folder(place)


def with_calibration(manifest: Manifest, target: Target) -> Manifest:
    """Return the manifest of the INT8 form."""
    calibration = Calibration(
        method="mse",
        split="",
        images=[],
        images_digest="0" * 64,
        placement=target,
        float_nodes=[],
        reduced_range=False,
    )
    return msgspec.structs.replace(manifest, precision="int8", calibration=calibration)
