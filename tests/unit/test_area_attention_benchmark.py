"""The GPU benchmark's own arithmetic, on a CPU: shapes, layouts, the table, and what it does without a GPU."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "attention_gpu.py"


@pytest.fixture(scope="module")
def benchmark() -> Any:
    spec = importlib.util.spec_from_file_location("attention_gpu", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look there
    spec.loader.exec_module(module)
    yield module
    del sys.modules[spec.name]


def test_every_attention_of_yolo12_is_measured(benchmark: Any) -> None:
    found = benchmark.shapes()
    assert len(found) == len(set(found)) == 7 * 2 * 4
    assert {shape.run for shape in benchmark.shapes([640], [1])} == {400}
    nano = next(shape for shape in found if (shape.heads, shape.area, shape.grid, shape.images) == (2, 4, 40, 1))
    assert nano.scales == "n"
    assert nano.map_shape == (1, 192, 40, 40)
    assert nano.gflop == pytest.approx(0.164, abs=1e-3)  # 4 areas x 2 heads x 400 x 400 x 32, two products
    assert {shape.run for shape in benchmark.shapes([1280], [1])} == {1600}


def test_the_layouts_of_pytorch_are_this_projects_attention(benchmark: Any) -> None:
    """Through there and back with the one and the other way of attending, against a loop over heads and areas."""
    shape = benchmark.Shape("n", heads=2, area=4, grid=4, images=2)
    qkv = torch.randn(shape.map_shape, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    tokens = qkv.reshape(2, 3, 2, 32, 16)
    wanted = torch.empty(2, 2, 32, 16, dtype=torch.float64)
    for image in range(2):
        for head in range(2):
            for start in range(0, 16, 4):
                q, k, v = tokens[image, :, head, :, start : start + 4]
                wanted[image, head, :, start : start + 4] = v @ (q.T @ k).softmax(-1).T
    wanted = wanted.reshape(2, 64, 4, 4)
    q, k, v = benchmark.to_heads(qkv, shape)
    assert q.shape == (8, 2, 4, 32)
    fused = torch.nn.functional.scaled_dot_product_attention(q, k, v, scale=1.0)
    torch.testing.assert_close(benchmark.to_map(fused, shape), wanted)
    torch.testing.assert_close(benchmark.eager(qkv, shape), wanted)
    torch.testing.assert_close(benchmark.expected(qkv.float(), shape), wanted, atol=1e-5, rtol=1e-5)


def test_the_table_takes_the_fastest_of_each(benchmark: Any) -> None:
    shape = benchmark.Shape("n", heads=2, area=4, grid=40, images=1)
    row = benchmark.Row(shape)
    row.microseconds = {"Triton: 1": 20.0, "Triton: 3": 10.0, "SDPA: flash": 15.0, "SDPA: math": 99.0}
    row.microseconds |= {"SDPA alone: flash": 8.0, "eager": 50.0}
    row.errors = {"Triton: 1": 3e-4, "Triton: 3": 5e-4, "eager": 0.5}
    head, _, line = benchmark.table([row]).splitlines()
    cells = dict(
        zip((cell.strip() for cell in head.split("|")), (cell.strip() for cell in line.split("|")), strict=True)
    )
    assert cells["Triton µs (tile)"] == "10.0 (3)"
    assert cells["SDPA µs (backend)"] == "15.0 (flash)"
    assert cells["SDPA / Triton"] == "1.50"
    assert cells["SDPA alone / Triton"] == "0.80"
    assert cells["plugin µs"] == "-"
    assert cells["Triton TFLOP/s"] == "16.4"  # 0.164 GFLOP in 10 µs
    assert cells["largest error"] == "5.0e-04"
    assert not benchmark.wrong([row])


def test_a_kernel_that_is_wrong_is_told(benchmark: Any) -> None:
    row = benchmark.Row(benchmark.Shape("n", heads=2, area=4, grid=40, images=1))
    row.errors = {"Triton: 1": float("nan"), "plugin": 1e-2, "SDPA: math": 1.0, "Triton: 2": 1e-3}
    row.refused = ["plugin (no such library)", "SDPA: cudnn (no)"]
    lines = benchmark.wrong([row])
    assert [line.split(" at ")[0] for line in lines] == ["Triton: 1", "plugin", "plugin (no such library)"]


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_without_a_gpu_it_says_so(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, str(SCRIPT), "--out", str(tmp_path / "out.md")], capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert "There is no GPU" in done.stderr
    assert not (tmp_path / "out.md").exists()


@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU")
def test_on_a_gpu_the_kernels_and_the_clock_work(benchmark: Any) -> None:
    """The plugin's kernel, too, where its library is named."""
    pytest.importorskip("triton")
    plugin = os.environ.get("YOLO12EDGE_TENSORRT_PLUGIN")
    shape = benchmark.Shape("n", heads=2, area=4, grid=40, images=1)
    with torch.inference_mode():
        row = benchmark.measure(shape, rounds=3, plugin=Path(plugin) if plugin else None)
    assert not benchmark.wrong([row])
    assert row.best(benchmark.TRITON)[1] > 0
    assert row.best(benchmark.WHOLE)[1] > 0
