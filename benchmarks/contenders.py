"""The models that are compared: whose, for which engine, and how to open them alike."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from peers.fused_output import FusedOutput

from yolo12edge.artifact import Artifact
from yolo12edge.manifest import Manifest
from yolo12edge.runtimes import Backend, Runtime
from yolo12edge.runtimes.openvino_backend import OpenVinoBackend
from yolo12edge.runtimes.ort_backend import OrtBackend

__all__ = ["OPENVINO", "ORT", "Contender", "Engine"]

Engine = Literal["ONNX Runtime", "OpenVINO"]
ORT: Engine = "ONNX Runtime"
OPENVINO: Engine = "OpenVINO"


@dataclass(frozen=True, slots=True)
class Contender:
    """One model file on one engine.

    Attributes:
        maker: Who made the file.
        engine: What runs it.
        precision: ``FP32`` or ``INT8``.
        model: The ``.onnx`` or ``.xml`` file; None if there is none, and ``problem`` says why.
        manifest: How to feed and read it; a peer's model takes that of this project's float model.
        fused: Whether boxes and scores are one output.
        problem: Why it cannot be measured, or empty.
    """

    maker: str
    engine: Engine
    precision: Literal["FP32", "INT8"]
    model: Path | None
    manifest: Manifest
    fused: bool = False
    problem: str = ""

    @classmethod
    def of_artifact(cls, folder: Path) -> Contender:
        """Return the contender that an artifact of this project is."""
        artifact = Artifact.load(folder)
        manifest = artifact.manifest
        engine = OPENVINO if manifest.format == "openvino" else ORT
        return cls(
            "yolo12edge", engine, "INT8" if manifest.precision == "int8" else "FP32", artifact.model_file, manifest
        )

    @property
    def name(self) -> str:
        """Unique among the contenders of one table."""
        return f"{self.engine} {self.precision}, {self.maker}"

    @property
    def bytes(self) -> int:
        """Size of the model, the weights beside an ``.xml`` included."""
        assert self.model is not None
        files = [self.model, self.model.with_suffix(".bin")] if self.model.suffix == ".xml" else [self.model]
        return sum(file.stat().st_size for file in files)

    def open(self, *, threads: int | None = None) -> Runtime:
        """Open it on its engine, by the same code whoever made it."""
        assert self.model is not None
        backend: Backend
        if self.engine == OPENVINO:
            backend = OpenVinoBackend(self.model, device="cpu", threads=threads)
        else:
            backend = OrtBackend(self.model, device="cpu", threads=threads)
        return Runtime.of(FusedOutput(backend, self.manifest) if self.fused else backend, self.manifest)
