"""Every task goes into every ONNX-based form: typed for TensorRT, half precision, OpenVINO and INT8."""

from __future__ import annotations

from contextlib import ExitStack, closing
from functools import cache
from importlib.util import find_spec

import cv2
import msgspec
import numpy as np
import pytest

from yolo12edge.calibration.graph import group_of, head_last
from yolo12edge.calibration.images import images_of_folder
from yolo12edge.calibration.observe import observe
from yolo12edge.calibration.placement import float_convolutions
from yolo12edge.calibration.quantize import Quantizer
from yolo12edge.calibration.recipe import Recipe
from yolo12edge.errors import InputError, VerificationError
from yolo12edge.exporters import onnx_fp16_from_onnx, openvino_from_onnx
from yolo12edge.exporters.int8_maker import count_integer_convolutions
from yolo12edge.exporters.openvino_ir import count_int8_convolutions
from yolo12edge.exporters.tensorrt_onnx import TensorRtForm, tensorrt_onnx
from yolo12edge.exporters.verify import check_parity, compare_with_onnx, feeds_of, measure_parity
from yolo12edge.preprocess import Preprocessor
from yolo12edge.runtimes.ort_backend import OrtBackend

TASKS = ("segment", "pose", "obb", "classify")
FORMS = {
    "native": TensorRtForm(precision="fp32"),
    "operator in a batch": TensorRtForm(precision="fp32", attention="onnx", batch=3),
    "pixels in any batch": TensorRtForm(precision="fp32", batch=4, min_batch=1, uint8=True),
}
CANDIDATES = 40
LAST = {
    "segment": {"cv2", "cv3", "cv4", "proto"},
    "pose": {"cv2", "cv3", "cv4"},
    "obb": {"cv2", "cv3", "cv4"},
    "classify": {"linear"},
}


@pytest.fixture(scope="module")
def quantizers(tiny_onnx_of, scene_frames, tmp_path_factory):
    """By task, what makes INT8 models of the tiny one."""
    folder = tmp_path_factory.mktemp("calibration")
    for index, frame in enumerate(scene_frames[:3]):
        cv2.imwrite(str(folder / f"{index}.png"), frame)
    images = images_of_folder(folder)

    def quantizer(task):
        artifact = tiny_onnx_of(task)
        model = artifact.model_file.read_bytes()
        return Quantizer(model, observe(model, images, artifact.manifest.input, threads=1))

    return {task: quantizer(task) for task in TASKS}


@pytest.fixture(scope="module")
def references(tiny_onnx_of, scene_frames):
    """A function from a task to its tiny model, opened once, and how far that is from itself by rounding."""
    with ExitStack() as opened:

        @cache
        def reference(task):
            source = tiny_onnx_of(task)
            engine = opened.enter_context(closing(OrtBackend(source.model_file, device="cpu")))
            _, rounding = compare_with_onnx(source.model_file, engine, source.manifest, scene_frames[:2])
            return engine, rounding

        yield reference


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("task", TASKS)
def test_typed_onnx_gives_what_its_source_gives(task, form, references, tiny_onnx_of, scene_frames):
    source = tiny_onnx_of(task)
    content, manifest = tensorrt_onnx(source.model_file.read_bytes(), source.manifest, FORMS[form])
    assert {output.shape[0] for output in manifest.outputs} == {FORMS[form].batch}
    with closing(OrtBackend(content, device="cpu")) as typed:
        found = typed.infer(feeds_of(manifest.input, scene_frames[0])[0])
        assert {output.name: output.shape for output in manifest.outputs} == {
            name: value.shape for name, value in found.items()
        }
        reference, rounding = references(task)
        parity = measure_parity(reference.infer, typed.infer, manifest, scene_frames[:2], source="onnx")
        check_parity(parity, rounding=rounding)


@pytest.mark.parametrize("task", ["segment", "pose", "obb"])
def test_all_that_belongs_to_a_candidate_is_chosen_with_it(task, tiny_onnx_of, scene_frames):
    source = tiny_onnx_of(task)
    content, manifest = tensorrt_onnx(
        source.model_file.read_bytes(), source.manifest, TensorRtForm(precision="fp32", candidates=CANDIDATES)
    )
    feeds = feeds_of(source.manifest.input, scene_frames[0])[0]
    with (
        closing(OrtBackend(source.model_file, device="cpu", optimize=False)) as whole,
        closing(OrtBackend(content, device="cpu", optimize=False)) as chosen,
    ):
        expected, found = whole.infer(feeds), chosen.infer(feeds)
    best = np.argsort(-expected["scores"][0].max(0), kind="stable")[:CANDIDATES]
    for output in manifest.outputs:
        value = expected[output.name]
        if output.role != "prototypes":
            value = value[:, :, best]
            assert output.shape[-1] == CANDIDATES
        np.testing.assert_allclose(found[output.name], value, rtol=1e-3, atol=1e-2, err_msg=output.role)


def test_a_graph_suppresses_or_chooses_only_what_it_can(tiny_onnx_of):
    def typed(task, **form):
        source = tiny_onnx_of(task)
        return tensorrt_onnx(source.model_file.read_bytes(), source.manifest, TensorRtForm(**form))

    with pytest.raises(InputError, match="classifies has no candidates"):
        typed("classify", candidates=CANDIDATES)
    for task in ("segment", "pose", "obb"):
        with pytest.raises(InputError, match=f"the task is {task}"):
            typed(task, candidates=CANDIDATES, nms_iou=0.5)


@pytest.mark.parametrize("task", TASKS)
def test_half_precision_computes_in_half_and_decodes_in_float(task, tiny_onnx_of, scene_frames, tmp_path):
    source = tiny_onnx_of(task)
    half = onnx_fp16_from_onnx(source, tmp_path / "half", images=scene_frames[:1])
    errors = half.manifest.report.parity.errors
    assert all(error > 0 for error in errors.values())  # else it did not compute in half precision
    assert {"visibility", "keypoints"} <= set(errors) if task == "pose" else set(errors) == roles_of(source)


def roles_of(artifact):
    return {output.role for output in artifact.manifest.outputs}


@pytest.mark.parametrize("task", TASKS)
def test_openvino_is_held_to_onnx(task, tiny_onnx_of, scene_frames, tmp_path):
    artifact = openvino_from_onnx(tiny_onnx_of(task), tmp_path / "ov", images=scene_frames[:1])
    assert artifact.manifest.task == task
    assert set(artifact.manifest.report.parity.errors) - {"visibility"} == roles_of(artifact)


@pytest.mark.skipif(find_spec("coremltools") is None, reason="coremltools is not installed")
@pytest.mark.parametrize("task", TASKS)
def test_core_ml_decodes_places_in_float(task, tiny_onnx_of, scene_frames, tmp_path):
    from yolo12edge.exporters.coreml_export import coreml_from_onnx
    from yolo12edge.exporters.coreml_package import CoremlForm
    from yolo12edge.exporters.coreml_suppression import coreml_pipeline

    source = tiny_onnx_of(task)
    if task == "obb":  # has all operators that decode places
        whole = coreml_from_onnx(source, tmp_path / "whole", CoremlForm(precision="fp32"), images=scene_frames[:1])
        assert set(whole.manifest.report.parity.errors) == roles_of(source)
    half = coreml_from_onnx(source, tmp_path / "half", CoremlForm(), images=scene_frames[:1])
    errors = half.manifest.report.parity.errors
    assert set(errors) - {"visibility"} == roles_of(source)
    # What float32 leaves: it did compute in half precision.
    assert all(errors[role] > 3 * error for role, error in source.manifest.report.parity.errors.items())
    with pytest.raises(InputError, match=f"the task is {task}"):
        coreml_pipeline(half, tmp_path / "nms.mlpackage")


@pytest.mark.parametrize("task", TASKS)
def test_what_the_outputs_come_out_of_stays_float(task, quantizers):
    quantizer = quantizers[task]
    for target in ("ort-x86-vnni", "openvino-vnni", "tensorrt", "coreml"):
        placement = quantizer.placement(Recipe(target))
        kept = float_convolutions(quantizer.graph, placement)
        last = [name for name in kept if head_last(name)]
        assert {part for name in last for part in LAST[task] if f".{part}" in name} == LAST[task]
        produced = {name for node in quantizer.graph.nodes if head_last(node.name) for name in node.output}
        assert not produced & set(placement.reads)
    assert all(group_of(name) is None for name in last)


@pytest.mark.parametrize("task", TASKS)
def test_int8_runs_in_integers_and_stays_near_float(task, quantizers, references, tiny_onnx_of, scene_frames):
    quantizer, spec = quantizers[task], tiny_onnx_of(task).manifest.input
    feeds = {spec.name: Preprocessor(spec)(scene_frames[0])[0]}
    expected = references(task)[0].infer(feeds)
    counts = {"ort-x86": count_integer_convolutions}
    if task in ("segment", "classify"):  # the heads of the others are like segment's
        counts["openvino"] = lambda model: count_int8_convolutions(model)[0]
    for target, count in counts.items():
        content = quantizer(Recipe(target))
        assert count(content) >= len(quantizer.placement(Recipe(target)).weights)
        with closing(OrtBackend(content, device="cpu")) as engine:
            found = engine.infer(feeds)
        for name, value in expected.items():  # of the decoded values, a few per cent; random weights amplify the rest
            share = np.abs(found[name] - value).mean() / np.abs(value - value.mean()).mean()
            assert share < 0.5, (target, name)


def test_the_upsampling_of_prototypes_moves_bytes(quantizers):
    quantizer = quantizers["segment"]
    upsampling = next(node for node in quantizer.graph.nodes if node.op_type == "DepthToSpace")
    assert (upsampling.input[0], upsampling.output[0]) in quantizer.placement(Recipe("ort-x86")).same_scale
    assert group_of(upsampling.name) == "model.21.proto"


def test_the_third_value_of_keypoints_is_measured_by_itself(references, tiny_onnx_of, scene_frames):
    infer = references("pose")[0].infer

    def wrong(feeds):
        outputs = {name: value.copy() for name, value in infer(feeds).items()}
        outputs["keypoints"][0, 5, 7] += 0.01  # the second point's
        return outputs

    parity = measure_parity(infer, wrong, tiny_onnx_of("pose").manifest, scene_frames[:1], source="itself")
    assert parity.errors == {
        "boxes": 0,
        "scores": 0,
        "keypoints": 0,
        "visibility": pytest.approx(0.01, abs=1e-4),
    }
    with pytest.raises(VerificationError, match=r"visibility by up to 0\.01"):
        check_parity(parity)


def test_a_manifest_of_another_task_is_refused(tiny_onnx_of):
    from yolo12edge.errors import ArtifactError

    manifest = msgspec.structs.replace(tiny_onnx_of("obb").manifest, task="segment")
    with pytest.raises(ArtifactError, match="outputs"):
        manifest.check()
