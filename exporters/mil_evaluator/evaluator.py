"""Running a program: one operator after the other, each result checked against what the program declares."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from ...errors import ExportError, InputError, MissingDependencyError
from .mil_types import Constant
from .operators import OPERATORS, Call, Value, as_array, as_value

if TYPE_CHECKING:
    from .program import Feature, MilProgram, Operation

__all__ = ["Evaluator", "missing_operators"]


def missing_operators(program: MilProgram) -> list[str]:
    """Return the kinds of operators of a program that are not known here, in alphabetical order."""
    return sorted({op.kind for op in program.operations if op.kind not in OPERATORS} | set(program.missing))


class Evaluator:
    """A program made ready to run: its constants in PyTorch, and who needs which value last. Threads may share it.

    Raises:
        MissingDependencyError: If torch is not installed.
        ExportError: If the program has operators that are not known here.
    """

    def __init__(self, program: MilProgram) -> None:
        try:
            import torch  # noqa: F401
        except ImportError as error:
            raise MissingDependencyError("torch", extra="export", purpose="to evaluate a CoreML model") from error
        missing = missing_operators(program)
        if missing:
            raise ExportError(
                f"the CoreML model has operators that cannot be evaluated here: {', '.join(missing)}",
                remedy="write the model without them, or run it on a Mac",
            )
        self._program = program
        used = {one for op in program.operations for ones in op.inputs.values() for one in ones if isinstance(one, str)}
        used |= {feature.name for feature in program.outputs}
        self._constants = {name: as_value(one) for name, one in program.constants.items() if name in used}
        self._inline: dict[int, Value] = {}
        outputs = {feature.name for feature in program.outputs}
        last: dict[str, int] = {}
        for place, op in enumerate(program.operations):
            for one in (one for ones in op.inputs.values() for one in ones):
                if isinstance(one, Constant):
                    self._inline[id(one)] = as_value(one)
                elif one not in self._constants and one not in outputs:
                    last[one] = place
        self._done: list[list[str]] = [[] for _ in program.operations]
        for name, place in last.items():
            self._done[place].append(name)

    def run(self, feeds: Mapping[str, npt.NDArray[Any]]) -> dict[str, npt.NDArray[Any]]:
        """Run the program once; arguments and errors are those of ``MilProgram.run``."""
        import torch

        program = self._program
        names = sorted(feature.name for feature in program.inputs)
        if sorted(feeds) != names:
            raise InputError(f"the feeds are {sorted(feeds)}", expected=f"{names}")
        values = dict(self._constants)
        with torch.inference_mode():
            for feature in program.inputs:
                values[feature.name] = _fed(feature, feeds[feature.name])
            for op, done in zip(program.operations, self._done, strict=True):
                for (name, _), value in zip(op.outputs, self._results(op, values), strict=True):
                    values[name] = value
                for name in done:
                    del values[name]
            return {feature.name: as_array(values[feature.name]) for feature in program.outputs}

    def _results(self, op: Operation, values: Mapping[str, Value]) -> list[Value]:
        arguments = {
            key: tuple(values[one] if isinstance(one, str) else self._inline[id(one)] for one in ones)
            for key, ones in op.inputs.items()
        }
        call = Call(arguments, tuple(declared for _, declared in op.outputs), self._program.opset)
        try:
            found = OPERATORS[op.kind](call)
        except (ValueError, TypeError, IndexError, KeyError, RuntimeError, OverflowError, ZeroDivisionError) as error:
            reason = f"{error.args[0]!s} is missing" if isinstance(error, KeyError) else str(error)
            raise ExportError(f"the operator {op.kind} {op.name!r} cannot be computed: {reason}") from error
        results = found if isinstance(found, list) else [found]
        if len(results) != len(op.outputs):
            raise ExportError(f"{op.kind} {op.name!r} gives {len(results)} values", expected=f"{len(op.outputs)}")
        for value, (name, declared) in zip(results, op.outputs, strict=True):
            if not declared.admits(value.dtype, value.shape):
                raise ExportError(
                    f"the operator {op.kind} gives {name!r} as {value.dtype} {list(value.shape)}",
                    expected=f"{declared}, as the program declares",
                )
        return results


def _fed(feature: Feature, array: npt.NDArray[Any]) -> Value:
    """Return an input as the program takes it."""
    if feature.color is not None:
        if array.dtype != np.uint8 or array.ndim != 3 or not feature.admits((1, array.shape[2], *array.shape[:2])):
            wanted = f"uint8 ({feature.shape[2]}, {feature.shape[3]}, 3), or another size that the model lists"
            raise InputError(f"the picture {feature.name!r} is {array.dtype} {array.shape}", expected=wanted)
        ordered = array if feature.color == "RGB" else array[..., ::-1]
        planes = np.ascontiguousarray(ordered.transpose(2, 0, 1)[None], dtype=np.float32)
        return as_value(Constant(feature.dtype, planes))
    kinds = {"fp16": ("float16", "float32"), "fp32": ("float32",)}.get(feature.dtype, (feature.dtype,))
    if array.dtype.name not in kinds or not feature.admits(array.shape):
        raise InputError(
            f"the input {feature.name!r} is {array.dtype} {array.shape}",
            expected=f"{' or '.join(kinds)} {feature.shape}, or another shape that the model lists",
        )
    return as_value(Constant(feature.dtype, array))
