"""What a self-test of ``doctor --report`` does, in the process that was started for it.

Engines run YOLO12n at 640 px of the package on one picture that integers alone draw, and are compared with what ONNX
Runtime made of it where this was written: the same picture and the same numbers on every machine.
"""

from __future__ import annotations

import json
import sys
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import MissingDependencyError, VerificationError, Yolo12EdgeError

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from ..manifest import Manifest, TensorRtFormat
    from ..runtimes import Backend
    from ..runtimes.cuda.driver import CudaDevice

__all__ = ["MARK", "RECORDED", "child", "errors_of"]

MARK = "yolo12edge-selftest:"
"""Engines print, too; the lines with this mark are JSON of ours."""

_FRAMES = 10

RECORDED: dict[str, tuple[float, ...]] = {
    "candidates": (5196, 5276, 5356, 5492, 7316, 7476, 7516, 7716, 8331, 8335, 8375, 8392),
    "left": (551.68, 551.44, 551.15, 360.31, 463.80, 463.93, 463.88, 464.47, 146.92, 278.59, 275.18, 178.85),
    "top": (455.09, 462.90, 471.26, 487.67, 240.07, 304.02, 320.08, 400.14, 281.39, 273.57, 339.53, 378.69),
    "right": (670.88, 670.91, 670.84, 478.72, 703.95, 703.86, 703.79, 703.52, 599.82, 728.34, 730.68, 636.31),
    "bottom": (573.22, 581.16, 589.37, 605.45, 478.49, 542.34, 558.52, 638.36, 767.82, 772.52, 841.65, 867.93),
    "score": (
        0.0001262, 0.0001263, 0.0001259, 0.0001255, 0.0001261, 0.0001272,
        0.0001266, 0.0001275, 0.0001508, 0.0001529, 0.0001455, 0.0001444,
    ),
}  # fmt: skip
"""Boxes and best scores of the candidates that the picture moves most, up to 22 px from those of a black one."""

# Measured in half precision on a CPU: 0.1 px. TensorFloat-32 may take as much of FP32.
_TOLERANCE_PX = {"fp32": 0.5, "fp16": 1.0}
_TOLERANCE_SCORE = 2e-6


def child(function: str, arguments: Sequence[str]) -> None:
    """Run a self-test in this process; print what it has done, part by part, and how it ended."""
    sys.modules["openvino_telemetry"] = None  # type: ignore[assignment]  # or openvino would report to a server
    begin = time.monotonic()
    end: dict[str, Any] = {"outcome": "ok"}
    try:
        for part, found in globals()[function](*arguments):
            _say({"part": part, "seconds": round(time.monotonic() - begin, 3), **found})
            begin = time.monotonic()
    except MissingDependencyError as error:
        end = {"outcome": "missing", "text": str(error)}
    except Yolo12EdgeError as error:
        end = {"outcome": "failed", "text": str(error)}
    except Exception as error:  # whatever it is, it is what the report is for
        frames = traceback.extract_tb(error.__traceback__)[-6:]
        way = " > ".join(f"{Path(frame.filename).name}:{frame.lineno} {frame.name}" for frame in frames)
        end = {"outcome": "failed", "text": f"{type(error).__name__}: {error}\n{way}"}
    _say(end)


def _say(line: dict[str, Any]) -> None:
    print(MARK + json.dumps(line), flush=True)


Parts = Iterator[tuple[str, dict[str, Any]]]


def run_bundled(engine: str, device: str) -> Parts:
    """Run the FP32 model on an engine that takes ONNX."""
    from ._measure import bundled_model

    model, manifest = bundled_model("fp32")
    backend: Backend
    if engine == "openvino":
        from ..runtimes.openvino_backend import OpenVinoBackend

        backend = OpenVinoBackend(model, device=device, pixels=manifest.input)
    else:
        from ..runtimes.ort_backend import OrtBackend

        backend = OrtBackend(model, device=device)
    yield "open", {"engine": backend.name, "device": backend.device, "threads": backend.threads}
    yield from _try(backend, manifest)


def make_engine(flavor: TensorRtFormat, precision: str) -> Parts:
    """Build an engine and run it."""
    import msgspec

    from ..runtimes.tensorrt_builder import build_plan
    from ._measure import bundled_model

    model, manifest = bundled_model("fp32")
    manifest = msgspec.structs.replace(manifest, format=flavor)
    if precision == "fp16":  # FP32 needs no onnx package
        from ..exporters.tensorrt_onnx import TensorRtForm, tensorrt_onnx

        model, manifest = tensorrt_onnx(model, manifest, TensorRtForm())
        yield "typed ONNX", {"bytes": len(model)}
    built = build_plan(model, manifest, flavor)
    layers = None if built.layers is None else msgspec.to_builtins(built.layers)
    facts = {"layers": layers, "engine": msgspec.to_builtins(built.facts), "warnings": list(built.warnings)}
    yield "build", {"bytes": len(built.plan), **facts}

    from ..runtimes.tensorrt_backend import TensorRtBackend

    manifest = msgspec.structs.replace(manifest, engine=built.facts)
    backend = TensorRtBackend(built.plan, manifest=manifest, flavor=flavor)
    yield "open", {"engine": backend.name, "device": backend.device}
    yield from _try(backend, manifest)


def _try(backend: Backend, manifest: Manifest) -> Parts:
    """Compare with the recorded outputs, then time frames of 1280x720; closes the backend."""
    import numpy as np

    from ..preprocess import Preprocessor
    from ..runtimes import Runtime

    with closing(backend):
        spec, picture = manifest.input, _picture()
        pixels = backend.inputs[0].dtype == "uint8"
        tensor, _ = Preprocessor(spec, pixels=pixels)(picture)
        outputs = backend.infer({spec.name: tensor})
        boxes, score = errors_of(outputs["boxes"], outputs["scores"])
        tolerance = _TOLERANCE_PX[manifest.precision]
        yield "run", {"box_error_px": boxes, "score_error": score, "tolerance_px": tolerance}
        if not (boxes <= tolerance and score <= _TOLERANCE_SCORE):  # NaN is no agreement
            raise VerificationError(
                f"boxes differ by {boxes:.3g} px and scores by {score:.2g} from those of ONNX Runtime",
                expected=f"at most {tolerance:g} px and {_TOLERANCE_SCORE:g}",
            )
        with Runtime.of(backend, manifest) as runtime:
            frame = np.ascontiguousarray(np.tile(picture, (2, 2, 1))[:720, :1280])
            timings = [runtime(frame).timing for _ in range(_FRAMES)]
        median = {
            f"{stage}_ms": round(float(np.median([getattr(one, f"{stage}_ms") for one in timings])), 3)
            for stage in ("pre", "infer", "post")
        }
        yield "time", {"frames": _FRAMES, **median}


def errors_of(boxes: npt.NDArray[np.float32], scores: npt.NDArray[np.float32]) -> tuple[float, float]:
    """Return the largest differences from ``RECORDED``, in pixels and of scores.

    Args:
        boxes: (1, 4, candidates).
        scores: (1, classes, candidates).
    """
    import numpy as np

    chosen = np.array(RECORDED["candidates"], np.int64)
    expected = np.array([RECORDED[side] for side in ("left", "top", "right", "bottom")])
    box = np.abs(boxes[0][:, chosen] - expected).max()
    score = np.abs(scores[0][:, chosen].max(axis=0) - np.array(RECORDED["score"])).max()
    return round(float(box), 4), float(f"{float(score):.3g}")


def _picture() -> npt.NDArray[np.uint8]:
    """Return the picture: uint8, shape (640, 640, 3), ramps and a chequerboard."""
    import numpy as np

    y, x = np.mgrid[:640, :640]
    return np.stack([x * 255 // 639, y * 255 // 639, (x // 40 + y // 40) % 2 * 200 + 20], axis=-1).astype(np.uint8)


def reach_gpus() -> Parts:
    """Reach every GPU, and bring memory there and back."""
    import numpy as np

    from ..runtimes.cuda import open_cuda

    cuda = open_cuda()
    yield "import", {"library": cuda.name, "graphs": cuda.has_graphs}
    count = cuda.device_count()
    yield "driver", {"devices": count}
    for index in range(count):
        device = cuda.open(index)
        with closing(device):
            device.activate()
            facts, free = device.facts, device.free_bytes()
            sent = np.arange(1 << 20, dtype=np.uint8)

            def copy(source: int, target: int, stream: int, device: CudaDevice = device) -> None:
                device.copy_to_device(target, source, 1 << 20, stream)

            back = _round_trip(device, sent, sent.nbytes, copy)
        found = {
            "name": facts.name,
            "architecture": facts.architecture,
            "integrated": facts.integrated,
            "memory_bytes": facts.total_bytes,
            "free_bytes": free,
            "driver_cuda": "{}.{}".format(*facts.driver_cuda),
        }
        yield f"GPU {index}", found
        if not np.array_equal(sent, back):
            raise VerificationError(f"GPU {index} gave back other bytes than it was given")


def _round_trip(
    device: CudaDevice, sent: npt.NDArray[np.uint8], size: int, work: Callable[[int, int, int], None]
) -> npt.NDArray[np.uint8]:
    """Return ``size`` bytes of the device, after ``work(host address of what is sent, device address, stream)``."""
    import ctypes

    import numpy as np

    with ExitStack() as stack:
        stream = device.stream()
        stack.callback(device.destroy_stream, stream)
        there = device.allocate_host(max(size, sent.nbytes), mapped=False)
        stack.callback(device.free_host, there)
        target = device.allocate(size)
        stack.callback(device.free, target)
        host = np.ctypeslib.as_array((ctypes.c_uint8 * there.size).from_address(there.address))
        host[: sent.nbytes] = sent.reshape(-1)
        work(there.address, target, stream)
        device.synchronize(stream)
        host[:] = 0
        device.copy_to_host(there.address, target, size, stream)
        device.synchronize(stream)
        back: npt.NDArray[np.uint8] = host[:size].copy()
        return back


def letterbox_on_gpu() -> Parts:
    """Prepare a frame on the first GPU, and compare with what the CPU makes of it."""
    import msgspec
    import numpy as np

    from ..manifest import InputSpec
    from ..preprocess import Preprocessor
    from ..runtimes.cuda import open_cuda
    from ..runtimes.cuda.letterbox import DeviceLetterbox

    cuda = open_cuda()
    device = cuda.open(0)
    with closing(device):
        device.activate()
        frame, shape = np.ascontiguousarray(_picture()[:360, :500]), (360, 500)
        for precise in (True, False):
            spec = InputSpec(name="images", batch=1, height=640, width=640)
            if not precise:
                spec = msgspec.structs.replace(spec, dtype="uint8", layout="NHWC", color="BGR")
            expected, _ = Preprocessor(spec, pixels=spec.pixels)(frame)
            with DeviceLetterbox(device, spec) as letterbox:

                def prepare(host: int, target: int, stream: int, letterbox: DeviceLetterbox = letterbox) -> None:
                    source = device.allocate(frame.nbytes)
                    try:
                        device.copy_to_device(source, host, frame.nbytes, stream)
                        letterbox.launch(source, frame.strides[0], *shape, "bgr", target, stream)
                        device.synchronize(stream)
                    finally:
                        device.free(source)

                back = _round_trip(device, frame, expected.nbytes, prepare)
            found = back.view(expected.dtype).reshape(expected.shape)
            step = 1.0 if spec.pixels else spec.scale
            levels = np.abs(found.astype(np.float64) - expected) / step
            worst = round(float(levels.max()), 4)
            yield spec.dtype, {"largest_grey_levels": worst, "different": int((levels > 0.01).sum())}
            if not worst <= 1.01:
                raise VerificationError(f"the GPU's picture differs by {worst:g} grey levels", expected="at most 1")
