"""Models that another tool exported: they run, or say why not; what they say of themselves may be anything."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
import yaml
from hypothesis import example, given, settings
from hypothesis import strategies as st

from yolo12edge.artifact import read_embedded_manifest, read_lone_manifest, write_artifact
from yolo12edge.errors import ArtifactError, InputError
from yolo12edge.foreign_metadata import metadata_of, read_metadata_yaml
from yolo12edge.onnx_signature import read_onnx_signature
from yolo12edge.runtimes import Runtime

SIDE = 32
NAMES = {0: "cat", 1: "dog's"}
# As Ultralytics writes it into an ONNX file: all values are text, containers as Python prints them.
METADATA = {
    "description": "a model",
    "author": "Ultralytics",
    "date": "2026-01-02T03:04:05.678901+00:00",
    "version": "8.4.0",
    "license": "AGPL-3.0 License (https://ultralytics.com/license)",
    "stride": "32",
    "task": "detect",
    "batch": "1",
    "imgsz": f"[{SIDE}, {SIDE}]",
    "names": repr(NAMES),
    "args": "{'nms': None, 'dynamic': False}",
    "channels": "3",
    "end2end": "False",
}
# Centre x, centre y, width, height, then two classes; three candidates, of which the second is not sure enough.
OUTPUT = np.array([[10, 20, 16], [8, 20, 16], [4, 8, 32], [6, 8, 32], [0.9, 0.1, 0.0], [0.0, 0.1, 0.6]], np.float32)[
    None
]


def write_onnx(
    path: Path,
    *,
    output: np.ndarray = OUTPUT,
    shape: tuple[Any, ...] = (1, 3, SIDE, SIDE),
    dtype: type = np.float32,
    half: bool = False,
    quantized: bool = False,
    **metadata: str | None,
) -> Path:
    """Write a model that gives a fixed tensor, whatever it sees."""
    import onnx
    from onnx import helper, numpy_helper

    kind = helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
    weights = [
        numpy_helper.from_array(output.astype(dtype), "fixed"),
        numpy_helper.from_array(np.zeros(1, dtype), "nil"),
    ]
    nodes = [
        helper.make_node("ReduceMean", ["images"], ["mean"], keepdims=0),
        helper.make_node("Mul", ["mean", "nil"], ["none"]),
        helper.make_node("Add", ["fixed", "none"], ["output0"]),
    ]
    if half:
        weights.append(numpy_helper.from_array(np.zeros(1, np.float16), "small"))
        nodes.append(helper.make_node("Cast", ["small"], ["unused"], to=1))
    if quantized:
        weights += [numpy_helper.from_array(np.float32(1), "scale"), numpy_helper.from_array(np.int8(0), "zero")]
        nodes.append(helper.make_node("QuantizeLinear", ["mean", "scale", "zero"], ["unused"]))
    values = [helper.make_tensor_value_info("images", kind, shape)]
    results = [helper.make_tensor_value_info("output0", kind, output.shape if None not in shape else ["a", "b", "c"])]
    graph = helper.make_graph(nodes, "g", values, results, weights)
    model = helper.make_model(graph, ir_version=8, opset_imports=[helper.make_opsetid("", 17)])
    for key, value in {**METADATA, **metadata}.items():
        if value is not None:
            model.metadata_props.add(key=key, value=value)
    onnx.save(model, path)
    return path


def write_openvino(folder: Path, *, name: str = "", metadata: dict[str, Any] | None = None) -> Path:
    """Write the same model as Ultralytics writes OpenVINO: a folder, no name for the output, ``metadata.yaml``."""
    from yolo12edge.runtimes.openvino_library import import_openvino

    ov = import_openvino()
    folder.mkdir()
    model = ov.Core().read_model(write_onnx(folder / "source.onnx"))
    model.outputs[0].get_tensor().set_names({name} if name else set())
    ov.save_model(model, folder / "cat.xml", compress_to_fp16=False)
    (folder / "source.onnx").unlink()
    content = {**METADATA, "stride": 32, "batch": 1, "imgsz": [SIDE, SIDE], "names": NAMES, "end2end": False}
    (folder / "metadata.yaml").write_text(yaml.safe_dump({**content, "channels": 3, **(metadata or {})}))
    return folder


def check_detections(runtime: Runtime) -> None:
    with runtime:
        found = runtime(np.zeros((SIDE, 2 * SIDE, 3), np.uint8))  # halved, with 8 rows of padding above and below
    assert found.class_id.tolist() == [0, 1]
    np.testing.assert_allclose(found.confidence, [0.9, 0.6], rtol=1e-6)
    assert found.xyxy.tolist() == [[16, 0, 24, 6], [0, 0, 64, 32]]


def test_onnx_runs(tmp_path: Path) -> None:
    runtime = Runtime(write_onnx(tmp_path / "a.onnx"))
    assert runtime.manifest.class_names == ["cat", "dog's"]
    assert runtime.manifest.foreign
    check_detections(runtime)


@pytest.mark.parametrize("name", ["", "output0", "other"])
def test_openvino_runs_as_a_folder_and_as_a_file(tmp_path: Path, name: str) -> None:
    folder = write_openvino(tmp_path / "cat_openvino_model", name=name)
    check_detections(Runtime(folder))
    check_detections(Runtime(str(folder / "cat.xml")))
    (folder / "second.xml").write_text("")
    with pytest.raises(ArtifactError, match=r"holds 2 \.xml files"):
        Runtime(folder)


def test_openvino_needs_what_lies_beside_it(tmp_path: Path) -> None:
    folder = write_openvino(tmp_path / "a")
    (folder / "metadata.yaml").rename(tmp_path / "metadata.yaml")
    with pytest.raises(ArtifactError, match=r"carries no yolo12edge manifest.*metadata\.yaml"):
        Runtime(folder / "cat.xml")
    with pytest.raises(ArtifactError, match=r"no manifest\.json.*it holds cat\.xml"):
        Runtime(folder)
    (tmp_path / "metadata.yaml").rename(folder / "metadata.yaml")
    (folder / "cat.bin").unlink()
    with pytest.raises(ArtifactError, match=r"cannot read .*cat\.bin"):
        Runtime(folder)


def test_an_empty_source_is_not_the_working_directory() -> None:
    with pytest.raises(InputError, match="the source is empty"):
        Runtime("")


def test_manifest_says_what_is_known(tmp_path: Path) -> None:
    manifest = read_lone_manifest(write_onnx(tmp_path / "a.onnx", stride="16"))
    assert (manifest.scale, manifest.variant, manifest.provenance.checkpoint_sha256) == (None, None, None)
    assert manifest.provenance.versions == {"ultralytics": "8.4.0"}
    assert manifest.provenance.created == METADATA["date"]
    assert manifest.provenance.weights_license == METADATA["license"]
    assert (manifest.input.name, manifest.input.height, manifest.input.width) == ("images", SIDE, SIDE)
    assert [(output.name, output.role, output.shape) for output in manifest.outputs] == [
        ("output0", "fused", (1, 6, 3))
    ]
    assert manifest.precision == "fp32"
    assert read_lone_manifest(write_onnx(tmp_path / "b.onnx", half=True)).precision == "fp16"
    assert read_lone_manifest(write_onnx(tmp_path / "c.onnx", quantized=True)).precision == "int8"
    manifest = read_lone_manifest(write_openvino(tmp_path / "d") / "cat.xml")
    assert (manifest.format, manifest.precision, manifest.outputs[0].shape) == ("openvino", "fp32", (1, 6, 3))
    assert manifest.class_names == ["cat", "dog's"]


def test_such_a_manifest_is_never_written(tmp_path: Path) -> None:
    manifest = read_lone_manifest(write_onnx(tmp_path / "a.onnx"))
    with pytest.raises(ArtifactError, match="which checkpoint"):
        manifest.to_embedded_json()
    with pytest.raises(ArtifactError, match="which checkpoint"):
        write_artifact(tmp_path / "art", manifest, {"model.onnx": tmp_path / "a.onnx"})
    assert not (tmp_path / "art").exists()


def test_known_and_foreign_parts_do_not_mix(tmp_path: Path) -> None:
    manifest = read_lone_manifest(write_onnx(tmp_path / "a.onnx"))
    for changes in ({"scale": "n"}, {"variant": "v1"}, {"class_names": ["cat"]}, {"outputs": manifest.outputs * 2}):
        with pytest.raises(ArtifactError, match="contradicts itself"):
            msgspec.structs.replace(manifest, **changes).check()
    own = msgspec.structs.replace(manifest.provenance, checkpoint_sha256="0" * 64)
    with pytest.raises(ArtifactError, match="contradicts itself"):
        msgspec.structs.replace(manifest, scale="n", variant="v1", provenance=own).check()


def test_a_manifest_of_ours_wins(tmp_path: Path, tiny_onnx: Any) -> None:
    import onnx

    model = onnx.load(tiny_onnx.model_file)
    for key, value in METADATA.items():
        model.metadata_props.add(key=key, value=value)
    onnx.save(model, tmp_path / "a.onnx")
    found = read_lone_manifest(tmp_path / "a.onnx")
    assert found == read_embedded_manifest(tmp_path / "a.onnx")
    assert found.class_names == ["a", "b", "c"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"task": "segment"}, "task 'segment'"),
        ({"names": None}, "carries no yolo12edge manifest"),
        ({"names": "{0: 'cat'}"}, r"output .* 1x6x3 .*Expected: 1x5xCANDIDATES"),
        ({"names": "{0: 'cat', 2: 'dog'}"}, "class numbers"),
        ({"names": "{0: '', 1: 'dog'}"}, "class name"),
        ({"names": "{0: 'cat', 1: __import__('os')}"}, "has names"),
        ({"names": "['cat', 'dog']"}, "has names"),
        ({"batch": "2"}, "batch=1"),
        ({"batch": "x"}, "has batch 'x'"),
        ({"imgsz": "[64, 32]"}, r"imgsz \(64, 32\)"),
        ({"imgsz": "[1e9]"}, "has imgsz"),
        ({"stride": "24"}, "stride 24"),
        ({"channels": "1"}, "channels '1'"),
        ({"end2end": "True"}, "end-to-end"),
        ({"output": np.zeros((1, 300, 6), np.float32)}, "nms=False"),
        ({"output": np.zeros((1, 3, 6), np.float32)}, "nms=False"),
        ({"output": np.zeros((2, 6, 3), np.float32)}, "nms=False"),
        ({"output": np.zeros((6, 3), np.float32)}, "nms=False"),
        ({"shape": (2, 3, SIDE, SIDE)}, "batch=1"),
        ({"shape": (1, SIDE, SIDE, 3)}, "Expected: 1x3xHEIGHTxWIDTH"),
        ({"shape": (None, 3, None, None)}, "dynamic=False"),
        ({"shape": (1, 3, 20000, SIDE), "imgsz": None, "stride": None}, "cannot|not a model"),
        ({"dtype": np.float16}, "float16.*Expected: float32"),
    ],
)
def test_what_cannot_run_says_why(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    path = write_onnx(tmp_path / "a.onnx", **changes)
    with pytest.raises(ArtifactError, match=message) as caught:
        Runtime(path)
    assert "Remedy" in str(caught.value) or "Expected" in str(caught.value)


def test_more_than_one_output_is_refused(tmp_path: Path) -> None:
    import onnx

    model = onnx.load(write_onnx(tmp_path / "a.onnx"))
    model.graph.output.append(onnx.helper.make_tensor_value_info("none", 1, [1]))
    onnx.save(model, tmp_path / "a.onnx")
    with pytest.raises(ArtifactError, match="2 outputs: 'output0' 1x6x3 float32, 'none' 1 float32"):
        Runtime(tmp_path / "a.onnx")


def test_weights_among_the_inputs_are_no_inputs(tmp_path: Path) -> None:
    import onnx

    model = onnx.load(write_onnx(tmp_path / "a.onnx"))
    model.graph.input.append(onnx.helper.make_tensor_value_info("fixed", 1, OUTPUT.shape))
    onnx.save(model, tmp_path / "a.onnx")
    assert [tensor.name for tensor in read_onnx_signature(tmp_path / "a.onnx").inputs] == ["images"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b"names: &a [x]\ntask: *a\n", "aliases"),
        (b"names: " + b"[" * 100 + b"]" * 100, "aliases or is nested"),
        (b"names: [", "not YAML"),
        (b"\xff\xfe\x00", "not YAML"),
        (b"- a\n", "not a mapping"),
        (b"x: " + b"a" * (1 << 20), "larger than 1 MiB"),
    ],
)
def test_damaged_yaml_is_refused(tmp_path: Path, text: bytes, message: str) -> None:
    (tmp_path / "metadata.yaml").write_bytes(text)
    with pytest.raises(ArtifactError, match=message):
        read_metadata_yaml(tmp_path / "metadata.yaml")


def test_a_class_keeps_its_name_in_yaml(tmp_path: Path) -> None:
    (tmp_path / "metadata.yaml").write_text("names:\n  0: no\n  1: 1e3\n  2: 2020-01-01\n")
    found = metadata_of(read_metadata_yaml(tmp_path / "metadata.yaml"), "x")
    assert found.class_names == ("no", "1e3", "2020-01-01")
    (tmp_path / "metadata.yaml").write_text('names: {0: "\\ud800"}')
    assert read_or_refused(lambda: metadata_of(read_metadata_yaml(tmp_path / "metadata.yaml"), "x")) is None


@settings(max_examples=300)
@given(st.lists(st.text(st.characters(exclude_categories=("Cs",)), min_size=1, max_size=12), min_size=1, max_size=6))
@example(["'", '"', "'\"", "\\", "\n\t\r\\n", "é\u2028\x00\U0001f600", "}", "{0: 'x'}"])
def test_names_come_back_as_python_prints_them(names: list[str]) -> None:
    printed = repr(dict(enumerate(names)))
    assert metadata_of({"names": printed}, "x").class_names == tuple(names)


def read_or_refused(function: Callable[..., Any], *arguments: Any) -> Any:
    """Return the result, or None after an error that is short enough to be read."""
    try:
        return function(*arguments)
    except ArtifactError as error:
        message = str(error)
    assert len(message) < 2000
    return None


PIECES = st.sampled_from(
    [
        "{",
        "}",
        "0",
        "1",
        ":",
        ",",
        " ",
        "'",
        '"',
        "\\",
        "\\x41",
        "\\ud800",
        "\\U00110000",
        "\\q",
        "a",
        "\n",
        "[",
        "99999999999",
    ]
)


@settings(max_examples=500)
@given(st.lists(PIECES, max_size=30).map("".join) | st.text(max_size=60))
@example("{" * 100_000)
@example("{0: '" + "\\" * 100_001 + "'}")
@example("{0: '" + "a" * 1_000_000)
@example("{" + "0: 'a', " * 100_000 + "}")
@example("{0: 'a' 1: 'b'}")
@example("{9: 'a'}")
@example("0: '\\ud800'")
def test_names_of_any_text_are_read_or_refused(text: str) -> None:
    for value in (text, "{" + text + "}"):
        found = read_or_refused(metadata_of, {"names": value}, "x")
        assert found is None or all(name.encode() for name in found.class_names)


VALUES = st.recursive(
    st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
)


@settings(max_examples=300)
@given(st.dictionaries(st.sampled_from([*METADATA, "__class__", "head"]), VALUES, max_size=8))
def test_metadata_of_any_kind_is_read_or_refused(entries: dict[str, Any]) -> None:
    found = read_or_refused(metadata_of, entries, "x")
    allowed = {"class_names", "image_hw", "stride", "batch", "version", "date", "license"}
    assert found is None or set(found.__slots__) == allowed


@settings(max_examples=200)
@given(st.data())
def test_a_damaged_onnx_file_is_read_or_refused(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    folder = tmp_path_factory.getbasetemp() / "damaged"
    folder.mkdir(exist_ok=True)
    if not (folder / "good.onnx").exists():
        write_onnx(folder / "good.onnx")
    content = bytearray((folder / "good.onnx").read_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    (folder / "bad.onnx").write_bytes(content[: data.draw(st.integers(0, len(content)))])
    found = read_or_refused(read_lone_manifest, folder / "bad.onnx")
    assert found is None or found.check() is None


def test_openvino_file_of_another_tool_is_described(tmp_path: Path, console: Callable[..., str]) -> None:
    text = console("inspect", write_openvino(tmp_path / "cat_openvino_model"))
    for word in ("of another tool", "foreign, detect", "2: cat, dog's", "boxes and scores", "metadata.yaml", "AGPL"):
        assert word in text
    assert "verified" not in text


def test_onnx_file_of_another_tool_is_described(tmp_path: Path, console: Callable[..., str]) -> None:
    text = console("inspect", write_onnx(tmp_path / "a.onnx", version="8\x1b[31m", license=None))
    assert "\x1b" not in text
    for word in ("ONNX file of another tool", "output0: 1x6x3 float32, boxes and scores", "not stated"):
        assert word in text


@pytest.fixture
def console() -> Callable[..., str]:
    """Run a command in this process and return what it prints."""
    from typer.testing import CliRunner

    from yolo12edge.cli import app

    def run(*words: object) -> str:
        result = CliRunner().invoke(app, [str(word) for word in words])
        assert result.exit_code == 0, result.output
        return result.output

    return run
