"""``Features``: what the input and the outputs of a Core ML package are."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy.typing as npt

from ..errors import ArtifactError, BackendError
from ..manifest import InputSpec, Manifest
from .backend import TensorInfo

__all__ = ["Features", "features_of"]

_TYPES = {"FLOAT32": "float32", "FLOAT16": "float16", "DOUBLE": "float64", "INT32": "int32", "INT8": "int8"}


@dataclass(frozen=True, slots=True)
class Features:
    """Input and outputs of a package.

    Attributes:
        input: The one input. An image is uint8, shape (1, height, width, 3).
        outputs: The outputs.
        image: Whether the input is an image, which Core ML's Python takes as a Pillow image.
        order: Of the pixels that are fed to an image input.
        batches: Least and largest batch of a tensor input whose batch is open; None if it is fixed.
    """

    input: TensorInfo
    outputs: tuple[TensorInfo, ...]
    image: bool
    order: Literal["RGB", "BGR"]
    batches: tuple[int, int] | None

    def check(self, feeds: Mapping[str, npt.NDArray[Any]]) -> None:
        """Refuse feeds that are not the input: Core ML might read past their end.

        Raises:
            BackendError: If they are not.
        """
        expected = self.input
        array = feeds.get(expected.name)
        if len(feeds) == 1 and array is not None and str(array.dtype) == expected.dtype:
            batch, sizes = array.shape[:1], array.shape[1:]
            least, most = self.batches or (expected.shape[0] or 1, expected.shape[0] or 1)
            if sizes == expected.shape[1:] and len(batch) == 1 and least <= batch[0] <= most:
                return
        found = {name: (str(array.dtype), array.shape) for name, array in feeds.items()}
        raise BackendError(f"the feeds are {found}", expected=f"{expected.name}: {expected.dtype} {expected.shape}")


def features_of(description: Any, manifest: Manifest) -> Features:
    """Read what a package says of its input and outputs.

    Args:
        description: A ``ModelDescription``, or the ``FunctionDescription`` of one of its functions.
        manifest: Says which size is meant where the package takes several, and what the outputs are where the package
            leaves that open, as packages with several sizes do.

    Raises:
        ArtifactError: If there is not one input, or it is none that a Runtime can feed.
    """
    inputs = list(description.input)
    if len(inputs) != 1:
        raise ArtifactError(f"the package has {len(inputs)} inputs", expected="one", remedy="export the artifact again")
    (feature,) = inputs
    kind = feature.type.WhichOneof("Type")
    batches: tuple[int, int] | None = None
    if kind == "imageType":
        tensor = _image_input(feature, manifest.input)
    elif kind == "multiArrayType":
        tensor, batches = _array_input(feature, manifest.input)
    else:
        raise ArtifactError(f"input {feature.name!r} is of kind {kind}", expected="an image or a multi-array")
    named = {output.name: output.shape for output in manifest.outputs}
    outputs = tuple(
        _output(output, named.get(output.name, ()), free=batches is not None) for output in description.output
    )
    order: Literal["RGB", "BGR"] = manifest.input.color if manifest.input.pixels else "BGR"
    return Features(tensor, outputs, kind == "imageType", order, batches)


def _image_input(feature: Any, spec: InputSpec) -> TensorInfo:
    image = feature.type.imageType
    color = image.ColorSpace.Name(image.colorSpace)
    if color not in ("RGB", "BGR"):  # Core ML itself brings a picture into the one or the other
        raise ArtifactError(f"input {feature.name!r} takes images of colour space {color}", expected="RGB or BGR")
    height, width = int(image.height), int(image.width)
    kind = image.WhichOneof("SizeFlexibility")
    if kind == "enumeratedSizes":
        sizes = {(int(size.height), int(size.width)) for size in image.enumeratedSizes.sizes}
        if (spec.height, spec.width) in sizes:
            height, width = spec.height, spec.width
    elif kind == "imageSizeRange":
        ranges = image.imageSizeRange
        if _within(spec.height, ranges.heightRange) and _within(spec.width, ranges.widthRange):
            height, width = spec.height, spec.width
    return TensorInfo(feature.name, (1, height, width, 3), "uint8")


def _array_input(feature: Any, spec: InputSpec) -> tuple[TensorInfo, tuple[int, int] | None]:
    array = feature.type.multiArrayType
    shape = tuple(int(size) for size in array.shape)
    kind = array.WhichOneof("ShapeFlexibility")
    meant = (3, spec.height, spec.width)
    batches: list[int] = []
    if kind == "enumeratedShapes":
        shapes = [tuple(int(size) for size in each.shape) for each in array.enumeratedShapes.shapes]
        batches = [each[0] for each in shapes if each[1:] == meant]
    elif kind == "shapeRange":
        ranges = list(array.shapeRange.sizeRanges)
        if len(ranges) == 4 and all(_within(size, each) for size, each in zip(meant, ranges[1:], strict=True)):
            most = int(ranges[0].upperBound)
            batches = [int(ranges[0].lowerBound), spec.batch if most < 0 else most]
    if batches:
        shape = (batches[0], *meant)
    dtype = array.ArrayDataType.Name(array.dataType)
    least, most = (min(batches), max(batches)) if batches else (0, 0)
    if least == most:
        return TensorInfo(feature.name, shape, _TYPES.get(dtype, dtype)), None
    return TensorInfo(feature.name, (None, *shape[1:]), _TYPES.get(dtype, dtype)), (least, most)


def _within(size: int, allowed: Any) -> bool:
    return bool(allowed.lowerBound <= size and (allowed.upperBound < 0 or size <= allowed.upperBound))


def _output(feature: Any, meant: tuple[int, ...], *, free: bool) -> TensorInfo:
    array = feature.type.multiArrayType
    dtype = array.ArrayDataType.Name(array.dataType) if feature.type.WhichOneof("Type") == "multiArrayType" else "none"
    shape: tuple[int | None, ...] = tuple(int(size) for size in array.shape) or meant
    return TensorInfo(feature.name, (None, *shape[1:]) if free and shape else shape, _TYPES.get(dtype, dtype))
