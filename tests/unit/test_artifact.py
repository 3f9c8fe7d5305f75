from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import msgspec
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from yolo12edge import files as files_module
from yolo12edge.artifact import Artifact, read_embedded_manifest, with_report, write_artifact
from yolo12edge.errors import ArtifactError, InputError
from yolo12edge.files import atomic_directory, atomic_file, sha256_of
from yolo12edge.manifest import InputSpec, Manifest, OutputSpec, Parity, Provenance, Report
from yolo12edge.onnx_metadata import read_onnx_metadata

MODEL = b"not really a model"
FILES: dict[str, Path | bytes] = {"model.onnx": MODEL, "data/weights.bin": b"\0" * 3_000_000}


def manifest(**changes: object) -> Manifest:
    made = Manifest(
        schema_version=1,
        task="detect",
        scale="n",
        variant="v1",
        class_names=["circle", "square"],
        format="onnx",
        precision="fp32",
        input=InputSpec(name="images", batch=1, height=64, width=64),
        outputs=[
            OutputSpec(name="boxes", role="boxes", shape=(1, 4, 84)),
            OutputSpec(name="scores", role="scores", shape=(1, 2, 84)),
        ],
        provenance=Provenance(checkpoint_sha256="0" * 64, created="2026-01-02T03:04:05Z", versions={}),
    )
    return msgspec.structs.replace(made, **changes)


def leftovers(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.iterdir() if path.name.startswith("."))


@pytest.fixture
def artifact(tmp_path: Path) -> Artifact:
    return write_artifact(tmp_path / "art", manifest(), FILES)


# --- writing and loading


def test_round_trip(artifact: Artifact, tmp_path: Path) -> None:
    loaded = Artifact.load(str(tmp_path / "art"))
    assert loaded == artifact
    assert loaded.model_file.read_bytes() == MODEL
    assert loaded.file("data/weights.bin").stat().st_size == 3_000_000
    assert loaded.manifest.files[0].sha256 == hashlib.sha256(MODEL).hexdigest()
    assert [entry.path for entry in loaded.manifest.files] == list(FILES)
    assert leftovers(tmp_path) == []


def test_digest_of_a_file_longer_than_one_read(tmp_path: Path) -> None:
    content = bytes(range(256)) * 8191
    (tmp_path / "file").write_bytes(content)
    assert sha256_of(tmp_path / "file") == hashlib.sha256(content).hexdigest()
    (tmp_path / "file").write_bytes(b"")
    assert sha256_of(tmp_path / "file") == hashlib.sha256(b"").hexdigest()


def test_files_are_copied_from_paths(tmp_path: Path) -> None:
    (tmp_path / "source.bin").write_bytes(MODEL)
    made = write_artifact(tmp_path / "deep" / "art", manifest(), {"model.onnx": tmp_path / "source.bin"})
    assert Artifact.load(made.path).model_file.read_bytes() == MODEL
    assert (tmp_path / "source.bin").exists()


def test_moved_artifact_still_loads(artifact: Artifact, tmp_path: Path) -> None:
    shutil.move(artifact.path, tmp_path / "elsewhere")
    assert Artifact.load(tmp_path / "elsewhere").model_file == tmp_path / "elsewhere" / "model.onnx"


def test_unlisted_file_is_not_handed_out(artifact: Artifact) -> None:
    (artifact.path / "other").write_bytes(b"")
    assert Artifact.load(artifact.path) == artifact
    with pytest.raises(ArtifactError, match="no file 'other'"):
        artifact.file("other")


def test_report_is_replaced_and_the_model_untouched(artifact: Artifact) -> None:
    report = Report(parity=Parity(source="float", images=1, errors={"boxes": 0.0, "scores": 0.0}))
    changed = with_report(artifact, report)
    assert Artifact.load(artifact.path) == changed
    assert changed.manifest.report == report
    assert changed.manifest.files == artifact.manifest.files
    with pytest.raises(ArtifactError):
        with_report(artifact, Report(parity=Parity(source="", images=0, errors={"boxes": 0.0, "scores": 0.0})))
    assert Artifact.load(artifact.path) == changed


def test_invalid_manifest_is_not_written(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match="class names"):
        write_artifact(tmp_path / "art", manifest(class_names=["one"]), FILES)
    with pytest.raises(ArtifactError):
        write_artifact(tmp_path / "art", manifest(), {})
    assert list(tmp_path.iterdir()) == []


def test_file_outside_of_the_artifact_is_not_written(tmp_path: Path) -> None:
    for name in ("../escaped", str(tmp_path / "escaped"), "manifest.json"):
        with pytest.raises(ArtifactError):
            write_artifact(tmp_path / "art", manifest(), {"model.onnx": MODEL, name: b"x"})
    assert list(tmp_path.iterdir()) == []


def test_missing_source_file_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot write"):
        write_artifact(tmp_path / "art", manifest(), {"model.onnx": MODEL, "b": tmp_path / "missing"})
    assert list(tmp_path.iterdir()) == []


# --- what load refuses


def flip_a_byte(directory: Path) -> None:
    content = bytearray((directory / "data/weights.bin").read_bytes())
    content[-1] ^= 1
    (directory / "data/weights.bin").write_bytes(content)


def link_out(directory: Path) -> None:
    shutil.copy(directory / "model.onnx", directory.parent / "outside")
    (directory / "model.onnx").unlink()
    (directory / "model.onnx").symlink_to("../outside")


def link_directory_out(directory: Path) -> None:
    shutil.move(directory / "data", directory.parent / "outside")
    (directory / "data").symlink_to(directory.parent / "outside")


def link_manifest_out(directory: Path) -> None:
    shutil.move(directory / "manifest.json", directory.parent / "outside")
    (directory / "manifest.json").symlink_to(directory.parent / "outside")


def link_to_itself(directory: Path) -> None:
    (directory / "model.onnx").unlink()
    (directory / "model.onnx").symlink_to("model.onnx")


def pipe(directory: Path) -> None:
    (directory / "model.onnx").unlink()
    os.mkfifo(directory / "model.onnx")


def directory_instead(directory: Path) -> None:
    (directory / "model.onnx").unlink()
    (directory / "model.onnx").mkdir()


def list_another_path(path: str) -> Callable[[Path], None]:
    def change(directory: Path) -> None:
        (directory.parent / "outside").write_bytes(MODEL)
        raw = json.loads((directory / "manifest.json").read_bytes())
        raw["files"][0]["path"] = path
        (directory / "manifest.json").write_text(json.dumps(raw))

    return change


def huge_manifest(directory: Path) -> None:
    with (directory / "manifest.json").open("ab") as file:
        file.truncate(1 << 40)  # sparse: reading it whole would fill the memory


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (flip_a_byte, "was altered"),
        (lambda directory: (directory / "model.onnx").write_bytes(MODEL[:-1]), "17 bytes"),
        (lambda directory: (directory / "model.onnx").unlink(), "has no file model.onnx"),
        (
            lambda directory: (directory / "manifest.json").unlink(),
            r"is no artifact.*it holds model\.onnx: name that file",
        ),
        (lambda directory: shutil.rmtree(directory), "does not exist"),
        (lambda directory: (directory / "manifest.json").write_bytes(b""), "not valid JSON.*copy the artifact again"),
        (directory_instead, "not a regular file"),
        (list_another_path("../outside"), "schema"),
        (huge_manifest, "larger than"),
        pytest.param(pipe, "not a regular file", marks=pytest.mark.skipif(os.name == "nt", reason="no named pipes")),
        pytest.param(link_out, "is a link to", marks=pytest.mark.skipif(os.name == "nt", reason="no links")),
        pytest.param(link_directory_out, "is a link to", marks=pytest.mark.skipif(os.name == "nt", reason="no links")),
        pytest.param(link_manifest_out, "is a link to", marks=pytest.mark.skipif(os.name == "nt", reason="no links")),
        pytest.param(link_to_itself, "cannot read", marks=pytest.mark.skipif(os.name == "nt", reason="no links")),
    ],
)
def test_load_refuses(artifact: Artifact, change: Callable[[Path], None], message: str) -> None:
    change(artifact.path)
    with pytest.raises(ArtifactError, match=message):
        Artifact.load(artifact.path)


def test_load_of_a_file_says_what_was_expected(artifact: Artifact) -> None:
    with pytest.raises(ArtifactError, match=r"is a file.*a directory with manifest\.json"):
        Artifact.load(artifact.model_file)


@pytest.mark.skipif(os.name == "nt", reason="no links")
def test_links_that_stay_inside_and_a_link_to_the_artifact_are_fine(artifact: Artifact, tmp_path: Path) -> None:
    (artifact.path / "model.onnx").rename(artifact.path / "real")
    (artifact.path / "model.onnx").symlink_to("real")
    (tmp_path / "latest").symlink_to("art")
    assert Artifact.load(tmp_path / "latest").manifest == artifact.manifest


# --- overwriting


def test_existing_artifact_is_replaced_only_on_request(artifact: Artifact, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="not empty"):
        write_artifact(artifact.path, manifest(), {"new.onnx": b"new"})
    assert Artifact.load(artifact.path) == artifact
    made = write_artifact(artifact.path, manifest(), {"new.onnx": b"new"}, overwrite=True)
    assert Artifact.load(artifact.path) == made
    assert sorted(path.name for path in artifact.path.iterdir()) == ["manifest.json", "new.onnx"]
    assert leftovers(tmp_path) == []


def test_damaged_or_newer_artifact_may_be_replaced(artifact: Artifact) -> None:
    raw = json.loads((artifact.path / "manifest.json").read_bytes())
    (artifact.path / "manifest.json").write_text(json.dumps({**raw, "schema_version": 99, "new": 1}))
    (artifact.path / "model.onnx").write_bytes(b"damaged")
    made = write_artifact(artifact.path, manifest(), FILES, overwrite=True)
    assert Artifact.load(artifact.path) == made


def test_empty_directory_is_filled(tmp_path: Path) -> None:
    (tmp_path / "art").mkdir()
    assert Artifact.load(write_artifact(tmp_path / "art", manifest(), FILES).path)


@pytest.mark.parametrize(
    "foreign",
    [
        {"notes.txt": "mine"},
        {"manifest.json": "{}"},
        {"manifest.json": '{"name": "a web page", "schema_version": "3", "files": []}'},
        {"manifest.json": "[1]"},
        {"manifest.json": '{"schema_version": 1, "files": [{"path": "a"}]}', "a": "", "deep/b": "mine"},
    ],
)
def test_directory_of_somebody_else_is_never_replaced(tmp_path: Path, foreign: dict[str, str]) -> None:
    for name, content in foreign.items():
        (tmp_path / "dir" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "dir" / name).write_text(content)
    with pytest.raises(InputError, match="not replaced"):
        write_artifact(tmp_path / "dir", manifest(), FILES, overwrite=True)
    for name, content in foreign.items():
        assert (tmp_path / "dir" / name).read_text() == content
    assert leftovers(tmp_path) == []


def test_file_is_not_replaced_by_a_directory(tmp_path: Path) -> None:
    (tmp_path / "art").write_text("mine")
    with pytest.raises(InputError, match="is a file"):
        write_artifact(tmp_path / "art", manifest(), FILES, overwrite=True)


def test_a_user_without_a_home_may_replace_a_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def nowhere() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(Path, "home", nowhere)
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "old").touch()
    with atomic_directory(tmp_path / "out", overwrite=True) as building:
        (building / "new").touch()
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["new"]


@pytest.mark.parametrize("place", [".", ".."])
def test_working_directory_is_not_replaced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str) -> None:
    (tmp_path / "inner").mkdir()
    monkeypatch.chdir(tmp_path / "inner")
    with pytest.raises(InputError, match="must not be replaced"), atomic_directory(Path(place), overwrite=True):
        pass


@pytest.mark.parametrize("exchange", [True, False], ids=["in one step", "by two renames"])
def test_directory_replacement(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, exchange: bool) -> None:
    if not exchange:
        monkeypatch.setattr(files_module, "_exchange", lambda first, second: False)
    for content in ("one", "two"):
        with atomic_directory(tmp_path / "out", overwrite=True) as building:
            assert list(building.iterdir()) == []
            (building / "sub").mkdir()
            (building / "sub" / "file").write_text(content)
        assert (tmp_path / "out" / "sub" / "file").read_text() == content
        assert [path.name for path in tmp_path.iterdir()] == ["out"]


@pytest.mark.skipif(sys.platform not in {"linux", "darwin"}, reason="only there can two directories be exchanged")
def test_exchange_really_is_one_step_here(tmp_path: Path) -> None:
    for name in "ab":
        (tmp_path / name).mkdir()
        (tmp_path / name / "file").write_text(name)
    if not files_module._exchange(tmp_path / "a", tmp_path / "b"):
        pytest.skip("this file system cannot exchange directories")
    assert (tmp_path / "a" / "file").read_text() == "b"
    assert (tmp_path / "b" / "file").read_text() == "a"


def test_failed_second_rename_puts_the_old_directory_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "old").write_text("old")
    monkeypatch.setattr(files_module, "_exchange", lambda first, second: False)
    rename = Path.rename

    def fail_for_new(self: Path, target: Path) -> Path:
        if self.suffix == ".tmp":
            raise OSError("disk trouble")
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", fail_for_new)
    with pytest.raises(InputError, match="disk trouble"), atomic_directory(tmp_path / "out", overwrite=True):
        pass
    assert (tmp_path / "out" / "old").read_text() == "old"
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


_CRASH = """
import os, pathlib, sys
from yolo12edge import files
wanted = int(sys.argv[2])
steps = 0
def count(function):
    def wrapped(*args, **kwargs):
        global steps
        steps += 1
        if steps > wanted:
            os._exit(9)
        return function(*args, **kwargs)
    return wrapped
if sys.argv[3] == "renames":
    files._exchange = lambda first, second: False
for name in ("mkdir", "rename", "write_text", "rmdir", "unlink"):
    setattr(pathlib.Path, name, count(getattr(pathlib.Path, name)))
for name in ("fsync", "unlink", "rmdir"):
    setattr(os, name, count(getattr(os, name)))
files._exchange = count(files._exchange)
with files.atomic_directory(pathlib.Path(sys.argv[1]), overwrite=True) as building:
    (building / "a").write_text("new")
    (building / "b").write_text("new")
print("finished")
"""


@pytest.mark.slow
@pytest.mark.parametrize("way", ["exchange", "renames"])
def test_a_crash_at_any_step_loses_neither(tmp_path: Path, way: str) -> None:
    """The process is ended at every single step of a replacement; old or new must be whole on disk each time."""
    if way == "exchange":
        (tmp_path / "1").mkdir()
        (tmp_path / "2").mkdir()
        if not files_module._exchange(tmp_path / "1", tmp_path / "2"):
            pytest.skip("this file system cannot exchange directories")
    finished = False
    for step in range(60):
        target = tmp_path / f"case{step}" / "out"
        target.mkdir(parents=True)
        for name in "ab":
            (target / name).write_text("old")
        command = [sys.executable, "-c", _CRASH, str(target), str(step), way]
        done = subprocess.run(command, capture_output=True, text=True, check=False, env=_ENVIRONMENT)
        finished = "finished" in done.stdout
        assert finished or done.returncode == 9, done.stderr
        whole = [
            place
            for place in [target, *target.parent.glob(".out.*")]
            if place.is_dir() and {path.name: path.read_text() for path in place.iterdir()} in _WHOLE
        ]
        assert whole, f"step {step} lost both"
        if way == "exchange":  # there the name itself is never without a whole directory
            assert target in whole, f"step {step} left nothing at the name"
        if finished:
            assert {path.name: path.read_text() for path in target.iterdir()} == _WHOLE[1]
            break
    assert finished


_ENVIRONMENT = {**os.environ, "PYTHONPATH": str(Path(files_module.__file__).parents[1])}
_WHOLE = [{"a": "old", "b": "old"}, {"a": "new", "b": "new"}]


# --- single files


def test_file_appears_whole_and_keeps_its_suffix(tmp_path: Path) -> None:
    target = tmp_path / "new" / "picture.tar.png"
    with atomic_file(target) as temporary:
        assert temporary.parent == target.parent
        assert temporary.suffix == ".png"
        temporary.write_bytes(b"one")
        assert not target.exists()
    assert target.read_bytes() == b"one"
    assert leftovers(target.parent) == []


def test_failed_write_leaves_the_old_file(tmp_path: Path) -> None:
    target = tmp_path / "file"
    target.write_text("old")
    with suppress(KeyboardInterrupt), atomic_file(target) as temporary:
        temporary.write_text("half")
        raise KeyboardInterrupt
    assert target.read_text() == "old"
    assert leftovers(tmp_path) == []


def test_failed_build_leaves_the_old_directory(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "file").write_text("old")
    with suppress(KeyboardInterrupt), atomic_directory(tmp_path / "out", overwrite=True) as building:
        (building / "file").write_text("half")
        raise KeyboardInterrupt
    assert (tmp_path / "out" / "file").read_text() == "old"
    assert leftovers(tmp_path) == []


def test_places_that_cannot_be_written_are_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="is a directory"), atomic_file(tmp_path):
        pass
    with pytest.raises(InputError, match="cannot make the directory"), atomic_file(tmp_path / "file" / "below"):
        pass
    with (
        pytest.raises(InputError, match="cannot make the directory"),
        atomic_directory(tmp_path / "file" / "below", overwrite=False),
    ):
        pass
    with pytest.raises(InputError, match="cannot write"), atomic_file(tmp_path / "nothing written"):
        pass


@pytest.mark.skipif(os.name == "nt", reason="no links")
def test_link_is_followed(tmp_path: Path) -> None:
    (tmp_path / "real").write_text("old")
    (tmp_path / "link").symlink_to("real")
    with atomic_file(tmp_path / "link") as temporary:
        temporary.write_text("new")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "real").read_text() == "new"


# --- the manifest inside an ONNX file


def varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*out, value])


def field(number: int, content: bytes) -> bytes:
    return varint(number << 3 | 2) + varint(len(content)) + content


def onnx_bytes(*pairs: tuple[str, str]) -> bytes:
    """A ``ModelProto`` with every wire type, a large unknown "graph" and metadata before and after it."""
    metadata = [field(14, field(1, key.encode()) + field(2, value.encode())) for key, value in pairs]
    start = varint(1 << 3) + varint(10) + field(2, b"producer") + varint(99 << 3 | 1) + b"8 bytes."
    return b"".join([start, *metadata[:1], field(7, b"\xff" * 100_000), varint(98 << 3 | 5), b"4444", *metadata[1:]])


def test_embedded_manifest_is_found(tmp_path: Path) -> None:
    path = tmp_path / "any name.onnx"
    path.write_bytes(onnx_bytes(("author", "nobody"), ("yolo12edge", manifest().to_embedded_json()), ("empty", "")))
    assert read_onnx_metadata(path)["author"] == "nobody"
    assert read_onnx_metadata(path)["empty"] == ""
    assert read_embedded_manifest(path).class_names == ["circle", "square"]


def test_what_the_onnx_package_writes_is_read(tmp_path: Path) -> None:
    onnx = pytest.importorskip("onnx", reason="onnx writes the file to read")
    graph = onnx.helper.make_graph([onnx.helper.make_node("Identity", ["x"], ["y"])], "g", [], [])
    model = onnx.helper.make_model(graph)
    expected = {"yolo12edge": manifest().to_embedded_json(), "names": "{0: 'Ä'}", "": "no key"}
    onnx.helper.set_model_props(model, expected)
    onnx.save(model, tmp_path / "model.onnx")
    assert read_onnx_metadata(tmp_path / "model.onnx") == expected


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (onnx_bytes(("names", "x")), "carries no yolo12edge manifest"),
        (onnx_bytes(("yolo12edge", "{}"), ("yolo12edge", "{}")), "twice"),
        (onnx_bytes(("yolo12edge", "{}")), "no schema version"),
        (onnx_bytes(("yolo12edge", "x"))[:-1], "damaged"),
        (field(14, field(1, b"\xff") + field(2, b"")), "damaged"),
        (field(14, field(1, b"k" * 9)[:-1]), "damaged"),
        (b"\x80" * 11, "damaged"),
        (b"PK\x03\x04 a zip archive", "damaged"),
        (varint(14 << 3 | 2) + varint(1 << 62), "damaged"),
        (b"", "carries no"),
    ],
)
def test_other_onnx_files_are_refused(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "model.onnx").write_bytes(content)
    with pytest.raises(ArtifactError, match=message):
        read_embedded_manifest(tmp_path / "model.onnx")


def test_missing_onnx_file_and_too_much_metadata(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match="cannot read"):
        read_onnx_metadata(tmp_path / "missing.onnx")
    (tmp_path / "big.onnx").write_bytes(onnx_bytes(*((str(i), "x" * (1 << 20)) for i in range(17))))
    with pytest.raises(ArtifactError, match="more than 16 MiB"):
        read_onnx_metadata(tmp_path / "big.onnx")


@settings(max_examples=100)
@given(
    st.one_of(
        st.binary(max_size=60),
        st.builds(
            lambda at, byte: onnx_bytes(("a", "b"))[:at] + bytes([byte]) + onnx_bytes(("a", "b"))[at + 1 :],
            st.integers(0, 60),
            st.integers(0, 255),
        ),
    )
)
@example(varint(14 << 3 | 2) + varint(2) + varint(1 << 3 | 2) + varint(100))
def test_fuzz_onnx_metadata(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    path = tmp_path_factory.getbasetemp() / "fuzz.onnx"
    path.write_bytes(content)
    try:
        found = read_onnx_metadata(path)
    except ArtifactError:
        return
    assert all(isinstance(key, str) and isinstance(value, str) for key, value in found.items())
