"""``Statistics``: what the tensors of one float model hold on real images, and the file that keeps it."""

from __future__ import annotations

import io
import time
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import msgspec
import numpy as np
import numpy.typing as npt

from .. import __version__
from ..errors import InputError
from ..files import atomic_file
from ..manifest import MANIFEST_LIMIT, InputSpec, Sha256
from .images import digest_of

__all__ = ["BINS", "SCHEMA_VERSION", "Statistics", "TensorStatistics"]

BINS = 4096
"""Bins of each histogram, from ``-limit`` to ``limit``; even, so that zero is an edge."""

SCHEMA_VERSION = 1

_MAX_BYTES = 256 << 20  # of a file, and of what it unpacks to; YOLO12x needs an eighth
_LARGEST = float(np.finfo(np.float32).max) / 4  # ranges of 8 bits must stay finite in float32
_FEW_OBJECTS = 0.1  # share of images with an object below which they seem to be of another domain
_MEMBERS = ("meta", "extremes", "counts", "channels", "channel_peak", "channel_mean")


@dataclass(frozen=True, slots=True, eq=False)
class TensorStatistics:
    """What one tensor holds, over all images.

    Attributes:
        low: Smallest value.
        high: Largest value.
        limit: The histogram reaches from ``-limit`` to ``limit``, a power of two.
        counts: Histogram of a sample of the values, int64, shape (BINS,).
        channel_peak: Largest magnitude by channel (axis 1; a vector has one channel), float32, shape (channels,).
        channel_mean: Mean by channel, over all images and positions, float64, shape (channels,).
    """

    low: float
    high: float
    limit: float
    counts: npt.NDArray[np.int64]
    channel_peak: npt.NDArray[np.float32]
    channel_mean: npt.NDArray[np.float64]

    def edges(self) -> npt.NDArray[np.float64]:
        """Return where the bins begin and end, shape (BINS + 1,)."""
        return np.linspace(-self.limit, self.limit, BINS + 1)

    def centres(self) -> npt.NDArray[np.float64]:
        """Return the value that each bin stands for, shape (BINS,)."""
        edges = self.edges()
        return (edges[1:] + edges[:-1]) / 2


@dataclass(frozen=True, slots=True, eq=False)
class Statistics:
    """Statistics of the tensors of one float model; every backend solves its ranges from the same ones.

    Attributes:
        tensors: By name of the tensor in the float ONNX model.
        model_digest: Of that model, see ``graph.graph_digest``.
        input: How the images were prepared.
        images: Names of the images that were seen, in order.
        contents: SHA-256 of each of these files.
        split: The split they are from, or ``folder``.
        images_with_objects: In how many of them the float model finds an object, at confidence 0.25 or more.
    """

    tensors: dict[str, TensorStatistics]
    model_digest: str
    input: InputSpec
    images: tuple[str, ...]
    contents: tuple[str, ...]
    split: str
    images_with_objects: int

    def check(self, model_digest: str, input: InputSpec) -> None:
        """Refuse statistics that are not of this model, or of images prepared in another way.

        Args:
            model_digest: Of the float model, see ``graph.graph_digest``.
            input: Of its manifest.

        Raises:
            InputError: If one of the two differs; the message says which.
        """
        found = []
        for name in InputSpec.__struct_fields__:
            recorded, wanted = getattr(self.input, name), getattr(input, name)
            if recorded != wanted:
                found.append(f"their input has {name} {recorded}, that of this model {wanted}")
        if model_digest != self.model_digest:
            found.append(f"they are of another model, digest {self.model_digest[:12]} and not {model_digest[:12]}")
        if found:
            raise InputError(
                f"the calibration statistics do not fit: {'; '.join(found)}",
                expected="statistics of this very model, at its image size",
                remedy="calibrate again with `yolo12edge calibrate`",
            )

    @property
    def images_digest(self) -> str:
        """SHA-256 over names and contents of the images."""
        return digest_of(self.images, self.contents)

    def caution(self) -> str:
        """Return a warning if the images seem to be of another domain than the model's, else an empty string."""
        if self.images_with_objects >= _FEW_OBJECTS * len(self.images):
            return ""
        return (
            f"The float model finds an object (confidence 0.25 or more) in only {self.images_with_objects} of "
            f"{len(self.images)} calibration images: they seem unlike those that it was trained on. Ranges measured "
            "on such images do not fit those that the device will see; INT8 may then miss objects."
        )

    def save(self, path: Path) -> None:
        """Write everything to one ``.npz`` file, atomically.

        Raises:
            InputError: If the file cannot be written.
        """
        chosen = list(self.tensors.values())
        meta = _Meta(
            schema_version=SCHEMA_VERSION,
            model_digest=self.model_digest,
            input=self.input,
            images=self.images,
            contents=self.contents,
            images_with_objects=self.images_with_objects,
            split=self.split,
            tensors=list(self.tensors),
            versions={"yolo12edge": __version__},
            created=time.strftime("%Y-%m-%dT%H:%M:%S+00:00", time.gmtime()),
        )
        counts = np.stack([item.counts for item in chosen])
        with atomic_file(path) as temporary, temporary.open("wb") as file:
            np.savez_compressed(
                file,
                meta=np.frombuffer(msgspec.json.encode(meta), np.uint8),
                extremes=np.array([(item.low, item.high, item.limit) for item in chosen], np.float64),
                counts=counts.astype(np.uint32) if counts.max() < 1 << 32 else counts,
                channels=np.array([len(item.channel_peak) for item in chosen], np.int64),
                channel_peak=np.concatenate([item.channel_peak for item in chosen]),
                channel_mean=np.concatenate([item.channel_mean for item in chosen]),
            )

    @classmethod
    def load(cls, path: Path) -> Statistics:
        """Read what ``save`` wrote; the file may come from anywhere.

        Raises:
            InputError: If the file is missing, damaged, too large, of a newer version, or contradicts itself.
        """
        try:
            members = _members(path)
            meta = _Meta.of(members["meta"].tobytes())
            tensors = _tensors(meta.tensors, members)
        except (OSError, ValueError, KeyError, EOFError, RuntimeError, zipfile.BadZipFile, zlib.error) as error:
            # Text from a foreign file may be of any length.
            raise InputError(
                f"{path} holds no calibration statistics: {str(error)[:200]}",
                expected="a file that `yolo12edge calibrate` wrote",
                remedy="calibrate again",
            ) from error
        return cls(
            tensors,
            meta.model_digest,
            meta.input,
            meta.images,
            meta.contents,
            meta.split,
            meta.images_with_objects,
        )


class _Meta(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What of the file is not an array."""

    schema_version: int
    model_digest: Sha256
    input: InputSpec
    images: tuple[str, ...]
    contents: tuple[Sha256, ...]
    images_with_objects: Annotated[int, msgspec.Meta(ge=0)]
    split: str
    tensors: Annotated[list[str], msgspec.Meta(min_length=1)]
    versions: dict[str, str]
    created: Annotated[str, msgspec.Meta(max_length=40)]

    @classmethod
    def of(cls, text: bytes) -> _Meta:
        if len(text) > MANIFEST_LIMIT:  # small strings take far more memory than bytes
            raise ValueError(f"its description has {len(text) >> 20} MiB")
        raw: Any = msgspec.json.decode(text)
        version = raw.get("schema_version") if isinstance(raw, dict) else None
        if version != SCHEMA_VERSION:
            newer = isinstance(version, int) and SCHEMA_VERSION < version < 1 << 31
            raise ValueError(
                f"it has schema version {version}, newer than the {SCHEMA_VERSION} that this yolo12edge reads"
                if newer
                else "it states no known schema version"
            )
        meta = msgspec.convert(raw, cls)
        if len(set(meta.tensors)) < len(meta.tensors):
            raise ValueError("a tensor is named twice")
        if len(meta.images) != len(meta.contents):
            raise ValueError(f"{len(meta.images)} images have {len(meta.contents)} digests")
        if not meta.images or meta.images_with_objects > len(meta.images):
            raise ValueError(f"{meta.images_with_objects} of {len(meta.images)} images have objects")
        return meta


def _members(path: Path) -> dict[str, npt.NDArray[Any]]:
    """Read the arrays; nothing is unpacked before its size is known to be sane."""
    size = path.stat().st_size
    if size > _MAX_BYTES:
        raise ValueError(f"it has {size >> 20} MiB")
    with zipfile.ZipFile(path) as archive:
        entries = archive.infolist()
        if sorted(entry.filename for entry in entries) != sorted(f"{name}.npy" for name in _MEMBERS):
            raise ValueError(f"it is not made of {', '.join(_MEMBERS)}")
        if (unpacked := sum(entry.file_size for entry in entries)) > _MAX_BYTES:
            raise ValueError(f"it would unpack to {unpacked >> 20} MiB")
        return {entry.filename.removesuffix(".npy"): _array(archive.read(entry)) for entry in entries}


def _array(content: bytes) -> npt.NDArray[Any]:
    """Parse a ``.npy`` member whose header may lie about what follows."""
    file = io.BytesIO(content)
    if np.lib.format.read_magic(file) != (1, 0):
        raise ValueError("an array is of another format")
    try:
        shape, fortran, dtype = np.lib.format.read_array_header_1_0(file)
    except Exception as error:  # NumPy evaluates the header; a forged one fails in many ways
        raise ValueError(f"the header of an array is damaged: {error}") from error
    if fortran or dtype.hasobject or dtype.itemsize == 0:
        raise ValueError(f"an array is of type {dtype}")
    if not all(type(size) is int and size >= 0 for size in shape):
        raise ValueError("an array has no sane shape")
    values = np.frombuffer(content, dtype, offset=file.tell())
    return values.reshape(shape)


def _tensors(names: list[str], members: dict[str, npt.NDArray[Any]]) -> dict[str, TensorStatistics]:
    """Take the arrays apart.

    Raises:
        ValueError: If types, shapes or values are not as ``save`` writes them.
    """
    n = len(names)
    extremes, counts, channels = members["extremes"], members["counts"], members["channels"]
    peak, mean = members["channel_peak"], members["channel_mean"]
    if counts.dtype not in (np.uint32, np.int64) or counts.shape != (n, BINS):
        raise ValueError(f"counts are {counts.dtype} {counts.shape}, not ({n}, {BINS})")
    if extremes.dtype != np.float64 or extremes.shape != (n, 3):
        raise ValueError(f"extremes are {extremes.dtype} {extremes.shape}, not ({n}, 3)")
    if channels.dtype != np.int64 or channels.shape != (n,) or (channels < 1).any():
        raise ValueError(f"channels are {channels.dtype} {channels.shape}, not {n} numbers from 1 on")
    total = sum(channels.tolist())
    if peak.dtype != np.float32 or mean.dtype != np.float64 or peak.shape != (total,) or mean.shape != (total,):
        raise ValueError(f"channel_peak and channel_mean are not float32 and float64 of shape ({total},)")
    low, high, limit = extremes.T
    if not all(np.isfinite(item).all() for item in (extremes, peak, mean)) or np.abs(extremes).max() > _LARGEST:
        raise ValueError("a value is not finite")
    if (low > high).any() or (np.maximum(-low, high) > limit).any() or (limit <= 0).any() or (peak < 0).any():
        raise ValueError("extremes contradict each other")
    if (counts < 0).any() or (counts.sum(1, dtype=np.float64) < 1).any():
        raise ValueError("a histogram is empty or negative")
    ends = np.cumsum(channels)[:-1]
    peaks, means = np.split(peak, ends), np.split(mean, ends)
    return {
        name: TensorStatistics(
            float(low[i]), float(high[i]), float(limit[i]), counts[i].astype(np.int64), peaks[i], means[i]
        )
        for i, name in enumerate(names)
    }
