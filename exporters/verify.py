"""Does an export give the same numbers as its source? An export that was not compared is not finished."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt

from ..errors import InputError, VerificationError
from ..imaging.images import read_image
from ..imaging.letterbox import Letterbox
from ..manifest import InputSpec, Manifest, Parity
from ..preprocess import Preprocessor
from ..runtimes import Backend

__all__ = [
    "BOX_TOLERANCE_PX",
    "SCORE_TOLERANCE",
    "Frame",
    "Infer",
    "check_half_parity",
    "check_parity",
    "compare_with_onnx",
    "feeds_of",
    "measure_parity",
    "verification_frames",
]

Frame = npt.NDArray[np.uint8]
Infer = Callable[[Mapping[str, npt.NDArray[Any]]], Mapping[str, npt.NDArray[Any]]]

# Measured on trained weights: 0.0002 px and 1e-6. A wrong fold, layout or constant is off by far more.
BOX_TOLERANCE_PX = 0.02
SCORE_TOLERANCE = 1e-4
# Some networks, above all untrained ones, amplify rounding: then the source's own error is the measure.
_ROUNDING_FACTOR = 5

# Half precision, measured on trained weights: 0.9 px and 0.007. Its step is 2**13 times that of float32, and so is the
# error of networks that amplify rounding.
HALF_BOX_TOLERANCE_PX = 4.0
HALF_SCORE_TOLERANCE = 0.03
_HALF_STEP = 2**13

_SCENES = 3


def verification_frames(images: Sequence[Path | Frame] | None) -> list[Frame]:
    """Return the pictures to compare on: those given, or else a few rendered scenes (never noise).

    Raises:
        InputError: If a file cannot be read, or an empty sequence was given.
    """
    if images is not None:
        if not len(images):
            raise InputError("no image was given to verify the export on", remedy="give some, or leave it to None")
        return [read_image(image) if isinstance(image, Path) else image for image in images]
    from ..data.scenes import render_scene

    return [render_scene(seed=0, split="verify", index=index).image for index in range(_SCENES)]


def feeds_of(spec: InputSpec, frame: Frame) -> tuple[dict[str, npt.NDArray[Any]], Letterbox]:
    """Return what a model is fed with, the same picture in each place of the batch, and the geometry."""
    tensor, letterbox = Preprocessor(spec, pixels=spec.pixels)(frame)
    return {spec.name: np.repeat(tensor, spec.batch, axis=0)}, letterbox


def _plain(spec: InputSpec) -> InputSpec:
    """Return the input of the float ONNX that an export was made from."""
    return msgspec.structs.replace(spec, batch=1, min_batch=None, dtype="float32", layout="NCHW", color="RGB")


def measure_parity(
    reference: Infer, candidate: Infer, manifest: Manifest, frames: Sequence[Frame], *, source: str
) -> Parity:
    """Run both on the same preprocessed pictures and return the largest differences over all candidates.

    Args:
        reference: The source of the export, feeds to outputs: one float image at a time.
        candidate: The export; it gets a whole batch of the same picture, in its own form.
        manifest: Of the export.
        frames: uint8 BGR pictures of any size.
        source: What the reference is, for the report.
    """
    spec = manifest.input
    plain = _plain(spec)
    worst = {"boxes": 0.0, "scores": 0.0}
    for frame in frames:
        expected = reference(feeds_of(plain, frame)[0])
        found = candidate(feeds_of(spec, frame)[0])
        for output in manifest.outputs:
            difference = np.abs(expected[output.name] - found[output.name]).max()
            # NaN must not pass as "no difference".
            worst[output.role] = max(worst[output.role], float(np.nan_to_num(difference, nan=np.inf, posinf=np.inf)))
    return Parity(source=source, images=len(frames), max_box_error_px=worst["boxes"], max_score_error=worst["scores"])


def compare_with_onnx(
    model: Path | bytes, candidate: Backend, manifest: Manifest, frames: Sequence[Frame]
) -> tuple[Parity, Parity]:
    """Return how far an export is from its FP32 ONNX source, and how far that source's float32 is from itself.

    The latter: the source computed in two orders, as it stands and as ONNX Runtime rearranges it.

    Args:
        model: The source, path or content.
        candidate: The export, opened.
        manifest: Of the export.
        frames: uint8 BGR pictures of any size.
    """
    from ..runtimes.ort_backend import OrtBackend

    with (
        closing(OrtBackend(model, device="cpu")) as reference,
        closing(OrtBackend(model, device="cpu", optimize=False)) as in_order,
    ):
        source = "onnx fp32"
        parity = measure_parity(reference.infer, candidate.infer, manifest, frames, source=source)
        plain = msgspec.structs.replace(manifest, input=_plain(manifest.input))
        rounding = measure_parity(reference.infer, in_order.infer, plain, frames, source=source)
    return parity, rounding


def check_parity(parity: Parity, *, rounding: Parity | None = None) -> None:
    """Refuse an FP32 export that does not agree with its source.

    Args:
        parity: How far the export is from the exact source.
        rounding: How far the source's own float32 is from it, which no export can be expected to beat.

    Raises:
        VerificationError: If a box or score differs by more than rounding explains.
    """
    if rounding is not None and not np.isfinite([rounding.max_box_error_px, rounding.max_score_error]).all():
        raise VerificationError(
            f"{parity.source} itself gives values that are not finite in float32",
            remedy="train it further or take another checkpoint; nothing was written",
        )
    _refuse_beyond(
        parity,
        rounding,
        tolerances=(BOX_TOLERANCE_PX, SCORE_TOLERANCE),
        factor=_ROUNDING_FACTOR,
        what="the export",
        remedy="report it with the checkpoint",
    )


def check_half_parity(parity: Parity, *, rounding: Parity | None = None, slack: float = 1.0) -> None:
    """Refuse an FP16 export that is further from its source than half precision explains.

    Args:
        parity: How far the export is from its FP32 source.
        rounding: How far that source's own float32 is from the exact result.
        slack: What to multiply the tolerances with, for an engine that stores more values in half precision than ONNX
            Runtime does.

    Raises:
        VerificationError: If so.
    """
    _refuse_beyond(
        parity,
        rounding,
        tolerances=(slack * HALF_BOX_TOLERANCE_PX, slack * HALF_SCORE_TOLERANCE),
        factor=slack * _HALF_STEP,
        what="the half-precision export",
        remedy="values may overflow half precision: ship FP32",
    )


def _refuse_beyond(
    parity: Parity, rounding: Parity | None, *, tolerances: tuple[float, float], factor: float, what: str, remedy: str
) -> None:
    box, score = tolerances
    if rounding is not None:
        box = max(box, factor * rounding.max_box_error_px)
        score = max(score, factor * rounding.max_score_error)
    if parity.max_box_error_px <= box and parity.max_score_error <= score:
        return
    raise VerificationError(
        f"{what} differs from {parity.source}: boxes by up to {parity.max_box_error_px:.3g} px, "
        f"scores by up to {parity.max_score_error:.3g}",
        expected=f"at most {box:.3g} px and {score:.3g}",
        remedy=f"{remedy}; nothing was written",
    )
