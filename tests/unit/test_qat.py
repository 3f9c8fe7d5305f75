"""``yolo12edge qat``: from an INT8 artifact to a checkpoint that exports with the ranges that it has learned."""

from __future__ import annotations

import importlib
import json
from types import SimpleNamespace

import msgspec
import numpy as np
import pytest
import torch
import typer

from tests.task_data import make_dataset
from yolo12edge.artifact import Artifact
from yolo12edge.calibration.placement import target_here
from yolo12edge.checkpoint import Checkpoint
from yolo12edge.cli import app
from yolo12edge.errors import InputError
from yolo12edge.exporters.quantized_network import learned_ranges
from yolo12edge.training import RunFiles, TrainConfig, train
from yolo12edge.training import resume as resume_training
from yolo12edge.training.quantization import Int8Form, in_form

command = importlib.import_module("yolo12edge.cli.qat")
inspecting = importlib.import_module("yolo12edge.cli.inspect")
exporting = importlib.import_module("yolo12edge.cli.export")


_exported, _learned = [], []


@pytest.fixture
def begun(tiny_checkpoint, tmp_path_factory, quick):
    """A checkpoint with its INT8 artifact, made once, and a copy of the labelled pictures that both are of."""
    folder = tmp_path_factory.mktemp("qat")
    data = make_dataset("detect", folder / "data", images=4)
    description = data / "data.yaml" if data.is_dir() else data
    description.write_text(description.read_text().replace("[dart, disc]", "[a, b, c]"))
    if not _exported:
        exporting.export(tiny_checkpoint, int8=True, data=description, out=folder / "first", max_map_drop=100.0)
        _exported.append(folder / "first" / f"{tiny_checkpoint.stem}-int8")
    return tiny_checkpoint, _exported[0], description


def qat(*words, **options):
    """Call the command as from a terminal, with its errors as they are raised."""
    flags = [word for name, value in options.items() for word in (f"--{name.replace('start', 'from')}", str(value))]
    if code := typer.main.get_command(app).main(["qat", *map(str, words), *flags], standalone_mode=False):
        raise SystemExit(code)


def learn(begun, out, **options):
    checkpoint, artifact, data = begun
    qat(checkpoint, start=artifact, data=data, epochs=2, batch=2, workers=0, device="cpu", out=out, **options)
    return RunFiles(out)


@pytest.fixture
def learned(begun, tmp_path_factory):
    """A finished run, made once."""
    if not _learned:
        _learned.append(learn(begun, tmp_path_factory.mktemp("learned") / "run"))
    return _learned[0]


def test_what_is_learned_becomes_the_artifact_and_its_card_compares_with_before(begun, tmp_path, capsys):
    files = learn(begun, tmp_path / "run")
    said = capsys.readouterr().err
    assert "Next: yolo12edge export" in said
    checkpoint, first = Checkpoint.load(files.best), Artifact.load(begun[1]).manifest
    facts = checkpoint.meta.int8
    inspecting.inspect(files.best)
    assert f"learned for {facts.target} at 96 px" in capsys.readouterr().out
    assert (facts.target, facts.image_size) == (first.calibration.placement, 96)
    assert facts.began.int8 == first.report.accuracy.value
    exporting.export(files.best, int8=True, data=begun[2], out=tmp_path / "second", max_map_drop=100.0)
    artifact = Artifact.load(tmp_path / "second" / "best-int8")
    calibration = artifact.manifest.calibration
    assert (calibration.method, calibration.rounding) == ("learned", "nearest")
    assert calibration.before == facts.began
    constants = constants_of(artifact)
    for name, params in learned_ranges(checkpoint).activations.items():
        assert constants[f"{name}.scale"] == params.scale
        assert constants[f"{name}.zero_point"] == params.zero_point
    report = json.loads((artifact.path / "report.json").read_text())
    (candidate,) = report["tournament"]
    assert candidate["name"].startswith("learned ranges")
    assert "After: best-int8, ranges learned" in (artifact.path / "report.html").read_text()
    # And it may be gone on with, from what was learned.
    qat(files.best, start=artifact.path, data=begun[2], epochs=1, batch=2, workers=0, device="cpu", out=tmp_path / "on")
    assert Checkpoint.load(RunFiles(tmp_path / "on").best).meta.int8.began.artifact == "best-int8"


def constants_of(artifact):
    import onnx
    from onnx import numpy_helper

    model = onnx.load(artifact.model_file)
    return {item.name: numpy_helper.to_array(item) for item in model.graph.initializer}


def test_another_target_is_solved_anew_and_that_is_said(begun, learned, tmp_path, capsys):
    capsys.readouterr()
    out = tmp_path / "other"
    exporting.export(learned.best, int8=True, data=begun[2], out=out, max_map_drop=100.0, target="ort-arm")
    assert "solved anew" in capsys.readouterr().err
    calibration = Artifact.load(out / "best-int8-ort-arm").manifest.calibration
    assert (calibration.method, calibration.before) == ("minmax", None)


def test_weights_and_ranges_change_and_batch_norms_do_not(begun, learned):
    before, after = Checkpoint.load(begun[0]), Checkpoint.load(learned.last)
    fixed = ("running_mean", "running_var", "num_batches_tracked", "dfl.conv.weight")
    same = {key for key, tensor in before.tensors.items() if torch.equal(tensor, after.tensors[key])}
    assert same >= {key for key in before.tensors if key.endswith(fixed)}
    assert not {key for key in same if key.startswith(tuple(f"model.{index}." for index in range(9)))} - {
        key for key in before.tensors if key.endswith(fixed)
    }
    config = TrainConfig.of_run(learned.root)
    assert (config.optimizer, config.precision, config.close_mosaic) == ("adamw", "fp32", 2)


def test_an_interrupted_run_goes_on_to_the_same_result_and_only_as_what_it_is(begun, learned, tmp_path, monkeypatch):
    display = importlib.import_module("yolo12edge.cli._training").RunDisplay

    def interrupt(self, record):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(display, "epoch", interrupt)
        with pytest.raises(SystemExit, match="130"):
            learn(begun, tmp_path / "cut")
    with pytest.raises(InputError, match="learns the ranges"):
        resume_training(tmp_path / "cut")
    with pytest.raises(InputError, match="CHECKPOINT would change"):
        qat(begun[0], resume=tmp_path / "cut")
    qat(resume=tmp_path / "cut")
    mine, theirs = Checkpoint.load(RunFiles(tmp_path / "cut").last), Checkpoint.load(learned.last)
    assert mine.meta == theirs.meta
    assert all(torch.equal(tensor, theirs.tensors[key]) for key, tensor in mine.tensors.items())


def test_an_ordinary_run_is_not_gone_on_with(begun, tmp_path):
    out = tmp_path / "plain"
    train(TrainConfig(data=begun[2], out=out, epochs=1, batch=2, image_size=96, workers=0, device="cpu"))
    with pytest.raises(InputError, match="no learned ranges"):
        qat(resume=out)


def test_what_does_not_fit_is_refused_with_the_remedy(begun, tmp_path, checkpoint_maker, scene_frames):
    checkpoint, artifact, data = begun
    with pytest.raises(InputError, match="CHECKPOINT, --from ARTIFACT are missing"):
        qat(data=data)
    with pytest.raises(InputError, match="is not an INT8 artifact"):
        qat(checkpoint, start=artifact.parent / f"{checkpoint.stem}-fp32", data=data, out=tmp_path / "a")
    held = tmp_path / "held"
    held.mkdir()
    (held / "best.safetensors").touch()
    with pytest.raises(InputError, match="holds another run"):
        qat(checkpoint, start=artifact, data=data, out=held)
    assert [path.name for path in held.iterdir()] == ["best.safetensors"]
    other = checkpoint_maker(tmp_path / "other.safetensors", [255 - frame for frame in scene_frames])
    with pytest.raises(InputError, match="made of another checkpoint"):
        qat(other, start=artifact, data=data, out=tmp_path / "b")
    data.write_text(data.read_text().replace("[a, b, c]", "[b, a, c]"))
    with pytest.raises(InputError, match="are not those of the checkpoint"):
        qat(checkpoint, start=artifact, data=data, out=tmp_path / "c")
    assert not any((tmp_path / name).exists() for name in "abc")


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"devices": 2}, "several processes"),
        ({"dropout": 0.1}, "dropout"),
        ({"dropblock": 0.1}, "dropout"),
        ({"multi_scale": 0.5}, "multi_scale"),
        ({"image_size": 64}, "image_size 64"),
    ],
)
def test_settings_that_the_form_has_no_place_for_are_refused(tmp_path, setting, message):
    form = Int8Form(SimpleNamespace(image_size=96), lambda network: network)
    settings = {"image_size": 96, "batch": 2, **setting}
    config = TrainConfig(data=tmp_path, out=tmp_path, **settings)
    with pytest.raises(InputError, match=message):
        in_form(None, form, config, resumed=None)
    assert in_form("network", None, config, resumed=None) == "network"


@pytest.mark.parametrize(
    ("format", "target", "options"),
    [
        ("onnx", target_here("onnx"), ""),
        ("onnx", "ort-arm", " --target ort-arm"),
        ("tensorrt-rtx", "tensorrt", " --format tensorrt-rtx"),
        ("openvino", target_here("openvino"), " --format openvino"),
    ],
)
def test_the_next_command_makes_the_same_kind_of_artifact(format, target, options):
    assert command._form_options(SimpleNamespace(format=format, target=target)) == options


def test_old_manifests_have_neither_field(begun):
    manifest = Artifact.load(begun[1]).manifest
    text = msgspec.to_builtins(manifest.calibration)
    del text["join_concats"], text["before"]
    assert msgspec.convert(text, type(manifest.calibration)) == manifest.calibration
    assert np.isfinite(manifest.report.accuracy.value)
