from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import cv2
import msgspec
import numpy as np
import pytest
import typer

from yolo12edge.cli import _console
from yolo12edge.cli import predict as cli
from yolo12edge.cli._label_lines import label_lines
from yolo12edge.cli._prediction import _video_writer, predict_media
from yolo12edge.detections import Detections, Timing
from yolo12edge.errors import InputError
from yolo12edge.frame import Frame
from yolo12edge.imaging import read_image, write_image
from yolo12edge.keypoints import KeypointSpec
from yolo12edge.manifest import InputSpec, Manifest, OutputSpec, Provenance
from yolo12edge.masks import Masks
from yolo12edge.sources import Video, find_media
from yolo12edge.thresholds import Thresholds


class FakeRuntime:
    """Finds the bright square: the box of all pixels over 230, as class 1."""

    device = "cpu"

    def __init__(self, *_: object, **__: object) -> None:
        self.manifest = Manifest(
            schema_version=1,
            task="detect",
            scale="n",
            variant="v1",
            class_names=["dark", "bright, square"],
            format="onnx",
            precision="fp32",
            input=InputSpec(name="images", batch=1, height=64, width=64),
            outputs=[
                OutputSpec(name="boxes", role="boxes", shape=(1, 4, 2)),
                OutputSpec(name="scores", role="scores", shape=(1, 2, 2)),
            ],
            files=[],
            provenance=Provenance(checkpoint_sha256="0" * 64, created="", versions={}),
        )

    def __call__(self, frame: np.ndarray, *, thresholds: Thresholds) -> Detections:
        y, x = np.nonzero(frame[:, :, 0] > 230)
        boxes = [[x.min(), y.min(), x.max() + 1, y.max() + 1]] if len(x) and thresholds.classes in (None, (1,)) else []
        count = len(boxes)
        return Detections(np.reshape(boxes, (count, 4)), [0.8] * count, [1] * count, Timing(1, 2, 3))

    def __enter__(self) -> FakeRuntime:
        return self

    def __exit__(self, *_: object) -> None:
        pass


def square(left: int = 32, height: int = 64, width: int = 128) -> np.ndarray:
    image = np.full((height, width, 3), 30, np.uint8)
    image[16:48, left : left + 32] = 255
    return image


def write_video(path: Path, frames: int) -> Path:
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"mp4v"), 20.0, (128, 64))
    assert writer.isOpened()
    for i in range(frames):
        writer.write(square(i * 2))
    writer.release()
    return path


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    inside = tmp_path / "in"
    write_image(inside / "a.png", square())
    write_image(inside / "b.PNG", square(64))
    return inside


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setattr("yolo12edge.runtimes.Runtime", FakeRuntime)
    return lambda *sources, **options: cli.predict(Path("model"), [str(source) for source in sources], **options)


def test_images_are_annotated_and_recorded(folder: Path, tmp_path: Path, run: Any, capsys: Any) -> None:
    out = tmp_path / "out"
    run(folder, out_folder=out, save_json=True, save_txt=True)
    assert sorted(path.name for path in out.iterdir()) == ["a.png", "b.png", "labels", "predictions.json"]
    assert (read_image(out / "a.png") != square()).any()
    found = json.loads((out / "predictions.json").read_text())
    first = found["results"][0]
    assert (first["source"], first["frame"], first["width"], first["height"]) == (str(folder / "a.png"), None, 128, 64)
    assert first["detections"][0]["class_name"] == "bright, square"
    np.testing.assert_allclose(first["detections"][0]["xyxy"], [32, 16, 64, 48], atol=2)
    assert found["errors"] == []
    numbers = [float(value) for value in (out / "labels" / "b.txt").read_text().split()]
    np.testing.assert_allclose(numbers, [1, 80 / 128, 0.5, 0.25, 0.5, 0.8], atol=0.02)
    assert "2 objects in 2 images" in capsys.readouterr().out


@pytest.mark.parametrize(("suppressed", "asked", "used"), [(None, None, 0.7), (0.5, None, 0.5), (0.5, 0.6, 0.6)])
def test_a_model_that_suppresses_by_itself_has_its_own_default(
    folder: Path, tmp_path: Path, run: Any, monkeypatch: Any, suppressed: float | None, asked: float | None, used: float
) -> None:
    seen: list[float] = []
    found = FakeRuntime.__call__

    def look(self: FakeRuntime, frame: np.ndarray, *, thresholds: Thresholds) -> Detections:
        seen.append(thresholds.iou)
        return found(self, frame, thresholds=thresholds)

    made = FakeRuntime().manifest
    monkeypatch.setattr(FakeRuntime, "__init__", lambda self, *_, **__: None)
    monkeypatch.setattr(FakeRuntime, "manifest", msgspec.structs.replace(made, nms_iou=suppressed), raising=False)
    monkeypatch.setattr(FakeRuntime, "__call__", look)
    run(folder, out_folder=tmp_path / "out", iou=asked)
    assert set(seen) == {used}


def test_a_corrupt_image_is_reported_and_the_rest_done(folder: Path, tmp_path: Path, run: Any, capsys: Any) -> None:
    (folder / "aa.png").write_bytes((folder / "a.png").read_bytes()[:60])
    with pytest.raises(typer.Exit) as stop:
        run(folder, out_folder=tmp_path / "out", json_output=True)
    assert stop.value.exit_code == 1
    printed = capsys.readouterr()
    found = json.loads(printed.out)
    assert [Path(result["source"]).name for result in found["results"]] == ["a.png", "b.PNG"]
    assert [Path(error["source"]).name for error in found["errors"]] == ["aa.png"]
    assert "1 of 3 sources" in printed.err
    assert "aa.png" in printed.err


def test_a_video_keeps_its_frames_size_and_speed(tmp_path: Path, run: Any) -> None:
    source = write_video(tmp_path / "clip.mp4", 9)
    out = tmp_path / "out"
    run(source, out_folder=out, save_json=True, save_txt=True)
    with Video(out / "clip.mp4") as video:
        frames = list(video)
        assert video.fps == pytest.approx(20)
    assert [frame.shape for frame in frames] == [(64, 128, 3)] * 9
    results = json.loads((out / "predictions.json").read_text())["results"]
    assert [result["frame"] for result in results] == list(range(1, 10))
    assert results[8]["detections"][0]["xyxy"][0] == pytest.approx(16, abs=3)
    assert len(list((out / "labels" / "clip").iterdir())) == 9
    assert not [path for path in out.iterdir() if path.name.startswith(".")]


def test_an_unreadable_video_is_reported_and_leaves_nothing(folder: Path, tmp_path: Path) -> None:
    (folder / "bad.mp4").write_bytes(b"\x00\x00\x00\x18ftypmp42 and then nothing")
    out = tmp_path / "out"
    result = predict_media(FakeRuntime(), find_media([folder]), out, thresholds=Thresholds())
    assert [Path(source).name for source, _ in result.errors] == ["bad.mp4"]
    assert (result.images, result.videos) == (2, 0)
    assert sorted(path.name for path in out.iterdir()) == ["a.png", "b.png"]


def test_frames_limits_a_video(tmp_path: Path, run: Any) -> None:
    run(write_video(tmp_path / "clip.mp4", 9), out_folder=tmp_path / "out", frames=4)
    with Video(tmp_path / "out" / "clip.mp4") as video:
        assert len(list(video)) == 4


def test_a_video_that_ends_early_keeps_its_frames_and_is_reported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = write_video(tmp_path / "clip.mp4", 9)
    real = Video.__init__

    def claims_more(self: Video, path: Path) -> None:
        real(self, path)
        self.frame_count = 100

    monkeypatch.setattr(Video, "__init__", claims_more)
    result = predict_media(FakeRuntime(), find_media([source]), tmp_path / "out", thresholds=Thresholds())
    assert "ends after 9 of 100" in result.errors[0][1]
    assert (result.videos, result.frames) == (1, 9)
    monkeypatch.undo()
    with Video(tmp_path / "out" / "clip.mp4") as video:
        assert len(list(video)) == 9


def test_a_stream_is_looked_at_until_enough_frames(camera: Any, tmp_path: Path, run: Any, capsys: Any) -> None:
    run(camera.url, camera.url, out_folder=tmp_path / "out", frames=5, save_json=True, save_txt=True)
    found = json.loads((tmp_path / "out" / "predictions.json").read_text())
    names = [f"127-0-0-1-{camera.port}-live{end}" for end in ("", "-2")]
    assert [Path(result["output"]).stem for result in found["results"]] == [names[0]] * 5 + [names[1]] * 5
    stamps = [result["stamp_ns"] for result in found["results"]]
    assert stamps == sorted(stamps)
    assert len(list((tmp_path / "out" / "labels" / names[1]).iterdir())) == 5
    printed = capsys.readouterr()
    assert "in 2 streams (10 frames)" in printed.out
    assert "5 frames looked at; " in printed.err
    assert "s3cret" not in printed.out + printed.err + json.dumps(found)
    with pytest.raises(InputError, match="one after the other"):
        run(camera.url, camera.url, out_folder=tmp_path / "out")


def test_a_stream_that_is_not_there_is_reported_after_the_files(folder: Path, tmp_path: Path, run: Any) -> None:
    with pytest.raises(typer.Exit) as stop:
        run("/dev/video99", folder, out_folder=tmp_path / "out", save_json=True)
    assert stop.value.exit_code == 1
    found = json.loads((tmp_path / "out" / "predictions.json").read_text())
    assert [len(found["results"]), found["errors"][0]["source"]] == [2, "/dev/video99"]


class Interrupted(FakeRuntime):
    """The user presses Ctrl-C while the fourth frame is looked at."""

    looked_at = 0

    def __call__(self, frame: np.ndarray, *, thresholds: Thresholds) -> Detections:
        self.looked_at += 1
        if self.looked_at == 4:
            raise KeyboardInterrupt
        return super().__call__(frame, thresholds=thresholds)


def test_control_c_keeps_what_is_done(
    camera: Any, folder: Path, tmp_path: Path, run: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("yolo12edge.runtimes.Runtime", Interrupted)
    run(camera.url, out_folder=tmp_path / "live", save_json=True)  # no error: how else would it end
    assert len(json.loads((tmp_path / "live" / "predictions.json").read_text())["results"]) == 3
    with Video(next((tmp_path / "live").glob("*.mp4"))) as video:
        assert len(list(video)) >= 1
    clip = write_video(tmp_path / "clip.mp4", 9)
    with pytest.raises(typer.Exit) as stop:
        run(folder / "a.png", clip, folder / "b.PNG", out_folder=tmp_path / "out", save_json=True)
    assert stop.value.exit_code == 130
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["a.png", "clip.mp4", "predictions.json"]
    with Video(tmp_path / "out" / "clip.mp4") as video:
        assert len(list(video)) == 2


def test_the_copy_of_a_stream_is_as_fast_as_the_stream_was(tmp_path: Path) -> None:
    with _video_writer(tmp_path / "copy.mp4", None) as write:
        for tenth, grey, height in ((0, 0, 64), (1, 80, 64), (10, 160, 32), (20, 240, 64)):  # the third is smaller
            write(Frame(square(), tenth, 10**18 + tenth * 10**8), np.full((height, 128, 3), grey, np.uint8))
    with Video(tmp_path / "copy.mp4") as video:
        assert video.fps == pytest.approx(25)
        frames = list(video)
    assert {frame.shape for frame in frames} == {(64, 128, 3)}
    shown = [round(frame.mean() / 80) for frame in frames]  # each until the next was taken
    assert shown == [0] * 2 + [1] * 23 + [2] * 25 + [3]


def test_files_of_one_name_do_not_overwrite_each_other(tmp_path: Path) -> None:
    for index, name in enumerate(("x/a.png", "y/a.png", "y/A.bmp", "y/a-2.png")):
        write_image(tmp_path / name, square(index * 8))
    write_video(tmp_path / "y" / "a.mp4", 2)
    media = find_media([tmp_path / "x", tmp_path / "y"])
    assert len({item.name.lower() for item in media}) == 5
    out = tmp_path / "out"
    result = predict_media(FakeRuntime(), media, out, thresholds=Thresholds(), save_txt=True)
    assert result.errors == []
    assert len([path for path in out.iterdir() if path.is_file()]) == 5
    assert len(list((out / "labels").glob("*.txt"))) == 4


def test_a_source_is_never_overwritten(folder: Path) -> None:
    before = (folder / "a.png").read_bytes()
    with pytest.raises(InputError, match="would overwrite a source"):
        predict_media(FakeRuntime(), find_media([folder]), folder, thresholds=Thresholds())
    assert (folder / "a.png").read_bytes() == before


def test_sources(folder: Path, tmp_path: Path) -> None:
    (folder / "notes.txt").write_text("no image")
    write_image(folder / "deep" / "c [1].png", square())
    names = [item.path.name for item in find_media([folder / "b.PNG", folder, f"{folder}/**/*.png"])]
    assert names == ["b.PNG", "a.png", "c [1].png"]
    assert [item.path.name for item in find_media([folder / "deep" / "c [1].png"])] == ["c [1].png"]
    (tmp_path / "empty").mkdir()
    for source, message in (
        (tmp_path / "empty", "no image or video"),
        (tmp_path / "missing.jpg", "does not exist"),
        (f"{tmp_path}/*.webp", "no image or video matches"),
    ):
        with pytest.raises(InputError, match=message):
            find_media([source])
    with pytest.raises(InputError, match="nothing to look at"):
        find_media([])


def test_videos_that_cannot_be_opened(tmp_path: Path) -> None:
    (tmp_path / "text.mp4").write_text("not a video")
    with pytest.raises(InputError, match="cannot be opened as a video"):
        Video(tmp_path / "text.mp4")
    with pytest.raises(InputError, match="does not exist"):
        Video(tmp_path / "none.mp4")


def test_class_names_and_indices() -> None:
    names = ["dark", "bright, square", "7"]
    assert cli.resolve_classes(None, names) is None
    assert cli.resolve_classes(["bright, square", "0"], names) == (1, 0)
    assert cli.resolve_classes(["dark, 1", "dark"], names) == (0, 1)
    assert cli.resolve_classes(["7"], names) == (2,)  # a name before an index
    for wrong in ("cat", "3", "-1", "", "²"):
        with pytest.raises(InputError, match="no class"):
            cli.resolve_classes([wrong], names)


def test_without_out_each_run_gets_its_own_folder(folder: Path, run: Any, monkeypatch: Any, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    run(folder)
    run(folder, classes=["dark"])
    assert sorted(path.name for path in (tmp_path / "runs").iterdir()) == ["predict", "predict-2"]
    assert (read_image(tmp_path / "runs" / "predict-2" / "a.png") == square()).all()


def test_where_nothing_can_be_read_no_folder_is_left(run: Any, monkeypatch: Any, tmp_path: Path, capsys: Any) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "bad.png").write_bytes(b"\x89PNG\r\n\x1a\n no picture")
    with pytest.raises(typer.Exit):
        run(tmp_path / "bad.png", "/dev/video99")
    assert [path.name for path in tmp_path.iterdir()] == ["bad.png"]
    assert capsys.readouterr().out == ""


def test_parts_of_a_whole_are_per_cent_without_a_rate(capsys: Any) -> None:
    with _console.progress("Building", unit="") as steps:
        steps.update(250, 1000)
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert re.fullmatch(r"Building: 25 % \(\d+ s left\)", line), line
    with _console.progress("Building", unit="") as steps:
        steps.update(1000, 1000)
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert re.fullmatch(r"Building: 100 % \(\d+ s\)", line), line


def test_progress_off_a_terminal_is_sparse(capsys: Any) -> None:
    with _console.progress("Working [now]", 500, unit="images") as steps:
        for _ in range(500):
            steps.advance()
    printed = capsys.readouterr()
    assert printed.out == ""
    lines = printed.err.strip().splitlines()
    assert len(lines) == 1
    assert lines[0].startswith("Working [now]: 500 of 500 (")
    assert steps.done == 500


def test_label_lines_of_every_task() -> None:
    where: dict[str, Any] = {"xyxy": [[10, 20, 30, 60]], "confidence": [0.5], "class_id": [3]}
    hw = (100, 200)
    assert label_lines(Detections(**where), hw) == ["3 0.100000 0.400000 0.100000 0.400000 0.50000\n"]
    full = np.zeros((1, 100, 200), np.bool_)
    full[0, 20:60, 10:30] = True
    full[0, 90:92, 10:12] = True
    line = label_lines(Detections(**where, mask=Masks.of_full(full)), hw)[0].split()
    assert (line[0], line[-1]) == ("3", "0.50000")
    points = np.array(line[1:-1], float).reshape(-1, 2) * hw[::-1]
    assert {tuple(point) for point in points.round(3).tolist()} == {(10, 20), (30, 20), (30, 60), (10, 60)}
    assert label_lines(Detections(**where, mask=Masks.of_full(np.zeros((1, 100, 200), np.bool_))), hw) == []
    posed = Detections(**where, keypoints=[[[20, 30, 0.25], [200, 100, 1]]])
    both = "3 0.100000 0.400000 0.100000 0.400000 0.100000 0.300000"
    assert label_lines(posed, hw) == [f"{both} 0.250000 1.000000 1.000000 1.000000 0.50000\n"]
    flat = label_lines(posed, hw, KeypointSpec(count=2, dimensions=2))
    assert flat == [f"{both} 1.000000 1.000000 0.50000\n"]
    turned = label_lines(Detections(**where, obb=[[20, 40, 40, 20, np.pi / 2]]), hw)
    assert turned == ["3 0.150000 0.200000 0.150000 0.600000 0.050000 0.600000 0.050000 0.200000 0.50000\n"]
    assert label_lines(Detections(**where, probs=[[0.1, 0.2, 0.2, 0.5]]), hw) == ["3 0.50000\n"]
