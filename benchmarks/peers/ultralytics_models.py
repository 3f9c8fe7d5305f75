"""What the ``yolo`` command of another environment exports from a public ``.pt``, in its own default way."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import yaml
from commands import CommandError, Cost, run_command
from contenders import OPENVINO, ORT, Contender, Engine

__all__ = ["ultralytics_models"]


def ultralytics_models(python: Path, weights: Path, data: Path, *, image_size: int, out: Path) -> list[Contender]:
    """Export float and INT8 for both engines; files that are there already are kept.

    The calibration images are that tool's choice: the ``val`` split, which is also what is scored here.

    Args:
        python: Interpreter of an environment with ``ultralytics``; its ``yolo`` command lies beside it.
        weights: The ``.pt`` file.
        data: The ``data.yaml``.
        image_size: Side of the input, pixels.
        out: Folder for the models.
    """
    out.mkdir(parents=True, exist_ok=True)
    maker = f"Ultralytics {_version(python)}"
    dataset = _own_copy(data, out.parent / "data")
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    environment |= {"YOLO_CONFIG_DIR": str(out / "settings"), "YOLO_OFFLINE": "true", "YOLO_AUTOINSTALL": "false"}
    contenders = []
    formats: tuple[tuple[Engine, str], ...] = ((ORT, "onnx"), (OPENVINO, "openvino"))
    for engine, kind in formats:
        for precision in ("FP32", "INT8"):
            # A folder each: exporting INT8 removes the float model that lies beside the weights.
            folder = out / f"{kind}-{precision.lower()}"
            problem = ""
            if not folder.is_dir():
                try:
                    cost = _export(python, weights, dataset, folder, kind, precision, image_size, environment)
                    print(f"{maker}, {kind} {precision}: {cost.seconds:.0f} s, {cost.peak_mb:.0f} MB", flush=True)
                except CommandError as error:
                    problem = str(error)[-200:]
            model = next(folder.glob("**/*.onnx" if kind == "onnx" else "**/*.xml"), None)
            contenders.append(Contender(maker, engine, precision, model, problem=problem))
    return contenders


def _version(python: Path) -> str:
    found = next(python.parent.parent.glob("lib/python*/site-packages/ultralytics-*.dist-info"), None)
    return found.name.split("-")[1].removesuffix(".dist") if found else "?"


def _export(
    python: Path,
    weights: Path,
    data: Path,
    folder: Path,
    kind: str,
    precision: str,
    image_size: int,
    environment: dict[str, str],
) -> Cost:
    scratch = folder.with_name(folder.name + "-unfinished")
    shutil.rmtree(scratch, ignore_errors=True)
    scratch.mkdir()
    shutil.copyfile(weights, scratch / weights.name)
    command = [python.with_name("yolo"), "export", f"model={scratch / weights.name}", f"format={kind}"]
    command += [f"imgsz={image_size}", *([f"data={data}", "quantize=8"] if precision == "INT8" else [])]
    cost = run_command(command, env=environment)
    (scratch / weights.name).unlink()
    scratch.rename(folder)
    return cost


def _own_copy(data: Path, folder: Path) -> Path:
    """Copy the dataset: that tool writes its caches beside the labels and wants absolute paths."""
    copy = folder / "data.yaml"
    if not copy.is_file():
        shutil.copytree(data.parent, folder, dirs_exist_ok=True)
        description = yaml.safe_load(data.read_text(encoding="utf-8"))
        copy.unlink(missing_ok=True)
        copy.write_text(yaml.safe_dump({**description, "path": str(folder.resolve())}), encoding="utf-8")
    return copy
