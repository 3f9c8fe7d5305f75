"""``yolo12edge export --format coreml`` as a user meets it: what is written, measured, said and refused."""

from __future__ import annotations

import contextlib
import importlib
import sys
from importlib.util import find_spec

import pytest
import typer

from yolo12edge.artifact import Artifact
from yolo12edge.errors import InputError
from yolo12edge.exporters.coreml_converter import CoremlConverter
from yolo12edge.exporters.coreml_package import CoremlForm

command = importlib.import_module("yolo12edge.cli.export")
inspect = importlib.import_module("yolo12edge.cli.inspect")
pytestmark = [
    pytest.mark.skipif(find_spec("coremltools") is None, reason="coremltools is not installed"),
    pytest.mark.skipif(sys.platform == "darwin", reason="a Mac runs what is made; this is about machines that do not"),
]


def test_float_forms_are_compared_and_listed(tiny_checkpoint, tmp_path, capsys):
    command.export(
        tiny_checkpoint, format="coreml", fp16=True, fp32=True, palettize="6", weights_int8=True, nms=0.5, out=tmp_path
    )
    names = {"fp16", "fp32", "palettized-6", "weights-int8", "nms.mlpackage"}
    assert {path.name for path in tmp_path.iterdir()} == {f"tiny-coreml-{name}" for name in names}
    manifests = {name: Artifact.load(tmp_path / f"tiny-coreml-{name}").manifest for name in names - {"nms.mlpackage"}}
    assert {name: (own.precision, own.weights) for name, own in manifests.items()} == {
        "fp16": ("fp16", "float"),
        "fp32": ("fp32", "float"),
        "palettized-6": ("fp16", "palettized-6"),
        "weights-int8": ("fp16", "int8"),
    }
    assert all(own.report.parity.images == 3 for own in manifests.values())
    printed = capsys.readouterr()
    assert "palettized-6" in printed.out
    assert "compressed weights cost in accuracy was not measured: add --data" in printed.err.replace("\n", " ")
    assert "suppression behind tiny-coreml-fp16" in printed.err.replace("\n", " ")
    inspect.inspect(tmp_path / "tiny-coreml-palettized-6")
    assert "coreml, fp16, palettized-6 weights" in capsys.readouterr().out
    assert "no Mac has run it" in printed.err.replace("\n", " ")
    assert "tiny-coreml-nms.mlpackage" in printed.err.replace("\n", "")


def test_int8_is_measured_in_the_evaluator(tiny_checkpoint, folder, tmp_path, capsys, quick):
    with contextlib.suppress(typer.Exit):  # random weights may well miss the budget
        command.export(tiny_checkpoint, format="coreml", int8=True, data=folder, out=tmp_path / "out")
    assert {path.name for path in (tmp_path / "out").iterdir()} == {
        "tiny-coreml-fp16",
        "tiny-coreml-int8",
        "tiny.calibration.npz",
    }
    artifact = Artifact.load(tmp_path / "out" / "tiny-coreml-int8")
    manifest = artifact.manifest
    assert (manifest.format, manifest.precision, manifest.calibration.placement) == ("coreml", "int8", "coreml")
    assert manifest.report.budget.simulated
    assert manifest.report.latency is None
    assert manifest.report.agreement.reference == "tiny-fp32"
    assert manifest.input.pixels
    assert manifest.calibration.float_nodes[0] == "model.0.conv"  # its input is the picture
    assert "the package was scored in a reference evaluator" in capsys.readouterr().err.replace("\n", " ")
    inspect.inspect(tmp_path / "out" / "tiny-coreml-int8")
    assert "simulated in float" not in capsys.readouterr().out


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"format": "onnx", "palettize": "4"}, "--palettize is for Core ML"),
        ({"format": "tensorrt", "ios": "18", "on_device": True}, "--ios is for Core ML"),
        ({"format": "coreml", "uint8": True}, "--uint8 is for TensorRT"),
        ({"format": "openvino", "nms": 0.5}, "--nms is for TensorRT and Core ML"),
        ({"format": "coreml", "int8": True, "target": "coreml"}, "leave --target out"),
        ({"format": "coreml", "nms": 0.5, "batch": 2}, "takes one image"),
        ({"format": "coreml", "int8": True, "ios": "16"}, "iOS 16 cannot run INT8"),
    ],
)
def test_options_that_do_not_go_together_are_refused(tiny_checkpoint, folder, tmp_path, options, said):
    data = {"data": folder} if options.get("int8") else {}
    with pytest.raises(InputError, match=said):
        command.export(tiny_checkpoint, **options, **data, out=tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_pipeline_that_is_there_is_refused_before_anything_is_made(tiny_checkpoint, tmp_path):
    (tmp_path / "tiny-coreml-nms.mlpackage").mkdir()
    (tmp_path / "tiny-coreml-nms.mlpackage" / "Manifest.json").write_text("{}")
    with pytest.raises(InputError, match=r"nms\.mlpackage is there already"):
        command.export(tiny_checkpoint, format="coreml", nms=0.5, out=tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["tiny-coreml-nms.mlpackage"]


def test_batches_are_tensors(tiny_checkpoint, tmp_path):
    command.export(tiny_checkpoint, format="coreml", fp32=True, batch=2, min_batch=1, out=tmp_path)
    spec = Artifact.load(tmp_path / "tiny-coreml-fp32").manifest.input
    assert (spec.batch, spec.min_batch, spec.dtype, spec.layout) == (2, 1, "float32", "NCHW")


def test_what_half_precision_cannot_hold_stays_float(tiny_onnx, scene_frames, monkeypatch):
    module = importlib.import_module("yolo12edge.exporters.coreml_converter")
    monkeypatch.setattr(module, "half_overflows", lambda model, spec, frames: frozenset({"model.5.conv"}))
    model = tiny_onnx.model_file.read_bytes()
    half = CoremlConverter().for_pictures(model, tiny_onnx.manifest, scene_frames[:1])
    assert half.form.float_names == {"model.5.conv"}
    exact = CoremlConverter(CoremlForm(precision="fp32"))
    assert exact.for_pictures(model, tiny_onnx.manifest, scene_frames[:1]) is exact
