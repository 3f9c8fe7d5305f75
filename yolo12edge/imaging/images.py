"""Image files: read whole or refused, written atomically."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from ..errors import InputError
from ..files import atomic_file
from .image_header import read_header

__all__ = ["IMAGE_SUFFIXES", "MAX_PIXELS", "list_images", "read_image", "write_image"]

IMAGE_SUFFIXES = frozenset((".bmp", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp"))
"""Suffixes of image files, lower case."""

MAX_PIXELS = 200_000_000
"""Largest image that is decoded, pixels; a small file can claim to be far larger."""

_JPEG_QUALITY = 95


def read_image(path: str | os.PathLike[str]) -> npt.NDArray[np.uint8]:
    """Read an image as the eye sees it: EXIF orientation applied, alpha dropped, 16 bits scaled to 8.

    Args:
        path: JPEG, PNG, BMP, WebP, TIFF or what else OpenCV reads; told by content, not by suffix.

    Returns:
        uint8, C-contiguous, shape (height, width, 3), BGR.

    Raises:
        InputError: If the file is missing, empty, no image, cut off, damaged, larger than ``MAX_PIXELS``,
            or of pixels that are neither 8 nor 16 bits.
    """
    path = Path(path)
    data = _read_bytes(path)
    header = read_header(data)
    if header is not None:
        if header.problem:
            raise InputError(
                f"{path} is a damaged {header.format.upper()}: {header.problem}", remedy="copy the file again"
            )
        if header.hw is not None:
            _check_size(path, header.hw)
    try:
        # ANYDEPTH keeps 16 bits, which are scaled below; COLOR makes it BGR and applies the orientation.
        image: npt.NDArray[Any] | None = cv2.imdecode(
            np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR | cv2.IMREAD_ANYDEPTH
        )
    except cv2.error as error:
        raise InputError(f"{path} cannot be decoded: {error.err}", expected="an image file") from error
    if image is None or image.size == 0:
        if header is None:
            raise InputError(f"{path} is not an image", expected="JPEG, PNG, BMP, WebP or TIFF")
        raise InputError(f"{path} is a damaged {header.format.upper()}", remedy="copy the file again")
    _check_size(path, (image.shape[0], image.shape[1]))
    if image.dtype == np.uint16:
        image = cv2.convertScaleAbs(image, alpha=1 / 257)  # 65535 becomes 255; rounded
    if image.dtype != np.uint8:
        raise InputError(f"{path} has pixels of type {image.dtype}", expected="8 or 16 bits", remedy="convert the file")
    return np.asarray(image, np.uint8)


def _read_bytes(path: Path) -> bytes:
    try:
        data = path.read_bytes()
    except FileNotFoundError as error:
        raise InputError(f"{path} does not exist", expected="an image file") from error
    except IsADirectoryError as error:
        raise InputError(f"{path} is a folder", expected="an image file") from error
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}", expected="an image file") from error
    if not data:
        raise InputError(f"{path} is empty (0 bytes)", expected="an image file")
    return data


def _check_size(path: Path, hw: tuple[int, int]) -> None:
    height, width = hw
    if height * width > MAX_PIXELS:
        raise InputError(
            f"{path} has {width} x {height} pixels",
            expected=f"at most {MAX_PIXELS // 1_000_000} million",
            remedy="make it smaller, or cut it into tiles",
        )


def write_image(path: str | os.PathLike[str], image: npt.NDArray[np.uint8]) -> None:
    """Write an image; the suffix says the format, and the file appears whole or not at all.

    Args:
        path: Where to; missing folders are made. A JPEG is written at quality 95.
        image: uint8, shape (height, width, 3), BGR.

    Raises:
        InputError: If the suffix is none of ``IMAGE_SUFFIXES``, or the image is not as above.
    """
    path = Path(path)
    suffix = path.suffix.lower()
    if suffix not in IMAGE_SUFFIXES:
        raise InputError(
            f"{path} does not end like an image file", expected=f"one of {', '.join(sorted(IMAGE_SUFFIXES))}"
        )
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or not image.size:
        raise InputError(
            f"the image for {path} is {image.dtype} of shape {image.shape}", expected="uint8, (height, width, 3)"
        )
    options = [cv2.IMWRITE_JPEG_QUALITY, _JPEG_QUALITY] if suffix in (".jpg", ".jpeg") else []
    try:
        done, data = cv2.imencode(suffix, image, options)
    except cv2.error as error:
        raise InputError(f"the image cannot be written as {suffix}: {error.err}") from error
    if not done:
        raise InputError(f"an image of shape {image.shape} cannot be written as {suffix}")
    with atomic_file(path) as temporary:
        temporary.write_bytes(data.tobytes())


def list_images(folder: str | os.PathLike[str]) -> list[Path]:
    """Return the image files directly in a folder, sorted by name; hidden files are left out.

    Args:
        folder: The folder; suffixes are compared without regard to case.

    Raises:
        InputError: If it is missing or not a folder.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise InputError(f"{folder} {'is not a folder' if folder.exists() else 'does not exist'}", expected="a folder")
    return sorted(
        path
        for path in folder.iterdir()
        if path.suffix.lower() in IMAGE_SUFFIXES and not path.name.startswith(".") and path.is_file()
    )
