"""Does it help? Ways to train, side by side on one dataset: the same time each, several seeds, with the spread.

``python training_arms.py --data bccd/data.yaml --imgsz 224 --epochs 80 --out arms/bccd`` trains YOLO12n

- with each ``--augment``, a preset or a file: ``none``, that is not at all, and ``base``, unless told otherwise;
- ``pretrained``: with the last of them, from a backbone that was pretrained on pictures without labels: the same, or
  others. What the pretraining takes is taken off the epochs, so that all ways have the same time.

A run is one thread; ``--jobs`` run at a time. What is in ``--out`` already is not done again: an interrupted call goes
on. The figure is that of the last epoch's averaged weights, so that nothing is chosen by the pictures that are scored.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import statistics
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from commands import run_command

ROOT = Path(__file__).parents[1]
FIGURES = ("top1", "top5", "ap", "ap50")  # what a task is known by: the first two that it has


@dataclass(frozen=True)
class Job:
    """One run.

    Attributes:
        way: Its name.
        seed: Of everything.
        epochs: How long.
        options: Of ``yolo12edge train``.
    """

    way: str
    seed: int
    epochs: int
    options: tuple[str, ...]


def command(*words: object) -> list[str]:
    """Return the call of this checkout's command."""
    return [sys.executable, "-m", "yolo12edge", *map(str, words)]


def environment() -> dict[str, str]:
    """Return that of a run: this checkout, one thread."""
    return {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}


def timed(folder: Path, words: list[str], *, resume: str = "train") -> float:
    """Run a command that writes ``folder``, unless it has been done; return its seconds.

    Args:
        folder: Of the run.
        words: The command.
        resume: The command that goes on with what was interrupted.
    """
    done = folder.with_name(folder.name + ".done.json")
    if not done.is_file():
        begun = time.monotonic()
        resumed = command(resume, "--resume", folder) if (folder / "state.ckpt").is_file() else words
        run_command(resumed, env=environment())
        done.write_text(json.dumps({"seconds": time.monotonic() - begun, "resumed": resumed is not words}))
    return float(json.loads(done.read_text())["seconds"])


def results_of(folder: Path) -> list[dict[str, str]]:
    """Return what the epochs of a run gave."""
    with (folder / "results.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def epoch_seconds(folder: Path) -> float:
    """Return what an epoch of a run took, whatever else the machine did for a while."""
    return statistics.median(float(row["seconds"]) for row in results_of(folder))


def train(job: Job, arguments: argparse.Namespace) -> dict[str, float]:
    """Train, and return the figures of the last epoch."""
    folder = arguments.out / f"{job.way}-{job.seed}"
    words = ("--data", arguments.data, "--imgsz", arguments.imgsz, "--batch", arguments.batch, "--workers", 0)
    rest = ("--epochs", job.epochs, "--seed", job.seed, "--patience", job.epochs, "--out", folder, *job.options)
    seconds = timed(folder, command("train", *words, *rest))
    rows = results_of(folder)
    names = [name for name in FIGURES if f"val/{name}" in rows[0]][:2]
    last = {name: 100 * float(rows[-1][f"val/{name}"]) for name in names}
    best = {f"best {names[0]}": max(100 * float(row[f"val/{names[0]}"]) for row in rows)}
    return {**last, **best, "seconds": seconds, "epoch": epoch_seconds(folder), "epochs": len(rows)}


def spread(values: list[float]) -> str:
    """Return mean and standard deviation."""
    deviation = statistics.stdev(values) if len(values) > 1 else float("nan")
    return f"{statistics.mean(values):.2f} ± {deviation:.2f}"


def main() -> None:
    """Train all, then print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--imgsz", type=int, default=224)
    parser.add_argument("--epochs", type=int, default=80)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--augment", nargs="+", default=["none", "base"])
    parser.add_argument("--method", default="simclr")
    parser.add_argument("--pictures", type=Path, help="Folder to pretrain on; the dataset's own without it.")
    parser.add_argument("--pretraining-epochs", type=int, default=40)
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    seeds = range(arguments.seeds)

    def pretrain(seed: int) -> float:
        folder = arguments.out / f"backbone-{seed}"
        words = (
            "--data",
            arguments.pictures or arguments.data,
            "--method",
            arguments.method,
            "--imgsz",
            arguments.imgsz,
            "--workers",
            0,
        )
        rest = ("--epochs", arguments.pretraining_epochs, "--batch", 32, "--seed", seed, "--out", folder)
        timed(folder, command("pretrain", *words, *rest), resume="pretrain")
        return arguments.pretraining_epochs * epoch_seconds(folder)

    results: dict[str, list[dict[str, float]]] = {}
    with ThreadPoolExecutor(arguments.jobs) as pool:
        jobs = [
            Job(Path(augment).stem, seed, arguments.epochs, ("--augment", augment))
            for seed in seeds
            for augment in arguments.augment
        ]
        for job, figures in zip(jobs, pool.map(lambda job: train(job, arguments), jobs), strict=True):
            results.setdefault(job.way, []).append(figures)
        pretraining = list(pool.map(pretrain, seeds))
        epoch = statistics.median(figures["epoch"] for figures in results[jobs[-1].way])
        jobs = []
        for seed, seconds in zip(seeds, pretraining, strict=True):
            options = (
                "--augment",
                arguments.augment[-1],
                "--weights",
                str(arguments.out / f"backbone-{seed}" / "backbone.safetensors"),
            )
            fewer = max(1, arguments.epochs - round(seconds / epoch))
            jobs.append(Job("pretrained", seed, fewer, options))
        for job, figures in zip(jobs, pool.map(lambda job: train(job, arguments), jobs), strict=True):
            results.setdefault(job.way, []).append(figures)
    print(f"pretraining by {arguments.method}: {spread(pretraining)} s")
    columns = [name for name in results[jobs[0].way][0] if name != "epoch"]
    print(f"| way | {' | '.join(columns)} |")
    print(f"| --- |{' --- |' * len(columns)}")
    for way, runs in results.items():
        print(f"| {way} | {' | '.join(spread([run[name] for run in runs]) for name in columns)} |")


if __name__ == "__main__":
    main()
