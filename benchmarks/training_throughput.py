"""Pictures a second in training, beside the peer's: same network, pictures, batch, augmentation and threads, in turns.

``python training_throughput.py --data bccd/data.yaml --peer-python ../peers/bin/python`` trains YOLO12n for a few
epochs, this project and the peer by turns, each in a process of its own, and prints pictures a second within epochs but
the first, their ratio turn by turn, and how many pictures a second the loader alone gives.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

sys.path.insert(0, str(Path(__file__).parents[1]))  # this checkout, installed or not

import yaml
from commands import run_command


def own(settings: dict[str, object]) -> None:
    """Train with this project, in this process; write when each step ended and what the loader gives."""
    import torch

    from yolo12edge.data.dataset import read_dataset
    from yolo12edge.data.loader import PictureDataset, train_loader
    from yolo12edge.training import TrainConfig, train

    torch.set_num_threads(int(str(settings["threads"])))
    out = Path(str(settings["out"]))
    config = TrainConfig(
        data=Path(str(settings["data"])),
        out=out / "own",
        epochs=int(str(settings["epochs"])),
        batch=int(str(settings["batch"])),
        nominal_batch=int(str(settings["batch"])),
        image_size=int(str(settings["image_size"])),
        workers=int(str(settings["workers"])),
        optimizer="adamw",
        lr=0.001,
        warmup_epochs=0,
        close_mosaic=0,
        device="cpu",
        seed=int(str(settings["seed"])),
    )
    ends: list[float] = []
    train(config, on_step=lambda epoch, step, steps: ends.append(time.monotonic()))
    samples = read_dataset(config.data).samples("train")
    pictures = PictureDataset(samples, image_size=config.image_size, augment=config.augmentation)
    loader = train_loader(pictures, batch_size=config.batch, workers=config.workers)
    begun, seen = 0.0, 0
    for epoch in range(3):
        loader.sampler.set_epoch(epoch)  # type: ignore[attr-defined]
        for batch in loader:
            if epoch:  # the first one starts the processes
                seen += len(batch.images)
        if not epoch:
            begun = time.monotonic()
    rate = seen / (time.monotonic() - begun)
    (out / "ends.json").write_text(json.dumps(ends))
    (out / "loader.json").write_text(json.dumps(rate))


def rate(ends: list[float], *, images: int, epochs: int) -> float:
    """Return pictures a second over the steps within epochs, all but those of the first."""
    steps = len(ends) // epochs
    seconds = [ends[(epoch + 1) * steps - 1] - ends[epoch * steps] for epoch in range(1, epochs)]
    # From the end of an epoch's first step to that of its last: what is between epochs differs in what it does.
    return images * (steps - 1) / steps / median(seconds)


def copied(data: Path, folder: Path) -> Path:
    """Return a description of the same pictures with labels of their own: the peer writes files beside labels."""
    description = yaml.safe_load(data.read_text(encoding="utf-8"))
    root = data.absolute().parent / description.get("path", ".")
    shutil.copytree(root / "labels", folder / "labels")
    (folder / "images").symlink_to(root / "images", target_is_directory=True)
    description["path"] = str(folder)
    (folder / "data.yaml").write_text(yaml.safe_dump(description), encoding="utf-8")
    return folder / "data.yaml"


def main() -> None:
    """Measure in turns."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--peer-python", type=Path, required=True)
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--image-size", type=int, default=320)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    from yolo12edge.data.dataset import read_dataset

    images = len(read_dataset(arguments.data).samples("train"))
    environment = {**os.environ, "OMP_NUM_THREADS": str(arguments.threads)}
    rates: dict[str, list[float]] = {"own": [], "peer": []}
    loader = []
    for turn in range(arguments.turns):
        for side in ("own", "peer") if turn % 2 == 0 else ("peer", "own"):
            with tempfile.TemporaryDirectory() as folder:
                settings = {
                    **{
                        name: getattr(arguments, name)
                        for name in ("epochs", "batch", "image_size", "workers", "threads")
                    },
                    "data": str(arguments.data.absolute()),
                    "out": folder,
                    "seed": turn,
                }
                if side == "peer":
                    settings["data"] = str(copied(arguments.data, Path(folder, "data")))
                job = Path(folder, "settings.json")
                job.write_text(json.dumps(settings))
                if side == "own":
                    run_command([sys.executable, __file__, "--own", job], env=environment)
                    loader.append(json.loads(Path(folder, "loader.json").read_text()))
                else:
                    script = Path(__file__).with_name("peers") / "ultralytics_train.py"
                    clean = {name: value for name, value in environment.items() if name != "PYTHONPATH"}
                    run_command([arguments.peer_python, script, job], env=clean)
                ends = json.loads(Path(folder, "ends.json").read_text())
                rates[side].append(rate(ends, images=images, epochs=arguments.epochs))
                print(f"turn {turn + 1}, {side}: {rates[side][-1]:.2f} pictures a second", flush=True)
    ratios = [ours / theirs for ours, theirs in zip(rates["own"], rates["peer"], strict=True)]
    print(f"own {median(rates['own']):.2f}, peer {median(rates['peer']):.2f} pictures a second")
    print(f"ratio, median of {len(ratios)} turns: {median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})")
    print(f"the loader alone: {median(loader):.0f} pictures a second")


if sys.argv[1:2] == ["--own"]:
    own(json.loads(Path(sys.argv[2]).read_text()))
else:
    main()
