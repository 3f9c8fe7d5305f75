"""cuda-bindings: what really reaches libcuda, by a false one, and what its errors become."""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from yolo12edge.errors import BackendError
from yolo12edge.runtimes.cuda import bindings_driver, failures
from yolo12edge.runtimes.cuda.bindings_driver import BindingsCuda, _call

ROOT = Path(__file__).parents[2]

try:
    INSTALLED = importlib.util.find_spec("cuda.bindings") is not None
except ImportError:
    INSTALLED = False
installed = pytest.mark.skipif(not INSTALLED, reason="cuda-bindings is not installed")

OPEN = """
import sys
from yolo12edge.errors import BackendError
from yolo12edge.runtimes.cuda.bindings_driver import BindingsCuda
def run():
    cuda = BindingsCuda()
    assert cuda.has_graphs and cuda.name.startswith("cuda-bindings 1")
    device = cuda.open(1)
    device.activate()
    device.activate()
    assert device.activate() == 0
    device.restore(0)
"""
LIFE = (
    OPEN
    + """
    import ctypes
    device.restore(0xABC0)
    before = device.activate()
    assert before == 0xABC0
    print(cuda.device_count(), device.facts, device.facts.architecture, device.free_bytes())
    address, stream = device.allocate(64), device.stream()
    plain, mapped = device.allocate_host(32, mapped=False), device.allocate_host(16, mapped=True)
    assert plain.device_address == 0 and mapped.device_address == mapped.address and mapped.size == 16
    ctypes.memset(plain.address, 7, 32)
    device.copy_to_device(address + 8, plain.address, 16, stream)
    device.copy_to_host(plain.address, address, 32, stream)
    device.synchronize(stream)
    assert ctypes.string_at(plain.address, 32) == bytes(8) + bytes([7] * 16) + bytes(8)
    first = device.event()
    device.record(first, 1)
    device.wait(stream, first)
    print(device.elapsed_ms(first, first))
    print([device.reaches(address) for address in (0x10, 0x100010, 0x200010, 0x300010)])
    device.begin_capture(stream)
    graph = device.end_capture(stream)
    device.launch_graph(graph, stream)
    module = device.load_module(b".version 8.0")
    function = device.function(module, "letterbox")
    arguments = [("ptr", 0x7FFFFFFF12345678), ("i32", -5), ("f32", 0.25)]
    device.launch(function, grid=(1, 2, 3), block=(4, 5, 6), shared=7, stream=stream, arguments=arguments)
    device.unload_module(module)
    device.destroy_graph(graph)
    device.destroy_event(first)
    device.destroy_stream(stream)
    device.free_host(mapped)
    device.free_host(plain)
    device.free(address)
    device.close()
    device.close()
run()
"""
)
EXPECTED = """
cuInit 0
cuDeviceGetCount
cuDeviceGet 1
cuDevicePrimaryCtxRetain 41
cuCtxSetCurrent 0xc029
cuCtxSetCurrent 0xabc0
cuCtxSetCurrent 0xc029
cuDeviceGetCount
2 DeviceFacts(name='Fake Orin 41', compute_capability=(8, 7), integrated=True, total_bytes=8589934592, driver_cuda=(12, 6)) sm_87 123456
cuMemAlloc 64
cuStreamCreate flags 1
cuMemHostAlloc 32 flags 1
cuMemHostAlloc 16 flags 3
cuMemHostGetDevicePointer 0
cuMemcpyHtoDAsync 16 0x5000
cuMemcpyDtoHAsync 32 0x5000
cuStreamSynchronize 0x5000
cuEventCreate flags 0
cuEventRecord 0xe000 0x1
cuStreamWaitEvent 0x5000 0xe000 0
cuEventElapsedTime 0xe000 0xe000
1.5
cuPointerGetAttribute 9 10
cuPointerGetAttribute 9 100010
cuPointerGetAttribute 8 100010
cuPointerGetAttribute 9 200010
cuPointerGetAttribute 8 200010
cuPointerGetAttribute 9 300010
[True, False, True, False]
cuStreamBeginCapture 0x5000 mode 1
cuStreamEndCapture 0x5000
cuGraphInstantiate 0x6000 flags 0
cuGraphDestroy 0x6000
cuGraphLaunch 0x6100 0x5000
image [.version 8.0] options 5 6=8192
cuModuleLoadDataEx
cuModuleGetFunction 0x4000 letterbox
cuLaunchKernel 0x4100 grid 1 2 3 block 4 5 6 shared 7 stream 0x5000 parameters 7fffffff12345678 -5 0.25 extra 0
cuModuleUnload 0x4000
cuGraphExecDestroy 0x6100
cuEventDestroy 0xe000
cuStreamDestroy 0x5000
cuMemFreeHost
cuMemFreeHost
cuMemFree
cuCtxSetCurrent (nil)
cuDevicePrimaryCtxRelease 41
"""  # noqa: E501  # what was written down


@pytest.fixture(scope="module")
def libcuda(tmp_path_factory):
    """The folder of a false libcuda."""
    compiler = shutil.which("cc")
    if compiler is None or sys.platform != "linux":
        pytest.skip("a C compiler on Linux is needed")
    folder = tmp_path_factory.mktemp("libcuda")
    source = ROOT / "tests" / "fakes" / "libcuda.c"
    subprocess.run([compiler, "-shared", "-fPIC", source, "-o", folder / "libcuda.so.1"], check=True)
    return folder


def run(libcuda: Path, code: str, fail: str = "", wait: str = "0") -> str:
    environment = {
        **os.environ,
        "LD_LIBRARY_PATH": str(libcuda),
        "FAKE_CUDA_FAIL": fail,
        "FAKE_CUDA_WAIT": wait,
        "PYTHONUNBUFFERED": "1",
    }
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, env=environment, check=False
    )
    assert done.returncode == 0, done.stderr
    return "\n".join(line.rstrip() for line in done.stdout.splitlines())


@installed
def test_a_life_as_libcuda_sees_it(libcuda):
    assert run(libcuda, LIFE).strip() == EXPECTED.strip()


CATCH = """
try:
    run()
except BackendError as error:
    print("CAUGHT", error)
else:
    print("NOTHING")
"""


@installed
@pytest.mark.parametrize(
    ("fail", "message"),
    [
        (
            "cuInit=100",
            "CUDA cannot start: CUDA_ERROR_NO_DEVICE (what the driver says). Remedy: look at what nvidia-smi",
        ),
        ("cuInit=3", "CUDA_ERROR_NOT_INITIALIZED"),
        ("cuInit=34", "CUDA_ERROR_STUB_LIBRARY"),
        ("cuDevicePrimaryCtxRetain=46", "--compute-mode=DEFAULT"),
        ("cuMemAlloc=2", "CUDA cannot allocate 64 bytes: CUDA_ERROR_OUT_OF_MEMORY"),
        ("cuMemHostGetDevicePointer=1", "CUDA_ERROR_INVALID_VALUE"),
        (
            "cuStreamSynchronize=700",
            "CUDA_ERROR_ILLEGAL_ADDRESS (what the driver says). Remedy: start the process anew",
        ),
        ("cuStreamEndCapture=901", "CUDA_ERROR_STREAM_CAPTURE_INVALIDATED"),
        (
            "cuModuleLoadDataEx=222",
            "CUDA_ERROR_UNSUPPORTED_PTX_VERSION (ptxas: line 3 is wrong). Remedy: install a newer",
        ),
        ("cuLaunchKernel=701", "CUDA_ERROR_LAUNCH_OUT_OF_RESOURCES"),
    ],
)
def test_every_status_is_looked_at(libcuda, fail, message):
    said = run(libcuda, LIFE.removesuffix("run()\n") + CATCH, fail)
    assert "CAUGHT" in said
    assert message in said


@installed
def test_mapped_memory_that_cannot_be_mapped_is_given_back(libcuda):
    said = run(libcuda, LIFE.removesuffix("run()\n") + CATCH, "cuMemHostGetDevicePointer=1")
    assert said.splitlines()[-2] == "cuMemFreeHost"


@installed
def test_there_is_no_such_device(libcuda):
    said = run(libcuda, OPEN.replace("open(1)", "open(2)") + CATCH)
    assert "CAUGHT there is no CUDA device 2. Expected: 0 to 1." in said


@installed
def test_a_closed_device_is_not_activated(libcuda):
    said = run(libcuda, OPEN + "    device.close()\n    device.activate()\n" + CATCH)
    assert "CAUGHT CUDA device 1 has been closed" in said


@installed
def test_without_a_driver_it_says_so():
    if any(Path(folder, "libcuda.so.1").exists() for folder in ("/usr/lib/x86_64-linux-gnu", "/usr/lib64", "/usr/lib")):
        pytest.skip("this machine has a CUDA driver")
    with pytest.raises(BackendError, match=r"no CUDA driver.*install the NVIDIA driver"):
        BindingsCuda().device_count()


def test_old_bindings_are_refused(monkeypatch):
    module = SimpleNamespace()
    monkeypatch.setattr(bindings_driver, "import_module", lambda name: module)
    for module.__version__ in ("12.6.0", "12.9.1", "11.8.7", "12.9", "unknown"):
        with pytest.raises(BackendError, match=r"12\.9\.2 or newer.*pip install"):
            BindingsCuda()
    for module.__version__ in ("12.9.2", "12.9.10", "13.5.0", "13.0.0b1"):
        assert BindingsCuda().name == f"cuda-bindings {module.__version__}"


@installed
def test_other_threads_go_on_while_one_waits(libcuda):
    code = (
        OPEN
        + """
    import threading, time
    times = []
    def work():
        while len(times) < 1000:
            times.append(time.monotonic())
            time.sleep(0.005)
    threading.Thread(target=work, daemon=True).start()
    begin = time.monotonic()
    device.synchronize(0x5000)
    end = time.monotonic()
    print("TIMES", sum(begin < when < end for when in times))
run()
"""
    )
    said = run(libcuda, code, wait="200000")
    assert int(said.splitlines()[-1].removeprefix("TIMES ")) > 5


def test_broken_bindings_are_no_crash(monkeypatch):
    def broken(name: str) -> None:
        raise ImportError("undefined symbol")

    monkeypatch.setattr(bindings_driver, "import_module", broken)
    with pytest.raises(BackendError, match=r"undefined symbol.*force-reinstall"):
        BindingsCuda()


class Status(int):
    name = "CUDA_ERROR_UNKNOWN"


@pytest.mark.parametrize(
    ("returned", "expected"),
    [((Status(0),), None), ((Status(0), 5), 5), ((Status(0), 5, 6), (5, 6)), ((Status(0), 0), 0)],
)
def test_results_are_unpacked(returned, expected):
    assert _call(SimpleNamespace(cuDo=lambda *arguments: returned), "do", "cuDo") == expected


def test_an_error_without_a_text_is_still_an_error():
    driver = SimpleNamespace(cuDo=lambda: (Status(999),), cuGetErrorString=lambda status: (Status(1), None))
    with pytest.raises(BackendError, match="CUDA cannot do it: CUDA_ERROR_UNKNOWN") as caught:
        _call(driver, "do it", "cuDo")
    assert "()" not in str(caught.value)


@installed
def test_remedies_are_for_errors_that_there_are():
    from cuda.bindings import driver

    since_cuda_13 = {"CUDA_ERROR_CALL_REQUIRES_NEWER_DRIVER"}
    assert set(failures._REMEDIES) - since_cuda_13 <= {status.name for status in driver.CUresult}
