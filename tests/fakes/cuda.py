"""``FakeCuda``: CUDA as this project uses it, on NumPy memory, where work waits until somebody waits for it.

Memory lies at real addresses, so that a fake engine reads and writes it as a true one would. What is put into a stream
is done only when the stream is synchronized: who reads a result too early finds ``GARBAGE``. What a program must not do
(leaks, double frees, use after free, copies out of bounds, stream 0, a thread without a context) is remembered, and
``FakeCuda.check()`` raises for it. A fake engine puts its work into a stream by ``enqueue(stream, ...)``.
"""

from __future__ import annotations

import ctypes
import json
import mmap
import os
import re
import threading
import weakref
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import count
from typing import Any

import cv2
import numpy as np

from yolo12edge.errors import BackendError
from yolo12edge.runtimes.cuda.driver import DeviceFacts, HostMemory

GARBAGE = 0xCD  # what fresh memory holds
FREED = 0xDD  # what memory holds that was given back
FENCE = 64  # bytes before and after each allocation that nobody may write
_FENCE_BYTE = 0xFD
_CONTEXT = 0xC000  # the handle of device 0's

Kernel = Callable[["FakeDevice", str, tuple[int, int, int], tuple[Any, ...]], None]
KERNELS: dict[str, Kernel] = {}
"""Emulations by the name of the kernel: (device, text of the module, grid, values of the arguments)."""

_handles = count(0x7000_0000_0001, 16)
_streams: weakref.WeakValueDictionary[int, _Stream] = weakref.WeakValueDictionary()


def enqueue(
    stream: int, what: str, work: Callable[[], None], *, milliseconds: float = 1.0, capture: bool = True
) -> None:
    """Put work of a library (a fake engine) into a stream, by the bare handle that the library was given.

    Args:
        stream: The handle.
        what: Its name among the recorded calls.
        work: Done when the stream gets there; it may look at memory by ``FakeDevice.view``.
        milliseconds: How long it takes on the fake clock.
        capture: Whether a graph may hold it; if not, a capture that is under way fails.
    """
    found = _streams.get(stream)
    if found is None:
        raise AssertionError(f"{what} was put into {stream:#x}, which is no stream")
    found.device.enqueue(stream, what, work, milliseconds=milliseconds, capture=capture)


@dataclass(eq=False)
class _Memory:
    kind: str  # "device", "host" or "mapped"
    address: int  # of the first byte that the program may use
    size: int
    owner: FakeDevice
    whole: np.ndarray  # fences included
    alias: int = 0  # the device's address of mapped memory
    alive: bool = True
    keep: Any = None

    def fill(self, value: int) -> None:
        self.whole[FENCE : FENCE + self.size] = value

    def fences_hold(self) -> bool:
        return bool(
            np.all(self.whole[:FENCE] == _FENCE_BYTE) and np.all(self.whole[FENCE + self.size :] == _FENCE_BYTE)
        )


@dataclass(eq=False)
class _Event:
    recorded: int = 0  # how often it was put into a stream
    happened: int = 0  # which of these has been reached
    stream: _Stream | None = None
    time: float | None = None


@dataclass
class _Work:
    what: str
    work: Callable[[], None]
    milliseconds: float
    addresses: tuple[int, ...] = ()  # of memory that it is known to use


@dataclass(eq=False)
class _Stream:
    device: FakeDevice
    handle: int
    queue: deque[_Work] = field(default_factory=deque)
    captured: list[_Work] | None = None
    capturing_thread: int = 0
    capture_error: str = ""
    foreign: bool = False


class FakeCuda:
    """Implements ``Cuda``.

    Args:
        devices: How many there are.
        driver: Whether there is a driver at all.
        graphs: Whether the library binds graphs.
        facts: Of each device.
        out_of_memory_at: The allocation, counted from 1 over all devices, from which on memory is exhausted.
        free_bytes: What ``free_bytes`` says with nothing allocated.

    Attributes:
        calls: Every call of every device in order: name, then its arguments; work done is ("done", its name).
        problems: What a program must not do and did.
        allocations: How many there were.
    """

    def __init__(
        self,
        *,
        devices: int = 1,
        driver: bool = True,
        graphs: bool = True,
        facts: DeviceFacts | None = None,
        integrated: bool = False,
        out_of_memory_at: int | None = None,
        free_bytes: int = 6 << 30,
    ) -> None:
        self.facts = facts or DeviceFacts(
            "Fake Orin" if integrated else "Fake GPU", (8, 7), integrated, 8 << 30, (12, 6)
        )
        self.devices = devices
        self.driver = driver
        self.has_graphs = graphs
        self.out_of_memory_at = out_of_memory_at
        self.memory_left = free_bytes
        self.allocations = 0
        self.calls: list[tuple[Any, ...]] = []
        self.problems: list[str] = []
        self.opened: list[FakeDevice] = []
        self.memory: list[_Memory] = []
        self.lock = threading.RLock()
        self.current = threading.local()
        self.clock = 0.0

    @property
    def name(self) -> str:
        return "fake-cuda 1.0"

    def device_count(self) -> int:
        self._need_driver()
        return self.devices

    def open(self, index: int) -> FakeDevice:
        self._need_driver()
        if not 0 <= index < self.devices:
            raise BackendError(f"there is no CUDA device {index}", expected=f"0 to {self.devices - 1}")
        device = FakeDevice(self, index)
        self.opened.append(device)
        self.calls.append(("open", index))
        return device

    def check(self) -> None:
        """Raise AssertionError for everything that a program must not do, and for what it has not given back."""
        with self.lock:
            for memory in self.memory:
                self._inspect(memory)
            left = [f"device {device.index} was not closed" for device in self.opened if not device.closed]
            problems = [*self.problems, *left, *(text for device in self.opened for text in device.leaks())]
        assert not problems, "; ".join(dict.fromkeys(problems))

    def names(self) -> list[str]:
        """The names of the calls, in order."""
        return [call[0] for call in self.calls]

    def _need_driver(self) -> None:
        if not self.driver:
            raise BackendError("CUDA_ERROR_NO_DEVICE: no CUDA-capable device is detected", remedy="install the driver")

    def _inspect(self, memory: _Memory) -> None:
        where = f"{memory.kind} memory at {memory.address:#x} of {memory.size} bytes"
        if not memory.fences_hold():
            self.problems.append(f"something wrote beyond {where}")
        if not memory.alive and not np.all(memory.whole[FENCE : FENCE + memory.size] == FREED):
            self.problems.append(f"something wrote after {where} was freed")


class FakeDevice:
    """Implements ``CudaDevice``; a test may further look at memory by ``view``, and make foreign streams.

    Attributes:
        fail: The CUDA error, such as ``"CUDA_ERROR_ILLEGAL_ADDRESS"``, with which the next synchronization fails and,
            since it is sticky, everything after it.
    """

    def __init__(self, cuda: FakeCuda, index: int) -> None:
        self.cuda = cuda
        self.index = index
        self.closed = False
        self.fail = ""
        self.sticky = ""
        self.streams: dict[int, _Stream] = {}
        self.events: dict[int, _Event] = {}
        self.graphs: dict[int, list[_Work]] = {}
        self.modules: dict[int, str] = {}
        self.functions: dict[int, tuple[int, str]] = {}
        self.gone: set[int] = set()

    # --- for tests -------------------------------------------------------------------------------------------------

    def view(self, address: int, shape: Sequence[int] | int, dtype: Any = np.uint8) -> np.ndarray:
        """Return memory as an array, whatever is still queued; it must lie within one allocation."""
        shape = (shape,) if isinstance(shape, int) else tuple(shape)
        size = int(np.prod(shape)) * np.dtype(dtype).itemsize
        memory = self._find(address, size, "read or write of an engine or test")
        begin = (
            FENCE + address - (memory.alias if memory.alias <= address < memory.alias + memory.size else memory.address)
        )
        return memory.whole[begin : begin + size].view(dtype).reshape(shape)

    def foreign_stream(self, handle: int | None = None) -> int:
        """Return a stream of somebody else: nobody has to give it back. Handles 1 and 2 are CUDA's default ones."""
        stream = _Stream(self, handle or next(_handles), foreign=True)
        self.streams[stream.handle] = _streams[stream.handle] = stream
        return stream.handle

    def enqueue(
        self, stream: int, what: str, work: Callable[[], None], *, milliseconds: float = 1.0, capture: bool = True
    ) -> None:
        """Put any work into a stream."""
        with self._call("enqueue", stream, what):
            found = self._stream(stream, what)
            if found.captured is not None and not capture:
                found.capture_error = "CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED"
            self._put(found, what, work, milliseconds)

    def leaks(self) -> list[str]:
        """What has not been given back."""
        memory = [f"{m.kind} memory of {m.size} bytes" for m in self.cuda.memory if m.alive and m.owner is self]
        streams = sum(not stream.foreign for stream in self.streams.values())
        counted = (
            ("stream", streams),
            ("event", len(self.events)),
            ("graph", len(self.graphs)),
            ("module", len(self.modules)),
        )
        return [f"leaked: {what}" for what in [*memory, *(f"{n} {what}(s)" for what, n in counted if n)]]

    # --- the Protocol ----------------------------------------------------------------------------------------------

    @property
    def facts(self) -> DeviceFacts:
        return self.cuda.facts

    def activate(self) -> int:
        with self._call("activate", activated=False):
            before = getattr(self.cuda.current, "device", None)
            self.cuda.current.device = self.index
            return 0 if before in (None, self.index) else _CONTEXT + before

    def restore(self, before: int) -> None:
        with self.cuda.lock:
            self.cuda.calls.append(("restore", before))
            if before:
                self.cuda.current.device = before - _CONTEXT

    def free_bytes(self) -> int:
        with self._call("free_bytes"):
            return self.cuda.memory_left - sum(m.size for m in self.cuda.memory if m.alive)

    def reaches(self, address: int) -> bool:
        with self._call("reaches", address):
            return any(
                start <= address < start + memory.size
                for memory in self.cuda.memory
                if memory.alive and memory.owner is self
                for start in (memory.address, memory.alias)
                if start and (memory.kind == "device" or start == memory.alias)
            )

    def allocate(self, size: int) -> int:
        with self._call("allocate", size):
            return self._allocate(size, "device").address

    def free(self, address: int) -> None:
        with self._call("free", address):
            self._free(address, ("device",))

    def allocate_host(self, size: int, *, mapped: bool) -> HostMemory:
        with self._call("allocate_host", size, mapped):
            memory = self._allocate(size, "mapped" if mapped else "host")
            return HostMemory(memory.address, memory.alias, size)

    def free_host(self, memory: HostMemory) -> None:
        with self._call("free_host", memory.address):
            self._free(memory.address, ("host", "mapped"))

    def stream(self) -> int:
        with self._call("stream"):
            stream = _Stream(self, next(_handles))
            self.streams[stream.handle] = _streams[stream.handle] = stream
            return stream.handle

    def destroy_stream(self, stream: int) -> None:
        with self._call("destroy_stream", stream):
            found = self._stream(stream, "destroy_stream", foreign=True)
            if found.foreign:
                self._refuse("CUDA_ERROR_INVALID_HANDLE", f"a stream of somebody else was destroyed: {stream:#x}")
            self._drain(found)  # the driver lets what is queued come to its end
            del self.streams[stream]
            del _streams[stream]
            self.gone.add(stream)

    def synchronize(self, stream: int) -> None:
        with self._call("synchronize", stream):
            found = self._stream(stream, "synchronize", foreign=True)
            if found.captured is not None:
                found.capture_error = "CUDA_ERROR_STREAM_CAPTURE_INVALIDATED"
                raise BackendError("CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED: a stream that is captured was synchronized")
            self._drain(found)
            if self.fail:
                self.sticky = self.fail
                raise BackendError(f"{self.sticky}: the fake device was told to fail")

    def copy_to_device(self, address: int, host: int, size: int, stream: int) -> None:
        with self._call("copy_to_device", address, host, size, stream):
            found = self._stream(stream, "copy_to_device")
            self._find(address, size, "copy_to_device", device=True)
            if self._pinned(host, size, "copy_to_device"):
                source: Callable[[], Any] = lambda: self.view(host, size)  # noqa: E731
            else:  # the driver takes pageable memory into a buffer of its own before it returns
                if found.captured is not None:
                    self._refuse("CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED", "pageable memory was copied during a capture")
                taken = np.frombuffer(ctypes.string_at(host, size), np.uint8)
                source = lambda: taken  # noqa: E731

            def copy() -> None:
                self.view(address, size)[...] = source()

            self._put(found, "copy_to_device", copy, 0.1, (address, host))

    def copy_to_host(self, host: int, address: int, size: int, stream: int) -> None:
        with self._call("copy_to_host", host, address, size, stream):
            found = self._stream(stream, "copy_to_host")
            self._find(address, size, "copy_to_host", device=True)
            if not self._pinned(host, size, "copy_to_host"):
                self._refuse(
                    "", f"a copy of {size} bytes into memory that is not page-locked, which waits for the device"
                )

            def copy() -> None:
                self.view(host, size)[...] = self.view(address, size)

            self._put(found, "copy_to_host", copy, 0.1, (address, host))

    def event(self) -> int:
        with self._call("event"):
            handle = next(_handles)
            self.events[handle] = _Event()
            return handle

    def destroy_event(self, event: int) -> None:
        with self._call("destroy_event", event):
            self._event(event)
            del self.events[event]
            self.gone.add(event)

    def record(self, event: int, stream: int) -> None:
        with self._call("record", event, stream):
            found, happening = self._stream(stream, "record", foreign=True), self._event(event)
            if found.captured is not None:
                self._refuse("CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED", "an event was recorded during a capture")
            happening.recorded += 1
            happening.stream = found
            number = happening.recorded

            def happen() -> None:
                happening.happened, happening.time = number, self.cuda.clock

            self._put(found, "event", happen, 0.0)

    def wait(self, stream: int, event: int) -> None:
        with self._call("wait", stream, event):
            found, happening = self._stream(stream, "wait", foreign=True), self._event(event)
            if found.captured is not None:
                self._refuse(
                    "CUDA_ERROR_STREAM_CAPTURE_ISOLATION", "a captured stream waited for an event outside of it"
                )
            other, number = happening.stream, happening.recorded
            if other is not None:
                self._put(found, "wait", lambda: self._drain(other, happening, number), 0.0)

    def elapsed_ms(self, begin: int, end: int) -> float:
        with self._call("elapsed_ms", begin, end):
            first, last = self._event(begin), self._event(end)
            if not first.recorded or not last.recorded:
                raise BackendError("CUDA_ERROR_INVALID_HANDLE: an event was never recorded")
            if first.happened < first.recorded or last.happened < last.recorded:
                raise BackendError("CUDA_ERROR_NOT_READY: an event has not happened yet")
            assert first.time is not None
            assert last.time is not None
            return last.time - first.time

    def begin_capture(self, stream: int) -> None:
        with self._call("begin_capture", stream):
            if not self.cuda.has_graphs:
                raise BackendError("this library does not bind CUDA graphs")
            found = self._stream(stream, "begin_capture")
            if found.captured is not None:
                raise BackendError("CUDA_ERROR_ILLEGAL_STATE: the stream is captured already")
            found.captured, found.capture_error = [], ""
            found.capturing_thread = threading.get_ident()

    def end_capture(self, stream: int) -> int:
        with self._call("end_capture", stream):
            found = self._stream(stream, "end_capture")
            if found.captured is None:
                raise BackendError("CUDA_ERROR_ILLEGAL_STATE: the stream is not captured")
            works, found.captured = found.captured, None
            if found.capturing_thread != threading.get_ident():
                raise BackendError("CUDA_ERROR_STREAM_CAPTURE_WRONG_THREAD: another thread began the capture")
            if found.capture_error:
                raise BackendError(f"{found.capture_error}: something in the stream cannot be captured")
            handle = next(_handles)
            self.graphs[handle] = works
            return handle

    def launch_graph(self, graph: int, stream: int) -> None:
        with self._call("launch_graph", graph, stream):
            found = self._stream(stream, "launch_graph")
            if graph not in self.graphs:
                self._refuse("CUDA_ERROR_INVALID_HANDLE", f"a graph that is not there was launched: {graph:#x}")
            works = self.graphs[graph]
            self._put(found, "graph", lambda: [self._do(work) for work in works] and None, 0.0)

    def destroy_graph(self, graph: int) -> None:
        with self._call("destroy_graph", graph):
            if self.graphs.pop(graph, None) is None:
                self._refuse("CUDA_ERROR_INVALID_HANDLE", f"a graph was destroyed twice, or never made: {graph:#x}")

    def load_module(self, ptx: bytes) -> int:
        with self._call("load_module"):
            self._not_capturing("a module was loaded")
            text = ptx.decode()
            if not re.search(r"^\.version \d", text, re.MULTILINE) or ".entry" not in text:
                raise BackendError("CUDA_ERROR_INVALID_PTX: a PTX JIT compilation failed")
            handle = next(_handles)
            self.modules[handle] = text
            return handle

    def function(self, module: int, name: str) -> int:
        with self._call("function", module, name):
            if module not in self.modules:
                self._refuse("CUDA_ERROR_INVALID_HANDLE", f"a module that is not there was asked for {name}")
            if not re.search(rf"\.entry\s+{re.escape(name)}\s*\(", self.modules[module]):
                raise BackendError(f"CUDA_ERROR_NOT_FOUND: the module has no kernel {name}")
            handle = next(_handles)
            self.functions[handle] = (module, name)
            return handle

    def unload_module(self, module: int) -> None:
        with self._call("unload_module", module):
            if self.modules.pop(module, None) is None:
                self._refuse("CUDA_ERROR_INVALID_HANDLE", f"a module was unloaded twice, or never loaded: {module:#x}")

    def launch(
        self,
        function: int,
        *,
        grid: tuple[int, int, int],
        block: tuple[int, int, int],
        shared: int,
        stream: int,
        arguments: Sequence[tuple[str, int | float]],
    ) -> None:
        module, name = self.functions.get(function, (0, ""))
        with self._call("launch", name, grid, block, shared, stream, tuple(arguments)):
            found = self._stream(stream, f"launch of {name}")
            if module not in self.modules:
                self._refuse("CUDA_ERROR_INVALID_HANDLE", f"{name or 'a kernel'} was launched without its module")
            limits = (2**31 - 1, 65535, 65535)
            threads = block[0] * block[1] * block[2]
            if not all(1 <= n <= most for n, most in zip(grid, limits, strict=True)) or not 1 <= threads <= 1024:
                raise BackendError(f"CUDA_ERROR_INVALID_VALUE: {name} was launched with grid {grid}, block {block}")
            text = self.modules[module]
            entry = text[text.index(f".entry {name}") :]
            parameters = re.findall(r"\.param\s+(?:\.align \d+ )?\.(\w+)", entry[: entry.index(")")])
            kinds = {"ptr": ("u64", "b64", "s64"), "i32": ("u32", "b32", "s32"), "f32": ("f32", "b32")}
            given = [kind for kind, _ in arguments]
            if len(parameters) != len(given) or any(p not in kinds[k] for p, k in zip(parameters, given, strict=True)):
                self._refuse("CUDA_ERROR_INVALID_VALUE", f"{name} takes {parameters}, and was given {given}")
            required = re.match(r"[^{]*\.reqntid (\d+)", entry)
            if required and block != (int(required[1]), 1, 1):
                self._refuse(
                    "CUDA_ERROR_INVALID_VALUE", f"{name} takes blocks of {required[1]} threads, not of {block}"
                )
            values = tuple(np.float32(value) if kind == "f32" else int(value) for kind, value in arguments)
            kernel = KERNELS.get(name)
            pointers = tuple(int(value) for kind, value in arguments if kind == "ptr")
            self._put(found, name, lambda: kernel(self, text, grid, values) if kernel else None, 0.1, pointers)

    def close(self) -> None:
        with self.cuda.lock:
            self.cuda.calls.append(("close", self.index))
            if not self.closed:
                self.closed = True
                self.cuda.problems += [f"when device {self.index} was closed: {text}" for text in self.leaks()]

    # --- how it is done --------------------------------------------------------------------------------------------

    @contextmanager
    def _call(self, name: str, *arguments: Any, activated: bool = True) -> Iterator[None]:
        with self.cuda.lock:
            self.cuda.calls.append((name, *arguments))
            if self.closed:
                self._refuse("CUDA_ERROR_CONTEXT_IS_DESTROYED", f"{name} after close")
            if activated and getattr(self.cuda.current, "device", None) != self.index:
                self._refuse(
                    "CUDA_ERROR_INVALID_CONTEXT", f"{name} in a thread where device {self.index} is not active"
                )
            if self.sticky:
                self._forget(name, arguments)
                raise BackendError(f"{self.sticky}: the fake device has failed before")
            yield

    def _forget(self, name: str, arguments: tuple[Any, ...]) -> None:
        """After a sticky error nothing can be freed; who tried is no longer to blame for a leak."""
        if name in ("free", "free_host"):
            for memory in self.cuda.memory:
                memory.alive = memory.alive and memory.address != arguments[0]
                if not memory.alive:
                    memory.fill(FREED)
        for kind in ("stream", "event", "graph"):
            if name == f"destroy_{kind}":
                getattr(self, f"{kind}s").pop(arguments[0], None)
        if name == "unload_module":
            self.modules.pop(arguments[0], None)

    def _refuse(self, error: str, problem: str) -> None:
        self.cuda.problems.append(problem)
        raise BackendError(f"{error}: {problem}" if error else problem)

    def _allocate(self, size: int, kind: str) -> _Memory:
        self._not_capturing("memory was allocated")
        if size < 1:
            self._refuse("CUDA_ERROR_INVALID_VALUE", f"{size} bytes were allocated")
        self.cuda.allocations += 1
        limit = self.cuda.out_of_memory_at
        if limit is not None and self.cuda.allocations >= limit:
            raise BackendError(f"CUDA_ERROR_OUT_OF_MEMORY: no {size} bytes are free", remedy="take a smaller batch")
        if kind == "mapped":  # two addresses of the same bytes, so that a mixed-up one is noticed
            file = os.memfd_create("fake-cuda")
            os.ftruncate(file, size + 2 * FENCE)
            views = [np.frombuffer(mmap.mmap(file, size + 2 * FENCE), np.uint8) for _ in range(2)]
            os.close(file)
            whole, alias = views[0], views[1].ctypes.data + FENCE
            keep: Any = views
        else:
            keep = np.empty(size + 2 * FENCE + 256, np.uint8)
            begin = -(keep.ctypes.data + FENCE) % 256  # aligned as the driver's
            whole, alias = keep[begin : begin + size + 2 * FENCE], 0
        whole[...] = _FENCE_BYTE
        memory = _Memory(kind, whole.ctypes.data + FENCE, size, self, whole, alias, keep=keep)
        memory.fill(GARBAGE)
        self.cuda.memory.append(memory)
        return memory

    def _free(self, address: int, kinds: tuple[str, ...]) -> None:
        self._not_capturing("memory was freed")
        for memory in self.cuda.memory:
            if memory.address == address and memory.kind in kinds:
                if not memory.alive:
                    self._refuse("CUDA_ERROR_INVALID_VALUE", f"memory at {address:#x} was freed twice")
                used = [
                    work.what
                    for stream in self.streams.values()
                    for work in stream.queue
                    for start in filter(None, (memory.address, memory.alias))
                    if any(start <= used < start + memory.size for used in work.addresses)
                ]
                if used:  # that the driver waits is written down nowhere
                    self.cuda.problems.append(f"memory was freed that {used[0]} still had to use")
                for stream in self.streams.values():  # the driver waits for the device, most often
                    if stream.captured is None:
                        self._drain(stream)
                self.cuda._inspect(memory)
                memory.alive = False
                memory.fill(FREED)
                return
        self._refuse("CUDA_ERROR_INVALID_VALUE", f"{address:#x} was freed, which is no {' or '.join(kinds)} memory")

    def _find(self, address: int, size: int, what: str, *, device: bool = False) -> _Memory:
        """Return the memory in which a range lies, that of a freed one after the living."""
        for memory in sorted(self.cuda.memory, key=lambda memory: not memory.alive):
            starts = (memory.alias,) if device and memory.kind != "device" else (memory.address, memory.alias)
            for start in filter(None, starts):
                if start <= address < start + memory.size:
                    if not memory.alive:
                        self._refuse("CUDA_ERROR_ILLEGAL_ADDRESS", f"{what} of memory that was freed")
                    if address + size > start + memory.size:
                        over = address + size - start - memory.size
                        self._refuse("CUDA_ERROR_INVALID_VALUE", f"{what} goes {over} bytes out of bounds")
                    return memory
        self._refuse("CUDA_ERROR_ILLEGAL_ADDRESS", f"{what} of {address:#x}, which is no memory of the device")
        raise AssertionError

    def _pinned(self, address: int, size: int, what: str) -> bool:
        """Tell whether the CPU's memory is page-locked; part of it is a problem."""
        for memory in self.cuda.memory:
            if memory.kind != "device" and memory.address <= address < memory.address + memory.size:
                self._find(address, size, what)
                return True
        return False

    def _stream(self, handle: int, what: str, *, foreign: bool = False) -> _Stream:
        if not handle:
            self._refuse("CUDA_ERROR_INVALID_HANDLE", f"{what} used stream 0")
        found = self.streams.get(handle)
        if found is None and handle in (1, 2):
            found = self.streams[self.foreign_stream(handle)]
        if found is None:
            gone = "was destroyed" if handle in self.gone else "is not there"
            self._refuse("CUDA_ERROR_INVALID_HANDLE", f"{what} used a stream that {gone}: {handle:#x}")
        assert found is not None
        if found.foreign and not foreign:
            self._refuse("", f"{what} put work into a stream of somebody else: {handle:#x}")
        return found

    def _event(self, handle: int) -> _Event:
        if handle not in self.events:
            gone = "was destroyed" if handle in self.gone else "is not there"
            self._refuse("CUDA_ERROR_INVALID_HANDLE", f"an event was used that {gone}: {handle:#x}")
        return self.events[handle]

    def _not_capturing(self, what: str) -> None:
        for stream in self.streams.values():
            if stream.captured is not None and stream.capturing_thread == threading.get_ident():
                stream.capture_error = "CUDA_ERROR_STREAM_CAPTURE_INVALIDATED"
                self._refuse("CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED", f"{what} during a capture")

    def _put(
        self,
        stream: _Stream,
        what: str,
        work: Callable[[], None],
        milliseconds: float,
        addresses: tuple[int, ...] = (),
    ) -> None:
        queue = stream.queue if stream.captured is None else stream.captured
        queue.append(_Work(what, work, milliseconds, addresses))

    def _drain(self, stream: _Stream, event: _Event | None = None, number: int = 0) -> None:
        while stream.queue and not (event is not None and event.happened >= number):
            self._do(stream.queue.popleft())

    def _do(self, work: _Work) -> None:
        self.cuda.clock += work.milliseconds
        work.work()
        self.cuda.calls.append(("done", work.what))


def _letterbox(device: FakeDevice, text: str, grid: tuple[int, int, int], values: tuple[Any, ...]) -> None:
    """What ``runtimes/cuda/letterbox_kernel.py`` does, by OpenCV; only what the grid covers is written."""
    source, output, pitch, height, width, step, red, green, blue, rows, columns, top, left, *rest = values
    resized_height, resized_width, pad, *scale = rest
    facts = json.loads(text.splitlines()[0].removeprefix("//"))
    size = (height - 1) * pitch + width * step
    strided = np.lib.stride_tricks.as_strided(device.view(source, size), (height, width, step), (pitch, step, 1))
    resized = cv2.resize(np.ascontiguousarray(strided), (resized_width, resized_height), interpolation=cv2.INTER_LINEAR)
    resized = resized.reshape(resized_height, resized_width, step)
    canvas = np.full((rows, columns, 3), pad, np.uint8)
    canvas[top : top + resized_height, left : left + resized_width] = resized[..., [red, green, blue]]
    covered = slice(grid[1] * facts["rows"]), slice(grid[0] * facts["columns"])
    if scale:
        tensor = device.view(output, (3, rows, columns), np.float32)
        tensor[(slice(None), *covered)] = (canvas.astype(np.float32) * scale[0]).transpose(2, 0, 1)[
            (slice(None), *covered)
        ]
    else:
        device.view(output, (rows, columns, 3))[covered] = canvas[..., ::-1][covered]


KERNELS |= {"letterbox_float32": _letterbox, "letterbox_uint8": _letterbox}
