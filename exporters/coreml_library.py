"""coremltools as a converter: the systems that it converts for, and how to keep its progress bars from the terminal."""

from __future__ import annotations

import io
import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr
from typing import Any, Literal, get_args

from ..errors import InputError
from ..runtimes.coreml_library import import_coremltools

__all__ = ["TARGETS", "CoremlTarget", "import_coremltools", "quietly", "target_of"]

CoremlTarget = Literal["iOS16", "iOS17", "iOS18"]
"""The oldest system that runs a model; macOS 13, 14 and 15 are of the same age."""
TARGETS: tuple[CoremlTarget, ...] = get_args(CoremlTarget)


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
