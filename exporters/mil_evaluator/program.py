"""``MilProgram``: the ML Program of a package, as plain data: inputs, constants, operators, outputs."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ...errors import ArtifactError, ExportError, InputError
from ..coreml_library import import_coremltools
from .constants import CONSTANT_OPERATORS, expand
from .evaluator import Evaluator
from .mil_types import LARGEST, Constant, TensorType, damaged, from_packed, type_numbered
from .package import Package

__all__ = ["Argument", "Feature", "MilProgram", "Operation"]

Argument = str | Constant
"""What an operator takes: the name of a value, or a value itself."""

_NAMES = {65568: "fp32", 65552: "fp16", 131104: "int32", 131080: "int8"}  # ArrayFeatureType.ArrayDataType
_COLORS = {20: "RGB", 30: "BGR"}  # ImageFeatureType.ColorSpace
_MAIN = "main"


@dataclass(frozen=True, slots=True)
class Feature:
    """An input or output of the model, as its description promises it.

    Attributes:
        name: Of the value.
        dtype: Of the program's value, ``"fp32"`` say.
        shape: By default; empty where the description leaves that of an output open. Of an image (1, 3, height, width).
        choices: Further shapes, where they are enumerated.
        bounds: The least and the largest size of each axis, where they may vary; a largest of -1 is none.
        color: ``"RGB"`` or ``"BGR"`` if the model takes a picture of 8 bits here, None for a tensor.
    """

    name: str
    dtype: str
    shape: tuple[int, ...]
    choices: tuple[tuple[int, ...], ...] = ()
    bounds: tuple[tuple[int, int], ...] = ()
    color: str | None = None

    def admits(self, shape: tuple[int, ...]) -> bool:
        """Whether the model takes this shape."""
        if shape == self.shape or shape in self.choices:
            return True
        return len(shape) == len(self.bounds) and all(
            low <= size and (size <= high or high < 0) for size, (low, high) in zip(shape, self.bounds, strict=True)
        )


@dataclass(frozen=True, slots=True, eq=False)
class Operation:
    """One operator: its inputs by parameter, several where it takes a list, and its outputs with their types."""

    kind: str
    name: str
    inputs: Mapping[str, tuple[Argument, ...]]
    outputs: tuple[tuple[str, TensorType], ...]


class MilProgram:
    """A program that was read and checked, and can be run. Threads may share it.

    Attributes:
        inputs: As the model's description promises them.
        outputs: Likewise.
        operations: In order, without those that only hold or expand constants.
        constants: By name, expanded.
        missing: Kinds of ``constexpr`` operators that are not known here; what depends on them cannot be run.
        opset: Generation of the operators: 5 for iOS 15, 6 for iOS 16, and so on.
        metadata: What the author wrote into the model, by key.
    """

    def __init__(
        self,
        *,
        inputs: tuple[Feature, ...],
        outputs: tuple[Feature, ...],
        operations: tuple[Operation, ...],
        constants: Mapping[str, Constant],
        missing: tuple[str, ...],
        opset: int,
        metadata: Mapping[str, str],
    ) -> None:
        self.inputs = inputs
        self.outputs = outputs
        self.operations = operations
        self.constants = constants
        self.missing = missing
        self.opset = opset
        self.metadata = metadata
        self._evaluator: Evaluator | None = None

    @classmethod
    def load(cls, source: Path | Mapping[str, bytes], *, function: str | None = None) -> MilProgram:
        """Read a package: the very bytes that Apple's compiler would read.

        Args:
            source: Path of the ``.mlpackage`` directory; or its files by relative path, below any folder.
            function: Which one, of a package with several; None is its default, as for Core ML.

        Raises:
            MissingDependencyError: If coremltools is not installed.
            InputError: If it has no such function.
            ArtifactError: If the package is damaged, or is no ML Program.
            ExportError: If a compressed constant cannot be expanded.
        """
        import_coremltools()
        from coremltools.proto import Model_pb2

        package = Package(source)
        content, model = package.model(), Model_pb2.Model()
        try:
            model.ParseFromString(content)
        except Exception as error:  # protobuf's own, of which nothing else here knows
            raise damaged(f"{package.model_path!r} cannot be decoded") from error
        kind = model.WhichOneof("Type")
        if kind != "mlProgram":
            raise ArtifactError(f"the CoreML model is of the kind {kind}", expected="one ML Program")
        return _Reader(package, model, function).program()

    def run(self, feeds: Mapping[str, npt.NDArray[Any]]) -> dict[str, npt.NDArray[Any]]:
        """Run the program.

        Args:
            feeds: One array for each input, by name. A picture is uint8, shape (height, width, 3), RGB, whatever the
                order of colours that the model wants. A tensor is of the input's type, or float32 for float16.

        Returns:
            One array for each output, by name, float32, float16 or of the whole numbers that the program has.

        Raises:
            MissingDependencyError: If torch is not installed.
            InputError: If the feeds are not the inputs.
            ExportError: If the program has operators that are not known here, which the message names, or one of them
                cannot be computed, or does not give what the program declares.
        """
        if self._evaluator is None:
            self._evaluator = Evaluator(self)
        return self._evaluator.run(feeds)


class _Reader:
    """Reads one program; the messages of protobuf stay in here."""

    def __init__(self, package: Package, model: Any, function: str | None) -> None:
        self._package = package
        self._model = model
        self._function = function
        self._constants: dict[str, Constant] = {}
        self._types: dict[str, TensorType] = {}  # of every value so far, by name
        self._missing: dict[str, None] = {}

    def program(self) -> MilProgram:
        name, description = self._described()
        main, opset = self._main(name)
        for value in main.inputs:
            self._declare(value.name, self._type(value.type))
        block = main.block_specializations[main.opset]
        operations = tuple(self._operations(block))
        inputs = tuple(self._feature(one, "input") for one in description.input)
        outputs = tuple(self._feature(one, "output") for one in description.output)
        for kind, described, given in (
            ("inputs", inputs, [value.name for value in main.inputs]),
            ("outputs", outputs, list(block.outputs)),
        ):
            if sorted(one.name for one in described) != sorted(given) or len(set(given)) != len(given):
                raise damaged(f"it describes the {kind} {[one.name for one in described]}", expected=f"{given}")
        return MilProgram(
            inputs=inputs,
            outputs=outputs,
            operations=operations,
            constants=self._constants,
            missing=tuple(self._missing),
            opset=opset,
            metadata=dict(self._model.description.metadata.userDefined),
        )

    def _described(self) -> tuple[str, Any]:
        """Return the name of the function to read, and what describes its inputs and outputs."""
        description = self._model.description
        every = {one.name: one for one in description.functions} or {_MAIN: description}
        if self._function is not None and self._function not in every:
            raise InputError(f"there is no function {self._function!r}", expected=f"one of {', '.join(every)}")
        name = self._function or description.defaultFunctionName or _MAIN
        if name not in every:
            raise damaged(f"its default function {name!r} is not described")
        return name, every[name]

    def _main(self, name: str) -> tuple[Any, int]:
        functions = self._model.mlProgram.functions
        if name not in functions:
            raise ArtifactError(f"the ML Program has the functions {sorted(functions)}", expected=f"{name!r}")
        main = functions[name]
        opset = main.opset.removeprefix("CoreML")
        if main.opset not in main.block_specializations or not re.fullmatch("[0-9]{1,3}", opset):
            raise damaged(f"its operators are of the set {main.opset!r}", expected="one that it has")
        return main, int(opset)

    def _operations(self, block: Any) -> Iterator[Operation]:
        for op in block.operations:
            outputs = tuple((value.name, self._type(value.type)) for value in op.outputs)
            if op.type == "const":
                self._hold(op, outputs)
            elif op.type.startswith("constexpr_"):
                self._expand(op, outputs)
            else:
                inputs = {key: self._arguments(value, key, op.type) for key, value in op.inputs.items()}
                yield Operation(op.type, outputs[0][0] if outputs else "without outputs", inputs, outputs)
            for name, declared in outputs:  # not before: no operator takes what it gives
                self._declare(name, declared)

    def _declare(self, name: str, declared: TensorType) -> None:
        if not name or name in self._types:
            raise damaged(f"the value {name!r} is defined twice" if name else "a value has no name")
        self._types[name] = declared

    def _arguments(self, argument: Any, key: str, kind: str) -> tuple[Argument, ...]:
        found: list[Argument] = []
        for binding in argument.arguments:
            if binding.WhichOneof("binding") == "value":
                found.append(self._value(binding.value))
            elif binding.name in self._types:
                found.append(binding.name)
            else:
                raise damaged(f"{key!r} of an operator {kind!r} is {binding.name!r}, which does not exist there")
        return tuple(found)

    def _hold(self, op: Any, outputs: tuple[tuple[str, TensorType], ...]) -> None:
        if len(outputs) != 1 or "val" not in op.attributes:
            raise damaged("a constant has no value or not one name")
        name, declared = outputs[0]
        self._keep(name, declared, self._value(op.attributes["val"]))

    def _expand(self, op: Any, outputs: tuple[tuple[str, TensorType], ...]) -> None:
        """Expand a compressed constant; its parts are attributes up to iOS 17, and inputs since then."""
        if op.type not in CONSTANT_OPERATORS:
            self._missing[op.type] = None
            return
        if len(outputs) != 1:
            raise damaged(f"an operator {op.type!r} has {len(outputs)} outputs")
        name, declared = outputs[0]
        parts = {key: self._value(value) for key, value in op.attributes.items() if key != "name"}
        for key, argument in op.inputs.items():
            found = self._arguments(argument, key, op.type)
            one = found[0] if len(found) == 1 else None
            if isinstance(one, str):
                one = self._constants.get(one)
            if one is None:
                if self._missing:  # it may be what one of these would have made
                    return
                raise damaged(f"{key!r} of {op.type} {name!r} is not a constant")
            parts[key] = one

        try:
            self._keep(name, declared, expand(op.type, parts))
        except KeyError as error:
            raise ExportError(f"{op.type} {name!r} has no {error}") from error
        except (ValueError, TypeError, IndexError) as error:
            raise ExportError(f"{op.type} {name!r} cannot be expanded: {error}") from error

    def _keep(self, name: str, declared: TensorType, constant: Constant) -> None:
        if declared.dtype and not declared.admits(constant.dtype, constant.array.shape):
            found = f"{constant.dtype} {list(constant.array.shape)}"
            raise ExportError(f"the constant {name!r} is {found}", expected=f"{declared}, as the program declares")
        self._constants[name] = constant

    def _type(self, proto: Any) -> TensorType:
        if proto.WhichOneof("type") != "tensorType":
            return TensorType("", None)
        tensor = proto.tensorType
        kind = type_numbered(tensor.dataType)
        sizes: list[int | None] = []
        total = 1
        for dimension in tensor.dimensions:
            if dimension.WhichOneof("dimension") == "constant":
                sizes.append(dimension.constant.size)
                total *= max(1, dimension.constant.size)
            elif dimension.unknown.variadic:
                return TensorType(kind.name, None)
            else:
                sizes.append(None)
        if total > LARGEST:
            raise damaged(f"a tensor has the shape {sizes}", expected=f"at most {LARGEST} elements")
        if tensor.rank not in (len(sizes), -1):
            raise damaged(f"a tensor has {len(sizes)} sizes and rank {tensor.rank}")
        return TensorType(kind.name, tuple(sizes))

    def _value(self, value: Any) -> Constant:
        declared = self._type(value.type)
        where = value.WhichOneof("value")
        if not declared.dtype:
            return Constant("", np.empty(0))
        if declared.shape is None or None in declared.shape:
            raise damaged("a constant has an open shape")
        shape: tuple[int, ...] = declared.shape  # type: ignore[assignment]
        count = int(np.prod(shape, dtype=np.int64))
        kind = type_numbered(value.type.tensorType.dataType)
        if where == "blobFileValue":
            if kind.blob is None:
                raise damaged(f"a {kind.name} is said to lie in a weight file")
            file = self._package.weights(value.blobFileValue.fileName)
            return Constant(kind.name, file.array(value.blobFileValue.offset, kind, count).reshape(shape))
        if where != "immediateValue" or value.immediateValue.WhichOneof("value") != "tensor":
            raise damaged("a constant has no value")
        tensor = value.immediateValue.tensor
        if tensor.WhichOneof("value") != kind.field:
            raise damaged(f"a constant of {kind.name} is held as {tensor.WhichOneof('value')}", expected=kind.field)
        values = getattr(tensor, kind.field).values
        if kind.field == "bytes":
            return Constant(kind.name, from_packed(values, kind, count).reshape(shape))
        if len(values) != count:
            raise damaged(f"a constant has {len(values)} values", expected=f"{count}")
        try:
            array = np.array(list(values), dtype=kind.array)
        except OverflowError as error:
            raise damaged(f"a constant of {kind.name} does not fit its type") from error
        return Constant(kind.name, array.reshape(shape))

    def _feature(self, feature: Any, role: str) -> Feature:
        """Return an input or output; its description must say what the program says."""
        name = feature.name
        program = self._types.get(name)
        if program is None:
            raise damaged(f"it describes the {role} {name!r}, which the program does not have")
        kind = feature.type.WhichOneof("Type")
        if kind == "imageType":
            found = _image(name, program.dtype, feature.type.imageType, role)
        elif kind == "multiArrayType":
            found = _array(name, feature.type.multiArrayType)
        else:
            raise ArtifactError(f"the {role} {name!r} is of the kind {kind}", expected="an image or an array")
        if role == "input" and not found.shape:
            raise damaged(f"the input {name!r} has no shape")
        every = [shape for shape in (found.shape, *found.choices) if shape or role == "input"]
        if found.dtype != program.dtype or not all(program.admits(found.dtype, shape) for shape in every):
            raise ArtifactError(
                f"the {role} {name!r} is described as {found.dtype} {list(found.shape)}",
                expected=f"{program}, as in the program",
                remedy="export the model again",
            )
        return found


def _image(name: str, dtype: str, image: Any, role: str) -> Feature:
    color = _COLORS.get(image.colorSpace)
    if color is None or role != "input":
        raise ArtifactError(f"the {role} {name!r} is an image of the kind {image.colorSpace}", expected="an RGB input")

    def shape(size: Any) -> tuple[int, ...]:
        return 1, 3, int(size.height), int(size.width)

    flexible = image.WhichOneof("SizeFlexibility")
    choices = tuple(shape(size) for size in image.enumeratedSizes.sizes) if flexible == "enumeratedSizes" else ()
    bounds: tuple[tuple[int, int], ...] = ()
    if flexible == "imageSizeRange":
        sides = (image.imageSizeRange.heightRange, image.imageSizeRange.widthRange)
        bounds = ((1, 1), (3, 3), *((int(side.lowerBound), int(side.upperBound)) for side in sides))
    return Feature(name, dtype, shape(image), choices=choices, bounds=bounds, color=color)


def _array(name: str, array: Any) -> Feature:
    dtype = _NAMES.get(array.dataType)
    if dtype is None:
        raise damaged(f"{name!r} is an array of type {array.dataType}", expected=f"one of {', '.join(_NAMES.values())}")
    flexible = array.WhichOneof("ShapeFlexibility")
    choices: tuple[tuple[int, ...], ...] = ()
    bounds: tuple[tuple[int, int], ...] = ()
    if flexible == "enumeratedShapes":
        choices = tuple(tuple(one.shape) for one in array.enumeratedShapes.shapes)
    elif flexible == "shapeRange":
        bounds = tuple((int(one.lowerBound), int(one.upperBound)) for one in array.shapeRange.sizeRanges)
    return Feature(name, dtype, tuple(array.shape), choices=choices, bounds=bounds)
