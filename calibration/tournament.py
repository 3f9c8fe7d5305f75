"""Which recipe? A tournament on calibration images, and how much each group of layers costs in INT8."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from importlib.util import find_spec
from typing import Any

import numpy as np
import numpy.typing as npt

from ..benchmark.latency import LatencySummary, interleaved_latency
from ..errors import Yolo12EdgeError
from ..manifest import Manifest
from ..runtimes.backend import Backend
from .graph import group_of
from .output_loss import OutputLoss
from .quantize import Quantizer
from .ranges import METHODS
from .recipe import Recipe
from .results import Candidate, Sensitivity

__all__ = ["Bench", "choose_recipe", "measure_costs", "rank_groups"]

Feeds = Mapping[str, npt.NDArray[np.float32]]
OpenEngine = Callable[[Recipe], Backend]

_REPEATS, _WARMUP = 15, 3
# A candidate is faster than another, and not only luckier, if its median is lower by 3 % and if it wins four rounds of
# five: the calls of one round lie side by side, so that a busy machine slows both.
_FASTER, _WON = 0.97, 0.8
_WORSE = 1.5  # what a faster candidate's loss may be of the least
_BETTER = 0.9  # what a candidate's loss must be of another's to count as lower: they are measured on few images


@dataclass(frozen=True, slots=True, eq=False)
class Bench:
    """What recipes are tried on.

    Attributes:
        quantizer: Of the float model.
        open_engine: Makes a recipe's model and opens it on the engine that the artifact is for.
        simulate: Opens it where it opens fastest and gives the same numbers, however slowly; for many trials.
        manifest: Of the float model.
        feeds: Preprocessed calibration images.
        loss: Distance from the float model's outputs on these feeds.
    """

    quantizer: Quantizer
    open_engine: OpenEngine
    simulate: OpenEngine
    manifest: Manifest
    feeds: Sequence[Feeds]
    loss: OutputLoss

    @classmethod
    def of(
        cls,
        quantizer: Quantizer,
        infer: Callable[[Feeds], Mapping[str, npt.NDArray[Any]]],
        manifest: Manifest,
        images: Iterable[npt.NDArray[np.float32]],
        *,
        open_engine: OpenEngine,
        simulate: OpenEngine,
    ) -> Bench:
        """Run the float twin's ``infer`` once on each image, to compare with."""
        feeds = [{manifest.input.name: image} for image in images]
        loss = OutputLoss(manifest, [infer(feed) for feed in feeds])
        return cls(quantizer, open_engine, simulate, manifest, feeds, loss)

    def measure_loss(self, recipe: Recipe, open_engine: OpenEngine) -> float:
        """Return the detection-output loss of a recipe on all feeds."""
        engine = open_engine(recipe)
        try:
            return self.loss([engine.infer(feed) for feed in self.feeds])
        finally:
            engine.close()


def choose_recipe(
    bench: Bench, base: Recipe, *, timed: bool, progress: Callable[[int, int], None] | None = None
) -> tuple[Recipe, list[Candidate]]:
    """Try the range methods, then the structures, and choose.

    Ranges do not change the speed: the method of least loss wins. A structure takes the place of the plainest one if it
    is faster, by more than noise, and its loss at most one and a half times the least; or if its loss is clearly lower
    and it is not slower.

    Args:
        bench: What to try on.
        base: Target and rounding; the default structure.
        timed: Whether the speed on this machine counts; False where the target is another.
        progress: Called after each candidate with the number done and the number of all.

    Returns:
        The recipe, and what was measured of each candidate in the order tried.

    Raises:
        Yolo12EdgeError: If the default structure itself cannot be run; other candidates fall out with their reason.
    """
    tried: dict[Recipe, Candidate] = {}
    total = len(METHODS) + len(_structures(base, timed=timed))
    for method in METHODS:
        recipe = replace(base, method=method)
        tried[recipe] = Candidate(recipe.name, bench.measure_loss(recipe, bench.open_engine))
        if progress is not None:
            progress(len(tried), total)
    best = min(tried, key=lambda recipe: tried[recipe].loss)
    structures = [best]
    for recipe in _structures(best, timed=timed):
        try:
            tried[recipe] = Candidate(recipe.name, bench.measure_loss(recipe, bench.open_engine))
            structures.append(recipe)
        except Yolo12EdgeError as error:
            tried[recipe] = Candidate(recipe.name, float("nan"), problem=error.fact)
        if progress is not None:
            progress(len(tried), total)
    if timed:
        for recipe, latency in _time(bench, structures).items():
            tried[recipe] = replace(tried[recipe], latency=latency)
    chosen = _select({recipe: tried[recipe] for recipe in structures})
    tried[chosen] = replace(tried[chosen], chosen=True)
    return chosen, list(tried.values())


def rank_groups(
    bench: Bench, recipe: Recipe, *, progress: Callable[[int, int], None] | None = None
) -> list[Sensitivity]:
    """Return by how much the loss falls when one group alone goes back to float, the most sensitive group first.

    A recipe of NNCF is ranked by our own of the same target: quantizing once for each group would take too long.
    """
    recipe = replace(recipe, nncf=False)
    reads = bench.quantizer.placement(recipe).reads
    quantized = sorted({group for readers in reads.values() for name in readers if (group := group_of(name))})
    whole = bench.measure_loss(recipe, bench.simulate)
    found = []
    for index, group in enumerate(quantized):
        variant = replace(recipe, float_groups=recipe.float_groups | {group})
        found.append(Sensitivity(group, whole - bench.measure_loss(variant, bench.simulate)))
        if progress is not None:
            progress(index + 1, len(quantized))
    return sorted(found, key=lambda item: -np.nan_to_num(item.gain, nan=-np.inf))


def measure_costs(bench: Bench, recipe: Recipe, groups: Sequence[str]) -> dict[str, float]:
    """Return how many ms slower the engine gets when one group alone goes back to float, all in one run."""
    recipe = replace(recipe, nncf=False)
    variants = {group: replace(recipe, float_groups=recipe.float_groups | {group}) for group in groups}
    times = _time(bench, [recipe, *variants.values()])
    return {group: times[variant].median_ms - times[recipe].median_ms for group, variant in variants.items()}


def _structures(base: Recipe, *, timed: bool) -> list[Recipe]:
    """Return the variants of a recipe that change what runs in integers."""
    if base.target in ("tensorrt", "coreml"):
        return []
    variants = [replace(base, attention="int8")]
    if base.target.startswith("openvino"):
        variants.append(replace(base, join_concats=True))
        if timed and find_spec("nncf") is not None:  # its model runs on OpenVINO alone
            variants.append(replace(base, nncf=True))
    return variants


def _select(candidates: Mapping[Recipe, Candidate]) -> Recipe:
    """Choose among structures, the plainest first; the next must be better to take its place."""
    least = min(candidate.loss for candidate in candidates.values())
    chosen = next(iter(candidates))
    for recipe, candidate in candidates.items():
        before = candidates[chosen]
        faster = _is_faster(candidate.latency, before.latency) and candidate.loss <= _WORSE * least
        better = candidate.loss < _BETTER * before.loss and not _is_faster(before.latency, candidate.latency)
        if faster or better:
            chosen = recipe
    return chosen


def _is_faster(own: LatencySummary | None, other: LatencySummary | None) -> bool:
    if own is None or other is None:
        return False
    ratios = own.samples_ms / other.samples_ms
    return bool(np.median(ratios) < _FASTER and np.mean(ratios < 1) >= _WON)


def _time(bench: Bench, recipes: Sequence[Recipe]) -> dict[Recipe, LatencySummary]:
    feed = bench.feeds[0]
    with ExitStack() as opened:
        engines = []
        for recipe in recipes:
            engines.append(bench.open_engine(recipe))
            opened.callback(engines[-1].close)
        runners = {str(index): (lambda engine=engine: engine.infer(feed)) for index, engine in enumerate(engines)}
        times = interleaved_latency(runners, repeats=_REPEATS, warmup=_WARMUP)
    return dict(zip(recipes, times.values(), strict=True))
