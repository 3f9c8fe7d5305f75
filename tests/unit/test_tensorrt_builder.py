"""How engines are built: what each version of TensorRT is told, and what every failure says."""

from __future__ import annotations

import os
import platform
import signal
import sys
from contextlib import nullcontext

import pytest
from onnx import TensorProto, helper

from tests.fakes.cuda import FakeCuda
from tests.fakes.tensorrt_build import (
    FakeBuild,
    QuickCreator,
    compiled_creator,
    small_manifest,
    small_model,
)
from yolo12edge.errors import BackendError, ExportError, InputError, MissingDependencyError
from yolo12edge.runtimes import cuda as cuda_package
from yolo12edge.runtimes.cuda.driver import DeviceFacts
from yolo12edge.runtimes.tensorrt_builder import BuildOptions, build_plan
from yolo12edge.runtimes.tensorrt_library import import_tensorrt, platform_name
from yolo12edge.runtimes.tensorrt_plugins import PLUGIN_VARIABLE

VERSIONS = ["10.3.0", "10.13.3", "11.1.0"]
PLUGIN = helper.make_node(
    "AreaAttention",
    ["y"],
    ["z"],
    name="model.6.m.0.0.attn.mixed.map",
    domain="yolo12edge",
    plugin_namespace="yolo12edge",
    plugin_version="1",
)
TURING = DeviceFacts("T4", (7, 5), False, 16 << 30, (12, 6))
JETSON = DeviceFacts("Orin", (8, 7), True, 8 << 30, (12, 6))


@pytest.fixture
def cuda():
    cuda = FakeCuda()
    yield cuda
    cuda.check()


@pytest.fixture
def install(monkeypatch, cuda):
    """Let ``import tensorrt`` give a fake of a version, and CUDA a fake device."""

    def install(version: str = "10.3.0", **changes) -> FakeBuild:
        trt = FakeBuild(version)
        for name, value in changes.items():
            setattr(trt, name, value)
        monkeypatch.setitem(sys.modules, "tensorrt", trt)
        monkeypatch.setattr(cuda_package, "open_cuda", lambda: cuda)
        return trt

    return install


def build(options: BuildOptions | None = None, *, model: bytes | None = None, progress=None, device=None, **manifest):
    return build_plan(
        model or small_model(),
        small_manifest(**manifest),
        "tensorrt",
        options or BuildOptions(),
        progress=progress,
        device=device,
    )


@pytest.mark.parametrize("version", VERSIONS)
def test_types_are_the_graphs_in_every_version(install, version):
    trt = install(version)
    built = build()
    # The flag is 1 << 1 in 10; in 11 it is deprecated, and nothing is set.
    assert trt.noted("network") == [0 if version.startswith("11") else 2]
    assert trt.noted("flag") == []
    assert trt.noted("profiling_verbosity") == [trt.ProfilingVerbosity.DETAILED]
    assert built.plan == trt.plan()
    assert "a warning of the builder" in built.warnings


@pytest.mark.parametrize("version", VERSIONS)
def test_facts_say_what_the_engine_was_built_with_and_for(install, version):
    install(version)
    facts = build().facts
    assert (facts.library, facts.version, facts.cuda) == ("tensorrt", version, "12.6")
    assert (facts.architectures, facts.platform, facts.plugins) == (["sm_87"], platform_name(), [])
    assert not facts.hardware_compatible
    assert not facts.version_compatible


def test_float32_is_not_rounded_to_tf32(install):
    trt = install()
    build(precision="fp16")
    assert trt.noted("cleared") == []
    build(precision="fp32")
    assert trt.noted("cleared") == ["TF32"]


def test_batches_come_from_the_manifest(install):
    trt = install()
    model = small_model(batch="n")
    build(model=model, batch=8, min_batch=2)
    build(BuildOptions(opt_batch=4), model=model, batch=8, min_batch=2)
    least, most = (2, 3, 8, 8), (8, 3, 8, 8)
    assert trt.noted("profile") == [{"images": (least, most, most)}, {"images": (least, (4, 3, 8, 8), most)}]
    build()
    assert len(trt.noted("profile")) == 2


@pytest.mark.parametrize(
    ("model", "manifest"),
    [({}, {"batch": 2}), ({}, {"batch": 2, "min_batch": 1}), ({"batch": "n"}, {}), ({"batch": 4}, {"batch": 2})],
)
def test_an_input_that_is_not_the_manifests_is_refused(install, model, manifest):
    trt = install()
    with pytest.raises(ExportError, match="not what its manifest says"):
        build(model=small_model(**model), **manifest)
    assert trt.noted("build") == []


def test_options_reach_the_library(install):
    trt = install()
    discrete = FakeCuda(facts=DeviceFacts("A100", (8, 0), False, 80 << 30, (13, 0))).open(0)
    options = BuildOptions(
        workspace_bytes=1 << 28, hardware_compatible=True, version_compatible=True, refit=True, optimization_level=5
    )
    facts = build(options, device=discrete).facts
    assert trt.noted("pool") == [("WORKSPACE", 1 << 28)]
    assert trt.noted("flag") == ["VERSION_COMPATIBLE", "REFIT"]
    assert trt.noted("hardware_compatibility_level") == [trt.HardwareCompatibilityLevel.AMPERE_PLUS]
    assert trt.noted("builder_optimization_level") == [5]
    assert trt.noted("engine_host_code_allowed") == [True]  # else its own runtime would not be read
    assert facts.hardware_compatible
    assert facts.version_compatible
    assert facts.architectures == ["sm_80"]
    discrete.close()


@pytest.mark.parametrize(
    ("options", "error", "says"),
    [
        ({"dla": 0}, BackendError, "DLA core 0.*attention.*leave dla out"),
        ({"architectures": ("sm_86",)}, BackendError, "for the GPU that it finds"),
        ({"workspace_bytes": 0}, InputError, "workspace_bytes is 0"),
        ({"workspace_bytes": 1 << 64}, InputError, "workspace_bytes is 18446744073709551616"),
        ({"optimization_level": 6}, InputError, "0 to 5"),
        ({"opt_batch": 2}, InputError, "opt_batch is 2"),
    ],
)
def test_options_that_are_not_to_be_had_are_refused(install, options, error, says):
    trt = install()
    with pytest.raises(error, match=says):
        build(BuildOptions(**options))
    assert trt.record == []


@pytest.mark.parametrize(("facts", "says"), [(TURING, "T4 is sm_75"), (JETSON, "on Jetson, which Orin is")])
def test_engines_for_other_gpus_need_one_that_can(install, facts, says):
    install()
    device = FakeCuda(facts=facts).open(0)
    with pytest.raises(BackendError, match=says):
        build(BuildOptions(hardware_compatible=True), device=device)
    device.close()


def test_timings_are_kept_for_the_next_build(install, tmp_path):
    trt = install()
    options = BuildOptions(timing_cache=tmp_path / "deep" / "timings")
    assert build(options).warnings == ("a warning of the builder",)
    assert options.timing_cache.read_bytes() == trt.cache_content
    assert build(options).warnings == ("a warning of the builder",)
    assert trt.noted("cache") == [b"", trt.cache_content]


@pytest.mark.parametrize("content", [b"timings of 8.6.1", bytes(range(64))], ids=["older", "noise"])
def test_timings_of_another_version_are_left_alone_and_replaced(install, tmp_path, content):
    trt = install()
    path = tmp_path / "timings"
    path.write_bytes(content)
    built = build(BuildOptions(timing_cache=path))
    assert "another GPU or version" in built.warnings[0]
    assert trt.noted("cache") == [b""]
    assert path.read_bytes() == trt.cache_content


def test_an_engine_is_not_lost_with_its_timings(install, tmp_path):
    install()
    (tmp_path / "file").write_bytes(b"")
    built = build(BuildOptions(timing_cache=tmp_path / "file" / "timings"))
    assert built.plan
    assert any("timing cache" in text for text in built.warnings)


def test_all_the_parser_objects_to_is_told_at_once(install):
    trt = install(parser_errors=[("model.9.bad", "Bad", "no\nimporter"), ("model.10.worse", "Worse", "no shape")])
    with pytest.raises(ExportError, match=r"model\.9\.bad \(Bad\): no importer; model\.10\.worse \(Worse\): no shape"):
        build()
    assert trt.noted("build") == []


@pytest.mark.parametrize("model", [b"", b"no onnx at all", small_model()[:-7]])
def test_what_is_no_onnx_is_refused_before_the_library_sees_it(install, model):
    trt = install()
    if not model:
        trt.parser_errors = [("", "", "no graph")]
    with pytest.raises(ExportError):
        build_plan(model, small_manifest(), "tensorrt")
    assert trt.noted("build") == []


@pytest.mark.parametrize(
    ("error", "says"),
    [
        ("Error Code 2: OutOfMemory (Requested size was 4294967296 bytes.)", "memory does not suffice.*workspace"),
        ("[defaultAllocator.cpp::allocate::31] Error Code 1: Cuda Runtime (out of memory)", "memory does not suffice"),
        ("composite_op->is_decomposable() ... not supported by a dedicated kernel", "no kernel for the model's att"),
        ("Cuda Runtime (cudaError 35: CUDA driver version is insufficient)", "an NVIDIA GPU and its driver.*on-device"),
        ("Could not find any implementation for node X", "could not build the engine.*node X"),
    ],
)
def test_a_build_that_fails_says_why_and_what_to_do(install, error, says):
    install(errors=["the cause is told first", error])
    with pytest.raises(BackendError, match=says):
        build()


@pytest.mark.parametrize(("limit", "says"), [(None, "give less workspace"), (1 << 20, "give more workspace")])
def test_too_little_memory_may_be_the_limit_that_was_given(install, limit, says):
    install(errors=["Error Code 2: OutOfMemory (Requested size was 15759280 bytes.)"])
    with pytest.raises(BackendError, match=says):
        build(BuildOptions(workspace_bytes=limit))


def test_without_a_driver_the_remedy_is_the_device(install):
    install(has_driver=False)
    with pytest.raises(BackendError, match=r"error: 35.*Remedy: build on the device"):
        build()


@pytest.mark.parametrize("fake", [FakeCuda(driver=False), FakeCuda(devices=0)])
def test_without_a_gpu_the_library_is_not_asked(install, monkeypatch, fake):
    trt = install()
    monkeypatch.setattr(cuda_package, "open_cuda", lambda: fake)
    with pytest.raises(BackendError, match=r"TensorRT cannot build an engine here.*Remedy: build on the device"):
        build()
    assert trt.record == []


def test_progress_only_grows_and_ends_with_all(install):
    install()
    seen: list[tuple[int, int]] = []
    build(progress=lambda done, total: seen.append((done, total)))
    # Steps of the inner phase are eighths of the outer; the first one was ended early.
    assert seen == [
        (125, 1000),
        (250, 1000),
        (375, 1000),
        (500, 1000),
        *((n, 1000) for n in (625, 750, 875, 999, 1000)),
    ]


@pytest.mark.parametrize("error", [ValueError("enough"), KeyboardInterrupt()])
def test_what_progress_raises_stops_the_build(install, error):
    trt = install()
    calls = []

    def progress(done: int, total: int) -> None:
        calls.append(done)
        if done >= 250:
            raise error

    with pytest.raises(type(error)) as caught:
        build(progress=progress)
    assert caught.value is error
    assert calls == [125, 250]
    assert trt.noted("read") == []


@pytest.fixture
def sigint():
    """The tests may be run where Ctrl-C is ignored, in the background of a shell."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.parametrize("ignored", [False, True])
def test_ctrl_c_stops_the_build_at_its_next_step_and_is_raised_then(install, sigint, ignored):
    trt = install()
    if ignored:
        signal.signal(signal.SIGINT, signal.SIG_IGN)
    before = signal.getsignal(signal.SIGINT)
    steps = []

    def build_on(monitor) -> bool:
        monitor.phase_start("Building engine", None, 4)
        os.kill(os.getpid(), signal.SIGINT)
        for step in range(4):
            steps.append(monitor.step_complete("Building engine", step))
            if not steps[-1]:
                return False
        return True

    trt.steps = build_on
    with nullcontext() if ignored else pytest.raises(KeyboardInterrupt):
        build()
    assert steps == ([True] * 4 if ignored else [False])
    assert signal.getsignal(signal.SIGINT) is before


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_only_attention_in_float32_may_be_computed_step_by_step(install, precision):
    trt = install("10.16.1")
    half = helper.make_node("Cast", ["images"], ["half"], to=TensorProto.FLOAT16)
    source = "half" if precision == "fp16" else "images"
    attention = helper.make_node("Attention", [source], ["z"], name="model.6.m.0.0.attn.attention")
    build(model=small_model(extra=[half, attention]))
    (layer,) = trt.noted("attention")
    assert layer.decomposable == (precision == "fp32")


def test_layers_are_told_of_an_engine_that_was_just_built(install):
    trt = install(layers=[{"Name": "_gemm_mha_v2_myl0_4", "LayerType": "kgen"}])
    layers = build().layers
    assert layers is not None
    assert (layers.total, layers.attention_blocks, layers.fused_attention) == (1, 1, 1)
    assert trt.noted("read") == [trt.plan()]
    trt.layers = []
    built = build()
    assert built.layers is None
    assert "tells no layers" in " ".join(built.warnings)


def test_an_engine_that_cannot_be_read_back_is_an_error(install):
    install(readable=False)
    with pytest.raises(BackendError, match="does not read the engine that it has built"):
        build()


def test_a_compiled_plugin_is_a_fact_of_the_engine(install):
    trt = install(creators=[compiled_creator()])
    assert build(model=small_model(extra=[PLUGIN])).facts.plugins == ["yolo12edge::AreaAttention"]
    assert trt.loaded == []


def test_a_plugin_whose_kernel_is_in_the_engine_is_not(install):
    install("10.13.3", creators=[QuickCreator()])
    assert build(model=small_model(extra=[PLUGIN])).facts.plugins == []


def test_a_plugin_that_is_missing_is_told_before_the_model_is_parsed(install, monkeypatch):
    trt = install()
    monkeypatch.delenv(PLUGIN_VARIABLE, raising=False)
    with pytest.raises(BackendError, match=PLUGIN_VARIABLE):
        build(model=small_model(extra=[PLUGIN]))
    assert trt.noted("network") == []


def test_a_device_that_is_given_is_left_open(install, cuda):
    install()
    device = cuda.open(0)
    build(device=device)
    assert not device.closed
    device.close()


class TestLibrary:
    def test_one_that_is_not_installed_names_its_extra(self, monkeypatch):
        monkeypatch.setitem(sys.modules, "tensorrt", None)
        with pytest.raises(MissingDependencyError, match=r"yolo12edge\[tensorrt\]"):
            import_tensorrt("tensorrt")

    def test_one_that_does_not_load_says_why(self, monkeypatch, tmp_path):
        (tmp_path / "tensorrt.py").write_text("raise OSError('libnvinfer.so.10: cannot open shared object file')")
        monkeypatch.syspath_prepend(tmp_path)
        monkeypatch.delitem(sys.modules, "tensorrt", raising=False)
        with pytest.raises(BackendError, match=r"does not load: libnvinfer\.so\.10.*JetPack"):
            import_tensorrt("tensorrt")

    @pytest.mark.parametrize("version", ["8.6.1", "10.2.0.19", "8.5.2.2"])
    def test_one_that_is_too_old_is_refused(self, install, version):
        install(version)
        with pytest.raises(BackendError, match=r"too old.*10\.3\.0 or newer.*JetPack 6\.1"):
            import_tensorrt("tensorrt")

    @pytest.mark.parametrize(("machine", "name"), [("AMD64", "x86_64"), ("x86_64", "x86_64"), ("arm64", "aarch64")])
    def test_processors_have_one_name_each(self, monkeypatch, machine, name):
        monkeypatch.setattr(platform, "machine", lambda: machine)
        assert platform_name().split("-")[1] == name
