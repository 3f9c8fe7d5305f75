"""The options of ``yolo12edge export`` that are TensorRT's alone."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from ..artifact import Artifact
    from ..exporters.tensorrt_engine import EngineMaker
    from ..manifest import TensorRtFormat
    from ._data import ExportData

__all__ = ["TensorRtOptions", "build"]

Precision = Literal["fp32", "fp16"]

_NMS_CANDIDATES = 1024  # that suppression in the graph looks at: it compares each with each


@dataclass(frozen=True, slots=True)
class TensorRtOptions:
    """What was given on the command line; each is named like its option."""

    fp32: bool = False
    attention: Literal["native", "onnx", "plugin"] = "native"
    batch: int = 1
    min_batch: int | None = None
    uint8: bool = False
    nms: float | None = None
    on_device: bool = False
    workspace: float | None = None
    timing_cache: Path | None = None
    version_compatible: bool = False
    hardware_compatible: bool = False
    refit: bool = False

    def given(self) -> list[str]:
        """Return the options that are not as they are by themselves."""
        return [f"--{item.name.replace('_', '-')}" for item in fields(self) if getattr(self, item.name) != item.default]

    def precisions(self, *, fp16: bool) -> list[Precision]:
        """Return the float artifacts to write; the first gives what INT8 leaves in float, and is compared with it."""
        if self.fp32:
            return ["fp16", "fp32"] if fp16 else ["fp32"]
        return ["fp16"]

    def _check_rtx(self) -> None:
        """Refuse before minutes are spent what the other library alone can do."""
        from ..errors import InputError

        if self.version_compatible:
            raise InputError(
                "an engine of tensorrt-rtx is for one version of it",
                remedy="leave --version-compatible out, or use --on-device: each device builds its own",
            )
        if self.hardware_compatible:
            raise InputError(
                "an engine of tensorrt-rtx is for all GPUs from Ampere on by itself",
                remedy="leave --hardware-compatible out",
            )

    def maker(self, format: TensorRtFormat, *, precision: Precision) -> EngineMaker:
        """Return what makes the artifacts.

        Raises:
            InputError: If options contradict each other.
            MissingDependencyError: If an engine is to be built here and the library is not installed.
        """
        from ..errors import InputError, MissingDependencyError
        from ..exporters.tensorrt_engine import EngineMaker
        from ..exporters.tensorrt_onnx import TensorRtForm
        from ..runtimes.tensorrt_builder import BuildOptions
        from ..runtimes.tensorrt_library import import_tensorrt

        building = [name for name in self.given() if name in _BUILDING]
        if self.on_device and building:
            raise InputError(
                f"{', '.join(building)} and --on-device contradict each other: nothing is built here",
                remedy="leave one out",
            )
        if format == "tensorrt-rtx":
            self._check_rtx()
        if self.workspace is not None and not math.isfinite(self.workspace):
            raise InputError(f"--workspace is {self.workspace}", expected="GiB of memory")
        if self.min_batch is not None and self.min_batch > self.batch:
            raise InputError(f"--min-batch {self.min_batch} is more than --batch {self.batch}", remedy="raise --batch")
        if not self.on_device:
            try:
                import_tensorrt(format)
            except MissingDependencyError as error:
                raise MissingDependencyError(
                    error.package,
                    extra=format,
                    purpose="to build an engine here; --on-device leaves that to the device",
                ) from error
        form = TensorRtForm(
            precision="fp32" if self.fp32 else "fp16",  # the one that more contradicts, before anything is made
            attention=self.attention,
            batch=self.batch,
            min_batch=self.min_batch,
            uint8=self.uint8,
            candidates=None if self.nms is None else _NMS_CANDIDATES,
            nms_iou=self.nms,
        )
        options = BuildOptions(
            workspace_bytes=None if self.workspace is None else round(self.workspace * 2**30),
            timing_cache=self.timing_cache,
            hardware_compatible=self.hardware_compatible,
            version_compatible=self.version_compatible,
            refit=self.refit,
        )
        return EngineMaker(format, replace(form, precision=precision), self.on_device, options)


_BUILDING = ("--workspace", "--timing-cache", "--version-compatible", "--hardware-compatible", "--refit")


def build(
    maker: EngineMaker,
    precision: Precision,
    onnx: Artifact,
    place: Path,
    *,
    images: Sequence[Path] | None,
    given: ExportData,
    overwrite: bool,
) -> Artifact:
    """Make a float TensorRT artifact and show how it goes on; errors are those of ``tensorrt_from_onnx``.

    Args:
        maker: What all artifacts share.
        precision: Of this one.
        onnx: The FP32 ONNX artifact.
        place: Where to write.
        images: To compare on; None renders scenes.
        given: The data that the user gave; an engine is scored on its labelled images.
        overwrite: Whether an artifact at ``place`` may be replaced.
    """
    from ..exporters.tensorrt_engine import tensorrt_from_onnx
    from ._console import console, progress

    maker = replace(maker, form=replace(maker.form, precision=precision))
    if maker.on_device:
        with console.status("Typing the graph for TensorRT and comparing with ONNX"):
            return tensorrt_from_onnx(onnx, place, maker, images=images, overwrite=overwrite)
    with progress(f"Building the {precision} engine", unit="") as steps:
        return tensorrt_from_onnx(
            onnx,
            place,
            maker,
            images=images,
            samples=given.scored,
            dataset=given.dataset_name,
            progress=steps.update,
            overwrite=overwrite,
        )
