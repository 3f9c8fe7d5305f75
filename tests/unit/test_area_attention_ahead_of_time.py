"""What TensorRT gets of the Triton kernel: against a stand-in that checks what ``tensorrt.plugin`` checks."""

from __future__ import annotations

import inspect
import re
import subprocess
import sys
import typing
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from yolo12edge.errors import BackendError, MissingDependencyError
from yolo12edge.exporters.area_attention import ahead_of_time, registered_ahead_of_time
from yolo12edge.exporters.area_attention.shapes import YOLO12_ATTENTION
from yolo12edge.exporters.area_attention.tiles import TILES


class Expression:
    """An extent of a tensor: a formula until the images come. ``constant``: known when the engine is built."""

    def __init__(self, evaluate: Callable[[dict[str, int]], int] | int, *, constant: bool) -> None:
        self._evaluate, self.is_constant = evaluate, constant

    def at(self, sizes: dict[str, int]) -> int:
        return self._evaluate if isinstance(self._evaluate, int) else self._evaluate(sizes)

    def constant_value(self) -> int:
        assert self.is_constant, "not accessible"
        return self.at({})

    def _with(self, other: Expression | int, operation: Callable[[int, int], int]) -> Expression:
        second = other if isinstance(other, Expression) else Expression(other, constant=True)
        assert isinstance(second.constant_value() if second.is_constant else 0, int)
        return Expression(
            lambda sizes: operation(self.at(sizes), second.at(sizes)), constant=self.is_constant and second.is_constant
        )

    def __mul__(self, other: Expression | int) -> Expression:
        return self._with(other, lambda a, b: a * b)

    def __floordiv__(self, other: Expression | int) -> Expression:
        return self._with(other, lambda a, b: a // b)


class SymInt32(Expression):
    def __init__(self, value: Expression | int) -> None:
        assert type(value) in (int, Expression), f"{value!r} is no integer and no expression"
        known = Expression(value, constant=True) if isinstance(value, int) else value
        super().__init__(known.at, constant=known.is_constant)


class SymIntExprs(list[Any]):
    @classmethod
    def from_tuple(cls, values: Any) -> SymIntExprs:
        assert all(isinstance(value, SymInt32) for value in values)
        return cls(values)


class KernelLaunchParams:
    NAMES = ("grid_x", "grid_y", "grid_z", "block_x", "block_y", "block_z", "shared_mem")

    def __init__(self) -> None:
        for name in self.NAMES:
            setattr(self, name, 0 if name == "shared_mem" else 1)

    def __setattr__(self, name: str, value: Any) -> None:
        assert name in self.NAMES
        super().__setattr__(name, SymInt32(value))


class TensorDesc:
    def __init__(self, shape: list[Expression]) -> None:
        self.shape_expr = shape

    def like(self) -> TensorDesc:
        return TensorDesc(list(self.shape_expr))


class AutoTuneCombination:
    def __init__(self, types: str, layouts: str, tactics: list[int]) -> None:
        self.types = [name.strip() for name in types.split(",")]
        self.layouts, self.tactics = layouts, tactics


class Plugin(ModuleType):
    """``tensorrt.plugin``: the decorators look at names, order and annotations as the real ones do."""

    def __init__(self) -> None:
        super().__init__("tensorrt.plugin")
        self.TensorDesc, self.AutoTuneCombination = TensorDesc, AutoTuneCombination
        self.SymInt32, self.SymIntExprs, self.KernelLaunchParams = SymInt32, SymIntExprs, KernelLaunchParams
        self.functions: dict[str, Any] = {}
        self.attributes: dict[str, Any] = {}

    @staticmethod
    def cdiv(first: Expression, second: int) -> Expression:
        return first._with(second, lambda a, b: -(-a // b))

    def register(self, plugin_id: str) -> Callable[[Any], Any]:
        def decorator(function: Any) -> Any:
            assert plugin_id not in self.functions, "registered twice"
            signature = inspect.signature(function)
            first, *others = signature.parameters.values()
            assert issubclass(first.annotation, TensorDesc)
            for parameter in others:
                assert parameter.annotation in (int, float, str, bool, bytes) or (
                    typing.get_origin(parameter.annotation) is np.ndarray
                )
                self.attributes[parameter.name] = parameter.annotation
            assert issubclass(signature.return_annotation, TensorDesc)
            self.functions[plugin_id] = function
            return function

        return decorator

    def _other(self, plugin_id: str, kind: str, last: list[str], returns: Callable[[Any], bool]) -> Any:
        def decorator(function: Any) -> Any:
            assert plugin_id in self.functions
            signature = inspect.signature(function)
            assert list(signature.parameters) == ["qkv", *self.attributes, "outputs", *last]
            for name, parameter in signature.parameters.items():
                if name in self.attributes:
                    assert parameter.annotation == self.attributes[name]
                elif name == "outputs":
                    assert typing.get_origin(parameter.annotation) is tuple
                else:
                    assert issubclass(parameter.annotation, int if name == "tactic" else TensorDesc)
            assert returns(signature.return_annotation)
            self.functions[f"{plugin_id} {kind}"] = function
            return function

        return decorator

    def autotune(self, plugin_id: str) -> Any:
        return self._other(
            plugin_id,
            "autotune",
            [],
            lambda given: (
                typing.get_origin(given) is list and issubclass(typing.get_args(given)[0], AutoTuneCombination)
            ),
        )

    def aot_impl(self, plugin_id: str) -> Any:
        def returns(given: Any) -> bool:
            name, ptx, launch, extra = typing.get_args(given)
            return {name, ptx} <= {str, bytes} and (launch, extra) == (KernelLaunchParams, SymIntExprs)

        return self._other(plugin_id, "aot", ["tactic"], returns)


@pytest.fixture
def plugin(monkeypatch: pytest.MonkeyPatch) -> Iterator[Plugin]:
    pytest.importorskip("triton", reason="triton is not installed")
    library, plugin = ModuleType("tensorrt"), Plugin()
    library.__version__ = "10.13.3.9"  # type: ignore[attr-defined]
    library.QuickPluginCreationRequest = object  # type: ignore[attr-defined]
    library.plugin = plugin  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "tensorrt", library)
    monkeypatch.setitem(sys.modules, "tensorrt.plugin", plugin)
    ahead_of_time._target.clear()
    yield plugin
    ahead_of_time._target.clear()


def extents(heads: int, side: int, *, dynamic: bool) -> list[Expression]:
    images = Expression(lambda sizes: sizes["images"], constant=False)
    known = [Expression(size, constant=True) for size in (96 * heads, side, side)]
    if dynamic:
        known[1:] = [Expression(lambda sizes: sizes["side"], constant=False)] * 2
    return [images, *known]


def implement(plugin: Plugin, heads: int, area: int, qkv: list[Expression], tactic: int) -> Any:
    """Call as TensorRT does: by position, attributes as arrays of one element."""
    attributes = {"heads": np.array([heads], np.int32), "area": np.array([area], np.int32)}
    values = [attributes[name] for name in plugin.attributes]
    described = plugin.functions["yolo12edge::AreaAttention"](
        TensorDesc(qkv), **dict(zip(plugin.attributes, values, strict=True))
    )
    return plugin.functions["yolo12edge::AreaAttention aot"](TensorDesc(qkv), *values, (described,), tactic)


@pytest.mark.parametrize("kind", sorted({kind for kinds in YOLO12_ATTENTION.values() for kind in kinds}))
def test_every_kind_of_attention_is_launched_over_all_its_tokens(plugin: Plugin, kind: tuple[int, int, int]) -> None:
    heads, area, stride = kind
    assert registered_ahead_of_time(87) == "yolo12edge::AreaAttention"
    qkv = extents(heads, 640 // stride, dynamic=False)
    out = plugin.functions["yolo12edge::AreaAttention"](TensorDesc(qkv), area=None, heads=None)
    assert [extent.at({"images": 8}) for extent in out.shape_expr] == [8, 32 * heads, 640 // stride, 640 // stride]
    name, ptx, launch, extra = implement(plugin, heads, area, qkv, 1)
    assert [argument.at({}) for argument in extra] == [400]
    launched = {field: getattr(launch, field).at({"images": 8}) for field in KernelLaunchParams.NAMES}
    assert launched == {
        "grid_x": 7,  # of 64 queries
        "grid_y": heads * area,
        "grid_z": 8,
        "block_x": 128,
        "block_y": 1,
        "block_z": 1,
        "shared_mem": launched["shared_mem"],
    }
    assert 0 < launched["shared_mem"] <= 48 * 1024
    entry = re.search(rf"\.visible \.entry {name.decode()}\(([^)]*)\)", ptx.decode())
    assert entry is not None
    # TensorRT passes inputs, then the extra integers, then outputs.
    assert re.findall(r"\.param (\.\w+)", entry[1]) == [".u64", ".u32", ".u64"]


def test_images_of_a_size_that_comes_later_are_computed_from_it(plugin: Plugin) -> None:
    registered_ahead_of_time(87)
    _, ptx, launch, extra = implement(plugin, 2, 4, extents(2, 0, dynamic=True), 4)
    sizes = {"images": 3, "side": 28}
    assert [argument.at(sizes) for argument in extra] == [196]
    assert [launch.grid_x.at(sizes), launch.grid_y.at(sizes), launch.grid_z.at(sizes)] == [7, 8, 3]  # of 32 queries
    assert b"cp.async" not in ptx  # nothing is known of where rows begin


def test_the_tactics_are_the_tiles_and_their_kernels_differ(plugin: Plugin, tmp_path: Path) -> None:
    registered_ahead_of_time(87)
    (combination,) = plugin.functions["yolo12edge::AreaAttention autotune"](None, None, None, None)
    assert combination.types == ["FP16", "FP16"]
    assert combination.layouts == "LINEAR"
    assert combination.tactics == list(TILES)
    assert min(combination.tactics) > 0  # TensorRT keeps 0
    kernels = [implement(plugin, 2, 4, extents(2, 40, dynamic=False), tactic) for tactic in combination.tactics]
    assert len({ptx for _, ptx, _, _ in kernels}) == len(TILES)
    assert [launch.block_x.at({}) for _, _, launch, _ in kernels] == [32 * tile.warps for tile in TILES.values()]

    from triton.backends.nvidia.compiler import get_ptxas

    for _, ptx, _, _ in kernels:
        (tmp_path / "kernel.ptx").write_bytes(ptx)
        command = [get_ptxas(87).path, "--gpu-name=sm_87", "kernel.ptx", "-o", "kernel.cubin"]
        subprocess.run(command, cwd=tmp_path, check=True)


def test_a_second_call_changes_the_gpu(plugin: Plugin) -> None:
    registered_ahead_of_time(87)
    registered_ahead_of_time(89)
    _, ptx, _, _ = implement(plugin, 2, 4, extents(2, 40, dynamic=False), 1)
    assert b".target sm_89" in ptx


def test_old_libraries_and_old_gpus_are_refused(plugin: Plugin, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(BackendError, match=r"compute capability 75.*C\+\+ plugin"):
        registered_ahead_of_time(75)
    library: Any = sys.modules["tensorrt"]
    library.__version__ = "10.3.0"
    with pytest.raises(BackendError, match=r"TensorRT 10\.3\.0 takes no kernels.*10\.9.*YOLO12EDGE_TENSORRT_PLUGIN"):
        registered_ahead_of_time(87)
    assert not plugin.functions
    monkeypatch.setitem(sys.modules, "tensorrt", None)
    with pytest.raises(MissingDependencyError, match="tensorrt"):
        registered_ahead_of_time(87)


def test_a_registration_that_fails_can_be_tried_again(plugin: Plugin, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as broken:
        broken.setattr(plugin, "register", lambda _: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            registered_ahead_of_time(87)
    registered_ahead_of_time(87)
    assert len(plugin.functions) == 3
