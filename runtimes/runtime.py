"""``Runtime``: frames in, ``Detections`` out, from the artifact alone."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from ..artifact import Artifact, read_lone_manifest
from ..detections import Detections
from ..errors import ArtifactError, BackendError, InputError
from ..foreign import model_in
from ..machine import int8_saturates
from ..manifest import Manifest
from ..postprocess import Postprocessor
from ..preprocess import Preprocessor
from ..thresholds import Thresholds
from .backend import Backend, TensorInfo

if TYPE_CHECKING:
    from .openvino_backend import Hint

__all__ = ["Runtime"]

_DEFAULT_THRESHOLDS = Thresholds()


class Runtime:
    """A loaded detector.

    Everything about input and outputs comes from the manifest. The engine is opened, checked against the manifest
    and warmed up here, so that the first frame is as fast as the others. Calls may come from several threads at
    once; ``close`` may come from any thread, and calls already running finish.

    Args:
        source: An artifact or its directory, a lone ``.onnx`` or OpenVINO ``.xml`` file with an embedded manifest, or a
            ``.safetensors`` checkpoint, which runs in PyTorch.
        device: As the engine names it: ``"cpu"`` or ``"cuda"`` for ONNX and PyTorch, ``"cpu"``, ``"gpu"``, ``"gpu.1"``
            or ``"npu"`` for OpenVINO. It is used or refused; ``"auto"`` takes the best that the engine can start
            (``runtime.device`` says which).
        threads: CPU threads of one inference; None takes the physical cores that this process may use.
        warmup: Inferences on a grey image before the constructor returns.
        hint: OpenVINO only: ``"latency"``, or ``"throughput"`` to get most done for calls from several threads.
        cache: OpenVINO only: folder where it keeps compiled models, to load faster next time. It is trusted.

    Attributes:
        manifest: What the model is, and how it is fed and read.
        preprocessor: Frame → network input and letterbox.
        postprocessor: Outputs and letterboxes → ``Detections``.

    Raises:
        InputError: If the source is missing or of no kind named above, or an option is out of range.
        ArtifactError: If the artifact is damaged, or the engine's inputs and outputs are not those of the manifest.
        CheckpointError: If a checkpoint is not usable.
        BackendError: If the device is not to be had.
        MissingDependencyError: If the engine's package is not installed.
    """

    def __init__(
        self,
        source: Artifact | str | Path,
        *,
        device: str = "auto",
        threads: int | None = None,
        warmup: int = 2,
        hint: Hint = "latency",
        cache: str | Path | None = None,
    ) -> None:
        if threads is not None and threads < 1:
            raise InputError(f"threads is {threads}", expected="1 or more")
        if warmup < 0:
            raise InputError(f"warmup is {warmup}", expected="0 or more")
        folder = None if cache is None else Path(cache)
        self._take(*_open(source, device.lower(), threads, hint, folder), warmup)

    @classmethod
    def of(cls, backend: Backend, manifest: Manifest, *, warmup: int = 2) -> Runtime:
        """Return a Runtime on an engine that is open already; it closes the engine, also if it is refused.

        Args:
            backend: The engine, with the model loaded.
            manifest: What the model is.
            warmup: Inferences on a grey image before this returns.

        Raises:
            ArtifactError: If the engine's inputs and outputs are not those of the manifest.
            BackendError: If the engine fails.
        """
        runtime = cls.__new__(cls)
        runtime._take(backend, manifest, warmup)
        return runtime

    def _take(self, backend: Backend, manifest: Manifest, warmup: int) -> None:
        """Check the engine against the manifest, warm it up, and make it this Runtime's own."""
        self._backend: Backend | None = None
        self.manifest = manifest
        try:
            _check_io(backend, self.manifest)
            _warn_of_saturation(backend, self.manifest)
            self.preprocessor = Preprocessor(self.manifest.input)
            self.postprocessor = Postprocessor(self.manifest)
            self.device = backend.device
            self.engine = backend.name
            self.threads = backend.threads
            spec = self.manifest.input
            grey = np.full((spec.batch, 3, spec.height, spec.width), spec.pad_value * spec.scale, np.float32)
            for _ in range(warmup):
                backend.infer({spec.name: grey})
        except BaseException:
            backend.close()
            raise
        self._backend = backend

    def __call__(self, frame: npt.NDArray[np.uint8], *, thresholds: Thresholds = _DEFAULT_THRESHOLDS) -> Detections:
        """Detect objects in one frame.

        Args:
            frame: uint8, shape (height, width, 3), BGR, any size.
            thresholds: What to keep.

        Returns:
            Objects in pixels of ``frame``, best first.

        Raises:
            InputError: If the frame is not such an image.
            BackendError: If the runtime is closed, or the engine fails.
        """
        images, letterbox = self.preprocessor(frame)
        outputs = self.infer({self.manifest.input.name: images})
        return self.postprocessor(outputs, [letterbox], thresholds)[0]

    def infer(self, feeds: Mapping[str, npt.NDArray[Any]]) -> dict[str, npt.NDArray[Any]]:
        """Run the engine alone, for measuring and comparing: preprocessed input in, raw outputs out.

        Raises:
            BackendError: If the runtime is closed, or the engine fails.
        """
        backend = self._backend
        if backend is None:
            raise BackendError("this Runtime is closed", remedy="open a new one, or call it inside its 'with' block")
        return backend.infer(feeds)

    def close(self) -> None:
        """Let go of the engine; may be called twice. Calling the runtime afterwards raises ``BackendError``."""
        backend, self._backend = self._backend, None
        if backend is not None:
            backend.close()

    def __enter__(self) -> Runtime:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _open(
    source: Artifact | str | Path, device: str, threads: int | None, hint: Hint, cache: Path | None
) -> tuple[Backend, Manifest]:
    """Open the engine that the source is for."""
    path = source.path if isinstance(source, Artifact) else model_in(Path(source))
    if isinstance(source, Artifact) or path.is_dir():
        artifact = source if isinstance(source, Artifact) else Artifact.load(path)
        manifest, model = artifact.manifest, artifact.model_file
        if manifest.format == "torch":
            raise ArtifactError(f"{path} is an artifact of format 'torch'", expected="'onnx' or 'openvino'")
        if manifest.format == "openvino" and model.suffix.lower() == ".xml":
            artifact.file(Path(manifest.files[0].path).with_suffix(".bin").as_posix())  # read too, so it must be listed
    elif not path.exists():
        raise InputError(f"{path} does not exist", expected="an artifact, an .onnx or .xml file or a checkpoint")
    elif path.suffix in (".onnx", ".xml"):
        manifest, model = read_lone_manifest(path), path
    elif path.suffix == ".safetensors":
        from .torch_backend import manifest_for_checkpoint

        manifest, model = manifest_for_checkpoint(path), path
    else:
        raise InputError(
            f"{path} is nothing that a Runtime can open",
            expected="an artifact directory, an .onnx or .xml file or a .safetensors checkpoint",
            remedy="'yolo12edge import' turns a public .pt into a checkpoint" if path.suffix == ".pt" else "",
        )
    return _engine(model, manifest, device, threads, hint, cache), manifest


def _engine(
    model: Path, manifest: Manifest, device: str, threads: int | None, hint: Hint, cache: Path | None
) -> Backend:
    """Load a model into the engine of its format."""
    if manifest.format == "openvino":
        from .openvino_backend import OpenVinoBackend

        return OpenVinoBackend(model, device=device, threads=threads, hint=hint, cache=cache)
    if hint != "latency" or cache is not None:
        raise InputError(
            f"hint and cache are for OpenVINO, and {model} is of format {manifest.format!r}",
            remedy="leave them out, or export with --format openvino",
        )
    if manifest.format == "torch":
        from .torch_backend import TorchBackend

        return TorchBackend(model, manifest, device=device, threads=threads)
    from .ort_backend import OrtBackend

    return OrtBackend(model, device=device, threads=threads)


def _warn_of_saturation(backend: Backend, manifest: Manifest) -> None:
    """Say so if the products of 8-bit weights saturate here, which costs accuracy and gives no error."""
    calibration = manifest.calibration
    if (
        calibration is not None
        and not calibration.reduced_range
        and calibration.placement.endswith(("-vnni", "-u8"))  # -u8: what the first exports called it
        and backend.device.startswith("cpu")
        and int8_saturates()
    ):
        warnings.warn(
            "this INT8 artifact has 8-bit weights, whose products saturate on this processor (no VNNI) and cost "
            "accuracy: export it on a processor like this one",
            RuntimeWarning,
            stacklevel=4,
        )


def _check_io(backend: Backend, manifest: Manifest) -> None:
    """Refuse an engine whose inputs and outputs are not those of the manifest."""
    spec = manifest.input
    if spec.batch != 1:
        raise ArtifactError(f"the model takes batches of {spec.batch}", expected="a model of batch 1")
    inputs = (TensorInfo(spec.name, (spec.batch, 3, spec.height, spec.width), spec.dtype),)
    outputs = tuple(TensorInfo(output.name, output.shape, output.dtype) for output in manifest.outputs)
    for kind, found, expected in (("inputs", backend.inputs, inputs), ("outputs", backend.outputs, outputs)):
        if sorted(found, key=_name) != sorted(expected, key=_name):
            raise ArtifactError(
                f"the model's {kind} are {_describe(found)}",
                expected=f"{_describe(expected)}, as the manifest says",
                remedy="export the artifact again",
            )


def _name(tensor: TensorInfo) -> str:
    return tensor.name


def _describe(tensors: tuple[TensorInfo, ...]) -> str:
    return ", ".join(f"{tensor.name} {tensor.dtype} {list(tensor.shape)}" for tensor in tensors)
