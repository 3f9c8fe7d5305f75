"""ONNX Runtime as a ``Backend``."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy.typing as npt

from ..errors import ArtifactError, BackendError, InputError, MissingDependencyError
from ..files import atomic_file, sha256_of
from ..machine import cpu_features
from .backend import TensorInfo
from .cores import physical_cores

if TYPE_CHECKING:
    import onnxruntime as ort

__all__ = ["OrtBackend"]

_DTYPES = {"tensor(float)": "float32", "tensor(float16)": "float16", "tensor(uint8)": "uint8", "tensor(int64)": "int64"}
_CPU = "CPUExecutionProvider"
_PROVIDERS = {
    "cpu": _CPU,
    "cuda": "CUDAExecutionProvider",
    "tensorrt": "TensorrtExecutionProvider",
    "coreml": "CoreMLExecutionProvider",
    "openvino": "OpenVINOExecutionProvider",
}
_PACKAGES = {
    "cuda": "install onnxruntime-gpu in place of onnxruntime",
    "tensorrt": "install onnxruntime-gpu in place of onnxruntime, and TensorRT",
    "coreml": "install onnxruntime on macOS",
    "openvino": "install onnxruntime-openvino in place of onnxruntime, or export with --format openvino",
}


class OrtBackend:
    """One ONNX model in one ONNX Runtime session; ``infer`` may be called from several threads.

    Args:
        model: Path of the ``.onnx`` file, or its content.
        device: An execution provider by name, ``"cpu"``, ``"cuda"``, ``"tensorrt"``, ``"coreml"`` or ``"openvino"``, is
            active or it is an error; what it does not know of the model runs on the CPU. ``"auto"``: CUDA where ONNX
            Runtime has it and can start it, else the CPU.
        threads: Threads of one inference on the CPU; None takes the physical cores that this process may use.
        cache: Folder where the graph is kept as ONNX Runtime has rewritten it for this processor, to load faster next
            time; CPU only. What lies there is trusted.
        optimize: Whether ONNX Runtime may rewrite the graph. Without, Q/DQ pairs are computed as they stand, in float:
            a simulation of other integer engines.

    Raises:
        MissingDependencyError: If onnxruntime is not installed.
        ArtifactError: If ONNX Runtime cannot load the file.
        BackendError: If the provider that was asked for is not what the model would run on.
        InputError: If there is no such device, or the cache folder cannot be used.
    """

    def __init__(
        self,
        model: Path | bytes,
        *,
        device: str = "auto",
        threads: int | None = None,
        cache: Path | None = None,
        optimize: bool = True,
    ) -> None:
        if device != "auto" and device not in _PROVIDERS:
            raise InputError(
                f"device {device!r} is not known to ONNX Runtime here",
                expected="'auto', " + ", ".join(map(repr, _PROVIDERS)),
            )
        try:
            import onnxruntime
        except ImportError as error:
            raise MissingDependencyError("onnxruntime", extra="onnxruntime", purpose="to run ONNX models") from error
        cores = physical_cores()
        self.threads = threads or cores
        chosen = _provider(onnxruntime.get_available_providers(), device)
        providers = [_CPU] if chosen == _CPU else [chosen, _CPU]
        if cache is not None and chosen == _CPU and optimize:
            session = _cached_session(onnxruntime, model, self.threads, cache)
        else:
            session = _session(onnxruntime, model, providers, self.threads, optimize)
        active = session.get_providers()
        if device != "auto" and active[0] != chosen:  # ONNX Runtime itself falls back to the CPU without an error
            raise BackendError(
                f"device {device!r} was asked for, but ONNX Runtime could not start it and fell back to {active[0]}",
                remedy="check the driver and the library versions that this onnxruntime needs, or use device='cpu'",
            )
        name = next((name for name, provider in _PROVIDERS.items() if provider == active[0]), active[0])
        self.name = f"onnxruntime {onnxruntime.__version__}"
        self.device = f"{name} ({active[0]})"
        # With fewer threads than cores, inferences of several callers run side by side.
        self.parallel = max(1, cores // self.threads) if active[0] == _CPU else 1
        self.inputs = tuple(_info(node) for node in session.get_inputs())
        self.outputs = tuple(_info(node) for node in session.get_outputs())
        self._on_cpu = active[0] == _CPU
        self._output_names = [output.name for output in self.outputs]
        self._session: ort.InferenceSession | None = session

    def infer(self, feeds: Mapping[str, npt.NDArray[Any]]) -> dict[str, npt.NDArray[Any]]:
        """Run the model once.

        Raises:
            BackendError: If the backend is closed, or ONNX Runtime refuses the feeds or fails.
        """
        session = self._open()  # a local reference: another thread may close the backend during the run
        try:
            values = session.run(self._output_names, dict(feeds))
        except Exception as error:  # onnxruntime has no common base of its own exceptions
            raise BackendError(f"ONNX Runtime could not run the model: {error}") from error
        return dict(zip(self._output_names, values, strict=True))

    def bind(
        self, feeds: Mapping[str, npt.NDArray[Any]], outputs: Mapping[str, npt.NDArray[Any]]
    ) -> Callable[[], object]:
        """Return a function that runs the model from and into these very arrays.

        Raises:
            BackendError: If the backend is closed, or ONNX Runtime refuses the arrays.
        """

        def bind_inputs() -> None:
            for name, array in feeds.items():
                binding.bind_input(name, "cpu", 0, array.dtype.type, array.shape, array.ctypes.data)

        try:
            binding = self._open().io_binding()
            bind_inputs()
            for name, array in outputs.items():
                binding.bind_output(name, "cpu", 0, array.dtype.type, array.shape, array.ctypes.data)
        except BackendError:
            raise
        except Exception as error:
            raise BackendError(f"ONNX Runtime refuses the arrays: {error}") from error

        held = (dict(feeds), dict(outputs))  # the binding knows addresses only

        def run() -> object:
            try:
                session = self._open()
                if not self._on_cpu:
                    bind_inputs()  # binding is what copies an input to another device
                session.run_with_iobinding(binding)
            except BackendError:
                raise
            except Exception as error:
                raise BackendError(f"ONNX Runtime could not run the model: {error}") from error
            return held

        return run

    def close(self) -> None:
        """Let go of the session; running calls finish first."""
        self._session = None

    def _open(self) -> ort.InferenceSession:
        session = self._session
        if session is None:
            raise BackendError("this ONNX Runtime backend is closed")
        return session


def _provider(available: list[str], device: str) -> str:
    """Return the execution provider to start, refused if this onnxruntime was built without it."""
    if device == "auto":
        return _PROVIDERS["cuda"] if _PROVIDERS["cuda"] in available else _CPU
    chosen = _PROVIDERS[device]
    if chosen not in available:
        raise BackendError(
            f"device {device!r} was asked for, but this onnxruntime has no {chosen}",
            expected=f"one of {', '.join(repr(name) for name, found in _PROVIDERS.items() if found in available)}",
            remedy=f"{_PACKAGES[device]}; or use device='cpu'",
        )
    return chosen


def _cached_session(onnxruntime: Any, model: Path | bytes, threads: int, cache: Path) -> ort.InferenceSession:
    """Load the rewritten graph from the cache, or write it there.

    Its name tells all that ONNX Runtime's rewriting depends on: the model, the version and the processor.
    """
    digest = sha256(model).hexdigest() if isinstance(model, bytes) else sha256_of(model)
    features = sha256(" ".join(sorted(cpu_features())).encode()).hexdigest()[:8]
    place = cache / f"{digest[:32]}-ort{onnxruntime.__version__}-{features}.onnx"
    if place.is_file():
        return _session(onnxruntime, place, [_CPU], threads, optimize=False, remedy="delete it: it will be made again")
    with atomic_file(place) as temporary:
        return _session(onnxruntime, model, [_CPU], threads, optimize=True, save=temporary)


def _session(
    onnxruntime: Any,
    model: Path | bytes,
    providers: list[str],
    threads: int,
    optimize: bool,
    *,
    save: Path | None = None,
    remedy: str = "export it again, or update onnxruntime",
) -> ort.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    level = onnxruntime.GraphOptimizationLevel
    options.graph_optimization_level = level.ORT_ENABLE_ALL if optimize else level.ORT_DISABLE_ALL
    options.log_severity_level = 3  # errors only
    if save is not None:
        options.optimized_model_filepath = str(save)
    try:
        return onnxruntime.InferenceSession(
            model if isinstance(model, bytes) else str(model), options, providers=providers
        )
    except Exception as error:
        what = "the model" if isinstance(model, bytes) else model
        raise ArtifactError(f"ONNX Runtime cannot load {what}: {error}", remedy=remedy) from error


def _info(node: Any) -> TensorInfo:
    shape = tuple(size if isinstance(size, int) else None for size in node.shape)
    return TensorInfo(node.name, shape, _DTYPES.get(node.type, node.type))
