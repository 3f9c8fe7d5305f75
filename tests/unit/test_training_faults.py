"""What stops a run leaves it whole: it goes on to the very result of a run that was not stopped."""

from __future__ import annotations

import json
import os
import resource
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from yolo12edge.checkpoint import Checkpoint
from yolo12edge.data.scenes import generate_scenes
from yolo12edge.errors import TrainingError
from yolo12edge.training import TrainConfig, memory, resume, train
from yolo12edge.training import module as module_of_training
from yolo12edge.training.trainer import TERMINATED, interruptible

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:lightning")


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> TrainConfig:
    data = generate_scenes(tmp_path_factory.mktemp("data") / "scenes", train=6, val=3, size=96, seed=5).path
    return TrainConfig(
        data=data,
        out=tmp_path_factory.mktemp("run") / "whole",
        epochs=2,
        batch=2,
        image_size=64,
        multi_scale=0.5,
        schedule="plateau",
        close_mosaic=1,
        workers=0,
        device="cpu",
    )


@pytest.fixture(scope="module")
def whole(base: TrainConfig) -> Path:
    """Files of a run that nothing stopped."""
    return train(base).files.root


@pytest.fixture
def config(base: TrainConfig, tmp_path: Path) -> TrainConfig:
    return replace(base, out=tmp_path / "run")


def assert_equal(one: Path, other: Path) -> None:
    for name in ("best.safetensors", "last.safetensors"):
        first, second = Checkpoint.load(one / name), Checkpoint.load(other / name)
        assert first.meta == second.meta
        assert all(torch.equal(first.tensors[key], second.tensors[key]) for key in first.tensors)
    first, second = (torch.load(root / "state.ckpt", weights_only=True)["state_dict"] for root in (one, other))
    assert all(torch.equal(first[key], second[key]) for key in first)


def contents(root: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in root.iterdir() if path.is_file()}


def breaking(monkeypatch: pytest.MonkeyPatch, at: int, result: Any) -> None:
    """Let what turns pictures to numbers do something else at one of its calls, from 1."""
    calls = iter(range(1, 10_000))
    honest = module_of_training.images_to_float

    def images_to_float(images: torch.Tensor) -> torch.Tensor:
        return result(honest(images)) if next(calls) == at else honest(images)

    monkeypatch.setattr(module_of_training, "images_to_float", images_to_float)


def raising(error: BaseException) -> Any:
    def result(_: torch.Tensor) -> torch.Tensor:
        raise error

    return result


@pytest.mark.parametrize("what", ["loss", "gradient"])
def test_loss_or_gradient_that_is_no_number_stops_before_the_weights_learn_it(
    config: TrainConfig, whole: Path, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    with monkeypatch.context() as patch:
        if what == "loss":
            breaking(patch, 3 + 2 + 2, lambda images: images * torch.nan)  # 3 steps, 2 of validation, then the second
        else:
            calls = iter(range(1, 100))
            clip = module_of_training.clip_grad_norm_
            patch.setattr(
                module_of_training,
                "clip_grad_norm_",
                lambda *given: clip(*given) * (torch.inf if next(calls) == 5 else 1),
            )
        with pytest.raises(TrainingError, match=rf"{what} of epoch 2, step 2.*not-a-number\.json") as caught:
            train(config)
    assert "--lr" in str(caught.value)
    facts = json.loads((config.out / "not-a-number.json").read_text())
    assert (facts["what"], facts["epoch"], facts["step"]) == (what, 2, 2)
    assert len(facts["pictures"]) == 2
    assert all(Path(path).is_file() for paths in facts["pictures"] for path in paths)
    assert (facts["loss"]["box"] == "nan") == (what == "loss")
    assert (config.out / "not-a-number.jpg").is_file()
    assert_equal(resume(config.out).files.root, whole)


@pytest.fixture
def small_files() -> Iterator[None]:
    """No file may be larger than a checkpoint: the state does not fit, as on a full disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (16_000_000, hard))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_state_that_does_not_fit_on_the_disk_is_told(config: TrainConfig, whole: Path, small_files: None) -> None:
    with pytest.raises(TrainingError, match=r"could not be written.*--resume"):
        train(config)
    assert not (config.out / "state.ckpt").exists()
    assert not [*config.out.glob(".*"), *config.out.glob("*.partial")]
    resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    assert_equal(resume(config.out).files.root, whole)  # from the start: no epoch was whole


@pytest.mark.parametrize("file", ["best", "last"])
def test_full_disk_leaves_the_files_of_the_epochs_before(
    config: TrainConfig, whole: Path, monkeypatch: pytest.MonkeyPatch, file: str
) -> None:
    save = Checkpoint.save
    before: dict[str, bytes] = {}

    def full(checkpoint: Checkpoint, path: Path) -> None:
        if checkpoint.meta.training["epoch"] == 2 and path.stem == file:
            before.update(contents(config.out))
            raise OSError(28, "No space left on device")
        save(checkpoint, path)

    with monkeypatch.context() as patch:
        patch.setattr(Checkpoint, "save", full)
        with pytest.raises(TrainingError, match=r"No space left.*are whole"):
            train(config)
    assert contents(config.out) == before
    assert torch.load(config.out / "state.ckpt", weights_only=True)["epoch"] == 0
    assert_equal(resume(config.out).files.root, whole)


def test_signal_to_end_is_obeyed_in_order(config: TrainConfig, whole: Path) -> None:
    handler = signal.getsignal(signal.SIGTERM)

    def end(epoch: int, step: int, steps: int) -> None:
        if (epoch, step) == (2, 2):
            os.kill(os.getpid(), signal.SIGTERM)

    with pytest.raises(SystemExit) as caught:
        train(config, on_step=end)
    assert caught.value.code == 143
    assert signal.getsignal(signal.SIGTERM) == handler
    assert_equal(resume(config.out).files.root, whole)


KILLED = """
import os, signal, sys
from pathlib import Path
import lightning
from yolo12edge.training import resume

def die(*_): os.kill(os.getpid(), signal.SIGKILL)

def die_writing(trainer, path):
    Path(path).write_bytes(b"half of it")
    die()

when = sys.argv[2]
if when == "writing":
    lightning.Trainer.save_checkpoint = die_writing
resume(Path(sys.argv[1]), on_step=lambda epoch, step, steps: (epoch, step) == (2, 2) and when == "working" and die())
"""


def test_killed_run_goes_on_as_if_nothing_had_happened(config: TrainConfig, whole: Path) -> None:
    config.out.mkdir()
    (config.out / "config.json").write_bytes(config.to_json())  # as a run that was killed in its first epoch
    for when in ("writing", "working"):
        command = [sys.executable, "-c", KILLED, str(config.out), when]
        assert subprocess.run(command, check=False, stderr=subprocess.DEVNULL).returncode == -signal.SIGKILL
        assert (config.out / "state.partial").exists() == (when == "writing")
    assert (config.out / "state.ckpt").is_file()
    assert_equal(resume(config.out).files.root, whole)


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory."),
        RuntimeError("[enforce fail at alloc_cpu.cpp:127] DefaultCPUAllocator: not enough memory"),
        MemoryError(),
    ],
)
def test_batch_that_does_not_fit_is_answered_with_one_that_does(
    config: TrainConfig, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    breaking(monkeypatch, 1, raising(error))
    with pytest.raises(TrainingError, match=r"cpu has not memory enough for batch 2 at 96 px.*--batch 1 "):
        train(config)


def test_picture_that_does_not_fit_is_answered_with_less(config: TrainConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    breaking(monkeypatch, 1, raising(MemoryError()))
    monkeypatch.setattr(memory, "_step", raising_step)
    with pytest.raises(TrainingError, match="--imgsz below 96"):
        train(config)


def raising_step(*_: object) -> None:
    raise MemoryError


def test_other_errors_stay_what_they_are(config: TrainConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    breaking(monkeypatch, 1, raising(RuntimeError("a defect")))
    with pytest.raises(RuntimeError, match="a defect"):
        train(config)


def test_loader_that_the_system_ended_is_told(config: TrainConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    breaking(monkeypatch, 1, raising(RuntimeError("DataLoader worker (pid 7) is killed by signal: Killed.")))
    with pytest.raises(TrainingError, match="fewer --workers"):
        train(config)


def test_sides_vary_by_step_alone(base: TrainConfig, whole: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[int] = []
    honest = module_of_training.resized
    monkeypatch.setattr(module_of_training, "resized", lambda batch, side: seen.append(side) or honest(batch, side))
    train(replace(base, out=whole.parent / "again", epochs=4))
    assert set(seen) == {64, 96}
    assert seen[:6] != seen[6:]


def test_loaders_that_are_told_to_end_first_end_the_run_in_order() -> None:
    trainer = SimpleNamespace(interrupted=False)
    with pytest.raises(SystemExit) as ended, interruptible(trainer):  # type: ignore[arg-type]
        raise RuntimeError("DataLoader worker (pid 7) is killed by signal: Terminated. ")
    assert ended.value.code == TERMINATED
    with pytest.raises(RuntimeError, match="other"), interruptible(trainer):  # type: ignore[arg-type]
        raise RuntimeError("other")
