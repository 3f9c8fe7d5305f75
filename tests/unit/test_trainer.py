"""Training as a whole, on a handful of tiny pictures."""

from __future__ import annotations

import csv
import signal
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from yolo12edge.checkpoint import Checkpoint
from yolo12edge.data.dataset import read_dataset
from yolo12edge.data.scenes import CLASS_NAMES, generate_scenes
from yolo12edge.errors import BackendError, CheckpointError, DatasetError, InputError
from yolo12edge.training import EpochRecord, TrainConfig, resume, train
from yolo12edge.training.trainer import check_start, choose_device

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:lightning")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return generate_scenes(tmp_path_factory.mktemp("data") / "scenes", train=6, val=3, size=96, seed=5).path


@pytest.fixture
def config(data: Path, tmp_path: Path) -> TrainConfig:
    return TrainConfig(
        data=data, out=tmp_path / "run", epochs=3, batch=4, image_size=64, close_mosaic=1, workers=0, device="cpu"
    )


def rows(config: TrainConfig) -> list[dict[str, str]]:
    with (config.out / "results.csv").open() as file:
        return [{key: value for key, value in row.items() if key != "seconds"} for row in csv.DictReader(file)]


class _PowerCutError(Exception):
    pass


def test_resumed_run_is_the_run_that_was_not_interrupted(config: TrainConfig, tmp_path: Path) -> None:
    whole = train(config)
    cut = replace(config, out=tmp_path / "cut", workers=2)  # the number of workers must not matter either

    def cut_power(record: EpochRecord) -> None:
        if record.epoch == 2:
            raise _PowerCutError

    with pytest.raises(_PowerCutError):
        train(cut, on_epoch=cut_power)
    moved = tmp_path / "moved"
    cut.out.rename(moved)  # a run may be moved before it goes on
    resumed = resume(moved)
    assert (whole.epochs, resumed.epochs) == (3, 3)
    assert rows(config) == rows(replace(cut, out=moved))
    for mine, theirs in ((whole.files.last, resumed.files.last), (whole.files.best, resumed.files.best)):
        first, second = Checkpoint.load(mine), Checkpoint.load(theirs)
        assert first.meta == second.meta
        assert all(torch.equal(first.tensors[key], second.tensors[key]) for key in first.tensors)


def test_run_leaves_usable_checkpoints_and_refuses_to_be_overwritten(config: TrainConfig) -> None:
    config = replace(config, epochs=1)
    records: list[EpochRecord] = []
    result = train(config, on_epoch=records.append)
    assert [record.epoch for record in records] == [1]
    checkpoint = Checkpoint.load(result.files.last)
    assert tuple(checkpoint.meta.class_names) == CLASS_NAMES
    assert checkpoint.meta.image_size == 64
    assert checkpoint.meta.weights_license is None
    checkpoint.model()
    assert result.files.samples.is_file()
    assert any((config.out / "tensorboard").iterdir())
    with pytest.raises(InputError, match="holds another run"):
        train(config)


@pytest.mark.parametrize(("ap", "stalled", "best", "epochs"), [(0.5, True, 1, 2), (0.0, False, 3, 3)])
def test_run_that_gets_no_better_stops_but_not_before_it_found_anything(
    config: TrainConfig, monkeypatch: pytest.MonkeyPatch, ap: float, stalled: bool, best: int, epochs: int
) -> None:
    measured = SimpleNamespace(score=ap, columns=lambda: {"ap": ap, "ap50": ap}, figures=dict)
    monkeypatch.setattr("yolo12edge.training.validation.Validation.score", lambda _: measured)
    result = train(replace(config, epochs=3, patience=1))
    assert (result.stalled, result.best_epoch, result.epochs) == (stalled, best, epochs)
    assert not result.had_ended
    again = resume(result.files.root)  # there is nothing left to do
    assert (again.had_ended, again.stalled, again.best_epoch, again.epochs) == (True, stalled, best, epochs)


def test_gradients_are_clipped(config: TrainConfig) -> None:
    settings = replace(config, epochs=1, optimizer="sgd", lr=1.0, warmup_epochs=0, weight_decay=0, momentum=0.0)
    torch.manual_seed(0)
    moved = {}
    for norm in (1e-9, 10.0):
        result = train(replace(settings, out=config.out / str(norm), clip_norm=norm))
        moved[norm] = Checkpoint.load(result.files.last).tensors["model.0.conv.weight"]
    still = train(replace(settings, out=config.out / "still", lr=1e-30))
    start = Checkpoint.load(still.files.last).tensors["model.0.conv.weight"]
    assert torch.allclose(moved[1e-9], start, atol=1e-7)
    assert not torch.allclose(moved[10.0], start, atol=1e-4)


def test_interrupt_comes_through_and_the_signal_works_again(config: TrainConfig) -> None:
    handler = signal.getsignal(signal.SIGINT)

    def press_control_c(epoch: int, step: int, steps: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(config, on_step=press_control_c)
    assert signal.getsignal(signal.SIGINT) is handler


def test_splits_without_objects_are_refused(config: TrainConfig, tmp_path: Path) -> None:
    scenes = generate_scenes(tmp_path / "scenes", train=2, val=2, size=96, seed=5)
    for label in (tmp_path / "scenes" / "labels" / "val").iterdir():
        label.write_text("")
    with pytest.raises(DatasetError, match="'val'"):
        train(replace(config, data=scenes.path))


def test_files_of_others_are_not_replaced(config: TrainConfig) -> None:
    config.out.mkdir()
    (config.out / "best.safetensors").write_bytes(b"precious")
    with pytest.raises(InputError, match=r"best\.safetensors"):
        train(config)
    assert (config.out / "best.safetensors").read_bytes() == b"precious"
    with pytest.raises(InputError, match="cannot be made"):
        train(replace(config, out=config.out / "best.safetensors" / "run"))


def test_licence_of_the_starting_weights_stays(config: TrainConfig, tmp_path: Path) -> None:
    first = train(replace(config, epochs=1))
    start = Checkpoint.load(first.files.last)
    foreign = tmp_path / "foreign.safetensors"
    from msgspec.structs import replace as change

    Checkpoint(change(start.meta, weights_license="AGPL-3.0"), start.tensors).save(foreign)
    tuned = train(replace(config, epochs=1, out=tmp_path / "tuned", weights=foreign))
    assert Checkpoint.load(tuned.files.last).meta.weights_license == "AGPL-3.0"
    foreign.unlink()  # a run that goes on does not need it any more
    again = resume(tuned.files.root)
    assert again.epochs == 1
    Checkpoint(change(start.meta, weights_license=None), start.tensors).save(foreign)
    with pytest.raises(CheckpointError, match="YOLO12n"):
        train(replace(config, scale="s", out=tmp_path / "other", weights=foreign))


def test_device_and_precision_are_had_or_refused(config: TrainConfig) -> None:
    assert choose_device(config) == ("cpu", "32-true")
    assert choose_device(replace(config, precision="bf16")) == ("cpu", "bf16-mixed")
    with pytest.raises(BackendError, match="fp16"):
        choose_device(replace(config, precision="fp16"))
    if not torch.cuda.is_available():
        with pytest.raises(BackendError, match="cuda"):
            train(replace(config, device="cuda"))


def test_what_a_run_cannot_start_with_is_refused_before_its_pictures_are_looked_at(
    config: TrainConfig, tmp_path: Path
) -> None:
    checkpoint = train(replace(config, epochs=1)).files.last
    dataset = read_dataset(config.data)
    fresh = replace(config, out=tmp_path / "fresh")
    check_start(replace(fresh, weights=checkpoint, teacher=checkpoint), dataset)
    check_start(replace(fresh, scale="s", teacher=checkpoint), dataset)  # a teacher may be of any scale
    with pytest.raises(CheckpointError, match="YOLO12n"):
        check_start(replace(fresh, scale="s", weights=checkpoint), dataset)
    with pytest.raises(CheckpointError, match="teacher's classes"):
        check_start(replace(fresh, teacher=checkpoint), replace(dataset, class_names=("other",)))
    with pytest.raises(InputError, match="holds another run"):
        check_start(config, dataset)
    with pytest.raises(BackendError, match="fp16"):
        check_start(replace(fresh, precision="fp16"), dataset)


def test_nothing_to_resume_is_said(tmp_path: Path, config: TrainConfig) -> None:
    with pytest.raises(InputError, match="not a training run"):
        resume(tmp_path)
