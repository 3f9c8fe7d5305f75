"""Make ``runtimes/cuda/letterbox_*.ptx`` from the kernels; needs triton and no GPU.

Run from the root of a checkout:

    python benchmarks/make_letterbox_ptx.py
"""

from __future__ import annotations

import json
from pathlib import Path

from yolo12edge.exporters.area_attention.triton_ptx import compile_kernel
from yolo12edge.runtimes.cuda import letterbox_kernel

ROOT = Path(__file__).parents[1]
CAPABILITY, PTX = 75, 80  # drivers compile it for any GPU from Turing on; CUDA 12.0 and newer read it
ROWS, COLUMNS, WARPS = 4, 128, 4


def assets() -> dict[Path, str]:
    """Return the text of each file."""
    whole = letterbox_kernel.SIGNATURE
    pixels = {name: "*u8" if name == "output" else kind for name, kind in whole.items() if name != "scale"}
    made = {}
    for function, signature in (
        (letterbox_kernel.letterbox_float32, whole),
        (letterbox_kernel.letterbox_uint8, pixels),
    ):
        kernel = compile_kernel(
            function,
            signature=signature,
            constants={"ROWS": ROWS, "COLUMNS": COLUMNS},
            capability=CAPABILITY,
            ptx_version=PTX,
            warps=WARPS,
        )
        facts = {
            "name": kernel.name,
            "shared": kernel.shared,
            "threads": 32 * kernel.warps,
            "rows": ROWS,
            "columns": COLUMNS,
        }
        body = "\n".join(line.rstrip() for line in kernel.ptx.strip().splitlines())
        maker = "Made by benchmarks/make_letterbox_ptx.py from letterbox_kernel.py; do not edit."
        made[ROOT / "runtimes" / "cuda" / f"{kernel.name}.ptx"] = f"// {json.dumps(facts)}\n// {maker}\n{body}\n"
    return made


if __name__ == "__main__":
    for path, text in assets().items():
        path.write_text(text, encoding="ascii", newline="\n")
        print(f"{path.relative_to(ROOT)}: {len(text):,} bytes")
