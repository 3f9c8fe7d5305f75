"""The search for settings: what is searched, how a study is remembered, and that killed runs go on."""

from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import hypothesis.strategies as st
import numpy as np
import pytest
import torch
import yaml
from hypothesis import given, settings
from typer.testing import CliRunner

from tests.ray_workers import ray_workers
from yolo12edge.cli import app
from yolo12edge.data.scenes import generate_scenes
from yolo12edge.errors import InputError
from yolo12edge.manifest import TASKS, Task
from yolo12edge.training import TrainConfig
from yolo12edge.training.settings import read_settings
from yolo12edge.training.tuning import (
    Range,
    Search,
    Space,
    Trial,
    Tuned,
    default_space,
    open_search,
    read_space,
    tune,
    with_values,
)
from yolo12edge.training.tuning import study as study_module
from yolo12edge.training.tuning.plots import importance_of, plot_study
from yolo12edge.training.tuning.study import Outcome, finished

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:lightning", "ignore::FutureWarning")

BASE = TrainConfig(Path("data.yaml"), Path("out"), task="detect")
SPACE = Space({"lr": Range(low=1e-4, high=1e-2, log=True), "batch": Range(choices=(2, 4, 8))})
MIXED = Space({**SPACE.ranges, "augment": Range(choices=("base", "none")), "augment.mixup.p": Range(low=0.1, high=0.5)})
ROOT = Path(__file__).parents[2]
STORAGES = ("study.jsonl", "study.db")


def opened(path: Path, *, space: Space = SPACE, sampler: str = "random", pruner: str = "median", **more: Any) -> Search:
    if path.suffix == ".db":
        pytest.importorskip("optuna")
    told = {"epochs": 10, "seed": 3, "about": "a", **more}
    return open_search(path, space, sampler=sampler, pruner=pruner, **told)  # type: ignore[arg-type]


def run(search: Search, scores: list[float], state: str = "done") -> Trial:
    trial = search.ask()
    assert trial is not None
    for epoch, score in enumerate(scores, 1):
        search.report(trial.number, epoch, score)
    search.tell(trial.number, state, seconds=1.0)  # type: ignore[arg-type]
    return trial


# --- the space ---


@given(low=st.floats(1e-6, 1e3), width=st.floats(1e-3, 1e3), log=st.booleans(), seed=st.integers(0, 99))
@settings(max_examples=60)
def test_drawn_values_lie_in_their_range(low: float, width: float, log: bool, seed: int) -> None:
    value = Range(low=low, high=low + width, log=log).draw(np.random.default_rng(seed))
    assert low <= value * (1 + 1e-12)
    assert value <= (low + width) * (1 + 1e-12)


def test_orders_of_magnitude_are_equally_likely_where_wanted() -> None:
    rng = np.random.default_rng(0)
    values = [Range(low=1e-4, high=1.0, log=True).draw(rng) for _ in range(400)]
    assert 0.4 < np.mean(np.array(values) < 1e-2) < 0.6


def test_space_is_read_from_yaml(tmp_path: Path) -> None:
    file = tmp_path / "space.yaml"
    file.write_text(
        "lr: {low: 1e-4, high: 1e-2, log: true}\nbatch: [2, 4]\nepochs: {low: 2, high: 8, step: 2}\n"
        "momentum: {low: 0, high: 0.9}\naugment.mixup.p: {low: 0, high: 1}\naugment: [base, none]\n"
    )
    space = read_space(file).fitted(BASE)
    assert space.ranges["epochs"].points() == (2, 4, 6, 8)
    assert space.ranges["augment.mixup.p"].points() is None  # 0 and 1 are bounds of a share, not whole numbers
    assert isinstance(space.draw(np.random.default_rng(0))["momentum"], float)
    file.write_text(yaml.safe_dump(space.to_builtins()))
    assert read_space(file).fitted(BASE) == space


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("lr: {low: 1, high: 0.1}", "from 1.0 to 0.1"),
        ("lr: {low: 0, high: 1, log: true}", "orders of magnitude"),
        ("lr: {low: 0.1, high: 1, log: yes please}", "log is"),
        ("lr: {low: a, high: b}", "values are"),
        ("lr: 3", "values are"),
        ("- lr", "no search space"),
        ("lr: [", "cannot be read"),
    ],
)
def test_wrong_space_files_are_refused(tmp_path: Path, content: str, message: str) -> None:
    file = tmp_path / "space.yaml"
    file.write_text(content)
    with pytest.raises(InputError, match=message):
        read_space(file)


@pytest.mark.parametrize(
    ("path", "entry", "message"),
    [
        ("momentun", Range(low=0.1, high=0.9), "nearest is momentum"),
        ("gains.boxes", Range(low=1.0, high=2.0), "nearest is gains.box"),
        ("momentum", Range(low=0.5, high=1.5), "momentum cannot be"),
        ("batch", Range(low=1.5, high=4.5), "batch"),
        ("optimizer", Range(choices=("adamw", "adagrad")), "adagrad"),
        ("image_size", Range(low=64, high=100, step=10), "multiple of 32"),
        ("augment.mixup.p", Range(low=0.0, high=2.0), "augment.mixup.p"),
        ("augment", Range(choices=("bas",)), "nearest preset is base"),
        ("seed", Range(choices=(1, 2)), "seed is in the search space"),
    ],
)
def test_settings_that_no_run_can_have_are_refused_before_the_first(path: str, entry: Range, message: str) -> None:
    with pytest.raises(InputError, match=message):
        Space({path: entry}).fitted(BASE)


@pytest.mark.parametrize("task", TASKS)
def test_default_space_is_possible_for_every_task(task: Task) -> None:
    base = replace(BASE, task=task, scale="s")
    assert "official-s" in default_space("s").fitted(base).ranges["augment"].choices


def test_values_get_to_their_place_and_nothing_else_changes() -> None:
    changed = with_values(BASE, {"lr": 0.01, "gains.box": 5.0, "augment": "base", "augment.mixup.p": 0.75})
    assert (changed.lr, changed.gains.box, changed.augmentation.mixup.p) == (0.01, 5.0, 0.75)
    assert changed.augmentation.mosaic.p == 0.5
    assert replace(changed, lr=None, gains=BASE.gains, augment=None) == BASE


# --- the study ---


@pytest.mark.parametrize("name", STORAGES)
def test_study_goes_on_where_it_ended(tmp_path: Path, name: str) -> None:
    whole = opened(tmp_path / "whole" / name)
    wanted = [run(whole, [0.1]).values for _ in range(4)]
    whole.close()
    first = opened(tmp_path / name)
    values = [run(first, [0.1]).values for _ in range(2)]
    first.close()
    second = opened(tmp_path / name)
    assert finished(second) == 2
    values += [run(second, [0.1]).values for _ in range(2)]
    assert values == wanted
    assert [trial.score for trial in second.trials()] == [0.1] * 4
    second.close()


@pytest.mark.parametrize("name", STORAGES)
def test_killed_trial_is_marked_and_goes_on_in_another(tmp_path: Path, name: str) -> None:
    first = opened(tmp_path / name)
    run(first, [0.2])
    killed = first.ask()
    first.report(killed.number, 1, 0.5)
    first.close()  # what the system does when a process dies
    second = opened(tmp_path / name)
    assert [trial.state for trial in second.trials()] == ["done", "killed"]
    again = second.ask()
    assert (again.values, again.scores, again.origin) == (killed.values, {1: 0.5}, killed.number)
    second.report(again.number, 2, 0.4)
    second.tell(again.number, "done", seconds=1)
    assert second.trials()[-1].score == 0.5
    new = second.ask()
    assert new.origin == 3
    second.close()
    whole = opened(tmp_path / "whole" / name)
    assert [run(whole, [0.2]).values for _ in range(3)][-1] == new.values  # as if none had been killed
    whole.close()


@pytest.mark.parametrize("name", STORAGES)
def test_trial_that_ends_the_process_each_time_is_given_up(tmp_path: Path, name: str) -> None:
    origins = []
    for _ in range(4):
        search = opened(tmp_path / name)
        origins.append(search.ask().origin)
        search.close()
    assert origins == [0, 0, 0, 3]


@pytest.mark.parametrize("name", STORAGES)
def test_storage_in_use_or_of_another_study_is_refused(tmp_path: Path, name: str) -> None:
    search = opened(tmp_path / name)
    with pytest.raises(InputError, match="in use"):
        opened(tmp_path / name)
    search.close()
    with pytest.raises(InputError, match="another run or search space"):
        opened(tmp_path / name, about="b")
    (tmp_path / f"x{name}").write_bytes(b"\x00garbage\n" * 200)
    with pytest.raises(InputError, match=r"no study|no journal"):
        opened(tmp_path / f"x{name}")


@pytest.mark.parametrize("name", STORAGES)
def test_worse_than_the_median_is_stopped(tmp_path: Path, name: str) -> None:
    search = opened(tmp_path / name)
    for score in (0.3, 0.4, 0.5, 0.6, 0.7):
        run(search, [score] * 4)
    bad, good = search.ask(), search.ask()
    assert not search.report(bad.number, 1, 0.1)  # too early to tell
    assert search.report(bad.number, 4, 0.4)
    assert not search.report(good.number, 4, 0.6)
    search.tell(bad.number, "pruned", seconds=1)
    assert search.trials()[bad.number].state == "pruned"
    for _ in range(5):
        run(search, [0.1] * 4, "pruned")
    assert search.report(search.ask().number, 4, 0.4)  # those that were stopped do not count
    search.close()


@pytest.mark.parametrize("name", STORAGES)
def test_grid_tries_everything_once(tmp_path: Path, name: str) -> None:
    space = Space({"batch": Range(choices=(2, 4)), "epochs": Range(low=1, high=3, whole=True)})
    search = opened(tmp_path / name, space=space, sampler="grid")
    seen = [tuple(run(search, [0.1]).values.values()) for _ in range(6)]
    assert sorted(seen) == [(b, e) for b in (2, 4) for e in (1, 2, 3)]
    assert search.ask() is None
    search.close()
    with pytest.raises(InputError, match="without number"):
        opened(tmp_path / f"y{name}", sampler="grid")


def test_journal_outlives_a_line_that_was_cut(tmp_path: Path) -> None:
    path = tmp_path / "study.jsonl"
    search = opened(path)
    run(search, [0.2])
    search.close()
    path.write_bytes(path.read_bytes() + b'{"trial": 1, "val')
    search = opened(path)
    assert [trial.state for trial in search.trials()] == ["done"]
    run(search, [0.3])
    search.close()
    assert len(opened(path).trials()) == 2


def test_what_needs_optuna_is_refused_without_its_storage(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="tpe"):
        opened(tmp_path / "study.jsonl", sampler="tpe")
    with pytest.raises(InputError, match="hyperband"):
        opened(tmp_path / "study.jsonl", pruner="hyperband")
    with pytest.raises(InputError, match=r"\.db"):
        opened(tmp_path / "study.txt")


def test_tpe_finds_what_is_better_and_hyperband_stops_early(tmp_path: Path) -> None:
    search = opened(tmp_path / "study.db", sampler="tpe", pruner="hyperband")
    pruned = 0
    for _ in range(24):
        trial = search.ask()
        score = 1 - abs(np.log10(trial.values["lr"]) + 3)
        for epoch in (1, 3, 10):
            if search.report(trial.number, epoch, score * epoch / 10):
                search.tell(trial.number, "pruned", seconds=0)
                pruned += 1
                break
        else:
            search.tell(trial.number, "done", seconds=0)
    assert pruned > 2
    late = [abs(np.log10(trial.values["lr"]) + 3) for trial in search.trials()[-10:]]
    assert np.median(late) < 0.35  # 0.5 by chance
    search.close()


# --- the runs ---


def test_only_the_best_run_keeps_its_weights_and_a_failure_does_not_end_the_study(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fake(config: TrainConfig, *, known: Any, report: Any, on_step: Any) -> Outcome:
        config.out.mkdir(parents=True)
        for name in ("best.safetensors", "last.safetensors", "state.ckpt"):
            (config.out / name).touch()
        number = int(config.out.name)
        if number == 1:
            return Outcome("failed", "no memory")
        report(1, [0.2, 0, 0.6, 0.9][number])
        return Outcome("pruned" if number == 3 else "done")  # what did not come to its end is not best

    monkeypatch.setattr(study_module, "run_trial", fake)
    base = replace(BASE, out=tmp_path)
    search = opened(tmp_path / "study.jsonl", space=MIXED)
    tuned = tune(base, search, trials=4)
    assert tuned.best.number == 2
    assert [path.parent.name for path in sorted(tmp_path.glob("trials/*/best.safetensors"))] == ["0002"]
    assert not list(tmp_path.glob("trials/*/state.ckpt"))
    with (tmp_path / "trials.csv").open() as file:
        table = list(csv.DictReader(file))
    assert [row["state"] for row in table] == ["done", "failed", "done", "pruned"]
    assert table[1]["note"] == "no memory"
    assert json.loads((tmp_path / "trials.json").read_text())[2]["scores"] == {"1": 0.6}
    best = read_settings(tmp_path / "best.yaml")  # as `train --config` does
    assert replace(TrainConfig(**best, out=tuned.config.out), augment=None) == replace(tuned.config, augment=None)
    assert TrainConfig(**best, out=tmp_path).augmentation == tuned.config.augmentation
    assert tune(base, search, trials=4).best.number == 2  # nothing is left to do
    search.close()


_KILL = """
import os, signal, sys
from pathlib import Path
import torch
from tests.unit.test_tuning import short_study

torch.set_num_threads(int(sys.argv[3]))
def step(epoch, number, count):
    if epoch == 2:
        os.kill(os.getpid(), signal.SIGKILL)
short_study(Path(sys.argv[1]), Path(sys.argv[2]), step)
"""


def short_study(data: Path, out: Path, on_step: Any = None) -> Tuned:
    base = TrainConfig(data, out, task="detect", epochs=2, batch=4, image_size=64, close_mosaic=1, workers=0)
    base = replace(base, device="cpu")
    space = Space({"lr": Range(low=1e-4, high=1e-2, log=True)})
    search = open_search(out / "study.jsonl", space, sampler="random", pruner="none", epochs=2, seed=1, about="")
    try:
        return tune(base, search, trials=1, on_step=on_step)
    finally:
        search.close()


def test_run_that_was_killed_goes_on_after_its_last_epoch_to_the_same_result(tmp_path: Path) -> None:
    data = generate_scenes(tmp_path / "scenes", train=4, val=2, size=96, seed=5).path
    command = [sys.executable, "-c", _KILL, str(data), str(tmp_path / "cut"), str(torch.get_num_threads())]
    cut = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT)
    assert cut.returncode == -9, cut.stderr
    epochs: set[int] = set()
    tuned = short_study(data, tmp_path / "cut", lambda epoch, *_: epochs.add(epoch))
    assert epochs == {2}
    whole = short_study(data, tmp_path / "whole")
    assert [trial.state for trial in tuned.trials] == ["killed", "done"]
    assert tuned.best.scores == whole.best.scores
    weights = [(tmp_path / name / "trials/0000/best.safetensors").read_bytes() for name in ("whole", "cut")]
    assert weights[0] == weights[1]


def test_run_that_cannot_be_is_a_failed_trial(tmp_path: Path) -> None:
    outcome = study_module.run_trial(
        replace(BASE, out=tmp_path / "run", data=tmp_path / "no.yaml"), known={}, report=lambda *_: False
    )
    assert outcome.state == "failed"
    assert "no.yaml" in outcome.note


# --- the command ---


def test_command_varies_a_run_from_a_file_and_says_how_to_train_with_the_best(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = generate_scenes(tmp_path / "scenes", train=2, val=2, size=96, seed=5).path
    (tmp_path / "run.yaml").write_text(f"data: {data}\nbatch: 4\nepochs: 3\naugment: base\nlr: 1e-3\n")
    (tmp_path / "space.yaml").write_text("lr: [1e-2, 0.002]\naugment.mixup.p: [0.25]\n")
    runs: list[TrainConfig] = []

    def fake(config: TrainConfig, *, report: Any, **_: Any) -> Outcome:
        runs.append(config)
        report(1, config.lr)
        return Outcome("done")

    monkeypatch.setattr(study_module, "run_trial", fake)
    out = tmp_path / "tune"
    command = ["tune", "--config", str(tmp_path / "run.yaml"), "--space", str(tmp_path / "space.yaml"), "--batch", "2"]
    command += ["--out", str(out), "--storage", str(out / "s.jsonl"), "--sampler", "grid", "--trials", "5"]
    result = CliRunner().invoke(app, command)
    assert result.exit_code == 0, result.output
    assert [(run.lr, run.batch, run.epochs, run.augmentation.mixup.p) for run in runs] == [
        (0.01, 2, 3, 0.25),
        (0.002, 2, 3, 0.25),
    ]
    assert runs[0].augmentation.mosaic.p == 0.5  # of the preset in the file
    assert read_settings(out / "best.yaml")["lr"] == 0.01
    assert CliRunner().invoke(app, [*command, "--workers", "0"]).exit_code == 0  # the same study
    assert "another run" in str(CliRunner().invoke(app, [*command, "--batch", "3"]).exception)
    assert len(runs) == 2
    (tmp_path / "run.yaml").write_text("bach: 4\n")
    assert "did you mean 'batch'" in str(CliRunner().invoke(app, command).exception)


# --- on a cluster ---


@pytest.mark.slow
def test_cluster_goes_on_with_the_trial_of_a_worker_that_was_killed(tmp_path: Path) -> None:
    pytest.importorskip("ray", reason="ray is not installed")
    from yolo12edge.training.tuning.cluster import tune_on_cluster

    data = generate_scenes(tmp_path / "scenes", train=2, val=2, size=96, seed=5).path
    base = TrainConfig(data, tmp_path / "out", task="detect", epochs=2, batch=2, image_size=64, workers=0, device="cpu")
    search = opened(base.out / "study.jsonl", pruner="none")
    killed: list[int] = []
    plain_report = search.report

    def report(number: int, epoch: int, score: float) -> bool:
        if not killed:
            killed.extend(ray_workers("ImplicitFunc"))
            for process in killed:
                os.kill(process, signal.SIGKILL)
        return plain_report(number, epoch, score)

    search.report = report  # type: ignore[method-assign]
    tuned = tune_on_cluster(base, search, trials=2, address="local")
    search.close()
    assert killed
    assert [(trial.state, sorted(trial.scores)) for trial in tuned.trials] == [("done", [1, 2])] * 2
    assert read_settings(base.out / "best.yaml")["lr"] == tuned.best.values["lr"]


# --- plots ---


def trials_of(count: int, seed: int) -> list[Trial]:
    rng = np.random.default_rng(seed)
    made = []
    for number in range(count):
        values = SPACE.draw(rng)
        score = 0.5 - 0.1 * abs(np.log10(values["lr"]) + 3) + rng.normal(0, 0.001)
        made.append(Trial(number, values, state="done" if number % 4 else "pruned", scores={1: score}, seconds=1.0))
    return made


def test_importance_says_which_setting_decides() -> None:
    found = importance_of(trials_of(60, 0), SPACE)
    assert list(found) == ["lr", "batch"]
    assert found["lr"] > 0.5
    assert found["batch"] < 0.1
    assert importance_of(trials_of(5, 0), SPACE) == {}


def test_plots_are_drawn_of_what_there_is(tmp_path: Path) -> None:
    names = [path.name for path in plot_study(tmp_path, trials_of(20, 1), SPACE)]
    assert names == ["history.png", "importance.png", "parallel.png"]
    assert [path.name for path in plot_study(tmp_path, trials_of(2, 1), SPACE)] == ["history.png", "parallel.png"]
    assert plot_study(tmp_path, [Trial(0, {}, state="failed", note="x")], SPACE) == []
