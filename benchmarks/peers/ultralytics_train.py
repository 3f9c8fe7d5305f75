"""Trains with the peer, in its environment: ``python ultralytics_train.py SETTINGS.json``; writes when each step ended.

Settings are those of ``training_throughput.py``. Nothing is validated in between, and nothing is saved but at the end.
"""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path

os.environ["YOLO_AUTOINSTALL"] = "false"

import torch
from ultralytics import YOLO

settings = json.loads(Path(sys.argv[1]).read_text())
ends: list[float] = []


def begin(trainer):  # type: ignore[no-untyped-def]
    """Compute with as many threads as the other side."""
    torch.set_num_threads(settings["threads"])


def end(trainer):  # type: ignore[no-untyped-def]
    """Note the time."""
    ends.append(time.monotonic())


model = YOLO("yolo12n.yaml")
model.add_callback("on_train_start", begin)
model.add_callback("on_train_batch_end", end)
model.train(
    data=settings["data"],
    imgsz=settings["image_size"],
    epochs=settings["epochs"],
    batch=settings["batch"],
    nbs=settings["batch"],
    workers=settings["workers"],
    cache="ram",
    optimizer="AdamW",
    lr0=0.001,
    device="cpu",
    amp=False,
    val=False,
    plots=False,
    save=False,
    close_mosaic=0,
    warmup_epochs=0,
    pretrained=False,
    project=settings["out"],
    name="peer",
    exist_ok=True,
    verbose=False,
    seed=settings["seed"],
)
Path(settings["out"], "ends.json").write_text(json.dumps(ends))
