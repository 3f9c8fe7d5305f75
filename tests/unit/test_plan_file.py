"""Plans: what their header says, which are refused before a library sees them, and metadata before them."""

from __future__ import annotations

import json
import struct
from types import ModuleType
from typing import ClassVar

import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tests.fakes.tensorrt_build import FakeBuild
from yolo12edge.errors import ArtifactError
from yolo12edge.manifest import EngineFacts
from yolo12edge.runtimes.cuda.driver import DeviceFacts
from yolo12edge.runtimes.plan_file import METADATA_LIMIT, check_plan, read_leading_metadata, read_plan_header
from yolo12edge.runtimes.tensorrt_library import platform_name

ORIN = DeviceFacts("Orin", (8, 7), True, 8 << 30, (12, 6))
T4 = DeviceFacts("T4", (7, 5), False, 16 << 30, (12, 6))
A100 = DeviceFacts("A100", (8, 0), False, 80 << 30, (13, 0))
FACTS = EngineFacts(
    library="tensorrt", version="10.3.0", cuda="12.6", architectures=["sm_87"], platform=platform_name()
)


def plan(version: tuple[int, int, int, int] = (10, 3, 0, 30), *, tag: bytes = b"ftrt", form: int = 0) -> bytes:
    """A plan whose header is true, of TensorRT for RTX with its length."""
    body = b"weights"
    return tag + struct.pack("<IQQ", form, 2, 32 + len(body)) + bytes(version) + bytes(4) + body


def facts(**changes: object) -> EngineFacts:
    return msgspec.structs.replace(FACTS, **changes)


def rtx(invalid: int | None = None) -> FakeBuild:
    trt = FakeBuild("1.7.1", name="tensorrt_rtx")
    trt.invalid = invalid
    return trt


class TestHeader:
    def test_says_library_and_version(self, tmp_path):
        header = read_plan_header(plan())
        assert (header.library, header.version) == ("tensorrt", (10, 3, 0, 30))
        file = tmp_path / "model.engine"
        file.write_bytes(b"{}" + plan((1, 7, 1, 116), tag=b"vtrt"))
        header = read_plan_header(file, offset=2)
        assert (header.library, header.version) == ("tensorrt-rtx", (1, 7, 1, 116))

    def test_of_another_form_says_no_version(self):
        assert read_plan_header(plan(form=1)).version is None

    @pytest.mark.parametrize(
        ("content", "says"),
        [(b"", "is empty"), (b"ftr", "not a TensorRT engine"), (b"PK\3\4" + bytes(60), "not a TensorRT engine")],
    )
    def test_of_something_else_is_refused(self, content, says):
        with pytest.raises(ArtifactError, match=says):
            read_plan_header(content)

    @pytest.mark.parametrize("length", range(4, 39))
    def test_an_rtx_plan_that_was_cut_off_is_found(self, length):
        with pytest.raises(ArtifactError, match=r"cut off|bytes"):
            read_plan_header(plan(tag=b"vtrt")[:length])

    @pytest.mark.parametrize("length", range(4, 32))
    def test_a_plan_that_was_cut_off_in_its_header_is_found(self, length):
        with pytest.raises(ArtifactError, match=f"cut off after {length} bytes"):
            read_plan_header(plan()[:length])

    def test_a_file_that_is_missing_is_named(self, tmp_path):
        with pytest.raises(ArtifactError, match=r"cannot read .*none\.engine"):
            read_plan_header(tmp_path / "none.engine")

    @given(st.binary(max_size=80))
    @example(b"vtrt" + bytes(40))
    def test_any_bytes_are_a_header_or_an_artifact_error(self, content):
        try:
            read_plan_header(content)
        except ArtifactError:
            return
        assert content[:4] in (b"ftrt", b"vtrt")


class TestCheck:
    def test_the_engine_of_this_device_is_taken(self):
        check_plan(plan(), FACTS, trt=FakeBuild("10.3.0"), device=ORIN)
        check_plan(plan(), FACTS, trt=FakeBuild("10.3.0.30"), device=ORIN)

    @pytest.mark.parametrize(
        ("version", "made", "compatible", "taken"),
        [
            ("10.13.3", (10, 3, 0, 30), False, False),
            ("10.3.0", (10, 13, 3, 9), False, False),
            ("10.3.0.26", (10, 3, 0, 30), False, False),  # the fourth number counts, where it is known
            ("10.13.3", (10, 3, 0, 30), True, True),
            ("11.1.0", (10, 3, 0, 30), True, True),
            ("12.0.0", (10, 3, 0, 30), True, False),  # no promise
            ("10.3.0", (10, 13, 3, 9), True, False),  # never backwards
            ("10.3.0", (11, 1, 0, 1), True, False),
            ("10.3.0.26", (10, 3, 0, 30), True, True),
        ],
    )
    def test_versions(self, version, made, compatible, taken):
        own = facts(version=".".join(map(str, made[:3])), version_compatible=compatible)

        def check() -> None:
            check_plan(plan(made), own, trt=FakeBuild(version), device=ORIN)

        if taken:
            check()
            return
        says = rf"built with tensorrt {own.version}.*Expected: {version}, which is installed here.*--on-device.*with"
        with pytest.raises(ArtifactError, match=says):
            check()

    @pytest.mark.parametrize(
        ("architectures", "compatible", "device", "taken"),
        [
            (["sm_86"], False, ORIN, False),
            (["sm_87"], False, ORIN, True),
            (["sm_86"], True, A100, True),
            (["sm_86"], True, ORIN, False),  # not on Jetson
            (["sm_86"], True, T4, False),  # older than Ampere
        ],
    )
    def test_gpus(self, architectures, compatible, device, taken):
        own = facts(architectures=architectures, hardware_compatible=compatible)

        def check() -> None:
            check_plan(plan(), own, trt=FakeBuild("10.3.0"), device=device)

        if taken:
            check()
            return
        says = rf"built for {architectures[0]}.*Expected: {device.architecture}, which {device.name} is.*Remedy: build"
        with pytest.raises(ArtifactError, match=says):
            check()

    @pytest.mark.parametrize(
        ("content", "own", "trt", "says"),
        [
            (plan(), facts(library="tensorrt-rtx"), FakeBuild("10.3.0"), "as its manifest says"),
            (plan(), FACTS, rtx(), "one of tensorrt.*Expected: one of tensorrt-rtx.*--format tensorrt-rtx"),
            (plan(), facts(platform="windows-x86_64"), FakeBuild("10.3.0"), "built on windows-x86_64"),
            (plan((10, 4, 0, 1)), FACTS, FakeBuild("10.4.0"), r"10\.3\.0, as its manifest says"),
            (b"junk" * 20, FACTS, FakeBuild("10.3.0"), "not a TensorRT engine"),
        ],
    )
    def test_other_mismatches(self, content, own, trt: ModuleType, says):
        with pytest.raises(ArtifactError, match=says):
            check_plan(content, own, trt=trt, device=ORIN)


class TestRtx:
    OWN = facts(library="tensorrt-rtx", version="1.7.1", architectures=["sm_80", "sm_120"], hardware_compatible=True)
    PLAN = plan((1, 7, 1, 116), tag=b"vtrt")

    def test_the_library_judges_gpus_that_the_engine_does_not_name(self):
        trt = rtx()
        check_plan(self.PLAN, self.OWN, trt=trt, device=ORIN)
        assert trt.noted("judged") == [self.PLAN[:24]]
        with pytest.raises(ArtifactError, match=r"unsupported cc, old cuda driver.*update it"):
            check_plan(self.PLAN, self.OWN, trt=rtx(2 | 4), device=ORIN)

    def test_gpus_before_ampere_must_be_named(self):
        trt = rtx()
        with pytest.raises(ArtifactError, match="sm_75"):
            check_plan(self.PLAN, self.OWN, trt=trt, device=T4)
        assert trt.record == []

    def test_an_engine_for_one_gpu_is_for_that_alone(self):
        own = msgspec.structs.replace(self.OWN, hardware_compatible=False)
        with pytest.raises(ArtifactError, match="sm_87"):
            check_plan(self.PLAN, own, trt=rtx(), device=ORIN)

    def test_an_engine_is_for_one_version(self):
        own = msgspec.structs.replace(self.OWN, version="1.6.0", version_compatible=True)
        with pytest.raises(ArtifactError, match=r"1\.6\.0.*Expected: 1\.7\.1"):
            check_plan(plan((1, 6, 0, 2), tag=b"vtrt"), own, trt=rtx(), device=A100)


def before(text: bytes, rest: bytes = b"ftrt" + bytes(40)) -> bytes:
    return struct.pack("<I", len(text)) + text + rest


class TestLeadingMetadata:
    ENTRIES: ClassVar = {"task": "detect", "names": {"0": "cat"}, "imgsz": [640, 640]}

    def test_is_read_with_the_place_of_the_plan(self, tmp_path):
        text = json.dumps(self.ENTRIES).encode()
        file = tmp_path / "yolo.engine"
        file.write_bytes(before(text, plan()))
        entries, offset = read_leading_metadata(file)
        assert (entries, offset) == (self.ENTRIES, 4 + len(text))
        assert read_plan_header(file, offset=offset).version == (10, 3, 0, 30)

    def test_a_bare_plan_has_none(self):
        assert read_leading_metadata(plan()) == ({}, 0)
        assert read_leading_metadata(plan(tag=b"vtrt")) == ({}, 0)

    @pytest.mark.parametrize(
        "content",
        [
            b"",
            b"\2",
            before(b""),
            before(b"{}", b"nope"),
            before(b"{}", b""),
            struct.pack("<I", 1 << 31) + b"{}ftrt",
            before(b'{"a": "' + b"x" * METADATA_LIMIT + b'"}'),
            before(b"[1]"),
            before(b"{'task': 'detect'}"),
            before(b"[" * 5000 + b"]" * 5000),
            before(b'{"a": "\xff"}'),
        ],
    )
    def test_anything_else_is_refused(self, content):
        with pytest.raises(ArtifactError):
            read_leading_metadata(content)

    @given(st.binary(max_size=64))
    def test_any_bytes_are_metadata_or_an_artifact_error(self, text):
        for content in (text, before(text)):
            try:
                entries, offset = read_leading_metadata(content)
            except ArtifactError:
                continue
            assert isinstance(entries, dict)
            assert content[offset : offset + 4] in (b"ftrt", b"vtrt")
