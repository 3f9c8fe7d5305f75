"""Making INT8 models by recipe, and opening them where they are measured."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from ..artifact import Artifact, write_artifact
from ..calibration.images import CalibrationImages
from ..calibration.placement import float_convolutions, runs_here
from ..calibration.quantize import Quantizer
from ..calibration.recipe import Recipe
from ..errors import VerificationError
from ..manifest import EMBEDDED_KEY, Calibration, Int8Before, Manifest, Report
from ..runtimes import Backend, Runtime
from .onnx_from_torch import MODEL_NAME
from .openvino_nncf import nncf_images

if TYPE_CHECKING:
    from .converter import Converter

__all__ = ["Int8Draft", "Int8Maker", "Stage", "count_integer_convolutions"]

Stage = Callable[[str, int, str], AbstractContextManager[Callable[[int, int], None]]]
"""Shows a long step: given its description, number of steps and their unit, it gives a ``callback(done, total)``."""


@dataclass(frozen=True, slots=True, eq=False)
class Int8Draft:
    """An INT8 artifact that is not written yet.

    Attributes:
        recipe: How it was made.
        manifest: Of the artifact, its report still empty.
        files: Its files by name, the model first.
    """

    recipe: Recipe
    manifest: Manifest
    files: dict[str, bytes]


@dataclass(frozen=True, slots=True, eq=False)
class Int8Maker:
    """Makes and opens the INT8 models of one float model.

    Attributes:
        quantizer: Of the float model.
        source: The float ONNX artifact.
        twin: The float artifact of the format to make.
        images: The calibration images.
        native: Whether recipes are tried on the target's engine; else its arithmetic is simulated in ONNX Runtime.
        threads: CPU threads of the engines.
        converter: Of TensorRT or Core ML. It may take minutes, so recipes are tried in the simulation, and only what is
            to be written is converted.
        before: What training began with that has learned the ranges.
    """

    quantizer: Quantizer
    source: Artifact
    twin: Artifact
    images: CalibrationImages
    native: bool
    threads: int | None
    converter: Converter | None = None
    before: Int8Before | None = None
    _nncf: dict[Recipe, dict[str, bytes]] = field(default_factory=dict)

    @property
    def runs_here(self) -> bool:
        """Whether this machine runs the artifact itself."""
        return self.native if self.converter is None else self.converter.runs_here

    def open(self, recipe: Recipe) -> Backend:
        """Open a recipe's model on the target's engine, or as a simulation of it in float.

        Raises:
            Yolo12EdgeError: If it cannot be made, or the engine cannot run it.
        """
        if not self.native or self.twin.manifest.format != "openvino":
            return self.simulate(recipe)
        from ..runtimes.openvino_backend import OpenVinoBackend

        if recipe.nncf:
            with tempfile.TemporaryDirectory() as folder:
                artifact = write_artifact(Path(folder) / "draft", (draft := self.draft(recipe)).manifest, draft.files)
                return OpenVinoBackend(artifact.model_file, device="cpu", threads=self.threads)
        return OpenVinoBackend(self.quantizer(recipe), device="cpu", threads=self.threads)

    def open_twin(self) -> Backend:
        """Open the float artifact, to compare with."""
        if self.twin.manifest.format == "openvino":
            from ..runtimes.openvino_backend import OpenVinoBackend

            return OpenVinoBackend(self.twin.model_file, device="cpu", threads=self.threads)
        from ..runtimes.ort_backend import OrtBackend

        model = self.source if self.converter is not None else self.twin
        return OrtBackend(model.model_file, device="cpu", threads=self.threads)

    @property
    def reference(self) -> Artifact:
        """What the artifact is compared with in the end: its twin, or the float source where that cannot run."""
        return self.twin if self.converter is None or self.runs_here else self.source

    def twin_runtime(self) -> Runtime:
        """Open ``reference``."""
        if self.converter is not None and self.runs_here:
            return Runtime(self.reference)
        return Runtime(self.reference, device="cpu", threads=self.threads)

    def trial(self, recipe: Recipe, *, stage: Stage) -> AbstractContextManager[Runtime]:
        """Open a recipe's model as it would be measured in the end."""
        if self.converter is not None:
            return self.runtime(self.draft(recipe, stage=stage) if self.runs_here else self._unbuilt(recipe))
        return Runtime.of(self.open(recipe), self.source.manifest)

    def simulate(self, recipe: Recipe) -> Backend:
        """Open a recipe's model in ONNX Runtime: the quickest way to the numbers, whatever the engine."""
        from ..runtimes.ort_backend import OrtBackend

        return OrtBackend(self.quantizer(recipe), device="cpu", threads=self.threads, optimize=self.native)

    def draft(self, recipe: Recipe, *, stage: Stage | None = None) -> Int8Draft:
        """Make the artifact of a recipe.

        Args:
            recipe: How.
            stage: Shows how the building of an engine goes on.

        Raises:
            VerificationError: If the engine would not run the quantized convolutions in integers.
        """
        manifest = self._manifest(recipe)
        if recipe.nncf:
            from .openvino_nncf import nncf_files

            if recipe not in self._nncf:  # each takes as long as a whole calibration
                self._nncf[recipe] = nncf_files(self.source, manifest, recipe, self.images)
            return Int8Draft(recipe, manifest, self._nncf[recipe])
        if self.converter is not None:
            step = self.converter.step
            show = stage(step, 0, "") if stage is not None and step else nullcontext()
            with show as steps:
                return Int8Draft(recipe, *self.converter.files(self.quantizer(recipe), manifest, progress=steps))
        content = self.quantizer(recipe, metadata={EMBEDDED_KEY: manifest.to_embedded_json()})
        wanted = len(self.quantizer.placement(recipe).weights)
        if manifest.format == "openvino":
            from .openvino_ir import count_int8_convolutions, openvino_files

            _refuse_float(count_int8_convolutions(content)[0], wanted, "OpenVINO")
            return Int8Draft(recipe, manifest, openvino_files(content, manifest))
        if recipe.target.startswith("ort-x86") and runs_here(recipe.target):
            _refuse_float(count_integer_convolutions(content), wanted, "ONNX Runtime")
        return Int8Draft(recipe, manifest, {MODEL_NAME: content})

    @contextmanager
    def runtime(self, draft: Int8Draft) -> Iterator[Runtime]:
        """Open a draft: the very files that will be written, or the simulation."""
        if not self.runs_here:
            with Runtime.of(self._simulation(draft.recipe), self.source.manifest) as runtime:
                yield runtime
            return
        with tempfile.TemporaryDirectory() as folder:
            artifact = write_artifact(Path(folder) / "draft", draft.manifest, draft.files)
            native = Runtime(artifact) if self.converter else Runtime(artifact, device="cpu", threads=self.threads)
            with native as runtime:
                yield runtime

    def _simulation(self, recipe: Recipe) -> Backend:
        """Open what an artifact computes, with its own float types, on this machine."""
        if self.converter is None:
            return self.simulate(recipe)

        return self.converter.simulation(self.quantizer(recipe), self._manifest(recipe), threads=self.threads)

    def _unbuilt(self, recipe: Recipe) -> Int8Draft:
        return Int8Draft(recipe, self._manifest(recipe), {})

    def _manifest(self, recipe: Recipe) -> Manifest:
        statistics = self.quantizer.statistics
        seen = nncf_images(self.images) if recipe.nncf else None  # NNCF makes a pass of its own
        return msgspec.structs.replace(
            self.source.manifest,
            format="onnx" if self.converter is not None else self.twin.manifest.format,  # what is converted
            precision="int8",
            provenance=self.source.manifest.provenance if self.converter else self.twin.manifest.provenance,
            calibration=Calibration(
                method="nncf" if recipe.nncf else "learned" if recipe.learned else recipe.method,
                split=seen.split if seen else statistics.split,
                images=seen.names if seen else list(statistics.images),
                images_digest=seen.digest() if seen else statistics.images_digest,
                placement=recipe.target,
                float_nodes=float_convolutions(self.quantizer.graph, self.quantizer.placement(recipe)),
                reduced_range=recipe.reduced_range,
                rounding="nearest" if recipe.nncf else recipe.rounding,
                attention=recipe.attention,
                join_concats=recipe.join_concats,
                float_groups=sorted(recipe.float_groups),
                before=self.before if recipe.learned else None,
            ),
            report=Report(),
            files=[],
        )


def count_integer_convolutions(model: bytes) -> int:
    """Return how many convolutions ONNX Runtime runs in integers here, as its own optimised graph tells."""
    import onnx
    import onnxruntime

    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder) / "optimised.onnx"
        options = onnxruntime.SessionOptions()
        options.optimized_model_filepath = str(place)
        options.intra_op_num_threads = 1
        options.log_severity_level = 3
        onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
        return sum(node.op_type == "QLinearConv" for node in onnx.load(place).graph.node)


def _refuse_float(found: int, wanted: int, engine: str) -> None:
    if found < wanted:
        raise VerificationError(
            f"{engine} runs {found} of {wanted} quantized convolutions in integers",
            remedy="report it with the engine's version; nothing was written",
        )
