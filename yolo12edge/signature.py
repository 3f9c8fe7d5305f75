"""``Signature``: what goes into a model file and what comes out, read without its engine."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["Signature", "Tensor"]


@dataclass(frozen=True, slots=True)
class Tensor:
    """One input or output.

    Attributes:
        name: As the engine reports it.
        dtype: Name of the NumPy type, or what the file says where there is none.
        shape: Sizes; None where the model leaves one open.
    """

    name: str
    dtype: str
    shape: tuple[int | None, ...]

    def __str__(self) -> str:
        sizes = "x".join("?" if size is None else str(size) for size in self.shape)
        return f"{self.name[:60]!r} {sizes} {self.dtype[:20]}"


@dataclass(frozen=True, slots=True)
class Signature:
    """Inputs and outputs of a model.

    Attributes:
        quantized: Whether it has operators that round values to integers.
        half: Whether it stores weights in half precision.
    """

    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]
    quantized: bool
    half: bool
