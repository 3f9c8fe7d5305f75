"""What TensorRT-RTX, which builds without a GPU, makes of the ONNX for TensorRT: does it build, how long, how large.

``python benchmarks/tensorrt_builds.py`` prints a Markdown table. All scales are built in every size, batch and
precision, scale n also in every form of attention; weights of the others are random. Nothing is run: this says nothing
about speed on a GPU. ``--scales n s`` limits it, ``--quick`` builds scale n twice, to try the code.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import version
from itertools import product
from pathlib import Path
from time import perf_counter, process_time

sys.path.insert(0, str(Path(__file__).parents[1]))  # this checkout, installed or not

import msgspec
from scales import SCALES, checkpoint_of, quantize, with_calibration

from yolo12edge.errors import Yolo12EdgeError
from yolo12edge.exporters import onnx_from_checkpoint
from yolo12edge.exporters.tensorrt_onnx import TensorRtForm, tensorrt_onnx
from yolo12edge.machine import machine_summary
from yolo12edge.runtimes.tensorrt_builder import build_plan

SIZES = (640, 1280)
BATCHES = ({"batch": 1}, {"batch": 8}, {"batch": 8, "min_batch": 1})


@dataclass(frozen=True, slots=True)
class Case:
    """One engine to build."""

    scale: str
    size: int
    int8: bool
    form: TensorRtForm

    @property
    def row(self) -> list[str]:
        """The words of the table."""
        form = self.form
        batch = str(form.batch) if form.min_batch is None else f"{form.min_batch}-{form.batch}"
        precision = f"int8 + {form.precision}" if self.int8 else form.precision
        return [self.scale, str(self.size), batch, precision, form.attention]


def main() -> None:
    """Build, printing each row when it is known."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scales", nargs="+", choices=SCALES, default=SCALES)
    parser.add_argument("--quick", action="store_true", help="two builds, to try the code")
    given = parser.parse_args()
    machine = machine_summary()
    print(f"{machine['cpu']}, {machine['cores_usable']} cores; ", end="")
    print(", ".join(f"{name} {version(name)}" for name in ("tensorrt_rtx", "onnx")) + "\n")
    print("| scale | px | batch | types | attention | seconds | CPU seconds | ONNX MB | engine MB | warnings |")
    print("| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |")
    for scale in given.scales:
        with tempfile.TemporaryDirectory() as folder:
            cases = list(quick_cases() if given.quick else cases_of(scale))
            for size in sorted({case.size for case in cases}):
                build_size(Path(folder), scale, size, [case for case in cases if case.size == size])


def quick_cases() -> Iterator[Case]:
    """Yield a float and an INT8 case."""
    yield Case("n", 640, False, TensorRtForm())
    yield Case("n", 640, True, TensorRtForm())


def cases_of(scale: str) -> Iterator[Case]:
    """Yield every size, batch and precision of a scale; of scale n also every form of attention and a few others."""
    attentions = ("native", "onnx") if scale == "n" else ("native",)
    for size, batch, (int8, precision), attention in product(
        SIZES, BATCHES, ((False, "fp32"), (False, "fp16"), (True, "fp16")), attentions
    ):
        yield Case(scale, size, int8, TensorRtForm(precision=precision, attention=attention, **batch))
    if scale != "n":
        return
    yield Case(scale, 640, True, TensorRtForm(precision="fp32"))
    yield Case(scale, 640, False, TensorRtForm(uint8=True, candidates=2048))


def build_size(folder: Path, scale: str, size: int, cases: list[Case]) -> None:
    """Export a scale at one image size and build its cases."""
    source = onnx_from_checkpoint(
        checkpoint_of(folder, scale, size), folder / f"{scale}-{size}", image_size=size, verify=False
    )
    model = source.model_file.read_bytes()
    quantized = quantize(folder, source, "tensorrt") if any(case.int8 for case in cases) else model
    for case in cases:
        manifest = with_calibration(source.manifest, "tensorrt") if case.int8 else source.manifest
        content, own = tensorrt_onnx(quantized if case.int8 else model, manifest, case.form)
        wall, cpu = perf_counter(), process_time()
        try:
            built = build_plan(content, msgspec.structs.replace(own, format="tensorrt-rtx"), "tensorrt-rtx")
        except Yolo12EdgeError as error:
            result = ["", "", f"{len(content) / 1e6:.1f}", "none", str(error)]
        else:
            said = Counter(built.warnings)
            result = [
                f"{perf_counter() - wall:.1f}",
                f"{process_time() - cpu:.1f}",
                f"{len(content) / 1e6:.1f}",
                f"{len(built.plan) / 1e6:.1f}",
                "; ".join(f"{text} ({count})" for text, count in said.items()) or "none",
            ]
        print("| " + " | ".join([*case.row, *result]) + " |", flush=True)


if __name__ == "__main__":
    main()
