"""The demo's own folder handling, and the way it drives the export; the demo itself runs from the README."""

from __future__ import annotations

from pathlib import Path

import pytest

from yolo12edge.assets import DEMO_CHECKPOINT
from yolo12edge.checkpoint import read_header
from yolo12edge.cli.demo import _folder
from yolo12edge.data.scenes import CLASS_NAMES
from yolo12edge.errors import InputError


def test_bundled_checkpoint_is_small_and_ours() -> None:
    header = read_header(DEMO_CHECKPOINT)
    assert DEMO_CHECKPOINT.stat().st_size <= 6_000_000
    assert tuple(header.meta.class_names) == CLASS_NAMES
    assert (header.meta.source, header.meta.weights_license) == ("trained", "Apache-2.0")


def test_demo_removes_only_what_is_its_own(tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert _folder(out) == out
    (out / "scenes").mkdir()
    (out / "detections.jpg").touch()
    (out / "thesis.txt").touch()
    _folder(out)
    assert sorted(path.name for path in out.iterdir()) == [".yolo12edge-demo", "thesis.txt"]
    foreign = tmp_path / "foreign"
    (foreign / "scenes").mkdir(parents=True)
    for taken in (foreign, out / "thesis.txt"):
        with pytest.raises(InputError, match="no demo made it"):
            _folder(taken)
    assert (foreign / "scenes").is_dir()
