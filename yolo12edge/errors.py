"""Every error that yolo12edge raises on purpose.

Each message says the fact, what was expected and the remedy, in that order, so that the person
who reads it on a robot at night knows what to do next.
"""

from __future__ import annotations

import platform
from functools import partial
from typing import Any, ClassVar

__all__ = [
    "ArtifactError",
    "BackendError",
    "BudgetError",
    "CheckpointError",
    "DatasetError",
    "ExportError",
    "InputError",
    "MissingDependencyError",
    "TrainingError",
    "VerificationError",
    "Yolo12EdgeError",
]


class Yolo12EdgeError(Exception):
    """Base of every yolo12edge error; the command line prints it without a traceback.

    Args:
        fact: What happened, with the value that was found.
        expected: What would have been right, if the fact does not say it.
        remedy: What the user can do about it.

    Attributes:
        exit_code: What the command line ends with.
    """

    exit_code: ClassVar[int] = 2

    def __init__(self, fact: str, *, expected: str = "", remedy: str = "") -> None:
        self.fact = fact
        self.expected = expected
        self.remedy = remedy
        several = "\n" in fact  # a list, a line each
        parts = [fact if several else _sentence(fact)]
        if expected:
            parts.append(f"Expected: {_sentence(expected)}")
        if remedy:
            parts.append(f"Remedy: {_sentence(remedy)}")
        super().__init__(("\n" if several else " ").join(parts))


def _sentence(text: str) -> str:
    return text if text.endswith("?") else text.rstrip(".") + "."


class InputError(Yolo12EdgeError):
    """An argument, image, video or other input of a call is not usable."""


class DatasetError(Yolo12EdgeError):
    """A dataset description, label file or image of a dataset is not usable."""


class CheckpointError(Yolo12EdgeError):
    """A checkpoint file is damaged, foreign, or does not fit the model."""


class ArtifactError(Yolo12EdgeError):
    """An artifact is incomplete, altered, of an unknown schema, or does not fit this machine."""


class BackendError(Yolo12EdgeError):
    """An inference engine, device or precision that was asked for is not to be had."""


class ExportError(Yolo12EdgeError):
    """A conversion from one form of a model to another could not be done."""


class VerificationError(ExportError):
    """A conversion finished, but its result does not agree with its source."""


class TrainingError(Yolo12EdgeError):
    """A training run cannot go on: its loss is not a number, or memory or disk is spent."""


class BudgetError(ExportError):
    """INT8 keeps to its budget only with nothing in INT8: the float artifact is what there is to ship."""

    exit_code = 1


_JETSON = (
    "on Jetson, apt install python3-libnvinfer, and use an environment made with --system-site-packages "
    "(docs/jetson.md); elsewhere pip install tensorrt"
)


def install_remedy(package: str, extra: str) -> str:
    """Return how a package comes: by an extra of ours, but on Jetson TensorRT is the system's, and PyCUDA in none."""
    if package == "pycuda":
        return "pip install pycuda"
    if package == "tensorrt" and platform.machine() == "aarch64":
        return _JETSON
    return f"pip install 'yolo12edge[{extra}]'"


class MissingDependencyError(Yolo12EdgeError):
    """An optional package is needed for this step and is not installed.

    Args:
        package: The distribution that is missing.
        extra: The extra of yolo12edge that brings it.
        purpose: What it is needed for, as the end of the sentence "… is needed".
    """

    def __init__(self, package: str, *, extra: str, purpose: str) -> None:
        self.package = package
        self.extra = extra
        self.purpose = purpose
        super().__init__(
            f"the package {package!r} is not installed; it is needed {purpose}",
            remedy=install_remedy(package, extra),
        )

    def __reduce__(self) -> tuple[Any, ...]:
        # An exception is unpickled from its message alone, which the keyword arguments here do not allow.
        return partial(type(self), extra=self.extra, purpose=self.purpose), (self.package,), self.__dict__
