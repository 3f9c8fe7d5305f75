"""The work of ``yolo12edge predict``: run a model over files and streams, write pictures, videos and results."""

from __future__ import annotations

import re
from array import array
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import cv2
import msgspec
import numpy as np
import numpy.typing as npt

from ..detections import Detections
from ..errors import InputError
from ..files import atomic_file
from ..frame import Frame
from ..imaging.draw import draw_detections
from ..imaging.images import read_image, write_image
from ..manifest import Manifest
from ..sources import MediaFile, Source, open_source
from ..sources.address import masked
from ..sources.media import unique_name
from ..thresholds import Thresholds
from ._label_lines import label_lines

__all__ = ["Detector", "Prediction", "output_of", "predict_media"]

Image = npt.NDArray[np.uint8]
STAGES = ("preprocess", "infer", "postprocess")
_FALLBACK_FPS = 25.0


class Detector(Protocol):
    """What of a ``Runtime`` is used here."""

    @property
    def manifest(self) -> Manifest:
        """What the model is."""

    def __call__(self, frame: Image, *, thresholds: Thresholds) -> Detections:
        """Detect objects in one frame; the result has its timing."""


@dataclass(slots=True)
class Prediction:
    """What came of it.

    Attributes:
        images: Image files done.
        videos: Video files done, as far as they could be read.
        streams: Cameras and network streams done, as far as they lasted.
        frames: Images and frames of videos and streams done.
        objects: Objects found, by class index.
        seen_in: Images and frames with at least one such object, by class index.
        milliseconds: Time of each frame, by stage.
        records: One JSON object a frame, encoded: a long video holds too many to keep them as Python objects.
        errors: (source, message) of what could not be read.
        notes: What else a person should know.
        interrupted: Whether Ctrl-C ended it before its end.
    """

    images: int = 0
    videos: int = 0
    streams: int = 0
    frames: int = 0
    objects: Counter[int] = field(default_factory=Counter)
    seen_in: Counter[int] = field(default_factory=Counter)
    milliseconds: dict[str, array[float]] = field(default_factory=lambda: {stage: array("d") for stage in STAGES})
    records: list[bytes] = field(default_factory=list)
    errors: list[tuple[str, str]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    interrupted: bool = False

    def to_json(self, header: Mapping[str, Any]) -> bytes:
        """Return one JSON object: the header's fields, ``results`` and ``errors``."""
        head = msgspec.json.encode(
            {**header, "errors": [{"source": source, "error": message} for source, message in self.errors]}
        )
        return head[:-1] + b',"results":[\n' + b",\n".join(self.records) + b"\n]}\n"


def output_of(item: MediaFile, out: Path) -> Path:
    """Return where the annotated copy of a file goes: JPEG stays JPEG, other images become PNG, videos MP4."""
    if item.kind == "video":
        return out / f"{item.name}.mp4"
    return out / f"{item.name}{'.jpg' if item.path.suffix.lower() in ('.jpg', '.jpeg') else '.png'}"


def predict_media(
    detector: Detector,
    media: Sequence[MediaFile],
    out: Path,
    *,
    streams: Sequence[str] = (),
    thresholds: Thresholds,
    most_frames: int | None = None,
    save_txt: bool = False,
    keep_records: bool = True,
    advance: Callable[[int], None] = lambda count: None,
) -> Prediction:
    """Look at every file, then at every stream; what cannot be read is noted, and the rest is done.

    Ctrl-C ends the work after the frame before, with everything written that is done.

    Args:
        detector: An open ``Runtime``.
        media: The files.
        out: Folder for annotated copies, and for ``labels/`` with ``save_txt``.
        streams: Addresses of cameras and network streams, looked at one after the other.
        thresholds: What counts as a detection.
        most_frames: Frames after which a video or stream is left; None looks at all.
        save_txt: Whether to write YOLO label files, as ``label_lines`` says: ``labels/NAME.txt`` for an image,
            ``labels/NAME/000001.txt`` for a frame.
        keep_records: Whether the result has ``records``; those of an endless stream would fill the memory.
        advance: Called with 1 after each image, readable or not, and each frame of a video or stream.

    Raises:
        InputError: If an annotated copy would overwrite one of the files, or the folder cannot be written.
    """
    sources = {item.path.resolve() for item in media}
    for item in media:
        if output_of(item, out).resolve() in sources:
            raise InputError(
                f"{output_of(item, out)} would overwrite a source", remedy="name another folder with --out"
            )
    work = _Work(detector, thresholds, out, most_frames, save_txt, keep_records, advance, Prediction())
    taken = {item.name.lower() for item in media}
    with _folder(out):
        for item in media:
            with work.noting(str(item.path)):
                if item.kind == "image":
                    work.image(item)
                else:
                    work.frames(str(item.path), item.name)
            if work.result.interrupted:
                return work.result
        for address in streams:
            with work.noting(masked(address)):
                work.frames(address, unique_name(_stream_name(address), taken))
            if work.result.interrupted:
                break
    return work.result


@contextmanager
def _folder(out: Path) -> Iterator[None]:
    """Make a folder, because that it cannot be made should show at once; take it away if nothing was written."""
    made = [folder for folder in (out, *out.parents) if not folder.exists()]
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"cannot make the folder {out}: {error.strerror}") from error
    try:
        yield
    finally:
        with suppress(OSError):  # it is not empty
            for folder in made:
                folder.rmdir()


@dataclass(frozen=True, slots=True)
class _Work:
    """What stays the same from source to source, and the result that grows."""

    detector: Detector
    thresholds: Thresholds
    out: Path
    most_frames: int | None
    save_txt: bool
    keep_records: bool
    advance: Callable[[int], None]
    result: Prediction

    @contextmanager
    def noting(self, source: str) -> Iterator[None]:
        """Note that a source cannot be read, or that the user wants to end, instead of raising it."""
        try:
            yield
        except InputError as error:
            self.result.errors.append((source, str(error)))
        except KeyboardInterrupt:
            self.result.interrupted = True

    def image(self, item: MediaFile) -> None:
        """Look at an image."""
        target = output_of(item, self.out)
        try:
            image = read_image(item.path)
            detections = self._detect(image)
            write_image(target, self._drawn(image, detections))
            self._record(str(item.path), None, None, image, detections, target)
            if self.save_txt:
                self._write_txt(self.out / "labels" / f"{item.name}.txt", detections, image)
            self.result.images += 1
        finally:
            self.advance(1)

    def frames(self, address: str, name: str) -> None:
        """Look at the frames of a video or stream; those before an error or Ctrl-C are kept."""
        target = self.out / f"{name}.mp4"
        txt_folder = self.out / "labels" / name
        done = 0
        with open_source(address) as source, _video_writer(target, self._fps(source, target)) as write:
            ended: BaseException | None = None
            try:
                for frame in source:
                    detections = self._detect(frame.image)
                    write(frame, self._drawn(frame.image, detections))
                    stamp_ns = frame.stamp_ns if source.live else None
                    self._record(source.name, frame.index + 1, stamp_ns, frame.image, detections, target)
                    if self.save_txt:
                        self._write_txt(txt_folder / f"{frame.index + 1:06d}.txt", detections, frame.image)
                    done += 1
                    self.advance(1)
                    if done == self.most_frames:
                        break
            except (InputError, KeyboardInterrupt) as error:
                if not done:
                    raise
                ended = error  # the frames before are worth keeping, so the video is finished first
        if source.live:
            self.result.streams += 1
            self.result.notes.append(
                f"{source.name}: {done} frames looked at; {source.dropped} dropped, because newer ones came; "
                f"{source.reconnects} times lost and found again"
            )
        else:
            self.result.videos += 1
        if ended is not None:
            raise ended

    def _fps(self, source: Source, target: Path) -> float | None:
        """Return the speed of the annotated copy; None for that of the stamps."""
        if source.live:
            return None
        if source.fps is None:
            self.result.notes.append(
                f"{source.name} does not say its speed; {target} plays {_FALLBACK_FPS:.0f} frames a second"
            )
        return source.fps or _FALLBACK_FPS

    def _detect(self, image: Image) -> Detections:
        detections = self.detector(image, thresholds=self.thresholds)
        timing = detections.timing
        if timing is not None:
            for stage, value in zip(STAGES, (timing.pre_ms, timing.infer_ms, timing.post_ms), strict=True):
                self.result.milliseconds[stage].append(value)
        return detections

    def _drawn(self, image: Image, detections: Detections) -> Image:
        manifest = self.detector.manifest
        return draw_detections(image, detections, manifest.class_names, keypoints=manifest.keypoints)

    def _write_txt(self, path: Path, detections: Detections, image: Image) -> None:
        lines = label_lines(detections, (image.shape[0], image.shape[1]), self.detector.manifest.keypoints)
        with atomic_file(path) as temporary:
            temporary.write_text("".join(lines), encoding="ascii")

    def _record(
        self, source: str, number: int | None, stamp_ns: int | None, image: Image, detections: Detections, target: Path
    ) -> None:
        result, classes = self.result, detections.class_id.tolist()
        result.frames += 1
        result.objects.update(classes)
        result.seen_in.update(set(classes))
        if not self.keep_records:
            return
        record = {
            "source": source,
            "frame": number,
            "stamp_ns": stamp_ns,
            "width": image.shape[1],
            "height": image.shape[0],
            "output": str(target),
            "milliseconds": {stage: round(times[-1], 3) for stage, times in result.milliseconds.items() if times},
            "detections": detections.to_records(self.detector.manifest.class_names),
        }
        result.records.append(msgspec.json.encode(record))


def _stream_name(address: str) -> str:
    """Return a file name for the results of a stream: ``cam1-554-live`` for ``rtsp://me:pw@cam1:554/live``."""
    place = masked(address).partition("?")[0].rpartition("@")[2].rpartition("://")[2].removeprefix("/dev/")
    return re.sub(r"[^A-Za-z0-9]+", "-", place).strip("-")[:80] or "stream"


@contextmanager
def _video_writer(path: Path, fps: float | None) -> Iterator[Callable[[Frame, Image], None]]:
    """Yield a function that appends a picture to an MP4, which appears under its name when it is whole.

    Args:
        path: The MP4.
        fps: Its frames per second. None keeps the time of the stamps instead: a picture stays until the next one was
            taken, so that a stream with dropped frames is shown as fast as it was.
    """
    speed = fps or _FALLBACK_FPS
    writer: cv2.VideoWriter | None = None
    last: Image | None = None
    size, begin_ns, written = (0, 0), 0, 0
    with atomic_file(path) as temporary:

        def write(frame: Frame, picture: Image) -> None:
            nonlocal writer, size, begin_ns, written, last
            if writer is None:
                size, begin_ns = (picture.shape[1], picture.shape[0]), frame.stamp_ns or 0
                writer = cv2.VideoWriter(str(temporary), cv2.VideoWriter.fourcc(*"mp4v"), speed, size)
                if not writer.isOpened():
                    raise InputError(f"this OpenCV cannot write {path} as MPEG-4, {size[0]} x {size[1]} pixels")
            if picture.shape[1::-1] != size:  # a camera that comes back may have other settings
                picture = np.asarray(cv2.resize(picture, size), np.uint8)
            due = written + 1 if fps else int(((frame.stamp_ns or 0) - begin_ns) * speed / 1e9) + 1
            while written < due:
                written += 1
                writer.write(picture if written == due or last is None else last)
            last = picture

        try:
            yield write
        finally:
            if writer is not None:
                writer.release()
