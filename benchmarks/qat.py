"""Quantization-aware training beside calibration alone, each with the same further time of training, several seeds.

``python qat.py --data bccd/data.yaml --checkpoint best.safetensors --artifact best-int8 --imgsz 320 --out qat/bccd``
takes a checkpoint and the INT8 artifact that ``export --int8`` made of it, and

- ``ptq``: trains on in float, and exports that as INT8 with the whole of calibration;
- ``qat``: trains in the arithmetic of the artifact by ``yolo12edge qat``, and exports that.

``ptq`` gets as many more epochs as its epochs are faster. Both end in the same export, guard and engine; the figures
are the validation split's. What is in ``--out`` already is not done again.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

import yaml
from commands import run_command
from training_arms import command, environment, epoch_seconds, spread, timed

LR = 1e-4  # that of `yolo12edge qat`


def train_on(arguments: argparse.Namespace, folder: Path, *, epochs: int, seed: int) -> None:
    """Train on in float, with the settings of ``yolo12edge qat``."""
    settings = {
        "data": str(arguments.data),
        "weights": str(arguments.checkpoint),
        "image_size": arguments.imgsz,
        "epochs": epochs,
        "batch": arguments.batch,
        "optimizer": "adamw",
        "lr": LR,
        "schedule": "cosine",
        "warmup_epochs": 0.0,
        "close_mosaic": epochs,
        "seed": seed,
        "workers": 0,
        "precision": "fp32",
    }
    file = folder.with_suffix(".yaml")
    file.write_text(yaml.safe_dump(settings))
    timed(folder, command("train", "--config", file, "--out", folder))


def export(arguments: argparse.Namespace, folder: Path) -> dict[str, float]:
    """Export a run's best checkpoint as INT8, whatever it costs; return the scores of float and INT8."""
    out = folder.with_name(folder.name + "-artifacts")
    if not (out / "best-int8" / "manifest.json").is_file():
        words = ("--int8", "--data", arguments.data, "--max-map-drop", 100, "--out", out)
        run_command(command("export", folder / "best.safetensors", *words), env=environment())
    accuracy = json.loads((out / "best-int8" / "manifest.json").read_text())["report"]["accuracy"]
    return {"float": 100 * accuracy["reference_value"], "int8": 100 * accuracy["value"]}


def main() -> None:
    """Train and export all, then print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--checkpoint", type=Path, required=True)
    parser.add_argument("--artifact", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--imgsz", type=int, required=True)
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--seeds", type=int, default=3)
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    rows: dict[str, list[dict[str, float]]] = {"qat": [], "ptq": []}
    for seed in range(arguments.seeds):
        folder = arguments.out / f"qat-{seed}"
        words = ("--from", arguments.artifact, "--data", arguments.data, "--workers", 0, "--batch", arguments.batch)
        rest = ("--epochs", arguments.epochs, "--seed", seed, "--out", folder)
        timed(folder, command("qat", arguments.checkpoint, *words, *rest), resume="qat")
        rows["qat"].append(export(arguments, folder))
        if seed == 0:
            probe = arguments.out / "probe"
            train_on(arguments, probe, epochs=2, seed=seed)
            more = round(arguments.epochs * max(1.0, epoch_seconds(folder) / epoch_seconds(probe)))
        folder = arguments.out / f"ptq-{seed}"
        train_on(arguments, folder, epochs=more, seed=seed)
        rows["ptq"].append(export(arguments, folder))
        print({name: found[-1] for name, found in rows.items()}, flush=True)
    accuracy = json.loads((arguments.artifact / "manifest.json").read_text())["report"]["accuracy"]
    print(f"before: float {100 * accuracy['reference_value']:.2f}, INT8 {100 * accuracy['value']:.2f}")
    print(f"epochs: qat {arguments.epochs}, ptq {more}")
    print("| | float | INT8 | INT8 - float |")
    print("| --- | --- | --- | --- |")
    for name, found in rows.items():
        losses = [row["int8"] - row["float"] for row in found]
        columns = ([row[kind] for row in found] for kind in ("float", "int8"))
        print(f"| {name} | {' | '.join(map(spread, columns))} | {spread(losses)} |")


if __name__ == "__main__":
    sys.exit(main())
