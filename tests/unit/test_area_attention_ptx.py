"""The kernel compiles for every GPU it is meant for: tensor cores, no spills, and only the parameters it declares."""

from __future__ import annotations

import re

import pytest

from yolo12edge.errors import ExportError
from yolo12edge.exporters.area_attention import triton_ptx
from yolo12edge.exporters.area_attention.tiles import DEFAULT_TILE, TILES

triton = pytest.importorskip("triton", reason="triton is not installed")

from yolo12edge.exporters.area_attention.ahead_of_time import compile_attention  # noqa: E402

# By compute capability: the newest PTX that its oldest driver takes (JetPack 6: CUDA 12.6), and what multiplies there.
TARGETS = {
    80: ("8.5", "mma.sync"),
    86: ("8.5", "mma.sync"),
    87: ("8.5", "mma.sync"),
    89: ("8.5", "mma.sync"),
    90: ("8.5", "wgmma"),
    110: ("9.0", "tcgen05.mma"),
    120: ("8.7", "mma.sync"),
}
SHARED_LIMIT = 48 * 1024  # what a block gets without asking for more
REGISTER_FILE = 64 * 1024


@pytest.mark.parametrize(
    ("capability", "tactic"), [(capability, 1) for capability in TARGETS] + [(87, 2), (87, 3), (87, 4), (90, 2)]
)
def test_it_compiles(capability: int, tactic: int) -> None:
    newest, multiply = TARGETS[capability]
    kernel = compile_attention(TILES[tactic], heads=2, area=4, capability=capability, run=400)
    version = re.search(r"^\.version (\d+\.\d+)", kernel.ptx, flags=re.MULTILINE)
    assert version is not None
    assert tuple(map(int, version[1].split("."))) <= tuple(map(int, newest.split(".")))
    assert re.search(rf"^\.target sm_{capability}a?$", kernel.ptx, flags=re.MULTILINE)
    assert re.search(rf"\b{multiply}\b", kernel.ptx), f"no {multiply}: the tensor cores are not used"
    assert "cp.async" in kernel.ptx
    assert kernel.warps == TILES[tactic].warps
    assert kernel.shared <= SHARED_LIMIT
    if kernel.registers is not None:
        assert kernel.spills == 0
        blocks = REGISTER_FILE // (32 * kernel.warps * kernel.registers)
        assert blocks * kernel.warps >= 8, "too few warps fit to hide the time of loads"


def test_the_entry_takes_what_the_plugin_passes() -> None:
    kernel = compile_attention(DEFAULT_TILE, heads=2, area=4, capability=87, run=400)
    entry = re.search(r"\.visible \.entry (\w+)\(([^)]*)\)", kernel.ptx)
    assert entry is not None
    assert entry[1] == kernel.name
    types = [re.findall(r"\.[us]\d+", parameter)[0] for parameter in entry[2].split(",")]
    assert types == [".u64", ".u32", ".u64"]


def test_the_text_tells_nothing_of_where_it_was_compiled() -> None:
    ptx = compile_attention(DEFAULT_TILE, heads=2, area=4, capability=87, run=400).ptx
    assert "kernel.py" not in ptx
    assert not re.search(r"^\s*\.(loc|file|section)\b", ptx, flags=re.MULTILINE)


def test_a_run_of_any_length_compiles() -> None:
    ragged = compile_attention(DEFAULT_TILE, heads=2, area=1, capability=87, run=49)
    unknown = compile_attention(DEFAULT_TILE, heads=2, area=1, capability=87)
    assert ragged.ptx == unknown.ptx
    assert "mma.sync" in ragged.ptx
    assert "cp.async" not in ragged.ptx  # rows do not begin at multiples of 16 bytes
    assert ragged.spills in (0, None)


HIDDEN = """.version 8.0
.target sm_87
.visible .entry k(
	.param .u64 .ptr .global .align 1 k_param_0,
	.param .u32 k_param_1,
	.param .u64 .ptr .global .align 1 k_param_2
)
{{
	ld.param.b32 	%r3, [k_param_1];
	{line}
	ret;
}}
"""


def test_hidden_parameters_are_taken_off_unless_they_are_read() -> None:
    stripped = triton_ptx._only_declared(HIDDEN.format(line=""), ["x", "n"])
    assert "k_param_1\n)" in stripped
    assert "k_param_2" not in stripped
    assert "ld.param.b32" in stripped
    with pytest.raises(ExportError, match="k_param_2, a parameter that it does not declare"):
        triton_ptx._only_declared(HIDDEN.format(line="ld.param.b64 %rd1, [k_param_2];"), ["x", "n"])
    with pytest.raises(ExportError, match="takes 3 parameters"):
        triton_ptx._only_declared(HIDDEN.format(line=""), ["x", "n", "y", "z"])


def test_what_cannot_be_compiled_is_said() -> None:
    from yolo12edge.exporters.area_attention.kernel import area_attention_kernel

    constants = {"HEADS": 1, "AREA": 1, "HEAD_CHANNELS": 32, "QUERIES": 64, "KEYS": 64}
    signature = {"qkv": "*fp16", "run": "i32", "out": "*fp16"}
    with pytest.raises(ExportError, match="cannot compile"):
        triton_ptx.compile_kernel(
            area_attention_kernel, signature=signature, constants=constants | {"KEYS": 60}, capability=87
        )
    with pytest.raises(ExportError, match="do not fit"):
        triton_ptx.compile_kernel(
            area_attention_kernel, signature=signature | {"rum": "i32"}, constants=constants, capability=87
        )
    with pytest.raises(ExportError, match="not one that can be compiled"):
        triton_ptx.compile_kernel(lambda: None, signature={}, constants={}, capability=87)
    with pytest.raises(ExportError, match="compute capability 61 is not known"):
        triton_ptx.minimum_ptx_version(61)
