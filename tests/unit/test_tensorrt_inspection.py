"""What the inspector's JSON says of an engine: layers, types, and attention that was fused."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from yolo12edge.errors import BackendError
from yolo12edge.runtimes.tensorrt_inspection import attention_block, parse_layers

BLOCKS = [f"model.{stage}.m.{m}.{i}.attn" for stage in (6, 8) for m in (0, 1) for i in (0, 1)]


def tensor(kind: str, key: str = "Format/Datatype") -> dict[str, Any]:
    return {"Name": "x", "Location": "Device", "Dimensions": [1, 64, 20, 20], key: kind}


def layer(name: str, kind: str, *types: str, nodes: list[str] | None = None, **more: Any) -> dict[str, Any]:
    """A layer as an engine with details tells it; ``types`` are of its one input and its one output."""
    row: dict[str, Any] = {
        "Name": name,
        "LayerType": kind,
        "Inputs": [tensor(types[0])],
        "Outputs": [tensor(types[-1])],
    }
    if nodes is not None:
        row["Metadata"] = "\x1f".join(f"[ONNX Layer: {node}]" for node in nodes)
    return {**row, **more}


def told(*layers: Any, **options: Any) -> Any:
    return parse_layers(json.dumps({"Layers": list(layers), "Bindings": ["images", "boxes"]}), **options)


def core(block: str) -> list[str]:
    return [f"{block}.logits", f"{block}.softmax", f"{block}.mixed"]


def test_every_block_in_a_kernel_of_its_own_is_fused():
    layers = told(
        *(layer(f"_gemm_mha_v2_myl3_{n}", "kgen", "Half", nodes=core(block)) for n, block in enumerate(BLOCKS)),
        *(layer(f"{block}.proj", "gemm", "Half", nodes=[f"{block}.proj.conv"]) for block in BLOCKS),
    )
    assert (layers.total, layers.attention_blocks, layers.fused_attention) == (16, 8, 8)


def test_a_block_in_steps_is_not():
    steps = [layer(node, "gemm", "Half", nodes=[node]) for node in core(BLOCKS[0])]
    fused = layer("_gemm_mha_v2_myl3_9", "kgen", "Half", nodes=core(BLOCKS[1]))
    layers = told(*steps, fused)
    assert (layers.attention_blocks, layers.fused_attention) == (2, 1)


def test_several_kernels_of_one_block_count_once():
    kernels = [layer(f"_gemm_mha_v2_myl3_{n}", "kgen", "Half", nodes=core(BLOCKS[0])) for n in range(3)]
    assert told(*kernels, attention_blocks=8).fused_attention == 1


def test_kernels_that_do_not_say_what_they_are_made_of_count_each():
    kernels = [layer(f"_gemm_mha_v2_myl3_{n}", "kgen", "Half") for n in range(3)]
    assert told(*kernels, attention_blocks=8).fused_attention == 3
    assert told(*kernels, attention_blocks=2).fused_attention == 2


@pytest.mark.parametrize(
    ("row", "fused"),
    [
        (layer("__mye8037_gemm_mha_v2", "kgen", "Half"), True),
        (layer("kgen_mha_12", "kgen", "Half"), True),
        (layer("x", "kgen", "Half", TacticName="_gemm_mha_v2_0x1"), True),
        (layer("fmha_v2_flash", "fmha", "Half"), True),
        (layer("x", "PluginV3", "Half", PluginType="AreaAttention"), True),
        (layer(f"{BLOCKS[0]}.mixed.map", "PluginV3", "Half"), True),
        (layer("other", "PluginV3", "Half"), False),
        (layer(f"{BLOCKS[0]}.mixed.map", "Shuffle", "Half"), False),
        (layer("__myl_SofMax_myl3_4", "kgen", "Half", nodes=core(BLOCKS[0])), False),
        (layer("alphamha", "kgen", "Half"), False),
    ],
)
def test_fused_kernels_are_known_by_name(row, fused):
    assert told(row, attention_blocks=1).fused_attention == int(fused)


def test_layers_count_by_the_type_they_compute_in():
    vectors, rows = "Thirty-two wide channel vectorized row major Int8 format", "Row major linear FP32"
    layers = told(
        layer("q", "Reformat", rows, vectors),  # moves, and computes nothing
        layer("conv", "CaskConvolution", vectors, rows, Weights={"Type": "Int8", "Count": 9408}),
        layer("last", "CaskConvolution", vectors, vectors),
        layer("half", "CaskConvolution", "Channel major FP16 format where channel % 8 == 0"),
        layer("kgen", "kgen", "Half", "Float"),
        layer("softmax", "CudaSoftMax", rows, rows),
        layer("bf", "kgen", "BFloat16"),
        layer("indices", "kgen", "Int32", "Int64"),
        {"Name": "split keys", "LayerType": "kgen", "Inputs": [tensor("Half", "Datatype")], "Outputs": []},
    )
    assert layers.total == 9
    assert layers.precisions == {"bf16": 1, "fp16": 3, "fp32": 1, "int8": 2}


def test_an_engine_without_details_has_names_only():
    layers = parse_layers(json.dumps({"Layers": ["conv1", "_gemm_mha_v2_myl0_1"]}), attention_blocks=1)
    assert (layers.total, layers.fused_attention, layers.precisions) == (2, 1, {})


@pytest.mark.parametrize("text", ["", "null", "{}", "no json", '{"Layers": []}', '{"Layers": 3}', "[" * 100_000, "[3]"])
def test_what_tells_no_layers_is_an_error(text):
    with pytest.raises(BackendError):
        parse_layers(text)


def test_blocks_are_known_by_their_nodes():
    assert attention_block("model.6.m.0.0.attn.q.conv") == "model.6.m.0.0.attn"
    assert attention_block("model.6.m.0.0.attn") == "model.6.m.0.0.attn"
    assert attention_block("model.6.m.0.0.attnx.q") is None
    assert attention_block("model.6.cv1.conv") is None


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["Layers", "Name", "LayerType", "Inputs", "Outputs", "Metadata", "Weights", "Type"]), inner
        )
    ),
    max_leaves=12,
)


@given(json_values)
def test_any_json_is_layers_or_an_error(value):
    try:
        layers = parse_layers(json.dumps(value))
    except BackendError:
        return
    assert layers.total > 0
    assert layers.fused_attention <= layers.attention_blocks


@pytest.mark.parametrize("metadata", ["[ONNX Layer: " * 60_000, "[ONNX Layer: " + "a.attn" * 60_000 + "]"])
def test_a_long_text_takes_no_long_time(metadata):
    begin = time.process_time()
    assert parse_layers(json.dumps({"Layers": [{"Name": metadata, "Metadata": metadata}]})).total == 1
    assert time.process_time() - begin < 5
