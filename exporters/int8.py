"""FP32 ONNX artifact + statistics → INT8 artifact for ONNX Runtime, OpenVINO or TensorRT, with a measured answer."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
import numpy as np

from ..artifact import Artifact, check_float_onnx, write_artifact
from ..benchmark.latency import LatencySummary, interleaved_latency
from ..calibration.card import write_card
from ..calibration.graph import graph_digest, load_model
from ..calibration.guard import Verdict, judge, return_to_float
from ..calibration.images import CalibrationImages, content_of
from ..calibration.learned import LearnedRanges
from ..calibration.placement import Target, runs_here, target_here
from ..calibration.quantize import Quantizer
from ..calibration.recipe import Recipe
from ..calibration.results import Candidate, GuardResult
from ..calibration.tensor_statistics import Statistics
from ..calibration.tournament import Bench, choose_recipe, rank_groups
from ..calibration.verdict import verdict_lines
from ..errors import BudgetError, InputError, MissingDependencyError
from ..imaging.images import read_image
from ..manifest import Agreement, Budget, InputSpec, Int8Before, Latency, Report
from ..metrics.evaluate import Evaluation
from ..preprocess import Preprocessor
from ..runtimes import Runtime
from .int8_maker import Int8Maker, Stage
from .scored import accuracy_of

if TYPE_CHECKING:
    from ..data.dataset import Sample
    from .converter import Converter

__all__ = ["Int8Export", "Stage", "int8_from_onnx", "round_weights"]

_LOSS_IMAGES = 16
_AGREEMENT_IMAGES = 128
_GPTQ_IMAGES, _ADAROUND_IMAGES, _PATCHES = 16, 64, 1024
_REPEATS, _WARMUP = 50, 5


@dataclass(frozen=True, slots=True, eq=False)
class Int8Export:
    """An INT8 artifact with what is known of it.

    Attributes:
        artifact: As written.
        result: Everything that was measured.
        verdict: What that means, in sentences.
    """

    artifact: Artifact
    result: GuardResult
    verdict: list[str]


def int8_from_onnx(
    source: Artifact,
    twin: Artifact,
    out: Path | str,
    *,
    statistics: Statistics,
    images: CalibrationImages,
    target: Target | None = None,
    samples: Sequence[Sample] = (),
    pictures: Sequence[Path] = (),
    dataset: str = "",
    split: str = "val",
    max_map_drop: float = 0.5,
    adaround: bool = False,
    learned: LearnedRanges | None = None,
    before: Int8Before | None = None,
    threads: int | None = None,
    converter: Converter | None = None,
    reproduce: Sequence[str] = (),
    stage: Stage | None = None,
    overwrite: bool = False,
) -> Int8Export:
    """Quantize with a tournament of recipes, measure beside float, and return layers to float until the budget holds.

    The artifact is written with its report card; ``result.held`` says whether what is written keeps to the budget, or
    whether that could not be found out.

    Args:
        source: The FP32 ONNX artifact that the statistics are of.
        twin: The float artifact to compare with, of the format to write: ``source`` itself for ONNX, a half-precision
            one for TensorRT.
        out: Directory to write.
        statistics: What was observed of ``source``.
        images: The calibration images, to choose the recipe on.
        target: Where it is to run; None takes this machine. For a machine unlike this one, accuracy is simulated and
            speed not measured.
        samples: Labelled images that were not calibrated on; without any, INT8 is judged by its agreement with float.
        pictures: Where there are no labels, images to compare detections on; without any, the calibration images.
        dataset: Their dataset's name, for the report.
        split: Their split, for the report.
        max_map_drop: Points of the task's score that INT8 may lose, such as mask AP50-95 or top-1.
        adaround: Whether to round weights by AdaRound, which takes ten times as long as GPTQ and seldom gains on it.
        learned: What quantization-aware training has found for ``target``: its recipe is taken as it is, and no other
            is tried.
        before: What that training began with, for the report.
        threads: CPU threads of the engines; None takes the physical cores that this process may use.
        converter: Makes artifacts such as ``twin``, of TensorRT or Core ML; recipes are chosen by simulation then, and
            accuracy and speed are measured on the artifact where it can run.
        reproduce: The commands that do this again, for the report card.
        stage: Shows progress.
        overwrite: Whether an artifact at ``out`` may be replaced.

    Returns:
        The artifact, everything that was measured, and what that means.

    Raises:
        InputError: If the source is not FP32 ONNX, the twin not of the same model, the statistics are of another
            model or of images that are to be scored, the budget is negative, or ``out`` must not be replaced.
        MissingDependencyError: If onnx, the engine, matplotlib or faster-coco-eval is not installed.
        VerificationError: If the engine would not run the quantized convolutions in integers; nothing is written.
        BudgetError: If every layer would have to return to float; nothing is written.
    """
    stage = stage or _quiet
    target = target or (converter.target if converter is not None else target_here(twin.manifest.format))
    _check_twins(source, twin, target, converter)
    if not (math.isfinite(max_map_drop) and max_map_drop >= 0):
        raise InputError(f"max_map_drop is {max_map_drop}", expected="points, 0 or more")
    for package in ("matplotlib", "faster_coco_eval"):  # needed at the very end, after minutes
        if find_spec(package) is None:
            name = package.replace("_", "-")
            raise MissingDependencyError(name, extra="val", purpose="to measure INT8 and show the result")
    if not any(len(sample) for sample in samples):
        samples = ()  # images without objects say nothing about accuracy
    _refuse_scored(statistics, [sample.image for sample in samples])
    manifest, model = source.manifest, source.model_file.read_bytes()
    statistics.check(graph_digest(load_model(model)), manifest.input)
    if learned is not None and (adaround or learned.recipe.target != target):
        raise InputError(
            f"ranges have been learned for {learned.recipe.target}, weights rounded to the nearest",
            expected=f"the same target, not {target}" if learned.recipe.target != target else "no AdaRound",
        )
    quantizer = Quantizer(model, statistics, learned=learned)
    maker = Int8Maker(
        quantizer,
        source,
        twin,
        images,
        native=runs_here(target),
        threads=threads,
        converter=_for_pictures(converter, model, source, images),
        before=before,
    )
    base = Recipe(target, rounding="adaround" if adaround else "gptq") if learned is None else learned.recipe
    if learned is None:
        round_weights(quantizer, model, images, base, manifest.input, stage)
    with closing(maker.open_twin()) as engine:
        bench = Bench.of(
            quantizer,
            engine.infer,
            manifest,
            images.first(_LOSS_IMAGES).batches(Preprocessor(manifest.input)),
            open_engine=maker.open,
            simulate=maker.simulate,
        )
    with maker.twin_runtime() as float_runtime:
        if learned is None:
            with stage("Trying recipes", 0, "recipes") as steps:
                recipe, candidates = choose_recipe(bench, base, timed=maker.native, progress=steps)
        else:
            recipe = base
            candidates = [Candidate(recipe.name, bench.measure_loss(recipe, bench.open_engine), chosen=True)]
        with stage("Ranking layers", 0, "groups") as steps:
            ranking = rank_groups(bench, recipe, progress=steps)

        if not pictures:
            pictures = images.first(_AGREEMENT_IMAGES).paths
        seen_before = set(statistics.contents)
        overlap = not samples and any(content_of(path) in seen_before for path in pictures)
        seen: Evaluation | None = None  # the float twin's, measured once

        def compare(runtime: Runtime, what: str) -> Verdict:
            with stage(what, len(samples) or len(pictures), "images") as steps:
                return judge(runtime, float_runtime, samples=samples, pictures=pictures, measured=seen, progress=steps)

        def holds(variant: Recipe) -> bool:
            if not quantizer.placement(variant).weights:
                return False  # no convolution would be INT8
            with maker.trial(variant, stage=stage) as runtime:
                returned = len(variant.float_groups)
                return compare(runtime, f"Comparing with {returned} of the groups in float").holds(max_map_drop)

        draft = maker.draft(recipe, stage=stage)
        with maker.runtime(draft) as runtime:
            measured = compare(runtime, "Comparing with float")
        if measured.known and not measured.holds(max_map_drop):
            seen = measured.twin
            recipe, ranking, _ = return_to_float(bench, recipe, ranking, holds, timed=maker.native)
            if not quantizer.placement(recipe).weights:
                raise _nothing_left(measured, twin, max_map_drop)
            draft = maker.draft(recipe, stage=stage)
            with maker.runtime(draft) as runtime:
                measured = compare(runtime, "Comparing the result with float")
        with maker.runtime(draft) as runtime:
            times = _time(runtime, float_runtime, images.paths[0]) if maker.runs_here else {}
            result = GuardResult(
                own=measured.own,
                twin=measured.twin,
                agreement=measured.agreement,
                own_latency=times.get("own"),
                twin_latency=times.get("twin"),
                own_bytes=sum(len(content) for content in draft.files.values()),
                twin_bytes=sum(entry.bytes for entry in maker.reference.manifest.files),
                engine=runtime.engine,
                device=runtime.device,
                threads=runtime.threads,
                simulated=not maker.runs_here,
                max_map_drop=max_map_drop,
                held=measured.holds(max_map_drop),
                candidates=tuple(candidates),
                sensitivity=tuple(ranking),
                on_calibration_images=overlap,
            )
    reference = maker.reference.path.name
    verdict = verdict_lines(result, recipe, name=Path(out).name, twin=reference)
    report = _report(result, reference, dataset=dataset, split=split)
    layers = draft.manifest.report.layers
    finished = msgspec.structs.replace(draft.manifest, report=msgspec.structs.replace(report, layers=layers))

    def card(folder: Path) -> None:
        write_card(
            folder,
            name=Path(out).name,
            manifest=finished,
            result=result,
            images=[sample.image for sample in samples],
            reproduce=reproduce,
            verdict=verdict,
            twin_name=reference,
        )

    artifact = write_artifact(out, finished, draft.files, card=card, overwrite=overwrite)
    return Int8Export(artifact, result, verdict)


def _nothing_left(measured: Verdict, twin: Artifact, max_map_drop: float) -> BudgetError:
    """Return that the budget holds only with all layers in float."""
    labelled = measured.own is not None
    budget = f"the budget of {max_map_drop:g} points" if labelled else "agreement with float"
    otherwise = "allow more with --max-map-drop" if labelled else "score it on labelled images"
    return BudgetError(
        f"every layer had to return to float to hold {budget}: nothing INT8 is left, and no INT8 was written",
        remedy=f"ship {twin.path}, or {otherwise}",
    )


def round_weights(
    quantizer: Quantizer, model: bytes, images: CalibrationImages, recipe: Recipe, spec: InputSpec, stage: Stage
) -> None:
    """Round the weights of each convolution together, given what their inputs are on a few images.

    Args:
        quantizer: Takes what is found.
        model: Content of its float ``.onnx`` file.
        images: The calibration images.
        recipe: Names the rounding, ``gptq`` or ``adaround``.
        spec: Input of the model.
        stage: Shows progress.
    """
    from ..calibration.grams import observe_grams
    from ..calibration.rounding import adaround, round_with_feedback

    learned = recipe.rounding == "adaround"
    names = quantizer.placement(recipe).weights
    chosen = images.first(_ADAROUND_IMAGES if learned else _GPTQ_IMAGES)
    with stage("Observing inputs of convolutions", 0, "images") as steps:
        grams = observe_grams(model, names, chosen, spec, patches=_PATCHES, progress=steps)
    method = adaround if learned else round_with_feedback
    with stage("Rounding weights", len(names), "convolutions") as steps:
        for index, name in enumerate(names):
            quantizer.round_weight(name, recipe, partial(method, gram=grams[name]))
            steps(index + 1, len(names))


def _refuse_scored(statistics: Statistics, scored: Sequence[Path]) -> None:
    """Refuse to score on images that were calibrated on, whatever they are called."""
    seen = set(statistics.contents)
    if both := [path for path in scored if content_of(path) in seen]:
        raise InputError(
            f"{len(both)} of the images to score on were calibrated on, such as {both[0]}",
            expected="other images",
            remedy="calibrate again, on images that are not scored",
        )


def _for_pictures(
    converter: Converter | None, model: bytes, source: Artifact, images: CalibrationImages
) -> Converter | None:
    if converter is None:
        return None
    frames = [read_image(path) for path in images.first(_LOSS_IMAGES).paths]
    return converter.for_pictures(model, source.manifest, frames)


def _check_twins(source: Artifact, twin: Artifact, target: Target, converter: Converter | None) -> None:
    manifest, other = source.manifest, twin.manifest
    check_float_onnx(manifest, source.path)
    if converter is not None:
        own, size = manifest.input, (other.input.height, other.input.width)
        fits = other.format == converter.format and other.precision != "int8" and size == (own.height, own.width)
    else:
        fits = other.precision == "fp32" and other.input == manifest.input
    if (
        not fits
        or other.class_names != manifest.class_names
        or other.provenance.checkpoint_sha256 != manifest.provenance.checkpoint_sha256
    ):
        raise InputError(
            f"{twin.path} is not a float twin of {source.path}",
            expected=f"a float export of the same model to {converter.format if converter else other.format}",
        )
    wrong = target != converter.target if converter else target.startswith("openvino") != (other.format == "openvino")
    if wrong:
        raise InputError(
            f"target {target!r} is not for {other.format} artifacts", remedy="choose another format or target"
        )


def _time(own: Runtime, twin: Runtime, image: Path) -> dict[str, LatencySummary]:
    """Time the least that both take at a time: one image, or the least batch of an engine."""
    picture = read_image(image)

    def engine(runtime: Runtime) -> Callable[[], object]:
        spec = runtime.manifest.input
        feeds = {spec.name: np.repeat(runtime.preprocessor(picture)[0], spec.least_batch, axis=0)}
        return lambda: runtime.infer(feeds)

    return interleaved_latency({"own": engine(own), "twin": engine(twin)}, repeats=_REPEATS, warmup=_WARMUP)


def _report(result: GuardResult, reference: str, *, dataset: str, split: str) -> Report:
    """Return what was measured, as the manifest has it."""
    accuracy = latency = None
    if result.own is not None and result.twin is not None:
        accuracy = accuracy_of(result.own, result.twin, reference=reference, dataset=dataset, split=split)
    if result.own_latency is not None and result.twin_latency is not None:
        latency = Latency(
            engine=result.engine,
            device=result.device,
            threads=result.threads,
            samples=_REPEATS,
            median_ms=result.own_latency.median_ms,
            reference=reference,
            reference_median_ms=result.twin_latency.median_ms,
        )
    agreement = Agreement(
        images=result.agreement.images,
        f1=result.agreement.f1,
        mean_iou=result.agreement.mean_iou if math.isfinite(result.agreement.mean_iou) else None,
        score_shift=result.agreement.score_shift,
        reference=reference,
    )
    budget = Budget(max_map_drop=result.max_map_drop, held=result.held, simulated=result.simulated)
    return Report(accuracy=accuracy, agreement=agreement, budget=budget, latency=latency)


@contextmanager
def _quiet(description: str, total: int, unit: str) -> Iterator[Callable[[int, int], None]]:
    del description, total, unit
    yield lambda done, total: None
