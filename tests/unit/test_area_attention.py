"""The Triton kernel computes area attention: in Triton's interpreter, against PyTorch in double precision."""

from __future__ import annotations

import json
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

from yolo12edge.errors import InputError
from yolo12edge.exporters.area_attention.shapes import YOLO12_ATTENTION, check_shape
from yolo12edge.exporters.area_attention.tiles import TILES

SCRIPT = Path(__file__).parents[1] / "native" / "area_attention" / "interpret.py"
QUICK = (128, 128, 8, 2)  # not one that is compiled: the interpreter's time goes by the number of steps
needs_triton = pytest.mark.skipif(
    find_spec("triton") is None or find_spec("torch") is None, reason="triton or torch is not installed"
)

CASES = {
    f"{heads} heads, {area} areas, 640 px": (1, heads, area, 640 // stride, 640 // stride, "random", QUICK)
    for heads, area, stride in sorted({kind for kinds in YOLO12_ATTENTION.values() for kind in kinds})
} | {
    "1600 tokens, as at 1280 px": (1, 1, 1, 40, 40, "random", QUICK),
    "100 tokens, two images": (2, 2, 1, 10, 10, "random", None),
    "49 tokens": (1, 1, 1, 7, 7, "random", None),
    "not square, areas of 6": (2, 3, 4, 4, 6, "random", None),
    "one token": (1, 1, 1, 1, 1, "random", None),
    "four areas of one token": (1, 2, 4, 2, 2, "random", None),
    "exactly one tile": (1, 1, 1, 8, 8, "random", None),
    "one more than a tile": (1, 1, 1, 5, 13, "random", None),
    "large logits": (1, 1, 1, 10, 10, "large", None),
    "all logits equal": (1, 1, 1, 10, 10, "equal", None),
    "rising logits": (1, 1, 1, 20, 20, "rising", None),
    "logits far below zero": (1, 1, 1, 10, 15, "negative", None),
}


@pytest.fixture(scope="module")
def errors() -> dict[str, float]:
    """Of every case, and of the small ones with every tile that is compiled."""
    names, cases = [], []
    for name, (images, heads, area, height, width, kind, tile) in CASES.items():
        tiles = [tile] if tile else [(t.queries, t.keys, t.warps, t.stages) for t in TILES.values()]
        for one in tiles:
            names.append(name)
            cases.append(
                {"images": images, "heads": heads, "area": area, "height": height, "width": width}
                | {"kind": kind, "tile": one}
            )
    done = subprocess.run(
        [sys.executable, str(SCRIPT)], input=json.dumps(cases), capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    found: dict[str, float] = {}
    for name, error in zip(names, json.loads(done.stdout), strict=True):
        found[name] = error if name not in found or not error <= found[name] else found[name]
    return found


@needs_triton
@pytest.mark.slow
@pytest.mark.parametrize("name", CASES)
def test_it_agrees_with_attention_in_double_precision(errors: dict[str, float], name: str) -> None:
    assert errors[name] <= 2e-3


def test_yolo12_has_seven_kinds_of_attention() -> None:
    """By what the model is built of, not by this table."""
    torch = pytest.importorskip("torch")
    from yolo12edge.nn import ModelConfig, build_model
    from yolo12edge.nn.blocks import AreaAttention

    for scale, kinds in YOLO12_ATTENTION.items():
        with torch.device("meta"):
            model = build_model(ModelConfig(scale=scale, num_classes=3))
        built = {(m.heads, m.area) for m in model.modules() if isinstance(m, AreaAttention)}
        assert built == {(heads, area) for heads, area, _ in kinds}
    assert len({kind for kinds in YOLO12_ATTENTION.values() for kind in kinds}) == 7


@pytest.mark.parametrize(
    ("shape", "heads", "area", "fact"),
    [
        ((1, 96, 4), 1, 1, "shape"),
        ((1, 97, 4, 4), 1, 1, "shape"),
        ((1, 96, 4, 4), 2, 1, "shape"),
        ((0, 96, 4, 4), 1, 1, "shape"),
        ((1, 96, 3, 3), 1, 4, "cannot be cut into 4"),
        ((1, 96, 4, 4), 0, 1, "heads is 0"),
        ((1, 96, 4, 4), 1, 0, "area is 0"),
    ],
)
def test_a_map_that_does_not_fit_is_refused(shape: tuple[int, ...], heads: int, area: int, fact: str) -> None:
    with pytest.raises(InputError, match=fact):
        check_shape(shape, heads=heads, area=area)
    check_shape((1, 96, 4, 4), heads=1, area=4)
