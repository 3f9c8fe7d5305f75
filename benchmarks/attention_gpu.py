"""Area attention on an NVIDIA GPU: this project's kernels beside PyTorch's attention, at the shapes of YOLO12.

``python benchmarks/attention_gpu.py`` prints a Markdown table and writes it to ``--out``. All contenders start from the
qkv map that the convolution before them writes, and end with the map that the next one reads; PyTorch's attention is
also timed alone, with the transposes done before. They take turns, round by round, each as a CUDA graph of many
launches, so that no launch is waited for; the input stays in the L2 cache if it fits, as behind a convolution that has
just written it.
"""

from __future__ import annotations

import argparse
import ctypes
import os
import statistics
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

sys.path.insert(0, str(Path(__file__).parents[1]))  # this checkout, installed or not

from yolo12edge.exporters.area_attention.shapes import HEAD_CHANNELS, YOLO12_ATTENTION, token_grid
from yolo12edge.exporters.area_attention.tiles import TILES

if TYPE_CHECKING:
    import torch

_SIDES = (640, 1280)
_BATCHES = (1, 4, 8, 32)
_LARGEST_ERROR = 2e-3
_GRAPH_MS = 1.0
"""About how long a graph shall run: long beside what it costs to start one."""

_NONE = "-"

TRITON, PLUGIN, EAGER = "Triton", "plugin", "eager"
WHOLE, ALONE = "SDPA", "SDPA alone"


@dataclass(frozen=True, slots=True)
class Shape:
    """One attention of one model: ``grid`` x ``grid`` tokens, cut into ``area`` runs."""

    scales: str
    heads: int
    area: int
    grid: int
    images: int

    @property
    def run(self) -> int:
        """Tokens that attend to each other."""
        return self.grid * self.grid // self.area

    @property
    def map_shape(self) -> tuple[int, int, int, int]:
        """Of the qkv map."""
        return self.images, 3 * self.heads * HEAD_CHANNELS, self.grid, self.grid

    @property
    def gflop(self) -> float:
        """Of both products."""
        return 4 * self.images * self.area * self.heads * self.run**2 * HEAD_CHANNELS / 1e9


@dataclass(slots=True)
class Row:
    """What was measured at one shape.

    Attributes:
        shape: Which.
        microseconds: Median by contender; variants of one are told apart by what follows a colon.
        errors: Largest error against float64 over the largest value, by contender, of one image.
        refused: Contenders that do not take this shape, or whose library is not there.
    """

    shape: Shape
    microseconds: dict[str, float] = field(default_factory=dict)
    errors: dict[str, float] = field(default_factory=dict)
    refused: list[str] = field(default_factory=list)

    def best(self, contender: str) -> tuple[str, float] | None:
        """Return the fastest variant of a contender and its time."""
        times = {name: time for name, time in self.microseconds.items() if name.split(":")[0] == contender}
        return min(times.items(), key=lambda item: item[1]) if times else None


def shapes(sides: Sequence[int] = _SIDES, batches: Sequence[int] = _BATCHES) -> list[Shape]:
    """Return every distinct attention of YOLO12, at the image sizes and batches given."""
    scales: dict[tuple[int, int, int], str] = {}
    for scale, kinds in YOLO12_ATTENTION.items():
        for kind in kinds:
            scales[kind] = scales.get(kind, "") + scale
    return [
        Shape(names, heads, area, token_grid(side, stride), images)
        for side in sides
        for (heads, area, stride), names in sorted(scales.items(), key=lambda item: (-item[0][1], item[0][0]))
        for images in batches
    ]


def to_heads(qkv: torch.Tensor, shape: Shape) -> tuple[torch.Tensor, ...]:
    """Return q, k and v as PyTorch's attention wants them: (images * areas, heads, run, 32), contiguous."""
    parts = qkv.reshape(shape.images, 3, shape.heads, HEAD_CHANNELS, shape.area, shape.run)
    parts = parts.permute(1, 0, 4, 2, 5, 3).contiguous()
    return parts.reshape(3, shape.images * shape.area, shape.heads, shape.run, HEAD_CHANNELS).unbind(0)


def to_map(out: torch.Tensor, shape: Shape) -> torch.Tensor:
    """Return the map that the convolution after the attention reads."""
    out = out.reshape(shape.images, shape.area, shape.heads, shape.run, HEAD_CHANNELS).permute(0, 2, 4, 1, 3)
    return out.reshape(shape.images, shape.heads * HEAD_CHANNELS, shape.grid, shape.grid)


def eager(qkv: torch.Tensor, shape: Shape) -> torch.Tensor:
    """Attention as three operations that store all logits."""
    q, k, v = to_heads(qkv, shape)
    return to_map((q @ k.transpose(-1, -2)).softmax(-1) @ v, shape)


def expected(qkv: torch.Tensor, shape: Shape) -> torch.Tensor:
    """Attention in double precision."""
    return eager(qkv.double(), shape)


def contenders(qkv: torch.Tensor, shape: Shape, plugin: Path | None) -> dict[str, Callable[[], torch.Tensor]]:
    """Return what is to be timed, by name."""
    import torch
    from torch.nn.attention import SDPBackend, sdpa_kernel

    from yolo12edge.exporters.area_attention.kernel import area_attention

    found: dict[str, Callable[[], torch.Tensor]] = {EAGER: lambda: eager(qkv, shape)}
    for number, tile in TILES.items():
        found[f"{TRITON}: {number}"] = lambda tile=tile: area_attention(qkv, shape.heads, shape.area, tile=tile)
    heads = to_heads(qkv, shape)
    attend = torch.nn.functional.scaled_dot_product_attention
    backends = {
        "flash": "FLASH_ATTENTION",
        "efficient": "EFFICIENT_ATTENTION",
        "cudnn": "CUDNN_ATTENTION",
        "math": "MATH",
    }
    for name, member in backends.items():
        backend = getattr(SDPBackend, member)

        def whole(backend: SDPBackend = backend) -> torch.Tensor:
            with sdpa_kernel(backend):
                return to_map(attend(*to_heads(qkv, shape), scale=1.0), shape)

        def alone(backend: SDPBackend = backend) -> torch.Tensor:
            with sdpa_kernel(backend):
                return attend(*heads, scale=1.0)

        found[f"{WHOLE}: {name}"], found[f"{ALONE}: {name}"] = whole, alone
    if plugin is not None:
        found[PLUGIN] = _plugin(plugin, qkv, shape)
    return found


def _plugin(library: Path, qkv: torch.Tensor, shape: Shape) -> Callable[[], torch.Tensor]:
    import torch

    launch = ctypes.CDLL(str(library)).yolo12edge_area_attention
    launch.argtypes = [ctypes.c_void_p, ctypes.c_void_p, *[ctypes.c_int] * 4, ctypes.c_void_p]
    out = qkv.new_empty(shape.images, shape.heads * HEAD_CHANNELS, shape.grid, shape.grid)

    def call() -> torch.Tensor:
        stream = torch.cuda.current_stream().cuda_stream
        sizes = (shape.images, shape.heads, shape.area, shape.run)
        status = launch(qkv.data_ptr(), out.data_ptr(), *sizes, stream)
        if status:
            raise RuntimeError(f"the plugin's kernel was not launched: CUDA error {status}")
        return out

    return call


def measure(shape: Shape, *, rounds: int, plugin: Path | None) -> Row:
    """Check every contender on one image, then time all of them in turns."""
    import torch

    row, generator = Row(shape), torch.Generator("cuda").manual_seed(0)
    qkv = torch.randn(shape.map_shape, generator=generator, device="cuda", dtype=torch.float16)
    graphs: dict[str, tuple[torch.cuda.CUDAGraph, int]] = {}
    wanted = expected(qkv[:1], Shape(shape.scales, shape.heads, shape.area, shape.grid, 1))
    for name, call in contenders(qkv, shape, plugin).items():
        try:
            out = call()
            if not name.startswith(ALONE):  # that one's result has another layout
                row.errors[name] = float((out[:1].double() - wanted).abs().max() / wanted.abs().max())
            graphs[name] = _graph(call)
        except (RuntimeError, torch.OutOfMemoryError) as error:
            row.refused.append(f"{name} ({str(error).splitlines()[0]})")
    samples: dict[str, list[float]] = {name: [] for name in graphs}
    for _ in range(rounds):
        for name, (graph, launches) in graphs.items():
            samples[name].append(_time_ms(graph.replay) / launches * 1e3)
    row.microseconds = {name: statistics.median(times) for name, times in samples.items()}
    return row


def _time_ms(call: Callable[[], object]) -> float:
    import torch

    begin, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
    begin.record()
    call()
    end.record()
    end.synchronize()
    return float(begin.elapsed_time(end))


def _graph(call: Callable[[], torch.Tensor]) -> tuple[torch.cuda.CUDAGraph, int]:
    """Record as many calls as take about a millisecond."""
    import torch

    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for _ in range(3):
            call()
    torch.cuda.current_stream().wait_stream(stream)
    launches = 1
    while True:
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            for _ in range(launches):
                call()
        graph.replay()  # the first one uploads it
        took = min(_time_ms(graph.replay) for _ in range(3))
        if took >= _GRAPH_MS or launches >= 256:
            return graph, launches
        launches = min(256, max(2 * launches, int(launches * _GRAPH_MS / max(took, 1e-3))))


def table(rows: Sequence[Row]) -> str:
    """Return the Markdown table."""
    head = ["model", "heads x areas x tokens", "images", "Triton µs (tile)", "plugin µs", "SDPA µs (backend)"]
    head += ["SDPA alone µs", "eager µs", "SDPA / Triton", "SDPA alone / Triton", "Triton TFLOP/s", "largest error"]
    lines = [head, ["---"] * len(head)]
    for row in rows:
        shape, best = row.shape, row.best(TRITON)

        def cell(contender: str, row: Row = row) -> str:
            found = row.best(contender)
            if found is None:
                return _NONE
            variant = found[0].partition(": ")[2]
            return f"{found[1]:.1f} ({variant})" if variant else f"{found[1]:.1f}"

        def ratio(contender: str, row: Row = row, best: tuple[str, float] | None = best) -> str:
            found = row.best(contender)
            return _NONE if found is None or best is None else f"{found[1] / best[1]:.2f}"

        own = [error for name, error in row.errors.items() if name.split(":")[0] in (TRITON, PLUGIN)]
        lines.append(
            ["/".join(shape.scales), f"{shape.heads} x {shape.area} x {shape.run}", str(shape.images)]
            + [cell(name) for name in (TRITON, PLUGIN, WHOLE, ALONE, EAGER)]
            + [ratio(WHOLE), ratio(ALONE), _NONE if best is None else f"{shape.gflop / best[1] * 1e3:.1f}"]
            + [f"{max(own):.1e}" if own else _NONE]
        )
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def wrong(rows: Sequence[Row]) -> list[str]:
    """Return a line for every kernel of this project whose error is too large, or that did not run at all."""
    lines = []
    for row in rows:
        for name, error in row.errors.items():
            if name.split(":")[0] in (TRITON, PLUGIN) and not error <= _LARGEST_ERROR:
                lines.append(f"{name} at {row.shape}: error {error:.1e}, allowed {_LARGEST_ERROR:.0e}")
        lines += [f"{name} at {row.shape}" for name in row.refused if name.startswith((TRITON, PLUGIN))]
    return lines


def main() -> int:
    """Measure, print and write; 1 if a kernel is wrong, 2 if there is no GPU."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("attention.md"), help="where the table goes")
    parser.add_argument("--rounds", type=int, default=15, help="turns; the median counts")
    parser.add_argument("--sides", type=int, nargs="+", default=list(_SIDES), help="image sizes")
    parser.add_argument("--batches", type=int, nargs="+", default=list(_BATCHES), help="numbers of images")
    named = os.environ.get("YOLO12EDGE_TENSORRT_PLUGIN")
    parser.add_argument("--plugin", type=Path, default=Path(named) if named else None, help="the C++ plugin's library")
    options = parser.parse_args()
    if options.plugin is not None and not options.plugin.is_file():
        parser.error(f"there is no library {options.plugin}")
    import torch

    if not torch.cuda.is_available():
        print("There is no GPU that PyTorch can use: nothing was measured.", file=sys.stderr)
        return 2
    import triton

    rows = []
    with torch.inference_mode():
        for shape in shapes(options.sides, options.batches):
            rows.append(measure(shape, rounds=options.rounds, plugin=options.plugin))
            print(table(rows[-1:]).splitlines()[-1], flush=True)
    chip = torch.cuda.get_device_properties(0)
    versions = f"PyTorch {torch.__version__}, Triton {triton.__version__}"
    about = f"{chip.name}, sm_{chip.major}{chip.minor}, {chip.multi_processor_count} multiprocessors; {versions}."
    refused = sorted({name for row in rows for name in row.refused})
    notes = "".join(f"\n- not measured somewhere: {name}" for name in refused)
    problems = wrong(rows)
    page = f"{about}\n\n{table(rows)}\n{notes}\n" + "".join(f"\nWRONG: {line}" for line in problems)
    options.out.write_text(page)
    print(f"\n{page}")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
