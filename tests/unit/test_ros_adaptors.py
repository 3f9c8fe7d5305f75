"""ROS 2 messages from and to fakes with the fields of each distribution; nothing of ROS is installed."""

from __future__ import annotations

import array
from dataclasses import dataclass, field, make_dataclass
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from yolo12edge import Runtime
from yolo12edge.adaptors import from_image, to_classification, to_detection2d_array, to_label_image, to_label_info
from yolo12edge.detections import Detections
from yolo12edge.errors import InputError
from yolo12edge.masks import Masks


def message(name: str, **fields: Any) -> type[Any]:
    """A class with slots and defaults, which refuses fields that it does not have, as messages do."""
    entries = [
        (key, object, field(default_factory=value)) if callable(value) else (key, object, field(default=value))
        for key, value in fields.items()
    ]
    return make_dataclass(name, entries, slots=True)


Header = message("Header", stamp=lambda: SimpleNamespace(sec=0, nanosec=0), frame_id="")


def fake_msgs(distribution: str) -> SimpleNamespace:
    """``vision_msgs.msg`` as the ``.msg`` files of the distribution say."""
    if distribution == "humble":
        point = message("Point2D", x=0.0, y=0.0)
        center = message("Pose2D", position=point, theta=0.0)
    else:
        center = message("Pose2D", x=0.0, y=0.0, theta=0.0)
    if distribution == "foxy":
        with_pose = message("ObjectHypothesisWithPose", id="", score=0.0, pose=None)
        tracking: dict[str, Any] = {"source_img": None, "is_tracking": False, "tracking_id": ""}
    else:
        hypothesis = message("ObjectHypothesis", class_id="", score=0.0)
        with_pose = message("ObjectHypothesisWithPose", hypothesis=hypothesis, pose=None)
        tracking = {"id": ""}
    box = message("BoundingBox2D", center=center, size_x=0.0, size_y=0.0)
    msgs = SimpleNamespace(
        ObjectHypothesisWithPose=with_pose,
        Detection2D=message("Detection2D", header=Header, results=list, bbox=box, **tracking),
        Detection2DArray=message("Detection2DArray", header=Header, detections=list),
    )
    if distribution == "foxy":
        msgs.ObjectHypothesis = message("ObjectHypothesis", id="", score=0.0)
        msgs.Classification2D = message("Classification2D", header=Header, results=list, source_img=None)
    else:
        msgs.ObjectHypothesis = hypothesis
        msgs.Classification = message("Classification", header=Header, results=list)
    if distribution == "humble":
        msgs.VisionClass = message("VisionClass", class_id=0, class_name="")
        msgs.LabelInfo = message("LabelInfo", header=Header, class_map=list, threshold=0.0)
    return msgs


@pytest.fixture
def found() -> Detections:
    return Detections(
        np.array([[10, 20, 30, 60], [1, 2, 4, 3]], np.float32), np.array([0.75, 0.5], np.float32), np.array([1, 0])
    )


@pytest.mark.parametrize("distribution", ["foxy", "galactic", "humble"])
def test_detection2d_array_of_every_distribution(distribution: str, found: Detections) -> None:
    header = Header(SimpleNamespace(sec=5, nanosec=6), "front_camera")
    result = to_detection2d_array(found, header, msgs=fake_msgs(distribution), track_ids=[17, 4])
    header.stamp.sec = 99  # the driver uses its message again
    first, second = result.detections
    for part in (result, first, second):
        assert (part.header.stamp.sec, part.header.stamp.nanosec, part.header.frame_id) == (5, 6, "front_camera")
    center = first.bbox.center.position if distribution == "humble" else first.bbox.center
    assert (center.x, center.y, first.bbox.size_x, first.bbox.size_y) == (20, 40, 20, 40)
    (hypothesis,) = first.results
    if distribution == "foxy":
        assert (hypothesis.id, hypothesis.score, first.tracking_id) == ("1", 0.75, "17")
    else:
        assert (hypothesis.hypothesis.class_id, hypothesis.hypothesis.score, first.id) == ("1", 0.75, "17")
    center = second.bbox.center.position if distribution == "humble" else second.bbox.center
    assert (center.x, center.y) == (2.5, 2.5)
    for value in (center.x, first.bbox.size_x, (getattr(hypothesis, "hypothesis", hypothesis)).score):
        assert type(value) is float  # messages refuse NumPy's numbers


def test_an_oriented_box_has_its_angle() -> None:
    turned = Detections([[0, 0, 99, 99]], [0.9], [0], obb=[[50, 40, 30, 10, 0.5]])
    for distribution in ("foxy", "humble"):
        bbox = to_detection2d_array(turned, Header(), msgs=fake_msgs(distribution)).detections[0].bbox
        assert (bbox.size_x, bbox.size_y, bbox.center.theta) == (30, 10, 0.5)


@pytest.mark.parametrize("distribution", ["foxy", "galactic", "humble"])
def test_classes_of_the_whole_image(distribution: str) -> None:
    found = Detections([[0, 0, 9, 9]], [0.625], [1], probs=[[0.25, 0.625, 0.125]])
    name = "id" if distribution == "foxy" else "class_id"
    result = to_classification(found, Header(None, "camera"), msgs=fake_msgs(distribution), class_names=list("abc"))
    assert result.header.frame_id == "camera"
    assert [(getattr(one, name), one.score) for one in result.results] == [("b", 0.625), ("a", 0.25), ("c", 0.125)]
    plain = to_classification(found, Header(), msgs=fake_msgs(distribution))
    assert [getattr(one, name) for one in plain.results] == ["1", "0", "2"]
    assert to_classification(found[:0], Header(), msgs=fake_msgs(distribution)).results == []
    with pytest.raises(InputError, match="2 class names"):
        to_classification(found, Header(), msgs=fake_msgs(distribution), class_names=list("ab"))


def empty_image() -> Image:
    return Image(0, 0, "", 0, array.array("B"))


def test_masks_become_a_label_image(found: Detections) -> None:
    full = np.zeros((2, 3, 4), np.bool_)
    full[0, 1:, 1:], full[1, :2, :2] = True, True
    both = Detections([[1, 1, 4, 3], [0, 0, 2, 2]], [0.5, 0.9], [300, 0], mask=Masks.of_full(full))
    image = to_label_image(both, Header(None, "camera"), image=empty_image)
    assert (image.height, image.width, image.encoding, image.step) == (3, 4, "mono16", 8)
    assert image.header.frame_id == "camera"
    n = 65535
    labels, color = from_image(image)
    assert (labels.tolist(), color) == ([[0, 0, n, n], [0, 0, 300, 300], [n, 300, 300, 300]], "gray16")
    with pytest.raises(InputError, match="no masks"):
        to_label_image(found, Header(), image=empty_image)


def test_classes_by_name_and_no_tracks(found: Detections) -> None:
    result = to_detection2d_array(found, Header(), msgs=fake_msgs("humble"), class_names=("person", "car"))
    assert [entry.results[0].hypothesis.class_id for entry in result.detections] == ["car", "person"]
    assert [entry.id for entry in result.detections] == ["", ""]
    assert to_detection2d_array(found[:0], Header(), msgs=fake_msgs("humble")).detections == []
    with pytest.raises(InputError, match="there are 1 class names"):
        to_detection2d_array(found, Header(), msgs=fake_msgs("humble"), class_names=("person",))
    with pytest.raises(InputError, match="1 track ids"):
        to_detection2d_array(found, Header(), msgs=fake_msgs("humble"), track_ids=np.array([1]))


def test_label_info() -> None:
    info = to_label_info(("person", "car"), Header(None, "camera"), msgs=fake_msgs("humble"), threshold=0.25)
    assert [(entry.class_id, entry.class_name) for entry in info.class_map] == [(0, "person"), (1, "car")]
    assert (info.threshold, info.header.frame_id) == (0.25, "camera")
    with pytest.raises(InputError, match="no LabelInfo"):
        to_label_info(("person",), Header(), msgs=fake_msgs("galactic"), threshold=0.25)
    with pytest.raises(InputError, match="fewer than 65,535"):
        to_label_info(["x"] * 65535, Header(), msgs=fake_msgs("humble"), threshold=0.25)


@dataclass
class Image:
    """``sensor_msgs/Image``; ``data`` is an ``array.array``, as rclpy has it."""

    height: int
    width: int
    encoding: str
    step: int
    data: Any
    is_bigendian: int = 0
    header: Any = None


def packed(pixels: np.ndarray, encoding: str, *, padding: int = 0, bigendian: bool = False) -> Image:
    height, width = pixels.shape[:2]
    rows = pixels.astype(pixels.dtype.newbyteorder(">" if bigendian else "<")).reshape(height, -1).view(np.uint8)
    rows = np.pad(rows, ((0, 0), (0, padding)), constant_values=0xAB)
    return Image(height, width, encoding, rows.shape[1], array.array("B", rows.tobytes()), int(bigendian))


COLORS = {
    "mono8": "gray", "8UC1": "gray", "bgr8": "bgr", "8UC3": "bgr", "rgb8": "rgb",
    "bgra8": "bgra", "8UC4": "bgra", "rgba8": "rgba",
    "mono16": "gray16", "bgr16": "bgr16", "16UC3": "bgr16", "rgb16": "rgb16",
    "bgra16": "bgr16", "rgba16": "rgb16",
}  # fmt: skip


def pixels_for(encoding: str) -> np.ndarray:
    wide = "16" in encoding
    channels = 1 if "mono" in encoding or "C1" in encoding else 4 if "a" in encoding or "C4" in encoding else 3
    values = np.random.default_rng(0).integers(0, 65536 if wide else 256, (5, 7, channels))
    return values.astype(np.uint16 if wide else np.uint8)


@pytest.mark.parametrize("padding", [0, 6])
@pytest.mark.parametrize("encoding", COLORS)
def test_images_are_views_of_the_message(encoding: str, padding: int) -> None:
    pixels = pixels_for(encoding)
    sent = packed(pixels, encoding, padding=padding)
    image, color = from_image(sent)
    assert color == COLORS[encoding]
    assert image.dtype == pixels.dtype
    expected = pixels[..., 0] if pixels.shape[2] == 1 else pixels[..., :3] if color.endswith("16") else pixels
    np.testing.assert_array_equal(image, expected)
    assert np.shares_memory(image, np.frombuffer(sent.data, np.uint8))


@pytest.mark.parametrize("encoding", ["mono16", "rgb16", "bgra16"])
@pytest.mark.parametrize(("padding", "bigendian"), [(0, True), (2, True), (3, False), (3, True)])
def test_other_byte_orders_and_odd_rows_are_copied(encoding: str, padding: int, bigendian: bool) -> None:
    pixels = pixels_for(encoding)
    image, _ = from_image(packed(pixels, encoding, padding=padding, bigendian=bigendian))
    np.testing.assert_array_equal(image, pixels[..., 0] if encoding == "mono16" else pixels[..., :3])
    assert image.dtype == np.uint16
    assert image.dtype.isnative
    assert image.flags.aligned


def test_a_big_endian_machine_sends_bytes_like_any_other() -> None:
    pixels = pixels_for("bgr8")
    image, _ = from_image(packed(pixels, "bgr8", bigendian=True))
    np.testing.assert_array_equal(image, pixels)


@pytest.mark.parametrize("encoding", ["16UC1", "32FC1", "bayer_rggb8", "yuv422", "nv21", "", "BGR8"])
def test_other_encodings_are_refused(encoding: str) -> None:
    with pytest.raises(InputError, match=rf"encoding is '{encoding}'.*image_proc"):
        from_image(Image(2, 2, encoding, 12, bytes(24)))


@pytest.mark.parametrize(
    ("changes"),
    [{"step": 20}, {"step": 0}, {"height": 0}, {"width": 0}, {"height": 6}, {"data": b""}, {"data": bytes(104)}],
)
def test_sizes_that_contradict_one_another_are_refused(changes: dict[str, Any]) -> None:
    fields: dict[str, Any] = {"height": 5, "width": 7, "encoding": "bgr8", "step": 21, "data": bytes(105)}
    from_image(Image(**fields))
    with pytest.raises(InputError, match=r"pixels of bgr8, rows of \d+ bytes"):
        from_image(Image(**{**fields, **changes}))


@pytest.mark.parametrize("padding", [0, 5])
@pytest.mark.parametrize("encoding", ["bgr8", "rgb8", "bgra8", "rgba8", "bgr16", "rgb16", "bgra16", "rgba16"])
def test_the_runtime_sees_the_same_picture(
    encoding: str, padding: int, tiny_onnx: Any, scene_frames: list[np.ndarray]
) -> None:
    frame = scene_frames[0]
    pixels = frame[..., ::-1] if encoding.startswith("rgb") else frame
    if "a" in encoding:
        pixels = np.concatenate([pixels, np.full((*frame.shape[:2], 1), 9, np.uint8)], axis=2)
    if encoding.endswith("16"):
        pixels = pixels.astype(np.uint16) * 257
    image, color = from_image(packed(np.ascontiguousarray(pixels), encoding, padding=padding))
    with Runtime(tiny_onnx, warmup=0) as runtime:
        found = runtime(image, color=color)
        # 16 bits are resized before they are rounded to 8, so that they differ from 8 bits a little.
        wide = encoding.endswith("16")
        expected = runtime(frame.astype(np.uint16) * 257, color="bgr16") if wide else runtime(frame)
    np.testing.assert_array_equal(found.xyxy, expected.xyxy)
    assert len(found)
