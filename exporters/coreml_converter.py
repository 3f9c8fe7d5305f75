"""``CoremlConverter``: INT8 ONNX → Core ML, W8A8, measured by the reference evaluator where there is no Mac."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from ..calibration.placement import Target
from ..manifest import InputSpec, Manifest
from ..runtimes import Backend
from ..runtimes.backend import TensorInfo
from .converter import Progress
from .coreml_package import CoremlForm, coreml_files, coreml_manifest
from .fp16 import half_overflows
from .verify import Frame

__all__ = ["CoremlConverter"]


@dataclass(frozen=True, slots=True, eq=False)
class CoremlConverter:
    """A ``Converter`` whose artifacts are Core ML packages.

    Attributes:
        form: Of the programs.
    """

    form: CoremlForm = field(default_factory=CoremlForm)

    @property
    def format(self) -> str:
        """Of the artifacts."""
        return "coreml"

    @property
    def target(self) -> Target:
        """Where INT8 models of it run."""
        return "coreml"

    @property
    def step(self) -> str:
        """Nothing takes long enough to be shown."""
        return ""

    @property
    def runs_here(self) -> bool:
        """Whether this is a Mac."""
        return sys.platform == "darwin"

    def for_pictures(self, model: bytes, manifest: Manifest, frames: Sequence[Frame]) -> CoremlConverter:
        """Return a converter that keeps in float32 what half precision cannot hold on these pictures."""
        if self.form.precision != "fp16":
            return self
        kept = self.form.float_names | half_overflows(model, manifest.input, frames)
        return replace(self, form=replace(self.form, float_names=kept))

    def files(
        self, model: bytes, manifest: Manifest, *, progress: Progress | None = None
    ) -> tuple[Manifest, dict[str, bytes]]:
        """Return the manifest and the files of an artifact; arguments and errors as ``coreml_files`` has them."""
        own = coreml_manifest(manifest, self.form)
        return own, coreml_files(model, own, self.form)

    def simulation(self, model: bytes, manifest: Manifest, *, threads: int | None) -> Backend:
        """Open the very package in the reference evaluator, whatever it takes: one float image at a time.

        A package of fixed batches computes each image as often as its batch has places.
        """
        from .mil_evaluator import MilBackend

        own, files = self.files(model, manifest)
        return _Simulation(MilBackend(files), own.input)


class _Simulation:
    """A package in the evaluator, fed with one float image, as its ONNX source is.

    Args:
        package: Opened.
        spec: Its input.
    """

    def __init__(self, package: Backend, spec: InputSpec) -> None:
        self._package = package
        self._spec = spec
        self.name, self.device = package.name, package.device
        self.threads, self.parallel = package.threads, package.parallel
        self.inputs = (TensorInfo(spec.name, (1, 3, spec.height, spec.width), "float32"),)
        self.outputs = tuple(replace(output, shape=(1, *output.shape[1:])) for output in package.outputs)

    def infer(self, feeds: Mapping[str, npt.NDArray[Any]]) -> dict[str, npt.NDArray[Any]]:
        """Run the package once; errors are those of the evaluator."""
        return {name: value[:1] for name, value in self._package.infer(self._own(feeds)).items()}

    def close(self) -> None:
        """Let go of the package."""
        self._package.close()

    def _own(self, feeds: Mapping[str, npt.NDArray[Any]]) -> dict[str, npt.NDArray[Any]]:
        """Return feeds as the package takes them. That gives back the very pixels: there were no others before."""
        if self._spec.pixels:
            return {
                name: np.rint(array / self._spec.scale).astype(np.uint8).transpose(0, 2, 3, 1)
                for name, array in feeds.items()
            }
        return {name: np.repeat(array, self._spec.least_batch, axis=0) for name, array in feeds.items()}
