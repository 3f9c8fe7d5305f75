"""OpenVINO as a ``Backend``."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy.typing as npt

from ..errors import ArtifactError, BackendError, InputError
from ..manifest import InputSpec
from .backend import TensorInfo
from .cores import physical_cores
from .openvino_library import import_openvino, openvino_core, read_network, reason_of

if TYPE_CHECKING:
    import openvino

__all__ = ["Hint", "OpenVinoBackend"]

Hint = Literal["latency", "throughput"]

_DTYPES = {"f32": "float32", "f16": "float16", "u8": "uint8", "i64": "int64"}


class OpenVinoBackend:
    """One compiled OpenVINO model; ``infer`` may be called from several threads.

    Floats are computed in float32, or in half precision if the model's weights are stored in it and the device has it.
    Left to itself, OpenVINO would compute float32 models in bfloat16 on processors that have it, and on GPUs in half
    precision. An NPU has half precision only.

    Args:
        model: Path of an ``.xml`` file with its ``.bin`` beside it, or of an ``.onnx`` file; or the content of an
            ``.onnx`` file.
        device: ``"cpu"``, ``"gpu"``, ``"gpu.1"`` or ``"npu"``, in any case, is used or refused. ``"auto"`` leaves the
            choice to OpenVINO where there is more than the CPU.
        threads: CPU threads, of one inference with ``"latency"``, of all together with ``"throughput"``; None takes the
            physical cores that this process may use.
        hint: Whether one inference shall be quick, or several at a time, from as many threads, shall get most done.
        cache: Folder where OpenVINO keeps compiled models, to load faster next time; None keeps nothing. What lies
            there is trusted.
        pixels: The input as the manifest describes it, to do in the graph what follows the letterbox: the model then
            takes uint8, shape (1, height, width, 3), BGR. Measured, the engine takes no longer for it.

    Raises:
        MissingDependencyError: If openvino is not installed.
        ArtifactError: If OpenVINO cannot read the model, or the ``.bin`` does not belong to it.
        BackendError: If the device is not to be had, or cannot run the model.
        InputError: If there can be no such device or hint, or the cache folder cannot be made.
    """

    def __init__(
        self,
        model: Path | bytes,
        *,
        device: str = "auto",
        threads: int | None = None,
        hint: Hint = "latency",
        cache: Path | None = None,
        pixels: InputSpec | None = None,
    ) -> None:
        if hint not in ("latency", "throughput"):
            raise InputError(f"hint {hint!r} is not known", expected="'latency' or 'throughput'")
        ov = import_openvino()
        core = openvino_core()
        target = _target(core, device)
        network = read_network(core, model)
        self._check_names(network, model)
        if pixels is not None and _takes_images(network, pixels):
            network = _taking_pixels(network, pixels)
        self.threads = threads or physical_cores()
        settings = _settings(network, core, target, self.threads)
        try:
            if cache is not None:
                settings["CACHE_DIR"] = str(_folder(cache))
            compiled = core.compile_model(network, target, {"PERFORMANCE_HINT": hint.upper(), **settings})
        except RuntimeError as error:
            raise BackendError(f"OpenVINO cannot run the model on {device!r}: {reason_of(error)}") from error
        active = compiled.get_property("EXECUTION_DEVICES")
        self.name = f"openvino {ov.__version__.split('-')[0]}"
        self.device = ", ".join(f"{name.lower()} ({core.get_property(name, 'FULL_DEVICE_NAME')})" for name in active)
        if target == "CPU":  # OpenVINO starts no more threads than there are cores, whatever is asked for
            self.threads = compiled.get_property("INFERENCE_NUM_THREADS")
        # More than one only with the hint "throughput".
        self.parallel = compiled.get_property("OPTIMAL_NUMBER_OF_INFER_REQUESTS") if hint == "throughput" else 1
        self.inputs = tuple(_info(port) for port in compiled.inputs)
        self.outputs = tuple(_info(port) for port in compiled.outputs)
        self._compiled: openvino.CompiledModel | None = compiled
        self._idle: list[openvino.InferRequest] = []

    def infer(self, feeds: Mapping[str, npt.NDArray[Any]]) -> dict[str, npt.NDArray[Any]]:
        """Run the model once. The outputs are the caller's own.

        Raises:
            BackendError: If the backend is closed, the feeds are not the inputs, or OpenVINO fails.
        """
        compiled, idle = self._compiled, self._idle  # another thread may close the backend during the run
        if compiled is None:
            raise BackendError("this OpenVINO backend is closed")
        self._check(feeds)
        try:
            try:
                request = idle.pop()  # one request serves one thread at a time; a list's pop and append are atomic
            except IndexError:
                request = compiled.create_infer_request()
            values = request.infer(dict(feeds), share_inputs=True).to_tuple()  # outputs are copied
        except RuntimeError as error:
            raise BackendError(f"OpenVINO could not run the model: {reason_of(error)}") from error
        idle.append(request)
        return {output.name: value for output, value in zip(self.outputs, values, strict=True)}

    def bind(
        self, feeds: Mapping[str, npt.NDArray[Any]], outputs: Mapping[str, npt.NDArray[Any]]
    ) -> Callable[[], object]:
        """Return a function that runs the model from and into these very arrays.

        Raises:
            BackendError: If the backend is closed, or the arrays are not the inputs and outputs.
        """
        compiled = self._compiled  # another thread may close the backend meanwhile
        if compiled is None:
            raise BackendError("this OpenVINO backend is closed")
        self._check(feeds)
        ov = import_openvino()
        try:
            request = compiled.create_infer_request()
            for name, array in feeds.items():
                request.set_tensor(name, ov.Tensor(array, shared_memory=True))
            for name, array in outputs.items():
                request.set_tensor(name, ov.Tensor(array, shared_memory=True))
        except RuntimeError as error:
            raise BackendError(f"OpenVINO refuses the arrays: {reason_of(error)}") from error
        held = (dict(feeds), dict(outputs))

        def run() -> object:
            if self._compiled is None:
                raise BackendError("this OpenVINO backend is closed")
            try:
                request.infer(share_outputs=True)
            except RuntimeError as error:
                raise BackendError(f"OpenVINO could not run the model: {reason_of(error)}") from error
            return held

        return run

    def close(self) -> None:
        """Let go of the model; running calls finish first."""
        self._compiled = None
        self._idle = []

    @staticmethod
    def _check_names(network: openvino.Model, model: Path | bytes) -> None:
        for kind, ports in (("input", network.inputs), ("output", network.outputs)):
            if not all(port.get_names() for port in ports):
                what = "the model" if isinstance(model, bytes) else model
                raise ArtifactError(f"{what} has an {kind} without a name", remedy="export it again")

    def _check(self, feeds: Mapping[str, npt.NDArray[Any]]) -> None:
        """Refuse what OpenVINO would take: it reuses an input that is missing, and converts other types."""
        found = {name: (str(array.dtype), array.shape) for name, array in feeds.items()}
        if found != {tensor.name: (tensor.dtype, tensor.shape) for tensor in self.inputs}:
            raise BackendError(
                f"the feeds are {found}", expected=", ".join(f"{t.name}: {t.dtype} {t.shape}" for t in self.inputs)
            )


def _target(core: openvino.Core, device: str) -> str:
    """Return OpenVINO's name of the device to compile for."""
    name = device.upper()
    if name == "CPU":
        return name
    available = core.available_devices
    if name == "AUTO":
        return "AUTO" if len(available) > 1 else "CPU"
    if name in available or f"{name}.0" in available:
        return name
    if name == "CUDA":
        raise BackendError(
            "device 'cuda' was asked for, but OpenVINO does not run on NVIDIA GPUs",
            remedy="export an ONNX artifact and install onnxruntime-gpu, or use device='cpu'",
        )
    here = ", ".join(repr(name.lower()) for name in available)
    if name.split(".")[0] in ("GPU", "NPU"):
        raise BackendError(
            f"device {device!r} was asked for, but OpenVINO does not find it",
            expected=f"one of {here}",
            remedy="install the driver of the device, or use device='cpu'",
        )
    raise InputError(f"device {device!r} is not known", expected=f"'auto', 'cpu', 'gpu' or 'npu'; there is {here}")


def _takes_images(network: openvino.Model, spec: InputSpec) -> bool:
    """Return whether the model has the one float input that the manifest describes; if not, others will say so."""
    ports = network.inputs
    return len(ports) == 1 and _info(ports[0]) == TensorInfo(spec.name, (1, 3, spec.height, spec.width), "float32")


def _taking_pixels(network: openvino.Model, spec: InputSpec) -> openvino.Model:
    """Let a model take uint8 BGR images, height x width x channel."""
    ov = import_openvino()
    builder = ov.preprocess.PrePostProcessor(network)
    bgr, rgb = ov.preprocess.ColorFormat.BGR, ov.preprocess.ColorFormat.RGB
    port = builder.input(spec.name)
    port.tensor().set_element_type(ov.Type.u8).set_layout(ov.Layout("NHWC")).set_color_format(bgr)
    port.model().set_layout(ov.Layout(spec.layout))
    port.preprocess().convert_element_type(ov.Type.f32).convert_color(rgb).scale(1 / spec.scale)
    return builder.build()


def _settings(network: openvino.Model, core: openvino.Core, target: str, threads: int) -> dict[str, Any]:
    """Return the properties to compile with, beside the hint."""
    half = any(op.get_element_type().to_string() == "f16" for op in network.get_ops() if _is_constant(op))

    def precision(device: str) -> str:
        return "f16" if half and "FP16" in core.get_property(device, "OPTIMIZATION_CAPABILITIES") else "f32"

    def of(device: str) -> dict[str, Any]:
        kind = device.split(".")[0]
        if kind == "CPU":
            # Pinned threads of two processes would share a core while others idle, and take twice the time.
            return {
                "INFERENCE_PRECISION_HINT": precision(device),
                "INFERENCE_NUM_THREADS": threads,
                "ENABLE_CPU_PINNING": False,
            }
        return {"INFERENCE_PRECISION_HINT": precision(device)} if kind == "GPU" else {}

    if target != "AUTO":
        return of(target)
    # The device is final when the model is loaded: no start on the CPU meanwhile, no change after an error.
    return {
        "ENABLE_STARTUP_FALLBACK": False,
        "ENABLE_RUNTIME_FALLBACK": False,
        "DEVICE_PROPERTIES": {device: of(device) for device in core.available_devices},
    }


def _is_constant(op: openvino.Node) -> bool:
    name: str = op.get_type_name()
    return name == "Constant"


def _folder(path: Path) -> Path:
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"cannot make the folder {path}: {error.strerror}") from error
    return path


def _info(port: openvino.ConstOutput) -> TensorInfo:
    shape = tuple(size.get_length() if size.is_static else None for size in port.get_partial_shape())
    dtype = port.get_element_type().to_string()
    return TensorInfo(port.get_any_name(), shape, _DTYPES.get(dtype, dtype))
