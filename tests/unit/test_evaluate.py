from __future__ import annotations

import io
import json
import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import pytest
from rich.console import Console

from yolo12edge.cli import val as val_module
from yolo12edge.cli._console import plain
from yolo12edge.data.dataset import Sample
from yolo12edge.detections import Detections
from yolo12edge.errors import DatasetError, InputError
from yolo12edge.keypoints import KeypointSpec
from yolo12edge.manifest import TASKS, Task
from yolo12edge.masks import Masks
from yolo12edge.metrics import EVAL_THRESHOLDS, Measure, Target, evaluate_pair, evaluate_runtime
from yolo12edge.metrics import evaluate as evaluate_module
from yolo12edge.metrics.report import sample_grids, write_plots
from yolo12edge.thresholds import Thresholds

CLASSES = ("square", "wide")
Image = npt.NDArray[np.uint8]


class ColourDetector:
    """Finds the green rectangle in a picture: a detector that is right, in source pixels, without a network."""

    def __init__(self, *, shift: float = 0.0) -> None:
        self.shift = shift
        self.thresholds: list[Thresholds] = []

    def __call__(self, frame: Image, *, thresholds: Thresholds) -> Detections:
        self.thresholds.append(thresholds)
        rows, columns = np.nonzero(frame[:, :, 1] > 128)
        if not len(rows):
            return Detections.empty()
        box = np.array([columns.min(), rows.min(), columns.max() + 1, rows.max() + 1], np.float32) + self.shift
        wide = int(box[2] - box[0] > 1.5 * (box[3] - box[1]))
        return Detections(box[None], np.array([0.9]), np.array([wide]))


@pytest.fixture
def dataset(tmp_path: Path) -> Path:
    """Six pictures of different sizes, the last without an object."""
    root = tmp_path / "data"
    (root / "images" / "val").mkdir(parents=True)
    (root / "labels" / "val").mkdir(parents=True)
    for index in range(6):
        height, width = 60 + 8 * index, 100
        image = np.zeros((height, width, 3), np.uint8)
        label = ""
        if index < 5:
            left, top, right, bottom = 10 + index, 5, (80 if index % 2 else 45 + index), 40
            image[top:bottom, left:right, 1] = 255
            centre = ((left + right) / 2 / width, (top + bottom) / 2 / height)
            size = ((right - left) / width, (bottom - top) / height)
            label = f"{index % 2} " + " ".join(f"{value:.8f}" for value in (*centre, *size)) + "\n"
        assert cv2.imwrite(str(root / "images" / "val" / f"{index}.png"), image)
        (root / "labels" / "val" / f"{index}.txt").write_text(label)
    (root / "data.yaml").write_text("path: .\ntrain: images/val\nval: images/val\nnames: [square, wide]\n")
    return root / "data.yaml"


@pytest.fixture
def samples(dataset: Path) -> list[Sample]:
    from yolo12edge.data.dataset import read_dataset

    return read_dataset(dataset).samples("val")


def test_a_detector_that_is_right_scores_one(samples: list[Sample]) -> None:
    detector = ColourDetector()
    progress: list[tuple[int, int]] = []
    result = evaluate_runtime(detector, samples, CLASSES, progress=lambda done, total: progress.append((done, total)))
    assert result.metrics.ap == pytest.approx(1.0)
    assert (result.metrics.images, result.metrics.instances) == (6, 5)
    assert [entry.instances for entry in result.metrics.per_class] == [3, 2]
    assert progress == [(done, 6) for done in range(1, 7)]
    assert set(detector.thresholds) == {EVAL_THRESHOLDS}
    assert (EVAL_THRESHOLDS.confidence, EVAL_THRESHOLDS.iou, EVAL_THRESHOLDS.max_detections) == (0.001, 0.7, 300)
    assert not EVAL_THRESHOLDS.multi_label
    assert [len(found) for found in result.predictions] == [1, 1, 1, 1, 1, 0]
    assert [target.image_hw for target in result.targets] == [(60 + 8 * i, 100) for i in range(6)]
    assert result.targets[0].boxes[0].tolist() == pytest.approx([10, 5, 45, 40], abs=1e-4)
    assert result.times.read_ms.shape == result.times.detect_ms.shape == (6,)
    assert (result.times.detect_ms > 0).all()
    assert json.loads(json.dumps(result.times.to_dict()))["detect_ms_median"] > 0


def test_pair_reads_each_image_once_and_alternates(samples: list[Sample], monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[str] = []
    exact, off = ColourDetector(), ColourDetector(shift=3.0)
    read = evaluate_module.read_image

    def counted(path: Path) -> Image:
        calls.append("read")
        return read(path)

    def named(name: str, detector: ColourDetector) -> Any:
        def call(frame: Image, *, thresholds: Thresholds) -> Detections:
            calls.append(name)
            return detector(frame, thresholds=thresholds)

        return call

    monkeypatch.setattr(evaluate_module, "read_image", counted)
    first, second = evaluate_pair(named("a", exact), named("b", off), samples[:3], CLASSES)
    assert calls == ["read", "a", "b", "read", "b", "a", "read", "a", "b"]
    assert first.metrics.ap == pytest.approx(1.0)
    assert second.metrics.ap == pytest.approx(evaluate_runtime(off, samples[:3], CLASSES).metrics.ap)
    assert second.metrics.ap < 0.9


def test_no_samples_is_no_crash() -> None:
    result = evaluate_runtime(ColourDetector(), [], CLASSES)
    assert math.isnan(result.metrics.ap)
    assert result.times.to_dict()["read_ms_median"] is None


def test_unreadable_image_is_named(samples: list[Sample]) -> None:
    samples[2].image.write_bytes(b"not an image")
    with pytest.raises(InputError, match=r"2\.png"):
        evaluate_runtime(ColourDetector(), samples, CLASSES)


def test_plots_and_grids(samples: list[Sample], tmp_path: Path) -> None:
    result = evaluate_runtime(ColourDetector(), samples, CLASSES)
    images = [sample.image for sample in samples]
    written = write_plots(
        tmp_path / "out",
        result,
        images=images,
    )
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == sorted(path.name for path in written)
    assert len(written) == 5


def test_grids_show_labels_and_confident_detections(samples: list[Sample]) -> None:
    from yolo12edge.imaging.draw import label_grid
    from yolo12edge.imaging.images import read_image

    result = evaluate_runtime(ColourDetector(), samples, CLASSES)
    images = [sample.image for sample in samples]
    unsure = [Detections(p.xyxy, np.full(len(p), 0.1), p.class_id) for p in result.predictions]
    labelled, predicted = sample_grids(images, result.targets, unsure, result.measure)
    plain = label_grid([read_image(image) for image in images])
    assert np.array_equal(predicted, plain)  # all below the confidence
    assert not np.array_equal(labelled, plain)
    _, predicted = sample_grids(images, result.targets, result.predictions, result.measure)
    assert not np.array_equal(predicted, plain)
    few, _ = sample_grids(images, result.targets, unsure, result.measure, count=4)
    assert few.shape < labelled.shape


# --- the command ---------------------------------------------------------------------------------


class FakeRuntime(ColourDetector):
    engine, device = "fake", "cpu"

    class manifest:
        nms_iou = keypoints = None
        task, multi_label = "detect", False
        class_names = CLASSES
        precision = "fp32"

        class input:
            height, width = 64, 96

    def __enter__(self) -> FakeRuntime:
        return self

    def __exit__(self, *_: object) -> None: ...


@pytest.fixture
def runtime(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Path, str]]:
    """Put a fake in the place of the Runtime; return the list of what it is asked to open."""
    import yolo12edge.runtimes

    opened: list[tuple[Path, str]] = []

    def open_(model: Path, *, device: str) -> FakeRuntime:
        opened.append((model, device))
        return FakeRuntime()

    monkeypatch.setattr(yolo12edge.runtimes, "Runtime", open_)
    return opened


def test_val_writes_and_prints(
    dataset: Path, tmp_path: Path, runtime: list[tuple[Path, str]], capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    val_module.val(Path("m.onnx"), data=dataset, device="cpu", out=out, plots=True)
    assert runtime == [(Path("m.onnx"), "cpu")]
    printed = capsys.readouterr().out
    for word in ("all", "square", "wide", "AP50-95", "100.00", "fake on cpu"):
        assert word in printed
    facts = json.loads((out / "metrics.json").read_bytes())
    assert facts["metrics"]["ap"] == pytest.approx(1.0)
    assert facts["input_hw"] == [64, 96]
    assert {"metrics.json", "pr_curve.png", "labelled.jpg"} <= {path.name for path in out.iterdir()}


def test_a_model_that_suppresses_by_itself_is_asked_for_no_more(samples: list[Sample]) -> None:
    one, other = ColourDetector(), ColourDetector()
    one.manifest = SimpleNamespace(  # type: ignore[attr-defined]
        nms_iou=0.5, task="detect", class_names=CLASSES, keypoints=None, multi_label=False
    )
    evaluate_pair(one, other, samples[:1], CLASSES)
    for detector in (one, other):
        assert [asked.iou for asked in detector.thresholds] == [0.5]


@pytest.mark.usefixtures("runtime")
def test_val_json_is_all_of_stdout(dataset: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    val_module.val(Path("m.onnx"), data=dataset, out=tmp_path / "out", plots=False, json=True)
    printed = capsys.readouterr().out
    assert printed.encode() == (tmp_path / "out" / "metrics.json").read_bytes()
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["metrics.json"]
    assert json.loads(printed)["thresholds"] == {"confidence": 0.001, "iou": 0.7, "max_detections": 300}


@pytest.mark.usefixtures("runtime")
@pytest.mark.parametrize(
    ("names", "message"),
    [("[wide, square]", "class 0 is 'square'"), ("[square, wide, round]", "knows 2 classes and .* has 3")],
)
def test_val_refuses_other_class_names(dataset: Path, tmp_path: Path, names: str, message: str) -> None:
    dataset.write_text(dataset.read_text().replace("[square, wide]", names))
    with pytest.raises(DatasetError, match=message):
        val_module.val(Path("m.onnx"), data=dataset, out=tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.usefixtures("runtime")
def test_val_refuses_a_split_without_objects(dataset: Path, tmp_path: Path) -> None:
    for path in (dataset.parent / "labels" / "val").iterdir():
        path.write_text("")
    with pytest.raises(DatasetError, match="no label"):
        val_module.val(Path("m.onnx"), data=dataset, out=tmp_path / "out")


def test_val_says_which_threshold_costs_least(
    dataset: Path, tmp_path: Path, runtime: list[tuple[Path, str]], capsys: pytest.CaptureFixture[str]
) -> None:
    place = {"data": dataset, "out": tmp_path / "out", "plots": False}
    val_module.val(Path("m.onnx"), cost_false_positive=1, cost_false_negative=10, **place)
    printed = " ".join(capsys.readouterr().out.split())
    assert "cost least at confidence 0.450, where precision is 100.00 % and recall 100.00 %: 0 wrong" in printed
    facts = json.loads((tmp_path / "out" / "metrics.json").read_bytes())["cheapest"]
    assert (facts["cost_false_negative"], facts["recall"], facts["cost"]) == (10, 1.0, 0.0)
    opened = len(runtime)
    for costs in ({"cost_false_positive": 1.0}, {"cost_false_positive": 0.0, "cost_false_negative": 0.0}):
        with pytest.raises(InputError, match="cost"):
            val_module.val(Path("m.onnx"), **costs, **place)
    assert len(runtime) == opened  # before anything is run


@pytest.mark.parametrize("task", TASKS)
def test_tables_of_accuracy_fit_a_narrow_terminal(task: Task) -> None:
    names = ["a class with a rather long name", "b"]
    target = Target(
        np.array([[10, 10, 60, 50]], np.float32),
        np.array([0]),
        (100, 100),
        Masks.of_polygons([[np.array([[10, 10], [60, 10], [60, 50], [10, 50]], np.float32)]], (100, 100)),
        np.array([[[20, 20, 2], [30, 30, 2]]], np.float32),
        np.array([[35, 30, 50, 40, 0]], np.float32),
    )
    measure = Measure(task, names, KeypointSpec(count=2) if task == "pose" else None)
    metrics = measure.evaluate([measure.labelled(target)], [target])
    console = Console(width=80, file=io.StringIO(), record=True)
    for table in val_module.accuracy_tables(metrics):
        console.print(table)
    printed = console.export_text()
    assert "…" not in printed
    assert printed.count("100.00") >= 2 * len(metrics.figures())
    for heading in ("images", metrics.counted, *" ".join(metrics.figures()).split(), "precision", "recall", "F1"):
        assert heading in printed


def test_cells_cannot_steer_the_terminal() -> None:
    assert str(plain("\x1b[31m[bold]name")) == "\\x1b[31m[bold]name"
