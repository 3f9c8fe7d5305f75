"""``yolo12edge calibrate`` as a user meets it: the file, what is printed, and every way to be refused."""

from __future__ import annotations

import importlib

import cv2
import numpy as np
import onnx
import pytest
from onnx import numpy_helper
from typer.testing import CliRunner

from yolo12edge.artifact import write_artifact
from yolo12edge.calibration.graph import graph_digest, load_model
from yolo12edge.calibration.tensor_statistics import Statistics
from yolo12edge.cli import app
from yolo12edge.data.scenes import generate_scenes
from yolo12edge.errors import CheckpointError, DatasetError, ExportError, InputError

command = importlib.import_module("yolo12edge.cli.calibrate")


@pytest.fixture(scope="module")
def scenes(tmp_path_factory):
    return generate_scenes(tmp_path_factory.mktemp("scenes") / "data", train=5, val=3, size=96).path


def digest_of(artifact):
    return graph_digest(load_model(artifact.model_file.read_bytes()))


def test_checkpoint_to_file(tiny_checkpoint, tiny_onnx, scenes, tmp_path, monkeypatch):
    file = tmp_path / "some.npz"
    arguments = ["calibrate", str(tiny_checkpoint), "--data", str(scenes), "-o", str(file), "--count", "4"]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0, result.output
    statistics = Statistics.load(file)
    statistics.check(digest_of(tiny_onnx), tiny_onnx.manifest.input)  # an export of its own gives the same graph
    assert len(statistics.images) == 4
    assert all(name.startswith("images/train/") for name in statistics.images)
    for text in ("4, of split train", "96 x 96", str(len(statistics.tensors)), statistics.model_digest[:12]):
        assert text in result.stdout
    assert "only 4 calibration images" in result.stderr.replace("\n", " ")
    assert str(file) in result.stderr.replace("\n", "")


def test_the_file_lies_beside_its_source(tiny_onnx, folder, tmp_path, capsys):
    source = write_artifact(
        tmp_path / "best-fp32", tiny_onnx.manifest, {"model.onnx": tiny_onnx.model_file.read_bytes()}
    ).path
    command.calibrate(source, data=folder)
    statistics = Statistics.load(tmp_path / "best.calibration.npz")
    assert sorted(statistics.images) == ["0.png", "1.png", "2.png"]
    assert "of a folder" in capsys.readouterr().out
    with pytest.raises(InputError, match="there already"):
        command.calibrate(source, data=folder)
    command.calibrate(source, data=folder, count=2, seed=1, overwrite=True)
    assert len(Statistics.load(tmp_path / "best.calibration.npz").images) == 2


def test_seed_chooses_the_images(tiny_onnx, scenes, tmp_path):
    chosen = []
    for index, seed in enumerate((0, 0, 1)):
        command.calibrate(tiny_onnx.path, data=scenes, output=tmp_path / str(index), count=3, seed=seed)
        chosen.append(Statistics.load(tmp_path / str(index)).images)
    assert chosen[0] == chosen[1] != chosen[2]


def test_statistics_of_another_image_size_are_stale(tiny_checkpoint, tiny_onnx, folder, tmp_path):
    command.calibrate(tiny_checkpoint, data=folder, output=tmp_path / "s.npz", imgsz=64)
    with pytest.raises(InputError, match=r"height 64, that of this model 96.*another model"):
        Statistics.load(tmp_path / "s.npz").check(digest_of(tiny_onnx), tiny_onnx.manifest.input)


def test_the_size_of_an_artifact_is_fixed(tiny_onnx, folder, tmp_path):
    with pytest.raises(InputError, match="fixed"):
        command.calibrate(tiny_onnx.path, data=folder, output=tmp_path / "s.npz", imgsz=64)


def test_other_artifacts_are_refused(tiny_onnx, folder, tmp_path, monkeypatch):
    import msgspec

    manifest = msgspec.structs.replace(tiny_onnx.manifest, precision="fp16", files=[])
    other = write_artifact(tmp_path / "half", manifest, {"model.onnx": tiny_onnx.model_file.read_bytes()})
    with pytest.raises(InputError, match="fp16 onnx"):
        command.calibrate(other.path, data=folder)


def test_bad_data_is_refused_and_nothing_is_written(tiny_onnx, folder, tmp_path):
    file = tmp_path / "s.npz"
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="no image"):
        command.calibrate(tiny_onnx.path, data=tmp_path / "empty", output=file)
    with pytest.raises((InputError, DatasetError), match="missing"):
        command.calibrate(tiny_onnx.path, data=tmp_path / "missing", output=file)
    (folder / "1.png").write_bytes((folder / "1.png").read_bytes()[:200])
    with pytest.raises(InputError, match=r"1\.png"):
        command.calibrate(tiny_onnx.path, data=folder, output=file)
    with pytest.raises(CheckpointError):
        command.calibrate(tmp_path / "none.safetensors", data=folder, output=file)
    with pytest.raises(InputError, match="there already"):
        command.calibrate(tiny_onnx.path, data=folder, output=tmp_path / "empty", overwrite=True)
    assert not file.exists()


def test_a_weight_that_is_not_finite_is_refused(tiny_onnx, folder, tmp_path):
    model = onnx.load(tiny_onnx.model_file)
    item = next(item for item in model.graph.initializer if item.name == "model.5.conv.weight")
    weight = numpy_helper.to_array(item).copy()
    weight[0, 0, 0, 0] = np.nan
    item.CopyFrom(numpy_helper.from_array(weight, item.name))
    broken = write_artifact(tmp_path / "nan-fp32", tiny_onnx.manifest, {"model.onnx": model.SerializeToString()})
    with pytest.raises(ExportError, match=r"model\.5\.conv\.weight"):
        command.calibrate(broken.path, data=folder)
    assert not (tmp_path / "nan.calibration.npz").exists()


def test_images_of_another_domain_are_said(tiny_onnx, tmp_path, monkeypatch, capsys):
    folder = tmp_path / "grey"
    folder.mkdir()
    for index in range(2):
        cv2.imwrite(str(folder / f"{index}.png"), np.full((64, 64, 3), 100 + index, np.uint8))
    monkeypatch.setattr(importlib.import_module("yolo12edge.calibration.observe"), "_CONFIDENCE", 1.1)
    command.calibrate(tiny_onnx.path, data=folder, output=tmp_path / "s.npz")
    assert "in only 0 of 2 calibration images" in capsys.readouterr().err.replace("\n", " ")
