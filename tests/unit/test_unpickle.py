"""The restricted pickle reader: hostile, damaged and foreign files run nothing and end in one clear error."""

from __future__ import annotations

import collections
import contextlib
import copyreg
import datetime
import io
import pathlib
import pickle
import random
import struct
import sys
import time
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from yolo12edge.checkpoint import import_public
from yolo12edge.checkpoint.torch_file import TorchFile
from yolo12edge.checkpoint.unpickle import ForeignObject, StorageRef, TensorRef, read_pickle
from yolo12edge.errors import CheckpointError


def torch_zip(path: Path, data: bytes, members: dict[str, bytes] | None = None) -> Path:
    """Write a file as ``torch.save`` lays it out, with a pickle of our own."""
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", data)
        archive.writestr("archive/byteorder", b"little")
        for name, content in (members or {}).items():
            archive.writestr(name, content)
    return path


def read(data: bytes) -> Any:
    return read_pickle(data, storage=StorageRef, source="a.pt")


def text(value: str) -> bytes:
    encoded = value.encode()
    return b"X" + struct.pack("<I", len(encoded)) + encoded


class Evil:
    """Pickles as a call."""

    def __init__(self, *call: Any) -> None:
        self.call = call

    def __reduce__(self) -> tuple[Any, tuple[Any, ...]]:
        return self.call[0], tuple(self.call[1:])


def payloads(mark: Path) -> dict[str, bytes]:
    """Pickles that create the file ``mark`` when Python's own unpickler reads them (checked below)."""
    import builtins
    import os
    import posix
    import subprocess

    command = f"touch {mark}"
    code = f"open({str(mark)!r}, 'w').close()"
    pickles = {
        f"{name}, protocol {protocol}": pickle.dumps(value, protocol)
        for protocol in (0, 2, 4, 5)
        for name, value in {
            "os.system": Evil(os.system, command),
            "posix.system": Evil(posix.system, command),
            "eval": Evil(builtins.eval, code),
            "exec": Evil(builtins.exec, code),
            "open": Evil(builtins.open, str(mark), "w"),
            "subprocess": Evil(subprocess.call, ["touch", str(mark)]),
            "nested in a list": [1, {"model": [Evil(os.system, command)]}],
            "as a key": {Evil(os.system, command): 1},
            "in an ordered dict": collections.OrderedDict(model=Evil(os.system, command)),
            "pathlib": Evil(pathlib.Path.touch, mark),
        }.items()
    }
    os_system = b"cposix\nsystem\n"
    stack_global = text("posix") + text("system") + b"\x93"
    argument = text(command) + b"\x85"
    ours = b"cultralytics.nn.tasks\nDetectionModel\n"
    pickles |= {
        "GLOBAL": b"\x80\x02" + os_system + argument + b"R.",
        "STACK_GLOBAL": b"\x80\x04" + stack_global + argument + b"R.",
        "INST": b"(" + b"S" + repr(command).encode() + b"\n" + b"iposix\nsystem\n.",
        "OBJ": b"(" + os_system + text(command) + b"o.",
        "getattr": b"\x80\x02cbuiltins\ngetattr\ncposix\n__dict__\n" + text("x") + b"\x86R.",
        "getattr of a module": b"\x80\x04"
        + text("builtins")
        + text("getattr")
        + b"\x93"
        # getattr(importlib.import_module("posix"), "system")(command)
        + b"cimportlib\nimport_module\n"
        + text("posix")
        + b"\x85R"
        + text("system")
        + b"\x86R"
        + argument
        + b"R.",
        "dotted name": b"\x80\x04" + text("os") + text("path.os.system") + b"\x93" + argument + b"R.",
        "popped result": b"\x80\x02" + os_system + argument + b"R0" + b"}.",
        "memo": b"\x80\x02" + os_system + b"q\x00" + b"0h\x00" + argument + b"R.",
        "after a model": b"\x80\x02" + ours + b")\x81}b0" + os_system + argument + b"R.",
        "state setter of a function": b"\x80\x02"
        + os_system
        + b"}"
        + text("__call__")
        + os_system
        + b"sb"
        + argument
        + b"R.",
        "copyreg": b"\x80\x02ccopyreg\n_reconstructor\n" + os_system + b"cbuiltins\nobject\n" + b"N\x87R.",
        "operator": b"\x80\x02coperator\nmethodcaller\n" + text("touch") + b"\x85R.",
        "functools.partial": b"\x80\x02cfunctools\npartial\n" + os_system + text(command) + b"\x86R)R.",
        "numpy": b"\x80\x02cnumpy\nsave\n" + text(str(mark)) + b"K\x01\x86R.",
        "numpy.testing": b"\x80\x02cnumpy.testing._private.utils\nrunstring\n" + text(code) + b"}\x86R.",
        "torch.load": b"\x80\x02ctorch\nload\n" + text("x.pt") + b"\x85R.",
        "torch.hub": b"\x80\x02ctorch.hub\nload\n" + text("x") + b"\x85R.",
        "torch.jit": b"\x80\x02ctorch.jit.unsupported_tensor_ops\nexecWrapper\n" + text(code) + b"}}\x87R.",
        "torch.serialization": b"\x80\x02ctorch.serialization\nos.system\n" + argument + b"R.",
        "keyword arguments": b"\x80\x04" + stack_global + argument + b"}\x92.",
        "NEWOBJ": b"\x80\x02" + os_system + argument + b"\x81.",
    }
    return pickles


def test_payloads_do_run_where_nothing_stops_them(tmp_path: Path) -> None:
    """The payloads are real: otherwise the test below would prove nothing."""
    ran = 0
    for data in payloads(tmp_path / "mark").values():
        with contextlib.suppress(Exception):
            pickle.loads(data)
        ran += (tmp_path / "mark").exists()
        (tmp_path / "mark").unlink(missing_ok=True)
    assert ran >= 45


def test_payloads_are_refused_and_do_not_run(tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    for name, data in payloads(mark).items():
        file = torch_zip(tmp_path / "a.pt", data)
        with pytest.raises(CheckpointError) as caught:
            import_public(file)
        assert not mark.exists(), name
        message = str(caught.value)
        assert "a.pt asks for" in message, name
        assert "nothing of it was run" in message, name
        assert message.count("\n") == 0, name


@pytest.mark.parametrize(
    "name",
    [
        "os.system",
        "posix.system",
        "builtins.eval",
        "builtins.getattr",
        "builtins.object",
        "subprocess.Popen",
        "numpy.load",
        "numpy.lib.npyio.load",
        "torch.load",
        "torch._utils._rebuild_device_tensor_from_numpy",
        "torch.storage._load_from_bytes",
        "torch.jit._script.RecursiveScriptModule",
        "collections.defaultdict",
        "torchnn.Conv2d",
        "ultralytics_evil.x",
        "codecs.decode",
        "pathlib.Path.unlink",
    ],
)
def test_globals_beyond_the_list_are_refused_by_name(name: str) -> None:
    module, _, attribute = name.rpartition(".")
    with pytest.raises(CheckpointError, match=rf"the global '{name}'"):
        read(f"\x80\x02c{module}\n{attribute}\n.".encode("latin-1"))


@pytest.fixture
def extension() -> Iterator[int]:
    """A registered extension code whose object is cached, so that Python's unpickler would not look it up again."""
    copyreg.add_extension("posix", "system", 240)
    yield 240
    copyreg.remove_extension("posix", "system", 240)


def test_extension_codes_are_refused(extension: int) -> None:
    for code in (b"\x82\xf0", b"\x83\xf0\x00", b"\x84\xf0\x00\x00\x00"):
        with pytest.raises(CheckpointError, match="instruction EXT"):
            read(b"\x80\x02" + code + text("true") + b"\x85R.")


def test_foreign_classes_stay_inert(monkeypatch: pytest.MonkeyPatch) -> None:
    """Even where the package is installed, neither it nor its methods are touched."""

    class Module:
        def __new__(cls, *_: object) -> Module:
            raise AssertionError("made")

        def __setstate__(self, _: object) -> None:
            raise AssertionError("state set")

        def __setattr__(self, *_: object) -> None:
            raise AssertionError("attribute set")

    class Package:
        def __getattr__(self, name: str) -> object:
            raise AssertionError(f"{name} looked up")

    monkeypatch.setitem(sys.modules, "ultralytics.nn.tasks", Package())  # type: ignore[arg-type]
    monkeypatch.setattr(torch.nn.Conv2d, "__setstate__", Module.__setstate__, raising=False)
    state = b"}(" + text("__class__") + b"K\x01" + text("__reduce_ex__") + b"K\x02" + text("cls") + b"K\x03ub"
    for head in (b"cultralytics.nn.tasks\nModel\n", b"ctorch.nn.modules.conv\nConv2d\n"):
        for make in (b")\x81", b")R", b"K\x01K\x02\x86R", b"(K\x01K\x02K\x03t}\x92"):
            value = read(b"\x80\x02" + head + make + state + b".")
            assert type(value) is ForeignObject
            assert value.state == {"__class__": 1, "__reduce_ex__": 2, "cls": 3}
            assert value.cls.name in ("Model", "Conv2d")
    with pytest.raises(CheckpointError, match="a call of a ForeignObject"):
        read(b"\x80\x02cultralytics.nn.tasks\nModel\n)\x81)R.")


def test_plain_data_comes_back() -> None:
    values: list[Any] = [
        {"a": [1, -1, 255, 65536, 2**40, -(2**70), 0.5, True, False, None], 3: ("x", b"y"), (1, "k"): {1, 2}},
        {"when": "2026", "nested": [[[]], {}, ()]},
        frozenset({1, 2}),
        "é" * 300,
        b"\x00\xff" * 300,
    ]
    for protocol in (2, 3):
        for value in values:
            assert read(pickle.dumps(value, protocol)) == value
    assert read(pickle.dumps(values[:2], 4)) == values[:2]
    assert read(pickle.dumps(values[:2], 5)) == values[:2]
    loop: list[Any] = []
    loop.append(loop)
    again = read(pickle.dumps(loop, 2))
    assert again[0] is again


def test_benign_classes_of_trainers_become_inert() -> None:
    values = [
        pathlib.PurePosixPath("runs"),
        datetime.datetime(2026, 1, 1, tzinfo=datetime.timezone.utc),
        torch.device("cpu"),
    ]
    for value in values:
        assert isinstance(read(pickle.dumps(value, 2)), ForeignObject)
    import numpy as np

    assert isinstance(read(pickle.dumps({"best_fitness": np.float64(0.5)}, 2))["best_fitness"], ForeignObject)


def test_tensors_of_torch_are_read_back(tmp_path: Path) -> None:
    torch.manual_seed(0)
    whole = torch.randn(4, 6)
    tensors = {
        "plain": whole,
        "view": whole[1:3, ::2],
        "transposed": whole.T,
        "scalar": torch.tensor(7),
        "empty": torch.zeros(0, 3),
        "channels_last": torch.randn(2, 3, 4, 5).to(memory_format=torch.channels_last),
        "bfloat16": torch.randn(3).bfloat16(),
        "half": torch.randn(3).half(),
        "bool": torch.tensor([True, False]),
        "parameter": torch.nn.Parameter(torch.randn(2)),
    }
    torch.save(tensors, tmp_path / "a.pt")
    with TorchFile(tmp_path / "a.pt") as file:
        root = file.root()
        assert isinstance(root, dict)
        for key, value in tensors.items():
            found = file.tensor(root[key])
            assert found.dtype == value.dtype
            assert found.is_contiguous()
            assert torch.equal(found, value.detach())


def tensor_pickle(count: int, offset: int, shape: tuple[int, ...], stride: tuple[int, ...], key: str = "0") -> bytes:
    """Pickle a tensor that torch would not make."""

    def numbers(values: tuple[int, ...]) -> bytes:
        return b"(" + b"".join(b"J" + struct.pack("<i", v) if abs(v) < 2**31 else long_(v) for v in values) + b"t"

    def long_(value: int) -> bytes:
        return b"\x8a\x09" + value.to_bytes(9, "little", signed=True)

    storage = b"(" + text("storage") + b"ctorch\nFloatStorage\n" + text(key) + text("cpu") + long_(count) + b"tQ"
    return (
        b"\x80\x02ctorch._utils\n_rebuild_tensor_v2\n("
        + storage
        + long_(offset)
        + numbers(shape)
        + numbers(stride)
        + b"\x89}tR."
    )


@pytest.mark.parametrize(
    ("count", "offset", "shape", "stride", "message"),
    [
        (4, 0, (5,), (1,), "reaches beyond"),
        (4, 1, (4,), (1,), "reaches beyond"),
        (4, 0, (2, 2), (3, 1), "reaches beyond"),
        (4, 2**62, (1,), (1,), "reaches beyond"),
        (4, 0, (2**40,), (0,), "reaches beyond"),
        (4, 0, (2**62, 2**62), (0, 0), "reaches beyond"),
        (4, -1, (1,), (1,), "negative"),
        (4, 0, (2,), (-1,), "negative"),
        (4, 0, (-2,), (1,), "negative"),
        (4, 0, (2, 2), (1,), "unknown way"),
        (4, 0, (1,) * 9, (1,) * 9, "unknown way"),
        (5, 0, (4,), (1,), "has 16 bytes"),
        (3, 0, (2,), (1,), "has 16 bytes"),
        (2**60, 0, (2,), (1,), "has 16 bytes"),
        (-4, 0, (2,), (1,), "storage is described"),
    ],
)
def test_tensors_outside_their_storage_are_refused(
    tmp_path: Path, count: int, offset: int, shape: tuple[int, ...], stride: tuple[int, ...], message: str
) -> None:
    data = tensor_pickle(count, offset, shape, stride)
    file = torch_zip(tmp_path / "a.pt", data, {"archive/data/0": bytes(16)})
    with TorchFile(file) as opened, pytest.raises(CheckpointError, match=message):
        opened.root()


def test_a_fitting_tensor_of_the_same_making_is_read(tmp_path: Path) -> None:
    file = torch_zip(
        tmp_path / "a.pt", tensor_pickle(4, 1, (3,), (1,)), {"archive/data/0": struct.pack("<4f", 0, 1, 2, 3)}
    )
    with TorchFile(file) as opened:
        ref = opened.root()
        assert isinstance(ref, TensorRef)
        assert opened.tensor(ref).tolist() == [1, 2, 3]


@pytest.mark.parametrize("key", ["1", "", "../data.pkl", "../../etc/passwd", "/etc/passwd", "0\x00"])
def test_a_storage_that_is_not_there_is_refused(tmp_path: Path, key: str) -> None:
    data = tensor_pickle(4, 0, (1,), (1,), key)
    file = torch_zip(tmp_path / "a.pt", data, {"archive/data/0": bytes(16)})
    with TorchFile(file) as opened, pytest.raises(CheckpointError, match="is missing"):
        opened.root()


@pytest.mark.parametrize(
    "reference",
    [
        b"N",
        b"K\x01",
        b")",
        text("storage"),
        b"(" + text("storage") + b"cposix\nsystem\n" + text("0") + text("cpu") + b"K\x01t",
        b"(" + text("storage") + b"ctorch\nSize\n" + text("0") + text("cpu") + b"K\x01t",
        b"(" + text("storage") + b"ctorch\nFloatStorage\n" + b"K\x00" + text("cpu") + b"K\x01t",
        b"(" + text("storage") + b"ctorch\nFloatStorage\n" + text("0") + text("cpu") + text("1") + b"t",
        b"(" + text("module") + b"ctorch\nFloatStorage\n" + text("0") + text("cpu") + b"K\x01t",
    ],
)
def test_garbage_as_persistent_id_is_refused(reference: bytes) -> None:
    with pytest.raises(CheckpointError):
        read(b"\x80\x02" + reference + b"Q.")


def huge_memo() -> bytes:
    return b"\x80\x02]r\xff\xff\xff\x7f."


def nested_tuples(end: bytes) -> bytes:
    return b"\x80\x02)" + b"\x85" * 500_000 + end


def doubling() -> bytes:
    return b"\x80\x02)" + b"q\x000h\x00h\x00\x86" * 60


def copies() -> bytes:
    """One long list, copied into a set over and over."""
    return b"\x80\x02](" + b"K\x01" * 100_000 + b"eq\x00" + b"c__builtin__\nset\nh\x00\x85R0" * 10_000 + b"."


@pytest.mark.parametrize(
    ("name", "make", "refused"),
    [
        ("memo index", huge_memo, False),
        ("deep nesting", lambda: nested_tuples(b"."), False),
        ("deep nesting as a key", lambda: b"\x80\x02}" + nested_tuples(b"K\x01s.")[2:], True),
        ("doubling as a key", lambda: b"\x80\x02}" + doubling()[2:] + b"K\x01s.", True),
        ("doubling in a set", lambda: b"\x80\x02c__builtin__\nset\n](" + doubling()[2:] + b"e\x85R.", True),
        ("too many steps", lambda: b"\x80\x02" + b"}0" * 1_100_000 + b".", True),
        ("copies", copies, True),
        ("text longer than the file", lambda: b"\x80\x04\x8d" + struct.pack("<Q", 2**60) + b"x.", True),
        ("bytes longer than the file", lambda: b"\x80\x04\x8e" + struct.pack("<Q", 2**62) + b"x.", True),
        ("byte array longer than the file", lambda: b"\x80\x05\x96" + struct.pack("<Q", 2**40) + b"x.", True),
        ("number of many digits", lambda: b"\x80\x02L" + b"9" * 1_000_000 + b"L\n.", True),
        ("a pickle too large", lambda: b"\x80\x02N" + b"\x00" * (17 * 2**20), True),
    ],
)
def test_bombs_end_soon(name: str, make: Callable[[], bytes], refused: bool) -> None:
    data = make()
    begin = time.monotonic()
    try:
        read(data)
        ended = "read"
    except CheckpointError:
        ended = "refused"
    assert ended == ("refused" if refused else "read")
    assert time.monotonic() - begin < 60


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b".",
        b"\x80\x02.",
        b"\x80\x02N",
        b"\x80\x02NN.",
        b"\x80\x02(.",
        b"\x80\x02(N.",
        b"\x80\x02t.",
        b"\x80\x02h\x00.",
        b"\x80\x02\x86.",
        b"\x80\x02NNa.",
        b"\x80\x02}Ns.",
        b"\x80\x02}(Nu.",
        b"\x80\x02N}b.",
        b"\x80\x02}]Ns.",
        b"\x80\x02NR.",
        b"\x80\x02K\x01)R.",
        b"\x80\x04K\x01K\x02\x93.",
        b"\x80\x02cnodotornewline",
        b"\x80\x02ctorch\nFloatStorage\n)R.",
        b"\x80\x02ctorch._utils\n_rebuild_tensor_v2\n)R.",
        b"\x80\x02ctorch._utils\n_rebuild_parameter\nN\x85R.",
        b"\x80\x02ctorch\nSize\nK\x01\x85R.",
        b"\x80\x02c_codecs\nencode\n" + text("x") + text("idna") + b"\x86R.",
        b"\x80\x63N.",
        b"\xff\xfe\xfd",
    ],
)
def test_broken_pickles_end_in_one_error(data: bytes) -> None:
    if data == b"\x80\x63N.":  # a protocol of the future, whose instructions would be unknown
        read(data)
        return
    with pytest.raises(CheckpointError):
        read(data)


def sample() -> bytes:
    buffer = io.BytesIO()
    module = torch.nn.Sequential(torch.nn.Conv2d(1, 2, 3), torch.nn.BatchNorm2d(2), torch.nn.SiLU())
    torch.save(
        {"model": module, "names": {0: "a"}, "train_args": {"imgsz": 320}, "path": pathlib.PurePosixPath("x")}, buffer
    )
    return buffer.getvalue()


def outcome(path: Path) -> str:
    """Read all there is; anything but a CheckpointError fails the test."""
    try:
        with TorchFile(path) as file:
            pending = [file.root()]
            seen = 0
            while pending and seen < 10_000:
                value = pending.pop()
                seen += 1
                if isinstance(value, TensorRef):
                    file.tensor(value)
                elif isinstance(value, ForeignObject):
                    pending.append(value.state)
                elif isinstance(value, dict):
                    pending.extend(value.values())
        import_public(path)
    except CheckpointError as error:
        return str(error)
    return ""


def test_truncated_files_are_refused(tmp_path: Path) -> None:
    content = sample()
    path = tmp_path / "a.pt"
    path.write_bytes(content)
    assert "holds no YOLO model" in outcome(path)  # whole, it can be read
    for length in range(0, len(content), 41):
        path.write_bytes(content[:length])
        message = outcome(path)
        assert message
        assert "holds no YOLO model" not in message


def test_flipped_bytes_end_in_an_error_or_are_harmless(tmp_path: Path) -> None:
    content = sample()
    generator = random.Random(0)
    path = tmp_path / "a.pt"
    for _ in range(500):
        damaged = bytearray(content)
        for _ in range(generator.randint(1, 4)):
            damaged[generator.randrange(len(damaged))] = generator.randrange(256)
        path.write_bytes(damaged)
        outcome(path)


def test_flipped_bytes_of_the_pickle_alone() -> None:
    """The archive's checksum would hide these."""
    with zipfile.ZipFile(io.BytesIO(sample())) as archive:
        (name,) = [name for name in archive.namelist() if name.endswith("data.pkl")]
        content = archive.read(name)
    generator = random.Random(0)
    for _ in range(1500):
        damaged = bytearray(content)
        for _ in range(generator.randint(1, 4)):
            damaged[generator.randrange(len(damaged))] = generator.randrange(256)
        with contextlib.suppress(CheckpointError):
            read(bytes(damaged))


PIECES = st.sampled_from(
    [bytes([code]) for code in b")]}(.0124NRQtuesab\x81\x85\x86\x87\x88\x89\x90\x91\x92\x93\x94"]
    + [b"K\x01", b"q\x00", b"h\x00", text("a"), text("torch.nn"), b"ctorch.nn\nX\n", b"ctorch\nSize\n", b"\x8a\x01\xff"]
    + [b"ctorch._utils\n_rebuild_tensor_v2\n", b"ccollections\nOrderedDict\n", b"c__builtin__\nset\n", b"cos\nsystem\n"]
    + [b"(" + text("storage") + b"ctorch\nFloatStorage\n" + text("0") + text("cpu") + b"K\x04tQ"]
)


@settings(max_examples=300, suppress_health_check=[HealthCheck.too_slow])
@given(st.one_of(st.binary(max_size=60), st.lists(PIECES, max_size=40).map(lambda pieces: b"".join(pieces))))
def test_any_bytes_end_in_a_value_or_an_error(data: bytes) -> None:
    message = ""
    try:
        read(b"\x80\x02" + data + b".")
    except CheckpointError as error:
        message = str(error)
    assert "\n" not in message


def make_zip(path: Path, members: dict[str, bytes], *, compression: int = zipfile.ZIP_STORED) -> None:
    with zipfile.ZipFile(path, "w", compression) as archive:
        for name, content in members.items():
            archive.writestr(name, content)


@pytest.mark.parametrize(
    ("members", "message"),
    [
        ({"archive/data.pkl": b"\x80\x02N.", "../evil": b""}, "leads out"),
        ({"archive/data.pkl": b"\x80\x02N.", "/etc/evil": b""}, "leads out"),
        ({"archive/data.pkl": b"\x80\x02N.", "archive/../../evil": b""}, "leads out"),
        ({"archive/data.pkl": b"\x80\x02N.", "archive\\..\\evil": b""}, "leads out"),
        ({"data.pkl": b"\x80\x02N."}, "not one that torch.save wrote"),
        ({"a/data.pkl": b"\x80\x02N.", "b/data.pkl": b"\x80\x02N."}, "not one that torch.save wrote"),
        ({"a/b/data.pkl": b"\x80\x02N."}, "not one that torch.save wrote"),
        ({"word/document.xml": b"<x/>"}, "not one that torch.save wrote"),
        ({"a/data.pkl": b"\x80\x02N.", "a/constants.pkl": b""}, "TorchScript"),
        ({"a/data.pkl": b"\x80\x02N.", "a/byteorder": b"big"}, "little-endian"),
        ({"a/data.pkl": b"\x80\x02N."}, "holds no model"),
        ({"a/data.pkl": b"\x00" * (17 * 2**20)}, "larger"),
    ],
)
def test_odd_archives_are_refused(tmp_path: Path, members: dict[str, bytes], message: str) -> None:
    make_zip(tmp_path / "a.pt", members)
    with pytest.raises(CheckpointError, match=message):
        import_public(tmp_path / "a.pt")
    assert [p.name for p in tmp_path.iterdir()] == ["a.pt"]


def test_compressed_members_are_refused(tmp_path: Path) -> None:
    members = {"a/data.pkl": tensor_pickle(10**7, 0, (1,), (1,)), "a/data/0": bytes(4 * 10**7)}
    make_zip(tmp_path / "a.pt", members, compression=zipfile.ZIP_DEFLATED)
    assert (tmp_path / "a.pt").stat().st_size < 10**5
    with pytest.raises(CheckpointError, match="compressed"):
        import_public(tmp_path / "a.pt")


def test_overlapping_members_are_refused(tmp_path: Path) -> None:
    """One large member, listed a hundred times."""
    path = torch_zip(tmp_path / "a.pt", b"\x80\x02N.", {"archive/data/000": bytes(100_000)})
    content = path.read_bytes()
    end = content.rindex(b"PK\x05\x06")
    entry = content[content.rindex(b"PK\x01\x02") : end]
    start = struct.unpack("<I", content[end + 16 : end + 20])[0]
    directory = content[start:end] + b"".join(
        entry.replace(b"archive/data/000", f"archive/data/{index:03}".encode()) for index in range(1, 100)
    )
    tail = struct.pack("<4s4H2IH", b"PK\x05\x06", 0, 0, 102, 102, len(directory), start, 0)
    path.write_bytes(content[:start] + directory + tail)
    assert len(zipfile.ZipFile(path).infolist()) == 102
    with pytest.raises(CheckpointError, match="larger than the file"):
        import_public(path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "not a .pt file"),
        (b"hello", "not a .pt file"),
        (b"PK", "damaged or cut off"),
        (b"PK\x05\x06" + bytes(18), "not one that torch.save wrote"),
        (b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19.\x80\x02M\xe9\x03.", "before torch 1.6"),
    ],
)
def test_other_files_are_refused(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "a.pt").write_bytes(content)
    with pytest.raises(CheckpointError, match=message):
        import_public(tmp_path / "a.pt")


def test_missing_file_and_directory(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="does not exist"):
        import_public(tmp_path / "absent.pt")
    with pytest.raises(CheckpointError):
        import_public(tmp_path)
