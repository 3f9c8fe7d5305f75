"""CUDA by cuda-bindings: its driver API alone, which loads libcuda when it is first called."""

from __future__ import annotations

import ctypes
import re
import threading
from collections.abc import Sequence
from importlib import import_module
from types import ModuleType
from typing import Any

from ...errors import BackendError
from .driver import DeviceFacts, HostMemory
from .failures import failure, no_driver

__all__ = ["BindingsCuda", "BindingsDevice"]

_NON_BLOCKING = 1  # CU_STREAM_NON_BLOCKING
_PORTABLE, _MAPPED = 1, 2  # CU_MEMHOSTALLOC_PORTABLE, CU_MEMHOSTALLOC_DEVICEMAP
_OLDEST = (12, 9, 2)
_LOG_BYTES = 8192
_TYPES: dict[str, Any] = {"ptr": ctypes.c_uint64, "i32": ctypes.c_int32, "f32": ctypes.c_float}


class BindingsCuda:
    """Implements ``Cuda``; making one needs no driver.

    Raises:
        BackendError: If the package cannot be imported, or is older than 12.9.2.
    """

    has_graphs = True

    def __init__(self) -> None:
        try:
            driver = import_module("cuda.bindings.driver")
            version = str(import_module("cuda.bindings").__version__)
        except (ImportError, RuntimeError, AttributeError) as error:
            raise BackendError(
                f"cuda-bindings cannot be imported: {error}", remedy="pip install --force-reinstall cuda-bindings"
            ) from error
        if _numbers(version) < _OLDEST:
            raise BackendError(
                f"cuda-bindings is {version}",
                expected="12.9.2 or newer: older ones stop all Python threads while one waits for the GPU",
                remedy="pip install -U 'cuda-bindings>=12.9.2'",
            )
        self.name = f"cuda-bindings {version}"
        self._driver = driver
        self._started = False

    def device_count(self) -> int:
        """As ``Cuda`` has it."""
        self._start()
        return int(_call(self._driver, "count the devices", "cuDeviceGetCount"))

    def open(self, index: int) -> BindingsDevice:
        """As ``Cuda`` has it."""
        count = self.device_count()
        if not 0 <= index < count:
            raise BackendError(
                f"there is no CUDA device {index}", expected=f"0 to {count - 1}" if count else "a machine with a GPU"
            )
        return BindingsDevice(self._driver, index)

    def _start(self) -> None:
        if not self._started:
            try:
                _call(self._driver, "start", "cuInit", 0)
            except RuntimeError as error:  # libcuda is not there
                raise no_driver(str(error)) from error
            self._started = True


class BindingsDevice:
    """Implements ``CudaDevice``."""

    def __init__(self, driver: ModuleType, index: int) -> None:
        self._driver = driver
        self._index = index
        self._lock = threading.Lock()
        self._device = self._do("find the device", "cuDeviceGet", index)
        self.facts = self._read_facts()
        self._context = self._do(f"open device {index}", "cuDevicePrimaryCtxRetain", self._device)
        self._context_address = int(self._context)
        self._open = True

    def activate(self) -> int:
        """As ``CudaDevice`` has it."""
        # Others (PyTorch, a second device) may have made theirs current meanwhile; asking is cheap.
        if not self._open:
            raise BackendError(f"CUDA device {self._index} has been closed")
        before = int(self._do("tell which device is active", "cuCtxGetCurrent"))
        if before == self._context_address:
            return 0
        self._do(f"activate device {self._index}", "cuCtxSetCurrent", self._context)
        return before

    def restore(self, before: int) -> None:
        """As ``CudaDevice`` has it."""
        if before:
            self._do("activate what was active before", "cuCtxSetCurrent", before)

    def free_bytes(self) -> int:
        """As ``CudaDevice`` has it."""
        free, _ = self._do("tell its free memory", "cuMemGetInfo")
        return int(free)

    def reaches(self, address: int) -> bool:
        """As ``CudaDevice`` has it."""
        kind, ask = self._driver.CUpointer_attribute, self._driver.cuPointerGetAttribute
        status, index = ask(kind.CU_POINTER_ATTRIBUTE_DEVICE_ORDINAL, address)
        if int(status):  # memory that CUDA does not know
            return False
        if int(index) == self._index:
            return True
        status, managed = ask(kind.CU_POINTER_ATTRIBUTE_IS_MANAGED, address)
        return not int(status) and bool(managed)

    def allocate(self, size: int) -> int:
        """As ``CudaDevice`` has it."""
        return int(self._do(f"allocate {size:,} bytes", "cuMemAlloc", size))

    def free(self, address: int) -> None:
        """As ``CudaDevice`` has it."""
        self._do("free memory", "cuMemFree", address)

    def allocate_host(self, size: int, *, mapped: bool) -> HostMemory:
        """As ``CudaDevice`` has it."""
        flags = _PORTABLE | (_MAPPED if mapped else 0)
        address = int(self._do(f"allocate {size:,} bytes of page-locked memory", "cuMemHostAlloc", size, flags))
        if not mapped:
            return HostMemory(address, 0, size)
        try:
            device_address = int(self._do("map page-locked memory", "cuMemHostGetDevicePointer", address, 0))
        except BackendError:
            self._do("free page-locked memory", "cuMemFreeHost", address)
            raise
        return HostMemory(address, device_address, size)

    def free_host(self, memory: HostMemory) -> None:
        """As ``CudaDevice`` has it."""
        self._do("free page-locked memory", "cuMemFreeHost", memory.address)

    def stream(self) -> int:
        """As ``CudaDevice`` has it."""
        return int(self._do("make a stream", "cuStreamCreate", _NON_BLOCKING))

    def destroy_stream(self, stream: int) -> None:
        """As ``CudaDevice`` has it."""
        self._do("destroy a stream", "cuStreamDestroy", stream)

    def synchronize(self, stream: int) -> None:
        """As ``CudaDevice`` has it."""
        self._do("finish the work of a stream", "cuStreamSynchronize", stream)

    def copy_to_device(self, address: int, host: int, size: int, stream: int) -> None:
        """As ``CudaDevice`` has it."""
        self._do(f"copy {size:,} bytes to the device", "cuMemcpyHtoDAsync", address, host, size, stream)

    def copy_to_host(self, host: int, address: int, size: int, stream: int) -> None:
        """As ``CudaDevice`` has it."""
        self._do(f"copy {size:,} bytes from the device", "cuMemcpyDtoHAsync", host, address, size, stream)

    def event(self) -> int:
        """As ``CudaDevice`` has it."""
        return int(self._do("make an event", "cuEventCreate", 0))

    def destroy_event(self, event: int) -> None:
        """As ``CudaDevice`` has it."""
        self._do("destroy an event", "cuEventDestroy", event)

    def record(self, event: int, stream: int) -> None:
        """As ``CudaDevice`` has it."""
        self._do("record an event", "cuEventRecord", event, stream)

    def wait(self, stream: int, event: int) -> None:
        """As ``CudaDevice`` has it."""
        self._do("let a stream wait", "cuStreamWaitEvent", stream, event, 0)

    def elapsed_ms(self, begin: int, end: int) -> float:
        """As ``CudaDevice`` has it."""
        return float(self._do("tell the time between events", "cuEventElapsedTime", begin, end))

    def begin_capture(self, stream: int) -> None:
        """As ``CudaDevice`` has it."""
        mode = self._driver.CUstreamCaptureMode.CU_STREAM_CAPTURE_MODE_THREAD_LOCAL
        self._do("capture a stream", "cuStreamBeginCapture", stream, mode)

    def end_capture(self, stream: int) -> int:
        """As ``CudaDevice`` has it."""
        graph = self._do("end the capture of a stream", "cuStreamEndCapture", stream)
        try:
            return int(self._do("make a graph ready to launch", "cuGraphInstantiate", graph, 0))
        finally:
            self._do("destroy a graph", "cuGraphDestroy", graph)

    def launch_graph(self, graph: int, stream: int) -> None:
        """As ``CudaDevice`` has it."""
        self._do("launch a graph", "cuGraphLaunch", graph, stream)

    def destroy_graph(self, graph: int) -> None:
        """As ``CudaDevice`` has it."""
        self._do("destroy a graph", "cuGraphExecDestroy", graph)

    def load_module(self, ptx: bytes) -> int:
        """As ``CudaDevice`` has it."""
        image, log = ctypes.create_string_buffer(ptx), bytearray(_LOG_BYTES)  # the former ends with a zero byte
        option = self._driver.CUjit_option
        status, module = self._driver.cuModuleLoadDataEx(
            ctypes.addressof(image),
            2,
            [option.CU_JIT_ERROR_LOG_BUFFER, option.CU_JIT_ERROR_LOG_BUFFER_SIZE_BYTES],
            [log, _LOG_BYTES],
        )
        if int(status):
            said = bytes(log).split(b"\0", 1)[0].decode(errors="replace")
            raise failure("compile a kernel", status.name, said)
        return int(module)

    def function(self, module: int, name: str) -> int:
        """As ``CudaDevice`` has it."""
        return int(self._do(f"find the kernel {name}", "cuModuleGetFunction", module, name.encode()))

    def unload_module(self, module: int) -> None:
        """As ``CudaDevice`` has it."""
        self._do("unload a module", "cuModuleUnload", module)

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
        values = [_TYPES[kind](value) for kind, value in arguments]
        pointers = (ctypes.c_void_p * len(values))(*(ctypes.addressof(value) for value in values))
        self._do(
            "launch a kernel", "cuLaunchKernel", function, *grid, *block, shared, stream, ctypes.addressof(pointers), 0
        )

    def close(self) -> None:
        """As ``CudaDevice`` has it."""
        with self._lock:
            if not self._open:
                return
            self._open = False
        if int(self._do("tell which device is active", "cuCtxGetCurrent")) == self._context_address:
            self._do("leave the device", "cuCtxSetCurrent", 0)
        self._do("close the device", "cuDevicePrimaryCtxRelease", self._device)

    def _do(self, doing: str, name: str, *arguments: Any) -> Any:
        return _call(self._driver, doing, name, *arguments)

    def _read_facts(self) -> DeviceFacts:
        kind = self._driver.CUdevice_attribute

        def attribute(name: str) -> int:
            return int(self._do("tell what it is", "cuDeviceGetAttribute", getattr(kind, name), self._device))

        name = self._do("tell its name", "cuDeviceGetName", 256, self._device)
        version = int(self._do("tell the driver's version", "cuDriverGetVersion"))
        return DeviceFacts(
            name=bytes(name).split(b"\0", 1)[0].decode(errors="replace"),
            compute_capability=(
                attribute("CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR"),
                attribute("CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR"),
            ),
            integrated=bool(attribute("CU_DEVICE_ATTRIBUTE_INTEGRATED")),
            total_bytes=int(self._do("tell its memory", "cuDeviceTotalMem", self._device)),
            driver_cuda=(version // 1000, version % 1000 // 10),
        )


def _numbers(version: str) -> tuple[int, ...]:
    """Return the leading numbers, such as (13, 0, 0) of 13.0.0b1."""
    found = re.match(r"\d+(\.\d+)*", version)
    return tuple(map(int, found[0].split("."))) if found else ()


def _call(driver: ModuleType, doing: str, name: str, *arguments: Any) -> Any:
    """Call a function of the driver API; return its result, a tuple if there are several, None if there is none."""
    status, *results = getattr(driver, name)(*arguments)
    if int(status):
        raise failure(doing, status.name, _said(driver, status))
    return results[0] if len(results) == 1 else tuple(results) or None


def _said(driver: ModuleType, status: Any) -> str:
    try:
        error, text = driver.cuGetErrorString(status)
    except (RuntimeError, TypeError):
        return ""
    return "" if int(error) or not text else bytes(text).decode(errors="replace")
