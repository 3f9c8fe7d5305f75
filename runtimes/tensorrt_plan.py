"""``LoadedPlan``: a TensorRT engine on its device, kept until the last who uses it has let go."""

from __future__ import annotations

import logging
import os
import re
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import ArtifactError, BackendError, InputError
from ..manifest import EngineFacts, Manifest
from .backend import TensorInfo
from .cuda import open_cuda
from .cuda.driver import CudaDevice
from .cuda.letterbox import DeviceLetterbox
from .foreign_engine import facts_of_foreign
from .plan_file import check_plan
from .tensorrt_library import Flavor, LogKeeper, import_tensorrt
from .tensorrt_plugins import load_plugins

__all__ = ["LoadedPlan", "Tensor", "active", "device_index", "quietly"]

_DTYPES = {
    "FLOAT": "float32",
    "HALF": "float16",
    "UINT8": "uint8",
    "INT8": "int8",
    "INT32": "int32",
    "INT64": "int64",
    "BOOL": "bool",
}
_MIB = 1 << 20
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Tensor:
    """An input or output of an engine."""

    info: TensorInfo
    is_input: bool

    def shape(self, batch: int) -> tuple[int, ...]:
        """Return its sizes for a batch; what is open beyond it is refused before."""
        first, *rest = self.info.shape
        return (batch if first is None else first, *(size or 0 for size in rest))


class LoadedPlan:
    """A deserialized engine, its device and its log.

    Who uses it calls ``join`` and ``leave``; after ``close`` it goes with the last of them.

    Args:
        plan: As in ``TensorRtBackend``.
        manifest: Of the artifact.
        flavor: The library.
        device: As in ``TensorRtBackend``.
        cache: As in ``TensorRtBackend``.

    Attributes:
        name: The library and its version.
        device: Where it runs.
        index: Number of the device.
        trt: The library.
        letterbox: What prepares frames there.
        tensors: Inputs and outputs, in the engine's order.
        batches: The least and the most images at a time.
        dynamic: Whether these differ in the engine, even if only one number is in its profile.
        closed: Whether ``close`` was called.

    Raises:
        InputError: If there can be no such device.
        MissingDependencyError: If the library, or one that binds CUDA, is not installed.
        BackendError: If the device is not to be had.
        ArtifactError: If the engine is damaged, not for this device or library, or its tensors cannot be fed.
    """

    def __init__(
        self, plan: Path | bytes, manifest: Manifest, *, flavor: Flavor, device: str, cache: Path | None
    ) -> None:
        self.index = device_index(device)
        self.trt = import_tensorrt(flavor)
        self.name = f"{flavor} {self.trt.__version__}"
        self.closed = False
        self.engine: Any = None
        self._runtime: Any = None
        self._users = 0
        self._lock = threading.RLock()  # taken again by a signal handler that closes
        self._process = os.getpid()
        self._held = False  # whether there is something to give back, in the stack
        self._stack = ExitStack()
        with ExitStack() as after, ExitStack() as stack:
            self.device = _open_device(self.index, device)
            after.enter_context(active(self.device))
            stack.callback(quietly, self.device.close)
            plan, facts = self._built(plan, manifest, flavor, cache)
            load_plugins(self.trt, facts.plugins)
            check_plan(plan, facts, trt=self.trt, device=self.device.facts)
            self.log = LogKeeper(self.trt)
            stack.callback(self._forget)
            self.engine = self._deserialize(plan, facts)
            self.tensors = tuple(map(self._tensor, range(self.engine.num_io_tensors)))
            self.dynamic = any(tensor.info.shape[0] is None for tensor in self.tensors)
            self.batches = self._batches()
            self.letterbox = DeviceLetterbox(self.device, manifest.input)
            stack.callback(quietly, self.letterbox.close)
            self._stack, self._held = stack.pop_all(), True

    def join(self) -> None:
        """Use it, until ``leave``.

        Raises:
            BackendError: If it is closed.
        """
        with self._lock:
            self.check_open()
            self._users += 1

    def leave(self) -> None:
        """Use it no more."""
        with self._lock:
            self._users -= 1
        self._release_if_done()

    def close(self) -> None:
        """Let nobody begin to use it, and give it back when nobody does; may be called twice."""
        self.closed = True
        self._release_if_done()

    def check_open(self) -> None:
        """Refuse to go on once it is closed.

        Raises:
            BackendError: If it is.
        """
        if self.closed:
            raise BackendError("this TensorRT backend is closed")

    def new_context(self, tensor_bytes: int) -> Any:
        """Return an execution context of its own.

        Args:
            tensor_bytes: Memory that will be needed beside it, for the message.

        Raises:
            BackendError: If there is too little memory for it, or the library fails.
        """
        context = self.engine.create_execution_context()
        if context is None:
            raise self.too_little_memory(tensor_bytes, self.log.last_error())
        return context

    def too_little_memory(self, tensor_bytes: int, reason: str) -> BackendError:
        """Return the error that says how much memory an inference needs and how much there is."""
        needed = (self._context_bytes() + tensor_bytes) / _MIB
        free = "an unknown amount of memory is"
        with suppress(BackendError):
            free = f"{self.device.free_bytes() / _MIB:.0f} MiB are"
        return BackendError(
            f"an inference needs {needed:.1f} MiB on {self.device.facts.name}, where {free} free: {reason}",
            remedy="close other programs that use the GPU, or export with a smaller batch or image size",
        )

    def can_capture(self) -> bool:
        """Whether the same kernels run each time: what TensorRT for RTX compiles meanwhile would not get into a graph.

        Kernels are exchanged during runs where sizes are open (``DynamicShapesKernelSpecializationStrategy.LAZY``).
        """
        return not (self.dynamic and self.name.startswith("tensorrt-rtx"))

    def is_ours(self) -> bool:
        """Whether this process opened it: what a fork has inherited cannot be used and not be given back."""
        return os.getpid() == self._process

    def __del__(self) -> None:
        if hasattr(self, "_stack"):
            self.close()

    def _built(
        self, plan: Path | bytes, manifest: Manifest, flavor: Flavor, cache: Path | None
    ) -> tuple[Path | bytes, EngineFacts]:
        """Return the engine and what it was built with and for; build it if it is not built yet."""
        if isinstance(plan, Path) and plan.suffix == ".onnx":
            from .tensorrt_cache import engine_for_device

            return engine_for_device(plan, manifest, flavor, device=self.device, cache=cache)
        if manifest.foreign:
            return plan, facts_of_foreign(plan, self.device.facts)
        if manifest.engine is None:
            raise ArtifactError(
                "the manifest does not say what the engine was built for",
                remedy="export it with yolo12edge, which writes that down",
            )
        return plan, manifest.engine

    def _deserialize(self, plan: Path | bytes, facts: EngineFacts) -> Any:
        what = "the engine" if isinstance(plan, bytes) else str(plan)
        try:
            content = plan if isinstance(plan, bytes) else plan.read_bytes()
        except OSError as error:
            raise ArtifactError(f"cannot read {what}: {error.strerror}") from error
        self._runtime = self.trt.Runtime(self.log.logger)
        if facts.version_compatible:  # such a plan brings its own runtime, which is code
            self._runtime.engine_host_code_allowed = True
        engine = self._runtime.deserialize_cuda_engine(content)
        if engine is None:
            raise ArtifactError(
                f"{self.name} cannot load {what}: {self.log.last_error()}",
                remedy="copy the artifact again from where it was made, or export it again on this device",
            )
        return engine

    def _tensor(self, index: int) -> Tensor:
        trt, name = self.trt, self.engine.get_tensor_name(index)
        dtype = _DTYPES.get(self.engine.get_tensor_dtype(name).name)
        shape = tuple(self.engine.get_tensor_shape(name))
        on_device = self.engine.get_tensor_location(name) == trt.TensorLocation.DEVICE
        linear = self.engine.get_tensor_format(name) == trt.TensorFormat.LINEAR
        if dtype is None or not shape or not on_device or not linear or min(shape[1:], default=1) < 1:
            raise ArtifactError(
                f"the engine's tensor {name!r} cannot be fed or read here: {list(shape)}, "
                f"{self.engine.get_tensor_dtype(name).name}, {self.engine.get_tensor_format(name).name}",
                expected="a linear tensor of a common type in the GPU's memory, of which no size but the batch is open",
                remedy="export it with yolo12edge",
            )
        sizes = (None if shape[0] < 0 else shape[0], *shape[1:])
        return Tensor(TensorInfo(name, sizes, dtype), self.engine.get_tensor_mode(name) == trt.TensorIOMode.INPUT)

    def _batches(self) -> tuple[int, int]:
        """Return the least and the most images at a time, over all inputs."""
        least, most = 1, 1 << 30
        for tensor in self.tensors:
            if tensor.is_input:
                first = tensor.info.shape[0]
                if first is None:
                    low, _, high = self.engine.get_tensor_profile_shape(tensor.info.name, 0)
                    least, most = max(least, low[0]), min(most, high[0])
                else:
                    least, most = first, first
        return least, most

    def _context_bytes(self) -> int:
        size = getattr(self.engine, "device_memory_size_v2", None)
        return int(self.engine.device_memory_size if size is None else size)

    def _release_if_done(self) -> None:
        if not self.is_ours():
            return
        with self._lock:
            done = self._held and self.closed and not self._users
            self._held = self._held and not done  # one thread alone does it
        if done:
            with active(self.device, closing=True):  # this thread may be another
                self._stack.close()

    def _forget(self) -> None:
        self.engine = None
        self._runtime = None


def device_index(device: str) -> int:
    """Return the number of a CUDA device: 0 of ``"auto"`` and ``"cuda"``, 1 of ``"cuda:1"``.

    Raises:
        InputError: If it is no such name.
    """
    match = re.fullmatch(r"auto|cuda(?::(\d{1,3}))?", device)
    if match is None:
        raise InputError(
            f"device {device!r} is not known to TensorRT",
            expected="'auto', 'cuda' or 'cuda:1'; engines of TensorRT run on NVIDIA GPUs only",
        )
    return int(match[1] or 0)


@contextmanager
def active(device: CudaDevice, *, closing: bool = False) -> Iterator[None]:
    """Have a device active in this thread; then again what another library had active, which counts on it.

    Args:
        device: The device.
        closing: Whether nothing can be done about it if it fails, or is closed.

    Raises:
        BackendError: If the device has failed or is closed.
    """
    before = 0
    try:
        before = device.activate()
    except BackendError as error:
        if not closing:
            raise
        _log.debug("not activated: %s", error)
    try:
        yield
    finally:
        quietly(device.restore, before)


def quietly(give_back: Callable[..., object], *arguments: object) -> None:
    """Give something back; after an error of the device, nothing of it can be given back, and that error is known."""
    try:
        give_back(*arguments)
    except BackendError as error:
        _log.debug("not given back: %s", error)


def _open_device(index: int, asked: str) -> CudaDevice:
    cuda = open_cuda()
    try:
        count = cuda.device_count()
        if index < count:
            return cuda.open(index)
    except BackendError as error:
        raise BackendError(
            f"device {asked!r} was asked for, but CUDA cannot start: {error.fact}",
            remedy=error.remedy or "check the driver with nvidia-smi",
        ) from error
    raise BackendError(
        f"device {asked!r} was asked for, but there are {count} CUDA devices",
        expected="a number below that" if count else "",
        remedy="" if count else "TensorRT engines run on NVIDIA GPUs only: export with --format openvino or onnx",
    )
