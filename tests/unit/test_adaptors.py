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

from yolo12edge.adaptors import from_supervision, to_coco_results, to_supervision, write_coco_results
from yolo12edge.data.coco import read_coco
from yolo12edge.detections import Detections, Timing
from yolo12edge.errors import InputError, Yolo12EdgeError

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
    data: dict[str, Any] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.xyxy)


@pytest.fixture
def supervision(monkeypatch: pytest.MonkeyPatch) -> type[Any]:
    """The installed package, or a fake."""
    try:
        import supervision
    except ImportError:
        module = ModuleType("supervision")
        module.Detections = FakeDetections  # type: ignore[attr-defined]
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
