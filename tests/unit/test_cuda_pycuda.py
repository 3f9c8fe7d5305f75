"""pycuda: what is asked of it, by a module that writes it down, and what its errors become."""

from __future__ import annotations

import ctypes
import itertools
import re
import struct
import threading
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from yolo12edge.errors import BackendError
from yolo12edge.runtimes.cuda import pycuda_driver
from yolo12edge.runtimes.cuda.pycuda_driver import PyCuda


class Error(Exception):
    """``pycuda.driver.Error``."""


class FalsePyCuda:
    """``pycuda.driver`` and libcuda, with the stack of contexts that each thread has in pycuda."""

    def __init__(self) -> None:
        self.calls: list[tuple[Any, ...]] = []
        self.stacks = threading.local()
        self.current: int | None = None
        self.fail = ""
        self.alive: set[str] = set()
        whole = self
        numbers = itertools.count(0x5000, 16)

        def stack() -> list[Any]:
            return self.stacks.__dict__.setdefault("stack", [])

        self.stack = stack

        def call(name: str, *arguments: Any, context: bool = True) -> None:
            if context:
                assert stack(), f"{name} without a context"
            self.calls.append((name, *arguments))
            if self.fail.startswith(f"{name}: "):
                raise Error(f"{name} failed: {self.fail.split(': ', 1)[1]}")

        class Context:
            handle = 0xC0

            def push(self) -> None:
                stack().append(self)

            @staticmethod
            def pop() -> None:
                stack().pop()

            def detach(self) -> None:
                call("detach")
                stack().pop()

            @staticmethod
            def synchronize() -> None:
                call("context.synchronize")

        class Device:
            def __init__(self, index: int) -> None:
                call("Device", index, context=False)

            @staticmethod
            def count() -> int:
                call("count", context=False)
                return 2

            def name(self) -> str:
                return "Orin"

            def compute_capability(self) -> tuple[int, int]:
                return 8, 7

            def total_memory(self) -> int:
                return 1 << 33

            def get_attribute(self, kind: str) -> int:
                return {"integrated": 1}[kind]

            def retain_primary_context(self) -> Context:
                call("retain", context=False)
                return Context()

        class Thing:
            """What pycuda destroys with its last reference, while the context is on the stack."""

            def __init__(self, *arguments: Any) -> None:
                name = type(self).__name__
                call(name, *arguments)
                self.handle = next(numbers)
                self.label = f"{name} {self.handle:#x}"
                whole.alive.add(self.label)

            def __del__(self) -> None:
                if stack():
                    whole.alive.discard(self.label)

            def __int__(self) -> int:
                return self.handle

        class Memory(Thing):
            def free(self) -> None:
                call("free", self.handle)

        class Stream(Thing):
            def synchronize(self) -> None:
                call("synchronize", self.handle)

            def wait_for_event(self, event: Any) -> None:
                call("wait", self.handle, event)

        class Event(Thing):
            def record(self, stream: Any) -> None:
                call("record", stream)

            def time_since(self, begin: Any) -> float:
                call("time_since", begin)
                return 1.5

        class Function:
            def _launch_kernel(self, *arguments: Any) -> None:
                call("launch", *arguments)

        class Module(Thing):
            def get_function(self, name: str) -> Function:
                call("get_function", name)
                return Function()

        def pagelocked_empty(size: int, dtype: str, *, mem_flags: int) -> Any:
            call("pagelocked_empty", size, dtype, mem_flags)
            array = np.zeros(size, dtype)
            base = SimpleNamespace(free=lambda: call("free_host"), get_device_pointer=lambda: 0xD000)
            return SimpleNamespace(base=base, ctypes=array.ctypes, keep=array)

        def copy(name: str, *arguments: Any) -> None:
            call(name, *(bytes(a) if isinstance(a, ctypes.Array) else a for a in arguments))

        self.module = SimpleNamespace(
            Error=Error,
            Context=Context,
            Device=Device,
            Stream=Stream,
            Event=Event,
            device_attribute=SimpleNamespace(INTEGRATED="integrated"),
            get_driver_version=lambda: 12060,
            init=lambda: call("init", context=False),
            mem_alloc=Memory,
            mem_get_info=lambda: (123, 456),
            memcpy_htod_async=lambda *arguments: copy("htod", *arguments),
            memcpy_dtoh_async=lambda *arguments: copy("dtoh", *arguments),
            module_from_buffer=Module,
            pagelocked_empty=pagelocked_empty,
        )

        def set_current(context: Any) -> int:
            self.current = context.value if context else None
            self.calls.append(("cuCtxSetCurrent", self.current))
            return 0

        def get_current(pointer: Any) -> int:
            pointer._obj.value = self.current
            return 0

        def pointer_attribute(data: Any, attribute: int, address: Any) -> int:
            """Of device 0 below 1 MiB, of device 1 below 2 MiB, managed below 3 MiB, and beyond of nobody."""
            data._obj.value = {9: int(address.value >= 1 << 20), 8: int(address.value >= 2 << 20)}[attribute]
            return int(address.value >= 3 << 20)

        self.libcuda = SimpleNamespace(
            cuPointerGetAttribute=pointer_attribute,
            cuCtxSetCurrent=set_current,
            cuCtxGetCurrent=get_current,
            cuCtxPopCurrent_v2=lambda pointer: self.calls.append(("cuCtxPopCurrent",)),
        )


@pytest.fixture
def library(monkeypatch):
    library = FalsePyCuda()
    modules = {"pycuda.driver": library.module, "pycuda": SimpleNamespace(VERSION_TEXT="2026.1")}
    monkeypatch.setattr(pycuda_driver, "import_module", lambda name: modules[name])
    monkeypatch.setattr(pycuda_driver, "_libcuda", lambda: library.libcuda)
    return library


def test_a_life_as_pycuda_sees_it(library):
    cuda = PyCuda()
    assert (cuda.name, cuda.has_graphs, cuda.device_count()) == ("pycuda 2026.1", False, 2)
    device = cuda.open(1)
    assert (device.facts.name, device.facts.architecture, device.facts.integrated) == ("Orin", "sm_87", True)
    assert (device.facts.driver_cuda, device.facts.total_bytes) == ((12, 6), 1 << 33)
    device.activate()
    assert library.current == 0xC0
    assert device.free_bytes() == 123
    address, stream = device.allocate(64), device.stream()
    plain, mapped = device.allocate_host(4, mapped=False), device.allocate_host(8, mapped=True)
    assert (plain.device_address, mapped.device_address, mapped.size) == (0, 0xD000, 8)
    ctypes.memset(plain.address, 7, 4)
    library.calls.clear()

    device.copy_to_device(address, plain.address, 4, stream)
    device.copy_to_host(plain.address, address, 4, stream)
    device.synchronize(stream)
    device.synchronize(0x9999)  # of somebody else
    own = device._things["stream", stream]
    assert library.calls == [
        ("htod", address, bytes([7] * 4), own),
        ("dtoh", bytes([7] * 4), address, own),
        ("synchronize", stream),
        ("context.synchronize",),
    ]
    library.calls.clear()

    begin, end = device.event(), device.event()
    device.record(begin, stream)
    device.record(end, 1)
    device.record(end, 0x9999)  # of somebody else
    device.wait(stream, end)
    assert device.elapsed_ms(begin, end) == 1.5
    first, last = device._things["event", begin], device._things["event", end]
    assert library.calls == [
        ("Event",),
        ("Event",),
        ("record", own),
        ("record", None),
        ("context.synchronize",),
        ("record", None),
        ("wait", stream, last),
        ("time_since", first),
    ]
    library.calls.clear()

    module = device.load_module(b".version")
    function = device.function(module, "letterbox")
    arguments = [("ptr", 0x7FFF12345678), ("i32", -5), ("ptr", 3), ("f32", 0.25)]
    device.launch(function, grid=(1, 2, 3), block=(4, 5, 6), shared=7, stream=stream, arguments=arguments)
    packed = struct.pack("<QiiQf", 0x7FFF12345678, -5, 0, 3, 0.25)  # the second pointer is aligned
    assert library.calls == [
        ("Module", b".version\0"),
        ("get_function", "letterbox"),
        ("launch", (1, 2, 3), (4, 5, 6), packed, 7, own),
    ]
    del own, first, last
    device.unload_module(module)
    with pytest.raises(BackendError, match="made no function"):
        device.launch(function, grid=(1, 1, 1), block=(1, 1, 1), shared=0, stream=stream, arguments=[])

    library.calls.clear()
    device.destroy_event(begin)
    device.destroy_event(end)
    device.destroy_stream(stream)
    device.free(address)
    device.free_host(plain)
    device.free_host(mapped)
    device.close()
    device.close()
    assert library.calls == [
        ("free", address),
        ("free_host",),
        ("free_host",),
        ("detach",),
        ("cuCtxPopCurrent",),
        ("cuCtxSetCurrent", None),
    ]
    assert not library.alive
    assert not device._things
    assert not library.stack()
    with pytest.raises(BackendError, match="has been closed"):
        device.activate()


def test_no_context_stays_on_the_stack_of_a_thread(library):
    """pycuda ends the process when a thread with one ends."""
    device = PyCuda().open(0)
    left: list[int] = []

    def work() -> None:
        device.activate()
        device.free(device.allocate(8))
        library.fail = "Memory: out of memory"
        with pytest.raises(BackendError):
            device.allocate(8)
        left.append(len(library.stack()))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert left == [0]
    device.close()


@pytest.mark.parametrize(
    ("fail", "message"),
    [
        ("init: no CUDA-capable device is detected", "CUDA cannot start: CUDA_ERROR_NO_DEVICE"),
        ("init: initialization error", "CUDA_ERROR_NOT_INITIALIZED"),
        ("retain: all CUDA-capable devices are busy or unavailable", "compute-mode=DEFAULT"),
        (
            "Memory: out of memory",
            "CUDA cannot allocate 64 bytes: CUDA_ERROR_OUT_OF_MEMORY (Memory failed: out of memory)",
        ),
        ("Module: the provided PTX was compiled with an unsupported toolchain.", "install a newer NVIDIA driver"),
        ("synchronize: an illegal memory access was encountered", "CUDA_ERROR_ILLEGAL_ADDRESS"),
        ("synchronize: something else", "CUDA cannot finish the work of a stream: CUDA failed"),
    ],
)
def test_errors(library, fail, message):
    def live() -> None:
        device = PyCuda().open(0)
        device.activate()
        device.allocate(64)
        device.load_module(b"")
        device.synchronize(device.stream())

    library.fail = fail
    with pytest.raises(BackendError, match=re.escape(message)):
        live()
    assert not library.stack()


def test_what_others_had_active_comes_back(library):
    device = PyCuda().open(0)
    assert device.activate() == 0
    device.restore(0)
    assert library.current == 0xC0
    library.current = 0xE0
    assert device.activate() == 0xE0
    assert library.current == 0xC0
    device.close()
    device.restore(0xE0)
    assert library.current == 0xE0


def test_memory_of_others_is_known(library):
    device = PyCuda().open(0)
    assert [device.reaches(address) for address in (0x10, 0x100010, 0x200010, 0x300010)] == [True, False, True, False]
    device.close()


def test_what_pycuda_cannot_do_is_an_error(library):
    device = PyCuda().open(0)
    for action in (lambda: device.begin_capture(1), lambda: device.end_capture(1), lambda: device.launch_graph(1, 2)):
        with pytest.raises(BackendError, match="does not bind CUDA graphs"):
            action()
    event = device.event()
    with pytest.raises(BackendError, match="made no stream 0x9999"):
        device.wait(0x9999, event)
    with pytest.raises(BackendError, match="made no memory 0x1"):
        device.free(1)
    with pytest.raises(BackendError, match=r"no CUDA device 2.*0 to 1"):
        PyCuda().open(2)
    device.destroy_event(event)
    device.close()


def test_a_pycuda_that_cannot_be_imported(monkeypatch):
    def missing(name: str) -> None:
        raise ImportError(error)

    monkeypatch.setattr(pycuda_driver, "import_module", missing)
    error = "libcuda.so.1: cannot open shared object file"
    with pytest.raises(BackendError, match="no CUDA driver"):
        PyCuda()
    error = "undefined symbol: cuGraph"
    with pytest.raises(BackendError, match=r"undefined symbol.*build it anew"):
        PyCuda()
