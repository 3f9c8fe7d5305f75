"""``look``: what a model sees in each of many pictures, here or over a Ray cluster, with the same result.

On a cluster, Ray Data hands pictures to workers, each with a Runtime of its own. A worker that dies loses nothing: its
pictures are looked at again by another one, and each comes back once.
"""

from __future__ import annotations

import logging
import pickle
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..detections import Detections
from ..errors import BackendError, InputError
from ..imaging.images import read_image
from ..ray_cluster import connected
from ..runtimes import Runtime
from ..thresholds import Thresholds

__all__ = ["Seen", "look"]

_AT_ONCE = 8  # pictures of a task of a worker: little is done again where one dies


@dataclass(frozen=True, slots=True, eq=False)
class Seen:
    """What was seen in one picture.

    Attributes:
        index: Which of the pictures.
        image_hw: Its height and width in pixels; (0, 0) where it could not be read.
        detections: What was found, in its pixels; None where it could not be read.
        error: Why it could not be read.
    """

    index: int
    image_hw: tuple[int, int]
    detections: Detections | None
    error: str = ""


def look(
    model: Path,
    pictures: Sequence[Path],
    *,
    thresholds: Thresholds,
    device: str = "auto",
    cluster: str | None = None,
    workers: int = 2,
) -> Iterator[Seen]:
    """Look at pictures; each comes once, on a cluster in no certain order.

    Args:
        model: Artifact or checkpoint. A cluster's machines read it, and the pictures, under the same paths.
        pictures: What to look at.
        thresholds: What counts as found.
        device: Where a Runtime runs; with ``cuda`` each worker takes one GPU of the cluster.
        cluster: Address of a Ray cluster, or ``local`` for one on this machine that ends with the work; None looks in
            this process.
        workers: Runtimes of the cluster.

    Raises:
        InputError: If the model is not usable, or there are no workers.
        MissingDependencyError: If Ray is not installed and a cluster is asked for.
        BackendError: If the cluster cannot be reached, or cannot do the work.
    """
    if workers < 1:
        raise InputError(f"workers is {workers}", expected="at least 1")
    if cluster is not None:
        yield from _over_cluster(model.absolute(), pictures, thresholds, device, cluster, workers)
        return
    with Runtime(model, device=device) as runtime:
        for index, path in enumerate(pictures):
            yield _seen(runtime, index, path, thresholds)


def _seen(runtime: Runtime, index: int, path: Path, thresholds: Thresholds) -> Seen:
    try:
        image = read_image(path)
    except InputError as error:
        return Seen(index, (0, 0), None, str(error))
    return Seen(index, (image.shape[0], image.shape[1]), runtime(image, thresholds=thresholds))


class _Worker:
    """One Runtime of the cluster; Ray makes it anew where its process has died."""

    def __init__(self, model: str, device: str, thresholds: Thresholds) -> None:
        self.runtime = Runtime(Path(model), device=device)
        self.thresholds = thresholds

    def __call__(self, batch: dict[str, Any]) -> dict[str, Any]:
        import numpy as np

        pairs = zip(batch["index"].tolist(), batch["path"].tolist(), strict=True)
        seen = [_seen(self.runtime, index, Path(path), self.thresholds) for index, path in pairs]
        return {"seen": np.array([pickle.dumps(entry) for entry in seen], object)}


def _over_cluster(
    model: Path, pictures: Sequence[Path], thresholds: Thresholds, device: str, cluster: str, workers: int
) -> Iterator[Seen]:
    with Runtime(model, device=device if cluster == "local" else "auto"):
        pass  # what is wrong with the model is said here, not from afar
    with connected(cluster, part="data", purpose="to work on a cluster", cores=workers + 1):
        import ray.data
        from ray.exceptions import RayError

        ray.data.DataContext.get_current().enable_progress_bars = False
        logging.getLogger("ray.data").setLevel(logging.ERROR)  # it tells of every step of a plan
        rows = [{"index": index, "path": str(path.absolute())} for index, path in enumerate(pictures)]
        blocks = max(1, -(-len(rows) // _AT_ONCE))
        found = ray.data.from_items(rows, override_num_blocks=blocks).map_batches(
            _Worker,
            fn_constructor_args=(str(model), device, thresholds),
            batch_size=_AT_ONCE,
            batch_format="numpy",
            compute=ray.data.ActorPoolStrategy(size=workers),
            num_cpus=1,
            num_gpus=1 if device.startswith("cuda") else 0,
        )
        done: set[int] = set()
        try:
            for row in found.iter_rows():
                seen: Seen = pickle.loads(row["seen"])  # from our own workers
                if seen.index not in done:
                    done.add(seen.index)
                    yield seen
        except RayError as error:
            raise BackendError(f"the cluster could not do the work: {error}") from error
        if len(done) != len(pictures):
            raise BackendError(f"{len(pictures) - len(done)} of {len(pictures)} pictures did not come back")
