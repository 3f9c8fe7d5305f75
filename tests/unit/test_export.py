"""Exporters as a user meets them: artifacts, their names and reports, and every way to be refused."""

from __future__ import annotations

import contextlib
import importlib
import sys
from dataclasses import replace

import onnx
import pytest
import typer

from yolo12edge.artifact import CARD_NAMES, Artifact, read_embedded_manifest
from yolo12edge.calibration.graph import Graph, group_of, load_model
from yolo12edge.calibration.images import images_of_folder
from yolo12edge.calibration.observe import observe
from yolo12edge.calibration.placement import runs_here
from yolo12edge.cli import main
from yolo12edge.data.scenes import generate_scenes
from yolo12edge.errors import CheckpointError, DatasetError, ExportError, InputError, VerificationError
from yolo12edge.exporters import int8_from_onnx, onnx_fp16_from_onnx, onnx_from_checkpoint
from yolo12edge.exporters.fp16 import half_precision
from yolo12edge.runtimes import Runtime

command = importlib.import_module("yolo12edge.cli.export")


@pytest.fixture(scope="module")
def scenes(tmp_path_factory):
    return generate_scenes(tmp_path_factory.mktemp("scenes") / "data", train=4, val=3, size=96)


def test_same_checkpoint_same_bytes(tiny_checkpoint, tiny_onnx, tmp_path):
    again = onnx_from_checkpoint(tiny_checkpoint, tmp_path / "again", verify=False)
    assert again.manifest.files == tiny_onnx.manifest.files
    assert again.manifest.report.parity is None


def test_graph_is_static_standard_onnx(tiny_onnx):
    model = onnx.load(tiny_onnx.model_file)
    onnx.checker.check_model(model, full_check=True)
    operators = {node.op_type for node in model.graph.node}
    assert not operators & {"If", "Loop", "Shape", "Gather", "Constant", "BatchNormalization", "Slice", "Expand"}
    assert {node.domain for node in model.graph.node} == {""}
    assert [(item.domain, item.version) for item in model.opset_import] == [("", 17)]
    for value in [*model.graph.input, *model.graph.output]:
        assert all(dim.dim_value > 0 for dim in value.type.tensor_type.shape.dim)
    names = [node.name for node in model.graph.node]
    assert len(set(names)) == len(names)
    assert {"model.0.conv", "model.6.m.0.1.attn.proj.conv", "model.21.cv2.0.2"} <= set(names)


def test_manifest_is_embedded_without_what_varies(tiny_onnx):
    lone = read_embedded_manifest(tiny_onnx.model_file)
    assert lone.class_names == tiny_onnx.manifest.class_names
    assert lone.provenance.checkpoint_sha256 == tiny_onnx.manifest.provenance.checkpoint_sha256
    assert lone.report.parity is None
    assert lone.provenance.created == ""


@pytest.mark.parametrize("size", [100, 0, -32, (64, 65)])
def test_image_size_must_be_a_multiple_of_32(tiny_checkpoint, tmp_path, size):
    with pytest.raises(InputError, match="multiples of 32"):
        onnx_from_checkpoint(tiny_checkpoint, tmp_path / "o", image_size=size)
    assert not (tmp_path / "o").exists()


def test_what_is_no_checkpoint_is_refused(tmp_path):
    with pytest.raises(CheckpointError):
        onnx_from_checkpoint(tmp_path / "missing.safetensors", tmp_path / "o")


def test_an_export_that_disagrees_is_not_written(tiny_checkpoint, tmp_path, scene_frames, monkeypatch):
    blocks = importlib.import_module("yolo12edge.exporters.onnx_blocks")
    plain = blocks.write_add

    def wrong(w, a, b, path):
        return plain(w, a, a if path == "model.4.m.0.add" else b, path)

    monkeypatch.setattr(blocks, "write_add", wrong)
    with pytest.raises(VerificationError, match="differs from torch"):
        onnx_from_checkpoint(tiny_checkpoint, tmp_path / "o", images=scene_frames[:1])
    assert list(tmp_path.iterdir()) == []


def test_nothing_is_overwritten_unasked(tiny_checkpoint, tiny_onnx):
    with pytest.raises(InputError):
        onnx_from_checkpoint(tiny_checkpoint, tiny_onnx.path, verify=False)


def calibrated(artifact, folder):
    images = images_of_folder(folder)
    return images, observe(artifact.model_file.read_bytes(), images, artifact.manifest.input, threads=1)


def quantized(tiny_onnx, folder, out, **options):
    images, statistics = calibrated(tiny_onnx, folder)
    twin = options.pop("twin", tiny_onnx)
    return int8_from_onnx(tiny_onnx, twin, out, statistics=statistics, images=images, threads=1, **options)


def test_int8_records_how_it_was_made_and_is_not_quantized_again(tiny_onnx, tmp_path, folder, quick):
    done = quantized(tiny_onnx, folder, tmp_path / "i", target="ort-x86")
    artifact = done.artifact
    assert Artifact.load(artifact.path).manifest == artifact.manifest
    calibration = artifact.manifest.calibration
    assert sorted(calibration.images) == ["0.png", "1.png", "2.png"]
    assert (calibration.method, calibration.split, calibration.placement) == ("minmax", "folder", "ort-x86")
    assert "model.21.cv2.0.2" in calibration.float_nodes
    assert artifact.manifest.report.parity is None  # the float artifact's, not its own
    assert artifact.manifest.files[0].bytes < 0.35 * tiny_onnx.manifest.files[0].bytes
    assert {path.name for path in artifact.path.iterdir()} == {"manifest.json", "model.onnx", *CARD_NAMES}
    with pytest.raises(InputError, match="int8 onnx"):
        int8_from_onnx(artifact, artifact, tmp_path / "j", statistics=None, images=None)


@pytest.mark.parametrize("target", ["ort-arm", "tensorrt"])
def test_another_machine_is_simulated_and_not_timed(tiny_onnx, tmp_path, folder, quick, target):
    if runs_here(target):
        pytest.skip("this machine is the target")
    done = quantized(tiny_onnx, folder, tmp_path / "i", target=target)
    assert done.result.simulated
    assert done.result.speedup is None
    report = done.artifact.manifest.report
    assert report.budget.simulated
    assert report.latency is None
    assert any("simulated" in line for line in done.verdict)


def test_a_target_of_another_format_is_refused(tiny_onnx, folder, tmp_path):
    with pytest.raises(InputError, match="not for onnx"):
        quantized(tiny_onnx, folder, tmp_path / "i", target="openvino")
    assert not (tmp_path / "i").exists()


def test_images_that_were_calibrated_on_are_not_scored(tiny_onnx, folder, tmp_path):
    images, statistics = calibrated(tiny_onnx, folder)
    copy = tmp_path / "renamed.png"
    copy.write_bytes(images.paths[0].read_bytes())

    class Sample:
        image = copy

        def __len__(self):
            return 1

    with pytest.raises(InputError, match="were calibrated on"):
        int8_from_onnx(tiny_onnx, tiny_onnx, tmp_path / "i", statistics=statistics, images=images, samples=[Sample()])


@pytest.mark.parametrize("budget", [float("inf"), float("nan"), -1.0])
def test_a_senseless_budget_is_refused_at_once(tiny_onnx, folder, tmp_path, budget):
    with pytest.raises(InputError, match="max_map_drop"):
        int8_from_onnx(tiny_onnx, tiny_onnx, tmp_path / "i", statistics=None, images=None, max_map_drop=budget)


def test_statistics_of_another_model_are_refused(tiny_onnx, checkpoint_maker, scene_frames, folder, tmp_path):
    turbo = checkpoint_maker(tmp_path / "turbo.safetensors", scene_frames, variant="turbo")
    other = onnx_from_checkpoint(turbo, tmp_path / "turbo-fp32", images=scene_frames[:1])
    images, statistics = calibrated(other, folder)
    with pytest.raises(InputError, match="another model"):
        int8_from_onnx(tiny_onnx, tiny_onnx, tmp_path / "i", statistics=statistics, images=images)


def test_openvino_int8_is_small_integer_and_beside_its_twin(tiny_onnx, tiny_openvino, folder, tmp_path, quick):
    done = quantized(tiny_onnx, folder, tmp_path / "i", twin=tiny_openvino)
    assert done.artifact.manifest.format == "openvino"
    assert done.artifact.manifest.calibration.placement.startswith("openvino")
    assert done.result.own_bytes < 0.4 * done.result.twin_bytes
    assert "openvino" in done.result.engine
    with Runtime(done.artifact, threads=1) as runtime:
        assert runtime.manifest.precision == "int8"


def test_fp16_is_half_the_size_and_close(tiny_onnx, tmp_path, scene_frames):
    artifact = onnx_fp16_from_onnx(tiny_onnx, tmp_path / "half", images=scene_frames[:2])
    assert artifact.manifest.precision == "fp16"
    assert artifact.manifest.files[0].bytes < 0.55 * tiny_onnx.manifest.files[0].bytes
    assert 0 < artifact.manifest.report.parity.errors["scores"] < 0.2
    types = {item.name: item.data_type for item in onnx.load(artifact.model_file).graph.initializer}
    assert types["model.5.conv.weight.half"] == onnx.TensorProto.FLOAT16
    assert types["model.21.centres"] == onnx.TensorProto.FLOAT  # boxes are decoded in float32
    with Runtime(artifact, device="cpu", threads=1) as runtime:
        assert runtime.manifest.input.dtype == "float32"
        runtime(scene_frames[0])


def test_fp16_refuses_weights_that_do_not_fit(tiny_onnx):
    model = load_model(tiny_onnx.model_file.read_bytes())
    weight = next(item for item in model.graph.initializer if item.name == "model.5.conv.weight")
    weight.CopyFrom(onnx.numpy_helper.from_array(onnx.numpy_helper.to_array(weight) + 1e5, weight.name))
    with pytest.raises(ExportError, match=r"model\.5\.conv\.weight"):
        half_precision(Graph.of(model), {})


def test_command_writes_both_artifacts_and_says_what_int8_cost(tiny_checkpoint, scenes, tmp_path, capsys, quick):
    data = relabel(scenes, tmp_path / "three")
    with contextlib.suppress(typer.Exit):  # random weights may well miss the budget
        command.export(tiny_checkpoint, int8=True, data=data, out=tmp_path / "out")
    names = ["tiny-fp32", "tiny-int8", "tiny.calibration.npz"]
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == names
    manifest = Artifact.load(tmp_path / "out" / "tiny-int8").manifest
    assert manifest.calibration.split == "train"
    assert all("train" in name for name in manifest.calibration.images)
    assert manifest.report.accuracy.images == 3
    assert manifest.report.accuracy.reference == "tiny-fp32"
    assert manifest.report.latency.samples == 3
    printed = capsys.readouterr()
    assert "AP50-95" in printed.out
    assert "points of box AP50-95" in printed.err.replace("\n", " ")
    assert "only 4 calibration images" in printed.err.replace("\n", " ")

    # Another target from the same statistics, from the artifact alone.
    with contextlib.suppress(typer.Exit):
        command.export(
            tmp_path / "out" / "tiny-fp32",
            int8=True,
            data=data,
            calibration=tmp_path / "out" / "tiny.calibration.npz",
            target="tensorrt",
        )
    again = Artifact.load(tmp_path / "out" / "tiny-int8-tensorrt").manifest
    assert again.calibration.images_digest == manifest.calibration.images_digest


def test_a_budget_that_holds_is_marked(tiny_checkpoint, scenes, tmp_path, monkeypatch, quick):
    guard = importlib.import_module("yolo12edge.calibration.guard")
    monkeypatch.setattr(guard.Verdict, "holds", lambda self, allowed: allowed > 50)
    data = relabel(scenes, tmp_path / "three")
    command.export(tiny_checkpoint, int8=True, data=data, out=tmp_path / "out", max_map_drop=100.0)
    report = Artifact.load(tmp_path / "out" / "tiny-int8").manifest.report
    assert (report.budget.held, report.budget.max_map_drop) == (True, 100.0)


def test_where_nothing_is_found_nothing_returns_to_float(tiny_checkpoint, scenes, tmp_path, capsys, monkeypatch, quick):
    guard = importlib.import_module("yolo12edge.calibration.guard")
    monkeypatch.setattr(guard.Verdict, "known", False)
    images = scenes.path.parent / "images" / "val"
    with pytest.raises(typer.Exit) as raised:
        command.export(tiny_checkpoint, int8=True, data=images, out=tmp_path / "out")
    assert raised.value.exit_code == 1
    assert "does NOT hold" in capsys.readouterr().err.replace("\n", " ")
    manifest = Artifact.load(tmp_path / "out" / "tiny-int8").manifest
    assert not manifest.report.budget.held
    assert manifest.calibration.float_groups == []


@pytest.mark.parametrize("format", ["onnx", "coreml"])
def test_where_all_would_return_to_float_nothing_is_written(
    tiny_checkpoint, scenes, tmp_path, capsys, monkeypatch, quick, format
):
    if format == "coreml":
        pytest.importorskip("coremltools")
    guard = importlib.import_module("yolo12edge.calibration.guard")
    monkeypatch.setattr(guard.Verdict, "holds", lambda self, allowed: False)

    def return_all(bench, recipe, ranking, check, *, timed):
        readers = {name for names in bench.quantizer.placement(recipe).reads.values() for name in names}
        recipe = replace(recipe, float_groups=frozenset(filter(None, map(group_of, readers))))
        return recipe, ranking, check(recipe)

    monkeypatch.setattr(importlib.import_module("yolo12edge.exporters.int8"), "return_to_float", return_all)
    data, out = relabel(scenes, tmp_path / "three"), tmp_path / "out"
    arguments = ["export", tiny_checkpoint, "--format", format, "--int8", "--data", data, "--out", out]
    monkeypatch.setattr(sys, "argv", ["yolo12edge", *map(str, arguments)])
    with pytest.raises(SystemExit) as raised:
        main()
    assert raised.value.code == 1
    said = capsys.readouterr().err.replace("\n", " ")
    assert "every layer had to return to float to hold the budget of 0.5 points: nothing INT8 is left" in said
    float_twin = {"onnx": "tiny-fp32", "coreml": "tiny-coreml-fp16"}[format]
    assert f"ship {out / float_twin}" in said
    assert sorted(path.name for path in out.iterdir()) == sorted([float_twin, "tiny.calibration.npz"])


def relabel(scenes, target):
    """Copy the scenes with labels of the tiny detector's three classes."""
    source = scenes.path.parent
    for split in ("train", "val"):
        for kind in ("images", "labels"):
            (target / kind / split).mkdir(parents=True)
        for image in sorted((source / "images" / split).iterdir()):
            (target / "images" / split / image.name).write_bytes(image.read_bytes())
            (target / "labels" / split / f"{image.stem}.txt").write_text("0 0.5 0.5 0.4 0.4\n1 0.3 0.3 0.2 0.2\n")
    (target / "data.yaml").write_text("path: .\ntrain: images/train\nval: images/val\nnames: [a, b, c]\n")
    return target / "data.yaml"


def test_data_of_other_classes_is_refused(tiny_checkpoint, scenes, tmp_path):
    with pytest.raises(DatasetError, match="the classes of"):
        command.export(tiny_checkpoint, int8=True, data=scenes.path, out=tmp_path / "out")


def test_int8_without_data_says_what_to_give(tiny_checkpoint, tmp_path):
    with pytest.raises(InputError, match="--data"):
        command.export(tiny_checkpoint, int8=True, out=tmp_path / "o")
    assert not (tmp_path / "o").exists()


def test_folder_of_images_is_judged_by_agreement(tiny_checkpoint, folder, tmp_path, capsys, quick):
    with contextlib.suppress(typer.Exit):
        command.export(tiny_checkpoint, int8=True, data=folder, out=tmp_path / "out")
    report = Artifact.load(tmp_path / "out" / "tiny-int8").manifest.report
    assert report.accuracy is None
    assert report.agreement.images == 3
    assert report.latency is not None
    assert "no labels to score on" in capsys.readouterr().err.replace("\n", " ")


def test_options_of_int8_alone_are_refused(tiny_checkpoint, tmp_path):
    with pytest.raises(InputError, match="are for INT8"):
        command.export(tiny_checkpoint, target="tensorrt", out=tmp_path / "o")


def test_float_only_needs_no_data(tiny_checkpoint, tmp_path, capsys):
    command.export(tiny_checkpoint, out=tmp_path, imgsz=[64])
    assert Artifact.load(tmp_path / "tiny-fp32").manifest.input.height == 64
    assert "boxes differ from the source by" in capsys.readouterr().out


def test_export_refuses_before_it_writes(tiny_checkpoint, scenes, folder, tmp_path):
    (tmp_path / "tiny-int8").mkdir()
    (tmp_path / "tiny-int8" / "file").touch()
    with pytest.raises(InputError, match="tiny-int8 is there already"):
        command.export(tiny_checkpoint, int8=True, data=folder, out=tmp_path)
    with pytest.raises(DatasetError, match="classes"):
        command.export(tiny_checkpoint, int8=True, data=scenes.path, out=tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["pictures", "tiny-int8"]
