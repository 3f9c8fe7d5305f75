"""The reference evaluator: runs the ML Program of a written ``.mlpackage`` without a Mac, operator by operator."""

from .backend import MilBackend
from .evaluator import missing_operators
from .program import MilProgram

__all__ = ["MilBackend", "MilProgram", "missing_operators"]
