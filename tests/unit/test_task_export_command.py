"""``yolo12edge export`` for other tasks than detect: which data it reads, and what it refuses."""

from __future__ import annotations

import importlib

import msgspec
import pytest

from tests.task_data import CLASS_NAMES, make_dataset
from yolo12edge.cli._data import described_by, read_export_data
from yolo12edge.cli.val import val
from yolo12edge.errors import DatasetError, ExportError, InputError
from yolo12edge.exporters.deepstream import deepstream_from_artifact
from yolo12edge.exporters.triton_server import triton_from_artifact
from yolo12edge.keypoints import KeypointSpec
from yolo12edge.metrics import Measure

command = importlib.import_module("yolo12edge.cli.export")
command_data = importlib.import_module("yolo12edge.cli._data")


def test_a_folder_of_classes_is_a_dataset_and_a_folder_of_pictures_is_none(tmp_path):
    data = make_dataset("classify", tmp_path / "darts", images=4)
    given = read_export_data(data, needed=True, task="classify")
    assert given.dataset.task == "classify"
    assert given.scored
    assert given.calibration.split == "train"
    assert given.dataset_name == "darts"
    pictures = next(folder for folder in (data / "train").iterdir() if folder.is_dir())
    assert read_export_data(pictures, needed=True, task="classify").dataset is None


def test_labels_are_read_as_the_model_s_task_wants_them(tmp_path):
    data = make_dataset("pose", tmp_path / "pose", images=4)
    assert read_export_data(data, needed=True, task="pose").dataset.task == "pose"


def test_data_with_other_points_is_refused_before_anything_is_written(tiny_checkpoint_of, tmp_path):
    checkpoint = tiny_checkpoint_of("pose")
    dataset = read_export_data(make_dataset("pose", tmp_path / "pose", images=4), needed=True, task="pose").dataset
    model = msgspec.structs.replace(
        described_by(checkpoint),
        class_names=list(dataset.class_names),
        keypoints=KeypointSpec(count=6, dimensions=2),  # as many values as 4 points of 3
    )
    given = command_data.ExportData(dataset=dataset)
    with pytest.raises(DatasetError, match="4 points of 3 values"):
        command._refuse_early(checkpoint, model, given, [], overwrite=False)


def test_val_refuses_other_points_before_it_looks_at_a_picture(monkeypatch, tmp_path):
    data = make_dataset("pose", tmp_path / "pose", images=2)

    class Other:  # a Runtime that finds nothing
        manifest = Measure("pose", list(CLASS_NAMES), KeypointSpec(count=3))

        def __enter__(self):
            return self

        def __exit__(self, *_): ...

    monkeypatch.setattr("yolo12edge.runtimes.Runtime", lambda *_, **__: Other())
    with pytest.raises(DatasetError, match="4 points of 3 values"):
        val(tmp_path / "model", data=data, split="val", device="cpu")


@pytest.mark.parametrize("format", ["tensorrt", "coreml"])
def test_suppression_in_the_graph_is_for_detect(tiny_checkpoint_of, tmp_path, format):
    with pytest.raises(InputError, match="the task is obb"):
        command.export(tiny_checkpoint_of("obb"), format=format, nms=0.5, on_device=format == "tensorrt", out=tmp_path)


def test_deepstream_is_for_detect_and_triton_for_every_task(tiny_onnx_of, tmp_path):
    segment = tiny_onnx_of("segment")
    with pytest.raises(ExportError, match="the task is segment"):
        deepstream_from_artifact(segment, tmp_path / "ds")
    done = triton_from_artifact(segment, tmp_path / "models", name="nuclei")
    config = (done.path / "config.pbtxt").read_text()
    for output in segment.manifest.outputs:
        dims = ", ".join(map(str, output.shape))
        assert f'output [ {{ name: "{output.name}" data_type: TYPE_FP32 dims: [ {dims} ] }} ]' in config
