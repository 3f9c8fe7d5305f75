"""Detections to supervision's and COCO's types and back."""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from yolo12edge.adaptors import (
    from_supervision,
    to_coco_results,
    to_supervision,
    to_supervision_classes,
    to_supervision_keypoints,
    write_coco_results,
)
from yolo12edge.data.coco import read_coco
from yolo12edge.detections import Detections, Timing
from yolo12edge.errors import InputError, Yolo12EdgeError
from yolo12edge.masks import Masks

NAMES = ("person", "car", "truck")


@pytest.fixture
def found() -> Detections:
    return Detections(
        np.array([[10, 20, 30, 60], [0.5, 1.25, 4.5, 3.25]], np.float32),
        np.array([0.9, 0.5], np.float32),
        np.array([2, 0], np.int64),
        Timing(1, 2, 3),
        7,
    )


@dataclass
class FakeDetections:
    """What of ``supervision.Detections`` is used."""

    xyxy: np.ndarray
    confidence: np.ndarray | None = None
    class_id: np.ndarray | None = None
    mask: np.ndarray | None = None
    data: dict[str, Any] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.xyxy)


@dataclass
class FakeKeyPoints:
    """What of ``supervision.KeyPoints`` is used; as releases before 0.29 had it."""

    xy: np.ndarray
    class_id: np.ndarray | None = None
    confidence: np.ndarray | None = None
    data: dict[str, Any] = field(default_factory=dict)


@dataclass
class FakeClassifications:
    """What of ``supervision.Classifications`` is used."""

    class_id: np.ndarray
    confidence: np.ndarray | None = None


@pytest.fixture
def supervision(monkeypatch: pytest.MonkeyPatch) -> type[Any]:
    """The installed package, or a fake."""
    try:
        import supervision
    except ImportError:
        module = ModuleType("supervision")
        module.Detections = FakeDetections  # type: ignore[attr-defined]
        module.KeyPoints = FakeKeyPoints  # type: ignore[attr-defined]
        module.Classifications = FakeClassifications  # type: ignore[attr-defined]
        monkeypatch.setitem(sys.modules, "supervision", module)
        return FakeDetections
    return supervision.Detections


def test_supervision_and_back(supervision: type[Any], found: Detections) -> None:
    theirs = to_supervision(found, NAMES)
    assert isinstance(theirs, supervision)
    assert theirs.data["class_name"].tolist() == ["truck", "person"]
    assert theirs.xyxy is found.xyxy
    ours = from_supervision(theirs)
    for name in ("xyxy", "confidence", "class_id"):
        np.testing.assert_array_equal(getattr(ours, name), getattr(found, name))
        assert getattr(ours, name).dtype == getattr(found, name).dtype


def test_supervision_without_objects(supervision: type[Any]) -> None:
    theirs = to_supervision(Detections.empty(), NAMES)
    assert (len(theirs), theirs.data["class_name"].dtype.kind) == (0, "U")
    assert len(from_supervision(theirs)) == 0
    assert len(from_supervision(supervision(xyxy=np.zeros((0, 4))))) == 0


def masked() -> Detections:
    full = np.zeros((2, 9, 7), np.bool_)
    full[0, 2:5, 1:4] = True
    full[1, 8, 6] = full[1, 0, 0] = True
    return Detections([[1, 2, 4, 5], [0, 0, 7, 9]], [0.9, 0.5], [1, 0], mask=Masks.of_full(full))


def test_supervision_masks_and_oriented_boxes_and_back(supervision: type[Any]) -> None:
    found = masked()
    assert found.mask is not None
    theirs = to_supervision(found, NAMES)
    np.testing.assert_array_equal(theirs.mask, found.mask.full())
    back = from_supervision(theirs)
    assert back.mask is not None
    np.testing.assert_array_equal(back.mask.full(), found.mask.full())
    turned = Detections([[0, 0, 9, 9]] * 2, [0.9, 0.5], [1, 0], obb=[[5, 5, 8, 2, 0.3], [4, 3, 2, 8, 2.2]])
    theirs = to_supervision(turned, NAMES)
    assert theirs.data["xyxyxyxy"].shape == (2, 4, 2)
    np.testing.assert_allclose(theirs.data["xyxyxyxy"].mean(axis=1), [[5, 5], [4, 3]], atol=1e-5)
    back = from_supervision(theirs)
    # The same rectangles; what is called their width is the longer side.
    np.testing.assert_allclose(back.obb, [[5, 5, 8, 2, 0.3], [4, 3, 8, 2, 2.2 - np.pi / 2]], atol=1e-5)


def test_supervision_keypoints_and_classes(supervision: type[Any]) -> None:
    posed = Detections([[0, 0, 9, 9]], [0.9], [1], keypoints=[[[1, 2, 0.3], [4, 5, 0.6]]])
    points = to_supervision_keypoints(posed, NAMES)
    assert points.xy.tolist() == [[[1, 2], [4, 5]]]
    values = points.keypoint_confidence if hasattr(points, "keypoint_confidence") else points.confidence
    np.testing.assert_allclose(values, [[0.3, 0.6]])
    assert points.data["class_name"].tolist() == ["car"]
    classes = to_supervision_classes(Detections([[0, 0, 9, 9]], [0.7], [1], probs=[[0.3, 0.7]]))
    assert classes.class_id.tolist() == [0, 1]
    np.testing.assert_allclose(classes.confidence, [0.3, 0.7])
    for adaptor in (lambda: to_supervision_keypoints(masked(), NAMES), lambda: to_supervision_classes(posed)):
        with pytest.raises(InputError, match="have no"):
            adaptor()


@pytest.mark.parametrize("missing", ["confidence", "class_id"])
def test_supervision_needs_classes_and_confidences(supervision: type[Any], missing: str) -> None:
    values = {"confidence": np.ones(1, np.float32), "class_id": np.zeros(1, np.int64), missing: None}
    with pytest.raises(InputError, match=f"no {missing}"):
        from_supervision(supervision(xyxy=np.array([[0.0, 0.0, 1.0, 1.0]]), **values))


def test_supervision_is_optional(monkeypatch: pytest.MonkeyPatch, found: Detections) -> None:
    monkeypatch.setitem(sys.modules, "supervision", None)
    with pytest.raises(Yolo12EdgeError, match="pip install supervision"):
        to_supervision(found, NAMES)


def test_every_class_needs_a_name(supervision: type[Any], found: Detections) -> None:
    with pytest.raises(InputError, match="class ids go from 0 to 2, and there are 2 class names"):
        to_supervision(found, NAMES[:2])
    with pytest.raises(InputError, match="there are 2 category ids"):
        to_coco_results(found, image_id=1, category_ids=(1, 3))


def test_coco_results(tmp_path: Path, found: Detections) -> None:
    annotations = tmp_path / "instances.json"
    images = [{"id": 42, "file_name": "a.jpg", "width": 64, "height": 64}, {"id": "b", "file_name": "b.jpg"}]
    categories = [{"id": 90, "name": "truck"}, {"id": 1, "name": "person"}, {"id": 3, "name": "car"}]
    annotations.write_text(json.dumps({"images": images, "categories": categories, "annotations": []}))
    coco = read_coco(annotations)
    assert coco.class_names == NAMES
    results = to_coco_results(found, image_id=coco.image_ids["a.jpg"], category_ids=coco.category_ids)
    results += to_coco_results(found[:0], image_id=coco.image_ids["b.jpg"], category_ids=coco.category_ids)
    out = tmp_path / "new" / "results.json"
    write_coco_results(out, results)
    assert json.loads(out.read_text()) == [
        {"image_id": 42, "category_id": 90, "bbox": [10.0, 20.0, 20.0, 40.0], "score": 0.9},
        {"image_id": 42, "category_id": 1, "bbox": [0.5, 1.25, 4.0, 2.0], "score": 0.5},
    ]
    assert coco.image_ids["b.jpg"] == "b"


def test_coco_results_without_any_object_are_an_empty_list(tmp_path: Path) -> None:
    write_coco_results(tmp_path / "none.json", [])
    assert json.loads((tmp_path / "none.json").read_text()) == []


def test_coco_results_are_what_the_evaluation_reads(tmp_path: Path, found: Detections) -> None:
    evaluation = pytest.importorskip("faster_coco_eval")
    boxes = to_coco_results(found, image_id=1, category_ids=(1, 3, 90))
    labelled = [
        {"id": number, "area": box["bbox"][2] * box["bbox"][3], "iscrowd": 0, **box}
        for number, box in enumerate(boxes, start=1)
    ]
    categories = [{"id": index, "name": name} for index, name in zip((1, 3, 90), NAMES, strict=True)]
    truth = evaluation.COCO({"images": [{"id": 1}], "categories": categories, "annotations": labelled})
    write_coco_results(tmp_path / "results.json", boxes)
    scored = evaluation.COCOeval_faster(truth, truth.loadRes(str(tmp_path / "results.json")), iouType="bbox")
    scored.evaluate()
    scored.accumulate()
    assert (scored.eval["precision"][:, :, [0, 2], 0, -1] == 1).all()


def test_coco_masks_are_what_the_evaluation_reads() -> None:
    evaluation = pytest.importorskip("faster_coco_eval")
    rng = np.random.default_rng(0)
    full = np.zeros((12, 150, 210), np.bool_)
    for mask in full[:-1]:
        left, top = rng.integers(0, 100, 2)
        mask[top : top + 50, left : left + 100] = rng.random((50, 100)) < rng.choice([0.02, 0.5, 1])
    found = Detections(np.tile([[0, 0, 210, 150]], (12, 1)), np.ones(12), np.zeros(12, int), mask=Masks.of_full(full))
    results = to_coco_results(found, image_id=1, category_ids=(1,))
    decode = evaluation.mask.decode
    for result, mask in zip(results, full, strict=True):
        assert isinstance(result["segmentation"]["counts"], str)
        np.testing.assert_array_equal(decode(result["segmentation"]).astype(bool), mask)


def test_coco_keypoints_and_corners() -> None:
    posed = Detections([[0, 0, 9, 9]], [0.9], [0], keypoints=[[[1, 2, 0.3], [4, 5, 0.6]]])
    assert to_coco_results(posed, image_id=1, category_ids=(1,))[0]["keypoints"] == [1.0, 2.0, 0.3, 4.0, 5.0, 0.6]
    assert to_coco_results(posed[:0], image_id=1, category_ids=(1,)) == []
    turned = Detections([[4, 1, 6, 9]], [0.9], [0], obb=[[5, 5, 8, 2, np.pi / 2]])
    (result,) = to_coco_results(turned, image_id=1, category_ids=(1,))
    assert result["segmentation"] == [[6, 1, 6, 9, 4, 9, 4, 1]]
    json.dumps(result)
