from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from yolo12edge.benchmark.latency import LatencySummary
from yolo12edge.calibration.card import write_card
from yolo12edge.calibration.results import Agreement, Candidate, GuardResult, Sensitivity
from yolo12edge.detections import Detections
from yolo12edge.errors import InputError
from yolo12edge.manifest import Calibration, InputSpec, Manifest, OutputSpec, Provenance
from yolo12edge.metrics import Evaluation, Measure, Target, evaluate_detections
from yolo12edge.metrics.evaluate import StageTimes
from yolo12edge.reports.formats import NONE, decimal, difference, digits_for, percent, times
from yolo12edge.reports.markup import tag

pytest.importorskip("matplotlib", reason="plots need matplotlib")
pytest.importorskip("faster_coco_eval", reason="average precision needs faster-coco-eval")

EVIL = "<script>alert(1)</script>"
NAMES = ("cell", EVIL, "never seen")
IMAGES = 8
LOST, UNSURE = 5, 2  # the images where INT8 misses what float finds, and where it is unsure of an object


class Page(HTMLParser):
    """What a page consists of: attributes of every tag, text, and the cells of every table."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str]]] = []
        self.texts: list[str] = []
        self.tables: list[list[list[str]]] = []
        self._cell = self._style = False
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, {name: value or "" for name, value in attrs}))
        self._style = tag == "style"
        if tag == "table":
            self.tables.append([])
        elif tag == "tr":
            self.tables[-1].append([])
        elif tag in ("td", "th"):
            self.tables[-1][-1].append("")
            self._cell = True

    def handle_endtag(self, tag: str) -> None:
        self._style = False
        if tag in ("td", "th"):
            self._cell = False

    def handle_data(self, data: str) -> None:
        if self._style:
            return
        self.texts.append(data)
        if self._cell:
            self.tables[-1][-1][-1] += data

    @property
    def text(self) -> str:
        return "\n".join(self.texts)

    def attributes(self, *names: str) -> list[str]:
        return [value for _, attributes in self.tags for name, value in attributes.items() if name in names]

    def count(self, tag: str) -> int:
        return sum(name == tag for name, _ in self.tags)


def manifest(names: tuple[str, ...] = NAMES) -> Manifest:
    digest = "0123456789abcdef" * 4
    return Manifest(
        schema_version=1,
        task="detect",
        scale="n",
        variant="v1",
        class_names=list(names),
        format="onnx",
        precision="int8",
        input=InputSpec(name="images", batch=1, height=96, width=128),
        outputs=[
            OutputSpec(name="boxes", role="boxes", shape=(1, 4, 252)),
            OutputSpec(name="scores", role="scores", shape=(1, len(names), 252)),
        ],
        provenance=Provenance(checkpoint_sha256=digest, created="2026-01-02T03:04:05Z", versions={"onnx": "1.0"}),
        calibration=Calibration(
            method="mse",
            split="train",
            images=["a.jpg", "b.jpg"],
            images_digest=digest,
            placement="ort-x86",
            float_nodes=["/model.0/<conv>"],
            reduced_range=True,
        ),
    )


def evaluations(names: tuple[str, ...] = NAMES, *, seen: int = 2) -> tuple[Evaluation, Evaluation]:
    """INT8 and float on pictures of two objects each: float finds all; INT8 is less sure, and misses two."""
    targets, both = [], ([], [])
    for image in range(IMAGES):
        boxes = np.array([[10, 10, 40, 50], [60 + image, 20, 110, 70]], np.float32)
        class_id = np.array([2 * image % seen, (2 * image + 1) % seen])
        targets.append(Target(boxes, class_id, (96, 128)))
        confidence = np.array([0.9, 0.8 - 0.01 * image], np.float32)
        both[1].append(Detections(boxes, confidence, class_id))
        found = Detections(boxes + 1, np.array([0.775, 0.3 if image == UNSURE else 0.675], np.float32), class_id)
        both[0].append(found if image != LOST else Detections.empty())
    times = StageTimes(np.ones(IMAGES), np.ones(IMAGES), 0.1)
    own, twin = (
        Evaluation(
            evaluate_detections(found, targets, names), tuple(found), tuple(targets), times, Measure("detect", names)
        )
        for found in both
    )
    return own, twin


@pytest.fixture(scope="module")
def result() -> GuardResult:
    own, twin = evaluations()
    shifts = np.full(2 * (IMAGES - 1), -0.125, np.float32)
    return GuardResult(
        own=own,
        twin=twin,
        agreement=Agreement(IMAGES, 2 * IMAGES, 2 * (IMAGES - 1), len(shifts), 0.93, shifts),
        own_latency=LatencySummary(np.arange(20.0, 40.0)),
        twin_latency=LatencySummary(np.arange(50.0, 70.0)),
        own_bytes=2_500_000,
        twin_bytes=10_000_000,
        engine="onnxruntime 1.0",
        device="cpu",
        threads=2,
        simulated=False,
        max_map_drop=30.0,
        held=True,
        candidates=(
            Candidate("minmax", 0.5, LatencySummary(np.array([3.0])), problem="slower & worse"),
            Candidate("mse", 0.25, LatencySummary(np.array([2.0])), chosen=True),
            Candidate("entropy", float("nan"), problem="no <range>"),
        ),
        sensitivity=(
            Sensitivity("model.6.m.0.0.attn", 0.04, 0.5, is_float=True),
            Sensitivity("broken", float("nan")),
            *(Sensitivity(f"model.{index}", 0.01 / (index + 1)) for index in range(30)),
        ),
    )


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("pictures")
    paths = [folder / f"{index} <b>.png" for index in range(IMAGES)]
    for index, path in enumerate(paths):
        picture = np.random.default_rng(index).integers(0, 255, (96, 128, 3), np.uint8)
        path.write_bytes(cv2.imencode(".png", picture)[1].tobytes())
    return paths


Write = Callable[..., tuple[dict[str, Any], str]]


@pytest.fixture
def write(tmp_path: Path, result: GuardResult, images: list[Path]) -> Write:
    """Write a card of the result, changed in what is named, and return what was written."""

    def call(paths: list[Path] | None = None, *, model: Manifest | None = None, **changes: Any) -> tuple[dict, str]:
        folder = tmp_path / "cells-int8"
        folder.mkdir(exist_ok=True)
        write_card(
            folder,
            manifest=model or manifest(),
            result=replace(result, **changes),
            images=images if paths is None else paths,
            reproduce=["yolo12edge export <a> && b", "second"],
            verdict=["INT8 costs & brings <b>something</b>."],
            twin_name="cells-fp32",
        )
        assert sorted(path.name for path in folder.iterdir()) == ["report.html", "report.json"]
        return json.loads((folder / "report.json").read_text()), (folder / "report.html").read_text()

    return call


def test_the_json_says_what_was_measured(write: Write, result: GuardResult) -> None:
    facts, _ = write()
    assert facts["schema_version"] == 1
    assert (facts["name"], facts["twin"]) == ("cells-int8", "cells-fp32")
    assert facts["outcome"] == {
        "held": True,
        "simulated": False,
        "labelled": True,
        "max_map_drop": 30.0,
        "map_drop": pytest.approx(result.map_drop),
        "figure": "box AP50-95",
        "speedup": pytest.approx(59.5 / 29.5),
        "size_ratio": 0.25,
    }
    assert facts["outcome"]["map_drop"] > 5
    accuracy = facts["accuracy"]
    assert (accuracy["images"], accuracy["instances"]) == (IMAGES, 2 * IMAGES)
    assert accuracy["float"]["ap"] == pytest.approx(1.0)
    assert accuracy["int8"]["ap50"] == pytest.approx(result.own.metrics.ap50)
    assert accuracy["float"]["per_class"][2]["ap"] is None  # no object of that class: NaN
    assert [entry["name"] for entry in accuracy["int8"]["per_class"]] == list(NAMES)
    assert facts["agreement"]["f1"] == pytest.approx(2 * 14 / (16 + 14))
    assert facts["agreement"]["mean_score_shift"] == -0.125
    assert facts["agreement"]["score_shifts"] == [-0.125] * 14
    assert facts["latency"]["int8"]["median_ms"] == 29.5
    assert facts["latency"]["float"]["samples_ms"] == list(np.arange(50.0, 70.0))
    assert facts["bytes"] == {"float": 10_000_000, "int8": 2_500_000}
    assert facts["sensitivity"][0] == {"group": "model.6.m.0.0.attn", "gain": 0.04, "cost_ms": 0.5, "is_float": True}
    assert [candidate["loss"] for candidate in facts["tournament"]] == [0.5, 0.25, None]
    assert facts["calibration"]["images"] == ["a.jpg", "b.jpg"]
    assert facts["provenance"]["versions"] == {"onnx": "1.0"}
    assert facts["machine"]["python"]
    assert facts["reproduce"] == ["yolo12edge export <a> && b", "second"]


def test_both_are_compared_at_the_confidence_where_float_is_best(write: Write) -> None:
    at = write()[0]["accuracy"]["at_confidence_of_float"]
    # All of float's detections lie at 0.73 or more: best is the middle of 0 to 0.73, where INT8 lacks 3 of 16.
    assert at["confidence"] == pytest.approx(0.365, abs=0.001)
    assert at["float"] == {"precision": 1.0, "recall": 1.0, "f1": 1.0}
    assert at["int8"] == {
        "precision": 1.0,
        "recall": pytest.approx(13 / 16),
        "f1": pytest.approx((14 / 15 + 12 / 14) / 2),
    }
    curves = write()[0]["accuracy"]["precision_at_recall"]
    assert curves["recall"][:3] == [0.0, 0.01, 0.02]
    assert curves["float"]["mean"] == [1.0] * 101
    assert (curves["int8"]["mean"][0], curves["int8"]["mean"][-1]) == (1.0, 0.0)
    assert curves["int8"]["per_class"][2] == [None] * 101


def test_the_page_shows_it(write: Write) -> None:
    _, text = write()
    page = Page(text)
    figures, classes, sensitivity, tournament, latency = page.tables
    assert figures[0] == ["", "float", "INT8", "difference"]
    assert figures[1][:2] == ["box AP50-95", "100.00"]
    assert figures[1][3].startswith("\N{MINUS SIGN}")
    assert figures[6] == ["F1 at confidence 0.365", "100.00", "89.52", "\N{MINUS SIGN}10.48"]
    assert ["Latency, median, ms", "59.50", "29.50", "2.02 \N{MULTIPLICATION SIGN} as fast"] in figures
    assert ["Size, MB", "10.00", "2.50", "0.25 \N{MULTIPLICATION SIGN} the size"] in figures
    assert len(classes) == 4
    assert classes[3][:4] == ["never seen", "0", NONE, NONE]  # nothing to measure: after all losses
    assert len(sensitivity) == 1 + 25
    assert sensitivity[1] == ["model.6.m.0.0.attn", "", "0.0400", "0.500", "float"]
    assert sensitivity[2] == ["broken", "", NONE, NONE, "INT8"]
    assert sensitivity[3] == ["model.0", "", "0.0100", NONE, "INT8"]
    assert [row[-1] for row in tournament[1:]] == ["slower & worse", "✓ chosen", "no <range>"]
    assert tournament[3][1:3] == [NONE, NONE]
    assert latency[2] == ["median", "59.50", "29.50"]
    bars = [attributes for name, attributes in page.tags if "bar" in attributes.get("class", "").split()]
    assert [bar["style"] for bar in bars[:3]] == ["width:100.0%", "width:0.0%", "width:25.0%"]
    assert [bar["class"] for bar in bars[:2]] == ["bar float", "bar"]
    for words in ("✓ Budget held", "7 bits (reduced range)", "Returned to float (1): ", "onnxruntime 1.0"):
        assert words in page.text
    assert "Simulated" not in page.text
    assert page.count("svg") == 5  # mean and two classes, score shifts, latency
    assert page.count("img") == 12
    assert page.attributes("alt")[0] == f"{LOST} <b>.png with the 2 objects that float found"
    assert all(len(alt) > 10 for alt in page.attributes("alt"))
    labels = [attributes.get("aria-label") for _, attributes in page.tags if attributes.get("role") == "img"]
    assert len(labels) == 5
    assert all(labels)


def test_what_comes_from_elsewhere_is_text(write: Write) -> None:
    _, text = write()
    page = Page(text)
    assert page.count("script") == 0
    assert page.count("b") == 12  # those of the page itself, beside the pictures
    for word in (EVIL, "INT8 costs & brings <b>something</b>.", "yolo12edge export <a> && b\nsecond"):
        assert word in page.text
    assert "/model.0/<conv>" in page.text
    assert tag("p", 'a"<\x1b\N{RIGHT-TO-LEFT OVERRIDE}', class_='"><b>') == (
        '<p class="&quot;&gt;&lt;b&gt;">a&quot;&lt;\\x1b\\u202e</p>'
    )


def test_the_page_needs_nothing_else(write: Write) -> None:
    _, text = write()
    page = Page(text)
    addresses = page.attributes("src", "href", "xlink:href", "srcset", "action", "data", "background")
    assert len(addresses) > 12
    assert all(address.startswith(("data:image/jpeg;base64,", "#")) for address in addresses)
    rest = re.sub(r"data:image/jpeg;base64,[A-Za-z0-9+/=]+", "", text)
    assert not re.search(r"https?:|//\w|@import|@font-face", rest)
    assert all(target.startswith("#") for target in re.findall(r"url\(([^)]*)\)", rest))
    assert page.count("link") == page.count("iframe") == page.count("object") == 0
    assert {"default-src 'none'; img-src data:; style-src 'unsafe-inline'"} <= set(page.attributes("content"))
    names = page.attributes("id")
    assert len(names) == len(set(names))
    assert {target[1:] for target in re.findall(r"#[\w]+(?=\))", rest)} <= set(names)
    assert len(text) < 2_000_000
    # Colours that would not follow a dark page.
    assert not re.search(r"(fill|stroke): #", rest)
    assert page.count("style") == 1


def test_where_they_differ_most_comes_first(write: Write) -> None:
    page = Page(write()[1])
    captions = [text for text in page.texts if text.startswith(" Only") or "the same objects" in text]
    assert captions[0] == f" Only float: cell 0.90, {EVIL} 0.75."
    assert captions[1:] == [" Both find the same objects."] * 5
    assert page.text.index("Where the two differ most") < page.text.index("Typical images")


def test_without_labels(write: Write) -> None:
    facts, text = write([], own=None, twin=None, candidates=(), sensitivity=())
    page = Page(text)
    assert facts["accuracy"] is None
    assert (facts["outcome"]["labelled"], facts["outcome"]["map_drop"]) == (False, None)
    assert "Accuracy by agreement only, no labels" in page.text
    assert "AP50" not in page.text
    assert "93.3 %" in page.text  # F1 of the agreement
    assert (page.count("img"), page.count("svg"), len(page.tables)) == (0, 2, 2)


def test_budget_not_held_on_another_machine(write: Write) -> None:
    facts, text = write(held=False, simulated=True, own_latency=None, twin_latency=None, threads=0)
    page = Page(text)
    assert (facts["outcome"]["held"], facts["outcome"]["speedup"]) == (False, None)
    assert facts["latency"]["int8"] is None
    marks = [attributes.get("class") for name, attributes in page.tags if name == "li"]
    assert marks[:3] == ["bad", "warn", "bad"]
    assert "✗ Budget NOT held" in page.text
    assert "Budget held" not in page.text
    assert "Simulated" in page.text
    assert "Speed was not measured" in page.text
    assert not any(row[0].startswith("Latency") for row in page.tables[0])


def test_slower_than_float_is_said(write: Write, result: GuardResult) -> None:
    _, text = write(own_latency=result.twin_latency, twin_latency=result.own_latency)
    assert "the speed of float, not faster: 59.50 ms against 29.50 ms" in Page(text).text


def test_nothing_found_at_all(write: Write, images: list[Path]) -> None:
    nothing = [Detections.empty()] * IMAGES
    own = evaluations()[0]
    empty = replace(own, metrics=evaluate_detections(nothing, own.targets, NAMES), predictions=tuple(nothing))
    agreement = Agreement(IMAGES, 0, 0, 0, float("nan"), np.zeros(0, np.float32))
    facts, text = write(own=empty, twin=empty, agreement=agreement)
    assert facts["agreement"]["mean_iou"] is None
    assert Page(text).count("img") == 6  # only typical ones: nothing differs
    write([], own=None, twin=None, agreement=replace(agreement, images=0))


@pytest.mark.parametrize(("seen", "plots"), [(1, 0), (3, 3), (10, 10), (11, 0)])
def test_a_plot_for_each_class_if_they_are_few(write: Write, seen: int, plots: int) -> None:
    names = tuple(f"class {index}" for index in range(12))
    own, twin = evaluations(names, seen=seen)
    page = Page(write(model=manifest(names), own=own, twin=twin)[1])
    assert page.count("svg") == 3 + plots


def test_images_must_belong_to_the_predictions(write: Write, images: list[Path], tmp_path: Path) -> None:
    write()
    page = tmp_path / "cells-int8" / "report.html"
    before = page.read_bytes()
    with pytest.raises(InputError, match="7 images for the predictions of 8"):
        write(images[:-1])
    with pytest.raises(InputError, match="gone"):
        write([tmp_path / "gone.png"] * IMAGES)
    assert page.read_bytes() == before


def test_the_name_may_differ_from_the_folder(tmp_path: Path, result: GuardResult, images: list[Path]) -> None:
    """An artifact is built in a hidden folder before it takes its place."""
    about = {"manifest": manifest(), "result": result, "images": images, "twin_name": "float"}
    write_card(tmp_path, **about, reproduce=(), verdict=(), name="<final>")
    assert json.loads((tmp_path / "report.json").read_text())["name"] == "<final>"
    assert {"<final>", "<final>: INT8 report card"} <= set(Page((tmp_path / "report.html").read_text()).texts)


def test_numbers_as_text() -> None:
    assert (decimal(None), decimal(float("nan")), decimal(-1234.567, 1)) == (NONE, NONE, "\N{MINUS SIGN}1,234.6")
    assert (percent(0.53214), percent(None), times(1.5)) == ("53.21", NONE, "1.50 \N{MULTIPLICATION SIGN}")
    assert difference(0.5, 0.6, scale=100) == "+10.00"
    assert difference(0.6, 0.5, digits=1) == "\N{MINUS SIGN}0.1"
    assert (difference(0.5, 0.49999), difference(0.5, None), difference(float("nan"), 1.0)) == ("0.00", NONE, NONE)
    assert [digits_for(values) for values in ([], [None, 0.0], [0.0367, 1e-5], [12.0], [1e6])] == [0, 0, 4, 1, 0]


@pytest.mark.slow
@pytest.mark.skipif(
    not (shutil.which("chromium") or shutil.which("chromium-browser")), reason="no chromium to open the page with"
)
@pytest.mark.parametrize("width", [1100, 500])
def test_a_browser_shows_tables_and_pictures(write: Write, tmp_path: Path, width: int) -> None:
    count = """<script>
      const wide = node => node.getBoundingClientRect().width > 40;
      const seen = selector => [...document.querySelectorAll(selector)].filter(wide);
      document.body.dataset.counts = JSON.stringify({
        tables: seen("table").length,
        rows: document.querySelectorAll("tbody tr").length,
        plots: seen("figure svg").filter(svg => svg.getBBox().height > 40).length,
        pictures: seen("img").filter(img => img.complete && img.naturalWidth > 0).length,
        overflow: document.documentElement.scrollWidth - window.innerWidth,
        executed: Boolean(window.executed),
      });
    </script>"""
    evil = ("<script>window.executed=1</script>", *NAMES[1:])
    own, twin = evaluations(evil)
    _, text = write(model=manifest(evil), own=own, twin=twin)
    # The page's own policy stays, but for this one script.
    policy = "default-src &#x27;none&#x27;;"
    assert policy in text
    copy = tmp_path / "copy.html"
    copy.write_text(text.replace(policy, f"{policy} script-src 'unsafe-inline';").replace("</body>", f"{count}</body>"))
    browser = shutil.which("chromium") or shutil.which("chromium-browser")
    options = ["headless", "no-sandbox", "disable-gpu", "disable-quic", "no-first-run", "disable-background-networking"]
    options += ["disable-component-update", "disable-sync", f"user-data-dir={tmp_path / 'profile'}"]
    options += [f"window-size={width},900", "virtual-time-budget=4000", "dump-dom"]
    done = subprocess.run(
        [str(browser), *(f"--{option}" for option in options), copy.as_uri()],
        capture_output=True,
        text=True,
        timeout=120,
        env={"PATH": "/usr/bin:/bin", "HOME": str(tmp_path)},
    )
    body = next(attributes for name, attributes in Page(done.stdout).tags if name == "body")
    counts = json.loads(body["data-counts"])
    assert counts["overflow"] <= 0
    del counts["overflow"]
    assert counts == {"tables": 5, "rows": 9 + 3 + 25 + 3 + 6, "plots": 5, "pictures": 12, "executed": False}
