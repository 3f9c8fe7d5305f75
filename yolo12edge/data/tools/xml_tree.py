"""XML of unknown origin as a small tree: bounded in size, depth and number of elements, and without any DTD.

What a DTD can do (entities that grow without bound, files and addresses that are fetched) cannot happen without one.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from xml.parsers import expat

from ...errors import DatasetError

__all__ = ["Element", "read_xml"]

_MAX_BYTES = 16 << 20
_MAX_DEPTH = 16
_MAX_ELEMENTS = 200_000


@dataclass(slots=True)
class Element:
    """An element.

    Attributes:
        name: Of its tag.
        children: In order.
        text: All text that is directly in it, stripped.
    """

    name: str
    children: list[Element] = field(default_factory=list)
    text: str = ""

    def all(self, name: str) -> list[Element]:
        """Return the children of a name."""
        return [child for child in self.children if child.name == name]

    def value(self, *names: str) -> str:
        """Return the text at the end of a path of names; empty where there is none."""
        element = self
        for name in names:
            found = element.all(name)
            if not found:
                return ""
            element = found[0]
        return element.text


def read_xml(path: Path) -> Element:
    """Read an XML file; attributes are left out.

    Raises:
        DatasetError: If it cannot be read, is no XML, has a DTD, or is larger than any annotation.
    """
    try:
        if path.stat().st_size > _MAX_BYTES:
            raise DatasetError(f"{path} is larger than {_MAX_BYTES >> 20} MiB", expected="the annotation of one image")
        data = path.read_bytes()
    except OSError as error:
        raise DatasetError(f"cannot read {path}: {error.strerror or error}") from error
    root = Element("")
    open_elements: list[tuple[Element, list[str]]] = [(root, [])]  # with the pieces of their texts
    count = 0

    def start(name: str, _: object) -> None:
        nonlocal count
        count += 1
        if len(open_elements) > _MAX_DEPTH or count > _MAX_ELEMENTS:
            limit = (
                f"nested more than {_MAX_DEPTH} deep" if count <= _MAX_ELEMENTS else f"of over {_MAX_ELEMENTS} parts"
            )
            raise DatasetError(f"{path}:{parser.CurrentLineNumber}: XML {limit}", expected="a VOC annotation")
        element = Element(name)
        open_elements[-1][0].children.append(element)
        open_elements.append((element, []))

    def end(_: str) -> None:
        element, pieces = open_elements.pop()
        element.text = "".join(pieces).strip()

    def text(data: str) -> None:
        open_elements[-1][1].append(data)

    def refuse(*_: object) -> None:
        raise DatasetError(
            f"{path}:{parser.CurrentLineNumber}: there is a DTD, which can name other files and grow without bound",
            expected="XML without <!DOCTYPE",
        )

    parser = expat.ParserCreate()
    parser.buffer_text = True
    parser.StartElementHandler, parser.EndElementHandler, parser.CharacterDataHandler = start, end, text
    parser.StartDoctypeDeclHandler = refuse
    try:
        parser.Parse(data, True)
    except (expat.ExpatError, ValueError, LookupError) as error:  # the latter of encodings
        raise DatasetError(f"{path}:{parser.CurrentLineNumber}: not XML: {error}") from error
    return root.children[0]
