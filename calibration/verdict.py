"""What INT8 cost and brought, in plain sentences: the command line and the report card say the same."""

from __future__ import annotations

from .guard import AGREEMENT_F1, AGREEMENT_SHIFT
from .recipe import Recipe
from .results import GuardResult

__all__ = ["verdict_lines"]

_SAME = 0.02  # a difference in speed below this is noise


def verdict_lines(result: GuardResult, recipe: Recipe, *, name: str, twin: str) -> list[str]:
    """Return the sentences, the most important first.

    Args:
        result: What was measured.
        recipe: How the artifact was quantized.
        name: The artifact's.
        twin: The float twin's.
    """
    lines = [_accuracy(result)]
    if recipe.float_groups:
        lines.append(f"To float went back: {', '.join(sorted(recipe.float_groups))}.")
    if not result.held:
        remedy = "allow more with --max-map-drop" if result.map_drop is not None else "score it on labelled images"
        lines.append(f"The budget does NOT hold: ship {twin}, or {remedy}.")
    speed = result.speedup
    if speed is None and recipe.target == "coreml":
        lines.append(
            "No Mac was here: the package was scored in a reference evaluator, and its speed is not known. "
            "Run `yolo12edge val` on a Mac."
        )
    elif speed is None:
        lines.append(
            f"This machine is not the target ({recipe.target}): its arithmetic was simulated in float, "
            "and its speed is not known. Run `yolo12edge val` there."
        )
    elif speed >= 1 + _SAME:
        lines.append(f"INT8 is {speed:.2f} times as fast as float on this machine.")
        if result.held:
            lines.append(f"For machines like this one ship {name}.")
    else:
        same = "as fast as float" if speed > 1 - _SAME else f"slower than float, {1 / speed:.2f} times its time,"
        lines.append(f"INT8 is {same} on this machine: for machines like this one ship {twin}.")
    lines += _disturbance(result)
    if recipe.target in ("ort-x86", "openvino"):
        lines.append(
            "The weights keep to 7 bits, so that x86 processors without VNNI do not saturate. For devices that have "
            f"VNNI, --target {recipe.target}-vnni uses all 8 bits."
        )
    elif recipe.target.endswith("-vnni"):
        lines.append(
            "The weights use 8 bits, which only processors with VNNI multiply without saturating. For other x86 "
            f"devices export with --target {recipe.target.removesuffix('-vnni')}."
        )
    return lines


def _disturbance(result: GuardResult) -> list[str]:
    own, twin = result.own_latency, result.twin_latency
    if own is None or twin is None or not (own.disturbed or twin.disturbed):
        return []
    return [
        "Other work on this machine disturbed the timing: by the fastest calls, INT8 is "
        f"{twin.min_ms / own.min_ms:.2f} times as fast as float. Measure again in quiet: `yolo12edge benchmark`."
    ]


def _accuracy(result: GuardResult) -> str:
    drop = result.map_drop
    if drop is not None:
        change = f"INT8 {'costs' if drop >= 0 else 'gains'} {abs(drop):.2f} points of {result.figure}"
        return f"{change} (budget {result.max_map_drop:g})."
    agreement = result.agreement
    if not agreement.reference_objects:
        return "There are no labels to score on, and the float model finds nothing in the images: nothing is known."
    where = "calibration images, for want of others" if result.on_calibration_images else "images"
    return (
        f"There are no labels to score on, so INT8 was only compared with float, on {agreement.images} {where}: "
        f"{100 * agreement.f1:.1f} % of what they find agrees and confidences shift by {agreement.score_shift:+.3f} "
        f"(wanted: {100 * AGREEMENT_F1:.0f} % and {AGREEMENT_SHIFT:g})."
    )
