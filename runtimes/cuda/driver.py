"""What this project needs of CUDA, as two Protocols: a library that binds the driver, and one device of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

__all__ = ["Cuda", "CudaDevice", "DeviceFacts", "HostMemory"]


@dataclass(frozen=True, slots=True)
class DeviceFacts:
    """What a device is.

    Attributes:
        name: As the driver has it, such as ``Orin``.
        compute_capability: Major and minor, such as (8, 7).
        integrated: Whether it shares its memory with the CPU, as on Jetson.
        total_bytes: Its memory.
        driver_cuda: The newest CUDA that the driver knows, such as (12, 6).
    """

    name: str
    compute_capability: tuple[int, int]
    integrated: bool
    total_bytes: int
    driver_cuda: tuple[int, int]

    @property
    def architecture(self) -> str:
        """Such as ``sm_87``."""
        return "sm_{}{}".format(*self.compute_capability)


@dataclass(frozen=True, slots=True)
class HostMemory:
    """Page-locked memory of the CPU.

    Attributes:
        address: For the CPU.
        device_address: For the device, where the memory is mapped; else 0.
        size: Bytes.
    """

    address: int
    device_address: int
    size: int


class CudaDevice(Protocol):
    """One device with its primary context retained, so that it gets along with PyTorch in the same process.

    Addresses and handles are integers. Every method may be called from any thread after ``activate`` in that thread.
    All of them raise ``BackendError``, which names the CUDA error and, where there is one, the remedy.
    """

    @property
    def facts(self) -> DeviceFacts:
        """What it is."""

    def activate(self) -> int:
        """Make its context the current one of this thread; cheap where it is already.

        Returns:
            The handle of the context that another library had made current here, for ``restore``; 0 if there was none.
        """

    def restore(self, before: int) -> None:
        """Make current again in this thread what ``activate`` has found; may be called once the device is closed."""

    def free_bytes(self) -> int:
        """Return how much memory is free."""

    def reaches(self, address: int) -> bool:
        """Return whether memory of any library is this device's own, or managed; a kernel may read it then."""

    def allocate(self, size: int) -> int:
        """Return the address of device memory."""

    def free(self, address: int) -> None:
        """Give device memory back."""

    def allocate_host(self, size: int, *, mapped: bool) -> HostMemory:
        """Return page-locked memory; ``mapped``: the device reads and writes it in place."""

    def free_host(self, memory: HostMemory) -> None:
        """Give it back."""

    def stream(self) -> int:
        """Return a new stream that does not wait for the default one."""

    def destroy_stream(self, stream: int) -> None:
        """Give it back."""

    def synchronize(self, stream: int) -> None:
        """Wait until all that was put into the stream is done; errors of it are raised here."""

    def copy_to_device(self, address: int, host: int, size: int, stream: int) -> None:
        """Put a copy from the CPU's memory into the stream."""

    def copy_to_host(self, host: int, address: int, size: int, stream: int) -> None:
        """Put a copy into the CPU's memory into the stream."""

    def event(self) -> int:
        """Return a new event that can be timed."""

    def destroy_event(self, event: int) -> None:
        """Give it back."""

    def record(self, event: int, stream: int) -> None:
        """Let the event happen when the stream gets there."""

    def wait(self, stream: int, event: int) -> None:
        """Let the stream go on only when the event has happened."""

    def elapsed_ms(self, begin: int, end: int) -> float:
        """Return the time between two events that have happened."""

    def begin_capture(self, stream: int) -> None:
        """Record what is put into the stream from now on, by this thread, instead of doing it."""

    def end_capture(self, stream: int) -> int:
        """Return what was recorded, as a graph ready to launch; raises if something in it cannot be recorded."""

    def launch_graph(self, graph: int, stream: int) -> None:
        """Put a graph into the stream."""

    def destroy_graph(self, graph: int) -> None:
        """Give it back."""

    def load_module(self, ptx: bytes) -> int:
        """Return a module that the driver compiles from PTX text."""

    def function(self, module: int, name: str) -> int:
        """Return a kernel of a module."""

    def unload_module(self, module: int) -> None:
        """Give it back."""

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
        """Put a kernel into the stream.

        Args:
            function: The kernel.
            grid: Blocks.
            block: Threads of a block.
            shared: Dynamic shared memory of a block, bytes.
            stream: Where to.
            arguments: In order, each as (type, value): ``"ptr"``, ``"i32"`` or ``"f32"``.
        """

    def close(self) -> None:
        """Release the context; may be called twice. What was allocated must have been given back."""


class Cuda(Protocol):
    """A library that binds the CUDA driver."""

    @property
    def name(self) -> str:
        """The library and its version, such as ``cuda-bindings 13.5.0``."""

    @property
    def has_graphs(self) -> bool:
        """Whether it binds CUDA graphs."""

    def device_count(self) -> int:
        """Return how many devices there are.

        Raises:
            BackendError: If there is no driver, or it refuses to start.
        """

    def open(self, index: int) -> CudaDevice:
        """Retain the primary context of a device.

        Raises:
            BackendError: If there is no such device, or its context cannot be had.
        """
