"""Settings of a run from a file and a command line, and the batch that is chosen by what there is."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from typer.testing import CliRunner

from yolo12edge.cli import app
from yolo12edge.data.scenes import generate_scenes
from yolo12edge.errors import InputError
from yolo12edge.nn import ModelConfig, build_model
from yolo12edge.training import TrainConfig, memory
from yolo12edge.training.memory import choose_batch, largest_batch
from yolo12edge.training.settings import read_settings


def file(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "run.yaml"
    path.write_text(text)
    return path


def test_file_sets_what_the_configuration_has(tmp_path: Path) -> None:
    path = file(tmp_path, "data: d.yaml\nlr: 1e-3\nclass_weights: [1, 2]\nfreeze: 3\ngains: {box: 2}\naugment: none\n")
    settings = read_settings(path)
    assert settings["data"] == Path("d.yaml")
    assert (settings["lr"], settings["class_weights"], settings["freeze"]) == (0.001, (1.0, 2.0), 3)
    assert settings["gains"].box == 2
    assert settings["augment"] == "none"
    assert read_settings(file(tmp_path, "batch: auto"))["batch"] == "auto"


def test_batch_is_chosen_once_and_by_the_command_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InputError, match="batch is 'auto'"):
        TrainConfig(data=Path("d"), out=Path("r"), batch="auto")  # type: ignore[arg-type]
    for name, value in (("RANK", "1"), ("WORLD_SIZE", "2"), ("LOCAL_WORLD_SIZE", "2")):
        monkeypatch.setenv(name, value)
    data = str(generate_scenes(tmp_path / "scenes", train=2, val=1, size=64, seed=0).path)
    result = CliRunner().invoke(app, ["train", "--data", data, "--out", str(tmp_path / "run"), "--batch", "auto"])
    assert isinstance(result.exception, InputError)
    assert "2 processes" in str(result.exception)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("epoch: 3", "did you mean 'epochs'"),
        ("epochs: many", "epochs"),
        ("epochs: 2.5", "epochs"),
        ("schedule: steps", "one of linear, cosine"),
        ("gains: {bx: 1.0}", "did you mean 'box'"),
        ("- epochs", "no settings"),
        ("{", "not YAML"),
    ],
)
def test_file_that_says_what_cannot_be_is_refused(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(InputError, match=said):
        read_settings(file(tmp_path, text))


@pytest.mark.parametrize(
    ("command", "others", "said"),
    [
        ("train", ["--label-smoothing", "0.0"], "--label-smoothing"),
        ("pretrain", ["--epochs", "2", "--lr", "0.1"], "--epochs, --lr"),
        ("qat", ["n.safetensors", "--from", "n-int8"], "CHECKPOINT, --from"),
    ],
)
def test_resume_takes_no_other_option(tmp_path: Path, command: str, others: list[str], said: str) -> None:
    result = CliRunner().invoke(app, [command, "--resume", str(tmp_path), *others])
    assert isinstance(result.exception, InputError)
    assert f"and {said} would change" in str(result.exception)


def test_batch_follows_memory_and_dataset(monkeypatch: pytest.MonkeyPatch) -> None:
    network = build_model(ModelConfig(num_classes=2))
    before = {key: value.clone() for key, value in network.state_dict().items()}

    def chosen(images: int, free: int, **settings: Any) -> tuple[int, str]:
        monkeypatch.setattr(memory, "available_memory", lambda: free)
        config = TrainConfig(data=Path("d"), out=Path("r"), image_size=64, **settings)
        choice = choose_batch(config, network, device="cpu", images=images)
        return choice.batch, choice.limit

    assert chosen(100_000, 1 << 40) == (64, "steps")
    assert chosen(100, 1 << 40) == (16, "steps")
    assert chosen(100_000, 1 << 40, devices=3) == (63, "steps")
    assert chosen(100_000, 1, devices=2) == (2, "memory")
    batch, limit = chosen(100_000, 30_000_000)  # an image takes some MB at 64 px
    assert limit == "memory"
    assert 1 <= batch < 64
    assert all(torch.equal(before[key], value) for key, value in network.state_dict().items())


def test_largest_batch_is_found_by_trying(monkeypatch: pytest.MonkeyPatch) -> None:
    network = build_model(ModelConfig(num_classes=2))

    def step(network: Any, batch: int, side: int, config: Any) -> None:
        if batch > 3:
            raise MemoryError

    monkeypatch.setattr(memory, "_step", step)
    config = TrainConfig(data=Path("d"), out=Path("r"))
    assert largest_batch(network, 64, config, below=16) == 2
