"""The guard: agreement with float, the choice among recipes, and what goes back to float until the budget holds."""

from __future__ import annotations

from dataclasses import dataclass
from types import SimpleNamespace

import numpy as np
import pytest

from yolo12edge.benchmark.latency import LatencySummary
from yolo12edge.calibration import tournament
from yolo12edge.calibration.agreement import agreement_of
from yolo12edge.calibration.guard import Verdict, judge, return_to_float
from yolo12edge.calibration.output_loss import OutputLoss
from yolo12edge.calibration.recipe import Recipe
from yolo12edge.calibration.results import Agreement, Sensitivity
from yolo12edge.calibration.tournament import Bench, choose_recipe, measure_costs, rank_groups
from yolo12edge.detections import Detections
from yolo12edge.errors import BackendError
from yolo12edge.imaging import write_image
from yolo12edge.metrics import Measure


def detections(*rows):
    boxes = np.array([row[0] for row in rows], np.float32).reshape(-1, 4)
    return Detections(
        boxes, np.array([row[1] for row in rows], np.float32), np.array([row[2] for row in rows], np.int64)
    )


DETECT = Measure("detect", ["a", "b"])
BOX, FAR = (10, 10, 30, 30), (100, 100, 120, 120)


def test_agreement_counts_matches_and_shifts():
    twin = [detections((BOX, 0.8, 0), (FAR, 0.5, 1)), detections((BOX, 0.9, 0))]
    own = [detections((BOX, 0.7, 0), (FAR, 0.5, 0)), detections((BOX, 0.9, 0), (FAR, 0.1, 0))]
    found = agreement_of(own, twin, DETECT)
    assert (found.images, found.reference_objects, found.objects, found.matched) == (2, 3, 3, 2)
    assert found.f1 == pytest.approx(2 / 3)
    assert found.mean_iou == pytest.approx(1)
    np.testing.assert_allclose(np.sort(found.score_shifts), [-0.1, 0], atol=1e-6)
    assert found.score_shift == pytest.approx(-0.05)


def test_agreement_of_nothing_with_nothing_is_whole():
    found = agreement_of([detections()], [detections((BOX, 0.1, 0))], DETECT)
    assert (found.f1, found.matched, found.score_shift) == (1.0, 0, 0.0)
    assert np.isnan(found.mean_iou)


def outputs(boxes, scores):
    return {"boxes": np.array(boxes, np.float32).T[None], "scores": np.array(scores, np.float32).T[None]}


MANIFEST = SimpleNamespace(
    task="detect",
    keypoints=None,
    input=SimpleNamespace(name="images"),
    outputs=[SimpleNamespace(role="boxes", name="boxes"), SimpleNamespace(role="scores", name="scores")],
)


def test_output_loss_looks_at_objects_only():
    loss = OutputLoss(MANIFEST, [outputs([BOX, FAR], [[0.9], [0.0]])])
    assert loss([outputs([BOX, FAR], [[0.9], [0.0]])]) == 0
    assert loss([outputs([BOX, BOX], [[0.9], [0.0]])]) == 0  # the moved box has no score
    moved = loss([outputs([FAR, FAR], [[0.9], [0.0]])])
    assert moved == pytest.approx(1)
    assert 0 < loss([outputs([BOX, FAR], [[0.8], [0.0]])]) < moved
    assert loss([outputs([BOX, FAR], [[np.nan], [0.0]])]) == float("inf")
    assert loss([outputs([BOX, (np.nan, 0, 1, 1)], [[0.9], [0.0]])]) == float("inf")


@dataclass(frozen=True)
class FakeQuantizer:
    """Gives the recipe itself as the model's content."""

    def __call__(self, recipe):
        return recipe

    def placement(self, recipe):
        del recipe
        readers = frozenset({"model.2.cv1.conv", "model.6.m.0.0.attn.q.conv", "model.21.cv2.0.0.conv"})
        return SimpleNamespace(reads={"images": readers})


def bench(losses, times, *, simulate=None):
    """A bench on which a recipe has the loss and the time that two functions give."""

    def open_engine(recipe):
        loss = losses(recipe)
        if loss is None:
            raise BackendError("no kernel for this")
        return SimpleNamespace(infer=lambda feed: loss, close=lambda: None, ms=times(recipe))

    return Bench(FakeQuantizer(), open_engine, simulate or open_engine, MANIFEST, [{}], lambda found: found[0])


@pytest.fixture(autouse=True)
def fake_clock(monkeypatch):
    """The engines say how long they take."""

    def interleaved(runners, *, repeats, warmup):
        del repeats, warmup
        return {name: LatencySummary(np.array([run.__defaults__[0].ms], np.float64)) for name, run in runners.items()}

    monkeypatch.setattr(tournament, "interleaved_latency", interleaved)


def test_least_loss_wins_among_ranges():
    table = {"minmax": 3.0, "percentile": 1.0, "mse": 2.0, "entropy": 4.0}
    recipe, candidates = choose_recipe(
        bench(lambda r: table[r.method] * (1 if r.attention == "float" else 9), lambda r: 10.0),
        Recipe("ort-x86"),
        timed=True,
    )
    assert (recipe.method, recipe.attention) == ("percentile", "float")
    assert [c.name for c in candidates if c.chosen] == ["percentile ranges"]
    assert len(candidates) == 5
    assert all(np.isfinite(c.loss) for c in candidates)


@pytest.mark.parametrize(
    ("loss", "ms", "wins"),
    [
        (1.2, 8.0, True),  # faster
        (1.2, 9.9, False),  # not by more than noise
        (1.8, 5.0, False),  # too inexact
        (0.8, 10.0, True),  # more exact
        (0.95, 10.0, False),  # not by more than noise
        (0.8, 12.0, False),  # more exact but slower
    ],
)
def test_a_structure_wins_by_speed_within_reason_or_by_loss(loss, ms, wins):
    def of(plain, int8):
        return lambda recipe: int8 if recipe.attention == "int8" else plain

    recipe, _ = choose_recipe(bench(of(1.0, loss), of(10.0, ms)), Recipe("ort-x86"), timed=True)
    assert (recipe.attention == "int8") is wins


def test_a_candidate_that_does_not_run_falls_out_with_its_reason():
    losses = bench(lambda r: None if r.join_concats else 1.0, lambda r: 1.0)
    recipe, candidates = choose_recipe(losses, Recipe("openvino"), timed=True)
    assert not recipe.join_concats
    assert [c.problem for c in candidates if c.problem] == ["no kernel for this"]


def test_tensorrt_has_one_structure_and_is_not_timed():
    recipe, candidates = choose_recipe(bench(lambda r: 1.0, lambda r: 1.0), Recipe("tensorrt"), timed=False)
    assert recipe.target == "tensorrt"
    assert len(candidates) == 4
    assert all(c.latency is None for c in candidates)


GAINS = {"model.2": 0.1, "model.6.m.0.0.attn": 0.4, "model.21.cv2.0": -0.01}


def sensitive(recipe):
    return 1.0 - sum(GAINS[group] for group in recipe.float_groups)


def test_groups_are_ranked_by_what_they_gain_alone():
    ranking = rank_groups(
        bench(lambda r: None, lambda r: 1.0, simulate=bench(sensitive, lambda r: 1.0).open_engine), Recipe("openvino")
    )
    assert [item.group for item in ranking] == ["model.6.m.0.0.attn", "model.2", "model.21.cv2.0"]
    assert [item.gain for item in ranking] == pytest.approx([0.4, 0.1, -0.01])


def slower(recipe):
    return 10.0 + {"model.2": 0.2, "model.6.m.0.0.attn": 4.0}.get(next(iter(recipe.float_groups), ""), 0.0)


def test_costs_are_the_time_that_a_group_adds():
    costs = measure_costs(bench(sensitive, slower), Recipe("ort-x86"), ["model.2", "model.6.m.0.0.attn"])
    assert costs == pytest.approx({"model.2": 0.2, "model.6.m.0.0.attn": 4.0})


@pytest.mark.parametrize(("needed", "returned"), [({"model.2"}, {"model.2"}), (set(GAINS), set(GAINS))])
def test_groups_return_by_gain_for_each_ms_until_the_budget_holds(needed, returned):
    ranking = [Sensitivity(group, gain) for group, gain in sorted(GAINS.items(), key=lambda item: -item[1])]
    recipe, after, held = return_to_float(
        bench(sensitive, slower), Recipe("ort-x86"), ranking, lambda r: needed <= r.float_groups, timed=True
    )
    assert recipe.float_groups == returned
    assert held is (needed <= returned)
    assert {item.group for item in after if item.is_float} == returned
    assert next(item for item in after if item.group == "model.2").cost_ms == pytest.approx(0.2)


def test_the_last_group_returns_by_itself():
    ranking = [Sensitivity(f"model.{index}", -1.0) for index in range(12)]
    asked = []
    return_to_float(
        bench(sensitive, slower), Recipe("ort-x86"), ranking, lambda r: asked.append(len(r.float_groups)), timed=False
    )
    assert asked == [1, 2, 4, 8, 11, 12]


def verdict(own, twin, *, matched=100, shift=0.0, objects=100):
    agreement = Agreement(1, objects, objects, matched, 0.9, np.full(matched, shift, np.float32))
    of = lambda ap: None if ap is None else SimpleNamespace(metrics=SimpleNamespace(score=ap))  # noqa: E731
    return Verdict(of(own), of(twin), agreement)


@pytest.mark.parametrize(
    ("measured", "held"),
    [
        (verdict(0.500, 0.504), True),
        (verdict(0.500, 0.506), False),
        (verdict(0.510, 0.500), True),
        (verdict(float("nan"), 0.5), False),
        (verdict(None, None), True),
        (verdict(None, None, matched=94), False),
        (verdict(None, None, shift=-0.03), False),
        (verdict(None, None, matched=0, objects=0), False),  # nothing was found: nothing is known
    ],
)
def test_budget(measured, held):
    assert measured.holds(0.5) is held


def test_models_that_suppress_by_themselves_are_compared_on_what_both_give(tmp_path):
    asked = []

    def model(suppressed):
        def run(frame, *, thresholds):
            asked.append(thresholds.iou)
            return Detections.empty()

        run.manifest = SimpleNamespace(
            nms_iou=suppressed, task="detect", class_names=["a"], keypoints=None, multi_label=False
        )
        return run

    write_image(tmp_path / "a.png", np.zeros((8, 8, 3), np.uint8))
    judge(model(0.5), model(None), pictures=[tmp_path / "a.png"])
    assert asked == [0.5, 0.5]
