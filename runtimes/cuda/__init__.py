"""CUDA from Python, small: memory, streams, events, graphs and kernels, by whichever library binds the driver here."""

from __future__ import annotations

import os
from importlib.util import find_spec
from typing import Literal, cast, get_args

from ...errors import InputError, MissingDependencyError
from .driver import Cuda

__all__ = ["CudaLibrary", "open_cuda"]

CudaLibrary = Literal["cuda-bindings", "pycuda"]
_VARIABLE = "YOLO12EDGE_CUDA"


def open_cuda(library: CudaLibrary | None = None) -> Cuda:
    """Return the library that binds the CUDA driver; no driver is needed until it is asked for a device.

    Args:
        library: Which one. None: the one that the environment variable YOLO12EDGE_CUDA names; else cuda-bindings if it
            is installed, else pycuda.

    Raises:
        InputError: If there is no such library.
        MissingDependencyError: If it, or without a wish either of the two, is not installed.
        BackendError: If it is installed and cannot be imported, or is too old.
    """
    source = "library"
    if library is None and os.environ.get(_VARIABLE):
        library, source = cast(CudaLibrary, os.environ[_VARIABLE]), _VARIABLE
    if library is None:
        library = "cuda-bindings" if _has("cuda.bindings") or not _has("pycuda") else "pycuda"
    if library not in get_args(CudaLibrary):
        raise InputError(f"{source} is {library!r}", expected=" or ".join(map(repr, get_args(CudaLibrary))))
    if not _has("cuda.bindings" if library == "cuda-bindings" else "pycuda"):
        raise MissingDependencyError(library, extra="tensorrt", purpose="to reach the GPU")
    if library == "pycuda":
        from .pycuda_driver import PyCuda

        return PyCuda()
    from .bindings_driver import BindingsCuda

    return BindingsCuda()


def _has(name: str) -> bool:
    try:
        return find_spec(name) is not None
    except (ImportError, ValueError):  # its parent is not there, or is half imported
        return False
