"""``BenchmarkRecord``: the schema of ``benchmark.json``, everything that one run measured.

A record may come from anywhere: it is read with limits, and what contradicts itself is refused.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import msgspec

from ..errors import InputError
from ..manifest import Accuracy, Precision, Sha256

__all__ = [
    "RECORD_LIMIT",
    "SCHEMA_VERSION",
    "BenchmarkRecord",
    "Environment",
    "FreshStart",
    "MeasuredCase",
    "ModelFacts",
    "PercentileEntry",
    "SampleLists",
    "SeriesEntry",
    "Slowdown",
    "SourceFacts",
    "Summary",
    "WarmUpFacts",
]

SCHEMA_VERSION = 1
RECORD_LIMIT = 256 << 20
"""Largest record that is read, in bytes; an hour of calls of 1 ms is 180 MB."""

_MAX_SAMPLES = 5_000_000
_HOUR_MS = 3.6e6
Text = Annotated[str, msgspec.Meta(max_length=500)]
Time = Annotated[float, msgspec.Meta(ge=0, le=_HOUR_MS)]
Positive = Annotated[float, msgspec.Meta(gt=0, le=_HOUR_MS)]
Seconds = Annotated[float, msgspec.Meta(ge=0, le=1e7)]
Count = Annotated[int, msgspec.Meta(ge=0, le=2**53)]
Few = Annotated[int, msgspec.Meta(ge=1, le=65536)]
Fact = str | int | float | bool | list[Text] | None
Times = Annotated[list[Time], msgspec.Meta(max_length=_MAX_SAMPLES)]


class _Struct(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Base of all parts: unknown fields are refused."""


class SampleLists(_Struct, frozen=True, kw_only=True):
    """Every measured call, in order: see ``measuring.Samples``."""

    total_ms: Annotated[list[Positive], msgspec.Meta(min_length=1, max_length=_MAX_SAMPLES)]
    pre_ms: Times
    infer_ms: Times
    post_ms: Times
    start_s: Annotated[list[Seconds], msgspec.Meta(max_length=_MAX_SAMPLES)]
    turn: Annotated[list[Count], msgspec.Meta(max_length=_MAX_SAMPLES)]


class PercentileEntry(_Struct, frozen=True, kw_only=True):
    """A percentile and its 95 % confidence interval."""

    percent: Annotated[float, msgspec.Meta(gt=0, lt=100)]
    ms: Time
    low_ms: Time
    high_ms: Time


class Summary(_Struct, frozen=True, kw_only=True):
    """What the samples say: times of a call in ms; stages are means, of single frames nearly adding up to the mean."""

    samples: Count
    mean_ms: Time
    stdev_ms: Time
    min_ms: Time
    max_ms: Time
    jitter_ms: Time | None
    percentiles: Annotated[list[PercentileEntry], msgspec.Meta(max_length=20)]
    pre_ms: Time
    infer_ms: Time
    post_ms: Time


class WarmUpFacts(_Struct, frozen=True, kw_only=True):
    """How long the time of a call took to settle."""

    calls: Count
    seconds: Seconds
    steady: bool


class Slowdown(_Struct, frozen=True, kw_only=True):
    """Time of the last quarter of a sustained run relative to the first, with its 95 % confidence interval."""

    ratio: Positive
    low: Positive
    high: Positive
    throttles: bool


class MeasuredCase(_Struct, frozen=True, kw_only=True):
    """One model with one number of threads and one batch size.

    ``threads`` is 0 where the engine chose. ``frames_per_s`` is the throughput of ``Runtime.stream``; None of batches.
    """

    model: Text
    threads: Annotated[int, msgspec.Meta(ge=0, le=65536)]
    batch: Few
    engine: Text
    device: Text
    warm_up: WarmUpFacts
    summary: Summary
    frames_per_s: Annotated[float, msgspec.Meta(gt=0, le=1e7)] | None = None
    slowdown: Slowdown | None = None
    objects_per_frame: Annotated[float, msgspec.Meta(ge=0, le=1e6)]
    samples: SampleLists

    @property
    def key(self) -> tuple[str, int, int]:
        """What tells cases of one record apart."""
        return self.model, self.threads, self.batch


class FreshStart(_Struct, frozen=True, kw_only=True):
    """What a process that did nothing else needed; a list has one entry for each process.

    ``import_ms``: importing the Runtime. ``load_ms``: opening the model. ``first_ms``: the first frame.
    ``to_detections_ms``: all of it, from starting the process to the first detections.
    ``loaded_bytes`` and ``peak_bytes``: resident memory with the model open, and at most; 0 where not known.
    """

    import_ms: Annotated[list[Time], msgspec.Meta(min_length=1, max_length=100)]
    load_ms: Annotated[list[Time], msgspec.Meta(min_length=1, max_length=100)]
    first_ms: Annotated[list[Time], msgspec.Meta(min_length=1, max_length=100)]
    to_detections_ms: Annotated[list[Time], msgspec.Meta(min_length=1, max_length=100)]
    loaded_bytes: list[Count]
    peak_bytes: list[Count]


class ModelFacts(_Struct, frozen=True, kw_only=True):
    """One model: what it is, its files, what its manifest says of its accuracy, and how it starts."""

    name: Text
    format: Text
    precision: Precision
    scale: Text | None
    width: Few
    height: Few
    files: dict[Text, Sha256]
    bytes: Count
    accuracy: Accuracy | None
    fresh_start: FreshStart | None


class SourceFacts(_Struct, frozen=True, kw_only=True):
    """The frames; ``digest`` is that of their pixels. Sizes are ``"WIDTHxHEIGHT"``."""

    source: Text
    count: Few
    sizes: Annotated[list[Text], msgspec.Meta(max_length=1000)]
    digest: Sha256


class SeriesEntry(_Struct, frozen=True, kw_only=True):
    """Readings of one sensor."""

    source: Text
    name: Text
    unit: Text
    seconds: Annotated[list[Seconds], msgspec.Meta(max_length=_MAX_SAMPLES)]
    values: Annotated[list[float], msgspec.Meta(max_length=_MAX_SAMPLES)]


class Environment(_Struct, frozen=True, kw_only=True):
    """Where it was measured: ``machine`` is ``machine_summary()``, ``settings`` what ``machine_settings()`` found."""

    machine: dict[Text, Fact]
    settings: dict[Text, Text]
    gpus: Annotated[list[dict[Text, Text]], msgspec.Meta(max_length=64)]
    versions: dict[Text, Text]


class BenchmarkRecord(_Struct, frozen=True, kw_only=True):
    """Everything that one run measured; ``interrupted``: Ctrl-C ended the measuring early."""

    schema_version: int
    created: Annotated[str, msgspec.Meta(max_length=40)]
    command: Annotated[list[Text], msgspec.Meta(max_length=200)]
    environment: Environment
    source: SourceFacts
    sustained_s: Seconds | None
    interrupted: bool = False
    models: Annotated[list[ModelFacts], msgspec.Meta(min_length=1, max_length=1000)]
    cases: Annotated[list[MeasuredCase], msgspec.Meta(min_length=1, max_length=1000)]
    sensors: Annotated[list[SeriesEntry], msgspec.Meta(max_length=10_000)]
    notes: Annotated[list[Annotated[str, msgspec.Meta(max_length=5000)]], msgspec.Meta(max_length=1000)]
    verdict: Annotated[list[Annotated[str, msgspec.Meta(max_length=5000)]], msgspec.Meta(max_length=1000)]

    def to_json(self) -> bytes:
        """Return the content of ``benchmark.json``; lists of numbers take one line each."""
        return msgspec.json.encode(self)

    @classmethod
    def load(cls, path: Path) -> BenchmarkRecord:
        """Read a ``benchmark.json``, or that of a folder.

        Raises:
            InputError: If it is missing, longer than ``RECORD_LIMIT``, not JSON, of another schema version, breaks the
                schema, or contradicts itself.
        """
        file = path / "benchmark.json" if path.is_dir() else path
        try:
            with file.open("rb") as stream:
                text = stream.read(RECORD_LIMIT + 1)
        except OSError as error:
            raise InputError(
                f"{file} cannot be read: {error.strerror}", expected="a benchmark.json or the folder of one"
            ) from error
        return cls.from_json(text, source=str(file))

    @classmethod
    def from_json(cls, text: bytes, *, source: str = "record") -> BenchmarkRecord:
        """Parse and validate the content of a ``benchmark.json``.

        Args:
            text: JSON as ``to_json`` writes it.
            source: Where it was read, for the message.

        Raises:
            InputError: As ``load``.
        """
        if len(text) > RECORD_LIMIT:
            raise InputError(f"{source} is longer than {RECORD_LIMIT >> 20} MiB", expected="a benchmark.json")
        try:
            version = msgspec.json.decode(text, type=_Version).schema_version
            if version != SCHEMA_VERSION:
                raise InputError(
                    f"{source} has schema version {version}",
                    expected=f"version {SCHEMA_VERSION}",
                    remedy="measure again, or compare with the release that wrote it",
                )
            record = msgspec.json.decode(text, type=cls)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise InputError(f"{source} is not a benchmark record: {error}") from error
        if problem := record._problem():
            raise InputError(f"{source} contradicts itself: {problem}", remedy="measure again")
        return record

    def _problem(self) -> str:
        names = {model.name for model in self.models}
        if len(names) != len(self.models):
            return "two models have one name"
        keys = [case.key for case in self.cases]
        if len(set(keys)) != len(keys):
            return "two cases are the same"
        for case in self.cases:
            if case.model not in names:
                return f"there is no model {case.model!r}"
            lists = case.samples
            counts = {len(getattr(lists, field)) for field in lists.__struct_fields__}
            if counts != {case.summary.samples}:
                return f"the lists of samples of {case.model!r} differ in length"
            if any(later < earlier for earlier, later in zip(lists.turn, lists.turn[1:], strict=False)):
                return f"the turns of {case.model!r} are not in order"
        if any(len(series.seconds) != len(series.values) for series in self.sensors):
            return "the readings of a sensor and their times differ in number"
        return ""


class _Version(msgspec.Struct):
    schema_version: int
