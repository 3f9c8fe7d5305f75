"""The Triton kernel as a TensorRT plugin whose PTX is baked into the engine: running that needs no Python, no Triton.

TensorRT 10.9 or later builds it (``tensorrt.plugin.aot_impl``, experimental there); the C++ plugin serves older ones.
"""

from __future__ import annotations

from threading import Lock
from typing import Any

from ...errors import BackendError, MissingDependencyError
from .shapes import HEAD_CHANNELS
from .tiles import TILES, Tile
from .triton_ptx import CompiledKernel, compile_kernel, minimum_ptx_version

__all__ = ["PLUGIN_ID", "compile_attention", "registered_ahead_of_time"]

PLUGIN_ID = "yolo12edge::AreaAttention"
_OLDEST = (10, 9)

_registering = Lock()
_target: dict[str, int] = {}
"""The compute capability that is compiled for, once registered: there is one registry in a process."""


def compile_attention(tile: Tile, *, heads: int, area: int, capability: int, run: int | None = None) -> CompiledKernel:
    """Compile the kernel for one GPU.

    Its arguments are (qkv, run, out): addresses of 16 bytes, and the tokens of an area between them.

    Args:
        tile: How the work is cut.
        heads: Heads of attention.
        area: Runs that the tokens are cut into.
        capability: Compute capability of the GPU, such as 87.
        run: Tokens of an area where they are known: copies of 16 bytes need a multiple of 16.

    Raises:
        MissingDependencyError: If triton is not installed.
        ExportError: If it cannot be compiled for this GPU.
    """
    try:
        from .kernel import area_attention_kernel
    except ImportError as error:
        raise MissingDependencyError("triton", extra="plugin", purpose="to compile GPU kernels") from error
    return compile_kernel(
        area_attention_kernel,
        signature={"qkv": "*fp16", "run": "i32", "out": "*fp16"},
        constants={
            "HEADS": heads,
            "AREA": area,
            "HEAD_CHANNELS": HEAD_CHANNELS,
            "QUERIES": tile.queries,
            "KEYS": tile.keys,
        },
        capability=capability,
        ptx_version=minimum_ptx_version(capability),
        warps=tile.warps,
        stages=tile.stages,
        aligned=("qkv", "run", "out") if run is not None and run % 16 == 0 else ("qkv", "out"),
    )


def registered_ahead_of_time(capability: int) -> str:
    """Register the plugin in this process, so that a network with an ``AreaAttention`` node can be parsed and built.

    Networks that use it are best created with the flag ``PREFER_AOT_PYTHON_PLUGINS``. A second call changes the GPU.

    Args:
        capability: Compute capability of the GPU that engines are built for, such as 87.

    Returns:
        The plugin's name with its namespace.

    Raises:
        MissingDependencyError: If tensorrt or triton is not installed.
        BackendError: If TensorRT is older than 10.9, or the GPU has no tensor cores that Triton uses.
    """
    try:
        import tensorrt
    except ImportError as error:
        raise MissingDependencyError("tensorrt", extra="tensorrt", purpose="to build TensorRT engines") from error
    version = tuple(int(part) for part in tensorrt.__version__.split(".")[:2])
    if version < _OLDEST or not hasattr(tensorrt, "QuickPluginCreationRequest"):
        raise BackendError(
            f"TensorRT {tensorrt.__version__} takes no kernels of Triton",
            expected="TensorRT 10.9 or later",
            remedy="build the C++ plugin (yolo12edge.exporters.area_attention.build_plugin) and name it in "
            "YOLO12EDGE_TENSORRT_PLUGIN, or export with --attention native",
        )
    if capability < 80:
        raise BackendError(
            f"Triton uses no tensor cores on compute capability {capability}",
            expected="80 or later",
            remedy="build the C++ plugin, which does, or export with --attention native",
        )
    compile_attention(TILES[1], heads=1, area=1, capability=capability)  # better to fail here than inside TensorRT
    with _registering:
        first = not _target
        _target["capability"] = capability
        if first:
            try:
                _register()
            except BaseException:
                _target.clear()
                raise
    return PLUGIN_ID


def _register() -> None:
    """Give TensorRT the four functions of the plugin.

    It checks their annotations as objects, which those of this file are not: they are set by hand. It hands attributes
    over by position, in the order in which the plugin got them: alphabetical, as ONNX writers leave them. They are
    arrays of one element, because TensorRT turns such arrays into integers in a way that NumPy 2.4 refuses.
    """
    import numpy as np
    import numpy.typing as npt
    import tensorrt.plugin as trtp

    desc, outputs_type, number = trtp.TensorDesc, tuple[trtp.TensorDesc], npt.NDArray[np.int32]

    def describe(qkv: Any, area: Any, heads: Any) -> Any:
        out = qkv.like()
        out.shape_expr[1] = qkv.shape_expr[1] // 3
        return out

    describe.__annotations__ = {"qkv": desc, "area": number, "heads": number, "return": desc}
    trtp.register(PLUGIN_ID)(describe)

    def tune(qkv: Any, area: Any, heads: Any, outputs: Any) -> Any:
        return [trtp.AutoTuneCombination("FP16, FP16", "LINEAR", list(TILES))]

    tune.__annotations__ = {
        "qkv": desc,
        "area": number,
        "heads": number,
        "outputs": outputs_type,
        "return": list[trtp.AutoTuneCombination],
    }
    trtp.autotune(PLUGIN_ID)(tune)

    def implement(qkv: Any, area: Any, heads: Any, outputs: Any, tactic: int) -> Any:
        tile = TILES[tactic]
        images, _, height, width = qkv.shape_expr
        areas, all_heads = int(area[0]), int(heads[0])
        run = height * width // areas
        known = run.constant_value() if run.is_constant else None
        kernel = compile_attention(tile, heads=all_heads, area=areas, capability=_target["capability"], run=known)
        launch = trtp.KernelLaunchParams()
        launch.grid_x = trtp.cdiv(run, tile.queries)
        launch.grid_y = all_heads * areas
        launch.grid_z = images
        launch.block_x = kernel.warps * 32
        launch.shared_mem = kernel.shared
        return kernel.name.encode(), kernel.ptx.encode(), launch, trtp.SymIntExprs.from_tuple([trtp.SymInt32(run)])

    implement.__annotations__ = {
        "qkv": desc,
        "area": number,
        "heads": number,
        "outputs": outputs_type,
        "tactic": int,
        "return": tuple[bytes, bytes, trtp.KernelLaunchParams, trtp.SymIntExprs],
    }
    trtp.aot_impl(PLUGIN_ID)(implement)
