"""The work of ``yolo12edge predict``: run a detector over files, write pictures, videos and results."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
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
from ..imaging.boxes import xywh_from_xyxy
from ..imaging.draw import draw_detections
from ..imaging.images import read_image, write_image
from ..manifest import Manifest
from ..postprocess import Postprocessor
from ..preprocess import Preprocessor
from ..sources import MediaFile, Video
from ..thresholds import Thresholds

__all__ = ["Detector", "Prediction", "output_of", "predict_media"]

Frame = npt.NDArray[np.uint8]
STAGES = ("preprocess", "infer", "postprocess")
_FALLBACK_FPS = 25.0


class Detector(Protocol):
    """What of a ``Runtime`` is used here: its three stages, so that each can be timed."""

    @property
    def manifest(self) -> Manifest:
        """What the model is."""

    @property
    def preprocessor(self) -> Preprocessor:
        """Frame to network input."""

    @property
    def postprocessor(self) -> Postprocessor:
        """Network outputs to detections."""

    def infer(self, feeds: Mapping[str, npt.NDArray[Any]]) -> Mapping[str, npt.NDArray[Any]]:
        """Run the engine."""


@dataclass(slots=True)
class Prediction:
    """What came of it.

    Attributes:
        images: Image files done.
        videos: Video files done, as far as they could be read.
        frames: Images and video frames done.
        objects: Objects found, by class index.
        seen_in: Images and frames with at least one such object, by class index.
        milliseconds: Time of each frame, by stage.
        records: One JSON object a frame, encoded: a long video holds too many to keep them as Python objects.
        errors: (file, message) of what could not be read.
        notes: What else a person should know.
    """

    images: int = 0
    videos: int = 0
    frames: int = 0
    objects: Counter[int] = field(default_factory=Counter)
    seen_in: Counter[int] = field(default_factory=Counter)
    milliseconds: dict[str, list[float]] = field(default_factory=lambda: {stage: [] for stage in STAGES})
    records: list[bytes] = field(default_factory=list)
    errors: list[tuple[Path, str]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def to_json(self, header: Mapping[str, Any]) -> bytes:
        """Return one JSON object: the header's fields, ``results`` and ``errors``."""
        head = msgspec.json.encode(
            {**header, "errors": [{"source": str(path), "error": message} for path, message in self.errors]}
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
    thresholds: Thresholds,
    save_txt: bool = False,
    advance: Callable[[int], None] = lambda count: None,
) -> Prediction:
    """Look at every file; a file that cannot be read is noted, and the rest is done.

    Args:
        detector: An open ``Runtime``.
        media: The files.
        out: Folder for annotated copies, and for ``labels/`` with ``save_txt``.
        thresholds: What counts as a detection.
        save_txt: Whether to write YOLO label files: class, centre x, centre y, width, height (fractions of the
            image) and confidence. ``labels/NAME.txt`` for an image, ``labels/NAME/000001.txt`` for a video's frame.
        advance: Called with 1 after each image, readable or not, and each frame of a video.

    Raises:
        InputError: If an annotated copy would overwrite one of the files, or the folder cannot be written.
    """
    sources = {item.path.resolve() for item in media}
    for item in media:
        if output_of(item, out).resolve() in sources:
            raise InputError(
                f"{output_of(item, out)} would overwrite a source", remedy="name another folder with --out"
            )
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"cannot make the folder {out}: {error.strerror}") from error

    result = Prediction()
    for item in media:
        target = output_of(item, out)
        try:
            if item.kind == "image":
                image = read_image(item.path)
                detections = _detect(detector, image, thresholds, result)
                write_image(target, draw_detections(image, detections, detector.manifest.class_names))
                _record(result, detector.manifest, item, None, image, detections, target)
                if save_txt:
                    _write_txt(out / "labels" / f"{item.name}.txt", detections, image)
                result.images += 1
            else:
                txt_folder = out / "labels" / item.name if save_txt else None
                _predict_video(detector, item, target, thresholds, txt_folder, result, advance)
        except InputError as error:
            result.errors.append((item.path, str(error)))
        if item.kind == "image":
            advance(1)
    return result


def _predict_video(
    detector: Detector,
    item: MediaFile,
    target: Path,
    thresholds: Thresholds,
    txt_folder: Path | None,
    result: Prediction,
    advance: Callable[[int], None],
) -> None:
    ended_early: InputError | None = None
    with Video(item.path) as video, _video_writer(target, video.fps or _FALLBACK_FPS) as write:
        if video.fps is None:
            result.notes.append(
                f"{item.path} does not say its speed; {target} plays {_FALLBACK_FPS:.0f} frames a second"
            )
        frames = enumerate(video, 1)
        number = 0
        while True:
            try:
                number, frame = next(frames)
            except StopIteration:
                break
            except InputError as error:
                if not number:
                    raise
                ended_early = error  # the frames before are worth keeping
                break
            detections = _detect(detector, frame, thresholds, result)
            write(draw_detections(frame, detections, detector.manifest.class_names))
            _record(result, detector.manifest, item, number, frame, detections, target)
            if txt_folder is not None:
                _write_txt(txt_folder / f"{number:06d}.txt", detections, frame)
            advance(1)
    result.videos += 1
    if ended_early is not None:
        raise ended_early


@contextmanager
def _video_writer(path: Path, fps: float) -> Iterator[Callable[[Frame], None]]:
    """Yield a function that appends a frame to an MP4, which appears under its name when it is whole."""
    writer: cv2.VideoWriter | None = None
    with atomic_file(path) as temporary:

        def write(frame: Frame) -> None:
            nonlocal writer
            if writer is None:
                size = (frame.shape[1], frame.shape[0])
                writer = cv2.VideoWriter(str(temporary), cv2.VideoWriter.fourcc(*"mp4v"), fps, size)
                if not writer.isOpened():
                    raise InputError(f"this OpenCV cannot write {path} as MPEG-4, {size[0]} x {size[1]} pixels")
            writer.write(frame)

        try:
            yield write
        finally:
            if writer is not None:
                writer.release()


def _detect(detector: Detector, frame: Frame, thresholds: Thresholds, result: Prediction) -> Detections:
    times = [time.perf_counter()]
    images, letterbox = detector.preprocessor(frame)
    times.append(time.perf_counter())
    outputs = detector.infer({detector.manifest.input.name: images})
    times.append(time.perf_counter())
    detections = detector.postprocessor(outputs, [letterbox], thresholds)[0]
    times.append(time.perf_counter())
    for stage, begin, end in zip(STAGES, times, times[1:], strict=False):
        result.milliseconds[stage].append((end - begin) * 1e3)
    return detections


def _record(
    result: Prediction,
    manifest: Manifest,
    item: MediaFile,
    frame: int | None,
    image: Frame,
    detections: Detections,
    target: Path,
) -> None:
    classes = detections.class_id.tolist()
    result.frames += 1
    result.objects.update(classes)
    result.seen_in.update(set(classes))
    record = {
        "source": str(item.path),
        "frame": frame,
        "width": image.shape[1],
        "height": image.shape[0],
        "output": str(target),
        "milliseconds": {stage: round(result.milliseconds[stage][-1], 3) for stage in STAGES},
        "detections": detections.to_records(manifest.class_names),
    }
    result.records.append(msgspec.json.encode(record))


def _write_txt(path: Path, detections: Detections, image: Frame) -> None:
    height, width = image.shape[:2]
    boxes = xywh_from_xyxy(detections.xyxy) / np.array((width, height, width, height), np.float32)
    lines = [
        f"{class_id} {' '.join(f'{value:.6f}' for value in box)} {confidence:.5f}\n"
        for class_id, box, confidence in zip(detections.class_id, boxes, detections.confidence, strict=True)
    ]
    with atomic_file(path) as temporary:
        temporary.write_text("".join(lines), encoding="ascii")
