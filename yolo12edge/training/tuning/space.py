"""``Space``: which settings are searched, by dotted path, and how their values get into a ``TrainConfig``."""

from __future__ import annotations

import difflib
import itertools
import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import yaml

from ...data.augment import load_augmentation
from ...errors import InputError
from ..config import TrainConfig

__all__ = ["Range", "Space", "Value", "default_space", "read_space", "settings_of", "with_values"]

Value = bool | int | float | str | None
Settings = dict[str, Any]

_MAX_BYTES = 1 << 20
_FIXED = ("data", "out", "task", "seed")  # trials of one study are compared: these are the same in all
_SAMPLES = 5  # points of a range that are checked


@dataclass(frozen=True, slots=True)
class Range:
    """The values that one setting may have: from a list, or from ``low`` to ``high``.

    Attributes:
        choices: The list; empty if there are bounds.
        low: Lowest value.
        high: Highest value.
        log: Whether orders of magnitude are equally likely, rather than values.
        step: Distance of neighbouring values; None means any, of whole numbers 1.
        whole: Whether values are whole numbers.

    Raises:
        InputError: If the bounds are no bounds.
    """

    choices: tuple[Value, ...] = ()
    low: float = 0.0
    high: float = 0.0
    log: bool = False
    step: float | None = None
    whole: bool = False

    def __post_init__(self) -> None:
        if self.choices:
            return
        if not (math.isfinite(self.low) and math.isfinite(self.high) and self.low < self.high):
            raise InputError(f"a range goes from {self.low} to {self.high}", expected="finite bounds, the lower first")
        if self.log and (self.low <= 0 or self.step is not None):
            raise InputError(
                f"a range by orders of magnitude goes from {self.low:g}" + f" by {self.step}" * (self.step is not None),
                expected="a lower bound above 0, and no step",
            )
        if self.step is not None and not 0 < self.step <= self.high - self.low:
            raise InputError(f"the step of a range is {self.step}", expected=f"above 0, to {self.high - self.low:g}")

    def draw(self, rng: np.random.Generator) -> Value:
        """Return a random value."""
        if self.choices:
            return self.choices[int(rng.integers(len(self.choices)))]
        if self.log:
            value = math.exp(rng.uniform(math.log(self.low), math.log(self.high)))
            return round(value) if self.whole else value
        if (points := self.points()) is not None:
            return points[int(rng.integers(len(points)))]
        return float(rng.uniform(self.low, self.high))

    def points(self) -> tuple[Value, ...] | None:
        """Return all values where they can be counted, ascending; else None."""
        if self.choices:
            return self.choices
        step = self.step if self.step is not None else 1.0 if self.whole and not self.log else None
        if step is None:
            return None
        values = [self.low + index * step for index in range(int((self.high - self.low) / step + 1e-9) + 1)]
        return tuple(round(value) if self.whole else float(f"{value:.12g}") for value in values)


@dataclass(frozen=True, slots=True)
class Space:
    """What is searched.

    Attributes:
        ranges: By dotted path of the setting: ``lr``, ``gains.box``, ``augment.mixup.p``.
    """

    ranges: Mapping[str, Range]

    def draw(self, rng: np.random.Generator) -> dict[str, Value]:
        """Return random values of all settings."""
        return {path: entry.draw(rng) for path, entry in self.ranges.items()}

    def grid(self) -> dict[str, tuple[Value, ...]]:
        """Return all values of each setting.

        Raises:
            InputError: If a range has values without number.
        """
        grid = {}
        for path, entry in self.ranges.items():
            points = entry.points()
            if points is None:
                raise InputError(f"{path} has values without number", remedy="a grid needs `choices:` or a `step:`")
            grid[path] = points
        return grid

    def combinations(self) -> Iterator[dict[str, Value]]:
        """Give each point of the grid."""
        grid = self.grid()
        for values in itertools.product(*grid.values()):
            yield dict(zip(grid, values, strict=True))

    def fitted(self, base: TrainConfig) -> Space:
        """Return the space with whole numbers where settings are; every range is tried on the run.

        Raises:
            InputError: If there is no such setting, it must be the same in all trials, or a value is not possible.
        """
        fitted = {}
        for path, entry in self.ranges.items():
            if path.partition(".")[0] in _FIXED:
                raise InputError(f"{path} is in the search space", expected=f"settings other than {', '.join(_FIXED)}")
            fitted[path] = _fitted(base, path, entry)
        return Space(fitted)

    def to_builtins(self) -> dict[str, Any]:
        """Return it as ``read_space`` reads it."""
        bounds = ("low", "high", "log", "step")
        return {
            path: list(entry.choices)
            if entry.choices
            else {name: getattr(entry, name) for name in bounds if getattr(entry, name) not in (None, False)}
            | {"low": entry.low}
            for path, entry in self.ranges.items()
        }


def _fitted(base: TrainConfig, path: str, entry: Range) -> Range:
    tried: tuple[Value, ...] = entry.choices
    if not entry.choices:
        if all(float(value).is_integer() for value in (entry.low, entry.high, entry.step or 0)):
            changed = with_values(base, {path: int(entry.low)})
            if isinstance(_get(settings_of(changed), path), int):
                entry = replace(entry, low=int(entry.low), high=int(entry.high), whole=True)
        points = entry.points() or tuple(np.linspace(entry.low, entry.high, _SAMPLES).tolist())
        step = max(1, len(points) // _SAMPLES)
        tried = tuple(round(float(v)) if entry.whole else v for v in (*points[::step], points[-1]))  # type: ignore[arg-type]
    for value in tried:
        try:
            with_values(base, {path: value})
        except InputError as error:
            raise InputError(f"{path} cannot be {value!r}: {error.fact}", expected=error.expected) from error
    return entry


def default_space(scale: str) -> Space:
    """Return what is worth searching first: the optimizer's settings, and how strongly pictures are changed.

    Args:
        scale: Of the model, whose published recipe takes part.
    """
    return Space(
        {
            "lr": Range(low=2e-4, high=1e-2, log=True),
            "weight_decay": Range(low=1e-5, high=5e-3, log=True),
            "momentum": Range(low=0.85, high=0.97),
            "augment": Range(choices=(f"official-{scale}", "none", "base", "small-data", "large-data")),
        }
    )


def read_space(path: Path) -> Space:
    """Read a space from YAML: a list of values, or ``{low, high}`` with ``log: true`` or ``step:``, by setting.

    Raises:
        InputError: If the file cannot be read, or does not say that.
    """
    try:
        if path.stat().st_size > _MAX_BYTES:
            raise InputError(f"{path} is larger than a search space can be", expected=f"at most {_MAX_BYTES} bytes")
        content = yaml.safe_load(path.read_bytes())
    except (OSError, UnicodeDecodeError, yaml.YAMLError, RecursionError) as error:
        raise InputError(f"{path} cannot be read: {error}", expected="a search space as YAML") from error
    if not isinstance(content, dict) or not content:
        raise InputError(
            f"{path} holds no search space", expected="settings with their values: lr: {low: 1e-4, high: 1e-2}"
        )
    ranges = {}
    for name, entry in content.items():
        try:
            ranges[str(name)] = _range(entry)
        except InputError as error:
            raise InputError(f"{path}, {name}: {error.fact}", expected=error.expected) from error
    return Space(ranges)


def _range(entry: object) -> Range:
    if isinstance(entry, dict) and set(entry) == {"choices"}:
        entry = entry["choices"]
    if isinstance(entry, list) and entry and all(isinstance(value, Value) for value in entry):
        return Range(choices=tuple(float(value) if _is_power(value) else value for value in entry))
    if not isinstance(entry, dict) or not {"low", "high"} <= set(entry) <= {"low", "high", "log", "step"}:
        raise InputError(f"the values are {entry!r:.80}", expected="a list, or low and high, with log: true or a step")
    log = entry.get("log", False)
    try:
        numbers = {name: float(entry[name]) for name in ("low", "high", "step") if entry.get(name) is not None}
    except (TypeError, ValueError) as error:
        raise InputError(f"the values are {entry!r:.80}", expected="numbers") from error
    if not isinstance(log, bool):
        raise InputError(f"log is {log!r}", expected="true or false")
    return Range(**numbers, log=log)  # type: ignore[arg-type]


def _is_power(value: object) -> bool:
    """Return whether YAML took a number such as 1e-4, which has no dot, for text."""
    return isinstance(value, str) and re.fullmatch(r"[-+]?\d+\.?\d*[eE][-+]?\d+", value) is not None


def settings_of(config: TrainConfig) -> Settings:
    """Return a configuration as plain values, the augmentation as it is used."""
    settings: Settings = msgspec.to_builtins(replace(config, augment=config.augmentation), enc_hook=str)
    return settings


def with_values(base: TrainConfig, values: Mapping[str, Value]) -> TrainConfig:
    """Return a run with other settings.

    Args:
        base: The run.
        values: By dotted path; ``augment`` is the name of a preset or a file.

    Raises:
        InputError: If there is no such setting, or it cannot have the value.
    """
    settings = settings_of(base)
    if not any(path.partition(".")[0] == "augment" for path in values):
        settings["augment"] = None if base.augment is None else settings["augment"]
    for path, value in sorted(values.items(), key=lambda item: item[0].count(".")):
        if path == "augment":
            settings["augment"] = msgspec.to_builtins(load_augmentation(str(value), task=base.task or "detect"))
        else:
            _set(settings, path, value)
    try:
        made = msgspec.convert(settings, TrainConfig, dec_hook=_decode)
    except msgspec.ValidationError as error:
        raise InputError(f"the settings {dict(values)} are not possible: {error}") from error
    # What no field takes is dropped without a word by the conversion.
    kept = settings_of(made)
    for path, value in values.items():
        if path == "augment":
            continue
        if _get(kept, path) != value:
            raise InputError(f"there is no setting {path}{_nearest(path, kept)}")
    return made


def _decode(kind: type, value: Any) -> Any:
    if kind is Path and isinstance(value, str):
        return Path(value)
    raise NotImplementedError(kind.__name__)


def _set(settings: Settings, path: str, value: Value) -> None:
    *parents, last = path.split(".")
    place = settings
    for name in parents:
        if not isinstance(place.get(name), dict):
            if name not in place and place is settings:
                raise InputError(f"there is no setting {path}{_nearest(path, settings)}")
            place[name] = {}
        place = place[name]
    if not parents and last not in settings:
        raise InputError(f"there is no setting {path}{_nearest(path, settings)}")
    place[last] = value


def _get(settings: Settings, path: str) -> object:
    place: object = settings
    for name in path.split("."):
        place = place.get(name, _MISSING) if isinstance(place, dict) else _MISSING
    return place


_MISSING = object()


def _nearest(path: str, settings: Settings) -> str:
    close = difflib.get_close_matches(path, list(_paths(settings)), 1)
    return f"; the nearest is {close[0]}" if close else ""


def _paths(settings: Settings, prefix: str = "") -> Iterator[str]:
    for name, value in settings.items():
        yield prefix + name
        if isinstance(value, dict):
            yield from _paths(value, f"{prefix}{name}.")
