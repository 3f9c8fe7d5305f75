"""coremltools, kept quiet: its progress bars, and its remarks on what only a Mac has, are nothing for the user."""

from __future__ import annotations

import io
import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr
from typing import Any, Literal, get_args

from ..errors import InputError, MissingDependencyError

__all__ = ["TARGETS", "CoremlTarget", "import_coremltools", "quietly", "target_of"]

CoremlTarget = Literal["iOS16", "iOS17", "iOS18"]
"""The oldest system that runs a model; macOS 13, 14 and 15 are of the same age."""
TARGETS: tuple[CoremlTarget, ...] = get_args(CoremlTarget)


def import_coremltools() -> Any:
    """Import coremltools.

    Raises:
        MissingDependencyError: If it is not installed.
    """
    with quietly():
        try:
            import coremltools
        except ImportError as error:
            raise MissingDependencyError("coremltools", extra="coreml", purpose="for Core ML models") from error
    return coremltools


@contextmanager
def quietly() -> Iterator[None]:
    """Keep what coremltools prints, logs below an error, and warns of from the terminal."""
    disabled = logging.root.manager.disable
    logging.disable(logging.ERROR)
    try:
        with redirect_stderr(io.StringIO()), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(disabled)


def target_of(name: str) -> Any:
    """Return coremltools' own member for a deployment target.

    Raises:
        InputError: If there is no such target here.
        MissingDependencyError: If coremltools is not installed.
    """
    if name not in TARGETS:
        raise InputError(f"deployment target {name!r} is not known", expected=f"one of {', '.join(TARGETS)}")
    return getattr(import_coremltools().target, name)
