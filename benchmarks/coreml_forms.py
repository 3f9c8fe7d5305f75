"""What the Core ML exporter makes of every scale, evaluated without a Mac: differences, sizes, seconds.

``python benchmarks/coreml_forms.py`` prints a Markdown table: each form beside the FP32 ONNX in ONNX Runtime, on two
rendered scenes, as the reference evaluator computes it; and how far ONNX Runtime is from itself when it computes in
another order. Weights of all scales but n are random: such networks amplify rounding, the more the larger the image.
``--scales n s`` and ``--sizes 320`` limit it.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from importlib.metadata import version
from pathlib import Path
from time import perf_counter

sys.path.insert(0, str(Path(__file__).parents[1]))  # this checkout, installed or not

import numpy as np
from scales import SCALES, checkpoint_of, quantize, with_calibration

from yolo12edge.data.scenes import render_scene
from yolo12edge.exporters import onnx_from_checkpoint
from yolo12edge.exporters.coreml_package import CoremlForm, coreml_files, coreml_manifest
from yolo12edge.exporters.mil_evaluator import MilBackend
from yolo12edge.exporters.verify import feeds_of
from yolo12edge.machine import machine_summary
from yolo12edge.runtimes.ort_backend import OrtBackend

SIZES = (96, 320, 640)
FORMS = {
    "fp32": CoremlForm(precision="fp32"),
    "fp16": CoremlForm(),
    "W8A8": CoremlForm(),
    "palettized-6": CoremlForm(weights="palettized-6"),
}


def main() -> None:
    """Convert and evaluate, printing each row when it is known."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scales", nargs="+", choices=SCALES, default=SCALES)
    parser.add_argument("--sizes", nargs="+", type=int, choices=SIZES, default=SIZES)
    given = parser.parse_args()
    machine = machine_summary()
    print(f"{machine['cpu']}, {machine['cores_usable']} cores; ", end="")
    print(", ".join(f"{name} {version(name)}" for name in ("coremltools", "onnx", "torch")) + "\n")
    print("| scale | px | form | boxes differ, px | scores differ | rounding alone, px | MB | of FP32 | seconds |")
    print("| --- | --- | --- | --- | --- | --- | --- | --- | --- |")
    for scale in given.scales:
        for size in given.sizes:
            with tempfile.TemporaryDirectory() as folder:
                convert(Path(folder), scale, size)


def convert(folder: Path, scale: str, size: int) -> None:
    """Convert a scale at one image size to all forms."""
    source = onnx_from_checkpoint(checkpoint_of(folder, scale, size), folder / "onnx", image_size=size, verify=False)
    model = source.model_file.read_bytes()
    reference = OrtBackend(model, device="cpu")
    in_order = OrtBackend(model, device="cpu", optimize=False)
    whole = 0
    for name, form in FORMS.items():
        int8 = name == "W8A8"
        content = quantize(folder, source, "coreml") if int8 else model
        begin = perf_counter()
        own = coreml_manifest(with_calibration(source.manifest, "coreml") if int8 else source.manifest, form)
        files = coreml_files(content, own, form)
        seconds = perf_counter() - begin
        backend = MilBackend(files)
        worst = {"boxes": 0.0, "scores": 0.0, "rounding": 0.0}
        for index in range(2):
            frame = render_scene(seed=0, split="verify", index=index, size=size).image
            expected = reference.infer(feeds_of(source.manifest.input, frame)[0])
            found = backend.infer(feeds_of(own.input, frame)[0])
            other = in_order.infer(feeds_of(source.manifest.input, frame)[0])
            for key, one, two in (
                ("boxes", expected["boxes"], found["boxes"]),
                ("scores", expected["scores"], found["scores"]),
                ("rounding", expected["boxes"], other["boxes"]),
            ):
                worst[key] = max(worst[key], float(np.abs(one - two).max()))
        bytes_ = sum(map(len, files.values()))
        whole = whole or bytes_
        row = [scale, str(size), name, *(f"{value:.2g}" for value in worst.values()), f"{bytes_ / 1e6:.2f}"]
        print("| " + " | ".join([*row, f"{bytes_ / whole:.3f}", f"{seconds:.1f}"]) + " |", flush=True)


if __name__ == "__main__":
    main()
