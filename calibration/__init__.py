"""Calibration: real images → statistics → ranges → Q/DQ placement → an INT8 model."""

from __future__ import annotations

from .images import CalibrationImages, choose_images
from .observe import observe
from .ranges import METHODS, Method, solve_range
from .tensor_statistics import Statistics

__all__ = ["METHODS", "CalibrationImages", "Method", "Statistics", "choose_images", "observe", "solve_range"]
