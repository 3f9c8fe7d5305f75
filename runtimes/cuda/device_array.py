"""``DeviceArray``: a frame that lies on the GPU, from whichever library made it.

By DLPack (PyTorch, CuPy, JAX, CV-CUDA ...) or, where a library has that alone, by the CUDA array interface (Numba,
pycuda ...). Nothing is copied: what is found is where the frame lies and what keeps it there.
"""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from dataclasses import dataclass
from inspect import getattr_static
from typing import Any

from ...errors import InputError

__all__ = ["DeviceArray", "device_array", "is_on_device"]

_LEGACY = 1  # CU_STREAM_LEGACY: what both interfaces call the default stream
_CPU, _CUDA, _CUDA_MANAGED = 1, 2, 13  # kDLCPU, kDLCUDA, kDLCUDAManaged
_DEVICES = {1: "the CPU", 3: "page-locked memory of the CPU", 4: "OpenCL", 7: "Vulkan", 8: "Metal", 10: "ROCm"}
_UNSIGNED = 1  # kDLUInt
_TYPES = {0: "int", 1: "uint", 2: "float", 4: "bfloat", 5: "complex", 6: "bool"}
_EXPECTED = "uint8 (height, width, channels), channels last and side by side"


@dataclass(frozen=True, slots=True, eq=False)
class DeviceArray:
    """A uint8 picture on a GPU.

    Attributes:
        address: Of its first byte.
        shape: Height, width, channels.
        pitch: Bytes from row to row.
        device: Index of the GPU that it lies on; None if its library does not say, which the driver can tell.
        stream: What has to be done before it may be read, as a CUDA stream; None if it may be read at once.
        keep_alive: Whoever holds this holds the memory; let go of it only when the GPU has read the picture.
    """

    address: int
    shape: tuple[int, int, int]
    pitch: int
    device: int | None
    stream: int | None
    keep_alive: object


def is_on_device(frame: object) -> bool:
    """Tell whether ``device_array`` is for this object: an array or capsule, and none of the CPU."""
    if type(frame).__name__ == "PyCapsule":
        return True
    if _has(frame, "__dlpack_device__"):
        try:
            return _device_of(frame)[0] != _CPU
        except InputError:
            return False
    return _has(frame, "__cuda_array_interface__")


def device_array(frame: Any, *, stream: int, device: int) -> DeviceArray:
    """Find a picture on the GPU.

    Args:
        frame: What has ``__dlpack__`` or ``__cuda_array_interface__``, or a DLPack capsule, which can be taken once.
        stream: The CUDA stream that will read it. By DLPack, the frame's maker lets it wait until the frame is there;
            by the CUDA array interface the caller has to, for ``DeviceArray.stream``.
        device: Index of the GPU that will read it.

    Raises:
        InputError: If it lies elsewhere, is of another type or layout, or was taken before.
    """
    if type(frame).__name__ == "PyCapsule":
        return _from_capsule(frame, device)
    if _has(frame, "__dlpack__"):
        _check_device(*_device_of(frame), device)
        try:
            capsule = frame.__dlpack__(stream=stream)
        except Exception as error:  # of any library: it requires a gradient, is read-only, is on its way ...
            raise InputError(f"the frame cannot be taken by DLPack: {error}") from error
        return _from_capsule(capsule, device)
    if _has(frame, "__cuda_array_interface__"):
        return _from_interface(frame)
    raise InputError(
        f"the frame is a {type(frame).__name__}",
        expected="an array on the GPU, with DLPack or the CUDA array interface",
    )


def _has(frame: object, name: str) -> bool:
    """Tell whether it is there without asking for it: some of PyTorch's properties raise."""
    return getattr_static(frame, name, None) is not None


def _from_interface(frame: Any) -> DeviceArray:
    try:
        interface = dict(frame.__cuda_array_interface__)
        version = int(interface["version"])
        shape = tuple(int(size) for size in interface["shape"])
        typestr = str(interface["typestr"])
        address = int(interface["data"][0])
        given = interface.get("strides")
        strides = None if given is None else tuple(int(stride) for stride in given)
        # Version 2 does not tell what its maker still computes, which is most often in the default stream.
        stream = interface.get("stream") if version > 2 else _LEGACY
        stream = None if stream is None else int(stream)
        masked = interface.get("mask") is not None
    except Exception as error:
        raise InputError(f"the CUDA array interface of the frame cannot be read: {error}") from error
    if version < 2:
        raise InputError(f"the frame has version {version} of the CUDA array interface", expected="2 or 3")
    if typestr.lstrip("|<>=") != "u1":
        raise InputError(f"the frame has type {typestr!r}", expected=_EXPECTED, remedy="scale it to 0..255 as uint8")
    if masked:
        raise InputError("the frame has a mask", expected=_EXPECTED)
    if stream is not None and not 0 < stream < 2**64:
        raise InputError(
            f"the frame names stream {stream}", expected="1 for the default stream, by the CUDA array interface"
        )
    shape3, pitch = _layout(shape, strides)
    return DeviceArray(_address(address), shape3, pitch, None, stream, frame)


class _Tensor(ctypes.Structure):
    """``DLTensor``, the same in all versions of DLPack."""

    _fields_ = (
        ("data", ctypes.c_void_p),
        ("device_type", ctypes.c_int32),
        ("device_id", ctypes.c_int32),
        ("ndim", ctypes.c_int32),
        ("code", ctypes.c_uint8),
        ("bits", ctypes.c_uint8),
        ("lanes", ctypes.c_uint16),
        ("shape", ctypes.POINTER(ctypes.c_int64)),
        ("strides", ctypes.POINTER(ctypes.c_int64)),
        ("byte_offset", ctypes.c_uint64),
    )


class _Managed(ctypes.Structure):
    """``DLManagedTensor``."""

    _fields_ = (("tensor", _Tensor), ("manager", ctypes.c_void_p), ("deleter", ctypes.c_void_p))


_api = ctypes.pythonapi
_is_valid = ctypes.PYFUNCTYPE(ctypes.c_int, ctypes.py_object, ctypes.c_char_p)(("PyCapsule_IsValid", _api))
_pointer = ctypes.PYFUNCTYPE(ctypes.c_void_p, ctypes.py_object, ctypes.c_char_p)(("PyCapsule_GetPointer", _api))
_rename = ctypes.PYFUNCTYPE(ctypes.c_int, ctypes.py_object, ctypes.c_char_p)(("PyCapsule_SetName", _api))
# By PYFUNCTYPE, which holds the interpreter's lock: deleters give Python objects back.
_deleter = ctypes.PYFUNCTYPE(None, ctypes.c_void_p)

# A capsule keeps the pointer to its name, so this one must never go.
_USED = ctypes.c_char_p(b"used_dltensor")


class _Taken:
    """Memory that was taken out of a capsule; it goes back to its maker when nobody holds this any more."""

    def __init__(self, managed: int) -> None:
        self._managed = managed

    def __del__(self) -> None:
        managed, self._managed = self._managed, 0
        if managed:
            deleter = _Managed.from_address(managed).deleter
            if deleter:
                _deleter(deleter)(managed)


def _from_capsule(capsule: object, index: int) -> DeviceArray:
    if type(capsule).__name__ != "PyCapsule" or not _is_valid(capsule, b"dltensor"):
        raise InputError(
            "the frame is no DLPack capsule that can be taken",
            expected="a capsule 'dltensor'",
            remedy="a capsule can be taken once: give the array itself, or make another",
        )
    managed = _pointer(capsule, b"dltensor")
    tensor = _Managed.from_address(managed).tensor
    # Everything is checked before it is taken: a capsule that is refused stays as it was, and its maker frees it.
    _check_device(tensor.device_type, tensor.device_id, index)
    if (tensor.code, tensor.bits, tensor.lanes) != (_UNSIGNED, 8, 1):
        name = f"{_TYPES.get(tensor.code, 'type ' + str(tensor.code))}{tensor.bits}" + f"x{tensor.lanes}" * (
            tensor.lanes != 1
        )
        raise InputError(f"the frame has type {name}", expected=_EXPECTED, remedy="scale it to 0..255 as uint8")
    if not 0 <= tensor.ndim <= 8 or (tensor.ndim and not tensor.shape):
        raise InputError(f"the frame has {tensor.ndim} dimensions", expected=_EXPECTED)
    shape = tuple(tensor.shape[: tensor.ndim])
    strides = tuple(tensor.strides[: tensor.ndim]) if tensor.strides else None  # of uint8, elements are bytes
    shape3, pitch = _layout(shape, strides)
    address, device = _address((tensor.data or 0) + tensor.byte_offset), int(tensor.device_id)
    _rename(capsule, _USED)
    return DeviceArray(address, shape3, pitch, device, None, _Taken(managed))


def _device_of(frame: Any) -> tuple[int, int]:
    try:
        kind, index = frame.__dlpack_device__()
        return int(kind), int(index)
    except Exception as error:
        raise InputError(f"the frame does not say by DLPack where it lies: {error}") from error


def _check_device(kind: int, index: int, wanted: int) -> None:
    if kind not in (_CUDA, _CUDA_MANAGED):
        raise InputError(
            f"the frame lies on {_DEVICES.get(kind, f'a device of DLPack type {kind}')}",
            expected="memory of a CUDA device",
            remedy="give it as a NumPy array: numpy.from_dlpack(frame)" if kind in (1, 3) else "",
        )
    if kind == _CUDA and index != wanted:
        raise InputError(
            f"the frame lies on CUDA device {index}",
            expected=f"device {wanted}",
            remedy="copy it there, or open this device",
        )


def _layout(shape: Sequence[int], strides: Sequence[int] | None) -> tuple[tuple[int, int, int], int]:
    """Return height, width, channels and the pitch of a picture whose pixels lie side by side."""
    if len(shape) == 2:
        shape, strides = (*shape, 1), None if strides is None else (*strides, 1)
    if len(shape) != 3 or (strides is not None and len(strides) != 3):
        remedy = "give one frame after the other" if len(shape) == 4 else ""
        raise InputError(f"the frame has shape {tuple(shape)}", expected=_EXPECTED, remedy=remedy)
    height, width, channels = shape
    if min(shape) < 1:
        raise InputError(f"the frame is empty, shape {tuple(shape)}", expected=_EXPECTED)
    if channels not in (1, 3, 4):
        remedy = "put the channels last" if height in (1, 3, 4) else ""
        raise InputError(f"the frame has shape {tuple(shape)}", expected=_EXPECTED, remedy=remedy)
    if strides is None:
        return (height, width, channels), width * channels
    # The stride along an axis of one is never used, and may be anything.
    pitch = strides[0] if height > 1 else width * channels
    side_by_side = (channels == 1 or strides[2] == 1) and (width == 1 or strides[1] == channels)
    if not side_by_side or pitch < width * channels:
        raise InputError(
            f"the frame has strides {tuple(strides)} bytes", expected=_EXPECTED, remedy="make it contiguous first"
        )
    return (height, width, channels), pitch


def _address(address: int) -> int:
    if not 0 < address < 2**64:
        raise InputError(f"the frame lies at address {address:#x}", expected="memory of a CUDA device")
    return address
