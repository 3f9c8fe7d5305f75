"""``Maker``: DLPack capsules made by hand, over any address and of any form, and how often they are given back."""

from __future__ import annotations

import ctypes
from typing import Any

from yolo12edge.runtimes.cuda.device_array import _Managed

ADDRESS = 0x7F00_0000_1000  # where nothing is

_new = ctypes.PYFUNCTYPE(ctypes.py_object, ctypes.c_void_p, ctypes.c_char_p, ctypes.c_void_p)(
    ("PyCapsule_New", ctypes.pythonapi)
)
_KEPT: list[Any] = []  # names of capsules must outlive them


class Maker:
    """Makes DLPack capsules over memory that is not there, and counts how often they are given back."""

    def __init__(
        self, shape=(4, 6, 3), strides=None, *, kind=2, index=0, code=1, bits=8, lanes=1, offset=0, data=ADDRESS
    ):
        self.deleted = 0
        self.streams: list[Any] = []
        self.kind, self.index = kind, index
        self.managed = _Managed()
        tensor = self.managed.tensor
        tensor.data, tensor.device_type, tensor.device_id = data, kind, index
        tensor.ndim, tensor.code, tensor.bits, tensor.lanes = len(shape), code, bits, lanes
        self.shape = (ctypes.c_int64 * max(1, len(shape)))(*shape)
        tensor.shape = ctypes.cast(self.shape, ctypes.POINTER(ctypes.c_int64))
        if strides is not None:
            self.strides = (ctypes.c_int64 * max(1, len(strides)))(*strides)
            tensor.strides = ctypes.cast(self.strides, ctypes.POINTER(ctypes.c_int64))
        tensor.byte_offset = offset
        self.deleter = ctypes.PYFUNCTYPE(None, ctypes.c_void_p)(self._delete)
        self.managed.deleter = ctypes.cast(self.deleter, ctypes.c_void_p)

    def _delete(self, address: int) -> None:
        assert address == ctypes.addressof(self.managed)
        self.deleted += 1

    def capsule(self, name: bytes = b"dltensor") -> Any:
        _KEPT.append(ctypes.c_char_p(name))
        return _new(ctypes.addressof(self.managed), _KEPT[-1], None)

    def __dlpack_device__(self):
        return self.kind, self.index

    def __dlpack__(self, *, stream):
        self.streams.append(stream)
        return self.capsule()
