"""Every example runs as a script; what it says of itself holds."""

from __future__ import annotations

import json
import re
import runpy
import shlex
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import cv2
import numpy as np
import pytest

from yolo12edge import Detections, Frame, Runtime
from yolo12edge.adaptors import to_coco_results
from yolo12edge.imaging import read_image, write_image
from yolo12edge.masks import Masks

EXAMPLES = Path(__file__).parents[2] / "examples"
COMMANDS = re.findall(r"^\$ python examples/(\w+)\.py(.*)$", (EXAMPLES / "README.md").read_text(), re.M)

Script = Callable[..., tuple[int, str, str]]


@pytest.fixture(scope="module", autouse=True)
def on_the_path() -> Iterator[None]:
    """Let examples import their neighbours, as they can when Python runs them."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(EXAMPLES))
        yield


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Script:
    """Run an example as Python would, and return its exit code and what it printed."""

    def run(name: str, *arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", [name, *map(str, arguments)])
        capsys.readouterr()
        code = 0
        try:
            runpy.run_path(str(EXAMPLES / f"{name}.py"), run_name="__main__")
        except SystemExit as end:
            code = int(end.code or 0)
        return code, *capsys.readouterr()

    return run


def functions_of(name: str) -> SimpleNamespace:
    return SimpleNamespace(**runpy.run_path(str(EXAMPLES / f"{name}.py")))


@pytest.fixture(scope="module")
def videos(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Three videos of 12, 7 and 9 frames, 96 x 96, 20 a second."""
    folder, scene = tmp_path_factory.mktemp("videos"), functions_of("moving_scene")
    paths = []
    for number, count in enumerate((12, 7, 9)):
        paths.append(folder / f"street{number}.mp4")
        movers = scene.STREET[number:]  # others in each
        assert scene.write_video(paths[-1], scene.frames(movers, seconds=count / scene.FPS, size=96), fps=20.0) == count
    return paths


def frames_of(video: Path) -> list[np.ndarray]:
    capture, frames = cv2.VideoCapture(str(video)), []
    while (read := capture.read())[0]:
        frames.append(read[1])
    return frames


def track(box: list[float], velocity: tuple[float, float] = (0, 0), number: int = 1) -> Any:
    return functions_of("tracking").Track(
        number, 1, np.array(box, np.float32), np.array(velocity, np.float32), 0.0, 0.0
    )


def found(*boxes: list[float]) -> Detections:
    return Detections(np.array(boxes, np.float32).reshape(-1, 4), np.ones(len(boxes)), np.zeros(len(boxes)))


def test_the_page_names_every_example_and_their_options() -> None:
    named = {name for name, _ in COMMANDS}
    assert {path.stem for path in EXAMPLES.glob("*.py")} - named == {"tracking"}


@pytest.mark.parametrize(("name", "arguments"), [pair for pair in COMMANDS if pair[0] != "make_demo_checkpoint"])
def test_options_on_the_page_exist(script: Script, name: str, arguments: str) -> None:
    code, said, _ = script(name, "--help")
    options = [word for word in shlex.split(arguments) if word.startswith("--")]
    assert code == 0
    assert [option for option in options if option not in said] == []


def test_moving_scene(script: Script, tmp_path: Path) -> None:
    code, said, _ = script("moving_scene", tmp_path / "street.mp4", "--seconds", 0.5, "--size", 64)
    assert (code, "5 frames" in said) == (0, True)
    frames = frames_of(tmp_path / "street.mp4")
    assert len(frames) == 5
    assert not np.array_equal(frames[0], frames[-1])


def test_control_loop_acts_on_fresh_results_only(script: Script, tiny_onnx: Any, videos: list[Path]) -> None:
    arguments = (tiny_onnx.path, videos[0], "--rate", 40, "--deadline")
    code, said, _ = script("control_loop", *arguments, 60_000)
    decisions, late = map(int, re.search(r"(\d+) decisions, (\d+) of them past", said).groups())  # type: ignore[union-attr]
    assert (code, late) == (0, 0)
    assert decisions > 0
    assert re.search(r"  (go|stop)\n", said)
    code, said, _ = script("control_loop", *arguments, 0)
    decisions, late = map(int, re.search(r"(\d+) decisions, (\d+) of them past", said).groups())  # type: ignore[union-attr]
    assert decisions == late > 0
    assert "stop, blind" in said
    assert not re.search(r"  (go|stop)\n", said)


def test_control_loop_stops_for_what_is_large_and_ahead() -> None:
    decide, frame = functions_of("control_loop").decide, Frame(np.zeros((100, 300, 3), np.uint8))
    assert decide(frame, found([120, 20, 180, 60])) == "stop"
    assert decide(frame, found([120, 20, 180, 35], [0, 0, 90, 90], [210, 0, 300, 90])) == "go"
    assert decide(frame, Detections.empty()) == "go"


def test_control_loop_hears_of_a_broken_source() -> None:
    def broken() -> Iterator[tuple[Frame, Detections]]:
        yield Frame(np.zeros((1, 1, 3), np.uint8)), Detections.empty()
        raise OSError("unplugged")

    newest = functions_of("control_loop").Newest(broken())
    assert newest.done.wait(10)
    assert str(newest.error) == "unplugged"
    assert newest.value is not None


def test_zone_alert(script: Script, tiny_onnx: Any, videos: list[Path], tmp_path: Path) -> None:
    zone = ("--zone", 0, 0, 1, 0, 1, 1, 0, 1)
    code, said, _ = script("zone_alert", tiny_onnx.path, videos[0], *zone, "--dwell", 0.15, "--out", tmp_path)
    alerts = int(re.search(r"(\d+) alerts?", said)[1])  # type: ignore[index]
    pictures = sorted(tmp_path.iterdir())
    assert (code, len(pictures)) == (0, alerts)
    assert alerts > 0
    assert read_image(pictures[0]).shape == (96, 96, 3)
    code, said, _ = script("zone_alert", tiny_onnx.path, videos[0], *zone, "--dwell", 5)
    assert (code, said) == (0, "0 alerts\n")
    assert script("zone_alert", tiny_onnx.path, videos[0], "--zone", 0, 0, 1)[0] == 2


def test_severity_counts_no_pixel_twice(script: Script, tiny_onnx: Any, videos: list[Path], tmp_path: Path) -> None:
    module = functions_of("severity")
    boxes = np.array([[0, 0, 50, 50], [25, 0, 75, 50], [90, 90, 100, 100]], np.float32)
    found = Detections(boxes, np.ones(3, np.float32), np.zeros(3, np.int64))
    assert module.covered(found, (100, 100)).sum() == 75 * 50 + 100
    masks = Masks((np.eye(10, dtype=bool),), np.array([[90, 0]], np.int32), (100, 100))
    assert module.covered(replace(found[:1], mask=masks), (100, 100)).sum() == 10
    grades = [module.grade(share, (0.1, 0.3)) for share in (0.0, 0.05, 0.1, 0.3, 1.0)]
    assert grades == ["none", "mild", "moderate", "severe", "severe"]
    code, said, warned = script("severity", tiny_onnx.path, videos[0], "--out", tmp_path, "--confidence", 0.9)
    assert (code, "no medical device" in warned) == (0, True)
    assert len(list(tmp_path.iterdir())) == said.count(" covered by ") > 0
    assert script("severity", tiny_onnx.path, videos[0], "--moderate", 0.5)[0] == 2


def test_dwell_time_is_forgiving_and_told_once() -> None:
    module = functions_of("zone_alert")
    corners = np.array([[0, 0], [100, 0], [100, 100], [0, 100]], np.float32)
    zone = module.DwellZone(corners, dwell=2.0, forgive=0.5)
    inside, outside = track([40, 40, 60, 60]), track([40, 90, 60, 120])  # where it stands counts
    told = []
    for tenth in range(80):
        # Outside for 0.3 s at 1.0, which is forgiven; for 1 s at 4.0, after which its time starts anew.
        away = 10 <= tenth < 13 or 40 <= tenth < 50
        told += [tenth for _ in zone.update([outside if away else inside], tenth / 10)]
    assert told == [20, 70]


def test_traffic_groups(script: Script, tiny_onnx: Any, videos: list[Path], tmp_path: Path) -> None:
    out = tmp_path / "groups.mp4"
    code, said, _ = script("traffic_groups", tiny_onnx.path, videos[0], "--classes", "a", "b", "c", "--out", out)
    assert (code, said.startswith("frame 0: no group\n")) == (0, True)
    assert len(frames_of(out)) == 12
    code, _, complaint = script("traffic_groups", tiny_onnx.path, videos[0])
    assert (code, "the model knows none of car, truck" in complaint) == (2, True)


@pytest.mark.parametrize(
    ("boxes", "velocity", "kinds"),
    [
        ([[0, 0, 40, 20], [50, 0, 90, 20], [100, 2, 140, 22]], (0, 0), ["queue of 3"]),
        ([[0, 0, 40, 20], [50, 0, 90, 20], [100, 2, 140, 22]], (60, 0), ["platoon of 3"]),
        ([[0, 0, 40, 20], [50, 0, 90, 20], [0, 25, 40, 45], [50, 25, 90, 45]], (60, 0), ["cluster of 4"]),
        ([[0, 0, 40, 20], [0, 25, 40, 45]], (60, 0), ["cluster of 2"]),  # side by side
        ([[0, 0, 40, 20], [0, 25, 40, 45]], (0, 60), ["platoon of 2"]),  # seen from above, downwards
        ([[0, 0, 40, 20], [100, 0, 140, 20]], (60, 0), []),  # too far
        ([[0, 0, 40, 20], [50, 0, 90, 20], [200, 0, 240, 20], [250, 0, 290, 20]], (0, 0), ["queue of 2"] * 2),
        ([[0, 0, 40, 20], [100, 0, 140, 20], [50, 0, 90, 20]], (0, 0), ["queue of 3"]),  # the last one joins two
        ([[0, 0, 4, 2], [5, 0, 9, 2]], (6, 0), ["platoon of 2"]),  # the same, far away
        ([], (0, 0), []),
    ],
)
def test_groups_by_place_and_motion(boxes: list[list[float]], velocity: tuple[float, float], kinds: list[str]) -> None:
    tracks = [track(box, velocity, number) for number, box in enumerate(boxes)]
    groups = functions_of("traffic_groups").group_vehicles(tracks, gap=0.75, alike=0.8)
    assert [f"{group.kind} of {len(group.members)}" for group in groups] == kinds


def test_vehicles_that_pass_one_another_are_no_group() -> None:
    tracks = [track([0, 0, 40, 20], (30, 0)), track([0, 22, 40, 42], (-30, 0)), track([45, 0, 85, 20], (0, 0))]
    assert functions_of("traffic_groups").group_vehicles(tracks, gap=0.75, alike=0.8) == []


def test_tracks_keep_their_number() -> None:
    tracker = functions_of("tracking").Tracker()
    for tenth in range(12):
        x = 10.0 * tenth
        boxes = [[x, 0, x + 20, 20], [110 - x, 0, 130 - x, 20], [0, 50, 20, 70]]  # two that pass through one another
        detections = found(*(boxes if tenth % 2 else boxes[::-1]))
        tracks = tracker.update(detections[:2] if tenth == 4 else detections, tenth / 10)
    assert [track.number for track in tracks] == [3, 2, 1]
    np.testing.assert_allclose([track.velocity[0] for track in tracks], [100, -100, 0], atol=5)
    assert tracker.update(found(boxes[0]), 9.0)[0].number == 4  # forgotten after a second


def test_folder_batches(
    script: Script, tiny_onnx: Any, scene_frames: list[np.ndarray], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, out = tmp_path / "pictures", tmp_path / "out" / "results.json"
    for number, frame in enumerate(scene_frames[:5]):
        write_image(folder / f"{number}.png", frame)
    code, said, _ = script("folder_batches", tiny_onnx.path, folder, "--batch", 2, "--out", out)
    with Runtime(tiny_onnx) as runtime:
        expected = [
            to_coco_results(runtime(frame), image_id=f"{number}.png", category_ids=range(3))
            for number, frame in enumerate(scene_frames[:5])
        ]
    assert (code, "in 5 pictures" in said) == (0, True)
    assert json.loads(out.read_text()) == [result for results in expected for result in results]

    images = [{"id": 70 + number, "file_name": f"{number}.png"} for number in range(5)]
    categories = [{"id": 10 * number, "name": name} for number, name in enumerate("abc", start=1)]
    annotations = tmp_path / "instances.json"
    annotations.write_text(json.dumps({"images": images, "categories": categories}))
    script("folder_batches", tiny_onnx.path, folder, "--annotations", annotations, "--out", out)
    results = json.loads(out.read_text())
    assert {result["image_id"] for result in results} <= set(range(70, 75))
    assert [result["category_id"] for result in results] == [
        10 * (result["category_id"] + 1) for results in expected for result in results
    ]

    (folder / "2.png").write_bytes(b"\x89PNG\r\n\x1a\n no picture")
    code, said, complaint = script("folder_batches", tiny_onnx.path, folder, "--batch", 2, "--out", out)
    assert (code, "in 4 pictures" in said, "2.png" in complaint) == (1, True, True)


def test_parallel_video_loses_no_frame(script: Script, tiny_onnx: Any, videos: list[Path], tmp_path: Path) -> None:
    missing = tmp_path / "missing.mp4"
    code, said, complaint = script(
        "parallel_video", tiny_onnx.path, *videos, missing, "--workers", 2, "--out", tmp_path / "out"
    )
    assert (code, "28 frames" in said, "missing.mp4" in complaint) == (1, True, True)
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [f"{video.stem}.jsonl" for video in videos]
    with Runtime(tiny_onnx, threads=1) as runtime:
        for video in videos:
            lines = [json.loads(line) for line in (tmp_path / "out" / f"{video.stem}.jsonl").read_text().splitlines()]
            expected = [runtime(frame).to_records("abc") for frame in frames_of(video)]
            assert [line["frame"] for line in lines] == list(range(len(expected)))
            for line, objects in zip(lines, expected, strict=True):  # threads may differ in the last digit
                assert len(line["objects"]) == len(objects)
                for one, other in zip(line["objects"], objects, strict=True):
                    np.testing.assert_allclose(one["xyxy"], other["xyxy"], atol=0.1)
            assert any(line["objects"] for line in lines)


@pytest.mark.parametrize("fate", ["lost", "twice", "swapped", "dropped"])
def test_parallel_video_notices_a_lost_frame(fate: str, videos: list[Path], tmp_path: Path) -> None:
    class Results(list[Any]):
        dropped = int(fate == "dropped")

        def __enter__(self) -> Results:
            return self

        def __exit__(self, *_: object) -> None: ...

    def stream(frames: Any, **_: Any) -> Results:
        results = Results((frame, Detections.empty()) for frame in frames)
        if fate == "lost":
            del results[3]
        elif fate == "twice":
            results.insert(3, results[3])
        elif fate == "swapped":
            results[3], results[4] = results[4], results[3]
        return results

    runtime = SimpleNamespace(stream=stream, manifest=SimpleNamespace(class_names=("a",)))
    out = tmp_path / "out.jsonl"
    with pytest.raises(RuntimeError, match=r"street0.mp4: (frame \d came in the place of|1 frames were dropped)"):
        functions_of("parallel_video").process(runtime, videos[0], out, None)
    assert not out.exists()


def test_multi_camera(script: Script, tiny_onnx: Any, videos: list[Path], tmp_path: Path) -> None:
    out, missing = tmp_path / "cameras.png", tmp_path / "missing.mp4"
    code, said, _ = script("multi_camera", tiny_onnx.path, videos[0], missing, videos[1], "--out", out)
    lines = said.splitlines()
    assert code == 1
    counts = [re.search(r": (\d+) frames.*, (\d+) dropped", line).groups() for line in lines]  # type: ignore[union-attr]
    assert [int(seen) + int(dropped) for seen, dropped in counts] == [12, 0, 7]
    assert "does not exist" in lines[1]
    assert read_image(out).shape[1] > 2 * 96
    slow, scene = tmp_path / "slow.mp4", functions_of("moving_scene")
    scene.write_video(slow, scene.frames(seconds=1.2, size=96), fps=2.0)  # six seconds
    code, said, _ = script("multi_camera", tiny_onnx.path, slow, "--seconds", 0.1)
    seen, dropped = re.search(r": (\d+) frames.*, (\d+) dropped", said).groups()  # type: ignore[union-attr]
    assert (code, int(seen) + int(dropped) < 12) == (0, True)


def test_multi_camera_tells_of_every_exception(videos: list[Path]) -> None:
    camera = functions_of("multi_camera").Camera(str(videos[0]))
    camera.watch(SimpleNamespace(), None)  # no submit
    assert "AttributeError" in camera.error


@pytest.mark.parametrize(
    ("name", "arguments", "message"),
    [
        ("control_loop", ["{model}", "missing.mp4"], "does not exist"),
        ("control_loop", ["{model}", "{video}", "--rate", "0"], "--rate must be"),
        ("moving_scene", ["street.txt", "--seconds", "0.5"], "cannot be written as a video"),
        ("moving_scene", ["street.mp4", "--size", "0"], "--size from"),
        ("zone_alert", ["missing", "{video}"], "does not exist"),
        ("severity", ["missing", "{video}"], "does not exist"),
        ("traffic_groups", ["missing", "{video}"], "does not exist"),
        ("folder_batches", ["{model}", "missing"], "missing"),
        ("parallel_video", ["missing", "{video}"], "does not exist"),
        ("multi_camera", ["missing", "{video}"], "does not exist"),
    ],
)
def test_ordinary_mistakes_get_a_message(
    script: Script,
    tiny_onnx: Any,
    videos: list[Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    arguments: list[str],
    message: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    code, _, complaint = script(name, *(word.format(model=tiny_onnx.path, video=videos[0]) for word in arguments))
    assert (code, message in complaint) == (2, True), complaint
    assert not list(tmp_path.iterdir())


def test_parallel_video_says_why_there_are_fewer_workers(
    script: Script, tiny_onnx: Any, videos: list[Path], tmp_path: Path
) -> None:
    code, said, _ = script("parallel_video", tiny_onnx.path, videos[0], "--workers", 2, "--out", tmp_path)
    assert (code, "1 worker of" in said, "no more because there is 1 video" in said) == (0, True, True)
