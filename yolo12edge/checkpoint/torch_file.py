"""The zip archive that ``torch.save`` writes: its pickle and its storages, read with checks.

Members: ``<name>/data.pkl``, the pickle; ``<name>/data/<key>``, the bytes of each storage, not
compressed; ``<name>/byteorder``. Nothing is ever extracted to disk.
"""

from __future__ import annotations

import struct
import zipfile
import zlib
from pathlib import Path
from types import TracebackType

import torch
from torch import Tensor

from ..errors import CheckpointError
from .unpickle import MAX_BYTES, STORAGES, StorageRef, TensorRef, read_pickle

__all__ = ["TorchFile"]

_MAX_MEMBERS = 100_000
_ITEM_SIZE = dict(STORAGES.values())
_ZIP_ERRORS = (
    zipfile.BadZipFile,
    zlib.error,
    struct.error,
    OSError,
    EOFError,
    ValueError,
    LookupError,
    NotImplementedError,
    RuntimeError,
    OverflowError,
)


class TorchFile:
    """A ``.pt`` file, open for reading.

    Args:
        path: The file.

    Raises:
        CheckpointError: If it is missing, damaged, or no zip archive of ``torch.save``.
    """

    def __init__(self, path: Path | str) -> None:
        self.path = Path(path)
        self.name = self.path.name
        try:
            with self.path.open("rb") as file:
                start = file.read(4)
            if start[:2] != b"PK":
                raise self._not_a_zip(start)
            self._zip = zipfile.ZipFile(self.path)
        except FileNotFoundError as error:
            raise CheckpointError(f"{self.path} does not exist", remedy="check the path") from error
        except _ZIP_ERRORS as error:
            raise self._damaged(error) from error
        try:
            self._members = self._checked_members()
            self._folder = self._pickle_folder()
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Close the file."""
        self._zip.close()

    def __enter__(self) -> TorchFile:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def root(self) -> object:
        """Interpret the pickle; see ``read_pickle`` for what comes out.

        Raises:
            CheckpointError: As ``read_pickle``.
        """
        name = self._folder + "data.pkl"
        if self._members[name].file_size > MAX_BYTES:  # before it is read
            raise CheckpointError(f"the pickle in {self.name} is larger than that of any YOLO12 model")
        return read_pickle(self._read(name), storage=self._storage, source=self.name)

    def tensor(self, ref: TensorRef) -> Tensor:
        """Read a tensor into memory of its own, on the CPU.

        Raises:
            CheckpointError: If its bytes do not match their checksum.
        """
        dtype = getattr(torch, ref.storage.dtype)
        if ref.storage.count == 0:
            return torch.empty(ref.shape, dtype=dtype)
        data = bytearray(self._read(f"{self._folder}data/{ref.storage.key}"))
        flat = torch.frombuffer(data, dtype=dtype)
        return flat.as_strided(ref.shape, ref.stride, ref.offset).clone(memory_format=torch.contiguous_format)

    def _storage(self, key: str, dtype: str, count: int) -> StorageRef:
        member = self._members.get(f"{self._folder}data/{key}")
        if member is None or member.file_size != count * _ITEM_SIZE[dtype]:
            found = "is missing" if member is None else f"has {member.file_size:,} bytes"
            raise CheckpointError(
                f"the storage {key!r:.60} of {self.name} {found}",
                expected=f"{count:,} elements of type {dtype}, as its pickle says",
                remedy="take the file from its source again",
            )
        return StorageRef(key, dtype, count)

    def _checked_members(self) -> dict[str, zipfile.ZipInfo]:
        infos = self._zip.infolist()
        problem = None
        if len(infos) > _MAX_MEMBERS or len({info.filename for info in infos}) != len(infos):
            problem = "too many members, or two of one name"
        elif any(info.compress_type != zipfile.ZIP_STORED or info.compress_size != info.file_size for info in infos):
            problem = "compressed members, which torch never writes"
        elif any(info.flag_bits & 1 for info in infos):
            problem = "encrypted members"
        elif sum(info.file_size for info in infos) > self.path.stat().st_size:
            problem = "members that are larger than the file itself"
        elif any(
            info.filename.startswith("/") or "\\" in info.filename or ".." in info.filename.split("/") for info in infos
        ):
            problem = "a member whose name leads out of the archive"
        if problem:
            raise CheckpointError(
                f"{self.name} is a zip archive with {problem}",
                expected="a file as torch.save writes it",
                remedy="take the file from its source again",
            )
        return {info.filename: info for info in infos}

    def _pickle_folder(self) -> str:
        folders = [name[: -len("data.pkl")] for name in self._members if name.endswith("/data.pkl")]
        if len(folders) != 1 or folders[0].count("/") != 1:
            raise CheckpointError(
                f"{self.name} is a zip archive, but not one that torch.save wrote",
                expected="one member <name>/data.pkl",
            )
        folder = folders[0]
        if folder + "constants.pkl" in self._members or any(n.startswith(folder + "code/") for n in self._members):
            raise CheckpointError(f"{self.name} is a TorchScript program", expected="a checkpoint of a training run")
        order = self._members.get(folder + "byteorder")
        if order is not None and (order.file_size > 16 or self._read(order.filename) != b"little"):
            raise CheckpointError(
                f"{self.name} is not in little-endian byte order", remedy="save it on another machine"
            )
        return folder

    def _read(self, name: str) -> bytes:
        try:
            return self._zip.read(name)
        except _ZIP_ERRORS as error:
            raise self._damaged(error) from error

    def _damaged(self, error: Exception) -> CheckpointError:
        return CheckpointError(
            f"{self.name} is damaged or cut off: {error}", remedy="take the file from its source again"
        )

    def _not_a_zip(self, start: bytes) -> CheckpointError:
        if start[:1] == b"\x80":
            return CheckpointError(
                f"{self.name} is a bare pickle, the format that torch.save wrote before torch 1.6",
                expected="the zip format of today",
                remedy="load it in the environment it comes from and save it again with torch.save",
            )
        return CheckpointError(f"{self.name} is not a .pt file", expected="a zip archive that torch.save wrote")
