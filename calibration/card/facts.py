"""What the report card says, as values that are ready for JSON; NaN becomes None."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import datetime, timezone
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt

from ...benchmark.latency import LatencySummary
from ...machine import machine_summary
from ...manifest import Manifest
from ...metrics.curves import DetectionCurves, mean_over_classes
from ...metrics.evaluate import Evaluation
from ...metrics.tasks import Metrics
from ..results import Agreement, Candidate, GuardResult

__all__ = ["SCHEMA_VERSION", "card_facts"]

SCHEMA_VERSION = 1
_MODEL_FIELDS = ("task", "scale", "variant", "format", "precision", "class_names", "input")


def card_facts(
    name: str,
    *,
    manifest: Manifest,
    result: GuardResult,
    reproduce: Sequence[str],
    verdict: Sequence[str],
    twin_name: str,
) -> dict[str, Any]:
    """Return the content of ``report.json``.

    Shares are 0 to 1, times in ms, differences and budget in points (0.01) of ``outcome.figure``. What has a side for
    each model has the keys ``float`` and ``int8``.

    Args:
        name: Of the artifact.
        manifest: Of the INT8 artifact.
        result: What the guard measured.
        reproduce: The commands that make the artifact again.
        verdict: Plain sentences.
        twin_name: Of the float artifact.
    """
    described: dict[str, Any] = msgspec.to_builtins(manifest)
    facts = {
        "schema_version": SCHEMA_VERSION,
        "created": datetime.now(timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ"),
        "name": name,
        "twin": twin_name,
        "verdict": list(verdict),
        "outcome": {
            "held": result.held,
            "simulated": result.simulated,
            "labelled": result.map_drop is not None,
            "max_map_drop": result.max_map_drop,
            "map_drop": result.map_drop,
            "figure": result.figure,
            "speedup": result.speedup,
            "size_ratio": result.own_bytes / result.twin_bytes if result.twin_bytes else None,
        },
        "accuracy": _accuracy(result.own, result.twin, described["report"].get("accuracy")),
        "agreement": _agreement(result.agreement),
        "sensitivity": [asdict(entry) for entry in result.sensitivity],
        "tournament": [_candidate(candidate) for candidate in result.candidates],
        "latency": {
            "engine": result.engine,
            "device": result.device,
            "threads": result.threads,
            "float": _latency(result.twin_latency),
            "int8": _latency(result.own_latency),
        },
        "bytes": {"float": result.twin_bytes, "int8": result.own_bytes},
        "model": {field: described[field] for field in _MODEL_FIELDS},
        "calibration": described["calibration"],
        "parity": described["report"].get("parity"),
        "provenance": described["provenance"],
        "machine": machine_summary(),
        "reproduce": list(reproduce),
    }
    return {key: _finite(value) for key, value in facts.items()}


def _accuracy(
    own: Evaluation | None, twin: Evaluation | None, measured_on: Mapping[str, Any] | None
) -> dict[str, Any] | None:
    """Return the accuracy of both sides, and both at the confidence where the F1 of float is best."""
    if own is None or twin is None:
        return None
    sides = {"float": twin.metrics, "int8": own.metrics}
    # NaN where no threshold decides, but which class is the most probable.
    best = None if math.isnan(twin.metrics.confidence) else twin.metrics.curves.best_index
    return {
        "dataset": measured_on["dataset"] if measured_on else None,
        "split": measured_on["split"] if measured_on else None,
        "images": own.metrics.images,
        "instances": own.metrics.instances,
        "counted": own.metrics.counted,
        "decision": own.metrics.decision,
        "condition": own.metrics.curves.condition,
        "figures": _both(twin.metrics.figures(), own.metrics.figures()),
        "class_figures": [
            _both(before.figures(), after.figures())
            for before, after in zip(twin.metrics.per_class, own.metrics.per_class, strict=True)
        ],
        **{side: metrics.to_dict() for side, metrics in sides.items()},
        "at_confidence_of_float": {
            "confidence": twin.metrics.confidence,
            **{side: _decided(metrics, best) for side, metrics in sides.items()},
        },
        "precision_at_recall": {
            "condition": own.metrics.curves.condition,
            "recall": _rounded(own.metrics.curves.recall_grid),
            **{side: _curves(metrics.curves) for side, metrics in sides.items()},
        },
    }


def _both(twin: Mapping[str, float], own: Mapping[str, float]) -> dict[str, dict[str, float]]:
    """Return the figures of both sides by their names."""
    return {name: {"float": twin[name], "int8": own[name]} for name in twin}


def _decided(metrics: Metrics, index: int | None) -> dict[str, float]:
    """Return precision, recall and F1, means over the classes: at one confidence, or as the metrics have them."""
    if index is None:
        return {"precision": metrics.precision, "recall": metrics.recall, "f1": metrics.f1}
    curves = metrics.curves
    values = {"precision": curves.precision, "recall": curves.recall, "f1": curves.f1}
    return {name: float(mean_over_classes(table[:, index : index + 1])[0]) for name, table in values.items()}


def _curves(curves: DetectionCurves) -> dict[str, Any]:
    return {
        "mean": _rounded(mean_over_classes(curves.precision_at_recall)),
        "per_class": [_rounded(row) for row in curves.precision_at_recall],
    }


def _agreement(agreement: Agreement) -> dict[str, Any]:
    return {
        "images": agreement.images,
        "float_objects": agreement.reference_objects,
        "int8_objects": agreement.objects,
        "matched": agreement.matched,
        "f1": agreement.f1,
        "mean_iou": agreement.mean_iou,
        "measure": agreement.measure,
        "mean_score_shift": agreement.score_shift,
        "score_shifts": _rounded(agreement.score_shifts),
    }


def _candidate(candidate: Candidate) -> dict[str, Any]:
    return {
        "name": candidate.name,
        "loss": candidate.loss,
        "latency": _latency(candidate.latency),
        "chosen": candidate.chosen,
        "problem": candidate.problem,
    }


def _latency(latency: LatencySummary | None) -> dict[str, Any] | None:
    return None if latency is None else latency.to_dict()


def _rounded(values: npt.NDArray[np.floating[Any]]) -> list[float]:
    """Five digits: more would only make the file longer."""
    return [round(value, 5) for value in values.tolist()]


def _finite(value: Any) -> Any:
    """Return the value with None for each number that JSON cannot hold."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {key: _finite(entry) for key, entry in value.items()}
    if isinstance(value, list):
        return [_finite(entry) for entry in value]
    return value
