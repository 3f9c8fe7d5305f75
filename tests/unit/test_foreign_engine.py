"""TensorRT engines that another tool exported: what is written before the plan may be anything."""

from __future__ import annotations

import gc
import json
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.fakes import tensorrt as fakes
from tests.unit.test_foreign import METADATA, OUTPUT, SIDE, write_onnx
from yolo12edge.cli.inspect import describe
from yolo12edge.errors import ArtifactError, InputError
from yolo12edge.foreign import manifest_of_engine
from yolo12edge.runtimes import Runtime

# As Ultralytics writes it before an engine: JSON, so that numbers are numbers.
ENTRIES: dict[str, Any] = {
    **METADATA,
    "stride": 32,
    "batch": 1,
    "imgsz": [SIDE, SIDE],
    "names": {"0": "cat", "1": "dog's"},
    "args": {"batch": 1, "half": True, "int8": False, "dynamic": False, "nms": False},
    "channels": 3,
    "end2end": False,
}
CANDIDATES = 16 + 4 + 1  # cells of strides 8, 16 and 32


@pytest.fixture
def trt(monkeypatch: pytest.MonkeyPatch) -> Any:
    module = fakes.install(monkeypatch)
    yield module
    gc.collect()
    module.check()


def write_engine(path: Path, *, candidates: int = CANDIDATES, plan: bytes | None = None, **changes: Any) -> Path:
    output = np.zeros((1, 6, candidates), np.float32)
    output[..., : OUTPUT.shape[2]] = OUTPUT
    plan = (
        plan if plan is not None else fakes.fake_plan(write_onnx(path.with_suffix(".onnx"), output=output).read_bytes())
    )
    text = json.dumps({key: value for key, value in {**ENTRIES, **changes}.items() if value is not None}).encode()
    path.write_bytes(struct.pack("<i", len(text)) + text + plan)
    return path


def test_it_runs_like_an_artifact(tmp_path: Path, trt: Any) -> None:
    with Runtime(write_engine(tmp_path / "a.engine")) as runtime:
        found = runtime(np.zeros((SIDE, SIDE, 3), np.uint8))
        assert runtime.manifest.class_names == ["cat", "dog's"]
        assert (runtime.manifest.format, runtime.manifest.precision) == ("tensorrt", "fp16")
    assert found.class_id.tolist() == [0, 1]
    np.testing.assert_allclose(found.xyxy, [[8, 5, 12, 11], [0, 0, 32, 32]])


def test_inspect_says_what_it_says_of_itself(tmp_path: Path) -> None:
    facts = describe(write_engine(tmp_path / "a.engine"))
    assert facts["kind"] == "engine"
    assert facts["manifest"]["engine"] is None
    assert any("AGPL-3.0" in warning for warning in facts["warnings"])


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"task": "segment"}, "task 'segment'"),
        ({"imgsz": None}, "no entry 'imgsz'"),
        ({"names": None}, "no entry 'names'"),
        ({"batch": 4}, "batch=1"),
        ({"args": {"dynamic": True}}, "dynamic=False"),
        ({"args": {"nms": True}}, "nms=False"),
        ({"end2end": True}, "end-to-end"),
        ({"imgsz": [100, 100]}, "does not divide"),
    ],
)
def test_what_cannot_run_is_refused(tmp_path: Path, trt: Any, changes: dict[str, Any], said: str) -> None:
    with pytest.raises(ArtifactError, match=said):
        Runtime(write_engine(tmp_path / "a.engine", **changes))


def test_an_engine_that_is_not_what_it_says_is_refused(tmp_path: Path, trt: Any) -> None:
    with pytest.raises(ArtifactError, match="outputs are"):
        Runtime(write_engine(tmp_path / "a.engine", candidates=20))


def test_an_engine_of_another_version_is_not_given_to_the_library(tmp_path: Path, trt: Any) -> None:
    onnx = write_onnx(tmp_path / "a.onnx").read_bytes()
    with pytest.raises(ArtifactError, match=r"built with tensorrt 8\.6\.1"):
        Runtime(write_engine(tmp_path / "a.engine", plan=fakes.fake_plan(onnx, version=(8, 6, 1, 6))))


def test_a_lone_engine_says_what_is_missing(tmp_path: Path) -> None:
    path = tmp_path / "model.engine"
    path.write_bytes(fakes.fake_plan(b""))
    with pytest.raises(InputError, match="name that directory"):
        Runtime(path)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=9),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)


@given(st.dictionaries(st.sampled_from(sorted(ENTRIES)), json_values, max_size=4))
def test_metadata_make_a_manifest_or_an_artifact_error(changes: dict[str, Any]) -> None:
    try:
        manifest = manifest_of_engine(Path("a.engine"), {**ENTRIES, **changes}, "tensorrt")
    except ArtifactError:
        return
    assert manifest.input.height > 0
