"""The GPU's letterbox: the kernel against ``Preprocessor``, the committed PTX against the kernel, and its launch."""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tests.fakes.cuda import GARBAGE, FakeCuda
from yolo12edge.errors import InputError
from yolo12edge.frame import Color
from yolo12edge.imaging.letterbox import plan_letterbox
from yolo12edge.manifest import InputSpec
from yolo12edge.preprocess import Preprocessor
from yolo12edge.runtimes.cuda.letterbox import PIXEL_BYTES, DeviceLetterbox

ROOT = Path(__file__).parents[2]
ASSETS = [ROOT / "runtimes" / "cuda" / f"letterbox_{kind}.ptx" for kind in ("float32", "uint8")]
HAS_TRITON = importlib.util.find_spec("triton") is not None
HAS_TORCH = importlib.util.find_spec("torch") is not None
without_triton = pytest.mark.skipif(not HAS_TRITON, reason="triton is not installed")

# Of several blocks of the kernel, which do not come out even.
FLOATS = InputSpec(name="images", batch=1, height=14, width=140, pad_value=7)
PIXELS = InputSpec(name="images", batch=1, height=14, width=140, dtype="uint8", layout="NHWC", color="BGR", pad_value=7)

# (height, width) of the frame, bytes of a row beyond its pixels, colour
CASES: list[tuple[int, int, int, Color]] = [
    (14, 140, 0, "bgr"),  # as it is
    (28, 280, 0, "bgr"),  # half, exactly
    (7, 70, 0, "bgr"),  # double, exactly
    (1, 1, 0, "bgr"),
    (1, 200, 5, "bgr"),
    (300, 1, 1, "bgr"),
    (2, 3, 0, "rgb"),
    (37, 251, 3, "bgr"),
    (481, 641, 13, "rgb"),
    (97, 33, 0, "bgra"),
    (200, 131, 8, "rgba"),
    (75, 800, 0, "gray"),
    (13, 139, 1, "gray"),
    (1080, 1920, 64, "bgr"),
]

# Runs a launch in Triton's interpreter: arrays.npz holds the source as bytes; arguments follow the kernel's order.
INTERPRET = """
import json, sys
import numpy as np, torch
from yolo12edge.runtimes.cuda import letterbox_kernel
cases = json.load(open(sys.argv[1] + "/cases.json"))
for index, (kernel, grid, rows, columns, shape, dtype, arguments) in enumerate(cases):
    source = torch.from_numpy(np.load(f"{sys.argv[1]}/{index}.npy"))
    output = torch.from_numpy(np.full(shape, 77, dtype))
    getattr(letterbox_kernel, kernel)[tuple(grid)](source, output, *arguments, ROWS=rows, COLUMNS=columns)
    np.save(f"{sys.argv[1]}/{index}.out.npy", output.numpy())
"""


def frame_of(height: int, width: int, more: int, color: Color, seed: int = 0) -> tuple[np.ndarray, np.ndarray, int]:
    """Return a frame, the bytes in which it lies, and its pitch."""
    step = PIXEL_BYTES[color]
    pitch = width * step + more
    raw = np.random.default_rng([seed, height, width]).integers(0, 256, height * pitch, np.uint8)
    frame = np.lib.stride_tricks.as_strided(raw, (height, width, step), (pitch, step, 1))
    return frame, raw, pitch


def recorded(spec: InputSpec, pitch: int, height: int, width: int, color: Color):
    """Launch on the fake, and return the recorded launch."""
    cuda = FakeCuda()
    device = cuda.open(0)
    device.activate()
    stream = device.stream()
    with DeviceLetterbox(device, spec) as letterbox:
        letterbox.launch(0x1000, pitch, height, width, color, 0x2000, stream)
    return next(call for call in cuda.calls if call[0] == "launch")


@without_triton
@pytest.mark.skipif(not HAS_TORCH, reason="Triton's interpreter needs torch")
@pytest.mark.slow
def test_kernel_makes_the_pictures_of_the_preprocessor(tmp_path):
    """To the bit, by the very arguments that a launch has."""
    import json

    cases, expected = [], []
    for index, (spec, case) in enumerate([(FLOATS, case) for case in CASES] + [(PIXELS, case) for case in CASES[7:]]):
        height, width, _, color = case
        frame, raw, pitch = frame_of(*case)
        _, name, grid, _, _, _, arguments = recorded(spec, pitch, height, width, color)
        facts = json.loads(ASSETS[spec.pixels].read_text().splitlines()[0].removeprefix("//"))
        values = [value for _, value in arguments[2:]]
        shape, dtype = spec.shape(1), spec.dtype
        cases.append((name, grid, facts["rows"], facts["columns"], shape, dtype, values))
        np.save(tmp_path / f"{index}.npy", raw)
        tensor, plan = Preprocessor(spec, pixels=spec.pixels)(frame, color)
        assert plan == plan_letterbox((height, width), (spec.height, spec.width))
        expected.append(tensor)
    (tmp_path / "cases.json").write_text(json.dumps(cases))
    subprocess.run(
        [sys.executable, "-c", INTERPRET, str(tmp_path)],
        check=True,
        cwd=ROOT,
        env={**os.environ, "TRITON_INTERPRET": "1", "OMP_NUM_THREADS": "1"},
    )
    for index, (case, tensor) in enumerate(zip(CASES + CASES[7:], expected, strict=True)):
        np.testing.assert_array_equal(np.load(tmp_path / f"{index}.out.npy"), tensor, err_msg=str(case))


def opencv_axis(target: int, source: int) -> tuple[np.ndarray, np.ndarray]:
    """First source pixel and fraction of each target pixel, as OpenCV's resize has them."""
    place = ((np.arange(target) + 0.5) * (1.0 / (target / source)) - 0.5).astype(np.float32)
    return np.floor(place).astype(np.int64), place - np.floor(place)


def kernel_axis(target: int, source: int) -> tuple[np.ndarray, np.ndarray]:
    """The same by the arithmetic of the kernel."""
    numerator = (2 * np.arange(target) + 1) * source - target
    whole = (numerator + 2 * target) // (2 * target) - 1
    rest = numerator - whole * 2 * target
    place = whole.astype(np.float32) + rest.astype(np.float32) / np.float32(2 * target)
    return np.floor(place).astype(np.int64), place - np.floor(place)


CAMERAS = """
    240x320 480x640 600x800 720x1280 768x1024 800x1280 1080x1920 1024x1280 1200x1920 1440x2560
    1536x2048 1944x2592 2160x3840 2464x3280 3000x4000 3040x4056
"""


def test_whole_numbers_give_the_weights_of_opencv():
    """For what cameras give and networks take; ties may round otherwise at odd pairs of sizes, by 1 / 2048."""
    networks = [(side, side) for side in range(160, 1312, 32)] + [(384, 640), (480, 640), (736, 1280)]
    cameras = [tuple(map(int, camera.split("x"))) for camera in CAMERAS.split()]
    for network in networks:
        for camera in [*cameras, *(camera[::-1] for camera in cameras)]:
            for target, source in zip(plan_letterbox(camera, network).resized_hw, camera, strict=True):
                for mine, theirs in zip(kernel_axis(target, source), opencv_axis(target, source), strict=True):
                    np.testing.assert_array_equal(
                        np.rint(mine * 2048), np.rint(theirs * 2048), err_msg=f"{target} {source}"
                    )
    differ, pairs = 0, 0
    for target, source in np.random.default_rng(3).integers(1, (1300, 5000), (3000, 2)).tolist():
        mine, theirs = kernel_axis(target, source), opencv_axis(target, source)
        weights = [np.rint((first + fraction.astype(np.float64)) * 2048) for first, fraction in (mine, theirs)]
        assert np.abs(weights[0] - weights[1]).max() <= 1
        differ += bool(np.any(weights[0] != weights[1]))
        pairs += 1
    assert differ < pairs / 100


@without_triton
def test_committed_ptx_is_what_the_kernel_gives(monkeypatch):
    import triton

    if tuple(map(int, triton.__version__.split(".")[:2])) != (3, 9):
        pytest.skip(f"the files were made by triton 3.9, and this is {triton.__version__}")
    spec = importlib.util.spec_from_file_location("maker", ROOT / "benchmarks" / "make_letterbox_ptx.py")
    maker = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(maker)
    made = maker.assets()
    assert set(made) == set(ASSETS)
    for path, text in made.items():
        assert path.read_text() == text, f"run benchmarks/make_letterbox_ptx.py: {path.name} is not of this kernel"


@pytest.mark.parametrize("path", ASSETS, ids=lambda path: path.stem)
def test_ptx_is_for_every_supported_driver(path):
    text = path.read_text()
    assert ".version 8.0\n" in text
    assert ".target sm_75\n" in text
    assert "/" not in re.sub(r"^//.*$", "", text, flags=re.MULTILINE)  # no paths, no comments


@pytest.mark.parametrize("architecture", ["sm_75", "sm_87", "sm_90", "sm_120"])
@pytest.mark.parametrize("path", ASSETS, ids=lambda path: path.stem)
def test_ptx_assembles(path, architecture, tmp_path):
    ptxas = shutil.which("ptxas") or shutil.which("ptxas", path="/usr/local/cuda/bin")
    if ptxas is None:
        pytest.skip("ptxas is not here")
    subprocess.run([ptxas, f"-arch={architecture}", path, "-o", tmp_path / "out.cubin"], check=True)


@pytest.mark.parametrize("spec", [FLOATS, PIXELS], ids=["floats", "pixels"])
@pytest.mark.parametrize("case", [CASES[0], CASES[7], CASES[9], CASES[12]], ids=str)
def test_a_launch_prepares_the_frame_once_the_stream_gets_there(spec, case):
    height, width, _, color = case
    frame, raw, pitch = frame_of(*case)
    cuda = FakeCuda()
    device = cuda.open(0)
    device.activate()
    stream, letterbox = device.stream(), DeviceLetterbox(device, spec)
    source, output = device.allocate(raw.nbytes), device.allocate(2 * letterbox.output_bytes)
    device.view(source, raw.nbytes)[...] = raw
    second = output + letterbox.output_bytes  # the second picture of a batch
    plan = letterbox.launch(source, pitch, height, width, color, second, stream)
    assert np.all(device.view(output, 2 * letterbox.output_bytes) == GARBAGE)
    device.synchronize(stream)
    tensor, expected = Preprocessor(spec, pixels=spec.pixels)(frame, color)
    assert plan == expected
    np.testing.assert_array_equal(device.view(second, tensor.shape, tensor.dtype), tensor)
    assert np.all(device.view(output, letterbox.output_bytes) == GARBAGE)
    letterbox.close()
    letterbox.close()
    device.free(source)
    device.free(output)
    device.destroy_stream(stream)
    device.close()
    cuda.check()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((0x1000, 30, 10, 10, "bgr16", 0x2000), "bgr16"),
        ((0x1000, 29, 10, 10, "bgr", 0x2000), "29 bytes"),
        ((0x1000, 30, 0, 10, "bgr", 0x2000), "sizes >= 1"),
        ((0x1000, 30, 10, -1, "bgr", 0x2000), "sizes >= 1"),
        ((0x1000, 2**31, 10, 10, "bgr", 0x2000), "too large"),
        ((0x1000, 30, 2**27, 10, "bgr", 0x2000), "too large"),
    ],
)
def test_what_cannot_be_a_frame_is_refused_before_the_launch(arguments, message):
    cuda = FakeCuda()
    device = cuda.open(0)
    device.activate()
    stream = device.stream()
    with DeviceLetterbox(device, FLOATS) as letterbox, pytest.raises(InputError, match=re.escape(message)):
        letterbox.launch(*arguments, stream)
    assert "launch" not in cuda.names()


def test_nothing_on_a_default_path_imports_the_kernel():
    code = "import sys, yolo12edge.runtimes.cuda, yolo12edge.runtimes.cuda.letterbox; print('triton' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout.strip() == "False"
