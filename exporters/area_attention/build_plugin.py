"""Builds the C++ plugin for the GPUs at hand, with CMake and the user's own TensorRT headers."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path

from ...errors import BackendError, ExportError, InputError

__all__ = ["PLUGIN_FOLDER", "build_plugin"]

PLUGIN_FOLDER = Path(__file__).parent / "plugin"
_LIBRARY = "libyolo12edge_area_attention.so"


def build_plugin(out: str | Path, *, include_dir: str | Path, architectures: Sequence[str]) -> Path:
    """Compile the plugin library.

    Args:
        out: The library to write, or a folder for it.
        include_dir: Where TensorRT's ``NvInferRuntime.h`` is, such as ``/usr/include/aarch64-linux-gnu``.
        architectures: GPUs to compile for, as CMake writes them: ``87`` for Orin.

    Returns:
        The library, ready for the environment variable ``YOLO12EDGE_TENSORRT_PLUGIN``.

    Raises:
        InputError: If there are no headers there, or no architecture is given.
        BackendError: If cmake or nvcc is not installed.
        ExportError: If it does not compile.
    """
    headers = Path(include_dir)
    if not (headers / "NvInferRuntime.h").is_file():
        raise InputError(
            f"there is no NvInferRuntime.h in {headers}",
            expected="the include directory of TensorRT 10.0 or later",
            remedy="install TensorRT's headers (on Jetson: the package libnvinfer-headers-dev)",
        )
    if not architectures or not all(name.rstrip("a").isdecimal() for name in architectures):
        raise InputError(f"the architectures are {list(architectures)}", expected="at least one, such as 87 for Orin")
    cmake, nvcc = shutil.which("cmake"), shutil.which("nvcc") or shutil.which("nvcc", path="/usr/local/cuda/bin")
    for name, found in (("cmake", cmake), ("nvcc", nvcc)):
        if found is None:
            raise BackendError(f"{name} is not on the PATH", remedy="install it: nvcc comes with the CUDA toolkit")
    target = Path(out)
    if target.is_dir():
        target /= _LIBRARY
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="yolo12edge-plugin-") as folder:
        _run(
            [
                str(cmake),
                "-S",
                str(PLUGIN_FOLDER),
                "-B",
                folder,
                f"-DTENSORRT_INCLUDE_DIR={headers.resolve()}",
                f"-DCMAKE_CUDA_ARCHITECTURES={';'.join(architectures)}",
                f"-DCMAKE_CUDA_COMPILER={nvcc}",
            ]
        )
        _run([str(cmake), "--build", folder])
        partial = target.with_name(f".{target.name}.partial")
        shutil.copyfile(Path(folder) / _LIBRARY, partial)
        partial.chmod(0o755)
        partial.replace(target)
    return target


def _run(command: Sequence[str]) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        lines = f"{done.stdout}\n{done.stderr}".strip().splitlines()
        first = [index for index, line in enumerate(lines) if "error" in line.lower()] or [len(lines) - 8]
        told = "\n".join(lines[max(0, first[0]) :][:8])
        raise ExportError(f"the plugin could not be built:\n{told}", remedy="see what the compiler says above")
