"""``Lane``: one execution context of TensorRT with a stream and memory of its own."""

from __future__ import annotations

import ctypes
import logging
import math
import threading
from contextlib import ExitStack
from typing import Any

import numpy as np
import numpy.typing as npt

from ..errors import BackendError
from .cuda.driver import HostMemory
from .tensorrt_plan import LoadedPlan, active, quietly

__all__ = ["Lane", "array_on"]

_log = logging.getLogger(__name__)


class Lane:
    """All that one inference needs; lanes run side by side, each for one thread at a time.

    Who uses it, or reads its arrays, does so inside of ``with lane``: it is not given back meanwhile.

    The first run executes the engine; with the second the execution is captured as a CUDA graph, which is launched
    from then on: the CPU puts one thing into the stream then, not one for each kernel. Where it cannot be captured,
    the engine is executed each time.

    Args:
        plan: The engine.
        batch: Images at a time.
        host_inputs: Whether inputs are arrays of the CPU's; if not, they are written on the device.
        capture: Whether a graph may be tried.

    Attributes:
        batch: Images at a time.
        stream: Where its work goes.
        inputs: Page-locked arrays that ``run`` reads, by name.
        outputs: Page-locked arrays that ``run`` writes, by name.
        addresses: Where all tensors lie on the device, by name.
        mapped: Whether the device reads and writes the CPU's memory in place, as chips do that share it.

    Raises:
        BackendError: If the backend is closed, the batch is not in the engine's profile, or there is too little memory.
    """

    def __init__(self, plan: LoadedPlan, batch: int, *, host_inputs: bool, capture: bool) -> None:
        self.plan, self.batch = plan, batch
        self.mapped = plan.device.facts.integrated
        self.inputs: dict[str, npt.NDArray[Any]] = {}
        self.outputs: dict[str, npt.NDArray[Any]] = {}
        self.addresses: dict[str, int] = {}
        self._copied_in: list[tuple[int, int, int]] = []
        self._copied_out: list[tuple[int, int, int]] = []
        self._graph: int | None = None
        self._capture_next, self._may_capture = False, capture and plan.can_capture()
        self._lock = threading.Lock()
        self._closing = False
        self._before = 0  # what was active in the thread that is inside
        self._held = False  # whether there is something to give back, in the stack
        self._stack = ExitStack()
        self._check_batch()
        plan.join()
        with ExitStack() as after, ExitStack() as stack:
            stack.callback(plan.leave)
            after.enter_context(active(plan.device))
            self.stream = plan.device.stream()
            stack.callback(quietly, plan.device.destroy_stream, self.stream)
            self._allocate(stack, host_inputs)
            self._context = plan.new_context(self._tensor_bytes())
            stack.callback(self._forget_context)
            self._prepare_context()
            stack.callback(self._forget_graph)
            stack.callback(quietly, plan.device.synchronize, self.stream)  # who was interrupted has not waited
            self._stack, self._held = stack.pop_all(), True

    @property
    def captured(self) -> bool:
        """Whether the engine runs as a CUDA graph, from the second run on."""
        return self._graph is not None

    def __enter__(self) -> Lane:
        self._lock.acquire()
        try:
            if self._closing:
                raise BackendError("this TensorRT backend is closed")
            self.plan.check_open()
            self._before = self.plan.device.activate()
        except BaseException:
            self._leave()
            raise
        return self

    def __exit__(self, *error: object) -> None:
        self._leave()

    def run(self) -> None:
        """Run the engine from ``inputs`` into ``outputs``, or what lies on the device, and wait for it.

        Raises:
            BackendError: If the engine or the device fails.
        """
        device, stream = self.plan.device, self.stream
        self.copy_in()
        self.execute()
        for host, address, size in self._copied_out:
            device.copy_to_host(host, address, size, stream)
        device.synchronize(stream)

    def copy_in(self) -> None:
        """Put the copies of ``inputs`` into the stream, where the device does not read them in place."""
        for address, host, size in self._copied_in:
            self.plan.device.copy_to_device(address, host, size, self.stream)

    def execute(self) -> None:
        """Put the engine alone into the stream, and do not wait.

        Raises:
            BackendError: If it is refused.
        """
        if self._capture_next:
            self._capture_next = False
            self._graph = self._captured()
        if self._graph is not None:
            self.plan.device.launch_graph(self._graph, self.stream)
            return
        self._enqueue()
        # What is prepared once, with the first run, must not be in the graph.
        self._capture_next, self._may_capture = self._may_capture, False

    def close(self) -> None:
        """Give everything back, once nobody uses it; may be called again, from any thread."""
        self._closing = True
        if self._lock.acquire(blocking=False):  # a signal handler must not wait for the thread that it interrupts
            try:
                if self._held and self.plan.is_ours():
                    self._held = False
                    with active(self.plan.device, closing=True):  # this thread may be another
                        self._stack.close()
            finally:
                self._lock.release()

    def __del__(self) -> None:
        if hasattr(self, "_stack"):
            self.close()

    def _leave(self) -> None:
        before, self._before = self._before, 0
        if before:
            quietly(self.plan.device.restore, before)
        self._lock.release()
        if self._closing:  # meanwhile
            self.close()

    def _check_batch(self) -> None:
        least, most = self.plan.batches
        if not least <= self.batch <= most:
            raise BackendError(
                f"a batch of {self.batch} is not in the engine's profile",
                expected=f"{least} to {most} images" if most > least else f"{most} images",
                remedy="export it again with another --batch or --min-batch",
            )

    def _allocate(self, stack: ExitStack, host_inputs: bool) -> None:
        device = self.plan.device
        try:
            for tensor in self.plan.tensors:
                name, shape = tensor.info.name, tensor.shape(self.batch)
                size = math.prod(shape) * np.dtype(tensor.info.dtype).itemsize
                on_host = host_inputs or not tensor.is_input
                if not (on_host and self.mapped):
                    self.addresses[name] = device.allocate(size)
                    stack.callback(quietly, device.free, self.addresses[name])
                if not on_host:
                    continue
                memory = device.allocate_host(size, mapped=self.mapped)
                stack.callback(quietly, device.free_host, memory)
                (self.inputs if tensor.is_input else self.outputs)[name] = array_on(memory, shape, tensor.info.dtype)
                if self.mapped:
                    self.addresses[name] = memory.device_address
                elif tensor.is_input:
                    self._copied_in.append((self.addresses[name], memory.address, size))
                else:
                    self._copied_out.append((memory.address, self.addresses[name], size))
        except BackendError as error:
            if "OUT_OF_MEMORY" not in error.fact:
                raise
            raise self.plan.too_little_memory(self._tensor_bytes(), error.fact) from error

    def _tensor_bytes(self) -> int:
        """Return how much memory of the device inputs and outputs take."""
        return sum(
            math.prod(tensor.shape(self.batch)) * np.dtype(tensor.info.dtype).itemsize for tensor in self.plan.tensors
        )

    def _prepare_context(self) -> None:
        context, plan = self._context, self.plan
        # Only the first context of an engine has a profile from the start.
        done = not plan.dynamic or context.set_optimization_profile_async(0, self.stream)
        for tensor in plan.tensors:
            name = tensor.info.name
            if tensor.is_input:
                done = done and context.set_input_shape(name, tensor.shape(self.batch))
        for name, address in self.addresses.items():
            done = done and context.set_tensor_address(name, address)
        if not done:
            raise BackendError(f"TensorRT refuses shapes or memory: {plan.log.last_error()}")
        plan.device.synchronize(self.stream)

    def _enqueue(self) -> None:
        if not self._context.execute_async_v3(self.stream):
            raise BackendError(f"TensorRT could not run the engine: {self.plan.log.last_error()}")

    def _captured(self) -> int | None:
        """Return the execution as a graph; None if it cannot be captured, which costs time and nothing else."""
        device, graph = self.plan.device, None
        capturable = getattr(self._context, "is_stream_capturable", None)
        if capturable is not None and not capturable(self.stream):
            _log.debug("no CUDA graph: the engine says that it cannot be captured")
            return None
        try:
            device.begin_capture(self.stream)
            try:
                self._enqueue()
            finally:
                graph = device.end_capture(self.stream)
        except BaseException as error:  # also of who interrupts: the graph may be empty then
            if graph is not None:
                device.destroy_graph(graph)
            if not isinstance(error, BackendError):
                raise
            _log.debug("no CUDA graph: %s", error)
            return None
        return graph

    def _forget_graph(self) -> None:
        if self._graph is not None:
            quietly(self.plan.device.destroy_graph, self._graph)
            self._graph = None

    def _forget_context(self) -> None:
        self._context = None


def array_on(memory: HostMemory, shape: tuple[int, ...], dtype: str) -> npt.NDArray[Any]:
    """Return page-locked memory as an array; it must not be used once the memory was given back."""
    content = memoryview((ctypes.c_uint8 * memory.size).from_address(memory.address))
    return np.frombuffer(content, np.dtype(dtype), math.prod(shape)).reshape(shape)
