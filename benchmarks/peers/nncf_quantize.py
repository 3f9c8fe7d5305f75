"""Quantize an ONNX model with NNCF's defaults; runs in the environment that has ``nncf`` and ``openvino``.

``python nncf_quantize.py JOB.json OUT`` writes models to OUT, as OpenVINO IR and as ONNX, and ``models.json``. The job:

- ``model``: the float ONNX file;
- ``images``: a .npy file, uint8, shape (n, 3, height, width), RGB network inputs before they are divided by 255;
- ``decode``: names of the last convolutions and of what follows them.

With nothing but its defaults NNCF quantizes the decoding of boxes too, so each model is also made with that left float.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any

import nncf
import numpy as np
import onnx
import openvino as ov

# What is left float besides, from nothing on, until OpenVINO's CPU plugin compiles the result.
TYPES = ([], ["MatMul"], ["MatMul", "Multiply", "Subtract"])


def main() -> None:
    """Quantize, and say of each result whether OpenVINO can run it."""
    job, out = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8")), Path(sys.argv[2])
    pixels = np.load(job["images"], mmap_mode="r")
    core = ov.Core()
    input_name = onnx.load(job["model"]).graph.input[0].name

    def quantize(model: Any, names: list[str], types: list[str]) -> Any:
        dataset = nncf.Dataset(
            range(len(pixels)), lambda i: {input_name: np.float32(pixels[i : i + 1]) / np.float32(255)}
        )
        ignored = nncf.IgnoredScope(names=names, types=types, validate=False)
        return nncf.quantize(model, dataset, preset=nncf.QuantizationPreset.MIXED, ignored_scope=ignored)

    models = []

    def note(file: Path, left: list[str], start: float, problem: str = "") -> None:
        seconds = time.perf_counter() - start
        models.append({"file": file.name, "float": left, "seconds": seconds, "problem": problem})

    for names in ([], job["decode"]):
        left = ["head outputs"] if names else []
        for types in TYPES:
            start = time.perf_counter()
            file = out / f"ir-{len(models)}.xml"
            ov.save_model(quantize(core.read_model(job["model"]), names, types), file, compress_to_fp16=False)
            problem = _problem(core, file)
            note(file, [*left, *types], start, problem)
            if not problem:
                break
        start = time.perf_counter()
        file = out / f"onnx-{len(models)}.onnx"
        onnx.save(quantize(onnx.load(job["model"]), names, []), file)
        note(file, left, start)
    (out / "models.json").write_text(json.dumps({"version": nncf.__version__, "models": models}, indent=2))


def _problem(core: ov.Core, file: Path) -> str:
    try:
        core.compile_model(core.read_model(file), "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    except RuntimeError as error:
        return " ".join(str(error).split())[-160:]
    return ""


if __name__ == "__main__":
    main()
