"""The C++ plugin: its kernel run on a CPU, the library built by nvcc, and what it answers TensorRT.

The kernel's own lines are compiled over stand-ins for what only a GPU has, which show what PTX says of fragments,
asynchronous copies and barriers. The headers of TensorRT are the user's: ``TENSORRT_INCLUDE_DIR`` says where.
"""

from __future__ import annotations

import ctypes
import os
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

from yolo12edge.errors import BackendError, ExportError, InputError
from yolo12edge.exporters.area_attention import build_plugin
from yolo12edge.exporters.area_attention.build_plugin import PLUGIN_FOLDER
from yolo12edge.exporters.area_attention.shapes import YOLO12_ATTENTION

NATIVE = Path(__file__).parents[1] / "native" / "area_attention"
COMPILER = shutil.which("g++")
NVCC = shutil.which("nvcc")
HEADERS = os.environ.get("TENSORRT_INCLUDE_DIR", "")

needs_compiler = pytest.mark.skipif(COMPILER is None, reason="g++ is not installed")
needs_toolkit = pytest.mark.skipif(
    None in (COMPILER, NVCC, shutil.which("cmake")) or not HEADERS,
    reason="nvcc, cmake or g++ is not installed, or TENSORRT_INCLUDE_DIR is not set",
)


def compiled(source: Path, out: Path, *options: str) -> Path:
    done = subprocess.run([str(COMPILER), str(source), "-o", str(out), *options], capture_output=True, text=True)
    if "unrecognized command" in done.stderr or "_Float16" in done.stderr:
        pytest.skip("this g++ is too old")
    assert done.returncode == 0, done.stderr
    return out


@pytest.fixture(scope="module")
def emulated(tmp_path_factory: pytest.TempPathFactory) -> ctypes.CDLL:
    out = tmp_path_factory.mktemp("emulation") / "emulation.so"
    options = ("-std=c++20", "-O2", "-shared", "-fPIC", "-Wno-unknown-pragmas", f"-I{PLUGIN_FOLDER}")
    return ctypes.CDLL(str(compiled(NATIVE / "emulation.cpp", out, *options)))


def attention(qkv: np.ndarray, heads: int, area: int) -> np.ndarray:
    images, channels, tokens = qkv.shape
    parts = qkv.astype(np.float64).reshape(images, 3, heads, 32, area, tokens // area)
    q, k, v = parts.transpose(1, 0, 4, 2, 5, 3)
    logits = q @ k.swapaxes(-1, -2)
    weights = np.exp(logits - logits.max(-1, keepdims=True))
    out = weights / weights.sum(-1, keepdims=True) @ v
    return out.transpose(0, 2, 4, 1, 3).reshape(images, channels // 3, tokens)


def emulate(
    library: ctypes.CDLL, qkv: np.ndarray, heads: int, area: int, *, aligned: bool, other_order: bool
) -> np.ndarray:
    images, channels, tokens = qkv.shape
    size, beside = images * channels // 3 * tokens, 1024
    around = np.full(size + 2 * beside, 7, np.float16)
    out = around[beside : beside + size]
    out[:] = np.nan
    addresses = (ctypes.c_void_p(array.ctypes.data) for array in (qkv, out))
    library.emulate(*addresses, images, heads, area, tokens // area, int(aligned), int(other_order))
    assert set(around[:beside]) | set(around[beside + size :]) == {7}, "written beside the map"
    return out.reshape(images, channels // 3, tokens)


CASES = {
    "400 tokens, no rest": (1, 1, 1, 400, "random"),
    "areas and heads, two images": (2, 2, 4, 104, "random"),
    "100 tokens": (1, 2, 1, 100, "random"),
    "49 tokens": (1, 1, 1, 49, "random"),
    "one token": (1, 1, 1, 1, "random"),
    "one copy of 16 bytes": (1, 2, 3, 8, "random"),
    "one more than a tile": (1, 1, 1, 81, "random"),
    "three tiles": (1, 1, 1, 240, "random"),
    "large logits": (1, 1, 1, 168, "large"),
    "all logits equal": (1, 1, 1, 168, "equal"),
    "rising logits": (1, 1, 1, 240, "rising"),
}


def qkv_map(kind: str, shape: tuple[int, int, int]) -> np.ndarray:
    qkv = np.random.default_rng(0).standard_normal(shape)
    channels = shape[1] // 3
    if kind == "large":
        qkv[:, : 2 * channels] *= 100
    elif kind == "equal":
        qkv[:, :channels] = 0
    elif kind == "rising":
        qkv[:, :channels] = 1
        qkv[:, channels : 2 * channels] = (qkv[:, channels : 2 * channels] + np.arange(shape[2]) / 8) / 32
    return qkv.astype(np.float16)


@needs_compiler
@pytest.mark.parametrize(
    ("name", "aligned"), [(name, aligned) for name, case in CASES.items() for aligned in {False, case[3] % 8 == 0}]
)
@pytest.mark.parametrize("other_order", [False, True], ids=["forward", "backward"])
def test_the_kernel_computes_attention(emulated: ctypes.CDLL, name: str, aligned: bool, other_order: bool) -> None:
    images, heads, area, run, kind = CASES[name]
    qkv = qkv_map(kind, (images, heads * 96, area * run))
    out = emulate(emulated, qkv, heads, area, aligned=aligned, other_order=other_order)
    wanted = attention(qkv, heads, area)
    assert np.abs(out - wanted).max() <= 2e-3 * np.abs(wanted).max()


@needs_compiler
@pytest.mark.slow
@pytest.mark.parametrize("kind", sorted({kind for kinds in YOLO12_ATTENTION.values() for kind in kinds}))
def test_the_last_head_and_area_of_every_kind(emulated: ctypes.CDLL, kind: tuple[int, int, int]) -> None:
    """All heads and areas are launched, at 64 tokens each: what each one reads and writes shows."""
    heads, area, _ = kind
    qkv = qkv_map("random", (1, heads * 96, area * 16))
    out = emulate(emulated, qkv, heads, area, aligned=True, other_order=False)
    assert np.abs(out - attention(qkv, heads, area)).max() <= 4e-3


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("plugin")
    return build_plugin(out, include_dir=HEADERS, architectures=["75", "87"])


@needs_toolkit
@pytest.mark.slow
def test_the_library_needs_nothing_of_tensorrt(library: Path) -> None:
    def symbols(*options: str) -> set[str]:
        done = subprocess.run(["nm", "-DC", *options, str(library)], capture_output=True, text=True, check=True)
        return {line.split(maxsplit=2 if "--defined-only" in options else 1)[-1] for line in done.stdout.splitlines()}

    assert {name for name in symbols("--defined-only") if not name.startswith("_")} == {
        "getCreators",
        "setLoggerFinder",
        "yolo12edge_area_attention",
    }
    assert not [name for name in symbols("--undefined-only") if "nvinfer" in name.lower() or "createInfer" in name]


@needs_toolkit
@pytest.mark.slow
def test_the_kernel_uses_tensor_cores_and_no_local_memory(tmp_path: Path) -> None:
    for capability, multiply in ((75, "mma.sync.aligned.m16n8k8"), (87, "mma.sync.aligned.m16n8k16")):
        ptx = tmp_path / "kernel.ptx"
        source = str(PLUGIN_FOLDER / "area_attention_kernel.cu")
        options = ["-std=c++17", "-O3", f"-arch=sm_{capability}"]
        subprocess.run([str(NVCC), *options, "-ptx", source, "-o", str(ptx)], check=True)
        assert multiply in ptx.read_text()
        command = [str(NVCC), *options, "-cubin", "-Xptxas", "-v", source, "-o", str(tmp_path / "kernel.cubin")]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        spills = [
            int(line.split(" bytes spill stores")[0].split()[-1])
            for line in done.stderr.splitlines()
            if "spill" in line
        ]
        assert len(spills) == 2
        assert max(spills) == 0


@needs_toolkit
@pytest.mark.slow
def test_the_plugin_answers_tensorrt(library: Path, tmp_path: Path) -> None:
    harness = tmp_path / "harness"  # by nvcc, which knows where CUDA's headers are
    options = ["-std=c++17", f"-isystem={HEADERS}", "-Xcompiler=-Wno-deprecated-declarations", "-ldl"]
    subprocess.run([str(NVCC), str(NATIVE / "harness.cpp"), "-o", str(harness), *options], check=True)
    done = subprocess.run([str(harness), str(library)], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    lines = done.stdout.splitlines()
    answers: dict[str, list[str]] = {}
    for line in lines:
        name, _, value = line.partition(":")
        answers.setdefault(name, []).append(value.strip())
    assert answers["creators"] == ["1"]
    assert answers["interface"] == ["PLUGIN CREATOR_V3ONE"]
    assert answers["creator"] == answers["plugin"] == ["yolo12edge AreaAttention 1"]
    assert answers["field"] == ["heads 5", "area 5"]  # 32-bit integers
    assert answers["without a logger"] == answers["no fields at all"] == ["refused"]
    assert answers["bad fields"] == ["refused"] * 6
    assert answers["serialised"] == ["heads 2 1", "area 4 1"]
    assert answers["from what was serialised"] == ["made"]
    assert answers["outputs"] == answers["type"] == ["1"]
    assert answers["shape"] == ["same 64 same same"]
    assert answers["formats"] == ["1 1 0 0 0"]
    assert answers["configured"] == ["0", "0", "-1", "-1", "-1"]
    assert answers["no images"] == answers["workspace"] == ["0"]
    assert answers["attached"] == ["1"]
    assert lines.count(" refused") == 2  # shapes that do not fit, after what the log says of them
    assert sum("must have 3 * heads * 32 channels" in line for line in lines) == 3


def test_what_is_missing_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InputError, match=r"no NvInferRuntime\.h"):
        build_plugin(tmp_path, include_dir=tmp_path, architectures=["87"])
    (tmp_path / "NvInferRuntime.h").write_text("#error not TensorRT\n")
    for architectures in ([], ["sm_87"], ["87;90"]):
        with pytest.raises(InputError, match="architectures"):
            build_plugin(tmp_path, include_dir=tmp_path, architectures=architectures)
    if COMPILER and NVCC and shutil.which("cmake"):
        with pytest.raises(ExportError, match="not TensorRT"):
            build_plugin(tmp_path, include_dir=tmp_path, architectures=["87"])
        assert not list(tmp_path.glob("*.so"))
    monkeypatch.setattr(shutil, "which", lambda name, **_: None)
    with pytest.raises(BackendError, match="cmake is not on the PATH"):
        build_plugin(tmp_path, include_dir=tmp_path, architectures=["87"])
