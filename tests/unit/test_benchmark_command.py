from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import msgspec
import numpy as np
import pytest
from typer.testing import CliRunner, Result

from yolo12edge.benchmark import bootstrap
from yolo12edge.benchmark import run as module
from yolo12edge.benchmark.frames import describe_frames, image_frames, scene_frames
from yolo12edge.benchmark.fresh_process import start_fresh
from yolo12edge.benchmark.measuring import warm_up
from yolo12edge.benchmark.record import BenchmarkRecord
from yolo12edge.cli import app
from yolo12edge.errors import BackendError, InputError
from yolo12edge.imaging.images import write_image

pytest.importorskip("onnxruntime", reason="the model that is measured is an ONNX file")


@pytest.fixture(autouse=True, scope="module")
def fewer_drawings() -> Iterator[None]:
    """300 drawings give the intervals of 2,000 within a few per cent of their width."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(bootstrap, "_RESAMPLES", 300)
        yield


def invoke(*arguments: str | Path) -> Result:
    return CliRunner().invoke(app, ["benchmark", *map(str, arguments)])


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory, tiny_onnx, scene_frames) -> tuple[dict, Path]:
    """What a short run of one model twice, as artifact and as lone file, prints and writes."""
    folder = tmp_path_factory.mktemp("benchmark")
    for index, frame in enumerate(scene_frames[:3]):
        write_image(folder / "pictures" / f"{index}.png", frame)
    shutil.copy(tiny_onnx.path / "model.onnx", folder / "lone.onnx")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "_FRESH_STARTS", 1)
        patch.setattr(module, "_STREAM_S", 0.05)
        patch.setattr(module, "warm_up", partial(warm_up, limit_s=0.3))
        done = invoke(
            tiny_onnx.path, folder / "lone.onnx", "--source", folder / "pictures", "--threads", "1", "--batch", "1,2",
            "--seconds", "0.2", "--out", folder / "run", "--json",
        )  # fmt: skip
    assert done.exit_code in (0, 1), done.output  # 1: this machine was not steady
    return json.loads(done.stdout), folder


def test_the_run_is_measured_from_frame_to_detections(measured: tuple[dict, Path], tiny_onnx) -> None:
    facts, folder = measured
    keys = [(case["model"], case["threads"], case["batch"]) for case in facts["cases"]]
    assert keys == [(name, 1, batch) for name in ("tiny-fp32", "lone.onnx") for batch in (1, 2)]
    record = BenchmarkRecord.load(folder / "run")
    for case in record.cases:
        samples, summary = case.samples, case.summary
        assert len(samples.total_ms) == summary.samples >= 8
        assert max(samples.turn) >= 7
        assert min(samples.pre_ms) > 0
        assert min(samples.infer_ms) > 0
        assert min(samples.post_ms) > 0
        assert case.objects_per_frame > 0
        assert (case.frames_per_s is None) == (case.batch > 1)
        if case.batch == 1:
            stages = np.sum([samples.pre_ms, samples.infer_ms, samples.post_ms], axis=0)
            assert np.all(stages <= np.asarray(samples.total_ms) + 0.01)
            assert summary.infer_ms > 0.3 * summary.percentiles[0].ms
    assert facts["verdict"] == record.verdict
    assert len([line for line in record.verdict if "not steady" not in line]) == 2
    assert "samples" not in facts["cases"][0]
    assert facts["folder"] == str(folder / "run")


def test_the_record_says_what_and_where_it_was(measured: tuple[dict, Path], tiny_onnx) -> None:
    facts, folder = measured
    artifact, lone = facts["models"]
    digest = tiny_onnx.manifest.files[0].sha256
    assert (artifact["files"], lone["files"]) == ({"model.onnx": digest}, {"lone.onnx": digest})
    assert (artifact["precision"], artifact["width"], artifact["height"]) == ("fp32", 96, 96)
    for model in facts["models"]:
        start = model["fresh_start"]
        parts = start["import_ms"][0] + start["load_ms"][0] + start["first_ms"][0]
        assert 0 < parts <= start["to_detections_ms"][0]
        if sys.platform == "linux":
            assert 20e6 < start["loaded_bytes"][0] <= start["peak_bytes"][0] < 2e9
    environment = facts["environment"]
    assert environment["machine"]["python"]
    assert {"yolo12edge", "numpy", "onnxruntime"} <= set(environment["versions"])
    assert facts["source"]["count"] == 3
    assert facts["source"]["sizes"] == ["160x160"]
    assert facts["command"][0] == "yolo12edge"
    assert {"benchmark.html", "benchmark.json"} <= {path.name for path in (folder / "run").iterdir()}


def test_compare_prints_and_ends_with_what_it_found(measured: tuple[dict, Path], tmp_path: Path) -> None:
    _, folder = measured
    same = invoke("compare", folder / "run", folder / "run" / "benchmark.json")
    assert same.exit_code == 0, same.output
    assert "A and B are the same run" in same.output
    record = BenchmarkRecord.load(folder / "run")
    (tmp_path / "later.json").write_bytes(msgspec.structs.replace(record, created="later").to_json())
    later = invoke("compare", folder / "run", tmp_path / "later.json")
    assert later.output.count("no different") + later.output.count("cannot tell") == 4
    samples = record.cases[0].samples
    slow = msgspec.structs.replace(samples, total_ms=[20 * value for value in samples.total_ms])
    changed = [msgspec.structs.replace(record.cases[0], samples=slow), *record.cases[1:]]
    (tmp_path / "slow.json").write_bytes(msgspec.structs.replace(record, cases=changed).to_json())
    slower = invoke("compare", folder / "run", tmp_path / "slow.json", "--json")
    assert slower.exit_code == 1
    found = json.loads(slower.stdout)["cases"]
    assert found[0]["verdict"] == "slower"
    assert {case["verdict"] for case in found[1:]} <= {"no difference", "cannot tell"}
    assert found[0]["median"]["ratio"] == pytest.approx(20)
    assert found[0]["median"]["low"] > 1
    faster = invoke("compare", tmp_path / "slow.json", folder / "run")
    assert faster.exit_code == 0
    assert "faster" in faster.output


def test_a_finding_is_exit_code_1(measured: tuple[dict, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    record = BenchmarkRecord.load(measured[1] / "run")

    def ended(*, steady: bool) -> int:
        warm = msgspec.structs.replace(record.cases[0].warm_up, steady=steady)
        cases = [msgspec.structs.replace(case, warm_up=warm) for case in record.cases]
        monkeypatch.setattr(module, "run_benchmark", lambda *_, **__: msgspec.structs.replace(record, cases=cases))
        done = invoke(tmp_path, "--source", measured[1] / "pictures", "--out", tmp_path / f"{steady}")
        assert "Results in" in done.output
        assert "p50" in done.output
        return done.exit_code

    assert ended(steady=True) == 0
    assert ended(steady=False) == 1


@pytest.mark.parametrize(
    "arguments",
    [
        ("model", "--threads", "0"),
        ("model", "--threads", "1,x"),
        ("model", "--batch", "1,,2"),
        ("model", "--batch", "99999999"),
        ("compare", "only-one"),
    ],
)
def test_wrong_usage(arguments: tuple[str, ...]) -> None:
    assert invoke(*arguments).exit_code == 2


def test_what_cannot_be_done_is_said_before_measuring(
    tmp_path: Path, tiny_onnx, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "run_benchmark", lambda *_, **__: pytest.fail("it measured"))
    (tmp_path / "used").mkdir()
    (tmp_path / "used" / "file").touch()
    for arguments, words in (
        (("--out", tmp_path / "used"), "not an empty folder"),
        (("--seconds", "0"), "--seconds is 0"),
        (("--minutes", "100"), "at most 60"),
        ((tmp_path / "nope",), "nope does not exist"),
        (("--batch", "2000"), "1 to 1024"),
        (("--source", tmp_path / "none"), "does not exist"),
    ):
        done = invoke(tiny_onnx.path, *arguments)
        assert isinstance(done.exception, InputError), arguments
        assert words in str(done.exception)


def interrupt(*_: object, **__: object) -> None:
    raise KeyboardInterrupt


def test_what_was_measured_before_an_interruption_is_written(
    tmp_path: Path, tiny_onnx, scene_frames, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_image(tmp_path / "pictures" / "0.png", scene_frames[0])
    for name, value in (("_FRESH_STARTS", 1), ("warm_up", partial(warm_up, limit_s=0.1)), ("_stream_rate", interrupt)):
        monkeypatch.setattr(module, name, value)
    options = ("--source", tmp_path / "pictures", "--threads", "1", "--seconds", "0.1")
    done = invoke(tiny_onnx.path, *options, "--out", tmp_path / "run")
    assert done.exit_code == 130, done.output
    assert "are for measuring" in done.output
    assert "interrupted after" in done.output
    record = BenchmarkRecord.load(tmp_path / "run")
    assert record.interrupted
    assert record.cases[0].summary.samples >= 8
    assert record.cases[0].frames_per_s is None
    assert ">Interrupted<" in (tmp_path / "run" / "benchmark.html").read_text()
    monkeypatch.setattr(module, "warm_up", interrupt)
    nothing = invoke(tiny_onnx.path, *options, "--out", tmp_path / "none")
    assert nothing.exit_code == 130
    assert "nothing was written" in nothing.output
    assert not (tmp_path / "none").exists()


def test_the_expected_time_counts_every_case(tmp_path: Path) -> None:
    short, long = (
        module.expected_seconds(module.BenchmarkPlan([tmp_path], threads=threads, batches=batches))
        for threads, batches in (((1,), (1,)), ((1, 2), (1, 4, 8)))
    )
    assert short > 6
    assert long > short + 5 * 6


def test_help_is_that_of_the_run() -> None:
    for arguments in ((), ("--help",), ("-h",)):
        done = invoke(*arguments)
        assert "--minutes" in done.output, arguments
        assert "compare A B" in done.output
    assert "benchmark compare A B" in " ".join(CliRunner().invoke(app, ["--help"]).output.replace("│", "").split())
    assert "ratios of the times" in invoke("compare", "--help").output


def test_a_fresh_process_that_fails_says_why(tmp_path: Path) -> None:
    (tmp_path / "broken.onnx").write_bytes(b"no model")
    frame = np.zeros((32, 32, 3), np.uint8)
    with pytest.raises(BackendError, match=r"(?s)could not run .*broken\.onnx"):
        start_fresh(tmp_path / "broken.onnx", frame, device="cpu", threads=1)


def test_names_of_models_differ() -> None:
    paths = [Path(path) for path in ("a/best", "b/best", "c/other", "c/other")]
    assert module._names(paths) == ["a/best", "b/best", "c/other", "c/other (2)"]


def test_frames(tmp_path: Path) -> None:
    frames = scene_frames()
    assert {frame.shape for frame in frames} == {(720, 1280, 3)}
    assert len({frame.tobytes() for frame in frames}) == len(frames)
    facts = describe_frames(frames, "rendered scenes")
    assert facts.sizes == ["1280x720"]
    assert facts.digest != describe_frames(frames[::-1], "").digest
    (tmp_path / "film.mp4").touch()
    with pytest.raises(InputError, match="no image"):
        image_frames([tmp_path])
