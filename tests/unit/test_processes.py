"""Several processes train as one: the same losses, the same weights, the same scores."""

from __future__ import annotations

import csv
import os
import subprocess
import sys
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from shutil import copytree
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from tests.task_data import make_dataset
from yolo12edge.checkpoint import Checkpoint
from yolo12edge.data.scenes import generate_scenes
from yolo12edge.errors import BackendError, DatasetError, InputError, MissingDependencyError
from yolo12edge.manifest import TASKS
from yolo12edge.training import EpochRecord, TrainConfig, resume, sharding, train
from yolo12edge.training.optim import plan_run
from yolo12edge.training.processes import Place, other_processes, placed
from yolo12edge.training.sharding import check_sharding, sharding_strategy
from yolo12edge.training.shared_norm import share_norms

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:lightning")
LAUNCHED = ("RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE", "SLURM_PROCID", "SLURM_NTASKS", "SLURM_STEP_NUM_NODES")


@pytest.fixture(autouse=True)
def alone(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in LAUNCHED:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return generate_scenes(tmp_path_factory.mktemp("data") / "scenes", train=8, val=8, size=96, seed=5).path


@pytest.fixture
def config(data: Path, tmp_path: Path) -> TrainConfig:
    """Two epochs of two steps whose gradients are summed; plain SGD, so that weights tell of gradients."""
    return TrainConfig(
        data=data,
        out=tmp_path / "one",
        epochs=2,
        batch=4,
        nominal_batch=8,
        image_size=64,
        close_mosaic=1,
        workers=0,
        device="cpu",
        optimizer="sgd",
        lr=0.001,
        warmup_epochs=0,
    )


def rows(root: Path) -> list[dict[str, float]]:
    with (root / "results.csv").open() as file:
        return [{key: float(value) for key, value in row.items() if key != "seconds"} for row in csv.DictReader(file)]


def tensors(root: Path) -> dict[str, torch.Tensor]:
    return Checkpoint.load(root / "last.safetensors").tensors


@pytest.mark.slow
def test_two_processes_go_on_as_one_would(config: TrainConfig, tmp_path: Path) -> None:
    """One process trains two epochs; two processes take over a copy of the run after the first."""
    together = replace(config, out=tmp_path / "two", devices=2, sync_bn=True)

    def copy(record: EpochRecord) -> None:
        if record.epoch == 1:
            copytree(config.out, together.out)

    train(config, on_epoch=copy)
    start = tensors(together.out)
    (together.out / "config.json").write_bytes(together.to_json())
    told: list[int] = []
    result = resume(together.out, on_epoch=lambda record: told.append(record.epoch))
    assert (result.epochs, told) == (2, [2])
    assert not torch.distributed.is_initialized()
    for mine, theirs in zip(rows(together.out), rows(config.out), strict=True):
        assert mine == pytest.approx(theirs, rel=1e-4, abs=1e-6, nan_ok=True)
    mine, theirs = tensors(together.out), tensors(config.out)
    moved = {key: float((theirs[key].double() - start[key].double()).abs().max()) for key in theirs}
    assert mine.keys() == theirs.keys()
    assert max(moved.values()) > 1e-3
    assert max(float((mine[key].double() - theirs[key].double()).abs().max()) for key in mine) < 5e-6


@pytest.mark.slow
def test_failure_of_another_process_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "config.json").write_text("{}")  # the other process cannot read it

    monkeypatch.setattr("yolo12edge.training.processes._NOTICE", 60.0)
    with (
        pytest.raises(BackendError, match="not a training configuration"),
        other_processes(tmp_path / "run", Place(0, 2, 1), resumed=False),
    ):
        raise RuntimeError("connection closed by peer")
    assert "RANK" not in os.environ


def test_loaders_of_another_process_start_while_it_listens_to_the_first() -> None:
    code = (
        "import multiprocessing, sys, time\n"
        "from threading import Thread\n"
        "from yolo12edge.training.worker import _end_with_parent\n"
        "Thread(target=_end_with_parent, daemon=True).start()\n"
        "time.sleep(0.2)\n"
        "loader = multiprocessing.get_context('fork').Process(target=int)\n"
        "loader.start()\n"
        "loader.join(10)\n"
        "ended = loader.exitcode\n"
        "loader.kill()\n"
        "sys.exit(ended != 0)\n"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE) as process:
        assert process.wait(60) == 0


def test_norm_of_one_process_is_the_ordinary_one() -> None:
    torch.manual_seed(0)
    plain, shared = nn.Sequential(nn.BatchNorm2d(3)), nn.Sequential(nn.BatchNorm2d(3))
    share_norms(shared)
    assert shared.state_dict().keys() == plain.state_dict().keys()
    pictures = torch.randn(4, 3, 5, 5)
    assert torch.equal(shared(pictures), plain(pictures))
    assert torch.equal(shared.eval()(pictures), plain.eval()(pictures))


_PAIR = """
import sys, torch
from torch import distributed, nn
sys.path.insert(0, sys.argv[2])
from yolo12edge.training.collectives import gather_everywhere, gather_to_first, shared_divisor, sum_of_all
from yolo12edge.training.shared_norm import share_norms
rank = int(sys.argv[1])
distributed.init_process_group("gloo", init_method="file://" + sys.argv[3], rank=rank, world_size=2)
torch.manual_seed(0)
everything = torch.randn(6, 3, 4, 4, dtype=torch.float64) * 5 + 100
goal = torch.randn(6, 3, 4, 4, dtype=torch.float64)
whole, mine = (nn.Sequential(nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3)).double() for _ in range(2))
mine.load_state_dict(whole.state_dict())
share_norms(mine)
own = everything[rank::2].clone().requires_grad_()
every = everything.clone().requires_grad_()
((whole(every) - goal).square() * goal).sum().backward()
((mine(own) - goal[rank::2]).square() * goal[rank::2]).sum().backward()
close = lambda a, b: torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-9)
close(own.grad, every.grad[rank::2])
for a, b in zip(mine.parameters(), whole.parameters()):
    close(sum_of_all(a.grad), b.grad)
for a, b in zip(mine.buffers(), whole.buffers()):
    close(a, b)
assert float(shared_divisor(1.0 + 2 * rank, own)) == 2.0
assert float(shared_divisor(0.1, own, least=1)) == 0.5
with torch.no_grad():
    assert float(shared_divisor(0.1, own, least=1)) == 1.0
assert gather_to_first(rank) == ([0, 1] if rank == 0 else [])
assert gather_everywhere(rank) == [0, 1]
distributed.barrier()
distributed.destroy_process_group()
"""


def pair(script: str, *arguments: str) -> None:
    """Run a script in two processes, with its rank, the checkout and what else it is given."""
    root = Path(__file__).parents[2]
    started = [
        subprocess.Popen([sys.executable, "-c", script, str(rank), str(root), *arguments], stderr=subprocess.PIPE)
        for rank in (0, 1)
    ]
    ends = [process.communicate(timeout=240)[1].decode() for process in started]
    assert [process.returncode for process in started] == [0, 0], ends


def test_norm_and_divisors_of_two_processes_are_those_of_their_pictures_together(tmp_path: Path) -> None:
    pair(_PAIR, str(tmp_path / "meeting"))


_TASKS = """
import sys, torch
from pathlib import Path
from torch import distributed
sys.path.insert(0, sys.argv[2])
from tests.task_data import make_dataset
from yolo12edge.data.dataset import read_dataset
from yolo12edge.data.loader import PictureDataset, collate
from yolo12edge.manifest import TASKS
from yolo12edge.nn import ModelConfig, build_model
from yolo12edge.training.collectives import process_count, sum_of_all
from yolo12edge.training.distillation import IMITATIONS, Taught
from yolo12edge.training.losses import LossSettings, make_loss
rank = int(sys.argv[1])

def gradients(task, network, teacher, items, settings):
    taught = Taught(make_loss(task, settings), teacher, (0, 1), IMITATIONS[task], settings, gain=2.0)
    batch = collate(items)
    weights = [weight for weight in network.parameters() if weight.requires_grad]
    total = torch.stack(list(taught(network(batch.images.float() / 255), batch).values())).sum()
    return torch.autograd.grad(total * len(items) * process_count(), weights, allow_unused=True)

found = []
for together in (False, True):
    if together:
        distributed.init_process_group("gloo", init_method="file://" + sys.argv[3], rank=rank, world_size=2)
    for number, task in enumerate(TASKS):
        folder = Path(sys.argv[4]) / task
        dataset = read_dataset(folder if task == "classify" else folder / "data.yaml")
        pictures = PictureDataset(dataset.samples("train"), image_size=64, task=task, keypoints=dataset.keypoints)
        items = [pictures[0, index] for index in range(4)]
        if task != "classify":  # the second process has nothing to learn from
            items[1::2] = [item._replace(**{
                name: value[:0] if name != "masks" else value * 0
                for name, value in item._asdict().items() if name != "image" and value is not None
            }) for item in items[1::2]]
        settings = LossSettings(keypoints=dataset.keypoints)
        made = ModelConfig(task=task, num_classes=2, keypoints=dataset.keypoints)
        torch.manual_seed(0)
        network, teacher = build_model(made), build_model(made)
        with torch.no_grad():  # until the averages of batch norms are those of pictures
            for model in (network, teacher) * 3:
                model.train()(torch.rand(2, 3, 64, 64))
        network.eval(), teacher.eval()
        if not together:
            found.append(gradients(task, network, teacher, items, settings))
            continue
        for whole, part in zip(found[number], gradients(task, network, teacher, items[rank::2], settings)):
            if whole is not None:
                assert float((sum_of_all(part) / 2 - whole).norm()) < 1e-3 * float(whole.norm()) + 1e-9, task
distributed.barrier()
distributed.destroy_process_group()
"""


@pytest.mark.slow
def test_gradients_of_two_processes_are_those_of_one_in_every_task(tmp_path: Path) -> None:
    """With a teacher, and with all that is labelled in the pictures of one of the processes."""
    for task in TASKS:
        make_dataset(task, tmp_path / "data" / task, images=4, size=64)
    pair(_TASKS, str(tmp_path / "meeting"), str(tmp_path / "data"))


def test_place_comes_from_the_launcher(config: TrainConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    assert placed(config) == (config, Place())
    for name, value in (("RANK", "3"), ("WORLD_SIZE", "4"), ("LOCAL_WORLD_SIZE", "2")):
        monkeypatch.setenv(name, value)
    here, place = placed(config)
    assert place == Place(3, 2, 2)
    assert (here.devices, here.nodes) == (2, 2)
    assert placed(here) == (here, place)
    with pytest.raises(InputError, match="launcher started 2"):
        placed(replace(config, devices=4))
    assert placed(replace(config, devices=4), resumed=True) == (here, place)
    assert placed(replace(config, sync_bn=True))[0].sync_bn  # of the launcher's processes, whose number it need not say
    with pytest.raises(InputError, match="shared out to 4"):
        placed(replace(config, batch=6))
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "3")
    with pytest.raises(InputError, match="LOCAL_WORLD_SIZE=3"):
        placed(config)
    for name in LAUNCHED[:3]:
        monkeypatch.delenv(name)
    for name, value in (("SLURM_PROCID", "1"), ("SLURM_NTASKS", "8"), ("SLURM_STEP_NUM_NODES", "2")):
        monkeypatch.setenv(name, value)
    assert placed(replace(config, batch=8))[1] == Place(1, 4, 2)


def test_what_several_processes_cannot_do_is_refused(config: TrainConfig) -> None:
    with pytest.raises(InputError, match="started alone"):
        train(replace(config, nodes=2))
    with pytest.raises(InputError, match="shared out"):
        train(replace(config, devices=3))
    with pytest.raises(BackendError, match="'deepspeed' does not train on 'cpu'"):
        train(replace(config, devices=2, strategy="deepspeed"))
    for one in ({"sync_bn": True}, {"strategy": "ddp"}):
        with pytest.raises(InputError, match="there is one device"):
            train(replace(config, **one))
    with pytest.raises(DatasetError, match="16 processes"):
        train(replace(config, batch=16, devices=16))
    assert not config.out.exists()


def test_deepspeed_is_told_what_the_run_is_and_refused_what_it_cannot_do(
    config: TrainConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The library itself is not needed for it."""
    wanted = replace(config, devices=2, strategy="deepspeed", clip_norm=3.0, nominal_batch=4)
    monkeypatch.setattr(sharding, "find_spec", lambda name: None)
    with pytest.raises(MissingDependencyError, match="deepspeed"):
        check_sharding(wanted, plan_run(wanted, images=8, num_classes=2))
    check_sharding(config, plan_run(config, images=8, num_classes=2))  # another strategy
    for change, said in (({"nominal_batch": 8}, "gradients of 2 steps"), ({"optimizer": "lamb"}, "goes by layers")):
        other = replace(wanted, **change)
        with pytest.raises(InputError, match=said):
            check_sharding(other, plan_run(other, images=8, num_classes=2))
    wanted.out.mkdir()
    (wanted.out / "config.json").write_bytes(wanted.to_json())
    with pytest.raises(InputError, match="nothing is kept to go on from"):
        resume(wanted.out)

    given: dict[str, object] = {}

    class Fake:
        def __init__(self, **settings: object) -> None:
            given.update(settings)

    monkeypatch.setattr("lightning.pytorch.strategies.DeepSpeedStrategy", Fake)
    environment = object()
    strategy = sharding_strategy(wanted, environment)  # type: ignore[arg-type]
    assert given["cluster_environment"] is environment
    settings = given["config"]
    assert isinstance(settings, dict)
    assert settings["zero_optimization"] == {"stage": 2}
    assert (settings["gradient_clipping"], settings["train_micro_batch_size_per_gpu"]) == (3.0, 2)
    # The step is not run inside of the engine's own call, which it makes by itself.
    strategy.precision_plugin = SimpleNamespace(train_step_context=nullcontext)  # type: ignore[misc,assignment]
    strategy.lightning_module = SimpleNamespace(training_step=lambda batch: batch + 1)  # type: ignore[misc,assignment]
    assert strategy.training_step(1) == 2
