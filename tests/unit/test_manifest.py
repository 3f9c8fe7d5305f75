from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from yolo12edge import manifest as manifest_module
from yolo12edge.errors import ArtifactError
from yolo12edge.manifest import MANIFEST_LIMIT, Accuracy, Manifest, Report

DIGEST = "0123456789abcdef" * 4


def valid() -> dict[str, Any]:
    """A manifest as JSON values, with every optional part present."""
    return {
        "schema_version": 1,
        "task": "detect",
        "scale": "n",
        "variant": "v1",
        "class_names": ["circle", "square"],
        "format": "onnx",
        "precision": "int8",
        "input": {"name": "images", "batch": 1, "height": 320, "width": 640},
        "outputs": [
            {"name": "boxes", "role": "boxes", "shape": [1, 4, 4200]},
            {"name": "scores", "role": "scores", "shape": [1, 2, 4200]},
        ],
        "files": [{"path": "model.onnx", "sha256": DIGEST, "bytes": 12}],
        "provenance": {"checkpoint_sha256": DIGEST, "created": "2026-01-02T03:04:05Z", "versions": {"numpy": "2.0"}},
        "calibration": {
            "method": "minmax",
            "split": "train",
            "images": ["a.jpg"],
            "images_digest": DIGEST,
            "placement": "ort_x86",
            "float_nodes": [],
            "reduced_range": True,
        },
        "report": {
            "parity": {"source": "float", "images": 4, "errors": {"boxes": 0.01, "scores": 1e-5}},
            "accuracy": {
                "dataset": "data.yaml",
                "split": "val",
                "images": 87,
                "metric": "box AP50-95",
                "value": 0.53,
                "details": {"AP50": 0.84, "AP75": 0.59},
                "reference": "fp32",
                "reference_value": 0.54,
                "reference_details": {"AP50": 0.85, "AP75": 0.6},
            },
            "latency": {
                "engine": "onnxruntime 1.20",
                "device": "cpu",
                "threads": 2,
                "samples": 100,
                "median_ms": 20.0,
                "reference": "fp32",
                "reference_median_ms": 25.0,
            },
        },
    }


def text_of(raw: Any) -> bytes:
    return json.dumps(raw).encode()


def test_round_trip() -> None:
    manifest = Manifest.from_json(text_of(valid()))
    assert Manifest.from_json(manifest.to_json()) == manifest
    assert manifest.to_json().endswith(b"}\n")
    assert manifest.input.pad_value == 114  # defaults of the format
    assert manifest.input.scale == 1 / 255
    assert manifest.report.accuracy is not None


def test_embedded_form_leaves_out_what_is_not_the_model() -> None:
    manifest = Manifest.from_json(text_of(valid()))
    text = manifest.to_embedded_json()
    lone = Manifest.from_embedded_json(text)
    assert lone.files == []
    assert lone.report == Report()
    assert lone.provenance.created == ""
    assert (lone.calibration, lone.input, lone.outputs) == (manifest.calibration, manifest.input, manifest.outputs)
    assert lone.to_embedded_json() == text
    without = json.loads(text)
    del without["files"]
    assert Manifest.from_embedded_json(json.dumps(without)) == lone


def test_embedded_form_is_the_same_for_versions_in_any_order() -> None:
    raw = valid()
    raw["provenance"]["versions"] = {"a": "1", "b": "2"}
    other = valid()
    other["provenance"]["versions"] = {"b": "2", "a": "1"}
    first, second = (Manifest.from_json(text_of(item)).to_embedded_json() for item in (raw, other))
    assert first == second


def test_each_form_refuses_the_other() -> None:
    manifest = Manifest.from_json(text_of(valid()))
    with pytest.raises(ArtifactError, match="no file"):
        Manifest.from_json(manifest.to_embedded_json())
    with pytest.raises(ArtifactError, match="names 1 files"):
        Manifest.from_embedded_json(manifest.to_json())


@pytest.mark.parametrize(
    ("version", "message"),
    [(2, "schema version 2"), (0, "schema version 0"), ("1", "no schema version"), (None, "no schema version")],
)
def test_another_schema_version_says_so_before_anything_else(version: Any, message: str) -> None:
    with pytest.raises(ArtifactError, match=message) as caught:
        Manifest.from_json(text_of({"schema_version": version, "unknown": 1}))
    assert "version 1" in caught.value.expected


@pytest.mark.parametrize(
    "path",
    [
        "../model.onnx",
        "a/../../model.onnx",
        "..",
        ".",
        "./model.onnx",
        "/etc/passwd",
        "//host/share",
        "a//b",
        "a/",
        "",
        "..\\model.onnx",
        "a\\b",
        "C:model.onnx",
        "C:/model.onnx",
        "model.onnx:stream",
        ".hidden",
        "a/.hidden",
        "~/model.onnx",
        "model\x00.onnx",
        "model.onnx\n",
        "a" * 201,
        "manifest.json",
        "MANIFEST.json",
    ],
)
def test_path_that_may_leave_the_directory_is_refused(path: str) -> None:
    raw = valid()
    raw["files"][0]["path"] = path
    with pytest.raises(ArtifactError):
        Manifest.from_json(text_of(raw))


@pytest.mark.parametrize("path", ["model.onnx", "a/b.c/d-e_1.bin", "com.apple.CoreML/weights/weight.bin", "_x..y"])
def test_ordinary_path_is_accepted(path: str) -> None:
    raw = valid()
    raw["files"][0]["path"] = path
    assert Manifest.from_json(text_of(raw)).files[0].path == path


@pytest.mark.parametrize("second", ["model.onnx", "Model.ONNX", "model.onnx/part"])
def test_paths_that_collide_are_refused(second: str) -> None:
    raw = valid()
    raw["files"].append({**raw["files"][0], "path": second})
    with pytest.raises(ArtifactError, match="contradicts itself"):
        Manifest.from_json(text_of(raw))


def changed(path: str, value: Any) -> bytes:
    """The valid manifest with one value replaced, ``path`` like "files.0.bytes"."""
    raw = valid()
    *parents, last = (int(part) if part.isdigit() else part for part in path.split("."))
    place: Any = raw
    for part in parents:
        place = place[part]
    place[last] = value
    return text_of(raw)


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("unknown", 1),
        ("input.unknown", 1),
        ("task", "segment"),
        ("task", "count"),
        ("multi_label", True),
        ("keypoints", {"count": 3}),
        ("input.resize", "centre-crop"),
        ("class_names", []),
        ("class_names", ["one"]),
        ("class_names.0", ""),
        ("precision", "fp32"),  # with a calibration
        ("calibration", None),  # without one
        ("input.batch", 0),
        ("input.batch", 2),
        ("input.height", 10**6),
        ("input.height", 320.5),
        ("input.height", True),
        ("input.layout", "NHWC"),
        ("input.pad_value", 256),
        ("input.scale", 0),
        ("outputs", []),
        ("outputs.0.role", "scores"),
        ("outputs.0.name", "scores"),
        ("outputs.0.shape", [1, 5, 4200]),
        ("outputs.0.shape", [1, 4, 4199]),
        ("outputs.0.shape", [1, 4]),
        ("outputs.0.shape", [2, 4, 4200]),
        ("files", []),
        ("files.0.bytes", -1),
        ("files.0.bytes", 2**70),
        ("files.0.sha256", DIGEST.upper()),
        ("files.0.sha256", DIGEST + "\n"),
        ("files.0.sha256", DIGEST[:-1]),
        ("report.accuracy.value", 1.5),
        ("report.accuracy.value", -1),
        ("report.accuracy.details", {"AP50": 0.84}),
        ("report.accuracy.details.AP50", 1.5),
        ("report.latency.median_ms", 0),
        ("report.parity.errors", {}),
        ("report.parity.errors", {"boxes": -1}),
        ("report.parity.images", 0),
    ],
)
def test_broken_value_is_refused(path: str, value: Any) -> None:
    with pytest.raises(ArtifactError):
        Manifest.from_json(changed(path, value))


BOXES = {"name": "boxes", "role": "boxes", "shape": [1, 4, 4200]}
SCORES = {"name": "scores", "role": "scores", "shape": [1, 2, 4200]}
TASKS: dict[str, dict[str, Any]] = {
    "segment": {
        "outputs": [
            BOXES,
            SCORES,
            {"name": "c", "role": "coefficients", "shape": [1, 32, 4200]},
            {"name": "p", "role": "prototypes", "shape": [1, 32, 80, 160]},
        ]
    },
    "pose": {
        "keypoints": {"count": 3, "names": ["a", "b", "c"], "skeleton": [[0, 1], [1, 2]], "flip": [1, 0, 2]},
        "outputs": [BOXES, SCORES, {"name": "k", "role": "keypoints", "shape": [1, 9, 4200]}],
    },
    "obb": {
        "outputs": [
            {"name": "r", "role": "rotated_boxes", "shape": [1, 4, 4200]},
            {"name": "a", "role": "angles", "shape": [1, 1, 4200]},
            SCORES,
        ]
    },
    "classify": {
        "multi_label": True,
        "input": {"name": "images", "batch": 1, "height": 320, "width": 640, "resize": "centre-crop"},
        "outputs": [{"name": "p", "role": "probabilities", "shape": [1, 2]}],
    },
}


@pytest.mark.parametrize("task", TASKS)
def test_each_task_has_its_outputs(task: str) -> None:
    raw = {**valid(), "task": task, **TASKS[task]}
    manifest = Manifest.from_json(text_of(raw))
    assert Manifest.from_json(manifest.to_json()) == manifest
    for index, output in enumerate(raw["outputs"]):
        for axis in range(len(output["shape"])):
            shape = [side + (place == axis) for place, side in enumerate(output["shape"])]
            others = [
                {**other, "shape": shape} if place == index else other for place, other in enumerate(raw["outputs"])
            ]
            with pytest.raises(ArtifactError, match="contradicts itself"):
                Manifest.from_json(text_of({**raw, "outputs": others}))
        with pytest.raises(ArtifactError, match="contradicts itself"):
            Manifest.from_json(text_of({**raw, "outputs": [o for o in raw["outputs"] if o is not output]}))
    with pytest.raises(ArtifactError, match="contradicts itself"):
        Manifest.from_json(text_of({**raw, "nms_iou": 0.5}))


@pytest.mark.parametrize(
    "keypoints",
    [
        None,
        {"count": 0},
        {"count": 3, "names": ["a"]},
        {"count": 3, "flip": [0, 0, 1]},
        {"count": 3, "flip": [1, 2, 0]},
        {"count": 3, "skeleton": [[0, 3]]},
        {"count": 4},
        {"count": 3, "dimensions": 2},
    ],
)
def test_keypoints_that_contradict_themselves_are_refused(keypoints: Any) -> None:
    with pytest.raises(ArtifactError):
        Manifest.from_json(text_of({**valid(), "task": "pose", **TASKS["pose"], "keypoints": keypoints}))


@pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity", "1e999", "-1e999", "1" + "0" * 400, "9" * 5000])
@pytest.mark.parametrize(
    "path", ["schema_version", "input.height", "input.scale", "report.accuracy.value", "files.0.bytes"]
)
def test_number_that_no_computation_can_use_is_refused(path: str, number: str) -> None:
    text = changed(path, "@@").replace(b'"@@"', number.encode())
    with pytest.raises(ArtifactError):
        Manifest.from_json(text)


def test_too_long_is_refused_before_it_is_parsed() -> None:
    with pytest.raises(ArtifactError, match="larger than 8 MiB"):
        Manifest.from_json(b" " * MANIFEST_LIMIT + text_of(valid()))


def test_what_could_not_be_read_back_is_not_written() -> None:
    manifest = Manifest.from_json(text_of(valid()))
    accuracy = manifest.report.accuracy
    assert isinstance(accuracy, Accuracy)
    not_a_number = msgspec.structs.replace(accuracy, value=float("nan"))
    bad = msgspec.structs.replace(manifest, report=Report(accuracy=not_a_number))
    with pytest.raises(ArtifactError, match=r"report\.accuracy\.value"):
        bad.to_json()
    surrogate = msgspec.structs.replace(manifest, class_names=["a", "\ud800"])
    with pytest.raises(ArtifactError):
        surrogate.to_json()
    with pytest.raises(ArtifactError):
        surrogate.to_embedded_json()


def test_the_format_page_names_every_field() -> None:
    page = (Path(__file__).parents[2] / "docs" / "artifact-format.md").read_text(encoding="utf-8")
    structs = [value for value in vars(manifest_module).values() if isinstance(value, type(msgspec.Struct))]
    fields = {field for struct in structs for field in struct.__struct_fields__}
    assert len(fields) > 40
    assert [field for field in sorted(fields) if f"`{field}`" not in page] == []


def accepts_or_refuses(text: bytes | str) -> None:
    for read in (Manifest.from_json, Manifest.from_embedded_json):
        try:
            manifest = read(text)
        except ArtifactError as error:
            refusal = str(error)
        else:
            refusal = ""
            manifest.check()
            assert read(msgspec.json.encode(manifest)) == manifest
        assert len(refusal) < 1000  # no message repeats a hostile file …
        assert refusal.isprintable()  # … nor hands its escape sequences to the terminal


@given(st.one_of(st.binary(max_size=200), st.text(max_size=200)))
@example(b"\xff\xfe")
@example(b"[" * 5_000)
@example(b'{"schema_version":1,"task":' + b"[" * 5_000)
@example("\ud800")
@example(b'{"schema_version":1}')
@example(b'{"schema_version":1,"' + b"\xc2\x9b31m" * 2_000 + b'":1}')
def test_fuzz_any_bytes(text: bytes | str) -> None:
    accepts_or_refuses(text)


json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.sampled_from([0, 1, -1, 2**31, 2**63, 2**64, 10**300, 1e308, "", "boxes", "..", "model.onnx", DIGEST])
    | st.floats()
    | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=5,
)


@st.composite
def mutated(draw: st.DrawFn) -> bytes:
    """Valid JSON with a few nodes replaced, removed, doubled or added; sometimes with a few bytes changed."""
    raw: Any = copy.deepcopy(valid())
    for _ in range(draw(st.integers(1, 3))):
        node = raw
        while True:
            keys = list(node) if isinstance(node, dict) else list(range(len(node)))
            if not keys:
                break
            key = draw(st.sampled_from(keys))
            if isinstance(node[key], (dict, list)) and draw(st.booleans()):
                node = node[key]
                continue
            action = draw(st.sampled_from(["replace", "remove", "add"]))
            if action == "replace":
                node[key] = draw(json_values)
            elif action == "remove":
                del node[key]
            elif isinstance(node, dict):
                node[draw(st.text(max_size=5))] = draw(json_values)
            else:
                node.append(copy.deepcopy(node[key]))
            break
    text = bytearray(json.dumps(raw).encode())
    for _ in range(draw(st.integers(0, 2))):
        text[draw(st.integers(0, len(text) - 1))] = draw(st.integers(0, 255))
    return bytes(text)


@settings(max_examples=150, suppress_health_check=[HealthCheck.too_slow])
@given(mutated())
def test_fuzz_mutated_manifest(text: bytes) -> None:
    accepts_or_refuses(text)


def engine(**changes: Any) -> dict[str, Any]:
    """A manifest of a TensorRT engine."""
    raw = valid()
    raw["format"] = "tensorrt"
    raw["files"] = [{"path": "model.engine", "sha256": DIGEST, "bytes": 12}]
    raw["engine"] = {
        "library": "tensorrt",
        "version": "10.3.0",
        "cuda": "12.6",
        "architectures": ["sm_87"],
        "platform": "linux-aarch64",
    }
    raw.update(changes)
    return raw


def test_an_engine_says_what_it_was_built_for():
    parsed = Manifest.from_json(json.dumps(engine()))
    assert parsed.engine is not None
    assert parsed.engine.architectures == ["sm_87"]
    assert Manifest.from_json(parsed.to_json()) == parsed


ONNX_FILE = [{"path": "model.onnx", "sha256": DIGEST, "bytes": 12}]


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"engine": None}, "does not say what it was built for"),
        ({"format": "tensorrt-rtx"}, "the format is tensorrt-rtx"),
        ({"format": "onnx"}, "the format is onnx"),
        ({"files": ONNX_FILE}, "model.onnx is none"),
    ],
)
def test_engine_and_model_file_must_fit(changes: dict[str, Any], said: str):
    with pytest.raises(ArtifactError, match=said):
        Manifest.from_json(json.dumps(engine(**changes)))


def test_an_engine_may_be_left_to_the_device():
    assert Manifest.from_json(json.dumps(engine(engine=None, files=ONNX_FILE))).engine is None


def test_architectures_are_those_of_gpus():
    raw = engine()
    raw["engine"]["architectures"] = ["Orin"]
    with pytest.raises(ArtifactError, match="architectures"):
        Manifest.from_json(json.dumps(raw))


@pytest.mark.parametrize("field", ["version", "cuda", "platform", "plugins"])
@pytest.mark.parametrize("text", ["10.3\x1b[2J", "10.3\n", "a; b", "$(a)"])
def test_what_is_said_of_an_engine_does_nothing_to_a_terminal(field: str, text: str):
    raw = engine()
    raw["engine"][field] = [text] if field == "plugins" else text
    with pytest.raises(ArtifactError, match="breaks the manifest schema"):
        Manifest.from_json(json.dumps(raw))


def test_an_input_has_one_of_two_forms():
    raw = valid()
    raw["input"] |= {"dtype": "uint8", "layout": "NHWC", "color": "BGR", "batch": 1, "min_batch": 1}
    spec = Manifest.from_json(json.dumps(raw)).input
    assert spec.pixels
    assert spec.shape(2) == (2, 320, 640, 3)
    raw["input"]["color"] = "RGB"
    with pytest.raises(ArtifactError, match="uint8 NHWC RGB"):
        Manifest.from_json(json.dumps(raw))


def test_the_smallest_batch_is_not_above_the_largest():
    raw = valid()
    raw["input"]["min_batch"] = 2
    with pytest.raises(ArtifactError, match="batches from 2 to 1"):
        Manifest.from_json(json.dumps(raw))


def test_only_coreml_stores_weights_of_float_models_otherwise():
    raw = valid() | {"precision": "fp16", "calibration": None, "weights": "palettized-6"}
    with pytest.raises(ArtifactError, match="weights are palettized-6 in fp16 onnx"):
        Manifest.from_json(json.dumps(raw))
    assert Manifest.from_json(json.dumps(raw | {"format": "coreml"})).weights == "palettized-6"


def test_coremls_pixels_are_rgb():
    raw = valid() | {"format": "coreml"}
    raw["input"] |= {"dtype": "uint8", "layout": "NHWC"}
    assert Manifest.from_json(json.dumps(raw)).input.pixels
    raw["format"] = "onnx"
    with pytest.raises(ArtifactError, match="uint8 NHWC RGB"):
        Manifest.from_json(json.dumps(raw))
