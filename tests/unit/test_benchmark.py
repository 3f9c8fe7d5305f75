from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from yolo12edge.benchmark import bootstrap, results
from yolo12edge.benchmark.compare import compare_records
from yolo12edge.benchmark.measuring import Samples
from yolo12edge.benchmark.page import benchmark_page
from yolo12edge.benchmark.plots import inline_plots
from yolo12edge.benchmark.record import (
    BenchmarkRecord,
    Environment,
    FreshStart,
    MeasuredCase,
    ModelFacts,
    SampleLists,
    SeriesEntry,
    SourceFacts,
    WarmUpFacts,
)
from yolo12edge.benchmark.results import write_results
from yolo12edge.benchmark.summaries import slowdown_of, summary_of
from yolo12edge.benchmark.verdict import case_name, verdict_lines
from yolo12edge.errors import InputError, MissingDependencyError
from yolo12edge.manifest import Accuracy
from yolo12edge.reports.svg import inline_svg

DIGEST = "0123456789abcdef" * 4
EVIL = "<script>alert(1)</script>"
ACCURACY = Accuracy(
    dataset="cells",
    split="val",
    images=87,
    metric="box AP50-95",
    value=0.584,
    details={"AP50": 0.8, "AP75": 0.6},
    reference="fp32",
    reference_value=0.589,
    reference_details={"AP50": 0.8, "AP75": 0.6},
)


@pytest.fixture(autouse=True, scope="module")
def fewer_drawings() -> Iterator[None]:
    """300 drawings give the intervals of 2,000 within a few per cent of their width."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(bootstrap, "_RESAMPLES", 300)
        yield


def model(name: str, **changes: Any) -> ModelFacts:
    one = {key: [100.0, 120.0, 110.0] for key in ("import_ms", "load_ms", "first_ms", "to_detections_ms")}
    start = FreshStart(**one, loaded_bytes=[100_000_000] * 3, peak_bytes=[123_000_000] * 3)
    facts: dict[str, Any] = {
        "format": "onnx",
        "precision": "int8" if "int8" in name else "fp32",
        "scale": "n",
        "width": 320,
        "height": 320,
        "files": {"model.onnx": DIGEST},
        "bytes": 3_000_000,
        "accuracy": ACCURACY if "int8" in name else None,
        "fresh_start": start,
    }
    return ModelFacts(name=name, **{**facts, **changes})


def case(
    name: str, ms: float, *, threads: int = 2, batch: int = 1, seed: int = 0, sustained: bool = False, turns: int = 20
) -> MeasuredCase:
    """Times of about ``ms``; with ``sustained`` 40 turns, 30 % longer in the second half."""
    turns = 40 if sustained else turns
    rng = np.random.default_rng([seed, threads, batch, *name.encode()])
    count = 20 * turns
    total = ms * rng.lognormal(sigma=0.05, size=count)
    if sustained:
        total[count // 2 :] *= 1.3
    samples = Samples(
        total.tolist(),
        [0.5] * count,
        (total - 1).tolist(),
        [0.25] * count,
        np.linspace(0, 60, count).tolist(),
        np.repeat(np.arange(turns), 20).tolist(),
    )
    return MeasuredCase(
        model=name,
        threads=threads,
        batch=batch,
        engine="engine 1.0",
        device="cpu (there)",
        warm_up=WarmUpFacts(calls=20, seconds=1.0, steady=True),
        summary=summary_of(samples),
        frames_per_s=1000 / ms if batch == 1 else None,
        slowdown=slowdown_of(samples) if sustained else None,
        objects_per_frame=2.5,
        samples=SampleLists(**{field: getattr(samples, field) for field in SampleLists.__struct_fields__}),
    )


def record(*cases: MeasuredCase, models: list[ModelFacts] | None = None, **changes: Any) -> BenchmarkRecord:
    models = models or [model(name) for name in dict.fromkeys(item.model for item in cases)]
    facts: dict[str, Any] = {
        "schema_version": 1,
        "created": "2026-01-02T03:04:05Z",
        "command": ["yolo12edge", "benchmark", "fp32", "int8"],
        "environment": Environment(
            machine={"cpu": "A processor", "cores_usable": 2, "memory_bytes": 2**33, "cpu_features": ["avx2"]},
            settings={"governor": "performance"},
            gpus=[],
            versions={"numpy": "2.0"},
        ),
        "source": SourceFacts(source="rendered scenes", count=8, sizes=["1280x720"], digest=DIGEST),
        "sustained_s": None,
        "models": models,
        "cases": list(cases),
        "sensors": [SeriesEntry(source="thermal", name="cpu", unit="°C", seconds=[1.0, 2.0], values=[50.0, 52.0])],
        "notes": [],
        "verdict": ["A verdict."],
    }
    return BenchmarkRecord(**{**facts, **changes})


def test_verdict_names_speed_interval_and_accuracy() -> None:
    cases = [case("fp32", 14), case("int8", 10)]
    (line,) = verdict_lines([model("fp32"), model("int8")], cases, None)
    assert line.startswith("On cpu (there): INT8 (int8) is 1.4")
    assert "the speed of FP32 (fp32) (95 %: 1." in line
    assert line.endswith("), \N{MINUS SIGN}0.5 points of box AP50-95 (87 images of cells).")


def test_verdict_of_what_is_slower_or_the_same() -> None:
    models = [model("int8", accuracy=None), model("fp32")]
    (slower,) = verdict_lines(models, [case("int8", 14), case("fp32", 10)], None)
    assert "is 0.7" in slower
    assert ", slower (95 %" in slower
    assert slower.endswith("; its accuracy was not measured.")
    (same,) = verdict_lines(models, [case("int8", 10), case("fp32", 10, seed=1)], None)
    assert "do not differ in speed as far as the samples can show" in same
    (few,) = verdict_lines(models, [case("int8", 10, turns=4), case("fp32", 14, turns=4)], None)
    assert "too few turns" in few
    assert verdict_lines(models[:1], [case("int8", 10)], None) == []


def test_an_unsteady_machine_is_the_first_thing_that_is_said() -> None:
    restless = case("int8", 10)
    restless = msgspec.structs.replace(restless, warm_up=WarmUpFacts(calls=20, seconds=4.0, steady=False))
    lines = verdict_lines([model("fp32"), model("int8")], [case("fp32", 14), restless], None)
    assert lines[0].startswith("The machine was not steady: int8 never settled")
    assert len(lines) == 2


def test_accuracy_against_another_model_is_said() -> None:
    models = [model("float"), model("int8")]
    (line,) = verdict_lines(models, [case("float", 14), case("int8", 10)], None)
    assert "\N{MINUS SIGN}0.5 points of box AP50-95 against fp32 (87 images of cells)" in line


def test_each_model_is_compared_with_its_own_float() -> None:
    models = [model("float"), model("fp32"), model("int8"), model("ov-int8", format="openvino", accuracy=None)]
    models.append(model("ov-float", format="openvino"))
    cases = [case(item.name, 10 + index) for index, item in enumerate(models)]
    cases[3] = msgspec.structs.replace(cases[3], engine="other 2.0")
    lines = verdict_lines(models, cases, None)
    assert len(lines) == 4
    assert "the speed of FP32 (float)" in lines[0]
    assert "the speed of FP32 (fp32)" in lines[1]
    assert "INT8 (ov-int8, other 2.0)" in lines[2]
    assert "FP32 (ov-float, engine 1.0)" in lines[2]
    assert "FP32 (ov-float) is" in lines[3]
    assert "the speed of FP32 (float)" in lines[3]


def test_verdict_of_sweeps_and_sustained_runs() -> None:
    cases = [case(name, 20 / threads, threads=threads) for threads in (1, 2) for name in ("fp32", "int8")]
    lines = verdict_lines([model("fp32"), model("int8")], cases, None)
    assert [line.split(":")[0] for line in lines[:2]] == [
        f"On cpu (there), {threads}, batch 1" for threads in ("1 thread", "2 threads")
    ]
    assert lines[2].startswith("fp32 with 2 threads takes ")
    same = [case("fp32", 20, threads=threads) for threads in (1, 2, 4)]
    assert verdict_lines([model("fp32")], same, None)[0].startswith("fp32 with 1 thread takes ")
    assert [case_name(item, cases) for item in cases[:3]] == ["fp32, 1 thread", "int8, 1 thread", "fp32, 2 threads"]
    hot = verdict_lines([model("fp32")], [case("fp32", 20, sustained=True)], 60.0)
    assert hot[0].startswith("fp32 SLOWS DOWN over a minute: the last quarter took 1.")
    cool = case("fp32", 20, turns=40)
    steady = msgspec.structs.replace(cool, slowdown=slowdown_of(Samples(**msgspec.to_builtins(cool.samples))))
    assert verdict_lines([model("fp32")], [steady], 60.0)[0].startswith("fp32 keeps its speed")


def test_compare_tells_faster_slower_and_no_difference() -> None:
    a = record(case("fp32", 20), case("int8", 10), case("other", 10))
    b = record(case("fp32", 22, seed=1), case("int8", 9, seed=1), case("other", 10, seed=2))
    found = {item.name: item for item in compare_records(a, b).cases}
    assert {name: item.verdict for name, item in found.items()} == {
        "fp32": "slower",
        "int8": "faster",
        "other": "no difference",
    }
    assert found["fp32"].median.low < 1.1 < found["fp32"].median.high
    assert found["fp32"].p99 is not None  # 400 samples
    assert [item.slower for item in found.values()] == [True, False, False]
    assert compare_records(a, b).notes == []


def test_compare_shows_no_p99_that_the_samples_cannot_support() -> None:
    (item,) = compare_records(record(case("fp32", 20, turns=18)), record(case("fp32", 20, turns=30))).cases
    assert item.median is not None
    assert item.p99 is None
    (item,) = compare_records(record(case("fp32", 20, turns=5)), record(case("fp32", 20))).cases
    assert (item.verdict, item.slower) == ("too few samples", False)


def test_a_longer_tail_alone_is_slower_at_p99() -> None:
    a = case("fp32", 20)
    times = [value * (3 if index % 20 == 7 else 1) for index, value in enumerate(a.samples.total_ms)]
    b = msgspec.structs.replace(a, samples=msgspec.structs.replace(a.samples, total_ms=times))
    (item,) = compare_records(record(a), record(b)).cases
    assert item.verdict == "no difference"
    assert item.p99.verdict == "slower"
    assert item.slower


def test_compare_matches_cases_and_says_what_else_differs() -> None:
    other = Environment(
        machine={"cpu": "Another"},
        settings={"governor": "powersave"},
        gpus=[{"name": "GPU"}],
        versions={"numpy": "2.1"},
    )
    a = record(case("fp32", 20), case("fp32", 30, threads=1))
    changed = [model("fp32", files={"model.onnx": DIGEST[::-1]})]
    b = record(case("fp32", 20), case("fp32", 30, batch=4), models=changed, environment=other, sustained_s=60.0)
    comparison = compare_records(a, b)
    assert [item.name for item in comparison.cases] == ["fp32, 2 threads, batch 1"]
    notes = "\n".join(comparison.notes)
    for words in (
        "cpu differ: A processor in A, Another in B",
        "governor differ: performance in A, powersave in B",
        "numpy differ: 2.0 in A, 2.1 in B",
        "the files of the model differ",
        "sustained seconds differ",
        "only in A: fp32, 1 thread",
        "only in B: fp32, batch 4",
    ):
        assert words in notes
    single = compare_records(record(case("fp32", 20)), record(case("int8", 10)))
    assert single.cases[0].name == "fp32 → int8"
    with pytest.raises(InputError, match="no case in common: A has fp32"):
        compare_records(a, record(case("x", 1), case("y", 2)))


def test_records_survive_the_way_through_a_file(tmp_path: Path) -> None:
    own = record(case("fp32", 20), case("int8", 10, sustained=True), sustained_s=60.0)
    write_results(own, tmp_path / "run")
    assert BenchmarkRecord.load(tmp_path / "run") == own
    assert BenchmarkRecord.load(tmp_path / "run" / "benchmark.json") == own


def edited(edit) -> bytes:
    facts = msgspec.to_builtins(record(case("fp32", 20, turns=2)))
    edit(facts)
    return json.dumps(facts).encode()


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (lambda facts: facts.update(schema_version=2), "schema version 2"),
        (lambda facts: facts.pop("cases"), "missing required field `cases`"),
        (lambda facts: facts.update(more=1), "unknown field `more`"),
        (lambda facts: facts["cases"][0]["samples"]["total_ms"].pop(), "differ in length"),
        (lambda facts: facts["cases"][0]["samples"]["turn"].reverse(), "not in order"),
        (lambda facts: facts["cases"][0]["samples"]["total_ms"].__setitem__(0, -1.0), "Expected `float` > 0"),
        (lambda facts: facts["cases"][0]["samples"]["total_ms"].__setitem__(0, 1e308), "Expected `float` <="),
        (lambda facts: facts["cases"][0].update(model="gone"), "no model 'gone'"),
        (lambda facts: facts["cases"].append(facts["cases"][0]), "two cases are the same"),
        (lambda facts: facts["models"].append(facts["models"][0]), "one name"),
        (lambda facts: facts["sensors"][0]["values"].append(1.0), "readings of a sensor"),
        (lambda facts: facts["models"][0]["files"].update(x="y"), "not a benchmark record"),
    ],
)
def test_records_that_are_wrong_are_refused(edit, message: str) -> None:
    with pytest.raises(InputError, match=message):
        BenchmarkRecord.from_json(edited(edit))


DEEP = b'{"schema_version": 1, "environment": ' + b'{"machine": ' * 100_000 + b"1" + b"}" * 100_001


@pytest.mark.parametrize(
    "text",
    [b"", b"{}", b"[1]", b"null", b"{" * 100_000, b"[" * 100_000, b'{"schema_version": 1}', b"\xff\xfe", b"NaN", DEEP],
)
def test_what_is_no_record_is_refused(text: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InputError):
        BenchmarkRecord.from_json(text)
    with pytest.raises(InputError, match="cannot be read"):
        BenchmarkRecord.load(tmp_path / "none")
    monkeypatch.setattr("yolo12edge.benchmark.record.RECORD_LIMIT", 10)
    (tmp_path / "benchmark.json").write_bytes(b" " * 11)
    with pytest.raises(InputError, match="longer than"):
        BenchmarkRecord.load(tmp_path)


TEXT = record(case("fp32", 20, turns=2), case("int8", 10, turns=9)).to_json()
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)


@settings(max_examples=150)
@given(st.data())
def test_no_damaged_record_does_more_than_being_refused(data: st.DataObject) -> None:
    """Bytes replaced anywhere, or a value replaced by any other: read and compared, or refused."""
    if data.draw(st.booleans()):
        text = bytearray(TEXT)
        for _ in range(data.draw(st.integers(1, 4))):
            text[data.draw(st.integers(0, len(text) - 1))] = data.draw(st.integers(0, 255))
    else:
        facts = json.loads(TEXT)
        place: Any = facts
        while True:
            keys = list(place) if isinstance(place, dict) else list(range(min(len(place), 3)))
            key = data.draw(st.sampled_from(keys))
            if not isinstance(place[key], (dict, list)) or not place[key] or data.draw(st.integers(0, 3)) == 0:
                break
            place = place[key]
        place[key] = data.draw(JSON)
        text = bytearray(json.dumps(facts).encode())
    try:
        read = BenchmarkRecord.from_json(bytes(text))
        compare_records(read, BenchmarkRecord.from_json(TEXT))
    except InputError:
        pass


def test_the_folder_holds_page_plots_and_samples(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib", reason="plots need matplotlib")
    own = record(case("fp32", 20, sustained=True), case("int8", 10, sustained=True), sustained_s=60.0)
    assert write_results(own, tmp_path / "run") == []
    assert sorted(path.name for path in (tmp_path / "run").iterdir()) == [
        "benchmark.html",
        "benchmark.json",
        "histogram.png",
        "over-time.png",
        "percentiles.png",
    ]
    assert all(path.read_bytes().startswith(b"\x89PNG") for path in (tmp_path / "run").glob("*.png"))
    page = (tmp_path / "run" / "benchmark.html").read_text()
    assert page.count("<svg") == 3
    assert "Slows down" in page
    with pytest.raises(InputError, match="not empty"):
        write_results(own, tmp_path / "run")


def test_labels_of_axes_are_whole_plain_numbers() -> None:
    pytest.importorskip("matplotlib", reason="plots need matplotlib")
    drawn = inline_svg("x", (4, 3), lambda axis: axis.set(xticks=[0.125, 0.375], xlim=(0, 0.5)) and None)
    labels = re.findall(r"<text[^>]*>([^<]*)<", drawn)
    assert {"0.125", "0.375"} <= set(labels)
    assert not re.findall(r"<path[^>]*\d\.\d{3}", drawn)
    wide = inline_plots(record(case("slow", 60), case("fast", 3))).percentiles
    assert {"5", "10", "50"} <= set(re.findall(r"<text[^>]*>([^<]*)<", wide))
    assert "times" not in wide  # of 6 times 10 to the power of 1
    assert "<tspan" not in wide


def test_without_matplotlib_the_plots_are_left_out_and_that_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def missing(*_: object) -> None:
        raise MissingDependencyError("matplotlib", extra="val", purpose="to draw plots")

    monkeypatch.setattr(results, "save_plots", missing)
    (note,) = write_results(record(case("fp32", 20)), tmp_path / "run")
    assert "plots are left out" in note
    assert "yolo12edge[val]" in note
    page = (tmp_path / "run" / "benchmark.html").read_text()
    assert "Plots are left out" in page
    assert "<svg" not in page


def test_the_page_shows_what_is_known_and_escapes_what_comes_from_elsewhere() -> None:
    own = record(case(EVIL, 20, turns=2), case("int8", 10), notes=[EVIL], verdict=[EVIL], sensors=[], command=[EVIL])
    page = benchmark_page(own, None)
    assert "<script" not in page
    assert page.count("&lt;script&gt;") >= 6
    assert "This machine tells none of them" in page
    assert "http:" not in page
    rows = [row.split("</tr>")[0] for row in page.split("<tr>")[1:]]
    figures = next(row for row in rows if "int8" in row and "400" in row)
    assert figures.count("<td") == 9
    assert "\N{EN DASH}" in figures  # p99.9, which 400 calls do not support
    none = msgspec.structs.replace(own.models[0], fresh_start=None)
    assert "Cold start" in benchmark_page(msgspec.structs.replace(own, models=[none, own.models[1]]), None)
