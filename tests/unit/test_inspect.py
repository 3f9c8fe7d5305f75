from __future__ import annotations

import json
import re
import struct
from io import StringIO
from pathlib import Path
from typing import Any
from xml.sax.saxutils import quoteattr

import msgspec
import pytest
import typer
from rich.console import Console
from typer.testing import CliRunner

import yolo12edge.cli.inspect as cli
from tests.fakes.tensorrt import fake_facts
from yolo12edge.artifact import Artifact, with_report, write_artifact
from yolo12edge.cli.inspect import describe, inspect
from yolo12edge.errors import ArtifactError, CheckpointError, InputError
from yolo12edge.keypoints import KeypointSpec
from yolo12edge.manifest import (
    Accuracy,
    Agreement,
    Budget,
    Calibration,
    InputSpec,
    Latency,
    Manifest,
    OutputSpec,
    Parity,
    Provenance,
    Report,
    Task,
    output_shapes,
)

app = typer.Typer()
app.command()(inspect)


def manifest(**changes: object) -> Manifest:
    made = Manifest(
        schema_version=1,
        task="detect",
        scale="n",
        variant="turbo",
        class_names=["circle", "square"],
        format="onnx",
        precision="int8",
        input=InputSpec(name="images", batch=1, height=320, width=640),
        outputs=[
            OutputSpec(name="boxes", role="boxes", shape=(1, 4, 4200)),
            OutputSpec(name="scores", role="scores", shape=(1, 2, 4200)),
        ],
        provenance=Provenance(
            checkpoint_sha256="ab" * 32,
            created="2026-01-02T03:04:05Z",
            versions={"onnx": "1.20"},
            weights_license="MIT",
        ),
        calibration=Calibration(
            method="percentile",
            split="train",
            images=["a.jpg", "b.jpg"],
            images_digest="cd" * 32,
            placement="ort-x86",
            float_nodes=["/head/Conv"],
            reduced_range=True,
            rounding="adaround",
            float_groups=["model.2", "model.6.m.0.0.attn"],
        ),
        report=Report(
            parity=Parity(source="checkpoint", images=4, errors={"boxes": 0.01, "scores": 1e-5}),
            accuracy=Accuracy(
                dataset="cells",
                split="val",
                images=87,
                metric="box AP50-95",
                value=0.53,
                details={"AP50": 0.84, "AP75": 0.59},
                reference="fp32",
                reference_value=0.54,
                reference_details={"AP50": 0.85, "AP75": 0.595},
            ),
            agreement=Agreement(images=87, f1=0.975, mean_iou=0.98, score_shift=-0.012, reference="fp32"),
            budget=Budget(max_map_drop=0.5, held=False),
            latency=Latency(
                engine="onnxruntime 1.20",
                device="cpu",
                threads=2,
                samples=100,
                median_ms=20.0,
                reference="fp32",
                reference_median_ms=25.0,
            ),
        ),
    )
    return msgspec.structs.replace(made, **changes)


@pytest.fixture
def artifact(tmp_path: Path) -> Artifact:
    return write_artifact(tmp_path / "art", manifest(), {"model.onnx": b"model"})


def run(*arguments: str, code: int = 0) -> str:
    result = CliRunner().invoke(app, list(arguments))
    assert result.exit_code == code, result.output
    return result.stdout


def write_onnx(path: Path, value: str) -> Path:
    def field(number: int, content: bytes) -> bytes:
        size = len(content)
        return bytes([number << 3 | 2, size & 0x7F | 0x80, size >> 7 & 0x7F | 0x80, size >> 14]) + content

    path.write_bytes(field(14, field(1, b"yolo12edge") + field(2, value.encode())))
    return path


def write_checkpoint(path: Path, **changes: Any) -> Path:
    """The header of a checkpoint; inspect reads no weights."""
    meta = {
        "format_version": 1,
        "task": "detect",
        "scale": "n",
        "variant": "v1",
        "class_names": ["circle"],
        "image_size": 320,
        "bn_eps": 0.001,
        "mlp_ratio": 2.0,
        "residual": False,
        "areas": [4, 1],
        "source": "trained",
        "weights_license": None,
        "training": {"epochs": 50},
        **changes,
    }
    header = {
        "__metadata__": {"yolo12edge": json.dumps(meta)},
        "model.0.conv.weight": {"dtype": "F32", "shape": [16, 3, 3, 3], "data_offsets": [0, 1728]},
        "model.0.bn.weight": {"dtype": "F32", "shape": [16], "data_offsets": [1728, 1792]},
        "model.0.bn.running_mean": {"dtype": "F32", "shape": [16], "data_offsets": [1792, 1856]},
    }
    text = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + bytes(1856))
    return path


def test_artifact_shows_everything(artifact: Artifact) -> None:
    shown = run(str(artifact.path))
    for text in (
        "YOLO12n (turbo), detect",
        "2: circle, square",
        "onnx, int8",
        "images: 1x3x320x640 float32",
        "boxes: 1x4x4200 float32",
        "percentile over 2 images of 'train', for ort-x86, 1 convolutions float, attention float, 7-bit weights",
        "rounded by AdaRound",
        "model.2, model.6.m.0.0.attn",
        "0.5 points, NOT held",
        "with fp32 on 87 images: 97.5 % of the detections, confidence -0.0120",
        "boxes within 0.01 px",
        "53.00",
        "-1.00",
        "1.25x",
        "model.onnx",
        "verified",
        "MIT",
        "ab" * 32,
    ):
        assert text in shown, text
    assert "loses more accuracy than was allowed" in shown
    assert shown.count("Warning") == 1


def test_lines_end_without_blanks_and_break_no_digest(artifact: Artifact, monkeypatch: pytest.MonkeyPatch) -> None:
    assert [line for line in run(str(artifact.path)).splitlines() if line != line.rstrip()] == []
    screen = StringIO()
    monkeypatch.setattr(cli, "out", Console(file=screen, force_terminal=True, color_system=None, width=80))
    run(str(artifact.path))
    lines = screen.getvalue().splitlines()
    assert any(line.endswith(" " + "ab" * 32) for line in lines)
    # The path on the first line is one word, and so may be longer.
    assert max(map(len, lines[1:])) <= 80


def test_json_is_the_manifest_and_more(artifact: Artifact) -> None:
    facts = json.loads(run(str(artifact.path), "--json"))
    assert facts["kind"] == "artifact"
    assert facts["verified"] is True
    assert facts["files"][0]["problem"] is None
    assert msgspec.convert(facts["manifest"], Manifest) == artifact.manifest


@pytest.mark.parametrize("options", [[], ["--json"]])
def test_altered_file_is_shown_and_the_exit_code_tells(artifact: Artifact, options: list[str]) -> None:
    artifact.model_file.write_bytes(b"modem")
    shown = run(str(artifact.path), *options, code=1)
    assert "was altered" in shown
    assert "circle" in shown


def test_damage_is_said_first_with_both_sizes(artifact: Artifact) -> None:
    artifact.model_file.write_bytes(b"mod")
    first = run(str(artifact.path), code=1).splitlines()[1]
    assert re.search(r"DAMAGED: .*model\.onnx has 3 bytes\. Expected: 5 bytes\.", first)
    artifact.model_file.unlink()
    assert re.search(r"DAMAGED: .*has no file model\.onnx", run(str(artifact.path), code=1).splitlines()[1])


def test_slow_int8_is_said(artifact: Artifact) -> None:
    latency = artifact.manifest.report.latency
    assert latency is not None
    slow = msgspec.structs.replace(latency, median_ms=30.0)
    with_report(artifact, msgspec.structs.replace(artifact.manifest.report, latency=slow))
    assert "int8 is not faster than fp32" in run(str(artifact.path))


def test_nothing_measured_is_said(artifact: Artifact) -> None:
    with_report(artifact, Report())
    assert "not measured" in run(str(artifact.path))


def test_lone_onnx_file(tmp_path: Path) -> None:
    path = write_onnx(tmp_path / "my model.onnx", manifest().to_embedded_json())
    shown = run(str(path))
    assert "YOLO12n (turbo)" in shown
    assert "verified" not in shown  # there is nothing to verify it against
    assert (
        shown.count("not in the file (see the artifact's manifest.json)") == 2
    )  # when it was made, and how good it is
    facts = json.loads(run(str(path), "--json"))
    assert facts["kind"] == "onnx"
    assert facts["files"][0]["bytes"] == path.stat().st_size


def write_openvino(path: Path, value: str) -> Path:
    layers = '<layers><layer><data offset="0" size="8"/></layer></layers>'
    path.write_text(f"<net>{layers}<rt_info><yolo12edge value={quoteattr(value)}/></rt_info></net>")
    path.with_suffix(".bin").write_bytes(b"8 bytes.")
    return path


def test_lone_openvino_file_and_its_weights(tmp_path: Path) -> None:
    path = write_openvino(tmp_path / "my model.xml", manifest(format="openvino").to_embedded_json())
    shown = run(str(path))
    for text in ("OpenVINO file with embedded manifest", "YOLO12n (turbo)", "openvino, int8", "my model.bin"):
        assert text in shown, text
    facts = json.loads(run(str(path), "--json"))
    assert facts["kind"] == "openvino"
    assert [(file["path"], file["bytes"]) for file in facts["files"]] == [
        ("my model.xml", path.stat().st_size),
        ("my model.bin", 8),
    ]
    path.with_suffix(".bin").write_bytes(b"7 bytes")
    assert "has 7 bytes" in run(str(path), code=1)
    path.with_suffix(".bin").unlink()
    assert "cannot read" in run(str(path), code=1)


def test_checkpoint(tmp_path: Path) -> None:
    path = write_checkpoint(tmp_path / "best.safetensors")
    shown = run(str(path))
    for text in ("YOLO12n (v1)", "1: circle", "448", "320 px", "epochs 50", "not stated"):
        assert text in shown, text
    facts = json.loads(run(str(path), "--json"))
    assert facts["parameters"] == 16 * 27 + 16
    assert facts["checkpoint"]["class_names"] == ["circle"]


@pytest.mark.parametrize("licence", ["AGPL-3.0", "GNU agpl v3"])
def test_agpl_weights_are_warned_of(tmp_path: Path, licence: str) -> None:
    provenance = msgspec.structs.replace(manifest().provenance, weights_license=licence)
    write_artifact(tmp_path / "art", manifest(provenance=provenance), {"model.onnx": b""})
    checkpoint = write_checkpoint(tmp_path / "a.safetensors", weights_license=licence)
    onnx = write_onnx(tmp_path / "a.onnx", manifest(provenance=provenance).to_embedded_json())
    for path in (tmp_path / "art", checkpoint, onnx):
        assert f"Warning: The weights are under {licence}" in run(str(path))


def test_no_escape_sequence_or_markup_of_the_file_reaches_the_terminal(tmp_path: Path) -> None:
    names = ["\x1b[31mred\x07", "[bold]square[/bold]"]
    write_artifact(tmp_path / "art", manifest(class_names=names), {"model.onnx": b""})
    shown = run(str(tmp_path / "art"))
    assert "\x1b" not in shown
    assert "\x07" not in shown
    assert r"\x1b[31mred\x07, [bold]square[/bold]" in shown


def test_names_of_figures_are_no_markup(tmp_path: Path) -> None:
    report = manifest().report
    assert report.accuracy is not None
    strange = msgspec.structs.replace(
        report.accuracy, metric="[/bold]", details={"\x1b[31m": 0.5}, reference_details={"\x1b[31m": 0.5}
    )
    write_artifact(
        tmp_path / "art", manifest(report=msgspec.structs.replace(report, accuracy=strange)), {"model.onnx": b""}
    )
    shown = run(str(tmp_path / "art"))
    assert "[/bold]" in shown
    assert r"\x1b[31m" in shown
    assert "\x1b" not in shown


def of_task(task: Task, **changes: Any) -> Manifest:
    """Of a task, without anything that was measured."""
    resize: Any = "centre-crop" if task == "classify" else "letterbox"
    spec = InputSpec(name="images", batch=1, height=64, width=64, resize=resize)
    shapes = output_shapes(task, spec, classes=2, keypoints=changes.get("keypoints"))
    outputs = [OutputSpec(name=role, role=role, shape=tuple(n or 84 for n in sizes)) for role, sizes in shapes.items()]
    about = {"task": task, "input": spec, "outputs": outputs, "precision": "fp32", "calibration": None}
    return manifest(**about, report=Report(), **changes)


def test_what_belongs_to_a_task_is_shown(tmp_path: Path) -> None:
    points = KeypointSpec(count=2, names=["nose", "tail"])
    write_artifact(tmp_path / "pose", of_task("pose", keypoints=points), {"model.onnx": b""})
    shown = run(str(tmp_path / "pose"))
    for text in ("2 of 3 values: nose, tail", "letterbox padded with 114", "keypoints: 1x6x84 float32, keypoints"):
        assert text in shown, text
    write_artifact(tmp_path / "class", of_task("classify", multi_label=True), {"model.onnx": b""})
    shown = run(str(tmp_path / "class"))
    assert "2: circle, square; they do not exclude each other" in shown
    assert "middle of the picture, pixel *" in shown
    assert "padded" not in shown
    about = {"task": "pose", "keypoints": msgspec.to_builtins(points)}
    assert "2 of 3 values: nose, tail" in run(str(write_checkpoint(tmp_path / "a.safetensors", **about)))


@pytest.mark.parametrize(
    ("name", "content", "error", "message"),
    [
        ("missing", None, InputError, "does not exist"),
        ("model.onnx", b"", ArtifactError, "no yolo12edge manifest"),
        ("model.xml", b"<net/>", ArtifactError, "no yolo12edge manifest"),
        ("model.xml", b"<html/>", ArtifactError, "not an OpenVINO model"),
        ("best.safetensors", b"x", CheckpointError, "not a safetensors file"),
        ("best.pt", b"x", InputError, "yolo12edge import"),
        ("manifest.json", b"{}", InputError, "yolo12edge inspect"),
        ("notes.txt", b"x", InputError, "unknown kind"),
    ],
)
def test_what_is_not_inspectable_is_said(
    tmp_path: Path, name: str, content: bytes | None, error: type[Exception], message: str
) -> None:
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(error, match=message):
        describe(tmp_path / name)


def test_directory_without_manifest_is_said(tmp_path: Path) -> None:
    for name, message in (
        ("notes.txt", r"is no artifact.*a directory that 'yolo12edge export' wrote\.$"),
        ("a.onnx", r"it holds a\.onnx: name that file"),
        ("b.onnx", r"wrote\.$"),  # which of the two is not for us to say
    ):
        (tmp_path / name).write_bytes(b"")
        with pytest.raises(ArtifactError, match=message):
            describe(tmp_path)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({}, "tensorrt 10.3.0, built with CUDA 12.6, for linux-aarch64 on sm_87"),
        ({"hardware_compatible": True}, "on sm_87 and other GPUs from Ampere on"),
        ({"version_compatible": True}, "tensorrt 10.3.0 or newer,"),
        (
            {"library": "tensorrt-rtx", "cuda": "", "hardware_compatible": True},
            "without a GPU, for linux-aarch64 on sm",
        ),
        ({"library": "tensorrt-rtx", "hardware_compatible": True}, "on sm_87 and newer GPUs"),
    ],
)
def test_an_engine_says_where_it_runs(changes: dict[str, Any], words: str) -> None:
    facts = fake_facts(**{"version": "10.3.0", "platform": "linux-aarch64", **changes})
    ((name, text),) = cli._engine_rows(manifest(format=facts.library, precision="fp16", engine=facts))
    assert name == "engine"
    assert words in text
    assert text.endswith("sm_87") is not facts.hardware_compatible
