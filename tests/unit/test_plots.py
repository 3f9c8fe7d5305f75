from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
import pytest

from yolo12edge.detections import Detections
from yolo12edge.errors import InputError
from yolo12edge.metrics import ConfusionMatrix, Target, confusion_matrix, detection_curves, plots
from yolo12edge.metrics.plots import (
    plot_confidence_curves,
    plot_confusion_matrix,
    plot_label_statistics,
    plot_pr_curve,
    plot_training_curves,
)

pytest.importorskip("matplotlib", reason="plots need matplotlib")


def picture(path: Path) -> npt.NDArray[np.uint8]:
    assert path.read_bytes().startswith(b"\x89PNG")
    image = cv2.imread(str(path))
    assert image is not None
    assert min(image.shape[:2]) > 300
    assert image.std() > 5  # something is drawn
    return np.asarray(image, np.uint8)


def scene(classes: int, *, images: int = 20) -> tuple[list[Detections], list[Target], list[str]]:
    rng = np.random.default_rng(1)
    predictions, targets = [], []
    for _ in range(images):
        corner = rng.uniform(0, 200, (8, 2))
        boxes = np.concatenate([corner, corner + rng.uniform(20, 60, (8, 2))], axis=1).astype(np.float32)
        class_id = rng.integers(0, classes, 8)
        targets.append(Target(boxes, class_id, (260, 260)))
        guessed = np.where(rng.random(8) < 0.2, rng.integers(0, classes, 8), class_id)
        predictions.append(Detections(boxes + rng.normal(0, 4, (8, 4)), np.sort(rng.random(8))[::-1], guessed))
    return predictions, targets, [f"class {index}" for index in range(classes)]


@pytest.mark.parametrize("classes", [1, 80])
def test_accuracy_plots(tmp_path: Path, classes: int) -> None:
    predictions, targets, names = scene(classes)
    curves = detection_curves(predictions, targets, names)
    matrix = confusion_matrix(predictions, targets, names)
    plot_pr_curve(curves, tmp_path / "pr.png")
    plot_confidence_curves(curves, tmp_path / "confidence.png")
    plot_confusion_matrix(matrix, tmp_path / "confusion.png")
    for name in ("pr", "confidence", "confusion"):
        picture(tmp_path / f"{name}.png")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["confidence.png", "confusion.png", "pr.png"]


def test_plots_of_nothing(tmp_path: Path) -> None:
    empty = Target(np.zeros((0, 4), np.float32), np.zeros(0, np.int64), (10, 10))
    curves = detection_curves([Detections.empty()], [empty], ["a", "b"])
    plot_pr_curve(curves, tmp_path / "pr.png")
    plot_confidence_curves(curves, tmp_path / "confidence.png")
    plot_confusion_matrix(ConfusionMatrix(("a",), np.zeros((2, 2), np.int64), 0.25, 0.5), tmp_path / "confusion.png")
    plot_label_statistics(empty.boxes, empty.class_id, ["a"], tmp_path / "labels.png")
    for path in tmp_path.iterdir():
        picture(path)


@pytest.mark.parametrize("classes", [3, 80])
def test_label_statistics(tmp_path: Path, classes: int) -> None:
    rng = np.random.default_rng(2)
    corner = rng.random((500, 2)) * 0.7
    boxes = np.concatenate([corner, corner + rng.random((500, 2)) * 0.3], axis=1).astype(np.float32)
    class_id = rng.integers(0, classes, 500)
    plot_label_statistics(boxes, class_id, [f"class {i}" for i in range(classes)], tmp_path / "labels.png")
    picture(tmp_path / "labels.png")


@pytest.mark.parametrize("classes", [3, 80])
def test_labels_of_whole_pictures_are_only_counted(tmp_path: Path, classes: int) -> None:
    class_id = np.random.default_rng(2).integers(0, classes, 500)
    names = [f"class {i}" for i in range(classes)]
    plot_label_statistics(None, class_id, names, tmp_path / "classes.png")
    counted = picture(tmp_path / "classes.png")
    plot_label_statistics(np.zeros((500, 4), np.float32), class_id, names, tmp_path / "boxes.png")
    assert counted.shape[0] * counted.shape[1] < 0.7 * np.prod(picture(tmp_path / "boxes.png").shape[:2])


def _rows() -> list[dict[str, str]]:
    """Rows as a logger writes them: one for training, one for validation, each with empty cells."""
    rows = []
    for epoch in range(12):
        losses = {f"train/{name}": f"{3 / (epoch + 1)}" for name in ("box", "cls", "dfl")}
        rows.append({"epoch": str(epoch), "lr": f"{0.01 * (1 - epoch / 12)}", **losses, "val/ap": ""})
        rows.append({"epoch": str(epoch), "lr": "", "val/box": f"{3.2 / (epoch + 1)}", "val/ap": f"{epoch / 20}"})
    return rows


def test_training_curves_from_rows_and_file_are_the_same(tmp_path: Path) -> None:
    rows = _rows()
    columns = sorted({key for row in rows for key in row})
    lines = [",".join(columns), *(",".join(row.get(key, "") for key in columns) for row in rows)]
    (tmp_path / "metrics.csv").write_text("\n".join(lines) + "\n")
    plot_training_curves(tmp_path / "metrics.csv", tmp_path / "file.png")
    plot_training_curves(rows, tmp_path / "rows.png")
    assert np.array_equal(picture(tmp_path / "file.png"), picture(tmp_path / "rows.png"))


def test_rows_of_one_epoch_are_one_point() -> None:
    series = plots._read_history(_rows())
    assert series["val/ap"] == {epoch: epoch / 20 for epoch in range(12)}
    assert series["train/box"][3] == 0.75
    assert "epoch" not in series


@pytest.mark.parametrize("rows", [[], [{"step": 1}], [{"epoch": "1", "val/ap": "nan"}]])
def test_history_without_numbers_is_refused(tmp_path: Path, rows: list[dict[str, object]]) -> None:
    with pytest.raises(InputError, match="history"):
        plot_training_curves(rows, tmp_path / "out.png")
    assert list(tmp_path.iterdir()) == []


def test_failed_plot_leaves_no_file(tmp_path: Path) -> None:
    with pytest.raises(IndexError):
        plot_label_statistics(np.zeros((3,), np.float32), np.zeros(3, np.int64), ["a"], tmp_path / "labels.png")  # type: ignore[arg-type]
    assert list(tmp_path.iterdir()) == []


def test_same_input_gives_the_same_bytes_without_pyplot(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.pyplot", None)  # type: ignore[arg-type]  # importing it now fails
    predictions, targets, names = scene(3)
    draw: Callable[[Path], None] = lambda path: plot_pr_curve(detection_curves(predictions, targets, names), path)  # noqa: E731
    draw(tmp_path / "a.png")
    draw(tmp_path / "b.png")
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()
