"""``connected``: a Ray cluster for as long as it is worked with, one that runs or one on this machine alone."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from typing import Any, Literal

from .errors import BackendError, MissingDependencyError

__all__ = ["connected"]


@contextmanager
def connected(address: str, *, part: Literal["data", "tune"], purpose: str, cores: int | None = None) -> Iterator[Any]:
    """Connect to a cluster, and leave it in the end; where this process is connected already, that one is used.

    Args:
        address: Of a cluster, such as ``auto`` or ``ray://head:10001``; ``local`` starts one on this machine that ends
            with the work.
        part: Of Ray that is used.
        purpose: What for, as the end of "Ray is needed".
        cores: That a local one has room for; None means those of the machine.

    Yields:
        The module ``ray``.

    Raises:
        MissingDependencyError: If Ray or this part of it is not installed.
        BackendError: If the cluster cannot be reached, or cannot be started.
    """
    try:
        import ray

        import_module(f"ray.{part}")
    except ImportError as error:
        raise MissingDependencyError("ray", extra="cluster", purpose=purpose) from error
    if ray.is_initialized():
        yield ray
        return
    own: dict[str, Any] = {"num_cpus": cores, "include_dashboard": False} if address == "local" else {}
    os.environ.setdefault("RAY_raylet_start_wait_time_s", "120")  # 30 is too little for a machine at work
    try:
        ray.init(address=address, log_to_driver=False, logging_level="error", **own)
    except Exception as error:  # a machine that does not start is a plain one
        raise BackendError(
            f"the Ray cluster {address} cannot be used: {(str(error) or type(error).__name__).splitlines()[0]}",
            expected="local, auto, or the address of a cluster",
            remedy="start one with `ray start --head`, which prints its address",
        ) from error
    try:
        yield ray
    finally:
        ray.shutdown()
