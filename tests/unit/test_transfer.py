"""Starting from other weights, and layers that are not trained."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from tests.task_data import CLASS_NAMES, make_dataset
from yolo12edge.checkpoint import Checkpoint, meta_of
from yolo12edge.errors import InputError
from yolo12edge.manifest import Task
from yolo12edge.nn import ModelConfig, build_model
from yolo12edge.training import TrainConfig, train
from yolo12edge.training.transfer import Transfer, freeze, match_names, transfer_weights

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:lightning")

CLASS_TENSORS: dict[Task, list[str]] = {
    "detect": [f"model.21.cv3.{level}.2.{part}" for level in range(3) for part in ("weight", "bias")],
    "classify": ["model.9.linear.weight", "model.9.linear.bias"],
}


def weights(task: Task, classes: int, seed: int) -> dict[str, Tensor]:
    torch.manual_seed(seed)
    return build_model(ModelConfig(task=task, num_classes=classes)).state_dict()


@pytest.mark.parametrize("task", list(CLASS_TENSORS))
def test_rows_of_shared_classes_follow_their_names(task: Task) -> None:
    source = weights(task, 4, seed=1)
    torch.manual_seed(2)
    network = build_model(ModelConfig(task=task, num_classes=5))
    fresh = {key: tensor.clone() for key, tensor in network.state_dict().items()}
    theirs, mine = ["car", "Dog", "cat", "bus"], ["dog", "tram", "bus", "kite", "car"]
    transfer = transfer_weights(network, source, (theirs, mine))
    now = network.state_dict()
    assert transfer.remapped == CLASS_TENSORS[task]
    for key in transfer.remapped:
        for own, row in enumerate((1, None, 3, None, 0)):
            assert torch.equal(now[key][own], fresh[key][own] if row is None else source[key][row])
    assert transfer.skipped == []
    assert all(torch.equal(now[key], source[key]) for key in transfer.taken)
    assert sorted(transfer.taken + transfer.remapped) == sorted(now)
    assert (transfer.known, transfer.new) == (("dog", "bus", "car"), ("tram", "kite"))
    assert transfer.describe() == [
        f"{len(transfer.taken)} of {len(now)} tensors taken over",
        f"{len(transfer.remapped)} tensors by class name: dog, bus, car taken over, tram, kite new",
    ]


def test_as_many_other_classes_start_afresh() -> None:
    network = build_model(ModelConfig(num_classes=2))
    fresh = network.state_dict()["model.21.cv3.0.2.weight"].clone()
    transfer = transfer_weights(network, weights("detect", 2, seed=1), (["a", "b"], ["c", "d"]))
    assert transfer.skipped == CLASS_TENSORS["detect"]
    assert torch.equal(network.state_dict()["model.21.cv3.0.2.weight"], fresh)
    assert transfer.describe()[1] == f"6 tensors start afresh: {', '.join(CLASS_TENSORS['detect'][:3])} and 3 more"


def test_same_classes_in_the_same_order_are_taken_whole() -> None:
    source = weights("detect", 2, seed=1)
    for classes in (None, (["a", "b"], ["a", "b"])):
        network = build_model(ModelConfig(num_classes=2))
        assert transfer_weights(network, source, classes) == Transfer(list(source), [], [])
        assert all(torch.equal(tensor, source[key]) for key, tensor in network.state_dict().items())


def test_tensors_of_another_width_are_skipped_and_named() -> None:
    # 80 classes make the class branch of scale n wider than 3 do.
    network = build_model(ModelConfig(num_classes=3))
    transfer = transfer_weights(network, weights("detect", 80, seed=1), ([str(i) for i in range(80)], ["0", "1", "2"]))
    assert transfer.remapped == []
    assert all(key.startswith("model.21.cv3.") for key in transfer.skipped)


def test_names_match_exactly_before_they_match_loosely() -> None:
    assert match_names(["Cat", "cat", "dog "], ["cat", "CAT", "Cat", "Dog", "bird"]) == {0: 1, 1: 0, 2: 0, 3: 2}


@pytest.mark.parametrize(("which", "count"), [("backbone", 9), ("all-but-head", 21), (3, 3)])
def test_frozen_layers(which: str | int, count: int) -> None:
    network = build_model(ModelConfig(num_classes=2)).train()
    frozen = freeze(network, which)  # type: ignore[arg-type]
    assert frozen == list(network.model)[:count]
    trained = [any(p.requires_grad for p in layer.parameters()) for layer in network.model]
    assert not any(trained[:count])
    assert trained[-1]
    assert not any(module.training for layer in frozen for module in layer.modules())
    assert network.head.training


def test_nothing_left_to_train_is_refused() -> None:
    network = build_model(ModelConfig(task="classify", num_classes=2))
    assert len(freeze(network, "backbone")) == len(freeze(network, "all-but-head")) == 9
    with pytest.raises(InputError, match="nothing is left to train"):
        freeze(network, 10)


def test_freezing_what_is_not_taken_over_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no weights to keep"):
        TrainConfig(data=tmp_path, out=tmp_path, freeze="backbone")


def test_frozen_layers_of_a_run_come_out_as_they_went_in(tmp_path: Path) -> None:
    data = make_dataset("detect", tmp_path / "data", images=4)
    config = TrainConfig(data=data, out=tmp_path / "run", epochs=2, batch=2, image_size=64, workers=0, device="cpu")
    model = ModelConfig(num_classes=2)
    start = Checkpoint(
        meta_of(
            model, class_names=CLASS_NAMES[::-1], image_size=64, source="trained", weights_license=None, training={}
        ),
        weights("detect", 2, seed=1),
    )
    start.save(tmp_path / "start.safetensors")
    told: list[Transfer | None] = []
    result = train(
        replace(config, freeze="backbone", weights=tmp_path / "start.safetensors", out=tmp_path / "frozen"),
        on_start=lambda _, transfer: told.append(transfer),
    )
    end = Checkpoint.load(result.files.last).tensors
    same = {key for key, tensor in end.items() if torch.equal(tensor, start.tensors[key])}
    backbone = {key for key in end if int(key.split(".")[1]) < 9}
    assert backbone <= same  # weights and the averages of batch norms
    assert not any(key.startswith(f"model.{layer}.") and "running" in key for key in same for layer in range(9, 21))
    assert "model.11.cv1.conv.weight" not in same
    assert told[0] is not None
    assert told[0].remapped == CLASS_TENSORS["detect"]
