"""ONNX Runtime as a ``Backend``."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy.typing as npt

from ..errors import ArtifactError, BackendError, MissingDependencyError
from .backend import TensorInfo, check_cuda_or_cpu
from .cores import physical_cores

if TYPE_CHECKING:
    import onnxruntime as ort

__all__ = ["OrtBackend"]

_DTYPES = {"tensor(float)": "float32", "tensor(float16)": "float16", "tensor(uint8)": "uint8", "tensor(int64)": "int64"}
_CPU, _CUDA = "CPUExecutionProvider", "CUDAExecutionProvider"


class OrtBackend:
    """One ONNX model in one ONNX Runtime session; ``infer`` may be called from several threads.

    Args:
        model: Path of the ``.onnx`` file, or its content.
        device: ``"cpu"``, ``"cuda"``, or ``"auto"``: CUDA where ONNX Runtime has it and can start it, else the CPU.
        threads: Threads of one inference on the CPU; None takes the physical cores that this process may use.
        optimize: Whether ONNX Runtime may rewrite the graph. Without, Q/DQ pairs are computed as they stand, in float:
            a simulation of other integer engines.

    Raises:
        MissingDependencyError: If onnxruntime is not installed.
        ArtifactError: If ONNX Runtime cannot load the file.
        BackendError: If ``"cuda"`` was asked for and is not what the model would run on.
        InputError: If there is no such device.
    """

    def __init__(
        self,
        model: Path | bytes,
        *,
        device: str = "auto",
        threads: int | None = None,
        optimize: bool = True,
    ) -> None:
        check_cuda_or_cpu(device)
        try:
            import onnxruntime
        except ImportError as error:
            raise MissingDependencyError("onnxruntime", extra="onnxruntime", purpose="to run ONNX models") from error
        self.threads = threads or physical_cores()
        available = onnxruntime.get_available_providers()
        if device == "cuda" and _CUDA not in available:
            raise BackendError(
                "device 'cuda' was asked for, but this onnxruntime has no CUDA support",
                expected=f"{_CUDA} among {available}",
                remedy="install onnxruntime-gpu in place of onnxruntime, or use device='cpu'",
            )
        use_cuda = device != "cpu" and _CUDA in available
        session = _session(onnxruntime, model, [_CUDA, _CPU] if use_cuda else [_CPU], self.threads, optimize)
        active = session.get_providers()
        if device == "cuda" and _CUDA not in active:  # ONNX Runtime itself falls back to the CPU without an error
            raise BackendError(
                "device 'cuda' was asked for, but ONNX Runtime could not start CUDA and fell back to the CPU",
                remedy="check the NVIDIA driver, CUDA and cuDNN versions that this onnxruntime-gpu needs, "
                "or use device='cpu'",
            )
        self.name = f"onnxruntime {onnxruntime.__version__}"
        self.device = f"{'cuda' if _CUDA in active else 'cpu'} ({active[0]})"
        self.inputs = tuple(_info(node) for node in session.get_inputs())
        self.outputs = tuple(_info(node) for node in session.get_outputs())
        self._output_names = [output.name for output in self.outputs]
        self._session: ort.InferenceSession | None = session

    def infer(self, feeds: Mapping[str, npt.NDArray[Any]]) -> dict[str, npt.NDArray[Any]]:
        """Run the model once.

        Raises:
            BackendError: If the backend is closed, or ONNX Runtime refuses the feeds or fails.
        """
        session = self._session  # a local reference: another thread may close the backend during the run
        if session is None:
            raise BackendError("this ONNX Runtime backend is closed")
        try:
            values = session.run(self._output_names, dict(feeds))
        except Exception as error:  # onnxruntime has no common base of its own exceptions
            raise BackendError(f"ONNX Runtime could not run the model: {error}") from error
        return dict(zip(self._output_names, values, strict=True))

    def close(self) -> None:
        """Let go of the session; running calls finish first."""
        self._session = None


def _session(
    onnxruntime: Any, model: Path | bytes, providers: list[str], threads: int, optimize: bool
) -> ort.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    level = onnxruntime.GraphOptimizationLevel
    options.graph_optimization_level = level.ORT_ENABLE_ALL if optimize else level.ORT_DISABLE_ALL
    options.log_severity_level = 3  # errors only
    try:
        return onnxruntime.InferenceSession(
            model if isinstance(model, bytes) else str(model), options, providers=providers
        )
    except Exception as error:
        what = "the model" if isinstance(model, bytes) else model
        raise ArtifactError(
            f"ONNX Runtime cannot load {what}: {error}", remedy="export it again, or update onnxruntime"
        ) from error


def _info(node: Any) -> TensorInfo:
    shape = tuple(size if isinstance(size, int) else None for size in node.shape)
    return TensorInfo(node.name, shape, _DTYPES.get(node.type, node.type))
