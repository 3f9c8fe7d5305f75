"""True builds with TensorRT for RTX, which needs no GPU for them: what it takes, reports and refuses."""

from __future__ import annotations

import msgspec
import pytest
from onnx import TensorProto, helper

from tests.fakes.cuda import FakeCuda
from tests.fakes.tensorrt_build import small_manifest, small_model

pytest.importorskip("tensorrt_rtx", reason="tensorrt_rtx, which builds engines without a GPU, is not installed")

from yolo12edge.errors import ArtifactError, BackendError, ExportError
from yolo12edge.exporters.tensorrt_onnx import TensorRtForm, tensorrt_onnx
from yolo12edge.runtimes import cuda as cuda_package
from yolo12edge.runtimes.cuda.driver import DeviceFacts
from yolo12edge.runtimes.plan_file import check_plan, read_plan_header
from yolo12edge.runtimes.tensorrt_builder import BuildOptions, build_plan
from yolo12edge.runtimes.tensorrt_library import import_tensorrt, platform_name, version_of

ALL = ["sm_80", "sm_86", "sm_89", "sm_120", "sm_121"]


@pytest.fixture(autouse=True)
def no_gpu(monkeypatch):
    """Let the machine have none: what a GPU that is there would change is no part of these tests."""
    monkeypatch.setattr(cuda_package, "open_cuda", lambda: FakeCuda(driver=False))


def build(model: bytes | None = None, options: BuildOptions | None = None, *, progress=None, **manifest):
    own = small_manifest(precision="fp32", **manifest)
    return build_plan(model or small_model(), own, "tensorrt-rtx", options or BuildOptions(), progress=progress)


@pytest.mark.parametrize(
    "form",
    [
        TensorRtForm(),
        TensorRtForm(precision="fp32", attention="onnx"),  # does not build unless attention may be decomposed
        TensorRtForm(attention="onnx", batch=2, min_batch=1, uint8=True),
    ],
    ids=lambda form: f"{form.precision}-{form.attention}-{form.batch}",
)
def test_a_detector_builds(tiny_onnx, form):
    model, manifest = tensorrt_onnx(tiny_onnx.model_file.read_bytes(), tiny_onnx.manifest, form)
    built = build_plan(model, manifest, "tensorrt-rtx")
    assert read_plan_header(built.plan).library == "tensorrt-rtx"
    assert built.layers is None  # nothing here can open it
    assert (built.facts.architectures, built.facts.cuda, built.facts.platform) == (ALL, "", platform_name())


def test_the_header_of_a_plan_says_what_it_is():
    built = build()
    header = read_plan_header(built.plan)
    assert header.version is not None
    assert header.version[:3] == version_of(import_tensorrt("tensorrt-rtx"))
    assert built.facts.version == ".".join(map(str, header.version[:3]))
    for length in (0, 3, 31, 64, len(built.plan) // 2, len(built.plan) - 1):
        with pytest.raises(ArtifactError):
            read_plan_header(built.plan[:length])


def test_one_gpu_can_be_named():
    facts = build(options=BuildOptions(architectures=("sm_86",))).facts
    assert (facts.architectures, facts.hardware_compatible) == (["sm_86"], False)
    with pytest.raises(BackendError, match=r"does not build for sm_87.*sm_80, sm_86"):
        build(options=BuildOptions(architectures=("sm_87",)))


def test_a_plan_is_checked_by_its_facts_and_then_by_the_library():
    built = build()
    trt = import_tensorrt("tensorrt-rtx")
    orin, turing = (DeviceFacts("GPU", capability, False, 8 << 30, (13, 0)) for capability in ((8, 6), (7, 5)))
    with pytest.raises(ArtifactError, match=r"built for sm_80.*Expected: sm_75"):
        check_plan(built.plan, built.facts, trt=trt, device=turing)
    other = msgspec.structs.replace(built.facts, version="1.0.0")
    with pytest.raises(ArtifactError, match=r"Expected: 1\.0\.0, as its manifest says"):
        check_plan(built.plan, other, trt=trt, device=orin)


def test_batches_need_their_profile():
    model = small_model(batch="n")
    assert build(model, batch=4, min_batch=1).plan
    with pytest.raises(ExportError, match="not what its manifest says"):
        build(model, batch=4)


def test_an_operator_that_is_not_known_is_named_with_its_node():
    bad = helper.make_node("NoSuchOperator", ["y"], ["z"], name="model.9.bad")
    with pytest.raises(ExportError, match=r"model\.9\.bad \(NoSuchOperator\)"):
        build(small_model(extra=[bad]))


def test_what_would_end_the_process_or_has_no_kernel_is_refused_before_it_is_parsed():
    plugin = helper.make_node("AreaAttention", ["y"], ["z"], name="p", domain="yolo12edge")
    with pytest.raises(BackendError, match="takes no plugins"):
        build(small_model(extra=[plugin]))
    nms = helper.make_node("NonMaxSuppression", ["boxes", "scores"], ["z"], name="nms")
    with pytest.raises(ExportError, match="no kernel that suppresses"):
        build(small_model(extra=[nms]))


def test_attention_without_a_kernel_says_so():
    """One head in float16 has none, and only float32 may be computed step by step."""
    nodes = [
        helper.make_node("Cast", ["y"], ["half"], to=TensorProto.FLOAT16),
        helper.make_node("Constant", [], ["shape"], value_ints=[1, 1, 8, 32]),
        *(helper.make_node("Reshape", ["half", "shape"], [part]) for part in "qkv"),
        helper.make_node("Attention", ["q", "k", "v"], ["z"], name="model.6.attn.attention", scale=1.0),
    ]
    with pytest.raises(BackendError, match=r"no kernel for the model's attention.*--attention native"):
        build(small_model(extra=nodes, opset=23))


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"version_compatible": True}, "for one version"),
        ({"hardware_compatible": True}, "no such switch"),
        ({"refit": True}, "needs a GPU"),
        ({"dla": 0}, "DLA"),
    ],
)
def test_options_that_it_does_not_have_are_refused(options, says):
    with pytest.raises(BackendError, match=says):
        build(options=BuildOptions(**options))


def test_it_keeps_no_timings_and_says_so(tmp_path):
    built = build(options=BuildOptions(timing_cache=tmp_path / "timings"))
    assert "measures nothing" in built.warnings[0]
    assert not (tmp_path / "timings").exists()


def test_progress_grows_to_all():
    seen: list[int] = []
    build(progress=lambda done, total: seen.append(done))
    assert seen[-1] == 1000
    assert len(seen) > 5
    assert seen == sorted(set(seen))


def test_a_build_can_be_stopped():
    seen: list[int] = []

    def progress(done: int, total: int) -> None:
        seen.append(done)
        raise RuntimeError("enough")

    with pytest.raises(RuntimeError, match="enough"):
        build(progress=progress)
    assert len(seen) == 1
    assert build().plan  # and the library is none the worse
