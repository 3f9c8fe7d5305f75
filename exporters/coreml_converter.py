"""``CoremlConverter``: INT8 ONNX → Core ML, W8A8, measured by the reference evaluator where there is no Mac."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from ..calibration.placement import Target
from ..manifest import Manifest
from ..runtimes import Backend
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
        """Open the very program in the reference evaluator, with a tensor as its input: one float image at a time."""
        from .mil_evaluator import MilBackend

        form = replace(self.form, image_input=False, batch=1, min_batch=None)
        own = coreml_manifest(manifest, form)
        return MilBackend(coreml_files(model, own, form))
