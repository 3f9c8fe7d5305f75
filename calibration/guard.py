"""Accuracy and speed of an INT8 model beside its float twin, and what goes back to float until the budget holds."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from ..detections import Detections
from ..imaging.images import read_image
from ..metrics.evaluate import EVAL_THRESHOLDS, Evaluation, evaluate_pair, evaluate_runtime
from ..metrics.tasks import Measure
from ..runtimes import Runtime
from .agreement import agreement_of
from .recipe import Recipe
from .results import Agreement, Sensitivity
from .tournament import Bench, measure_costs

if TYPE_CHECKING:
    from ..data.dataset import Sample

__all__ = ["AGREEMENT_F1", "AGREEMENT_SHIFT", "Verdict", "judge", "return_to_float"]

AGREEMENT_F1 = 0.95
AGREEMENT_SHIFT = 0.02
"""Without labels the budget counts as held if this share of detections is the same and confidences moved no further."""

_TIMED = 12  # groups whose cost in time is measured: those that gain most


@dataclass(frozen=True, slots=True, eq=False)
class Verdict:
    """Accuracy of an INT8 model and its float twin on the same images.

    Attributes:
        own: On labelled images, or None without any.
        twin: Of the twin.
        agreement: Of the two.
    """

    own: Evaluation | None
    twin: Evaluation | None
    agreement: Agreement

    @property
    def known(self) -> bool:
        """Whether there was anything to compare: without labels and with nothing found, there was not."""
        return self.own is not None or bool(self.agreement.reference_objects)

    def holds(self, max_map_drop: float) -> bool:
        """Return whether the model loses no more than so many points of its task's score.

        Without labels: whether it agrees with its twin as well as ``AGREEMENT_F1`` and ``AGREEMENT_SHIFT`` ask.
        """
        if self.own is None or self.twin is None:
            if not self.known:
                return False
            return self.agreement.f1 >= AGREEMENT_F1 and abs(self.agreement.score_shift) <= AGREEMENT_SHIFT
        return 100 * (self.twin.metrics.score - self.own.metrics.score) <= max_map_drop


def judge(
    own: Runtime,
    twin: Runtime,
    *,
    samples: Sequence[Sample] = (),
    pictures: Sequence[Path] = (),
    measured: Evaluation | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Verdict:
    """Run a model and its float twin over the same images.

    Args:
        own: The INT8 model.
        twin: Its float twin on the same engine.
        samples: Labelled images that the model was not calibrated on; their accuracy is compared.
        pictures: Without any, image files to compare the detections on.
        measured: The twin's evaluation on these samples, where it is known already.
        progress: Called after each image with the number done and the number of all.
    """
    if samples:
        names = own.manifest.class_names
        if measured is None:
            mine, measured = evaluate_pair(own, twin, samples, names, progress=progress)
        else:
            mine = evaluate_runtime(own, samples, names, progress=progress)
        return Verdict(mine, measured, agreement_of(mine.predictions, measured.predictions, mine.measure))
    found: tuple[list[Detections], list[Detections]] = ([], [])
    thresholds = EVAL_THRESHOLDS.within(own.manifest.nms_iou).within(twin.manifest.nms_iou)
    for index, path in enumerate(pictures):
        frame = read_image(path)
        for runtime, detections in zip((own, twin), found, strict=True):
            detections.append(runtime(frame, thresholds=thresholds))
        if progress is not None:
            progress(index + 1, len(pictures))
    return Verdict(None, None, agreement_of(*found, Measure.of(own.manifest)))


def return_to_float(
    bench: Bench,
    recipe: Recipe,
    ranking: Sequence[Sensitivity],
    check: Callable[[Recipe], bool],
    *,
    timed: bool,
) -> tuple[Recipe, list[Sensitivity], bool]:
    """Return groups to float, those first that gain most accuracy for each ms they cost, until the budget holds.

    Groups go one, one more, two, four and so on at a time, because each step is measured on all labelled images; those
    that gained nothing alone go last, and the very last by itself: nothing may be INT8 without it.

    Args:
        bench: To measure what a group costs in time.
        recipe: That does not hold the budget.
        ranking: Of its groups.
        check: Measures a recipe and says whether the budget holds.
        timed: Whether the speed on this machine counts.

    Returns:
        The last recipe, the ranking with what was measured and done, and whether the budget holds.
    """
    useful = [item for item in ranking if item.gain > 0]
    useless = [item for item in ranking if not item.gain > 0]
    costs = measure_costs(bench, recipe, [item.group for item in useful[:_TIMED]]) if timed else {}
    floor = max(0.05, 0.01 * max(costs.values(), default=0.0))  # ms; below that a cost is noise
    known = [replace(item, cost_ms=costs.get(item.group)) for item in useful]
    order = (
        sorted(known[:_TIMED], key=lambda item: -item.gain / max(item.cost_ms or 0.0, floor)) + known[_TIMED:] + useless
    )
    done, step, held = 0, 1, False
    while done < len(order) and not held:
        done = min(done + step, max(len(order) - 1, done + 1))
        step = done
        recipe = replace(recipe, float_groups=recipe.float_groups | {item.group for item in order[:done]})
        held = check(recipe)
    returned = recipe.float_groups
    timed_ranking = [replace(item, cost_ms=costs.get(item.group), is_float=item.group in returned) for item in ranking]
    return recipe, timed_ranking, held
