"""The probe: how well nearest neighbours among frozen features tell classes apart, with all labels and with few."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from ...data.dataset import Dataset
from ...errors import DatasetError, InputError
from .backbone import Backbone
from .loader import read_rgb
from .views import Image, chw, plain

__all__ = ["KnnClassifier", "Probe", "embed", "probe_backbone"]

SHOTS = (1, 5)
_DRAWS = 10  # of so few examples; the mean is given
_PER_CLASS = {"train": 200, "val": 100}  # objects that are looked at
_BATCH = 64
_MARGIN = 0.1  # around an object, share of its sides


class KnnClassifier:
    """Classifies by the most similar of known examples (Wu et al. 2018, arXiv:1805.01978); with few, a few-shot one.

    Similarity is the cosine between features from which the mean of the examples was taken.

    Args:
        features: float32 (n, d), of examples.
        class_id: int64 (n,), from 0.
        neighbours: How many vote.
        temperature: Votes weigh ``exp(similarity / temperature)``.
    """

    def __init__(
        self,
        features: npt.NDArray[np.float32],
        class_id: npt.NDArray[np.int64],
        *,
        neighbours: int = 20,
        temperature: float = 0.07,
    ) -> None:
        if len(features) == 0 or len(features) != len(class_id):
            raise InputError(
                f"{len(features)} examples have {len(class_id)} classes", expected="one class each, and an example"
            )
        self._mean = features.mean(0) if len(features) > 1 else np.zeros_like(features[0])
        self._bank = self._unit(features)
        self._class_id = class_id
        self._classes = int(class_id.max()) + 1
        self._neighbours = min(neighbours, len(features))
        self._temperature = temperature

    def probabilities(self, features: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """Return the share of the votes of each class, float32 (m, classes), for features (m, d)."""
        similarity = self._unit(features) @ self._bank.T
        nearest = np.argpartition(-similarity, self._neighbours - 1, axis=1)[:, : self._neighbours]
        votes = np.exp((np.take_along_axis(similarity, nearest, 1) - 1) / self._temperature)
        shares = np.zeros((len(features), self._classes), np.float32)
        for column in range(self._neighbours):
            shares[np.arange(len(features)), self._class_id[nearest[:, column]]] += votes[:, column]
        return np.asarray(shares / np.maximum(shares.sum(1, keepdims=True), 1e-30), np.float32)

    def _unit(self, features: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        centred = features - self._mean
        return np.asarray(centred / np.maximum(np.linalg.norm(centred, axis=1, keepdims=True), 1e-12), np.float32)


@dataclass(frozen=True, slots=True)
class Probe:
    """Shares of objects that were classified right, as the mean over classes.

    Attributes:
        accuracy: With all examples.
        shots: With so few examples of each class, the mean of ten draws.
        chance: What guessing gives.
        examples: Number of examples.
        queries: Number of classified objects.
    """

    accuracy: float
    shots: dict[int, float]
    chance: float
    examples: int
    queries: int


@torch.inference_mode()
def embed(backbone: Backbone, pictures: Iterable[Image], *, image_size: int) -> npt.NDArray[np.float32]:
    """Return the features of pictures.

    Args:
        backbone: In evaluation mode, on its device.
        pictures: uint8 (H, W, 3), RGB, of any sizes; the middle square of each is looked at.
        image_size: Its side when it is looked at, in pixels.

    Returns:
        float32 (n, d): the mean of the map at stride 32.
    """
    device = next(backbone.parameters()).device
    rows, waiting = [], iter(pictures)
    while batch := [chw(plain(picture, image_size)) for picture in islice(waiting, _BATCH)]:
        images = torch.from_numpy(np.stack(batch)).to(device).float().div_(255)
        rows.append(backbone.pooled(images).float().cpu().numpy())
    return np.concatenate(rows) if rows else np.zeros((0, backbone.widths[2]), np.float32)


def probe_backbone(backbone: Backbone, dataset: Dataset, *, image_size: int, seed: int = 0) -> Probe:
    """Classify what is labelled in ``val`` by what is labelled in ``train``.

    Of pictures that have a class as a whole, the pictures; of others, their objects, cut out: at most 200 examples and
    100 queries of each class.

    Args:
        backbone: In evaluation mode.
        dataset: Labelled, of two classes or more.
        image_size: Side in pixels at which pictures and cut out objects are looked at.
        seed: Of the choice of objects and examples.

    Raises:
        DatasetError: If fewer than two classes have both examples and queries.
    """
    rng = np.random.default_rng(seed)
    examples, queries = (_objects(dataset, split, limit, rng) for split, limit in _PER_CLASS.items())
    shared = {item.class_id for item in examples} & {item.class_id for item in queries}
    if len(shared) < 2:
        raise DatasetError(
            f"{len(shared)} class of {dataset.path} has objects in both train and val",
            expected="two or more, which features could tell apart",
            remedy="probe with a dataset of several classes",
        )
    numbers = {class_id: number for number, class_id in enumerate(sorted(shared))}
    examples, queries = ([item for item in items if item.class_id in numbers] for items in (examples, queries))
    known, asked = (embed(backbone, _cut(items), image_size=image_size) for items in (examples, queries))
    known_id, asked_id = (
        np.array([numbers[item.class_id] for item in items], np.int64) for items in (examples, queries)
    )
    shots = {}
    for count in SHOTS:
        draws = []
        for _ in range(_DRAWS):
            chosen = np.concatenate(
                [rng.permutation(np.flatnonzero(known_id == number))[:count] for number in range(len(numbers))]
            )
            draws.append(_accuracy(KnnClassifier(known[chosen], known_id[chosen]), asked, asked_id))
        shots[count] = float(np.mean(draws))
    return Probe(
        accuracy=_accuracy(KnnClassifier(known, known_id), asked, asked_id),
        shots=shots,
        chance=1 / len(numbers),
        examples=len(known),
        queries=len(asked),
    )


def _accuracy(classifier: KnnClassifier, features: npt.NDArray[np.float32], class_id: npt.NDArray[np.int64]) -> float:
    """Return the mean over classes of the share of right answers."""
    right = classifier.probabilities(features).argmax(1) == class_id
    return float(np.mean([right[class_id == number].mean() for number in np.unique(class_id)]))


@dataclass(frozen=True, slots=True)
class _Object:
    path: Path
    box: tuple[float, ...] | None
    class_id: int


def _objects(dataset: Dataset, split: str, limit: int, rng: np.random.Generator) -> list[_Object]:
    """Choose objects of a split, at most ``limit`` of each class, in the order of their pictures."""
    whole = dataset.form.whole
    found: dict[int, list[_Object]] = {}
    for sample in dataset.samples(split):
        for class_id, box in zip(sample.class_id.tolist(), sample.boxes.tolist(), strict=True):
            found.setdefault(class_id, []).append(_Object(sample.image, None if whole else tuple(box), class_id))
    chosen: list[_Object] = []
    for items in found.values():
        chosen += [items[place] for place in rng.permutation(len(items))[:limit].tolist()]
    return sorted(chosen, key=lambda item: (item.path, item.box or ()))


def _cut(items: Sequence[_Object]) -> Iterator[Image]:
    """Give the picture of each object; each file is read once."""
    path: Path | None = None
    for item in items:
        if item.path != path:
            path, picture = item.path, read_rgb(item.path)
        yield picture if item.box is None else _square(picture, item.box)


def _square(picture: Image, box: tuple[float, ...]) -> Image:
    """Cut out a square around a box, moved into the picture where that is large enough."""
    height, width = picture.shape[:2]
    left, top, right, bottom = box[0] * width, box[1] * height, box[2] * width, box[3] * height
    side = int(np.clip(round(max(right - left, bottom - top) * (1 + 2 * _MARGIN)), 2, max(height, width)))
    x = int(np.clip(round((left + right - side) / 2), 0, max(0, width - side)))
    y = int(np.clip(round((top + bottom - side) / 2), 0, max(0, height - side)))
    return picture[y : y + side, x : x + side]
