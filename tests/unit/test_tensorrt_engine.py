"""TensorRT artifacts as a user meets them: what is written, compared, said and refused."""

from __future__ import annotations

import contextlib
import gc
import importlib
from dataclasses import replace
from importlib.util import find_spec

import numpy as np
import onnx
import pytest
import typer
from onnx import numpy_helper

from tests.fakes import tensorrt as fakes
from tests.fakes.cuda import FakeCuda
from yolo12edge.artifact import Artifact, read_embedded_manifest
from yolo12edge.detections import Detections
from yolo12edge.errors import InputError, MissingDependencyError, VerificationError
from yolo12edge.exporters import tensorrt_engine
from yolo12edge.exporters.area_attention import ahead_of_time
from yolo12edge.exporters.tensorrt_engine import EngineMaker, _difference, runs_engines, tensorrt_from_onnx
from yolo12edge.exporters.tensorrt_onnx import TensorRtForm
from yolo12edge.manifest import Layers
from yolo12edge.masks import Masks
from yolo12edge.runtimes import cuda as cuda_package
from yolo12edge.runtimes.cuda.driver import DeviceFacts
from yolo12edge.runtimes.tensorrt_builder import BuildOptions, BuiltPlan
from yolo12edge.runtimes.tensorrt_plugins import PLUGIN_VARIABLE

command = importlib.import_module("yolo12edge.cli.export")
rtx = pytest.mark.skipif(find_spec("tensorrt_rtx") is None, reason="tensorrt-rtx is not installed")
no_gpu = pytest.mark.skipif(
    find_spec("tensorrt_rtx") is not None and runs_engines("tensorrt-rtx"), reason="this machine runs engines"
)

ON_DEVICE = EngineMaker(on_device=True)


def test_what_the_device_builds_from_is_typed_onnx_and_was_compared(tiny_onnx, tmp_path, scene_frames):
    artifact = tensorrt_from_onnx(tiny_onnx, tmp_path / "t", ON_DEVICE, images=scene_frames[:2])
    manifest = Artifact.load(tmp_path / "t").manifest
    assert manifest == artifact.manifest
    assert (manifest.format, manifest.precision, manifest.engine) == ("tensorrt", "fp16", None)
    assert manifest.report.parity.images == 2
    assert 0 < manifest.report.parity.errors["scores"] < 0.2
    assert read_embedded_manifest(artifact.model_file).format == "tensorrt"
    types = {item.data_type for item in onnx.load(artifact.model_file).graph.initializer if ".conv.weight" in item.name}
    assert types == {onnx.TensorProto.FLOAT16}


@rtx
@no_gpu
def test_an_engine_is_a_plan_with_its_facts_and_says_nothing_that_was_not_measured(tiny_onnx, tmp_path, scene_frames):
    steps = []
    artifact = tensorrt_from_onnx(
        tiny_onnx,
        tmp_path / "t",
        EngineMaker("tensorrt-rtx"),
        images=scene_frames[:1],
        progress=lambda done, total: steps.append((done, total)),
    )
    manifest = Artifact.load(tmp_path / "t").manifest
    assert artifact.model_file.name == "model.engine"
    assert manifest.engine.library == "tensorrt-rtx"
    assert manifest.engine.architectures
    assert manifest.provenance.versions["tensorrt-rtx"] == manifest.engine.version
    assert manifest.report.parity is None
    assert manifest.report.latency is None
    assert steps[-1][0] == steps[-1][1] > 0


def test_a_graph_that_disagrees_is_not_written(tiny_onnx, tmp_path, scene_frames, monkeypatch):
    plain = tensorrt_engine.tensorrt_onnx

    def wrong(model, manifest, form):
        content, own = plain(model, manifest, form)
        graph = onnx.load_from_string(content)
        for item in graph.graph.initializer:
            if item.name == "model.21.strides":
                item.CopyFrom(numpy_helper.from_array(2 * numpy_helper.to_array(item), item.name))
        return graph.SerializeToString(), own

    monkeypatch.setattr(tensorrt_engine, "tensorrt_onnx", wrong)
    exact = replace(ON_DEVICE, form=TensorRtForm(precision="fp32"))
    with pytest.raises(VerificationError, match="differs from onnx"):
        tensorrt_from_onnx(tiny_onnx, tmp_path / "t", exact, images=scene_frames[:1])
    assert not (tmp_path / "t").exists()


def test_a_selection_that_loses_detections_is_not_written(tiny_onnx, tmp_path, scene_frames):
    few = replace(ON_DEVICE, form=TensorRtForm(candidates=2))
    with pytest.raises(VerificationError, match="raise candidates"):
        tensorrt_from_onnx(tiny_onnx, tmp_path / "t", few, images=scene_frames[:1])
    assert not (tmp_path / "t").exists()
    all_of_them = replace(ON_DEVICE, form=TensorRtForm(candidates=189, nms_iou=0.6))
    artifact = tensorrt_from_onnx(tiny_onnx, tmp_path / "t", all_of_them, images=scene_frames[:1])
    assert artifact.manifest.nms_iou == 0.6


def test_what_a_task_adds_is_compared_too():
    square = [np.array([[10, 10], [30, 10], [30, 30], [10, 30]], np.float32)]
    found = Detections(
        [[10, 10, 30, 30]],
        [0.9],
        [0],
        mask=Masks.of_polygons([square], (64, 64)),
        keypoints=[[[12, 12, 0.9], [20, 20, 0.8]]],
        obb=[[20, 20, 20, 20, 0.1]],
    )
    assert _difference(found, replace(found)) == ""
    assert _difference(found, found[:0]) == "there are 0"
    for name, value in {
        "class_id": [1],
        "xyxy": [[10, 10, 30, 30.1]],
        "confidence": [0.8],
        "keypoints": [[[12, 12.1, 0.9], [20, 20, 0.8]]],
        "obb": [[20, 20, 20, 20, 0.2]],
        "mask": Masks.of_polygons([[square[0] + 1]], (64, 64)),
    }.items():
        assert _difference(found, replace(found, **{name: value})), name
    assert _difference(found, replace(found, obb=None))


def test_pixels_and_batches_are_compared_in_their_own_form(tiny_onnx, tmp_path, scene_frames):
    form = TensorRtForm(precision="fp32", uint8=True, batch=3, min_batch=1)
    artifact = tensorrt_from_onnx(tiny_onnx, tmp_path / "t", replace(ON_DEVICE, form=form), images=scene_frames[:1])
    spec = artifact.manifest.input
    assert (spec.dtype, spec.layout, spec.color, spec.min_batch, spec.batch) == ("uint8", "NHWC", "BGR", 1, 3)
    assert artifact.manifest.report.parity.errors["boxes"] < 0.02


def test_the_plugins_numbers_are_not_claimed(tiny_onnx, tmp_path, scene_frames):
    """Its kernel runs in TensorRT alone: what was compared is the native form."""
    form = TensorRtForm(attention="plugin")
    artifact = tensorrt_from_onnx(tiny_onnx, tmp_path / "t", replace(ON_DEVICE, form=form), images=scene_frames[:1])
    assert artifact.manifest.report.parity is None
    assert "AreaAttention" in {node.op_type for node in onnx.load(artifact.model_file).graph.node}


def test_what_half_precision_cannot_hold_stays_float(tiny_onnx, scene_frames, monkeypatch):
    monkeypatch.setattr(tensorrt_engine, "half_overflows", lambda model, spec, frames: frozenset({"model.5.conv"}))
    model = tiny_onnx.model_file.read_bytes()
    made = ON_DEVICE.for_pictures(model, tiny_onnx.manifest, scene_frames[:1])
    assert made.form.float_names == {"model.5.conv"}
    exact = replace(ON_DEVICE, form=TensorRtForm(precision="fp32"))
    assert exact.for_pictures(model, tiny_onnx.manifest, scene_frames[:1]) is exact


def test_int8_is_simulated_as_typed_and_named_after_what_it_was_compared_with(
    tiny_checkpoint, folder, tmp_path, capsys, quick
):
    with contextlib.suppress(typer.Exit):  # random weights may well miss the budget
        command.export(tiny_checkpoint, format="tensorrt", int8=True, data=folder, on_device=True, out=tmp_path / "out")
    names = sorted(path.name for path in (tmp_path / "out").iterdir())
    assert names == ["tiny-tensorrt-fp16", "tiny-tensorrt-int8", "tiny.calibration.npz"]
    manifest = Artifact.load(tmp_path / "out" / "tiny-tensorrt-int8").manifest
    assert (manifest.format, manifest.precision, manifest.calibration.placement) == ("tensorrt", "int8", "tensorrt")
    assert manifest.report.budget.simulated
    assert manifest.report.agreement.reference == "tiny-fp32"  # the half-precision twin was not run
    assert manifest.report.latency is None
    graph = onnx.load(tmp_path / "out" / "tiny-tensorrt-int8" / "model.onnx").graph
    zero_points = [item for item in graph.initializer if item.name.endswith("zero_point")]
    assert zero_points
    assert all(item.data_type == onnx.TensorProto.INT8 for item in zero_points)
    assert not any(np.any(numpy_helper.to_array(item)) for item in zero_points)
    printed = capsys.readouterr()
    assert "int8, simulated" in printed.out
    assert "not the target (tensorrt)" in printed.err.replace("\n", " ")


def test_options_of_tensorrt_alone_are_refused_elsewhere(tiny_checkpoint, tmp_path):
    with pytest.raises(InputError, match="--uint8, --on-device are for TensorRT"):
        command.export(tiny_checkpoint, uint8=True, on_device=True, out=tmp_path / "o")
    with pytest.raises(InputError, match="--target"):
        command.export(tiny_checkpoint, format="tensorrt", int8=True, target="tensorrt", out=tmp_path / "o")
    with pytest.raises(InputError, match="--timing-cache and --on-device contradict"):
        command.export(
            tiny_checkpoint, format="tensorrt", on_device=True, timing_cache=tmp_path / "c", out=tmp_path / "o"
        )
    for option in ("version_compatible", "hardware_compatible"):
        with pytest.raises(InputError, match=f"Remedy: leave --{option.replace('_', '-')} out"):
            command.export(tiny_checkpoint, format="tensorrt-rtx", out=tmp_path / "o", **{option: True})
    assert not (tmp_path / "o").exists()


def test_options_that_contradict_each_other_are_told_before_a_name_that_is_taken(tiny_checkpoint, tmp_path):
    (tmp_path / "tiny-tensorrt-fp16").touch()
    with pytest.raises(InputError, match="--min-batch 3 is more than --batch 2"):
        command.export(tiny_checkpoint, format="tensorrt", on_device=True, batch=2, min_batch=3, out=tmp_path)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"format": "tensorrt-rtx", "attention": "plugin"}, "takes no plugins"),
        ({"format": "tensorrt-rtx", "nms": 0.5}, "cannot suppress boxes"),
        ({"format": "tensorrt", "attention": "plugin", "fp16": True, "fp32": True}, "computes in float16"),
        ({"format": "tensorrt", "workspace": float("nan")}, "--workspace"),
        ({"format": "tensorrt", "workspace": float("inf")}, "--workspace"),
    ],
    ids=str,
)
def test_what_no_device_can_do_is_refused_before_anything_is_made(tmp_path, tiny_checkpoint, options, says):
    with pytest.raises(InputError, match=says):
        command.export(tiny_checkpoint, on_device="workspace" not in options, out=tmp_path / "o", **options)
    assert not (tmp_path / "o").exists()


@pytest.mark.parametrize(
    ("format", "capability", "architectures", "runs"),
    [
        ("tensorrt", (7, 5), (), True),
        ("tensorrt-rtx", (8, 6), (), True),
        ("tensorrt-rtx", (7, 5), (), False),  # engines are for sm_80 and newer by themselves
        ("tensorrt-rtx", (7, 5), ("sm_75",), True),
        ("tensorrt-rtx", (8, 6), ("sm_89",), False),
    ],
)
def test_an_engine_for_other_gpus_is_not_run_here(monkeypatch, format, capability, architectures, runs):
    fakes.install(monkeypatch, flavor=format)
    gpu = FakeCuda(facts=DeviceFacts("a GPU", capability, False, 8 << 30, (12, 6)))
    monkeypatch.setattr(cuda_package, "open_cuda", lambda: gpu)
    assert runs_engines(format, architectures) == runs


@pytest.mark.parametrize(("portable", "compiled_for"), [(False, 87), (True, 80)])
@pytest.mark.filterwarnings("ignore:a warning")
def test_a_kernel_in_an_engine_for_other_gpus_is_for_all_of_them(
    here, tiny_onnx, tmp_path, scene_frames, monkeypatch, portable, compiled_for
):
    registered = []
    monkeypatch.delenv(PLUGIN_VARIABLE, raising=False)
    monkeypatch.setattr(ahead_of_time, "registered_ahead_of_time", registered.append)
    monkeypatch.setattr(cuda_package, "open_cuda", FakeCuda)
    options = BuildOptions(hardware_compatible=portable)
    maker = EngineMaker(form=TensorRtForm(attention="plugin"), options=options)
    maker.files(tiny_onnx.model_file.read_bytes(), tiny_onnx.manifest)
    assert registered == [compiled_for]


@pytest.mark.skipif(find_spec("tensorrt") is not None, reason="tensorrt is installed")
def test_without_the_library_the_device_can_build(tiny_checkpoint, tmp_path):
    with pytest.raises(MissingDependencyError, match=r"--on-device .* pip install 'yolo12edge\[tensorrt\]'"):
        command.export(tiny_checkpoint, format="tensorrt", out=tmp_path / "o")
    assert not (tmp_path / "o").exists()


def test_the_command_writes_what_it_says(tiny_checkpoint, tmp_path, capsys):
    command.export(tiny_checkpoint, format="tensorrt", fp16=True, fp32=True, on_device=True, out=tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {"tiny-tensorrt-fp16", "tiny-tensorrt-fp32"}
    printed = capsys.readouterr()
    assert "Export of tiny-tensorrt" in printed.out
    assert "builds its engine when a Runtime first opens" in printed.err.replace("\n", " ")


SELECTING = {"precision": "fp32", "candidates": 189}


@pytest.fixture
def here(monkeypatch):
    """A machine that builds and runs engines: TensorRT and CUDA are false ones."""
    module = fakes.install(monkeypatch)
    built = []

    def build(content, manifest, flavor, options, *, progress=None):
        built.append(manifest.precision)
        if progress is not None:
            progress(1000, 1000)
        spec = manifest.input
        batches = None if spec.min_batch is None else (spec.min_batch, spec.batch)
        layers = Layers(total=9, attention_blocks=8, fused_attention=8, precisions={"fp16": 9})
        return BuiltPlan(fakes.fake_plan(content, batches=batches), fakes.fake_facts(), layers, ("a warning",))

    monkeypatch.setattr(tensorrt_engine, "build_plan", build)
    monkeypatch.setattr(tensorrt_engine, "runs_engines", lambda format, architectures: True)
    module.built = built
    yield module
    gc.collect()
    module.check()


@pytest.mark.filterwarnings("ignore:a warning")
@pytest.mark.parametrize("form", [{}, {"batch": 2, "min_batch": 1, "uint8": True}, SELECTING], ids=str)
def test_an_engine_that_runs_here_is_compared_itself(here, tiny_onnx, tmp_path, scene_frames, form):
    maker = EngineMaker(form=TensorRtForm(**form))
    report = tensorrt_from_onnx(tiny_onnx, tmp_path / "t", maker, images=scene_frames[:2]).manifest.report
    assert report.layers.fused_attention == 8
    if "candidates" in form:
        assert report.parity is None  # its detections were compared
    else:
        assert 0 < report.parity.errors["scores"] < 0.2


@pytest.mark.filterwarnings("ignore:a warning")
def test_an_engine_that_was_compared_is_not_said_to_be_unseen(here, tiny_checkpoint, tmp_path, capsys):
    command.export(tiny_checkpoint, format="tensorrt", fp32=True, nms=0.7, out=tmp_path / "o")
    printed = capsys.readouterr().err.replace("\n", " ")
    assert "Written: " in printed
    assert "cannot run on this machine" not in printed


def test_what_the_builder_warns_of_is_passed_on(here, tiny_onnx, tmp_path, scene_frames):
    with pytest.warns(RuntimeWarning, match="a warning"):
        tensorrt_from_onnx(tiny_onnx, tmp_path / "t", EngineMaker(), images=scene_frames[:1])


@pytest.mark.filterwarnings("ignore:a warning")
@pytest.mark.parametrize("form", [{}, {"candidates": 189}], ids=str)
def test_an_engine_that_computes_something_else_is_not_written(
    here, tiny_onnx, tmp_path, scene_frames, monkeypatch, form
):
    plain = tensorrt_engine.build_plan

    def wrong(content, *arguments, **options):
        model = onnx.load_from_string(content)
        for item in model.graph.initializer:
            if item.name == "model.21.strides":
                item.CopyFrom(numpy_helper.from_array(5 * numpy_helper.to_array(item), item.name))
        return plain(model.SerializeToString(), *arguments, **options)

    monkeypatch.setattr(tensorrt_engine, "build_plan", wrong)
    maker = EngineMaker(form=TensorRtForm(precision="fp32", **form))
    with pytest.raises(VerificationError, match=r"differs from onnx|agree with the float model's to"):
        tensorrt_from_onnx(tiny_onnx, tmp_path / "t", maker, images=scene_frames[:1])
    assert not (tmp_path / "t").exists()


@pytest.mark.filterwarnings("ignore:a warning")
def test_int8_is_measured_beside_half_precision_on_the_engine(
    here, tiny_checkpoint, folder, tmp_path, capsys, quick, monkeypatch
):
    guard = importlib.import_module("yolo12edge.calibration.guard")
    monkeypatch.setattr(guard.Verdict, "holds", lambda self, allowed: True)
    batches = {"batch": 3, "min_batch": 2, "uint8": True}  # one image is no batch of this engine
    command.export(tiny_checkpoint, format="tensorrt", int8=True, data=folder, out=tmp_path / "out", **batches)
    assert here.built == ["fp16", "int8"]  # recipes were tried in the simulation
    report = Artifact.load(tmp_path / "out" / "tiny-tensorrt-int8").manifest.report
    assert not report.budget.simulated
    assert report.agreement.reference == "tiny-tensorrt-fp16"
    assert report.latency.reference == "tiny-tensorrt-fp16"
    assert report.latency.engine.startswith("tensorrt 10.3")
    assert report.layers.total == 9
    printed = capsys.readouterr()
    assert "engine, median; tensorrt 10.3" in printed.out
    assert "as fast as float" in printed.err.replace("\n", " ") or "slower than float" in printed.err


@pytest.mark.filterwarnings("ignore:a warning")
def test_the_budget_is_held_on_the_engine(here, tiny_onnx, tiny_checkpoint, folder, tmp_path, quick, monkeypatch):
    """What the simulation promises does not count where the engine itself can be asked: it is built anew each time."""
    guard = importlib.import_module("yolo12edge.calibration.guard")
    asked = []

    def holds(self, allowed):
        asked.append(allowed)
        return len(asked) >= 3

    monkeypatch.setattr(guard.Verdict, "holds", holds)
    monkeypatch.setattr(guard.Verdict, "known", True)  # the tiny model finds nothing
    with contextlib.suppress(typer.Exit):
        command.export(tiny_checkpoint, format="tensorrt", int8=True, data=folder, out=tmp_path / "out")
    manifest = Artifact.load(tmp_path / "out" / "tiny-tensorrt-int8").manifest
    assert manifest.calibration.float_groups
    assert here.built.count("int8") >= 3
