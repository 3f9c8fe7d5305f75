"""The report card that lies beside an INT8 artifact: ``report.json`` for programs, ``report.html`` for people."""

from __future__ import annotations

from .card import write_card

__all__ = ["write_card"]
