"""What the first bytes of an image file tell without decoding it: format, size, completeness."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from struct import error as StructError
from struct import unpack_from

__all__ = ["ImageHeader", "read_header"]

# Start-of-frame markers carry the size; C4, C8 and CC lie between them and are tables.
_JPEG_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_JPEG_ALONE = frozenset((0x01, *range(0xD0, 0xD8)))
# In compressed data, FF is followed by 00 (a literal FF), D0 to D7 (a restart) or fill; all else ends the scan.
_JPEG_SCAN_END = re.compile(rb"\xff[^\x00\xff\xd0-\xd7]")


@dataclass(frozen=True, slots=True)
class ImageHeader:
    """What a header says.

    Attributes:
        format: ``jpeg``, ``png``, ``bmp``, ``webp`` or ``tiff``.
        hw: Height and width, pixels, before any rotation; None where the header does not get to it.
        problem: Why the file cannot be whole, such as "it ends before its end marker"; None if it may be.
    """

    format: str
    hw: tuple[int, int] | None
    problem: str | None = None


def read_header(data: bytes) -> ImageHeader | None:
    """Return what the header of an image file says, or None if it is of no known format.

    Bytes after the end of a JPEG or PNG are allowed: cameras and editors put them there.

    Args:
        data: The whole file.
    """
    try:
        if data.startswith(b"\xff\xd8\xff"):
            return _jpeg(data)
        if data.startswith(b"\x89PNG\r\n\x1a\n"):
            return _png(data)
        if data.startswith(b"BM"):
            return _bmp(data)
        if data.startswith(b"RIFF") and data[8:12] == b"WEBP":
            return _webp(data)
        if data[:4] in (b"II*\x00", b"MM\x00*"):
            return _tiff(data)
    except (StructError, IndexError):
        return ImageHeader("image", None, "it ends inside its header")
    return None


def _jpeg_segments(data: bytes) -> Iterator[tuple[int, int]]:
    """Yield (marker, position behind it) for each segment up to the end marker, or as far as the data goes."""
    position = 2
    while True:
        while data[position] == 0xFF and data[position + 1] == 0xFF:
            position += 1
        if data[position] != 0xFF:
            return
        marker = data[position + 1]
        position += 2
        yield marker, position
        if marker == 0xD9:
            return
        if marker in _JPEG_ALONE:
            continue
        position += unpack_from(">H", data, position)[0]
        if marker == 0xDA:
            end = _JPEG_SCAN_END.search(data, position)
            if end is None:
                return
            position = end.start()


def _jpeg(data: bytes) -> ImageHeader:
    hw = None
    last = 0
    try:
        for marker, position in _jpeg_segments(data):
            last = marker
            if marker in _JPEG_FRAMES:
                height, width = unpack_from(">HH", data, position + 3)
                hw = (height, width)
    except (StructError, IndexError):
        pass
    return ImageHeader("jpeg", hw, None if last == 0xD9 else "it is cut off before its end marker")


def _png(data: bytes) -> ImageHeader:
    width, height = unpack_from(">II", data, 16)
    position = 8
    while position + 12 <= len(data):
        length = unpack_from(">I", data, position)[0]
        if data[position + 4 : position + 8] == b"IEND":
            return ImageHeader("png", (height, width))
        position += 12 + length
    return ImageHeader("png", (height, width), "it is cut off before its end chunk")


def _bmp(data: bytes) -> ImageHeader:
    offset, header_size = unpack_from("<II", data, 10)
    if header_size == 12:
        width, height, _, bits = unpack_from("<HHHH", data, 18)
        compression = 0
    else:
        width, height, _, bits, compression = unpack_from("<iiHHI", data, 18)
    height, width = abs(height), abs(width)  # a negative height says that rows begin at the top
    row = (width * bits + 31) // 32 * 4
    short = compression in (0, 3) and len(data) < offset + row * height
    return ImageHeader("bmp", (height, width), "it is cut off before its last row" if short else None)


def _webp(data: bytes) -> ImageHeader:
    size = unpack_from("<I", data, 4)[0] + 8
    problem = f"it has {len(data)} of {size} bytes" if len(data) < size else None
    kind = data[12:16]
    if kind == b"VP8X":
        width, height = (1 + int.from_bytes(data[at : at + 3], "little") for at in (24, 27))
    elif kind == b"VP8L":
        bits = unpack_from("<I", data, 21)[0]
        width, height = 1 + (bits & 0x3FFF), 1 + (bits >> 14 & 0x3FFF)
    else:
        width, height = (side & 0x3FFF for side in unpack_from("<HH", data, 26))
    return ImageHeader("webp", (height, width), problem)


def _tiff(data: bytes) -> ImageHeader:
    order = "<" if data.startswith(b"II") else ">"
    directory = unpack_from(order + "I", data, 4)[0]
    if directory >= len(data):
        return ImageHeader("tiff", None, "it is cut off before its directory")
    size = {}
    for entry in range(unpack_from(order + "H", data, directory)[0]):
        at = directory + 2 + 12 * entry
        tag, kind = unpack_from(order + "HH", data, at)
        if tag in (256, 257):  # width, height: a short or a long
            size[tag] = unpack_from(order + ("H" if kind == 3 else "I"), data, at + 8)[0]
    return ImageHeader("tiff", (size[257], size[256]) if len(size) == 2 else None)
