"""Train the bundled demo checkpoint on synthetic scenes: ``python examples/make_demo_checkpoint.py``.

Takes about 25 minutes on two CPU cores. Scenes, run and result are reproducible on one machine.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from msgspec.structs import replace

from yolo12edge.checkpoint import Checkpoint
from yolo12edge.data.scenes import generate_scenes
from yolo12edge.training import EpochRecord, TrainConfig, train

TRAIN_IMAGES, VAL_IMAGES = 1500, 150
SCENES_SEED = 1  # the demo's own scenes have another seed, so that it shows images never seen here


def show(record: EpochRecord) -> None:
    """Print one epoch."""
    values = record.values
    print(f"epoch {record.epoch}: AP50-95 {values['val/ap']:.4f}, AP50 {values['val/ap50']:.4f}", flush=True)


def main() -> None:
    """Generate scenes, train, and write the best weights as float16."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--work", type=Path, default=Path("runs/demo-checkpoint"), help="folder for scenes and run")
    parser.add_argument("--out", type=Path, default=Path("yolo12edge/assets/demo-yolo12n.safetensors"))
    options = parser.parse_args()
    folder = options.work / "scenes"
    if not folder.exists():
        generate_scenes(folder, train=TRAIN_IMAGES, val=VAL_IMAGES, size=320, seed=SCENES_SEED)
    config = TrainConfig(
        data=folder / "data.yaml",
        out=options.work / "run",
        epochs=12,
        batch=8,
        image_size=320,
        close_mosaic=4,
        workers=1,
    )
    result = train(config, on_epoch=show)
    best = Checkpoint.load(result.files.best)
    Checkpoint(replace(best.meta, weights_license="Apache-2.0"), best.tensors).save(options.out, half=True)
    print(f"{options.out}: {options.out.stat().st_size / 1e6:.2f} MB, from epoch {result.best_epoch}")


if __name__ == "__main__":
    main()
