"""Who trains: this process alone, others that it starts on this machine, or those that a launcher started.

``torchrun`` and ``srun`` start the processes of a run themselves, on one machine or many, and tell each its place by
environment variables. Without them a run with ``devices`` above 1 starts its other processes here, in the same way.
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryFile
from typing import IO, TYPE_CHECKING

from torch import distributed

from ..errors import BackendError, InputError, Yolo12EdgeError
from .sharding import sharding_strategy

if TYPE_CHECKING:
    from lightning.pytorch.strategies import Strategy

    from .config import TrainConfig

__all__ = ["Place", "other_processes", "placed", "strategy_of"]

_OWN = "yolo12edge"  # run id of the processes that a run starts itself
_GRACE = 10.0  # seconds for a process to end by itself
_NOTICE = 3.0  # seconds after an error here in which one that caused it ends


@dataclass(frozen=True, slots=True)
class Place:
    """The place of this process in a run.

    Attributes:
        rank: Its number, from 0; the first one writes and speaks.
        devices: Processes on each machine.
        nodes: Machines.
    """

    rank: int = 0
    devices: int = 1
    nodes: int = 1

    @property
    def processes(self) -> int:
        """Processes of the run."""
        return self.devices * self.nodes

    @classmethod
    def given(cls) -> Place | None:
        """Return the place that a launcher gave to this process; None without one.

        Raises:
            InputError: If what the launcher says cannot be.
        """
        names = next((names for names in _LAUNCHERS if all(name in os.environ for name in names)), None)
        if names is None:
            return None
        try:
            rank, total, per_node = (int(os.environ[name]) for name in names)
            if names is _SLURM:
                per_node, rest = divmod(total, per_node)  # Slurm tells the machines
                if rest:
                    per_node = 0
            if not 0 <= rank < total or per_node < 1 or total % per_node:
                raise ValueError
        except ValueError:
            shown = ", ".join(f"{name}={os.environ[name]}" for name in names)
            raise InputError(
                f"the launcher's variables make no sense: {shown}",
                expected="the same number of processes on each machine",
                remedy="start with torchrun or srun, or unset them to train in one process",
            ) from None
        return cls(rank, per_node, total // per_node)


_TORCHRUN = ("RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE")
_SLURM = ("SLURM_PROCID", "SLURM_NTASKS", "SLURM_STEP_NUM_NODES")  # the last is set by srun, not by sbatch
_LAUNCHERS = (_TORCHRUN, _SLURM)


def placed(config: TrainConfig, *, resumed: bool = False) -> tuple[TrainConfig, Place]:
    """Return a run's place and its configuration there: what a launcher started is what trains.

    Args:
        config: The run.
        resumed: Whether it goes on; it may have begun with other numbers then.

    Raises:
        InputError: If the configuration names other numbers, needs a launcher, or a batch cannot be shared out.
    """
    given = Place.given()
    wanted = (config.devices, config.nodes)
    if given is None:
        if config.nodes > 1:
            raise InputError(
                f"nodes is {config.nodes} and this process was started alone",
                remedy="start it on each machine with torchrun or srun; examples/cluster has scripts for both",
            )
        place = Place(0, *wanted)
    else:
        place = given
        if not resumed and wanted not in ((1, 1), (place.devices, place.nodes)):
            raise InputError(
                f"the run asks for {wanted[0]} devices on each of {wanted[1]} machines, and the launcher started "
                f"{place.devices} processes on each of {place.nodes}",
                remedy="leave devices and nodes out: the launcher's numbers count",
            )
    if place.processes == 1 and not resumed:
        for name, default in (("sync_bn", False), ("strategy", "auto")):
            if getattr(config, name) != default:
                raise InputError(
                    f"{name} is {getattr(config, name)} and there is one device",
                    remedy=f"leave {name} out, or ask for more devices",
                )
    if config.batch % place.processes:
        raise InputError(
            f"a batch of {config.batch} images cannot be shared out to {place.processes} processes",
            expected=f"a multiple of {place.processes}: the batch is that of all processes together",
        )
    return replace(config, devices=place.devices, nodes=place.nodes), place


def strategy_of(config: TrainConfig, place: Place) -> Strategy | str:
    """Return how Lightning lets the processes of a run work together; to be called with their variables set."""
    if place.processes == 1:
        return "auto"
    from lightning.fabric.plugins.environments.slurm import SLURMEnvironment
    from lightning.fabric.plugins.environments.torchelastic import TorchElasticEnvironment
    from lightning.pytorch.strategies import DDPStrategy

    started_by_torchrun = all(name in os.environ for name in _TORCHRUN)
    # Slurm may start a job again; a run goes on from its own state.
    environment = TorchElasticEnvironment() if started_by_torchrun else SLURMEnvironment(auto_requeue=False)
    if config.strategy == "deepspeed":
        return sharding_strategy(config, environment)
    return DDPStrategy(cluster_environment=environment, gradient_as_bucket_view=True)


@contextmanager
def other_processes(root: Path, place: Place, *, resumed: bool) -> Iterator[None]:
    """Start the other processes of a run on this machine, unless a launcher has; end them with the block.

    Args:
        root: The run's directory, with its configuration.
        place: That of this process.
        resumed: Whether the run goes on from its state.

    Raises:
        BackendError: If one of them failed.
    """
    if place.processes == 1 or Place.given() is not None:
        with _group():
            yield
        return
    common = {
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(_free_port()),
        "WORLD_SIZE": str(place.processes),
        "LOCAL_WORLD_SIZE": str(place.processes),
        "TORCHELASTIC_RUN_ID": _OWN,
    }
    with ExitStack() as stack:
        others: list[tuple[subprocess.Popen[bytes], IO[bytes]]] = []
        for rank in range(1, place.processes):
            log = stack.enter_context(TemporaryFile())
            command = [sys.executable, "-m", "yolo12edge.training.worker", str(root), *["--resume"] * resumed]
            process = subprocess.Popen(
                command,
                env={**os.environ, **common, **_ranks(rank)},
                stdin=subprocess.PIPE,  # its end tells a worker that this process is gone
                stdout=log,
                stderr=log,
                start_new_session=True,  # Ctrl-C is for this process, which ends the others
            )
            stack.callback(_end, process)
            others.append((process, log))
        stack.enter_context(_variables({**common, **_ranks(0)}))
        try:
            with _group():
                yield
        except Yolo12EdgeError:  # found here; what another process says of it is that this one is gone
            raise
        except Exception as error:
            failed = _first_failure(others)
            if failed is None:
                raise
            raise BackendError(f"a process of the run failed:\n{failed}") from error
        for process, _ in others:
            with suppress(subprocess.TimeoutExpired):
                process.wait(_GRACE)


@contextmanager
def _group() -> Iterator[None]:
    """Leave the group that Lightning makes of the processes: this one may do other things afterwards."""
    try:
        yield
    finally:
        if distributed.is_available() and distributed.is_initialized():
            distributed.destroy_process_group()


def _ranks(rank: int) -> dict[str, str]:
    return {"RANK": str(rank), "LOCAL_RANK": str(rank), "GROUP_RANK": "0"}


def _free_port() -> int:
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        port: int = server.getsockname()[1]
        return port


@contextmanager
def _variables(values: dict[str, str]) -> Iterator[None]:
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


def _first_failure(others: list[tuple[subprocess.Popen[bytes], IO[bytes]]]) -> str | None:
    """Return the last words of a process that failed, if one did; its end may be a moment away."""
    for process, log in others:
        with suppress(subprocess.TimeoutExpired):
            if process.wait(_NOTICE):
                log.seek(0)
                return log.read().decode(errors="replace").strip()[-2000:] or f"exit status {process.returncode}"
    return None


def _end(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is None:
        process.terminate()
        with suppress(subprocess.TimeoutExpired):
            process.wait(2.0)
    if process.poll() is None:
        process.kill()
        process.wait()
    if process.stdin is not None:
        process.stdin.close()
