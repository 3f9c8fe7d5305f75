"""One FP32 pass over real images: what values does each tensor take?"""

from __future__ import annotations

import zipfile
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt

from ..errors import InputError, MissingDependencyError
from ..files import atomic_file

__all__ = ["BINS", "Statistics", "TensorStatistics", "observe"]

BINS = 4096
"""Bins of each histogram, from ``-limit`` to ``limit``; even, so that zero is an edge."""

_SAMPLES = 16384  # values per tensor and image that enter the histogram; minimum and maximum see all of them


@dataclass(slots=True)
class TensorStatistics:
    """Extremes and histogram of one tensor over all images.

    Attributes:
        low: Smallest value seen.
        high: Largest value seen.
        limit: The histogram reaches from ``-limit`` to ``limit``; a power of two, doubled when a value lies outside.
        counts: int64, shape (BINS,).
    """

    low: float = np.inf
    high: float = -np.inf
    limit: float = 2.0**-10
    counts: npt.NDArray[np.int64] = field(default_factory=lambda: np.zeros(BINS, np.int64))

    def add(self, values: npt.NDArray[np.float32]) -> None:
        """Count the values of one image.

        Raises:
            InputError: If a value is not finite.
        """
        low, high = float(values.min()), float(values.max())
        if not np.isfinite(low) or not np.isfinite(high):
            raise InputError(
                "the float model gives values that are not finite on a calibration image",
                remedy="check the model with `yolo12edge val` first",
            )
        self.low, self.high = min(self.low, low), max(self.high, high)
        while max(-low, high) > self.limit:
            self._double()
        flat = values.reshape(-1)
        if flat.size > _SAMPLES:
            flat = flat[:: (flat.size // _SAMPLES) | 1]  # an odd step meets every row, column and channel
        index = np.floor((flat + self.limit) * (BINS / (2 * self.limit))).astype(np.int64)
        self.counts += np.bincount(np.minimum(index, BINS - 1), minlength=BINS)

    def centres(self) -> npt.NDArray[np.float64]:
        """Return the value that each bin stands for, shape (BINS,)."""
        width = 2 * self.limit / BINS
        return (np.arange(BINS, dtype=np.float64) + 0.5) * width - self.limit

    def _double(self) -> None:
        """Widen the histogram to twice the range: two neighbours become one, the new outer bins are empty."""
        merged = self.counts.reshape(-1, 2).sum(1)
        self.counts = np.concatenate((np.zeros(BINS // 4, np.int64), merged, np.zeros(BINS // 4, np.int64)))
        self.limit *= 2


@dataclass(frozen=True, slots=True)
class Statistics:
    """Statistics by tensor name; every backend solves its ranges from the same ones.

    Attributes:
        tensors: By name of the tensor in the float ONNX model.
        images: How many images were seen.
    """

    tensors: dict[str, TensorStatistics]
    images: int

    def save(self, path: Path) -> None:
        """Write everything to one ``.npz`` file, atomically."""
        names = sorted(self.tensors)
        chosen = [self.tensors[name] for name in names]
        with atomic_file(path) as temporary:
            np.savez_compressed(
                temporary,
                names=np.array(names),
                extremes=np.array([(item.low, item.high, item.limit) for item in chosen]),
                counts=np.stack([item.counts for item in chosen]),
                images=self.images,
            )

    @classmethod
    def load(cls, path: Path) -> Statistics:
        """Read what ``save`` wrote.

        Raises:
            InputError: If the file is missing or not such a file.
        """
        try:
            with np.load(path, allow_pickle=False) as data:
                tensors = {
                    str(name): TensorStatistics(float(low), float(high), float(limit), counts.astype(np.int64))
                    for name, (low, high, limit), counts in zip(
                        data["names"], data["extremes"], data["counts"], strict=True
                    )
                }
                return cls(tensors, int(data["images"]))
        except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
            raise InputError(f"{path} holds no calibration statistics: {error}", remedy="calibrate again") from error


def observe(
    model: bytes,
    tensors: Sequence[str],
    batches: Iterable[npt.NDArray[np.float32]],
    *,
    threads: int | None = None,
    progress: Callable[[], object] | None = None,
) -> Statistics:
    """Run a float ONNX model in ONNX Runtime and record what its tensors hold.

    Args:
        model: Content of the ``.onnx`` file, with one input.
        tensors: Names of the tensors to record; the model's input may be among them.
        batches: Preprocessed network inputs; one is in memory at a time.
        threads: CPU threads; None takes the physical cores that this process may use.
        progress: Called after each batch.

    Raises:
        MissingDependencyError: If onnx or onnxruntime is not installed.
        InputError: If there is no batch, or the model gives values that are not finite.
    """
    try:
        import onnx
    except ImportError as error:
        raise MissingDependencyError("onnx", extra="export", purpose="to calibrate") from error
    from ..runtimes.ort_backend import OrtBackend

    proto = onnx.load_from_string(model)
    source = proto.graph.input[0].name
    present = {output.name for output in proto.graph.output}
    inner = [name for name in tensors if name != source]
    proto.graph.output.extend(onnx.ValueInfoProto(name=name) for name in inner if name not in present)
    engine = OrtBackend(proto.SerializeToString(), device="cpu", threads=threads)
    statistics = {name: TensorStatistics() for name in tensors}
    images = 0
    for batch in batches:
        values = engine.infer({source: batch})
        values[source] = batch
        for name, item in statistics.items():
            item.add(values[name])
        images += len(batch)
        if progress is not None:
            progress()
    engine.close()
    if not images:
        raise InputError("there is no image to calibrate with", remedy="give data with images: --data")
    return Statistics(statistics, images)
