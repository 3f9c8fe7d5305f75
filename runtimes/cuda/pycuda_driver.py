"""CUDA by pycuda, for whom it is at hand and cuda-bindings is not; it binds no CUDA graphs.

pycuda keeps a stack of contexts for each thread, and ends the process when a thread ends whose stack is not empty. So
a context is on that stack only while pycuda is called, and the thread's current context, which the engine needs, is set
by the driver itself.
"""

from __future__ import annotations

import ctypes
import struct
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib import import_module
from types import ModuleType
from typing import Any, NoReturn

from ...errors import BackendError
from .driver import DeviceFacts, HostMemory
from .failures import failure, no_driver

__all__ = ["PyCuda", "PyCudaDevice"]

_NON_BLOCKING = 1  # CU_STREAM_NON_BLOCKING
_PORTABLE, _MAPPED = 1, 2  # CU_MEMHOSTALLOC_PORTABLE, CU_MEMHOSTALLOC_DEVICEMAP
_LEGACY = 1  # CU_STREAM_LEGACY, the default stream
_IS_MANAGED, _DEVICE_ORDINAL = 8, 9  # CU_POINTER_ATTRIBUTE_...
_CODES = {"ptr": "Q", "i32": "i", "f32": "f"}

# pycuda's exceptions tell the driver's description of a status, not its name.
_NAMES = {
    "out of memory": "CUDA_ERROR_OUT_OF_MEMORY",
    "no CUDA-capable device": "CUDA_ERROR_NO_DEVICE",
    "initialization error": "CUDA_ERROR_NOT_INITIALIZED",
    "stub library": "CUDA_ERROR_STUB_LIBRARY",
    "invalid device ordinal": "CUDA_ERROR_INVALID_DEVICE",
    "busy or unavailable": "CUDA_ERROR_DEVICE_UNAVAILABLE",
    "unsupported toolchain": "CUDA_ERROR_UNSUPPORTED_PTX_VERSION",
    "PTX JIT compilation failed": "CUDA_ERROR_INVALID_PTX",
    "JIT compiler library not found": "CUDA_ERROR_JIT_COMPILER_NOT_FOUND",
    "no kernel image": "CUDA_ERROR_NO_BINARY_FOR_GPU",
    "driver version mismatch": "CUDA_ERROR_SYSTEM_DRIVER_MISMATCH",
    "illegal memory access": "CUDA_ERROR_ILLEGAL_ADDRESS",
    "misaligned address": "CUDA_ERROR_MISALIGNED_ADDRESS",
    "illegal instruction": "CUDA_ERROR_ILLEGAL_INSTRUCTION",
    "launch timed out": "CUDA_ERROR_LAUNCH_TIMEOUT",
    "unspecified launch failure": "CUDA_ERROR_LAUNCH_FAILED",
    "uncorrectable ECC": "CUDA_ERROR_ECC_UNCORRECTABLE",
    "context is destroyed": "CUDA_ERROR_CONTEXT_IS_DESTROYED",
}


class PyCuda:
    """Implements ``Cuda``.

    Raises:
        BackendError: If pycuda cannot be imported, which needs libcuda.
    """

    has_graphs = False

    def __init__(self) -> None:
        try:
            self._driver = import_module("pycuda.driver")
            version = import_module("pycuda").VERSION_TEXT
            self._libcuda: Any = _libcuda()
        except (ImportError, OSError, AttributeError) as error:
            if "libcuda" in str(error) or "nvcuda" in str(error):
                raise no_driver(str(error)) from error
            raise BackendError(
                f"pycuda cannot be imported: {error}", remedy="build it anew against this CUDA: pip install -U pycuda"
            ) from error
        self.name = f"pycuda {version}"
        self._started = False

    def device_count(self) -> int:
        """As ``Cuda`` has it."""
        with _translated(self._driver, "start"):
            if not self._started:
                self._driver.init()
                self._started = True
            return int(self._driver.Device.count())

    def open(self, index: int) -> PyCudaDevice:
        """As ``Cuda`` has it."""
        count = self.device_count()
        if not 0 <= index < count:
            raise BackendError(
                f"there is no CUDA device {index}", expected=f"0 to {count - 1}" if count else "a machine with a GPU"
            )
        return PyCudaDevice(self._driver, self._libcuda, index)


class PyCudaDevice:
    """Implements ``CudaDevice``: addresses and handles are looked up, since pycuda's calls take its own objects."""

    def __init__(self, driver: ModuleType, libcuda: Any, index: int) -> None:
        self._driver = driver
        self._libcuda = libcuda
        self._index = index
        self._lock = threading.Lock()
        self._open = True
        self._things: dict[tuple[str, int], Any] = {}  # by kind and address or handle
        self._number = 0
        with _translated(driver, f"open device {index}"):
            device = driver.Device(index)
            kind = driver.device_attribute
            major, minor = device.compute_capability()
            version = int(driver.get_driver_version())
            self.facts = DeviceFacts(
                name=str(device.name()),
                compute_capability=(int(major), int(minor)),
                integrated=bool(device.get_attribute(kind.INTEGRATED)),
                total_bytes=int(device.total_memory()),
                driver_cuda=(version // 1000, version % 1000 // 10),
            )
            self._context = device.retain_primary_context()

    def activate(self) -> int:
        """As ``CudaDevice`` has it."""
        if not self._open:
            raise BackendError(f"CUDA device {self._index} has been closed")
        before, own = ctypes.c_void_p(), int(self._context.handle)
        self._libcuda.cuCtxGetCurrent(ctypes.byref(before))
        if before.value == own:
            return 0
        self._set_current(own)
        return before.value or 0

    def restore(self, before: int) -> None:
        """As ``CudaDevice`` has it."""
        if before:
            self._set_current(before)

    def free_bytes(self) -> int:
        """As ``CudaDevice`` has it."""
        with self._calling("tell its free memory"):
            return int(self._driver.mem_get_info()[0])

    def reaches(self, address: int) -> bool:
        """As ``CudaDevice`` has it."""
        index = self._of_pointer(_DEVICE_ORDINAL, address)
        return index == self._index or (index is not None and bool(self._of_pointer(_IS_MANAGED, address)))

    def allocate(self, size: int) -> int:
        """As ``CudaDevice`` has it."""
        with self._calling(f"allocate {size:,} bytes"):
            memory = self._driver.mem_alloc(size)
            return self._keep("memory", int(memory), memory)

    def free(self, address: int) -> None:
        """As ``CudaDevice`` has it."""
        with self._calling("free memory"):
            self._forget("memory", address).free()

    def allocate_host(self, size: int, *, mapped: bool) -> HostMemory:
        """As ``CudaDevice`` has it."""
        flags = _PORTABLE | (_MAPPED if mapped else 0)
        with self._calling(f"allocate {size:,} bytes of page-locked memory"):
            array = self._driver.pagelocked_empty(size, "uint8", mem_flags=flags)
            device_address = int(array.base.get_device_pointer()) if mapped else 0
            return HostMemory(self._keep("host", int(array.ctypes.data), array), device_address, size)

    def free_host(self, memory: HostMemory) -> None:
        """As ``CudaDevice`` has it."""
        with self._calling("free page-locked memory"):
            self._forget("host", memory.address).base.free()

    def stream(self) -> int:
        """As ``CudaDevice`` has it."""
        with self._calling("make a stream"):
            stream = self._driver.Stream(_NON_BLOCKING)
            return self._keep("stream", int(stream.handle), stream)

    def destroy_stream(self, stream: int) -> None:
        """As ``CudaDevice`` has it."""
        with self._calling("destroy a stream"):
            thing = self._forget("stream", stream)
            del thing  # pycuda destroys it with its last reference, while the context is there

    def synchronize(self, stream: int) -> None:
        """As ``CudaDevice`` has it; for a stream of others, which pycuda cannot name, all of the device's work."""
        with self._calling("finish the work of a stream"):
            own = self._things.get(("stream", stream))
            (self._driver.Context if own is None else own).synchronize()

    def copy_to_device(self, address: int, host: int, size: int, stream: int) -> None:
        """As ``CudaDevice`` has it."""
        with self._calling(f"copy {size:,} bytes to the device"):
            self._driver.memcpy_htod_async(address, _bytes_at(host, size), self._get("stream", stream))

    def copy_to_host(self, host: int, address: int, size: int, stream: int) -> None:
        """As ``CudaDevice`` has it."""
        with self._calling(f"copy {size:,} bytes from the device"):
            self._driver.memcpy_dtoh_async(_bytes_at(host, size), address, self._get("stream", stream))

    def event(self) -> int:
        """As ``CudaDevice`` has it."""
        with self._calling("make an event"):
            return self._count("event", self._driver.Event())

    def destroy_event(self, event: int) -> None:
        """As ``CudaDevice`` has it."""
        with self._calling("destroy an event"):
            thing = self._forget("event", event)
            del thing

    def record(self, event: int, stream: int) -> None:
        """As ``CudaDevice`` has it; for a stream of others, after all of the device's work."""
        with self._calling("record an event"):
            own = self._things.get(("stream", stream))
            if own is None and stream != _LEGACY:
                self._driver.Context.synchronize()
            self._get("event", event).record(own)  # None is the default stream

    def wait(self, stream: int, event: int) -> None:
        """As ``CudaDevice`` has it."""
        with self._calling("let a stream wait"):
            self._get("stream", stream).wait_for_event(self._get("event", event))

    def elapsed_ms(self, begin: int, end: int) -> float:
        """As ``CudaDevice`` has it."""
        with self._calling("tell the time between events"):
            return float(self._get("event", end).time_since(self._get("event", begin)))

    def begin_capture(self, stream: int) -> None:
        """Raise: pycuda binds no graphs."""
        _no_graphs()

    def end_capture(self, stream: int) -> int:
        """Raise: pycuda binds no graphs."""
        _no_graphs()

    def launch_graph(self, graph: int, stream: int) -> None:
        """Raise: pycuda binds no graphs."""
        _no_graphs()

    def destroy_graph(self, graph: int) -> None:
        """Raise: pycuda binds no graphs."""
        _no_graphs()

    def load_module(self, ptx: bytes) -> int:
        """As ``CudaDevice`` has it."""
        with self._calling("compile a kernel"):
            return self._count("module", self._driver.module_from_buffer(ptx + b"\0"))

    def function(self, module: int, name: str) -> int:
        """As ``CudaDevice`` has it."""
        with self._calling(f"find the kernel {name}"):
            function = self._get("module", module).get_function(name)
            handle = self._count("function", function)
            self._things["functions of", module] = [*self._things.get(("functions of", module), []), handle]
            return handle

    def unload_module(self, module: int) -> None:
        """As ``CudaDevice`` has it."""
        with self._calling("unload a module"):
            for function in self._things.pop(("functions of", module), []):
                self._forget("function", function)
            thing = self._forget("module", module)
            del thing

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
        """As ``CudaDevice`` has it."""
        # Native alignment is that of the kernel's parameters.
        packed = struct.pack("@" + "".join(_CODES[kind] for kind, _ in arguments), *(value for _, value in arguments))
        with self._calling("launch a kernel"):
            own = self._get("stream", stream)
            self._get("function", function)._launch_kernel(grid, block, packed, shared, own)

    def close(self) -> None:
        """As ``CudaDevice`` has it."""
        with self._lock:
            if not self._open:
                return
            self._open = False
        with _translated(self._driver, "close the device"):
            # Only a context on this thread's stack is released: pycuda leaks that of another thread.
            self._context.push()
            self._context.detach()
        # pycuda takes it off its own stack, and leaves it on the driver's.
        self._libcuda.cuCtxPopCurrent_v2(ctypes.byref(ctypes.c_void_p()))
        current = ctypes.c_void_p()
        self._libcuda.cuCtxGetCurrent(ctypes.byref(current))
        if current.value == int(self._context.handle):
            self._libcuda.cuCtxSetCurrent(None)

    def _set_current(self, context: int) -> None:
        status = self._libcuda.cuCtxSetCurrent(ctypes.c_void_p(context))
        if status:
            raise failure(f"activate device {self._index}", f"CUDA error {status}")

    def _of_pointer(self, attribute: int, address: int) -> int | None:
        """Return an attribute of memory; None if CUDA does not know it. pycuda does not tell these."""
        value = ctypes.c_int()
        status = self._libcuda.cuPointerGetAttribute(ctypes.byref(value), attribute, ctypes.c_uint64(address))
        return None if status else value.value

    @contextmanager
    def _calling(self, doing: str) -> Iterator[None]:
        with _translated(self._driver, doing):
            self._context.push()
            try:
                yield
            finally:
                self._driver.Context.pop()

    def _keep(self, kind: str, address: int, thing: Any) -> int:
        self._things[kind, address] = thing
        return address

    def _count(self, kind: str, thing: Any) -> int:
        """Keep what has no address that pycuda tells."""
        with self._lock:
            self._number += 1
            number = self._number
        return self._keep(kind, number, thing)

    def _get(self, kind: str, address: int) -> Any:
        try:
            return self._things[kind, address]
        except KeyError:
            raise self._unknown(kind, address) from None

    def _forget(self, kind: str, address: int) -> Any:
        try:
            return self._things.pop((kind, address))
        except KeyError:
            raise self._unknown(kind, address) from None

    def _unknown(self, kind: str, address: int) -> BackendError:
        return BackendError(f"pycuda made no {kind} {address:#x}, or it has been given back")


@contextmanager
def _translated(driver: ModuleType, doing: str) -> Iterator[None]:
    try:
        yield
    except driver.Error as error:
        said = str(error)
        name = next((name for part, name in _NAMES.items() if part in said), "")
        raise failure(doing, name or "CUDA failed", said) from error


def _no_graphs() -> NoReturn:
    raise BackendError("pycuda does not bind CUDA graphs", remedy="install cuda-bindings, or do without graphs")


def _bytes_at(address: int, size: int) -> Any:
    return (ctypes.c_ubyte * size).from_address(address)


def _libcuda() -> Any:
    return ctypes.CDLL("nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1")
