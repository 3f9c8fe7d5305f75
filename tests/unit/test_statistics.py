"""The statistics file: whole, its own, or refused with the reason."""

from __future__ import annotations

import io
import json
import zipfile
from dataclasses import replace

import msgspec
import numpy as np
import pytest

from yolo12edge.calibration.observe import TensorObserver
from yolo12edge.calibration.tensor_statistics import BINS, Statistics
from yolo12edge.errors import InputError
from yolo12edge.manifest import InputSpec

SPEC = InputSpec(name="images", batch=1, height=64, width=96)


def tensor(seed, channels):
    observer = TensorObserver()
    observer.add(np.random.default_rng(seed).standard_normal((1, channels, 5, 5)).astype(np.float32))
    return observer.result()


@pytest.fixture
def statistics():
    return Statistics(
        {"b": tensor(0, 3), "a": tensor(1, 7)}, "a" * 64, SPEC, ("x.png", "d/ä.png"), ("b" * 64, "c" * 64), "train", 2
    )


@pytest.fixture
def file(statistics, tmp_path):
    path = tmp_path / "s.npz"
    statistics.save(path)
    return path


def test_statistics_survive_a_file(statistics, file):
    loaded = Statistics.load(file)
    for name in ("model_digest", "input", "images", "contents", "images_digest", "split", "images_with_objects"):
        assert getattr(loaded, name) == getattr(statistics, name)
    assert list(loaded.tensors) == ["b", "a"]
    for name, item in statistics.tensors.items():
        other = loaded.tensors[name]
        assert (item.low, item.high, item.limit) == (other.low, other.high, other.limit)
        for field in ("counts", "channel_peak", "channel_mean"):
            mine, theirs = getattr(item, field), getattr(other, field)
            np.testing.assert_array_equal(mine, theirs)
            assert mine.dtype == theirs.dtype
    assert file.stat().st_size < 10000


def test_counts_beyond_32_bits_survive(statistics, tmp_path):
    counts = statistics.tensors["a"].counts.copy()
    counts[7] = 1 << 40
    large = replace(statistics, tensors={"a": replace(statistics.tensors["a"], counts=counts)})
    large.save(tmp_path / "any.name")  # whatever the suffix
    assert Statistics.load(tmp_path / "any.name").tensors["a"].counts[7] == 1 << 40


def test_description_says_where_it_is_from(file):
    with np.load(file) as data:
        meta = json.loads(data["meta"].tobytes())
    assert meta["schema_version"] == 1
    assert set(meta["versions"]) == {"yolo12edge"}
    assert meta["created"].endswith("+00:00")


def rewritten(file, *, meta=None, **arrays):
    """Write the file again with other content; ``None`` leaves an array out."""
    with np.load(file) as data:
        content = dict(data)
    if meta:
        text = {**json.loads(content["meta"].tobytes()), **meta}
        content["meta"] = np.frombuffer(json.dumps(text).encode(), np.uint8)
    for name, change in arrays.items():
        content[name] = change(content[name]) if name in content else change(None)
    np.savez_compressed(file, **{name: value for name, value in content.items() if value is not None})


def changed(index, value):
    def change(array):
        array = array.copy()
        array[index] = value
        return array

    return change


@pytest.mark.parametrize(
    ("arrays", "reason"),
    [
        ({"counts": changed((0, 5), -1)}, "negative"),
        ({"counts": lambda a: a[:1]}, "counts are"),
        ({"counts": lambda a: a.astype(np.float64)}, "counts are float64"),
        ({"counts": lambda a: a * 0}, "empty"),
        ({"extremes": changed((0, 0), np.nan)}, "not finite"),
        ({"extremes": changed((0, 1), 1e9)}, "contradict"),
        ({"extremes": lambda a: a.astype(np.float32)}, "extremes are float32"),
        ({"channel_mean": changed(2, np.inf)}, "not finite"),
        ({"channel_peak": changed(2, -1)}, "contradict"),
        ({"channels": changed(0, 4)}, "of shape"),
        ({"channels": changed(0, -1)}, "channels are"),
        ({"channels": lambda a: None}, "not made of"),
        ({"more": lambda a: np.zeros(3)}, "not made of"),
        ({"counts": lambda a: a.astype(object)}, "object"),
        ({"meta": {"tensors": ["a", "a"]}}, "twice"),
        ({"meta": {"images": []}}, "0 images have 2 digests"),
        ({"meta": {"images": [], "contents": []}}, "have objects"),
        ({"extremes": changed((0, 1), 1e300)}, "not finite"),
        ({"meta": {"images_with_objects": 3}}, "3 of 2"),
        ({"meta": {"model_digest": "x"}}, "model_digest"),
        ({"meta": {"extra": 1}}, "extra"),
        ({"meta": {"schema_version": "1"}}, "no known schema version"),
    ],
)
def test_what_save_would_not_write_is_refused(file, arrays, reason):
    if "counts" in arrays and reason == "negative":
        rewritten(file, counts=lambda a: a.astype(np.int64))
    rewritten(file, **arrays)
    with pytest.raises(InputError, match=reason):
        Statistics.load(file)


def test_a_newer_file_is_named_as_such(file):
    rewritten(file, meta={"schema_version": 2})
    with pytest.raises(InputError, match="schema version 2, newer than the 1"):
        Statistics.load(file)


def test_nothing_large_is_unpacked(file, monkeypatch):
    with zipfile.ZipFile(file) as archive:
        parts = {entry.filename: archive.read(entry) for entry in archive.infolist()}
    parts["counts.npy"] += bytes(300 << 20)  # 300 MiB of zeros: 0.3 MB in the file
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in parts.items():
            archive.writestr(name, content)
    monkeypatch.setattr(zipfile.ZipFile, "read", lambda *args: pytest.fail("it was unpacked"))
    with pytest.raises(InputError, match="unpack to 30"):
        Statistics.load(file)


def test_large_files_are_not_opened(file):
    with file.open("r+b") as opened:
        opened.truncate(300 << 20)
    with pytest.raises(InputError, match="it has 300 MiB"):
        Statistics.load(file)


def test_a_description_cannot_be_a_heap_of_strings(file):
    rewritten(file, meta={"images": [""] * 3_000_000})
    with pytest.raises(InputError, match="its description has"):
        Statistics.load(file)


def test_a_header_cannot_claim_more_than_is_there(file):
    with zipfile.ZipFile(file) as archive:
        parts = {entry.filename: archive.read(entry) for entry in archive.infolist()}
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(header, {"descr": "<u4", "fortran_order": False, "shape": (1 << 40, BINS)})
    parts["counts.npy"] = header.getvalue() + bytes(16)
    with zipfile.ZipFile(file, "w") as archive:
        for name, content in parts.items():
            archive.writestr(name, content)
    with pytest.raises(InputError, match="no calibration statistics"):
        Statistics.load(file)


def test_damaged_files_are_refused(file, tmp_path):
    whole = file.read_bytes()
    for cut in range(0, len(whole), 97):
        file.write_bytes(whole[:cut])
        with pytest.raises(InputError, match="no calibration statistics"):
            Statistics.load(file)
    refused = 0
    for place in range(0, len(whole), 31):
        file.write_bytes(whole[:place] + bytes([whole[place] ^ 0xFF]) + whole[place + 1 :])
        try:
            Statistics.load(file)
        except InputError:
            refused += 1
    assert refused > len(whole) // 31 // 2
    with pytest.raises(InputError, match="no calibration statistics"):
        Statistics.load(tmp_path / "missing.npz")
    with pytest.raises(InputError, match="no calibration statistics"):
        Statistics.load(tmp_path)


def test_a_failed_write_leaves_the_old_file(statistics, file):
    before = file.read_bytes()
    broken = replace(statistics, tensors={"a": replace(statistics.tensors["a"], channel_peak=None)})
    with pytest.raises(TypeError):
        broken.save(file)
    assert file.read_bytes() == before
    assert [path.name for path in file.parent.iterdir()] == [file.name]


def test_foreign_and_stale_statistics_are_refused(statistics):
    statistics.check("a" * 64, SPEC)
    with pytest.raises(InputError, match="another model, digest aaaaaaaaaaaa and not cccccccccccc") as caught:
        statistics.check("c" * 64, SPEC)
    assert "input" not in caught.value.fact
    with pytest.raises(InputError, match="height 64, that of this model 320") as caught:
        statistics.check("a" * 64, msgspec.structs.replace(SPEC, height=320))
    assert "another model" not in caught.value.fact


def test_images_of_another_domain_are_cautioned_against(statistics):
    many = replace(statistics, images=tuple(map(str, range(50))))
    assert "only 4 of 50" in replace(many, images_with_objects=4).caution()
    assert replace(many, images_with_objects=5).caution() == ""
