"""The recipe: learning rates, accumulation, parameter groups, averaged weights."""

from __future__ import annotations

from math import exp
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from yolo12edge.data.augment import default_augmentation
from yolo12edge.errors import InputError
from yolo12edge.nn import ModelConfig, build_model
from yolo12edge.training.config import TrainConfig
from yolo12edge.training.ema import WeightAverage
from yolo12edge.training.lamb import Lamb
from yolo12edge.training.optim import apply_step, build_optimizer, plan_run


def config(**changes: Any) -> TrainConfig:
    return TrainConfig(data=Path("data.yaml"), out=Path("run"), **changes)


def test_short_runs_use_adamw_without_accumulation_and_long_ones_sgd_with() -> None:
    short = plan_run(config(epochs=80, batch=8), images=205, num_classes=3)
    assert (short.optimizer, short.accumulate, short.steps_per_epoch) == ("adamw", 1, 26)
    assert short.lr == pytest.approx(0.002 * 5 / 7, abs=1e-6)
    assert short.weight_decay == pytest.approx(5e-4 * 8 / 64)
    long = plan_run(config(epochs=300, batch=16), images=118_287, num_classes=80)
    assert (long.optimizer, long.accumulate, long.lr) == ("sgd", 4, 0.01)
    assert long.weight_decay == pytest.approx(5e-4)
    large = plan_run(config(epochs=300, batch=256), images=118_287, num_classes=80)
    assert large.accumulate == 1
    assert large.weight_decay == pytest.approx(0.002)


def test_learning_rate_warms_up_then_falls_to_its_last_value() -> None:
    plan = plan_run(config(epochs=100, batch=16, optimizer="sgd", nominal_batch=64), images=1600, num_classes=3)
    assert plan.steps_per_epoch == 100
    first, middle = plan.at(0), plan.at(150)
    assert (first.lr, first.bias_lr, first.momentum, first.accumulate) == (0.0, 0.0, 0.8, 1)
    assert middle.lr == pytest.approx(0.5 * 0.01 * (0.01 + 0.99 * 0.99))
    assert middle.momentum == pytest.approx(0.85)
    assert middle.accumulate == 2  # half way from 1 to 4, rounded to even
    after = plan.at(300)
    assert after.lr == after.bias_lr == pytest.approx(0.01 * (0.01 + 0.99 * 0.97))
    assert (after.momentum, after.accumulate) == (0.9, 4)
    rates = [plan.at(epoch * 100).lr for epoch in range(3, 100)]
    assert rates == sorted(rates, reverse=True)
    assert rates[-1] == pytest.approx(0.01 * (0.01 + 0.99 * 0.01))


def test_cosine_schedule_is_above_the_line_first_and_below_it_later() -> None:
    linear = plan_run(config(epochs=100, batch=1), images=10, num_classes=3)
    cosine = plan_run(config(epochs=100, batch=1, schedule="cosine"), images=10, num_classes=3)
    assert cosine.at(250).lr > linear.at(250).lr
    assert cosine.at(500).lr == pytest.approx(linear.at(500).lr)
    assert cosine.at(750).lr < linear.at(750).lr


@pytest.mark.parametrize("schedule", ["linear", "cosine", "step", "exponential", "one-cycle", "cyclical", "plateau"])
def test_every_schedule_reaches_its_rate_and_stays_within_it(schedule: str) -> None:
    plan = plan_run(config(epochs=50, batch=1, lr=0.1, schedule=schedule, warmup_epochs=0), images=10, num_classes=3)
    rates = [plan.at(step).lr for step in range(500)]
    assert max(rates) == pytest.approx(0.1)
    if schedule != "plateau":
        assert rates[-1] == pytest.approx(0.001, rel=2.0)
    assert all(0 <= rate <= 0.1 for rate in rates)


def test_shapes_of_the_schedules() -> None:
    def rate(schedule: str, step: int, scores: tuple[float, ...] = ()) -> float:
        made = config(epochs=30, batch=1, lr=1.0, schedule=schedule, warmup_epochs=None)
        return plan_run(made, images=10, num_classes=3).at(step, scores=scores).lr

    assert [rate("step", step) for step in (100, 199, 200, 299)] == pytest.approx([0.1, 0.1, 0.01, 0.01])
    assert rate("exponential", 150) == pytest.approx(0.1)
    assert [rate("one-cycle", step) for step in (0, 90)] == pytest.approx([0.04, 1.0])
    assert [rate("cyclical", step) for step in (0, 25, 50, 75, 100)] == pytest.approx([0.01, 0.505, 1, 0.505, 0.01])
    assert rate("plateau", 200, (0.1, 0.2, 0.3)) == 1.0
    stalled = (0.1, 0.3, 0.3, 0.2, 0.1)
    assert rate("plateau", 200, stalled) == pytest.approx(0.1)
    assert rate("plateau", 200, (*stalled, 0.4, 0.3)) == pytest.approx(0.1)  # a better score starts the count anew
    assert rate("plateau", 200, (*stalled, 0.1, 0.1, 0.1) * 3) == pytest.approx(0.01)  # never below the last rate


def test_momentum_of_one_cycle_is_lowest_where_its_rate_is_highest() -> None:
    plan = plan_run(config(epochs=10, batch=1, schedule="one-cycle", momentum=0.95), images=10, num_classes=3)
    steps = [plan.at(step) for step in range(100)]
    assert min(steps, key=lambda step: step.momentum).lr == max(step.lr for step in steps)
    assert (steps[0].momentum, steps[30].momentum) == pytest.approx((0.95, 0.85))


@pytest.mark.parametrize("name", ["sgd", "adam", "adamw", "lamb"])
def test_every_optimizer_goes_downhill(name: str) -> None:
    torch.manual_seed(0)
    network = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 1), torch.nn.BatchNorm2d(4), torch.nn.Conv2d(4, 1, 1))
    plan = plan_run(config(epochs=1, batch=1, optimizer=name, lr=0.02), images=10, num_classes=3)
    optimizer = build_optimizer(network, plan)
    pictures = torch.randn(8, 3, 4, 4)
    losses = []
    for _ in range(30):
        loss = (network(pictures) - 3).square().mean()
        losses.append(loss.item())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert losses[-1] < losses[0] / 3


def test_lamb_moves_by_the_length_of_the_weights() -> None:
    weights = torch.nn.Parameter(torch.tensor([3.0, 4.0]))
    bias = torch.nn.Parameter(torch.tensor([3.0, 4.0]))
    optimizer = Lamb([{"params": [weights], "weight_decay": 0.1}, {"params": [bias], "weight_decay": 0.0}], lr=0.01)
    weights.grad, bias.grad = torch.tensor([1.0, -1.0]), torch.tensor([1.0, -1.0])
    optimizer.step()
    # Adam's first step is the sign of the gradient; with decay (1.3, -0.6), stretched to the weights' length of 5.
    step = torch.tensor([1.3, -0.6])
    expected = torch.tensor([3.0, 4.0]) - 0.01 * 5 * step / step.norm()
    assert torch.allclose(weights.detach(), expected, atol=1e-5)
    assert torch.allclose(bias.detach(), torch.tensor([2.99, 4.01]), atol=1e-5)


def test_only_weights_decay_and_gamma_is_one_of_them() -> None:
    network = build_model(ModelConfig(scale="n", num_classes=3, residual=True))
    plan = plan_run(config(optimizer="sgd"), images=100, num_classes=3)
    optimizer = build_optimizer(network, plan)
    groups = {group["kind"]: group for group in optimizer.param_groups}
    names = {id(parameter): name for name, parameter in network.named_parameters()}
    members = {kind: {names[id(p)] for p in group["params"]} for kind, group in groups.items()}
    assert {kind: group["weight_decay"] for kind, group in groups.items()} == {
        "weights": plan.weight_decay,
        "norms": 0.0,
        "biases": 0.0,
    }
    assert "model.8.gamma" in members["weights"]
    assert members["norms"] == {name for name in names.values() if name.endswith(".bn.weight")}
    assert members["biases"] == {name for name in names.values() if name.endswith(".bias")}
    everything = set.union(*members.values())
    assert everything == set(names.values()) - {"model.21.dfl.conv.weight"}  # frozen

    apply_step(optimizer, plan.at(10))
    step = plan.at(10)
    assert groups["weights"]["lr"] == step.lr
    assert groups["biases"]["lr"] == step.bias_lr
    assert groups["norms"]["momentum"] == step.momentum


def test_average_follows_its_formula() -> None:
    network = build_model(ModelConfig(num_classes=1))
    average = WeightAverage(network, total_updates=50_000)
    key = "model.0.conv.weight"
    start = network.state_dict()[key].clone()
    with torch.no_grad():
        network.state_dict()[key].add_(1.0)
        network.state_dict()["model.0.bn.num_batches_tracked"].fill_(7)
    average.update(network)
    decay = 0.9999 * (1 - exp(-1 / 2000))
    mine = average.network.state_dict()
    assert torch.allclose(mine[key], start * decay + (start + 1) * (1 - decay))
    assert int(mine["model.0.bn.num_batches_tracked"]) == 7
    assert WeightAverage(network, total_updates=1000).ramp == 200


@pytest.mark.parametrize(
    "change",
    [
        {"epochs": 0},
        {"batch": 0},
        {"image_size": 100},
        {"image_size": 16},
        {"scale": "k"},
        {"variant": "v2"},
        {"optimizer": "lion"},
        {"schedule": "steps"},
        {"multi_scale": 0.04},
        {"multi_scale": 1.0},
        {"focal": -1.0},
        {"iou": "siou"},
        {"class_weights": (1.0, 0.0)},
        {"class_weights": "even"},
        {"dropblock": 1.0},
        {"freeze": "head"},
        {"freeze": 0},
        {"cache": "tape"},
        {"warmup_epochs": 3.0, "schedule": "one-cycle"},
        {"final_lr": 0.0, "schedule": "step"},
        {"lr": 0.0},
        {"lr": float("nan")},
        {"momentum": float("nan")},
        {"precision": "int8"},
        {"patience": 0},
        {"workers": -1},
    ],
)
def test_impossible_settings_are_refused(change: dict[str, Any]) -> None:
    with pytest.raises(InputError, match=next(iter(change))):
        config(**change)


@pytest.mark.parametrize("name", ["adamw", "sgd"])
def test_loaded_state_has_the_order_of_its_weights(name: str) -> None:
    """A fused step reads weights, gradients and state side by side as they lie in memory."""

    def run(*, swapped: bool) -> torch.Tensor:
        torch.manual_seed(0)
        network = nn.Sequential(nn.Conv2d(3, 4, 3)).to(memory_format=torch.channels_last)
        optimizer = build_optimizer(network, plan_run(config(optimizer=name), images=64, num_classes=2))
        for _ in range(2):
            network(torch.randn(2, 3, 6, 6)).square().sum().backward()
            optimizer.step()
            state = optimizer.state_dict()
            for of_weights in state["state"].values() if swapped else ():
                for key, value in of_weights.items():
                    of_weights[key] = value.contiguous()
            optimizer.load_state_dict(state)
        return network[0].weight.detach()

    assert torch.equal(run(swapped=True), run(swapped=False))


def test_configuration_survives_its_file(tmp_path: Path) -> None:
    before = config(
        augment=default_augmentation("l", "segment"),
        lr=0.1,
        weights=Path("w.safetensors"),
        freeze=3,
        class_weights=(1.0, 2.0),
    )
    (tmp_path / "config.json").write_bytes(before.to_json())
    assert TrainConfig.of_run(tmp_path) == before
    (tmp_path / "config.json").write_bytes(b'{"epochs": 1}')
    with pytest.raises(InputError, match="not a training configuration"):
        TrainConfig.of_run(tmp_path)
    with pytest.raises(InputError, match="not a training run"):
        TrainConfig.of_run(tmp_path / "elsewhere")
