"""What is written for Triton and DeepStream says the same as the manifest, and the parser decodes as we do."""

from __future__ import annotations

import configparser
import json
import runpy
import shutil
import struct
import subprocess
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from yolo12edge import Runtime, Thresholds
from yolo12edge.artifact import Artifact, write_artifact
from yolo12edge.cli.deploy import app
from yolo12edge.errors import ArtifactError, ExportError, InputError
from yolo12edge.exporters import triton_server
from yolo12edge.exporters.deepstream import DEEPSTREAM_CONFIG, DEEPSTREAM_LIBRARY, deepstream_from_artifact
from yolo12edge.exporters.deployment import label_lines
from yolo12edge.exporters.triton_server import triton_from_artifact
from yolo12edge.imaging import write_image
from yolo12edge.manifest import Calibration, EngineFacts, InputSpec, Manifest, OutputSpec, Provenance
from yolo12edge.tasks.detect import decode

PARSER = Path(__file__).parents[2] / "exporters" / "deepstream_parser"

ENGINE = EngineFacts(
    library="tensorrt", version="10.3.0", cuda="12.6", architectures=["sm_87"], platform="linux-aarch64"
)
INT8 = Calibration(
    method="percentile",
    split="train",
    images=["a.png"],
    images_digest="0" * 64,
    placement="ort-x86",
    float_nodes=[],
    reduced_range=False,
)
PIXELS = {"dtype": "uint8", "layout": "NHWC", "color": "BGR"}


def made(folder: Path, *, files: dict[str, bytes] | None = None, **changes: Any) -> Artifact:
    """An artifact that no engine could read: its manifest is all that counts here."""
    given_input = {"name": "images", "batch": 1, "height": 64, "width": 96, **changes.pop("input", {})}
    names = changes.pop("class_names", ["cat", "dog"])
    outputs = changes.pop("outputs", ("boxes", "scores"))
    batch = given_input["batch"]
    manifest = Manifest(
        schema_version=1,
        task="detect",
        scale="n",
        variant="v1",
        class_names=names,
        input=InputSpec(**given_input),
        outputs=[
            OutputSpec(name=outputs[0], role="boxes", shape=(batch, 4, 126)),
            OutputSpec(name=outputs[1], role="scores", shape=(batch, len(names), 126)),
        ],
        provenance=Provenance(checkpoint_sha256="ab" * 32, created="", versions={}),
        **{"format": "onnx", "precision": "fp32", **changes},
    )
    suffix = ".engine" if manifest.engine else ".onnx"
    return write_artifact(folder, manifest, files or {f"model{suffix}": b"the model"})


def engine(folder: Path, **changes: Any) -> Artifact:
    return made(folder, **{"format": "tensorrt", "precision": "fp16", "engine": ENGINE, **changes})


def parse_config(text: str) -> Any:
    """Let protobuf itself read the text, by the fields of Triton's ``ModelConfig`` that are used here."""
    pytest.importorskip("google.protobuf", reason="protobuf is not installed")
    from google.protobuf import descriptor_pb2, descriptor_pool, message_factory, text_format

    field = descriptor_pb2.FieldDescriptorProto
    scalars = {"string": field.TYPE_STRING, "int32": field.TYPE_INT32, "int64": field.TYPE_INT64}
    file = descriptor_pb2.FileDescriptorProto(name="triton.proto", package="inference", syntax="proto3")
    enums = {
        "DataType": {"TYPE_INVALID": 0, "TYPE_UINT8": 2, "TYPE_FP32": 11},
        "Kind": {"KIND_AUTO": 0, "KIND_GPU": 1, "KIND_CPU": 2},
    }
    for name, values in enums.items():
        added = file.enum_type.add(name=name)
        for value, number in values.items():
            added.value.add(name=value, number=number)
    messages = {
        "Tensor": [("name", 1, "string", 0), ("data_type", 2, "DataType", 0), ("dims", 3, "int64", 1)],
        "Group": [("count", 2, "int32", 0), ("kind", 4, "Kind", 0)],
        "Batching": [("preferred_batch_size", 1, "int32", 1)],
        "ModelConfig": [
            ("name", 1, "string", 0),
            ("platform", 2, "string", 0),
            ("max_batch_size", 4, "int32", 0),
            ("input", 5, "Tensor", 1),
            ("output", 6, "Tensor", 1),
            ("instance_group", 7, "Group", 1),
            ("dynamic_batching", 11, "Batching", 0),
            ("backend", 17, "string", 0),
        ],
    }
    for name, fields in messages.items():
        message = file.message_type.add(name=name)
        for key, number, kind, repeated in fields:
            one = message.field.add(name=key, number=number, label=field.LABEL_OPTIONAL)
            one.label = field.LABEL_REPEATED if repeated else field.LABEL_OPTIONAL
            if kind in scalars:
                one.type = scalars[kind]
            else:
                one.type = field.TYPE_ENUM if kind in enums else field.TYPE_MESSAGE
                one.type_name = f".inference.{kind}"
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    config = message_factory.GetMessageClass(pool.FindMessageTypeByName("inference.ModelConfig"))
    return text_format.Parse(text, config())


def tensors(config: Any) -> dict[str, tuple[int, list[int]]]:
    return {one.name: (one.data_type, list(one.dims)) for one in (*config.input, *config.output)}


FP32, UINT8 = 11, 2


@pytest.mark.parametrize(
    ("changes", "platform", "batch", "images", "boxes", "preferred"),
    [
        ({}, "tensorrt_plan", 0, (FP32, [1, 3, 64, 96]), [1, 4, 126], []),
        ({"input": {"batch": 8, "min_batch": 1}}, "tensorrt_plan", 8, (FP32, [3, 64, 96]), [4, 126], [8]),
        ({"input": {"batch": 1, "min_batch": 1}}, "tensorrt_plan", 1, (FP32, [3, 64, 96]), [4, 126], []),
        ({"input": {"batch": 4}}, "tensorrt_plan", 0, (FP32, [4, 3, 64, 96]), [4, 4, 126], []),
        ({"input": {"batch": 2, "min_batch": 1, **PIXELS}}, "tensorrt_plan", 2, (UINT8, [64, 96, 3]), [4, 126], [2]),
    ],
)
def test_triton_engine(
    tmp_path: Path,
    changes: dict[str, Any],
    platform: str,
    batch: int,
    images: tuple[int, list[int]],
    boxes: list[int],
    preferred: list[int],
) -> None:
    artifact = engine(tmp_path / "cats-fp16", **changes)
    done = triton_from_artifact(artifact, tmp_path / "models")
    assert done.path == tmp_path / "models" / "cats-fp16"
    config = parse_config((done.path / "config.pbtxt").read_text())
    assert (config.name, config.platform, config.max_batch_size) == ("cats-fp16", platform, batch)
    scores = [*boxes[:-2], 2, 126]
    assert tensors(config) == {"images": images, "boxes": (FP32, boxes), "scores": (FP32, scores)}
    assert [(group.count, group.kind) for group in config.instance_group] == [(1, 1)]
    assert list(config.dynamic_batching.preferred_batch_size) == preferred
    assert (done.path / "1" / "model.plan").read_bytes() == b"the model"
    assert (done.path / "labels.txt").read_text() == "cat\ndog\n"
    assert (done.path / "manifest.json").read_bytes() == (artifact.path / "manifest.json").read_bytes()
    assert "sm_87" in done.notes[0]
    assert "TensorRT 10.3.0" in done.notes[0]


@pytest.mark.parametrize(("device", "kind"), [(None, 2), ("cpu", 2), ("gpu", 1)])
def test_triton_onnx(tmp_path: Path, device: Any, kind: int) -> None:
    done = triton_from_artifact(made(tmp_path / "a"), tmp_path, name="cats", device=device)
    config = parse_config((done.path / "config.pbtxt").read_text())
    assert (config.platform, config.instance_group[0].kind, config.max_batch_size) == ("onnxruntime_onnx", kind, 0)
    assert (done.path / "1" / "model.onnx").read_bytes() == b"the model"
    assert done.notes == ()


def test_triton_openvino(tmp_path: Path) -> None:
    files = {"cats.xml": b"<net/>", "cats.bin": b"weights"}
    done = triton_from_artifact(made(tmp_path / "a", format="openvino", files=files), tmp_path / "models")
    config = parse_config((done.path / "config.pbtxt").read_text())
    assert (config.backend, config.platform, config.instance_group[0].kind) == ("openvino", "", 2)
    assert {path.name: path.read_bytes() for path in (done.path / "1").iterdir()} == {
        "model.xml": b"<net/>",
        "model.bin": b"weights",
    }


@pytest.mark.parametrize(
    ("changes", "device", "fact"),
    [
        ({"format": "tensorrt", "precision": "fp16"}, None, "typed ONNX"),
        ({"format": "tensorrt-rtx", "precision": "fp16"}, None, "TensorRT-RTX"),
        ({"format": "torch"}, None, "'torch'"),
        ({"format": "tensorrt", "engine": ENGINE}, "cpu", "does not run on the CPU"),
        ({"format": "tensorrt", "engine": ENGINE, "input": {"batch": 8, "min_batch": 2}}, None, "fewer than 2"),
        ({"format": "openvino"}, "gpu", "runs on CPUs"),
        ({"precision": "int8", "calibration": INT8}, "gpu", "in float on a GPU"),
    ],
)
def test_triton_refuses_what_it_cannot_serve(tmp_path: Path, changes: Any, device: Any, fact: str) -> None:
    with pytest.raises(ExportError, match=fact) as error:
        triton_from_artifact(made(tmp_path / "a", **changes), tmp_path / "models", device=device)
    assert error.value.remedy or error.value.expected
    assert not (tmp_path / "models").exists()


def test_triton_tells_of_plugins_and_version_compatibility(tmp_path: Path) -> None:
    facts = msgspec.structs.replace(ENGINE, plugins=["yolo12edge::AreaAttention"], version_compatible=True)
    notes = triton_from_artifact(engine(tmp_path / "a", engine=facts), tmp_path / "models").notes
    assert [("plugins=" in note, "version-compatible=true" in note) for note in notes] == [
        (False, False),
        (False, True),
        (True, False),
    ]
    assert "10.3.0 or newer" in notes[0]
    facts = msgspec.structs.replace(ENGINE, hardware_compatible=True, architectures=["sm_86"])
    notes = triton_from_artifact(engine(tmp_path / "b", engine=facts), tmp_path / "models").notes
    assert "sm_86 and other GPUs from Ampere on" in notes[0]


@pytest.mark.parametrize("name", ["", "../cats", "a b", "a/b", '"', "-a", "a\n"])
def test_names_of_models_are_names_of_folders(tmp_path: Path, name: str) -> None:
    with pytest.raises(InputError, match="no name for a model"):
        triton_from_artifact(made(tmp_path / "a"), tmp_path / "models", name=name)


def test_weights_beside_the_model_are_refused(tmp_path: Path) -> None:
    artifact = made(tmp_path / "a", files={"model.onnx": b"m", "model.onnx.data": b"w"})
    for deploy in (triton_from_artifact, deepstream_from_artifact):
        with pytest.raises(ArtifactError, match=r"model\.onnx\.data"):
            deploy(artifact, tmp_path / "out")
    with pytest.raises(ArtifactError, match=r"an \.xml and a \.bin file"):
        triton_from_artifact(made(tmp_path / "b", format="openvino"), tmp_path / "out")


@settings(max_examples=200)
@given(text=st.text(min_size=1, max_size=30))
def test_any_name_survives_protobuf_text(text: str) -> None:
    assert parse_config(f"name: {triton_server._quoted(text)}").name == text


@settings(max_examples=200)
@given(names=st.lists(st.text(min_size=1, max_size=12), min_size=1, max_size=5))
def test_labels_are_one_a_line(names: list[str]) -> None:
    lines = label_lines(names)
    assert lines.endswith("\n")
    assert len(lines.splitlines()) == len(lines.split("\n")) - 1 == len(names)
    assert all(len(line) == len(name) for line, name in zip(lines.splitlines(), names, strict=True))


def deepstream_config(folder: Path) -> configparser.ConfigParser:
    config = configparser.ConfigParser(interpolation=None, strict=True)
    config.read_string((folder / DEEPSTREAM_CONFIG).read_text())
    return config


def test_deepstream_engine(tmp_path: Path) -> None:
    artifact = engine(tmp_path / "a", input={"batch": 4, "min_batch": 1}, class_names=["cat", "dog; hot", "e\nf"])
    done = deepstream_from_artifact(artifact, tmp_path / "out")
    config = deepstream_config(done.path)
    own = dict(config["property"])
    assert (done.path / own["model-engine-file"]).read_bytes() == b"the model"
    assert "onnx-file" not in own
    assert {key: own[key] for key in ("batch-size", "infer-dims", "num-detected-classes", "network-mode")} == {
        "batch-size": "4",
        "infer-dims": "3;64;96",
        "num-detected-classes": "3",
        "network-mode": "2",
    }
    assert float(own["net-scale-factor"]) == artifact.manifest.input.scale
    letterbox = ("model-color-format", "maintain-aspect-ratio", "symmetric-padding", "network-input-order")
    assert [own[key] for key in letterbox] == ["0", "1", "1", "0"]
    assert (own["cluster-mode"], own["crop-objects-to-roi-boundary"]) == ("2", "1")
    assert own["custom-lib-path"] == DEEPSTREAM_LIBRARY
    assert own["parse-bbox-func-name"] in (PARSER / "nvdsinfer_yolo12edge.cpp").read_text()
    assert DEEPSTREAM_LIBRARY in (PARSER / "Makefile").read_text()
    thresholds, defaults = config["class-attrs-all"], Thresholds()
    assert float(thresholds["pre-cluster-threshold"]) == defaults.confidence
    assert float(thresholds["nms-iou-threshold"]) == defaults.iou
    assert int(thresholds["topk"]) == defaults.max_detections
    # As nvinfer reads it: what follows a ';' would be another label.
    assert (done.path / own["labelfile-path"]).read_text() == "cat\ndog, hot\ne?f\n"
    assert any(f"make -C {done.path}" in note for note in done.notes)


@pytest.mark.skipif(shutil.which("make") is None, reason="needs make")
def test_the_parser_is_built_in_the_folder_that_was_written(tmp_path: Path) -> None:
    headers = tmp_path / "deep stream"
    (headers / "sources" / "includes").mkdir(parents=True)
    done = deepstream_from_artifact(engine(tmp_path / "a"), tmp_path / "a street")
    command = ["make", "-C", str(done.path), f"DEEPSTREAM={headers}", "CXX=echo compiles"]

    def tried() -> subprocess.CompletedProcess[str]:
        return subprocess.run(command, capture_output=True, text=True, check=False)

    assert "add DEEPSTREAM=FOLDER" in tried().stderr
    (headers / "sources" / "includes" / "nvdsinfer_custom_impl.h").touch()
    assert f"-o {DEEPSTREAM_LIBRARY} nvdsinfer_yolo12edge.cpp" in tried().stdout
    assert "make -C '" in done.notes[0]  # a path with a space


def test_deepstream_leaves_suppression_to_a_graph_that_does_it(tmp_path: Path) -> None:
    done = deepstream_from_artifact(engine(tmp_path / "a", nms_iou=0.5), tmp_path / "out")
    config = deepstream_config(done.path)
    assert config["property"]["cluster-mode"] == "4"
    assert "nms-iou-threshold" not in config["class-attrs-all"]


def test_deepstream_makes_an_engine_of_onnx_and_finds_it_again(tmp_path: Path) -> None:
    done = deepstream_from_artifact(made(tmp_path / "a"), tmp_path / "out")
    own = deepstream_config(done.path)["property"]
    assert (own["onnx-file"], own["network-mode"]) == ("model.onnx", "0")
    assert own["model-engine-file"] == "model.onnx_b1_gpu0_fp32.engine"  # the name that nvinfer itself gives it
    (done.path / own["model-engine-file"]).write_bytes(b"of the old model")
    (done.path / DEEPSTREAM_LIBRARY).write_bytes(b"parser")
    deepstream_from_artifact(made(tmp_path / "b"), done.path, overwrite=True)
    assert not (done.path / own["model-engine-file"]).exists()  # it would be used for the new model


@pytest.mark.parametrize(
    ("changes", "fact"),
    [
        ({"format": "tensorrt", "precision": "fp16"}, "typed ONNX"),
        ({"format": "tensorrt-rtx", "precision": "fp16"}, "TensorRT-RTX"),
        ({"precision": "fp16"}, "fp16 onnx"),
        ({"precision": "int8", "calibration": INT8}, "int8 onnx"),
        ({"format": "openvino"}, "fp32 openvino"),
        ({"format": "tensorrt", "engine": ENGINE, "input": PIXELS}, "uint8 pixels"),
        ({"format": "tensorrt", "engine": ENGINE, "input": {"batch": 4}}, "exactly 4"),
        ({"format": "tensorrt", "engine": ENGINE, "input": {"batch": 4, "min_batch": 2}}, "fewer than 2"),
        ({"outputs": ("b", "s")}, "the outputs are b, s"),
        (
            {"format": "tensorrt", "engine": msgspec.structs.replace(ENGINE, version_compatible=True)},
            "for later versions",
        ),
        (
            {"format": "tensorrt", "engine": msgspec.structs.replace(ENGINE, plugins=["yolo12edge::AreaAttention"])},
            "AreaAttention",
        ),
    ],
)
def test_deepstream_refuses_what_nvinfer_cannot_run(tmp_path: Path, changes: Any, fact: str) -> None:
    with pytest.raises(ExportError, match=fact) as error:
        deepstream_from_artifact(made(tmp_path / "a", **changes), tmp_path / "out")
    assert error.value.remedy or error.value.expected
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("program", ["triton", "deepstream"])
def test_folders_are_replaced_only_if_they_are_ours(tmp_path: Path, program: str) -> None:
    deploy: Any = triton_from_artifact if program == "triton" else deepstream_from_artifact
    first, second = engine(tmp_path / "a"), engine(tmp_path / "b" / "a", class_names=["fox"])
    place = deploy(first, tmp_path / "out").path
    with pytest.raises(InputError, match="is not empty"):
        deploy(second, tmp_path / "out")
    assert deploy(second, tmp_path / "out", overwrite=True).path == place
    assert (place / "labels.txt").read_text() == "fox\n"
    (place / "notes.txt").write_text("mine")
    with pytest.raises(InputError, match=r"notes\.txt"):
        deploy(first, tmp_path / "out", overwrite=True)
    assert (place / "labels.txt").read_text() == "fox\n"
    other = tmp_path / "other" / "a"
    other.mkdir(parents=True)
    (other / "labels.txt").write_text("mine")
    with pytest.raises(InputError, match="is not replaced"):
        deploy(first, other.parent if program == "triton" else other, overwrite=True)
    assert (other / "labels.txt").read_text() == "mine"


def test_commands(tmp_path: Path) -> None:
    artifact = made(tmp_path / "cats-fp32")
    done = CliRunner().invoke(app, ["triton", str(artifact.path), str(tmp_path / "models"), "--device", "gpu"])
    assert done.exit_code == 0, done.output
    assert "KIND_GPU" in (tmp_path / "models" / "cats-fp32" / "config.pbtxt").read_text()
    done = CliRunner().invoke(app, ["deepstream", str(artifact.path), str(tmp_path / "out")])
    assert done.exit_code == 0, done.output
    assert "make -C" in done.output
    assert isinstance(
        CliRunner().invoke(app, ["deepstream", str(artifact.path), str(tmp_path / "out")]).exception, InputError
    )


def test_deploying_needs_no_torch() -> None:
    code = (
        "import sys, yolo12edge.exporters.triton_server, yolo12edge.exporters.deepstream; print('torch' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=PARSER.parents[1]
    )
    assert done.stdout.strip() == "False"


# What the parser takes from DeepStream's headers, which are not ours to ship.
DECLARATIONS = """
#pragma once
#include <vector>
typedef struct { unsigned int numDims; unsigned int d[8]; unsigned int numElements; } NvDsInferDims;
typedef enum { FLOAT = 0, HALF = 1, INT8 = 2, INT32 = 3 } NvDsInferDataType;
typedef struct { NvDsInferDataType dataType; union { NvDsInferDims inferDims; NvDsInferDims dims; }; int bindingIndex;
  const char *layerName; void *buffer; int isInput; } NvDsInferLayerInfo;
typedef struct { unsigned int width, height, channels; } NvDsInferNetworkInfo;
typedef struct { unsigned int classId; float left, top, width, height, detectionConfidence; }
  NvDsInferObjectDetectionInfo;
typedef struct { unsigned int numClassesConfigured; std::vector<float> perClassPreclusterThreshold;
  std::vector<float> perClassPostclusterThreshold; } NvDsInferParseDetectionParams;
typedef bool (*NvDsInferParseCustomFunc)(std::vector<NvDsInferLayerInfo> const &, NvDsInferNetworkInfo const &,
  NvDsInferParseDetectionParams const &, std::vector<NvDsInferObjectDetectionInfo> &);
#define CHECK_CUSTOM_PARSE_FUNC_PROTOTYPE(f) NvDsInferParseCustomFunc checked_##f = f;
"""
HARNESS = """
#include <cstdio>
#include <vector>
#include "nvdsinfer_custom_impl.h"
extern "C" bool NvDsInferParseYolo12Edge(std::vector<NvDsInferLayerInfo> const &, NvDsInferNetworkInfo const &,
  NvDsInferParseDetectionParams const &, std::vector<NvDsInferObjectDetectionInfo> &);
static unsigned number() { unsigned value = 0; return fread(&value, 4, 1, stdin) == 1 ? value : 0; }
int main() {
  NvDsInferNetworkInfo network{number(), number(), 3};
  const unsigned classes = number(), configured = number(), layers = number();
  NvDsInferParseDetectionParams parameters;
  parameters.numClassesConfigured = configured;
  for (unsigned c = 0; c < classes; ++c) {
    float value = 0;
    if (fread(&value, 4, 1, stdin) != 1) return 9;
    parameters.perClassPreclusterThreshold.push_back(value);
  }
  std::vector<NvDsInferLayerInfo> found(layers);
  std::vector<std::vector<float>> memory(layers);
  std::vector<std::vector<char>> names(layers);
  for (unsigned i = 0; i < layers; ++i) {
    names[i].resize(number() + 1, 0);
    if (fread(names[i].data(), 1, names[i].size() - 1, stdin) != names[i].size() - 1) return 9;
    found[i].dataType = static_cast<NvDsInferDataType>(number());
    found[i].inferDims.numDims = 2;
    found[i].inferDims.d[0] = number();
    found[i].inferDims.d[1] = number();
    memory[i].resize(found[i].inferDims.d[0] * found[i].inferDims.d[1]);
    if (fread(memory[i].data(), 4, memory[i].size(), stdin) != memory[i].size()) return 9;
    found[i].buffer = memory[i].data();
    found[i].layerName = names[i].data();
  }
  std::vector<NvDsInferObjectDetectionInfo> objects;
  if (!NvDsInferParseYolo12Edge(found, network, parameters, objects)) return 3;
  for (auto &o : objects)
    printf("%u %.9g %.9g %.9g %.9g %.9g\\n", o.classId, o.left, o.top, o.width, o.height, o.detectionConfidence);
}
"""


@pytest.fixture(scope="module")
def parser(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The parser and a main function around it, compiled."""
    compiler = shutil.which("g++")
    if compiler is None:
        pytest.skip("g++ is not installed")
    folder = tmp_path_factory.mktemp("parser")
    (folder / "nvdsinfer_custom_impl.h").write_text(DECLARATIONS)
    (folder / "harness.cpp").write_text(HARNESS)
    sources = [PARSER / "nvdsinfer_yolo12edge.cpp", folder / "harness.cpp"]
    words = [compiler, "-std=c++14", "-O1", "-Wall", "-Wextra", "-Werror", f"-I{folder}"]
    words += ["-fsanitize=undefined", "-fno-sanitize-recover"] if sys.platform == "linux" else []
    done = subprocess.run([*words, "-o", folder / "harness", *sources], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return folder / "harness"


def parse(parser: Path, layers: list[tuple[str, int, np.ndarray]], thresholds: list[float], configured: int) -> Any:
    """Return rows of class, left, top, width, height, confidence; None where the parser refuses."""
    words = struct.pack("<5I", 96, 64, len(thresholds), configured, len(layers))
    words += np.array(thresholds, "<f4").tobytes()
    for name, kind, values in layers:
        words += struct.pack("<I", len(name)) + name.encode() + struct.pack("<3I", kind, *values.shape)
        words += np.ascontiguousarray(values, "<f4").tobytes()
    done = subprocess.run([parser], input=words, capture_output=True)
    assert done.returncode in (0, 3), done.stderr
    if done.returncode == 3:
        assert done.stderr.startswith(b"yolo12edge: ")
        return None
    return np.array([line.split() for line in done.stdout.splitlines()], np.float32).reshape(-1, 6)


@pytest.mark.parametrize("seed", range(4))
def test_parser_finds_what_our_decoder_finds(parser: Path, seed: int) -> None:
    random = np.random.default_rng(seed)
    classes, candidates = (1, 2, 4, 80)[seed], 200
    corners = random.uniform(-20, 110, (2, 2, candidates))
    boxes = np.concatenate([corners.min(0), corners.max(0)]).astype(np.float32)
    scores = random.uniform(0, 0.6, (classes, candidates)).astype(np.float32)
    scores[:, 3] = 0.5  # equal classes: the first counts
    scores[0, 7], scores[-1, 8], boxes[2, 9], boxes[1, 10] = np.nan, np.inf, np.nan, -np.inf
    found = parse(parser, [("scores", 0, scores), ("images", 0, boxes), ("boxes", 0, boxes)], [0.25] * classes, classes)
    ours = decode(boxes, scores, Thresholds(confidence=0.25, iou=1.0, max_detections=candidates))
    clipped = np.clip(ours.xyxy, 0, [96, 64, 96, 64])
    inside = (clipped[:, 2] > clipped[:, 0]) & (clipped[:, 3] > clipped[:, 1])
    expected = np.column_stack([ours.class_id, clipped[:, :2], clipped[:, 2:] - clipped[:, :2], ours.confidence])[
        inside
    ]
    assert len(expected) > 50
    np.testing.assert_allclose(found[np.lexsort(found.T)], expected[np.lexsort(expected.T)], rtol=1e-6)


def test_parser_uses_the_threshold_of_each_class(parser: Path) -> None:
    boxes = np.array([[1, 2, 11, 22]] * 2, np.float32).T
    scores = np.array([[0.5, 0.0], [0.0, 0.5]], np.float32)
    found = parse(parser, [("boxes", 0, boxes), ("scores", 0, scores)], [0.6, 0.5], 2)
    np.testing.assert_allclose(found, [[1, 1, 2, 10, 20, 0.5]])


BOXES, SCORES = np.zeros((4, 5), np.float32), np.zeros((2, 5), np.float32)


@pytest.mark.parametrize(
    ("layers", "configured"),
    [
        ([("boxes", 0, BOXES)], 2),
        ([("scores", 0, SCORES)], 2),
        ([("boxes", 1, BOXES), ("scores", 0, SCORES)], 2),  # half
        ([("boxes", 0, BOXES[:3]), ("scores", 0, SCORES)], 2),
        ([("boxes", 0, BOXES[:, :4]), ("scores", 0, SCORES)], 2),  # other candidates
        ([("boxes", 0, BOXES), ("scores", 0, SCORES)], 3),  # labels of another model
        ([("boxes", 0, BOXES), ("scores", 0, SCORES)], 1),
    ],
)
def test_parser_refuses_other_models(parser: Path, layers: Any, configured: int) -> None:
    assert parse(parser, layers, [0.25] * 3, configured) is None


def test_manifest_travels_with_a_triton_model(tmp_path: Path) -> None:
    done = triton_from_artifact(engine(tmp_path / "a"), tmp_path / "models")
    assert json.loads((done.path / "manifest.json").read_text())["format"] == "tensorrt"


class FakeTriton:
    """A server and ``tritonclient.http`` in one: it runs the model of a repository in ONNX Runtime."""

    InferenceServerClient: Any
    InferInput: Any
    InferRequestedOutput: Any

    def __init__(self, repository: Path) -> None:
        self.asked: list[tuple[str, list[int], str]] = []

        class InferInput:
            def __init__(self, name: str, shape: list[int], datatype: str) -> None:
                self.name, self.shape, self.datatype = name, shape, datatype

            def set_data_from_numpy(self, tensor: np.ndarray) -> None:
                assert {"FP32": np.float32, "UINT8": np.uint8}[self.datatype] == tensor.dtype
                assert list(tensor.shape) == self.shape
                self.tensor = tensor

        class Client:
            def __init__(client, url: str) -> None:
                assert url == "localhost:8000"

            def infer(client, model: str, inputs: list[InferInput], outputs: list[str]) -> Any:
                from yolo12edge.runtimes.ort_backend import OrtBackend

                (one,) = inputs
                self.asked.append((model, one.shape, one.datatype))
                backend = OrtBackend(repository / model / "1" / "model.onnx", device="cpu", threads=1)
                found = backend.infer({one.name: one.tensor})
                backend.close()
                return SimpleNamespace(as_numpy=lambda name: found[name] if name in outputs else None)

        self.InferenceServerClient, self.InferInput = Client, InferInput
        self.InferRequestedOutput = lambda name: name


def test_client_finds_what_the_runtime_finds(
    tmp_path: Path,
    tiny_onnx: Artifact,
    scene_frames: list[np.ndarray],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    model = triton_from_artifact(tiny_onnx, tmp_path / "models", name="tiny").path
    server = FakeTriton(tmp_path / "models")
    package, errors = ModuleType("tritonclient"), ModuleType("tritonclient.utils")
    package.http, errors.InferenceServerException = server, type("InferenceServerException", (Exception,), {})  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "tritonclient", package)
    monkeypatch.setitem(sys.modules, "tritonclient.utils", errors)
    for number, frame in enumerate(scene_frames[:2]):
        write_image(tmp_path / "pictures" / f"{number}.png", frame)
    monkeypatch.setattr(sys, "argv", ["triton_client", str(model), str(tmp_path / "pictures"), "--confidence", "0.4"])
    runpy.run_path(str(Path(__file__).parents[2] / "examples" / "triton_client.py"), run_name="__main__")
    with Runtime(tiny_onnx) as runtime:
        names = [
            [
                runtime.manifest.class_names[index]
                for index in runtime(frame, thresholds=Thresholds(confidence=0.4)).class_id
            ]
            for frame in scene_frames[:2]
        ]
    assert any(names)
    said = [f"frame {number}: {', '.join(found) or 'nothing'}" for number, found in enumerate(names)]
    assert capsys.readouterr().out.splitlines() == said
    assert server.asked == [("tiny", [1, 3, 96, 96], "FP32")] * 2
