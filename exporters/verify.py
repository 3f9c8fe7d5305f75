"""Does an export give the same numbers as its source? An export that was not compared is not finished."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt

from ..errors import InputError, VerificationError
from ..imaging.images import read_image
from ..imaging.letterbox import Letterbox
from ..manifest import UNITS, InputSpec, Manifest, OutputSpec, Parity
from ..preprocess import Preprocessor
from ..runtimes import Backend

__all__ = [
    "TOLERANCES",
    "Frame",
    "Infer",
    "Tolerance",
    "check_half_parity",
    "check_parity",
    "compare_with_onnx",
    "feeds_of",
    "measure_parity",
    "verification_frames",
]

Frame = npt.NDArray[np.uint8]
Infer = Callable[[Mapping[str, npt.NDArray[Any]]], Mapping[str, npt.NDArray[Any]]]


@dataclass(frozen=True, slots=True)
class Tolerance:
    """How far an output may be from the source's, in the unit of its values.

    Attributes:
        single: In float32.
        half: In half precision.
    """

    single: float
    half: float


# Measured on trained weights: boxes 0.0002 px, scores 1e-6; in half precision 0.9 px and 0.007. A wrong fold, layout or
# constant is off by far more.
_PIXELS, _PROBABILITY, _RAW = Tolerance(0.02, 4.0), Tolerance(1e-4, 0.03), Tolerance(2e-3, 0.25)
TOLERANCES = {
    "boxes": _PIXELS,
    "scores": _PROBABILITY,
    "coefficients": _RAW,
    "prototypes": _RAW,
    "keypoints": _PIXELS,
    "visibility": _PROBABILITY,
    "rotated_boxes": _PIXELS,
    "angles": Tolerance(3e-4, 0.1),
    "probabilities": _PROBABILITY,
}
"""By role."""
# Some networks, above all untrained ones, amplify rounding: then the source's own error is the measure.
_ROUNDING_FACTOR = 5

# The step of half precision is 2**13 times that of float32, and so is the error of networks that amplify rounding.
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
    worst: dict[str, float] = {}
    for frame in frames:
        expected = reference(feeds_of(plain, frame)[0])
        found = candidate(feeds_of(spec, frame)[0])
        for output in manifest.outputs:
            difference = np.abs(expected[output.name] - found[output.name])
            for name, part in _parts(difference, output, manifest).items():
                # NaN must not pass as "no difference".
                worst[name] = max(worst.get(name, 0.0), float(np.nan_to_num(part.max(), nan=np.inf, posinf=np.inf)))
    return Parity(source=source, images=len(frames), errors=worst)


def _parts(values: npt.NDArray[Any], output: OutputSpec, manifest: Manifest) -> dict[str, npt.NDArray[Any]]:
    """Divide an output by what its values are: of keypoints, pixels and probabilities would hide each other."""
    points = manifest.keypoints
    if output.role != "keypoints" or points is None or points.dimensions == 2:
        return {output.role: values}
    each = values.reshape(len(values), points.count, 3, -1)
    return {"keypoints": each[:, :, :2], "visibility": each[:, :, 2]}


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
        VerificationError: If an output differs by more than rounding explains.
    """
    if rounding is not None and not np.isfinite(list(rounding.errors.values())).all():
        raise VerificationError(
            f"{parity.source} itself gives values that are not finite in float32",
            remedy="train it further or take another checkpoint; nothing was written",
        )
    _refuse_beyond(
        parity,
        rounding,
        tolerances={role: tolerance.single for role, tolerance in TOLERANCES.items()},
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
        tolerances={role: slack * tolerance.half for role, tolerance in TOLERANCES.items()},
        factor=slack * _HALF_STEP,
        what="the half-precision export",
        remedy="values may overflow half precision: ship FP32",
    )


def _refuse_beyond(
    parity: Parity,
    rounding: Parity | None,
    *,
    tolerances: Mapping[str, float],
    factor: float,
    what: str,
    remedy: str,
) -> None:
    allowed = {
        role: max(tolerances[role], factor * rounding.errors[role] if rounding is not None else 0.0)
        for role in parity.errors
    }
    beyond = [role for role, error in parity.errors.items() if not error <= allowed[role]]
    if not beyond:
        return
    found = (f"{role} by up to {_in_unit(parity.errors[role], role)}" for role in beyond)
    raise VerificationError(
        f"{what} differs from {parity.source}: {', '.join(found)}",
        expected=f"at most {', '.join(_in_unit(allowed[role], role) for role in beyond)}",
        remedy=f"{remedy}; nothing was written",
    )


def _in_unit(error: float, role: str) -> str:
    return f"{error:.3g} {UNITS.get(role, '')}".rstrip()
