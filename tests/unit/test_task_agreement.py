"""INT8 beside float for every task: agreement without labels, the loss on raw outputs, and what the card says."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from tests.task_data import make_dataset
from yolo12edge.benchmark.latency import LatencySummary
from yolo12edge.calibration.agreement import agreement_of
from yolo12edge.calibration.card import write_card
from yolo12edge.calibration.output_loss import OutputLoss
from yolo12edge.calibration.recipe import Recipe
from yolo12edge.calibration.results import GuardResult
from yolo12edge.calibration.verdict import verdict_lines
from yolo12edge.data.dataset import read_dataset
from yolo12edge.detections import Detections
from yolo12edge.keypoints import KeypointSpec
from yolo12edge.manifest import InputSpec, Manifest, OutputSpec, Provenance, Task, output_shapes
from yolo12edge.masks import Masks
from yolo12edge.metrics import Measure, Target, evaluate_runtime

TASKS: tuple[Task, ...] = ("detect", "segment", "classify", "pose", "obb")
SPEC = KeypointSpec(count=3)
NAMES = ("a", "b")
SIDE, CANDIDATES = 64, 84


def raw(task: Task, rng: np.random.Generator) -> dict[str, npt.NDArray[np.float32]]:
    """Return outputs as a model of the task gives them: of 84 candidates a dozen are objects."""
    spec = InputSpec(name="images", batch=1, height=SIDE, width=SIDE)
    shapes = output_shapes(task, spec, classes=2, keypoints=SPEC if task == "pose" else None)
    values = {
        role: rng.normal(0, 1, [CANDIDATES if side is None else side for side in shape]).astype(np.float32)
        for role, shape in shapes.items()
    }
    corner = rng.uniform(0, 30, (1, 2, CANDIDATES))
    size = rng.uniform(12, 34, (1, 2, CANDIDATES))
    made: dict[str, Any] = {
        "boxes": np.concatenate([corner, corner + size], axis=1),
        "scores": np.where(np.arange(CANDIDATES) % 7 == 0, rng.uniform(0.3, 0.9, (1, 2, CANDIDATES)), 0.0),
        "rotated_boxes": np.concatenate([corner + size / 2, size * (1, 0.5)[0]], axis=1),
        "angles": rng.uniform(-0.7, 2.3, (1, 1, CANDIDATES)),
        "keypoints": rng.uniform(0, SIDE, (1, 9, CANDIDATES)),
        "probabilities": np.array([[0.7, 0.3]]),
    }
    return {role: np.asarray(made.get(role, value), np.float32) for role, value in values.items()}


MOVED = {  # by how much each role moves what is found
    "boxes": 4.0,
    "scores": -0.1,
    "coefficients": 1.0,
    "prototypes": 1.0,
    "keypoints": 5.0,
    "rotated_boxes": 4.0,
    "angles": 0.3,
}


@pytest.mark.parametrize("task", TASKS)
def test_the_loss_sees_every_output(task: Task) -> None:
    rng = np.random.default_rng(0)
    outputs = raw(task, rng)
    manifest: Any = SimpleNamespace(
        task=task, keypoints=SPEC, outputs=[SimpleNamespace(role=role, name=f"of_{role}") for role in outputs]
    )

    def named(values: dict[str, Any]) -> dict[str, Any]:
        return {f"of_{role}": value for role, value in values.items()}

    loss = OutputLoss(manifest, [named(outputs)])
    assert loss([named(outputs)]) == pytest.approx(0, abs=2e-3)  # probabilistic IoU of a box with itself is 0.9997
    for role, values in outputs.items():
        noise = rng.normal(0, 1, values.shape).astype(np.float32)
        noise = np.abs(noise) if role == "scores" else noise
        step = MOVED.get(role, 0.1) * noise
        little, more = (loss([named({**outputs, role: values + share * step})]) for share in (0.2, 1.0))
        assert 0 < little < more, role
        broken = values.copy()
        broken.flat[0] = np.nan
        assert loss([named({**outputs, role: broken})]) == float("inf")


def test_classes_of_whole_images_are_compared_by_their_probabilities() -> None:
    manifest: Any = SimpleNamespace(
        task="classify", keypoints=None, outputs=[SimpleNamespace(role="probabilities", name="p")]
    )
    loss = OutputLoss(manifest, [{"p": np.array([[0.7, 0.3]], np.float32)}])
    assert loss([{"p": np.array([[0.5, 0.5]], np.float32)}]) == pytest.approx(0.2)


def parts(task: Task, shift: float) -> Detections:
    """Two objects, moved to the right."""
    box = np.array([[10, 10, 50, 40], [60, 60, 90, 90]], np.float32) + np.array([shift, 0, shift, 0], np.float32)
    rings = [[np.array([[b[0], b[1]], [b[2], b[1]], [b[2], b[3]], [b[0], b[3]]])] for b in box]
    centre, size = (box[:, :2] + box[:, 2:]) / 2, box[:, 2:] - box[:, :2]
    points = np.concatenate([centre, np.ones((2, 1))], axis=1)[:, None].repeat(3, axis=1)
    extra: dict[str, dict[str, Any]] = {
        "segment": {"mask": Masks.of_polygons(rings, (100, 200))},
        "pose": {"keypoints": points},
        "obb": {"obb": np.concatenate([centre, size, np.zeros((2, 1))], axis=1)},
    }
    return Detections(box, np.array([0.9, 0.1]), np.array([0, 1]), **extra.get(task, {}))


@pytest.mark.parametrize("task", ["detect", "segment", "obb"])
def test_agreement_by_the_overlap_of_the_task(task: Task) -> None:
    measure = Measure(task, NAMES, SPEC)
    near = agreement_of([parts(task, 8)], [parts(task, 0)], measure)
    assert (near.reference_objects, near.objects, near.matched) == (1, 1, 1)  # the other is not sure enough
    assert near.mean_iou == pytest.approx(32 / 48, abs=1e-4)
    assert near.measure == measure.overlap.name
    assert agreement_of([parts(task, 16)], [parts(task, 0)], measure).matched == 0


def test_agreement_of_keypoints() -> None:
    measure = Measure("pose", NAMES, SPEC)
    near = agreement_of([parts("pose", 8)], [parts("pose", 0)], measure)
    # 8 px, sigma 1/3, area 0.53 · 40 · 30
    assert near.mean_iou == pytest.approx(np.exp(-64 / ((2 / 3) ** 2 * 636 * 2)), abs=1e-4)
    far = parts("pose", 0)
    assert far.keypoints is not None
    moved = replace(far, keypoints=far.keypoints + np.array([30, 0, 0], np.float32))
    assert agreement_of([moved], [far], measure).matched == 0  # the boxes are the same


def said(*probs: tuple[float, float]) -> list[Detections]:
    frame = np.array([[0, 0, 9, 9]], np.float32)
    return [Detections(frame, np.array([max(p)]), np.array([int(np.argmax(p))]), probs=np.array([p])) for p in probs]


def test_agreement_of_classes_is_the_same_top_1() -> None:
    twin, own = said((0.9, 0.1), (0.6, 0.4), (0.2, 0.1)), said((0.8, 0.2), (0.4, 0.6), (0.15, 0.1))
    found = agreement_of(own, twin, Measure("classify", NAMES))
    assert (found.reference_objects, found.matched, found.measure) == (3, 2, "")
    assert found.score_shift == pytest.approx(-0.075)
    assert np.isnan(found.mean_iou)


@pytest.mark.parametrize("task", ["segment", "classify", "pose", "obb"])
def test_the_card_of_every_task(task: Task, tmp_path: Path) -> None:
    dataset = read_dataset(make_dataset(task, tmp_path / "data", images=8), task=task)
    samples, measure = dataset.samples("val"), Measure.of(dataset)

    def answers(wrong: int) -> Any:
        def answer(frame: npt.NDArray[np.uint8], *, thresholds: object) -> Detections:
            index = next(turns)
            found = measure.labelled(Target.of(samples[index], frame.shape[:2]))  # type: ignore[arg-type]
            probs = None if found.probs is None else found.probs[:, ::-1]
            return replace(found, class_id=1 - found.class_id, probs=probs) if index < wrong else found

        turns = iter(range(len(samples)))
        return answer

    twin, own = (evaluate_runtime(answers(wrong), samples, NAMES, measure=measure) for wrong in (0, 1))
    spec = InputSpec(
        name="images", batch=1, height=64, width=64, resize="centre-crop" if task == "classify" else "letterbox"
    )
    shapes = output_shapes(task, spec, classes=2, keypoints=dataset.keypoints)
    manifest = Manifest(
        schema_version=1,
        task=task,
        scale="n",
        variant="v1",
        class_names=list(dataset.class_names),
        keypoints=dataset.keypoints,
        format="onnx",
        precision="fp32",
        input=spec,
        outputs=[
            OutputSpec(name=role, role=role, shape=tuple(CANDIDATES if side is None else side for side in shape))
            for role, shape in shapes.items()
        ],
        provenance=Provenance(checkpoint_sha256="ab" * 32, created="2026-01-02T03:04:05Z", versions={}),
    )
    result = GuardResult(
        own=own,
        twin=twin,
        agreement=agreement_of(own.predictions, twin.predictions, measure),
        own_latency=LatencySummary(np.full(20, 1.0)),
        twin_latency=LatencySummary(np.full(20, 2.0)),
        own_bytes=1,
        twin_bytes=4,
        engine="onnxruntime 1.0",
        device="cpu",
        threads=1,
        simulated=False,
        max_map_drop=0.5,
        held=False,
        candidates=(),
        sensitivity=(),
    )
    figure = own.metrics.figure
    verdict = verdict_lines(result, Recipe("ort-x86"), name="x", twin="y")
    assert f"points of {figure} (budget 0.5)" in verdict[0]
    assert not any("disturbed" in line for line in verdict)
    restless = LatencySummary(np.where(np.arange(20) < 8, 1.5, 10.0))  # the fastest calls tell of a ratio of 1.5
    disturbed = replace(result, twin_latency=restless)
    assert any("1.50 times" in line for line in verdict_lines(disturbed, Recipe("ort-x86"), name="x", twin="y"))
    write_card(
        tmp_path,
        manifest=manifest,
        result=result,
        images=[sample.image for sample in samples],
        reproduce=["again"],
        verdict=verdict,
        twin_name="y",
    )
    facts = json.loads((tmp_path / "report.json").read_bytes())
    assert facts["outcome"]["figure"] == figure
    assert facts["outcome"]["map_drop"] == pytest.approx(100 * (twin.metrics.score - own.metrics.score))
    assert facts["accuracy"]["figures"][figure] == {"float": pytest.approx(1), "int8": pytest.approx(own.metrics.score)}
    page = (tmp_path / "report.html").read_text()
    assert figure in page
    assert (measure.overlap.name or "most probable") in page
    assert page.count("data:image/jpeg") == 2 * min(len(samples), 4)
