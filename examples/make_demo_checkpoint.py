"""Train the bundled demo checkpoint on synthetic scenes: ``python examples/make_demo_checkpoint.py``.

Takes about 50 minutes on two CPU cores. Scenes, run and result are reproducible on one machine.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from msgspec.structs import replace

from yolo12edge.checkpoint import Checkpoint
from yolo12edge.data.scenes import generate_scenes
from yolo12edge.training import EpochRecord, TrainConfig, resume
from yolo12edge.training import train as run_training

VAL_IMAGES = 150
# Two stages, each on scenes of its own. The demo's scenes have another seed: it shows images never seen here.
FIRST = {"train": 1500, "seed": 1, "epochs": 12, "close_mosaic": 4}
SECOND = {"train": 3000, "seed": 3, "epochs": 5, "close_mosaic": 3}


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
    first = stage(options.work / "first", **FIRST)
    second = stage(options.work / "second", **SECOND, weights=first, lr=7e-4, warmup_epochs=0.5)
    best = Checkpoint.load(second)
    Checkpoint(replace(best.meta, weights_license="Apache-2.0"), best.tensors).save(options.out, half=True)
    print(f"{options.out}: {options.out.stat().st_size / 1e6:.2f} MB")


def stage(work: Path, *, train: int, seed: int, epochs: int, close_mosaic: int, **settings: Any) -> Path:
    """Generate scenes and train on them, unless an earlier call has; return the best checkpoint."""
    if not (work / "scenes").exists():
        generate_scenes(work / "scenes", train=train, val=VAL_IMAGES, size=320, seed=seed)
    run = work / "run"
    if (run / "state.ckpt").exists():
        resume(run, on_epoch=show)  # does nothing where the run is complete
    else:
        config = TrainConfig(
            data=work / "scenes" / "data.yaml",
            out=run,
            epochs=epochs,
            batch=8,
            image_size=320,
            close_mosaic=close_mosaic,
            workers=1,
            **settings,
        )
        run_training(config, on_epoch=show)
    return run / "best.safetensors"


if __name__ == "__main__":
    main()
