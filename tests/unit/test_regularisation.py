"""Dropped maps and blocks."""

from __future__ import annotations

from copy import deepcopy

import pytest
import torch
from torch.nn import functional as F

from yolo12edge.nn import ModelConfig, build_model
from yolo12edge.training.regularisation import Regulariser, drop_blocks, drop_maps


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_whole_maps_are_dropped_and_the_mean_stays() -> None:
    out = drop_maps(torch.ones(50, 40, 3, 3), 0.3, generator())
    assert out.unique().tolist() == [0, pytest.approx(1 / 0.7)]
    assert torch.equal(out.amin((2, 3)), out.amax((2, 3)))
    assert float((out[:, :, 0, 0] == 0).float().mean()) == pytest.approx(0.3, abs=0.03)
    assert float(out.mean()) == pytest.approx(1, abs=0.05)


@pytest.mark.parametrize(("size", "side"), [(20, 7), (6, 5), (1, 1)])
def test_blocks_are_dropped_and_the_mean_stays(size: int, side: int) -> None:
    out = drop_blocks(torch.ones(40, 10, size, size), 0.1, generator())
    zero = (out == 0).float()
    assert float(out.mean()) == pytest.approx(1, abs=1e-5)
    assert float(zero.mean()) == pytest.approx(0.1, abs=0.02)
    # Every dropped cell lies in a whole dropped block: opening the area with the block changes nothing.
    eroded = -F.max_pool2d(-zero, side, stride=1)
    opened = F.max_pool2d(F.pad(eroded, [side - 1] * 4), side, stride=1)
    assert torch.equal(opened, zero)
    assert not torch.equal(zero[:20], zero[20:])


@pytest.mark.parametrize("settings", [{"dropout": 0.5, "dropblock": 0.0}, {"dropout": 0.0, "dropblock": 0.3}])
def test_network_drops_in_training_alone_and_the_same_at_the_same_step(settings: dict[str, float]) -> None:
    torch.manual_seed(0)
    network = build_model(ModelConfig(num_classes=2)).train()
    plain, keys = deepcopy(network), list(network.state_dict())
    regulariser = Regulariser(network, seed=3, **settings)
    images = torch.rand(2, 3, 96, 96)

    @torch.no_grad()
    def run(step: int, *, training: bool) -> torch.Tensor:
        regulariser.start_step(step, 10)
        network.training = training  # only the network says: its layers, if frozen, may be in evaluation mode
        return network(images).cls

    expected = plain(images).cls.detach()
    assert torch.equal(run(9, training=False), expected)
    assert not torch.allclose(run(9, training=True), expected)
    assert torch.equal(run(9, training=True), run(9, training=True))
    assert not torch.equal(run(9, training=True), run(8, training=True))
    assert torch.equal(run(0, training=True), expected) is bool(settings["dropblock"])  # blocks ramp up from nothing
    assert list(network.state_dict()) == keys


def test_processes_and_seeds_drop_other_parts() -> None:
    network = build_model(ModelConfig(task="classify", num_classes=2))
    seen = []
    for seed, process, step in ((0, 0, 0), (0, 0, 1), (0, 1, 0), (1, 0, 0)):
        regulariser = Regulariser(network, dropout=0.5, dropblock=0, seed=seed)
        regulariser.start_step(step, 5, process)
        seen.append(drop_maps(torch.ones(1, 64, 1, 1), 0.5, regulariser._generator).flatten().tolist())
    assert len({tuple(row) for row in seen}) == 4
