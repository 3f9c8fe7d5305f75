"""PTX text of a Triton kernel, compiled without a GPU, with exactly the parameters that the kernel declares."""

from __future__ import annotations

import re
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ...errors import ExportError, MissingDependencyError

__all__ = ["CompiledKernel", "compile_kernel", "minimum_ptx_version"]

# The first PTX version that knows a GPU, by compute capability.
_FIRST_PTX = {75: 63, 80: 70, 86: 71, 87: 74, 89: 78, 90: 80, 100: 86, 103: 88, 110: 90, 120: 87, 121: 88}
_ENTRY = re.compile(r"\.entry\s+(?P<name>[\w$]+)\s*\((?P<parameters>[^)]*)\)")


@dataclass(frozen=True, slots=True)
class CompiledKernel:
    """A kernel as text that a driver or TensorRT takes.

    Attributes:
        name: Of the entry point.
        ptx: The text; free of line numbers and of paths.
        shared: Dynamic shared memory of a block, bytes.
        warps: Warps of a block; a block has 32 times as many threads.
        registers: Of a thread; None where there was no ``ptxas`` to ask.
        spills: Bytes that a thread writes to memory for lack of registers; None likewise.
    """

    name: str
    ptx: str
    shared: int
    warps: int
    registers: int | None
    spills: int | None


def minimum_ptx_version(capability: int) -> int:
    """Return the oldest PTX version worth asking for, which most drivers take: 80, or the first that knows the GPU.

    Args:
        capability: Of the GPU, such as 87.

    Raises:
        ExportError: If no PTX version is known for it.
    """
    if capability not in _FIRST_PTX:
        known = ", ".join(map(str, _FIRST_PTX))
        raise ExportError(f"compute capability {capability} is not known", expected=f"one of {known}")
    return max(80, _FIRST_PTX[capability])


def compile_kernel(
    function: Any,
    *,
    signature: Mapping[str, str],
    constants: Mapping[str, object],
    capability: int,
    ptx_version: int = 80,
    warps: int = 4,
    stages: int = 2,
    aligned: Sequence[str] = (),
) -> CompiledKernel:
    """Compile a ``triton.jit`` function; needs no GPU, no driver and no torch.

    Triton appends two pointers to what a kernel declares (scratch memory, which only some kernels use). Whoever
    launches the PTX by other means does not know of them, so they are taken off, after a look that nothing reads them.

    Args:
        function: The kernel.
        signature: Type of every argument that is passed, in the kernel's order, such as ``"*fp16"`` or ``"i32"``.
        constants: Value of every ``tl.constexpr`` argument.
        capability: Of the GPU, such as 87 for Orin. From 90 on, the PTX runs on that very architecture only.
        ptx_version: At most what the driver takes: 85 for CUDA 12.6, 90 for CUDA 13.0.
        warps: Of a block.
        stages: Of the pipelines of loops.
        aligned: Arguments that are divisible by 16: addresses, or integers.

    Raises:
        MissingDependencyError: If triton is not installed.
        ExportError: If the kernel cannot be compiled so, or does read a parameter that it does not declare.
    """
    try:
        import triton
        from triton.backends.compiler import GPUTarget
        from triton.compiler import ASTSource
    except ImportError as error:
        raise MissingDependencyError("triton", extra="plugin", purpose="to compile GPU kernels") from error
    if not isinstance(function, triton.JITFunction):
        raise ExportError(
            "this kernel is not one that can be compiled",
            expected="a triton.jit function",
            remedy="unset TRITON_INTERPRET, with which a process interprets kernels instead",
        )
    names = list(function.arg_names)
    unknown = sorted({*signature, *constants, *aligned} ^ {*names})
    if unknown or set(signature) & set(constants):
        raise ExportError(
            f"the arguments do not fit the kernel {function.__name__}: {', '.join(unknown)}",
            expected=f"each of {', '.join(names)} in either signature or constants",
        )
    source = ASTSource(
        function,
        signature={name: "constexpr" if name in constants else signature[name] for name in names},
        constexprs=dict(constants),
        attrs={(names.index(name),): [["tt.divisibility", 16]] for name in aligned},
    )
    options = {"num_warps": warps, "num_stages": stages, "ptx_version": ptx_version, "enable_fp_fusion": True}
    try:
        compiled = triton.compile(source, target=GPUTarget("cuda", capability, 32), options=options)
    except Exception as error:  # Triton raises errors of its compiler, of LLVM and of ptxas
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        target = f"compute capability {capability}, PTX {ptx_version}"
        raise ExportError(
            f"Triton cannot compile {function.__name__} for {target}: {reason}",
            remedy="use a PTX version that knows the GPU, or another configuration of the kernel",
        ) from error
    ptx = _only_declared(_without_debug(str(compiled.asm["ptx"])), [name for name in names if name not in constants])
    registers, spills = _resources(ptx, capability)
    metadata = compiled.metadata
    return CompiledKernel(metadata.name, ptx, int(metadata.shared), int(metadata.num_warps), registers, spills)


def _without_debug(ptx: str) -> str:
    """Take out line numbers: they hold the path of the source, and make the text differ from machine to machine."""
    ptx = re.sub(r"^[ \t]*\.section[ \t]+\.debug\w*\s*\{.*?\}[ \t]*\n", "", ptx, flags=re.MULTILINE | re.DOTALL)
    ptx = re.sub(r"^[ \t]*\.(loc|file)\b.*\n", "", ptx, flags=re.MULTILINE)
    return re.sub(r"[ \t]*//.*$", "", ptx, flags=re.MULTILINE)


def _only_declared(ptx: str, declared: Sequence[str]) -> str:
    """Take the parameters beyond the declared ones off the entry."""
    entry = _ENTRY.search(ptx)
    if entry is None:
        raise ExportError(
            "the compiled kernel has no entry point", remedy="install a release of triton that is known to work"
        )
    parameters = [parameter.strip() for parameter in entry["parameters"].split(",")]
    kept, hidden = parameters[: len(declared)], parameters[len(declared) :]
    if len(kept) != len(declared):
        raise ExportError(
            f"the compiled kernel takes {len(kept)} parameters", expected=f"{len(declared)}: {', '.join(declared)}"
        )
    body = ptx[entry.end() :]
    for parameter in hidden:
        name = parameter.split()[-1]
        if re.search(rf"{re.escape(name)}\b", body):
            raise ExportError(
                f"the compiled kernel reads {name}, a parameter that it does not declare",
                expected="a kernel without scratch memory",
            )
    return f"{ptx[: entry.start()]}.entry {entry['name']}(\n\t" + ",\n\t".join(kept) + f"\n){body}"


def _resources(ptx: str, capability: int) -> tuple[int | None, int | None]:
    """Assemble, and return registers and bytes of spills of a thread; None twice without an assembler."""
    try:
        from triton.backends.nvidia.compiler import get_ptxas

        assembler = get_ptxas(capability).path
    except (ImportError, RuntimeError):
        return None, None
    target = re.search(r"^\.target\s+(\w+)", ptx, flags=re.MULTILINE)
    assert target is not None
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "kernel.ptx"
        file.write_text(ptx)
        command = [assembler, "-v", f"--gpu-name={target[1]}", str(file), "-o", str(file.with_suffix(".cubin"))]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise ExportError(f"the assembler refuses the compiled kernel: {done.stderr.strip()}")
    registers, spills = (re.search(p, done.stderr) for p in (r"Used (\d+) registers", r"(\d+) bytes spill stores"))
    return (int(registers[1]) if registers else None), (int(spills[1]) if spills else None)
