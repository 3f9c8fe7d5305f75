"""``Converter``: what brings float or INT8 ONNX into artifacts that take long to make, or cannot run here."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol, TypeVar

from ..calibration.placement import Target
from ..manifest import Manifest
from ..runtimes import Backend
from .verify import Frame

__all__ = ["Converter", "Progress"]

Progress = Callable[[int, int], None]
"""Called with the number of steps done and of all."""
Self = TypeVar("Self", bound="Converter")


class Converter(Protocol):
    """TensorRT and Core ML have one: recipes are tried in a simulation then, and only what is written is converted."""

    @property
    def format(self) -> str:
        """Of the artifacts."""

    @property
    def target(self) -> Target:
        """Where INT8 models of it run."""

    @property
    def runs_here(self) -> bool:
        """Whether this machine runs what is made, so that it can be measured."""

    @property
    def step(self) -> str:
        """What takes long about it, to be shown; empty if nothing does."""

    def for_pictures(self: Self, model: bytes, manifest: Manifest, frames: Sequence[Frame]) -> Self:
        """Return a converter that keeps in float32 what half precision cannot hold on these pictures.

        Args:
            model: Float ONNX.
            manifest: Its own.
            frames: Real pictures.
        """

    def files(
        self, model: bytes, manifest: Manifest, *, progress: Progress | None = None
    ) -> tuple[Manifest, dict[str, bytes]]:
        """Return the manifest and the files of an artifact.

        Args:
            model: Float ONNX, or with Q/DQ pairs.
            manifest: Its own.
            progress: Called meanwhile.

        Raises:
            Yolo12EdgeError: If the model cannot be converted here.
        """

    def simulation(self, model: bytes, manifest: Manifest, *, threads: int | None) -> Backend:
        """Open what an artifact computes on this machine's CPU: one float image at a time, whatever it takes itself.

        Args:
            model: As for ``files``.
            manifest: Its own.
            threads: Of the CPU.
        """
