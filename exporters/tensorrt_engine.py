"""FP32 ONNX artifact → TensorRT artifact: an engine, or the typed ONNX from which a device makes its own."""

from __future__ import annotations

import os
import tempfile
import warnings
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
import numpy as np

from ..artifact import Artifact, check_float_onnx, write_artifact
from ..calibration.agreement import agreement_of
from ..calibration.guard import AGREEMENT_F1
from ..calibration.placement import Target
from ..detections import Detections
from ..errors import BackendError, InputError, MissingDependencyError, VerificationError
from ..manifest import PLAN_SUFFIX, Manifest, Parity, Report, TensorRtFormat
from ..metrics.evaluate import evaluate_pair
from ..metrics.tasks import Measure
from ..postprocess import Postprocessor
from ..runtimes import Backend, Runtime
from ..runtimes.ort_backend import OrtBackend
from ..runtimes.tensorrt_builder import BuildOptions, build_plan
from ..runtimes.tensorrt_plugins import PLUGIN_VARIABLE
from ..thresholds import Thresholds
from .converter import Progress
from .onnx_from_torch import MODEL_NAME
from .scored import accuracy_of
from .tensorrt_onnx import TensorRtForm, half_overflows, tensorrt_onnx
from .verify import (
    Frame,
    check_half_parity,
    check_parity,
    compare_with_onnx,
    feeds_of,
    measure_parity,
    verification_frames,
)

if TYPE_CHECKING:
    from ..data.dataset import Sample

__all__ = ["ENGINE_NAME", "EngineMaker", "runs_engines", "tensorrt_from_onnx"]

ENGINE_NAME = f"model{PLAN_SUFFIX}"
_SAME = 0.01  # pixels, radians or shares
_SAME_MASK = 0.99  # IoU


@dataclass(frozen=True, slots=True, eq=False)
class EngineMaker:
    """What all TensorRT artifacts of one export share.

    Attributes:
        format: The library.
        form: Of the typed ONNX.
        on_device: Whether the artifact holds the ONNX, and the device makes its engine.
        options: How an engine is built.

    Raises:
        InputError: If the library has no such form, on no device.
    """

    format: TensorRtFormat = "tensorrt"
    form: TensorRtForm = field(default_factory=TensorRtForm)
    on_device: bool = False
    options: BuildOptions = field(default_factory=BuildOptions)

    def __post_init__(self) -> None:
        if self.format != "tensorrt-rtx":
            return
        if self.form.nms_iou is not None:
            raise InputError(
                "tensorrt-rtx cannot suppress boxes in the engine", remedy="leave --nms out: the Runtime does it"
            )
        if self.form.attention == "plugin":
            raise InputError(
                "tensorrt-rtx takes no plugins from Python", remedy="choose --attention native, or --format tensorrt"
            )

    @property
    def target(self) -> Target:
        """Where INT8 models of it run."""
        return "tensorrt"

    @property
    def step(self) -> str:
        """What takes long."""
        return "" if self.on_device else "Building the engine"

    @property
    def runs_here(self) -> bool:
        """Whether this machine runs the engines that are made, so that they can be measured."""
        return not self.on_device and runs_engines(self.format, self.options.architectures)

    def files(
        self, model: bytes, manifest: Manifest, *, progress: Progress | None = None
    ) -> tuple[Manifest, dict[str, bytes]]:
        """Return the manifest and the files of an artifact.

        Args:
            model: Float ONNX, or with Q/DQ pairs.
            manifest: Its own.
            progress: Called while an engine is built, with the number of steps done and of all.

        Raises:
            ExportError: If the model cannot be brought into this form, or the library does not take it.
            MissingDependencyError: If onnx or the library is not installed.
            BackendError: If the library cannot build here.
        """
        own = msgspec.structs.replace(manifest, format=self.format, files=[], report=Report())
        content, own = tensorrt_onnx(model, own, self.form)
        if self.on_device:
            return own, {MODEL_NAME: content}
        if self.form.attention == "plugin":
            _register_plugin(self.format, portable=self.options.hardware_compatible)
        built = build_plan(content, own, self.format, self.options, progress=progress)
        for warning in built.warnings:
            warnings.warn(warning, RuntimeWarning, stacklevel=3)
        versions = {**own.provenance.versions, self.format: built.facts.version}
        own = msgspec.structs.replace(
            own,
            engine=built.facts,
            provenance=msgspec.structs.replace(own.provenance, versions=versions),
            report=Report(layers=built.layers),
        )
        return own, {ENGINE_NAME: built.plan}

    def simulation(self, model: bytes, manifest: Manifest, *, threads: int | None) -> Backend:
        """Open typed ONNX in ONNX Runtime, as it stands: one float image at a time.

        Args:
            model: As for ``files``.
            manifest: Its own.
            threads: Of the CPU.
        """
        content, _ = tensorrt_onnx(model, manifest, _plain(replace(self.form, batch=1, min_batch=None, uint8=False)))
        return OrtBackend(content, device="cpu", threads=threads, optimize=False)

    def for_pictures(self, model: bytes, manifest: Manifest, frames: Sequence[Frame]) -> EngineMaker:
        """Return a maker whose form keeps in float32 what half precision cannot hold on these pictures.

        Args:
            model: Float ONNX.
            manifest: Its own.
            frames: Real pictures.

        Raises:
            MissingDependencyError: If onnx or onnxruntime is not installed.
        """
        if self.form.precision != "fp16":
            return self
        kept = self.form.float_names | half_overflows(model, manifest.input, frames)
        return replace(self, form=replace(self.form, float_names=kept))


def tensorrt_from_onnx(
    source: Artifact,
    out: Path | str,
    maker: EngineMaker,
    *,
    images: Sequence[Path | Frame] | None = None,
    samples: Sequence[Sample] = (),
    dataset: str = "",
    progress: Progress | None = None,
    overwrite: bool = False,
) -> Artifact:
    """Make a float TensorRT artifact.

    The typed ONNX is compared with its source in ONNX Runtime before anything is built from it. The engine itself is
    compared, and scored, where it can run; its report is silent where it cannot.

    Args:
        source: The FP32 ONNX artifact.
        out: Directory to write.
        maker: Library, form and options.
        images: Pictures to compare on and to look for values that half precision cannot hold, as files or uint8 BGR
            arrays; None renders a few scenes.
        samples: Labelled images to score an engine on, beside its source; none if it is not to be scored.
        dataset: Their dataset's name, for the report.
        progress: Called while an engine is built, with the number of steps done and of all.
        overwrite: Whether an artifact at ``out`` may be replaced.

    Raises:
        InputError: If the source is not FP32 ONNX, the form contradicts itself, or ``out`` must not be replaced.
        MissingDependencyError: If onnx, onnxruntime or the library is not installed.
        ExportError: If the library does not take the model.
        BackendError: If the library cannot build here: without a GPU, ``on_device`` leaves that to the device.
        VerificationError: If the result does not agree with the source; nothing is written then.
    """
    check_float_onnx(source.manifest, source.path)
    model, frames = source.model_file.read_bytes(), verification_frames(images)
    maker = maker.for_pictures(model, source.manifest, frames)
    precision = maker.form.precision
    manifest = msgspec.structs.replace(source.manifest, precision=precision)
    parity, rounding = _check_typed(model, manifest, maker.form, frames)
    finished, files = maker.files(model, manifest, progress=progress)
    if maker.on_device:
        if maker.form.attention != "plugin":
            finished = msgspec.structs.replace(finished, report=Report(parity=parity))
    elif maker.runs_here:
        with (
            tempfile.TemporaryDirectory() as folder,
            Runtime(write_artifact(Path(folder) / "draft", finished, files)) as runtime,
        ):
            measured = _compare_engine(runtime, source, frames, selects=maker.form.candidates is not None)
            if measured is not None:
                (check_parity if precision == "fp32" else check_half_parity)(measured, rounding=rounding)
            accuracy = None
            if samples:
                with Runtime(source, device="cpu") as reference:
                    own, other = evaluate_pair(runtime, reference, samples, manifest.class_names)
                accuracy = accuracy_of(own, other, reference=source.path.name, dataset=dataset)
        report = msgspec.structs.replace(finished.report, parity=measured, accuracy=accuracy)
        finished = msgspec.structs.replace(finished, report=report)
    return write_artifact(out, finished, files, overwrite=overwrite)


def _register_plugin(format: TensorRtFormat, *, portable: bool) -> None:
    """Register the attention kernel that becomes part of the engine, unless the user names a plugin library.

    Args:
        format: The library.
        portable: Whether the engine is for other GPUs, too: its kernel is then compiled for the first of them, and by
            the driver for later ones.
    """
    if format != "tensorrt" or os.environ.get(PLUGIN_VARIABLE):
        return
    from ..runtimes.cuda import open_cuda
    from .area_attention.ahead_of_time import registered_ahead_of_time

    with closing(open_cuda().open(0)) as device:
        major, minor = device.facts.compute_capability
    registered_ahead_of_time(80 if portable else 10 * major + minor)


def runs_engines(format: TensorRtFormat, architectures: Sequence[str] = ()) -> bool:
    """Return whether engines of this library can run on this machine: it is installed, and there is such a GPU.

    Args:
        format: The library.
        architectures: As in ``BuildOptions``.
    """
    from ..runtimes.cuda import open_cuda
    from ..runtimes.tensorrt_library import import_tensorrt

    try:
        import_tensorrt(format)
        cuda = open_cuda()
        if cuda.device_count() == 0:
            return False
        with closing(cuda.open(0)) as device:
            facts = device.facts
    except (MissingDependencyError, BackendError):
        return False
    if format == "tensorrt":
        return True  # it builds for this GPU
    return facts.architecture in architectures if architectures else facts.compute_capability >= (8, 0)


def _check_typed(
    model: bytes, manifest: Manifest, form: TensorRtForm, frames: Sequence[Frame]
) -> tuple[Parity, Parity]:
    """Compare the typed ONNX with its float source, both in ONNX Runtime on the CPU.

    The plugin's kernel is none of ONNX Runtime's, so that form is compared as the native one. What selects candidates
    must then give the detections of the form that keeps all.

    Args:
        model: The source.
        manifest: Of the source, with the precision of the form.
        form: What to make of it.
        frames: To compare on.

    Returns:
        How far the two are from each other, and the source's float32 from itself.
    """
    content, own = tensorrt_onnx(model, manifest, _plain(form))
    with closing(OrtBackend(content, device="cpu")) as whole:
        parity, rounding = compare_with_onnx(model, whole, own, frames)
        (check_parity if form.precision == "fp32" else check_half_parity)(parity, rounding=rounding)
        if form.candidates is not None:
            chosen_form = replace(_plain(form), candidates=form.candidates, nms_iou=form.nms_iou)
            content, selected = tensorrt_onnx(model, manifest, chosen_form)
            with closing(OrtBackend(content, device="cpu")) as chosen:
                _check_selection(whole, own, chosen, selected, frames)
    return parity, rounding


def _plain(form: TensorRtForm) -> TensorRtForm:
    """Return the form without what ONNX Runtime has not, and without the selection of candidates."""
    attention = "native" if form.attention == "plugin" else form.attention
    return replace(form, attention=attention, candidates=None, nms_iou=None)


def _check_selection(
    whole: Backend, own: Manifest, chosen: Backend, selected: Manifest, frames: Sequence[Frame]
) -> None:
    """Refuse a graph that leaves out candidates which would have become detections."""
    iou = Thresholds() if selected.nms_iou is None else Thresholds(iou=selected.nms_iou)
    for frame in frames:
        found = []
        for engine, manifest in ((whole, own), (chosen, selected)):
            feeds, letterbox = feeds_of(manifest.input, frame)
            found.append(Postprocessor(manifest)(engine.infer(feeds), [letterbox], iou)[0])
        expected, given = found
        different = _difference(expected, given)
        if different:
            raise VerificationError(
                f"the graph that selects candidates gives other detections: {different}",
                expected=f"the {len(expected)} of the graph that keeps all",
                remedy="raise candidates, or leave the selection to the Runtime; nothing was written",
            )


def _difference(expected: Detections, given: Detections) -> str:
    """Return in what two detections of a frame differ, boxes or what the task adds; empty if they are the same."""
    if len(expected) != len(given):
        return f"there are {len(given)}"
    if not np.array_equal(expected.class_id, given.class_id):
        return "their classes differ"
    for name in ("xyxy", "confidence", "keypoints", "obb"):
        own, other = getattr(expected, name), getattr(given, name)
        if (own is None) != (other is None) or (own is not None and not np.allclose(own, other, atol=_SAME)):
            return f"their {name} differ"
    if (expected.mask is None) != (given.mask is None):
        return "their masks differ"
    if expected.mask is not None and given.mask is not None:
        large = expected.mask.area() > 0
        if (np.diagonal(expected.mask.iou(given.mask))[large] < _SAME_MASK).any():
            return "their masks differ"
    return ""


def _compare_engine(runtime: Runtime, source: Artifact, frames: Sequence[Frame], *, selects: bool) -> Parity | None:
    """Compare an engine on this machine with the float ONNX in ONNX Runtime.

    Args:
        runtime: Of the engine.
        source: The float ONNX artifact.
        frames: To compare on.
        selects: Whether the engine selects candidates: they are in another order then, so detections are compared.

    Returns:
        How far their outputs differ, or None of an engine that selects.

    Raises:
        VerificationError: If its detections are others.
    """
    manifest = runtime.manifest
    with Runtime(source, device="cpu") as reference:
        if not selects:
            return measure_parity(reference.infer, runtime.infer, manifest, frames, source="onnx fp32")
        iou = Thresholds() if manifest.nms_iou is None else Thresholds(iou=manifest.nms_iou)
        pairs = [(runtime(frame, thresholds=iou), reference(frame, thresholds=iou)) for frame in frames]
    agreement = agreement_of([own for own, _ in pairs], [other for _, other in pairs], Measure.of(manifest))
    if agreement.f1 < AGREEMENT_F1:
        raise VerificationError(
            f"the engine's detections agree with the float model's to {100 * agreement.f1:.1f} %",
            expected=f"{100 * AGREEMENT_F1:.0f} % or more",
            remedy="report it with the GPU and the version of TensorRT; nothing was written",
        )
    return None
