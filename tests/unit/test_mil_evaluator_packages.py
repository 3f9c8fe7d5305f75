"""What the reference evaluator reads: packages of coremltools and of our exporter, damaged ones, and its backend."""

from __future__ import annotations

import struct
import subprocess
import sys
from contextlib import closing
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from yolo12edge.errors import ArtifactError, BackendError, ExportError, InputError, Yolo12EdgeError
from yolo12edge.exporters.mil_evaluator import MilBackend, MilProgram, missing_operators
from yolo12edge.runtimes.backend import TensorInfo

pytest.importorskip("coremltools", reason="needs coremltools")
pytest.importorskip("torch", reason="needs torch")

from tests.unit.mil_packages import MANIFEST, MODEL, WEIGHTS, files_in, written

WEIGHT = np.random.default_rng(0).standard_normal((8, 3, 3, 3)).astype(np.float32)
PIXELS = np.random.default_rng(1).integers(0, 256, (4, 6, 3)).astype(np.uint8)


def small(mb, x):
    x = mb.conv(x=x, weight=WEIGHT, pad_type="custom", pad=[1, 1, 1, 1], bias=np.arange(8, dtype=np.float32))
    return mb.reduce_sum(x=mb.silu(x=x), axes=[1], keep_dims=True)


def small_files() -> dict[str, bytes]:
    return written(small, {"x": ((1, 3, 4, 6), "fp32")})


def expected(x: np.ndarray) -> np.ndarray:
    """What ``small`` computes."""
    padded = np.pad(x.astype(np.float64), [(0, 0), (0, 0), (1, 1), (1, 1)])
    windows = np.lib.stride_tricks.sliding_window_view(padded, (3, 3), (2, 3))
    y = np.einsum("ncijkl,ockl->noij", windows, WEIGHT) + np.arange(8).reshape(1, 8, 1, 1)
    return (y / (1 + np.exp(-y))).sum(1, keepdims=True)


def converted(build, inputs, *, precision: str = "FLOAT32", shape=(1, 3, 4, 6), target: str = "iOS17", **options):
    """Return the package that ``coremltools.convert`` makes, passes and all."""
    from yolo12edge.exporters.coreml_library import import_coremltools, quietly

    ct = import_coremltools()
    from coremltools.converters.mil import Builder as mb

    version = getattr(ct.target, target)
    with quietly():

        @mb.program(input_specs=[mb.TensorSpec(shape=shape)], opset_version=version)
        def program(x):
            return build(mb, x)

        return ct.convert(
            program,
            convert_to="mlprogram",
            inputs=inputs(ct),
            compute_precision=getattr(ct.precision, precision),
            minimum_deployment_target=version,
            skip_model_load=True,
            **options,
        )


def files_of(model, folder: Path) -> dict[str, bytes]:
    model.save(str(folder / "m.mlpackage"))
    return files_in(folder / "m.mlpackage")


# What is read


@pytest.mark.parametrize(("precision", "error"), [("FLOAT32", 1e-5), ("FLOAT16", 4e-3)])
@pytest.mark.parametrize("layout", ["RGB", "BGR"])
def test_a_picture_is_scaled_and_ordered_as_the_package_says(tmp_path, precision, error, layout) -> None:
    def images(ct):
        return [
            ct.ImageType(
                name="x", shape=(1, 3, 4, 6), scale=1 / 128, bias=[-0.5, 0.25, 1], color_layout=ct.colorlayout[layout]
            )
        ]

    program = MilProgram.load(files_of(converted(small, images, precision=precision), tmp_path))
    assert program.inputs[0].color == layout
    (found,) = program.run({"x": PIXELS}).values()
    ordered = PIXELS if layout == "RGB" else PIXELS[..., ::-1]
    x = ordered.transpose(2, 0, 1)[None] / 128 + np.array([-0.5, 0.25, 1]).reshape(1, 3, 1, 1)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected(x), rtol=error, atol=error)
    with pytest.raises(InputError, match=r"the picture 'x' is uint8 \(6, 4, 3\)"):
        program.run({"x": np.ascontiguousarray(PIXELS.transpose(1, 0, 2))})
    with pytest.raises(InputError, match="the picture 'x' is float32"):
        program.run({"x": PIXELS.astype(np.float32)})


@pytest.mark.parametrize("target", ["iOS16", "iOS18"])
@pytest.mark.parametrize("how", ["palettized", "integers"])
def test_weights_that_coremltools_compressed(tmp_path: Path, how: str, target: str) -> None:
    import coremltools.optimize.coreml as cto

    from yolo12edge.exporters.coreml_library import quietly

    model = converted(small, lambda ct: None, precision="FLOAT16", target=target)
    with quietly():
        if how == "palettized":
            config = cto.OpPalettizerConfig(mode="uniform", nbits=6, weight_threshold=0)
            model = cto.palettize_weights(model, cto.OptimizationConfig(global_config=config))
        else:
            config = cto.OpLinearQuantizerConfig(mode="linear", weight_threshold=0)
            model = cto.linear_quantize_weights(model, cto.OptimizationConfig(global_config=config))
    (found,) = MilProgram.load(files_of(model, tmp_path)).run({"x": floats()}).values()
    wanted = expected(floats())
    difference = np.abs(found - wanted).max() / np.abs(wanted).max()
    assert 1e-5 < difference < 0.05  # compressed, and not something else


def floats() -> np.ndarray:
    return np.ascontiguousarray(PIXELS.transpose(2, 0, 1)[None] / np.float32(255))


def test_a_package_on_disk_and_in_memory_is_the_same(tmp_path: Path) -> None:
    files = small_files()
    for name, content in files.items():
        place = tmp_path / "m.mlpackage" / name
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(content)
    prefixed = {f"a/model.mlpackage/{name}": content for name, content in files.items()} | {"manifest.json": b"{}"}
    for source in (files, prefixed, tmp_path / "m.mlpackage"):
        np.testing.assert_allclose(MilProgram.load(source).run({"x": floats()})["out0"], expected(floats()), rtol=1e-5)


def test_missing_operators_are_named() -> None:
    files = written(lambda mb, x: mb.erf(x=mb.cumsum(x=x, axis=0)), {"x": ((2, 3), "fp32")})
    program = MilProgram.load(files)
    assert missing_operators(program) == ["cumsum", "erf"]
    assert missing_operators(MilProgram.load(small_files())) == []
    with pytest.raises(ExportError, match="cumsum, erf"):
        program.run({"x": np.zeros((2, 3), np.float32)})
    with pytest.raises(ExportError, match="cumsum, erf"):
        MilBackend(files)


def test_missing_compressed_constants_are_named() -> None:
    def build(mb, x):
        mask, data = np.uint8([0b101]), np.float32([1, 2])
        return mb.mul(x=x, y=mb.constexpr_sparse_to_dense(nonzero_data=data, mask=mask, shape=np.uint32([3])))

    assert missing_operators(MilProgram.load(written(build, {"x": ((3,), "fp32")}))) == ["constexpr_sparse_to_dense"]


def test_feeds_are_checked() -> None:
    program = MilProgram.load(small_files())
    for feeds, fact in (
        ({}, r"the feeds are \[\]"),
        ({"y": floats()}, r"the feeds are \['y'\]"),
        ({"x": floats()[:, :2]}, r"float32 \(1, 2, 4, 6\)"),
        ({"x": floats().astype(np.float64)}, "float64"),
    ):
        with pytest.raises(InputError, match=fact):
            program.run(feeds)


# What is refused


def edited(change) -> dict[str, bytes]:
    """Return a small package whose model was changed."""
    from coremltools.proto import Model_pb2

    files = small_files()
    model = Model_pb2.Model.FromString(files[MODEL])
    main = model.mlProgram.functions["main"]
    operations = main.block_specializations["CoreML7"].operations
    kinds = {op.type: op for op in operations}
    (kinds["weight"],) = (op for op in operations if op.attributes["val"].HasField("blobFileValue"))
    change(model, main, kinds)
    return {**files, MODEL: model.SerializeToString()}


def weight_of(ops):
    return ops["weight"].attributes["val"]


def set_offset(offset):
    return lambda model, main, ops: setattr(weight_of(ops).blobFileValue, "offset", offset)


def set_file(name):
    return lambda model, main, ops: setattr(weight_of(ops).blobFileValue, "fileName", name)


def set_size(model, main, ops) -> None:
    weight_of(ops).type.tensorType.dimensions[0].constant.size = 9


def set_type(number):
    return lambda model, main, ops: setattr(weight_of(ops).type.tensorType, "dataType", number)


def oversize(model, main, ops) -> None:
    ops["silu"].outputs[0].type.tensorType.dimensions[1].constant.size = 1 << 40


def unknown_name(model, main, ops) -> None:
    ops["silu"].inputs["x"].arguments[0].name = "nobody"


def own_name(model, main, ops) -> None:
    ops["silu"].inputs["x"].arguments[0].name = ops["silu"].outputs[0].name


def twice(model, main, ops) -> None:
    ops["silu"].outputs[0].name = "x"


def no_output(model, main, ops) -> None:
    main.block_specializations["CoreML7"].outputs[0] = "nobody"


def other_description(model, main, ops) -> None:
    model.description.output[0].type.multiArrayType.dataType = 65552  # float16


def other_function(model, main, ops) -> None:
    model.mlProgram.functions["other"].CopyFrom(main)
    del model.mlProgram.functions["main"]


def a_pipeline(model, main, ops) -> None:
    model.pipeline.models.add()


@pytest.mark.parametrize(
    ("change", "fact"),
    [
        (set_offset(0), "there can be no weights at 0"),
        (set_offset(63), "there can be no weights at 63"),
        (set_offset(128), "there are no weights at 128"),
        (set_offset(1 << 62), "there can be no weights"),
        (set_file("@model_path/weights/other.bin"), "has no file"),
        (set_file("@model_path/../../../etc/passwd"), "names a file"),
        (set_file("/etc/passwd"), "weights are said to lie in '/etc/passwd'"),
        (set_size, "243 elements of fp32 are said to lie in 864 bytes"),
        (set_type(10), r"are of type 2. Expected: 1 \(fp16\)"),
        (set_type(77), "cannot be decoded|element type 77 is not known"),
        (set_type(40), "element type 40 is not known here"),
        (oversize, "at most"),
        (unknown_name, "'nobody', which does not exist"),
        (own_name, "'silu_[0-9]+', which does not exist"),
        (twice, "'x' is defined twice"),
        (no_output, "it describes the outputs"),
        (other_description, "'out0' is described as fp16"),
        (other_function, r"functions \['other'\]"),
        (a_pipeline, "of the kind pipeline"),
    ],
)
def test_models_that_cannot_be(change, fact: str) -> None:
    with pytest.raises(ArtifactError, match=fact):
        MilProgram.load(edited(change))


def test_results_that_were_not_declared() -> None:
    def other_shape(model, main, ops):
        ops["silu"].outputs[0].type.tensorType.dimensions[1].constant.size = 7

    def other_type(model, main, ops):
        ops["silu"].outputs[0].type.tensorType.dataType = 10

    for change, found in (
        (other_shape, r"gives 'silu_[0-9]+' as fp32 \[1, 8, 4, 6\]. Expected: fp32 \[1, 7, 4, 6\]"),
        (other_type, r"gives 'silu_[0-9]+' as fp32 .* Expected: fp16"),
    ):
        with pytest.raises(ExportError, match=found):
            MilProgram.load(edited(change)).run({"x": floats()})


@pytest.mark.parametrize(
    ("name", "content", "fact"),
    [
        (MANIFEST, b"{", "does not name a model"),
        (MANIFEST, b"[]", "does not name a model"),
        (MANIFEST, b'{"itemInfoEntries": {"a": {"path": "../x"}}, "rootModelIdentifier": "a"}', "names a file"),
        (MODEL, b"\xff" * 40, "cannot be decoded"),
        (MODEL, b"", "of the kind None"),
        (WEIGHTS, b"", "is no weight file"),
        (WEIGHTS, bytes(64), "is no weight file"),
    ],
)
def test_files_that_cannot_be(name: str, content: bytes, fact: str) -> None:
    with pytest.raises(ArtifactError, match=fact):
        MilProgram.load({**small_files(), name: content})


def test_there_must_be_one_package(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match="there are 0 CoreML packages"):
        MilProgram.load({})
    with pytest.raises(ArtifactError, match="there are 2 CoreML packages"):
        MilProgram.load({"a.mlpackage/Manifest.json": b"{}", "b.mlpackage/Manifest.json": b"{}"})
    with pytest.raises(ArtifactError, match="is no CoreML package"):
        MilProgram.load(tmp_path / "absent.mlpackage")
    with pytest.raises(ArtifactError, match=r"cannot read 'Manifest.json'"):
        MilProgram.load(tmp_path)


def test_weights_that_were_cut_off() -> None:
    files = small_files()
    for length in (64, 100, 128, 500, 128 + 864 - 1):
        with pytest.raises(ArtifactError, match="CoreML package is damaged"):
            MilProgram.load({**files, WEIGHTS: files[WEIGHTS][:length]})
    MilProgram.load({**files, WEIGHTS: files[WEIGHTS][: 128 + 864]})


def test_metadata_of_weights_that_cannot_be() -> None:
    files = small_files()
    for at, form, value in ((68, "<I", 9), (72, "<Q", 1 << 63), (80, "<Q", 0), (80, "<Q", 192), (80, "<Q", 129)):
        content = bytearray(files[WEIGHTS])
        struct.pack_into(form, content, at, value)
        with pytest.raises(ArtifactError, match="CoreML package is damaged"):
            MilProgram.load({**files, WEIGHTS: bytes(content)})


def quantized(mb, x):
    """Every kind of parameter: whole numbers, texts, flags, palettes, integers."""
    keys = np.arange(24).astype(np.uint8)
    table = np.linspace(-1, 1, 16, dtype=np.float32)
    packed = (keys[::2] % 16 | keys[1::2] % 16 << 4).astype(np.uint8)
    weight = mb.constexpr_lut_to_dense(indices=packed, lut=table, shape=np.uint32([4, 3, 1, 2]))
    x = mb.dequantize(input=mb.quantize(input=x, scale=np.float32(0.1), output_dtype="int8"), scale=np.float32(0.1))
    x = mb.conv(x=x, weight=weight, pad_type="same", strides=[2, 1])
    x = mb.max_pool(x=x, kernel_sizes=[2, 2], pad_type="custom", pad=[0, 1, 1, 0], ceil_mode=False)
    x = mb.upsample_nearest_neighbor(x=x, scale_factor_height=2.0, scale_factor_width=1.5)
    x = mb.slice_by_index(x=x, begin=[0, 1, 0, 0], end=[1, 4, 0, 0], end_mask=[False, False, True, True])
    first, last = mb.split(x=x, axis=1, split_sizes=[1, 2])
    x = mb.softmax(x=mb.concat(values=[first, last], axis=1), axis=-1)
    x = mb.transpose(x=mb.reshape(x=x, shape=[3, -1]), perm=[1, 0])
    return mb.gather(x=mb.matmul(x=x, y=x, transpose_y=True), indices=np.int32([1, 0]), axis=0)


@cache
def fuzzed() -> dict[str, bytes]:
    return written(quantized, {"x": ((1, 3, 4, 6), "fp32")})


@settings(max_examples=400)
@given(
    name=st.sampled_from([MODEL, MODEL, MODEL, WEIGHTS]),
    edits=st.lists(st.tuples(st.integers(0, 1 << 20), st.integers(0, 255)), min_size=1, max_size=4),
    length=st.one_of(st.none(), st.integers(0, 1 << 20)),
)
def test_damaged_bytes_give_our_errors(name: str, edits: list[tuple[int, int]], length: int | None) -> None:
    content = bytearray(fuzzed()[name])
    for place, value in edits:
        content[place % len(content)] = value
    if length is not None:
        del content[length % len(content) :]
    try:
        MilProgram.load({**fuzzed(), name: bytes(content)}).run({"x": floats()})
    except Yolo12EdgeError:
        return


# The backend


def test_the_backend_maps_tensors(tmp_path: Path) -> None:
    with closing(MilBackend(small_files())) as backend:
        assert (backend.name, backend.device, backend.parallel) == ("coreml (simulated)", "cpu (simulated)", 1)
        assert backend.inputs == (TensorInfo("x", (1, 3, 4, 6), "float32"),)
        assert backend.outputs == (TensorInfo("out0", (1, 1, 4, 6), "float32"),)
        np.testing.assert_allclose(backend.infer({"x": floats()})["out0"], expected(floats()), rtol=1e-5)
        with pytest.raises(BackendError, match="the feeds are"):
            backend.infer({})
        with pytest.raises(BackendError, match=r"\(2, 3, 4, 6\)"):
            backend.infer({"x": np.repeat(floats(), 2, 0)})
    with pytest.raises(BackendError, match="is closed"):
        backend.infer({"x": floats()})


def test_the_backend_takes_pictures(tmp_path: Path) -> None:
    model = converted(small, lambda ct: [ct.ImageType(name="x", shape=(1, 3, 4, 6), scale=1 / 255)])
    backend = MilBackend(files_of(model, tmp_path))
    assert backend.inputs == (TensorInfo("x", (1, 4, 6, 3), "uint8"),)
    (found,) = backend.infer({"x": PIXELS[None]}).values()
    np.testing.assert_allclose(found, expected(floats()), rtol=1e-5)


def test_shapes_that_may_vary(tmp_path: Path) -> None:
    def some(ct):
        return [ct.TensorType(name="x", shape=ct.Shape((ct.RangeDim(1, 3), 3, 4, 6)))]

    from coremltools.converters.mil.mil import get_new_symbol

    backend = MilBackend(files_of(converted(small, some, shape=(get_new_symbol(), 3, 4, 6)), tmp_path))
    assert backend.inputs == (TensorInfo("x", (None, 3, 4, 6), "float32"),)
    (output,) = backend.outputs
    assert (output.shape, output.dtype) == ((None, 1, 4, 6), "float32")
    batch = np.concatenate([floats(), floats()[..., ::-1], floats() * 2])
    np.testing.assert_allclose(backend.infer({"x": batch})[output.name], expected(batch), rtol=1e-5)
    with pytest.raises(BackendError, match=r"\(4, 3, 4, 6\)"):
        backend.infer({"x": np.repeat(floats(), 4, 0)})


def test_sizes_that_are_listed(tmp_path: Path) -> None:
    def some(ct):
        sizes = ct.EnumeratedShapes([[1, 3, 4, 6], [1, 3, 6, 4]], default=[1, 3, 4, 6])
        return [ct.ImageType(name="x", shape=sizes, scale=1 / 255)]

    from coremltools.converters.mil.mil import get_new_symbol

    shape = (1, 3, get_new_symbol(), get_new_symbol())
    files = files_of(converted(small, some, shape=shape), tmp_path)
    assert MilBackend(files).inputs == (TensorInfo("x", (1, 4, 6, 3), "uint8"),)
    program = MilProgram.load(files)
    turned = np.ascontiguousarray(PIXELS.transpose(1, 0, 2))
    for pixels in (PIXELS, turned):
        (found,) = program.run({"x": pixels}).values()
        np.testing.assert_allclose(found, expected(pixels.transpose(2, 0, 1)[None] / 255), rtol=1e-5)
    with pytest.raises(InputError, match="the picture"):
        program.run({"x": np.zeros((6, 6, 3), np.uint8)})


# Whole models


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_a_detector_agrees_with_onnx_runtime(tiny_onnx, scene_frames, precision: str) -> None:
    from yolo12edge.exporters.coreml_package import CoremlForm, coreml_files, coreml_manifest
    from yolo12edge.exporters.verify import check_half_parity, check_parity, compare_with_onnx
    from yolo12edge.runtimes import Runtime

    form = CoremlForm(precision=precision)
    manifest = coreml_manifest(tiny_onnx.manifest, form)
    backend = MilBackend(coreml_files(tiny_onnx.model_file.read_bytes(), manifest, form))
    parity, rounding = compare_with_onnx(tiny_onnx.model_file, backend, manifest, scene_frames[:2])
    (check_parity if precision == "fp32" else check_half_parity)(parity, rounding=rounding)
    with Runtime.of(backend, manifest) as simulated, Runtime(tiny_onnx.path) as reference:
        assert simulated.engine == "coreml (simulated)"
        if precision == "fp32":
            found, wanted = simulated(scene_frames[0]), reference(scene_frames[0])
            assert len(wanted.xyxy)
            np.testing.assert_allclose(found.xyxy, wanted.xyxy, atol=0.05)


def test_reading_says_nothing(tmp_path: Path) -> None:
    for name, content in small_files().items():
        place = tmp_path / "m.mlpackage" / name
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(content)
    code = (
        "import sys; from pathlib import Path; from yolo12edge.exporters.mil_evaluator import MilProgram;"
        "assert 'torch' not in sys.modules and 'coremltools' not in sys.modules;"
        "print(MilProgram.load(Path(sys.argv[1])).opset)"
    )
    command = [sys.executable, "-c", code, str(tmp_path / "m.mlpackage")]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr) == ("7\n", "")
