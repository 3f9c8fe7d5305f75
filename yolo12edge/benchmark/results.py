"""Writing a run: ``benchmark.json``, ``benchmark.html`` and the plots, all of them or none."""

from __future__ import annotations

from pathlib import Path

from ..errors import MissingDependencyError
from ..files import atomic_directory
from .page import benchmark_page
from .plots import inline_plots, save_plots
from .record import BenchmarkRecord

__all__ = ["write_results"]


def write_results(record: BenchmarkRecord, folder: Path) -> list[str]:
    """Write the folder of a run; it must not hold files yet.

    Args:
        record: What was measured.
        folder: Where to.

    Returns:
        What could not be written, as sentences: without matplotlib the plots are left out, and the page says so.

    Raises:
        InputError: If the folder is in use or cannot be written.
    """
    notes = []
    with atomic_directory(folder, overwrite=False) as place:
        (place / "benchmark.json").write_bytes(record.to_json())
        try:
            save_plots(record, place)
            plots = inline_plots(record)
        except MissingDependencyError as error:
            plots = None
            notes.append(f"the plots are left out: {error}")
        (place / "benchmark.html").write_text(benchmark_page(record, plots), encoding="utf-8")
    return notes
