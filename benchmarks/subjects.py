"""A checkpoint, its data, and every model that this project and its peers make of it."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path

from commands import yolo12edge
from contenders import Contender
from peers.nncf_models import nncf_models
from peers.ultralytics_models import ultralytics_models

from yolo12edge.artifact import Artifact

__all__ = ["FROM_STATISTICS", "Models", "Subject", "make_models"]

FROM_STATISTICS = "export for OpenVINO from the same statistics"


@dataclass(frozen=True, slots=True)
class Subject:
    """What is quantized and scored.

    Attributes:
        name: For the tables.
        checkpoint: The ``.safetensors`` file.
        data: The ``data.yaml``: calibration on ``train``, accuracy on ``val``.
        public: The public ``.pt`` that the checkpoint was imported from, or None.
    """

    name: str
    checkpoint: Path
    data: Path
    public: Path | None = None


@dataclass(frozen=True, slots=True)
class Models:
    """What was made.

    Attributes:
        contenders: Ready to be measured; those with a ``problem`` are not.
        costs: ``seconds`` and ``peak_mb`` of the exports, by what was done.
        verdicts: What each export's own report says, by artifact.
    """

    contenders: list[Contender]
    costs: dict[str, dict[str, float]]
    verdicts: dict[str, list[str]]


def make_models(subject: Subject, *, image_size: int | None, out: Path, peer_python: Path | None) -> Models:
    """Export for both engines with this project's command line, and let the peers do theirs; what is there is kept.

    Args:
        subject: The checkpoint and its data.
        image_size: Side of the input; None takes the checkpoint's own.
        out: Folder for all models.
        peer_python: Interpreter of the peers' environment; None leaves them out.
    """
    stem = subject.checkpoint.stem
    onnx, statistics = out / f"{stem}-fp32", out / f"{stem}.calibration.npz"
    common: list[str | Path] = ["--int8", "--data", subject.data, "--out", out, "--overwrite"]
    size = [] if image_size is None else ["--imgsz", str(image_size)]
    notes = out / "costs.json"
    costs = json.loads(notes.read_text(encoding="utf-8")) if notes.is_file() else {}
    steps: dict[str, list[str | Path]] = {
        "calibration and export for ONNX Runtime": [subject.checkpoint, "--format", "onnx", *size],
        FROM_STATISTICS: [onnx, "--format", "openvino", "--calibration", statistics],
    }
    for step, arguments in steps.items():
        if step not in costs:
            # Exit code 1 is a model that does not keep to its budget: a result too.
            costs[step] = asdict(yolo12edge("export", *arguments, *common, allowed=(0, 1)))
            notes.write_text(json.dumps(costs, indent=2), encoding="utf-8")

    folders = [out / f"{stem}{infix}-{precision}" for infix in ("", "-openvino") for precision in ("fp32", "int8")]
    contenders = [Contender.of_artifact(folder) for folder in folders]
    verdicts = {folder.name: _verdict(folder) for folder in folders if folder.name.endswith("-int8")}
    if peer_python is not None:
        contenders += nncf_models(peer_python, onnx, subject.data, out=out / "nncf")
        if subject.public is not None:
            contenders += ultralytics_models(
                peer_python,
                subject.public,
                subject.data,
                image_size=Artifact.load(onnx).manifest.input.height,
                out=out / "ultralytics",
            )
    return Models(contenders, costs, verdicts)


def _verdict(folder: Path) -> list[str]:
    lines: list[str] = json.loads((folder / "report.json").read_text(encoding="utf-8"))["verdict"]
    return lines
