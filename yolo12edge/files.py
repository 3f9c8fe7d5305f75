"""Writing files and directories so that a reader sees the old content or the new, never a half."""

from __future__ import annotations

import ctypes
import hashlib
import os
import secrets
import shutil
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from .errors import InputError

__all__ = ["atomic_directory", "atomic_file", "cache_folder", "sha256_of"]

_CHUNK = 1 << 20


def sha256_of(path: Path) -> str:
    """Return the SHA-256 of a file's content as 64 lower-case hexadecimal digits.

    Raises:
        OSError: If the file cannot be read.
    """
    digest = hashlib.sha256()
    buffer = memoryview(bytearray(_CHUNK))
    with path.open("rb", buffering=0) as file:
        while count := file.readinto(buffer):
            digest.update(buffer[:count])
    return digest.hexdigest()


def cache_folder() -> Path:
    """Return the folder for what may be made again at any time: ``$XDG_CACHE_HOME/yolo12edge``, or in ``~/.cache``.

    Raises:
        InputError: If there is neither.
    """
    root = os.environ.get("XDG_CACHE_HOME", "")
    try:
        return (Path(root) if Path(root).is_absolute() else Path.home() / ".cache") / "yolo12edge"
    except RuntimeError as error:  # a user without a home
        raise InputError("there is no home folder to keep files in", remedy="let XDG_CACHE_HOME name one") from error


@contextmanager
def atomic_file(path: Path) -> Iterator[Path]:
    """Yield a path to write to; on success it replaces ``path`` in one step, on an error it is removed.

    The temporary file lies beside ``path`` (missing parent directories are made) and keeps its suffix, because
    many writers choose the format by it. A link is followed: its target is replaced.

    Raises:
        InputError: If ``path`` is a directory, its directory cannot be made or written, or nothing was written.
    """
    target = path.resolve()
    if target.is_dir():
        raise InputError(f"{path} is a directory", expected="the name of a file to write")
    _make_parent(target)
    temporary = target.with_name(f".{target.stem}.{secrets.token_hex(4)}.tmp{target.suffix}")
    try:
        yield temporary
        with _finishing(path):
            _sync(temporary)
            temporary.replace(target)
            _sync_directory(target.parent)
    except BaseException:
        with suppress(OSError):
            temporary.unlink()
        raise


@contextmanager
def atomic_directory(path: Path, *, overwrite: bool, check: Callable[[Path], None] | None = None) -> Iterator[Path]:
    """Yield an empty directory to fill; on success it becomes ``path`` in one step, on an error it is removed.

    An old directory is deleted only after the new one has taken its place. Where the system cannot exchange two
    directories in one step, the old one is first renamed to ``.NAME.XXXXXXXX.old`` beside it, so that a crash at any
    moment leaves the old content, the new, or both on disk.

    Args:
        path: The directory to make. A link is followed: its target is replaced.
        overwrite: Whether a directory that is not empty may be replaced.
        check: Called with the directory that would be replaced; raises if it must not be, for example because it
            holds files of somebody else.

    Raises:
        InputError: If ``path`` is a file, is not empty and ``overwrite`` is false, is the working directory or the
            home directory or holds one of them, or cannot be written.
    """
    target = path.resolve()
    _refuse_occupied(path, target, overwrite=overwrite, check=check)
    _make_parent(target)
    temporary = target.with_name(f".{target.name}.{secrets.token_hex(4)}.tmp")
    try:
        temporary.mkdir()
    except OSError as error:
        raise InputError(f"cannot write to {target.parent}: {error.strerror}") from error
    try:
        yield temporary
        with _finishing(path):
            _sync_tree(temporary)
        # It may have been filled by somebody else while ours was being built.
        _refuse_occupied(path, target, overwrite=overwrite, check=check)
        with _finishing(path):
            _take_place(temporary, target)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise


def _refuse_occupied(path: Path, target: Path, *, overwrite: bool, check: Callable[[Path], None] | None) -> None:
    if not target.exists():
        return
    if not target.is_dir():
        raise InputError(f"{path} is a file", expected="the name of a directory to write")
    places = [Path.cwd()]
    with suppress(RuntimeError):  # a user without a home, as in containers
        places.append(Path.home())
    for place in places:
        if place.resolve().is_relative_to(target):
            raise InputError(f"{path} is or holds {place}, which must not be replaced", remedy="name a new directory")
    if not any(target.iterdir()):
        return
    if not overwrite:
        raise InputError(f"{path} exists and is not empty", remedy="name another directory, or empty this one")
    if check is not None:
        check(target)


def _take_place(temporary: Path, target: Path) -> None:
    """Move a finished directory to its place; what was there is deleted afterwards."""
    old: Path | None = None
    if target.exists():
        if _exchange(temporary, target):
            old = temporary
        else:
            old = temporary.with_suffix(".old")
            target.rename(old)
            try:
                temporary.rename(target)
            except BaseException:
                old.rename(target)
                raise
    else:
        temporary.rename(target)
    _sync_directory(target.parent)
    if old is not None:
        shutil.rmtree(old, ignore_errors=True)


def _exchange(first: Path, second: Path) -> bool:
    """Exchange two directories in one step; return False where the system or file system cannot."""
    swap = 2  # RENAME_EXCHANGE on Linux, RENAME_SWAP on macOS
    try:
        libc = ctypes.CDLL(None, use_errno=True)
        if sys.platform == "linux":
            here = -100  # AT_FDCWD
            return bool(libc.renameat2(here, os.fsencode(first), here, os.fsencode(second), swap) == 0)
        if sys.platform == "darwin":
            return bool(libc.renamex_np(os.fsencode(first), os.fsencode(second), swap) == 0)
    except (OSError, AttributeError, TypeError):  # no C library to ask, or one without the call
        pass
    return False


def _make_parent(target: Path) -> None:
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"cannot make the directory {target.parent}: {error.strerror}") from error
    if not os.access(target.parent, os.W_OK):
        raise InputError(f"cannot write to {target.parent}: no permission")


@contextmanager
def _finishing(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise InputError(f"cannot write {path}: {error}") from error


def _sync_tree(path: Path) -> None:
    for folder, _, names in os.walk(path):
        for name in names:
            if not (file := Path(folder, name)).is_symlink():
                _sync(file)
        _sync_directory(Path(folder))


def _sync(path: Path) -> None:
    with path.open("rb+" if os.name == "nt" else "rb") as file:  # Windows syncs writable files only
        os.fsync(file.fileno())


def _sync_directory(path: Path) -> None:
    """Make renames durable; systems and file systems that cannot open or sync a directory do it themselves."""
    with suppress(OSError):
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
