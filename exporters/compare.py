"""What did INT8 cost, and what did it bring? An artifact beside its float twin, on this machine."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from ..artifact import Artifact, with_report
from ..benchmark.latency import interleaved_latency
from ..data.dataset import Sample
from ..errors import InputError
from ..manifest import Accuracy, Latency, Report
from ..metrics import evaluate_pair
from ..preprocess import Preprocessor
from ..runtimes import Runtime
from .verify import Frame

__all__ = ["compare_with_float"]

_REPEATS, _WARMUP = 50, 5


def compare_with_float(
    artifact: Artifact,
    reference: Artifact,
    *,
    frame: Frame,
    samples: Sequence[Sample] = (),
    dataset: str = "",
    split: str = "",
    threads: int | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Artifact:
    """Measure accuracy and latency of an artifact and of its float twin, and write both into its report.

    Accuracy is measured on the same decoded images, latency of the engine alone in turns.

    Args:
        artifact: Usually INT8.
        reference: Its float twin.
        frame: A real picture, uint8 BGR, to measure latency on.
        samples: Labelled images that the artifact was not calibrated on; without any, accuracy is not measured.
        dataset: Their dataset's name, for the report.
        split: Their split, for the report.
        threads: CPU threads; None takes the physical cores that this process may use.
        progress: Called after each image with the number done and the number of all.

    Returns:
        The artifact with its report, also on disk.

    Raises:
        InputError: If the two are not of the same classes and input.
    """
    if artifact.manifest.input != reference.manifest.input or (
        artifact.manifest.class_names != reference.manifest.class_names
    ):
        raise InputError(f"{artifact.path} and {reference.path} differ in input or classes", expected="twins")
    accuracy = None
    with (
        Runtime(artifact, device="cpu", threads=threads) as own,
        Runtime(reference, device="cpu", threads=threads) as twin,
    ):
        if samples:
            mine, theirs = evaluate_pair(own, twin, samples, artifact.manifest.class_names, progress=progress)
            accuracy = Accuracy(
                dataset=dataset,
                split=split,
                images=len(samples),
                ap=mine.metrics.ap,
                ap50=mine.metrics.ap50,
                ap75=mine.metrics.ap75,
                reference=reference.path.name,
                reference_ap=theirs.metrics.ap,
                reference_ap50=theirs.metrics.ap50,
                reference_ap75=theirs.metrics.ap75,
            )
        spec = artifact.manifest.input
        feeds = {spec.name: np.ascontiguousarray(Preprocessor(spec)(frame)[0])}
        times = interleaved_latency(
            {"own": lambda: own.infer(feeds), "twin": lambda: twin.infer(feeds)}, repeats=_REPEATS, warmup=_WARMUP
        )
        latency = Latency(
            engine=own.engine,
            device=own.device,
            threads=own.threads,
            samples=_REPEATS,
            median_ms=times["own"].median_ms,
            reference=reference.path.name,
            reference_median_ms=times["twin"].median_ms,
        )
    return with_report(artifact, Report(parity=artifact.manifest.report.parity, accuracy=accuracy, latency=latency))
