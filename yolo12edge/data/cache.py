"""Decoded, resized pictures that are kept in memory or on disk, within what is free there."""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt

from ..errors import InputError
from ..files import atomic_file, cache_folder

__all__ = ["Cache", "available_memory", "kept_pictures"]

Cache = Literal["auto", "ram", "disk", "none"]
Image = npt.NDArray[np.uint8]
Read = Callable[[int], Image]

AUTO_SHARE = 0.3  # of the free memory
RAM_SHARE = 0.8
DISK_SHARE = 0.9  # of the free space
_LOOK_EVERY = 64  # pictures


def kept_pictures(
    cache: Cache, read: Read, paths: Sequence[Path], *, needed: int, recipe: str, processes: int = 1
) -> Read | None:
    """Keep pictures, and return what gives them; None where they are not kept.

    Args:
        cache: ``"ram"`` or ``"disk"`` always, ``"none"`` never, ``"auto"`` in memory if they fit in 30 % of what is
            free of it.
        read: Reads and resizes a picture by its index.
        paths: Files of the pictures.
        needed: Bytes that they take, about.
        recipe: What ``read`` does to a picture; a picture on disk is found again by it and by its file's place, size
            and time of change.
        processes: How many on this machine keep all of them, each in memory of its own.

    Raises:
        InputError: If a picture cannot be read, or memory or disk would not hold them.
    """
    if cache == "disk":
        return _on_disk(read, paths, needed=needed, recipe=recipe)
    if cache not in ("auto", "ram", "none"):
        raise InputError(f"cache is {cache!r}", expected='"auto", "ram", "disk" or "none"')
    needed *= processes
    available = available_memory()
    if cache == "none" or (cache == "auto" and needed > AUTO_SHARE * available):
        return None
    if needed > RAM_SHARE * available:
        raise _too_large(needed, available, "memory")
    pictures: list[Image] = []
    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
        for start in range(0, len(paths), _LOOK_EVERY):
            pictures.extend(pool.map(read, range(start, min(start + _LOOK_EVERY, len(paths)))))
            # The estimate may be wrong, and other programs take memory, too.
            if len(pictures) < len(paths) and available_memory() < (1 - RAM_SHARE) * available:
                if cache == "auto":
                    return None
                raise _too_large(needed, available, "memory")
    return pictures.__getitem__


def _on_disk(read: Read, paths: Sequence[Path], *, needed: int, recipe: str) -> Read:
    folder = cache_folder() / "pictures"
    files = [folder / _name(path, recipe) for path in paths]
    missing = [index for index, file in enumerate(files) if not file.is_file()]

    def keep(index: int) -> None:
        with atomic_file(files[index]) as temporary:
            np.save(temporary, read(index))

    def load(index: int) -> Image:
        try:
            return np.asarray(np.load(files[index], allow_pickle=False), np.uint8)
        except (OSError, ValueError, EOFError):  # deleted or damaged meanwhile
            return read(index)

    if missing:
        try:
            folder.parent.mkdir(0o700, parents=True, exist_ok=True)
            folder.mkdir(exist_ok=True)
            free = shutil.disk_usage(folder).free
            lacking = needed * len(missing) // len(paths)
            if lacking > DISK_SHARE * free:
                raise _too_large(lacking, free, f"the disk of {folder}")
            with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
                list(pool.map(keep, missing))
        except OSError as error:
            raise InputError(
                f"pictures cannot be kept in {folder}: {error.strerror}", remedy="use another cache, or make room"
            ) from error
    return load


def _name(path: Path, recipe: str) -> str:
    try:
        status = path.stat()
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}", expected="an image file") from error
    what = f"{path.resolve()}\0{status.st_size}\0{status.st_mtime_ns}\0{recipe}\0{1}"
    digest = hashlib.sha256(os.fsencode(what)).hexdigest()
    return f"{digest[:2]}/{digest[2:32]}.npy"


def _too_large(needed: int, free: int, where: str) -> InputError:
    return InputError(
        f"keeping the pictures may take {needed / 1e9:.1f} GB and {free / 1e9:.1f} GB of {where} are free",
        remedy="use another cache, or a smaller image size",
    )


def available_memory() -> int:
    """Return the bytes of memory that are free for use, container limit included; 0 if the system does not tell."""
    limits = []
    try:
        for line in Path("/proc/meminfo").read_text().splitlines():
            if line.startswith("MemAvailable:"):
                limits.append(int(line.split()[1]) * 1024)
    except OSError:
        if hasattr(os, "sysconf") and "SC_PHYS_PAGES" in os.sysconf_names:  # macOS tells only what is built in
            limits.append(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 2)
    try:
        group = Path("/sys/fs/cgroup")
        statistics = dict(line.split() for line in (group / "memory.stat").read_text().splitlines())
        used = int((group / "memory.current").read_text()) - int(statistics.get("inactive_file", 0))
        limits.append(int((group / "memory.max").read_text()) - used)  # cached files give way, so they count as free
    except (OSError, ValueError):  # no control group, or its limit is "max"
        pass
    return max(0, min(limits, default=0))
