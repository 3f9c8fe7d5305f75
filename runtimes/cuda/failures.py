"""What a CUDA error means to the user: the text of ``BackendError`` for a status of the driver."""

from __future__ import annotations

from ...errors import BackendError

__all__ = ["failure", "no_driver"]

_INSTALL = (
    "install the NVIDIA driver (on Jetson: flash JetPack); in a container, start it with --gpus all or --runtime nvidia"
)
_SMALLER = "take a smaller batch or image size, or end what else uses the GPU"
_RESTART = "start the process anew; if it comes again, look at dmesg for Xid messages"
_NEWER = "install a newer NVIDIA driver or JetPack"

_REMEDIES = {
    "CUDA_ERROR_OUT_OF_MEMORY": _SMALLER,
    "CUDA_ERROR_NOT_INITIALIZED": _INSTALL,
    "CUDA_ERROR_STUB_LIBRARY": "take the stub libcuda.so.1 out of LD_LIBRARY_PATH: the driver's own is needed",
    "CUDA_ERROR_CALL_REQUIRES_NEWER_DRIVER": _NEWER,
    "CUDA_ERROR_SYSTEM_DRIVER_MISMATCH": "restart the machine: the driver was updated while it ran",
    "CUDA_ERROR_COMPAT_NOT_SUPPORTED_ON_DEVICE": "remove the CUDA compatibility package, or install a newer driver",
    "CUDA_ERROR_DEVICE_UNAVAILABLE": (
        "end the other process that uses the GPU, or allow several: nvidia-smi --compute-mode=DEFAULT"
    ),
    "CUDA_ERROR_NO_DEVICE": f"look at what nvidia-smi and CUDA_VISIBLE_DEVICES say; {_INSTALL}",
    "CUDA_ERROR_INVALID_DEVICE": "choose one that nvidia-smi lists",
    "CUDA_ERROR_NO_BINARY_FOR_GPU": "a GPU of compute capability 7.5 or newer is needed",
    "CUDA_ERROR_INVALID_PTX": "a GPU of compute capability 7.5 or newer is needed",
    "CUDA_ERROR_UNSUPPORTED_PTX_VERSION": _NEWER,
    "CUDA_ERROR_JIT_COMPILER_NOT_FOUND": "install the driver's libnvidia-ptxjitcompiler, which a container may lack",
    "CUDA_ERROR_ILLEGAL_ADDRESS": _RESTART,
    "CUDA_ERROR_MISALIGNED_ADDRESS": _RESTART,
    "CUDA_ERROR_ILLEGAL_INSTRUCTION": _RESTART,
    "CUDA_ERROR_LAUNCH_FAILED": _RESTART,
    "CUDA_ERROR_LAUNCH_TIMEOUT": "the GPU also draws a desktop, which does not wait so long: use another",
    "CUDA_ERROR_ECC_UNCORRECTABLE": "restart the machine; if it comes again, its memory is defective",
    "CUDA_ERROR_SYSTEM_NOT_READY": "start the services that the system needs, such as nvidia-fabricmanager",
    "CUDA_ERROR_CONTEXT_IS_DESTROYED": "somebody reset the device (cudaDeviceReset): start the process anew",
}


def failure(doing: str, name: str, detail: str = "") -> BackendError:
    """Return the error for a status.

    Args:
        doing: What was tried, such as ``allocate 12 bytes``.
        name: Of the status, such as ``CUDA_ERROR_OUT_OF_MEMORY``.
        detail: What the driver adds to it.
    """
    detail = " ".join(detail.split())
    return BackendError(
        f"CUDA cannot {doing}: {name}{f' ({detail})' if detail else ''}", remedy=_REMEDIES.get(name, "")
    )


def no_driver(reason: str) -> BackendError:
    """Return the error for a machine without libcuda."""
    return BackendError(f"there is no CUDA driver: {' '.join(reason.split())}", remedy=_INSTALL)
