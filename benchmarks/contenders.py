"""The models that are compared: whose, for which engine, and how to open them alike."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from yolo12edge.artifact import Artifact
from yolo12edge.manifest import Manifest
from yolo12edge.runtimes import Backend, Runtime
from yolo12edge.runtimes.openvino_backend import OpenVinoBackend
from yolo12edge.runtimes.ort_backend import OrtBackend

__all__ = ["OPENVINO", "ORT", "Contender", "Engine"]

Engine = Literal["ONNX Runtime", "OpenVINO"]
Precision = Literal["FP32", "INT8"]
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
        manifest: How to feed and read it, if the file does not say so itself.
        problem: Why it cannot be measured, or empty.
    """

    maker: str
    engine: Engine
    precision: Precision
    model: Path | None
    manifest: Manifest | None = None
    problem: str = ""

    @classmethod
    def of_artifact(cls, folder: Path) -> Contender:
        """Return the contender that an artifact of this project is."""
        artifact = Artifact.load(folder)
        engine = OPENVINO if artifact.manifest.format == "openvino" else ORT
        precision: Precision = "INT8" if artifact.manifest.precision == "int8" else "FP32"
        return cls("yolo12edge", engine, precision, artifact.model_file)

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
        if self.manifest is None:
            return Runtime(self.model, device="cpu", threads=threads)
        backend: Backend
        if self.engine == OPENVINO:
            backend = OpenVinoBackend(self.model, device="cpu", threads=threads, pixels=self.manifest.input)
        else:
            backend = OrtBackend(self.model, device="cpu", threads=threads)
        return Runtime.of(backend, self.manifest)
