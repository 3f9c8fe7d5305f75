"""Reading the metadata of an OpenVINO file that may hold anything."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from yolo12edge.artifact import read_embedded_manifest
from yolo12edge.errors import ArtifactError
from yolo12edge.openvino_metadata import find_weights, read_openvino_metadata

LAYERS = (
    '<layers><layer id="0" name="a" type="Parameter"><data shape="1,3" element_type="f32"/></layer>'
    '<layer id="1" name="b" type="Const"><data element_type="f32" shape="4" offset="8" size="16"/></layer>'
    '<layer id="2" name="c" type="Const"><data element_type="f32" shape="2" offset="0" size="8"/></layer></layers>'
)


def document(info: str = "", *, layers: str = LAYERS, before: str = "") -> bytes:
    text = f'<?xml version="1.0"?>{before}<net name="m" version="11">{layers}<edges/><rt_info>{info}</rt_info></net>'
    return text.encode()


def test_both_forms_of_an_entry_are_read(tmp_path: Path) -> None:
    path = tmp_path / "model.xml"
    path.write_bytes(
        document(
            '<info name="OpenVINO Runtime" value="2026.4"/>'
            '<yolo12edge value="{&quot;a&quot;: &quot;&lt;é&gt;&quot;}"/>'
            '<framework><yolo12edge value="of another file"/></framework><nothing/>'
        )
    )
    found = read_openvino_metadata(path)
    assert found.entries == {"OpenVINO Runtime": "2026.4", "yolo12edge": '{"a": "<é>"}'}
    assert found.weights_bytes == 24


def test_inputs_and_outputs_are_those_of_the_model_itself(tmp_path: Path) -> None:
    port = '<port id="{}" precision="FP32"{}><dim>1</dim><dim>{}</dim></port>'
    inner = '<layer id="0" type="Parameter"><output>' + port.format(0, ' names="inner"', 9) + "</output></layer>"
    layers = (
        '<layers><layer id="0" type="Parameter"><output>' + port.format(0, ' names="z,x"', 3) + "</output></layer>"
        f'<layer id="1" type="Loop"><body><layers>{inner}</layers></body><output>'
        + port.format(2, ' names="b,a"', 4)
        + '</output></layer><layer id="2" type="Result"><input>'
        + port.format(0, "", 4)
        + '</input></layer><layer id="3" type="Result" output_names="said"><input>'
        + port.format(0, "", -1)
        + '</input></layer><layer id="4" type="Result"><input>'
        + port.format(0, "", 7)
        + "</input></layer></layers>"
    )
    edges = '<edges><edge from-layer="1" from-port="2" to-layer="2" to-port="0"/></edges>'
    path = tmp_path / "model.xml"
    path.write_bytes(document(layers=layers).replace(b"<edges/>", edges.encode()))
    found = read_openvino_metadata(path).signature
    assert [(tensor.name, tensor.shape) for tensor in found.inputs] == [("x", (1, 3))]
    assert [(t.name, t.shape) for t in found.outputs] == [("a", (1, 4)), ("said", (1, None)), ("output2", (1, 7))]
    assert found.inputs[0].dtype == "float32"
    assert not found.quantized


def test_metadata_outside_of_its_place_is_not_taken(tmp_path: Path) -> None:
    path = tmp_path / "model.xml"
    layer = '<layers><layer><rt_info><yolo12edge value="x"/></rt_info><yolo12edge value="x"/></layer></layers>'
    path.write_bytes(document(layers=layer))
    assert read_openvino_metadata(path).entries == {}
    with pytest.raises(ArtifactError, match="carries no yolo12edge manifest"):
        read_embedded_manifest(path)


LAUGHS = '<!DOCTYPE net [<!ENTITY a "ha"><!ENTITY b "&a;&a;&a;&a;&a;&a;&a;&a;">]>'
FILE = '<!DOCTYPE net [<!ENTITY a SYSTEM "file:///etc/passwd">]>'


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (document('<x value="&b;"/>', before=LAUGHS), "declares a document type"),
        (document('<x value="&a;"/>', before=FILE), "declares a document type"),
        (document(before="<!DOCTYPE net>"), "declares a document type"),
        (document('<x value="&undeclared;"/>'), "undefined entity"),
        (document('<x value="1"/><info name="x" value="2"/>'), "twice"),
        (document(layers='<layers><layer><data offset="-8" size="4"/></layer></layers>'), "not a number"),
        (document(layers='<layers><layer><data offset="8"/></layer></layers>'), "not a number"),
        (document(layers=f'<layers><layer><data offset="{"9" * 5000}" size="1"/></layer></layers>'), "not a number"),
        (document(layers="<a>" * 100), "more than 64 deep"),
        (document()[:-5], "unclosed token|no element found"),
        (document() + b"<net/>", "junk after"),
        (b'<html><rt_info><yolo12edge value="{}"/></rt_info></html>', "root is not <net>"),
        (document('<x value="Ä"/>').decode().encode("latin-1"), "not well-formed"),
        (b"", "no element found"),
        (b"\x08\x08 an onnx file", "not well-formed"),
    ],
)
def test_other_files_are_refused(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "model.xml"
    path.write_bytes(content)
    with pytest.raises(ArtifactError, match=message):
        read_openvino_metadata(path)


def test_missing_and_huge_files_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match="cannot read"):
        read_openvino_metadata(tmp_path / "missing.xml")
    with (tmp_path / "huge.xml").open("wb") as file:
        file.truncate(1 << 40)  # takes no space
    with pytest.raises(ArtifactError, match="more than 32 MiB"):
        read_openvino_metadata(tmp_path / "huge.xml")


@pytest.mark.parametrize(("size", "message"), [(None, "cannot read"), (23, "has 23 bytes"), (25, "has 25 bytes")])
def test_weights_that_cannot_belong_to_the_file_are_refused(tmp_path: Path, size: int | None, message: str) -> None:
    (tmp_path / "model.xml").write_bytes(document())
    if size is not None:
        (tmp_path / "model.bin").write_bytes(bytes(size))
    with pytest.raises(ArtifactError, match=message):
        find_weights(tmp_path / "model.xml")


def test_weights_beside_the_file_are_found(tmp_path: Path) -> None:
    (tmp_path / "my.model.xml").write_bytes(document())
    (tmp_path / "my.model.bin").write_bytes(bytes(24))
    assert find_weights(tmp_path / "my.model.xml") == tmp_path / "my.model.bin"


WHOLE = document('<yolo12edge value="{}"/>')


@settings(max_examples=200)
@given(
    st.one_of(
        st.binary(max_size=80),
        st.builds(
            lambda at, piece: WHOLE[:at] + piece + WHOLE[at + len(piece) :],
            st.integers(0, len(WHOLE)),
            st.one_of(st.binary(min_size=1, max_size=3), st.sampled_from([b"<a>", b"</net>", b'"', b"&x;", b"<!--"])),
        ),
        st.builds(lambda at: WHOLE[:at], st.integers(0, len(WHOLE))),
    )
)
@example(b"\xff\xfe")
@example(b"\x00" * 10)
def test_fuzz(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    path = tmp_path_factory.getbasetemp() / "fuzz.xml"
    path.write_bytes(content)
    try:
        found = read_openvino_metadata(path)
    except ArtifactError:
        return
    assert found.weights_bytes >= 0
    assert all(isinstance(key, str) and isinstance(value, str) for key, value in found.entries.items())
