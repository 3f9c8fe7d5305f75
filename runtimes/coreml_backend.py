"""Core ML, through coremltools, as a ``Backend``: on macOS alone."""

from __future__ import annotations

import shutil
import warnings
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from threading import Lock
from types import ModuleType
from typing import Any

import numpy as np
import numpy.typing as npt

from ..errors import ArtifactError, BackendError, InputError, MissingDependencyError
from ..manifest import Manifest
from .backend import TensorInfo
from .coreml_features import features_of
from .coreml_library import (
    Unit,
    check_macos,
    import_coremltools,
    importing,
    one_line,
    read_package,
    unit_of,
    units_here,
)
from .cores import physical_cores
from .lone_package import description_of

__all__ = ["CoremlBackend"]

_UNITS = {"cpu": "CPU_ONLY", "gpu": "CPU_AND_GPU", "ane": "CPU_AND_NE", "auto": "ALL"}
_NAMES: dict[Unit, str] = {"cpu": "CPU", "gpu": "GPU", "ane": "Neural Engine"}
_ASKED: dict[str, Unit] = {"gpu": "gpu", "ane": "ane"}  # by name, what may be missing
_PLANS = (14, 4)  # the first macOS that tells where operations run
_lent: dict[tuple[int, ...], list[npt.NDArray[Any]]] = {}
"""Arrays for inputs, by shape, that no model uses now: see ``CoremlBackend._array``."""


class CoremlBackend:
    """One Core ML model; ``infer`` may be called from several threads, and runs once at a time.

    Apple wants it so: "Use an MLModel instance on one thread or one dispatch queue at a time"
    (https://developer.apple.com/documentation/coreml/mlmodel). coremltools keeps the interpreter's lock during a
    prediction besides, so that no other thread of Python runs meanwhile.

    A package with an image input takes pixels: uint8, shape (1, height, width, 3), in the order of the manifest's
    input if that is uint8, else BGR. One with a tensor input takes float32, shape (batch, 3, height, width).

    Core ML does not survive a fork: the process that opened the backend is the only one that may use it.

    Args:
        package: Directory ``model.mlpackage``.
        manifest: Of the model.
        device: ``"cpu"``, ``"gpu"`` and ``"ane"``, in any case, is used or refused. Core ML computes what the GPU or
            the Neural Engine lacks on the CPU; if that is all of the model, it is refused, from macOS 14.4 on, which
            is the first to tell. ``"auto"`` leaves the choice to Core ML.
        function: Which one, of a package with several; None is the one that opens by itself.

    Raises:
        InputError: If there can be no such device.
        BackendError: If this is no Mac, the device is not to be had, or Core ML cannot run the model on it.
        MissingDependencyError: If coremltools or Pillow is not installed.
        ArtifactError: If the package is damaged, for a later macOS, or no model that a Runtime can run.
    """

    def __init__(self, package: Path, *, manifest: Manifest, device: str = "auto", function: str | None = None) -> None:
        wanted = _known(device)
        version = check_macos()
        ct = import_coremltools()
        _check_unit(ct, wanted, manifest, version)
        description = description_of(read_package(ct, package), function)
        self._features = features_of(description, manifest)
        if self._features.image:
            _import_pillow()
        units = getattr(ct.ComputeUnit, _UNITS[wanted])
        name = getattr(description, "name", None)  # the description of an only program has none
        model = _load(ct, package, units, name)
        counts = _planned(ct, model, units, name) if wanted != "cpu" and version >= _PLANS else Counter()
        unit = _ASKED.get(wanted)
        if counts and unit is not None and not counts[unit]:
            raise BackendError(
                f"device {wanted!r} was asked for, but Core ML would run no operation of the model on the "
                f"{_NAMES[unit]}",
                remedy="export in half precision (--fp16), or use device='cpu'",
            )
        self.name = f"coremltools {ct.__version__}"
        self.device = _described(wanted, units.name, counts)
        self.threads = physical_cores()  # Core ML decides, and does not tell
        self.parallel = 1
        self.inputs = (self._features.input,)
        self.outputs = self._features.outputs
        self._lock = Lock()
        self._arrays: dict[tuple[int, ...], npt.NDArray[Any]] = {}
        self._model: Any = model

    def infer(self, feeds: Mapping[str, npt.NDArray[Any]]) -> dict[str, npt.NDArray[Any]]:
        """Run the model once. The outputs are the caller's own.

        Raises:
            BackendError: If the backend is closed, the feeds are not the input, or Core ML fails.
        """
        if self._model is None:
            raise BackendError("this Core ML backend is closed")
        self._features.check(feeds)
        name = self._features.input.name
        image = self._image(feeds[name]) if self._features.image else None
        with self._lock:
            model = self._model
            if model is None:
                raise BackendError("this Core ML backend is closed")
            try:
                values = model.predict({name: self._array(feeds[name]) if image is None else image})
            except Exception as error:  # coremltools raises any kind, Exception itself among them
                raise BackendError(f"Core ML could not run the model: {one_line(error)}") from error
        return {output.name: _as_output(values, output) for output in self.outputs}

    def close(self) -> None:
        """Let go of the model; a running call finishes first."""
        with self._lock:
            self._model = None
            while self._arrays:
                shape, array = self._arrays.popitem()
                _lent.setdefault(shape, []).append(array)

    def _image(self, pixels: npt.NDArray[np.uint8]) -> Any:
        """Return the picture as Core ML's Python takes it: a Pillow image, red first. It copies, once."""
        height, width = pixels.shape[1:3]
        content = np.ascontiguousarray(pixels[0])
        image = _import_pillow()
        return image.frombuffer("RGB", (width, height), content, "raw", self._features.order, 0, 1)

    def _array(self, value: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """Return a copy that is never freed, for the lock's owner.

        Core ML lets go of an array about a second after the last prediction, in a thread of its own, where the
        interpreter's lock is not held. If that was the last reference, freeing the array would damage Python's memory
        (https://github.com/apple/coremltools/pull/2827). So arrays are kept, and lent to the next model.
        """
        kept = self._arrays.get(value.shape)
        if kept is None:
            try:
                kept = _lent.setdefault(value.shape, []).pop()
            except IndexError:
                kept = np.empty(value.shape, np.float32)
            self._arrays[value.shape] = kept
        np.copyto(kept, value)
        return kept


def _known(device: str) -> str:
    """Return the name of a device in lower case."""
    name = device.lower()
    if name in _UNITS:
        return name
    if name == "cuda":
        raise BackendError(
            "device 'cuda' was asked for, but Core ML runs on Apple's processors",
            remedy="export with --format tensorrt or onnx for NVIDIA GPUs, or use device='gpu' on a Mac",
        )
    raise InputError(f"device {device!r} is not known", expected="'auto', 'cpu', 'gpu' or 'ane', the Neural Engine")


def _check_unit(ct: ModuleType, wanted: str, manifest: Manifest, version: tuple[int, ...]) -> None:
    """Refuse a unit that is not there, or cannot compute such a model."""
    unit = _ASKED.get(wanted)
    if unit is None:
        return
    if unit == "ane" and version < (13,):
        raise BackendError(
            f"device 'ane' can be chosen from macOS 13 on, and this is macOS {'.'.join(map(str, version))}",
            remedy="use device='auto', which leaves the choice to Core ML",
        )
    here = units_here(ct)
    if unit not in here:
        raise BackendError(
            f"device {wanted!r} was asked for, but Core ML finds no {_NAMES[unit]} here"
            + ("; Macs with a processor of Intel's have none" if unit == "ane" else ""),
            expected="one of " + ", ".join(repr(name) for name in _NAMES if name in here),
            remedy="use device='cpu' or 'auto'",
        )
    if unit == "ane" and manifest.precision == "fp32":
        raise BackendError(
            "device 'ane' was asked for, but the Neural Engine computes in half precision and the model is FP32",
            remedy="export with --fp16, or use device='gpu' or 'cpu'",
        )


def _import_pillow() -> Any:
    try:
        from PIL import Image
    except ImportError as error:
        raise MissingDependencyError("pillow", extra="coreml", purpose="to give Core ML an image") from error
    return Image


def _load(ct: ModuleType, package: Path, units: Any, function: str | None) -> Any:
    """Compile and load a package; coremltools only warns if that fails.

    It opens a copy, which is not needed any more once it is compiled: coremltools writes ``Manifest.json`` of what it
    opens anew, and the artifact would not be what its manifest says.
    """
    with TemporaryDirectory(prefix="yolo12edge-") as folder, importing, warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        try:
            copy = shutil.copytree(package, Path(folder) / package.name)
            model = ct.models.MLModel(str(copy), compute_units=units, function_name=function)
        except Exception as error:  # coremltools raises any kind, Exception itself among them
            raise ArtifactError(f"coremltools cannot load {package}: {one_line(error)}") from error
    if getattr(model, "__proxy__", None) is not None:
        return model
    failure = getattr(model, "_framework_error", None)
    if failure is not None:
        raise BackendError(
            f"Core ML cannot load {package}: {one_line(failure)}", remedy="update macOS, or export it again"
        )
    raise BackendError(
        "coremltools is installed without the part that runs models",
        expected="the wheel for macOS; there is one for Python 3.10 to 3.13",
        remedy="pip install --force-reinstall --only-binary :all: coremltools",
    )


def _planned(ct: ModuleType, model: Any, units: Any, function: str | None) -> Counter[Unit]:
    """Return how many operations Core ML means to run where; nothing if it does not tell."""
    counts: Counter[Unit] = Counter()
    try:
        plan = ct.models.compute_plan.MLComputePlan.load_from_path(model.get_compiled_model_path(), units)
        for operation in _operations(plan.model_structure, function):
            usage = plan.get_compute_device_usage_for_mlprogram_operation(operation)  # None of constants
            unit = None if usage is None else unit_of(ct, usage.preferred_compute_device)
            if unit is not None:
                counts[unit] += 1
    except RuntimeError:
        return Counter()
    return counts


def _operations(structure: Any, function: str | None) -> Iterator[Any]:
    if structure.program is not None:
        for name, program in structure.program.functions.items():
            if function in (None, name):
                yield from program.block.operations


def _described(wanted: str, units: str, counts: Counter[Unit]) -> str:
    """Return what the model runs on: the unit that most operations run on, if Core ML tells."""
    if not counts:
        return f"{wanted} ({units})"
    shares = counts.most_common()
    where = ", ".join(f"{count} on the {_NAMES[unit]}" for unit, count in shares)
    return f"{shares[0][0] if wanted == 'auto' else wanted} ({units}, operations: {where})"


def _as_output(values: Mapping[str, Any], output: TensorInfo) -> npt.NDArray[Any]:
    value = values.get(output.name)
    shape = getattr(value, "shape", None)
    if (
        shape is None
        or len(shape) != len(output.shape)
        or any(size not in (None, found) for size, found in zip(output.shape, shape, strict=True))
    ):
        raise BackendError(f"Core ML gave {output.name!r} of shape {shape}", expected=f"{list(output.shape)}")
    return np.ascontiguousarray(value, np.float32)
