"""``benchmark.html``: a run as one page that needs nothing else."""

from __future__ import annotations

from collections.abc import Iterable
from statistics import median

from ..reports.formats import NONE, decimal, megabytes, plural
from ..reports.markup import Markup, Node, data_table, document, fact_list, section, tag
from .percentiles import PERCENTS, supporting_samples
from .plots import MAX_CASES, RunPlots
from .record import BenchmarkRecord, MeasuredCase, ModelFacts, SeriesEntry
from .verdict import case_name

__all__ = ["benchmark_page"]

Row = list[Node]


def benchmark_page(record: BenchmarkRecord, plots: RunPlots | None) -> str:
    """Return the page.

    Args:
        record: What was measured.
        plots: Its plots; None where they could not be drawn, which the page then says.
    """
    return document(
        f"Benchmark: {', '.join(model.name for model in record.models)}",
        _top(record),
        _latency(record, plots),
        _stages(record),
        _over_time(record, plots),
        _starting(record),
        _sensors(record),
        _models(record),
        _machine(record),
        section("How to reproduce", tag("pre", tag("code", " ".join(record.command)))) if record.command else None,
        tag("footer", f"Measured {record.created}. The file benchmark.json beside this page has every sample."),
    )


def _top(record: BenchmarkRecord) -> Markup:
    machine, cases = record.environment.machine, record.cases
    where = machine.get("board") or machine.get("cpu") or machine.get("machine")
    what = (
        f"{where}, {', '.join(dict.fromkeys(case.device for case in cases))}; "
        f"{plural(record.source.count, 'frame')} of {record.source.source}, {', '.join(record.source.sizes[:3])}"
    )
    marks = []
    if record.sustained_s is not None:
        marks.append(tag("li", f"Sustained: {record.sustained_s / 60:.3g} minutes", class_="good"))
    if record.interrupted:
        marks.append(tag("li", "Interrupted", class_="warn"))
    if any(case.slowdown is not None and case.slowdown.throttles for case in cases):
        marks.append(tag("li", "Slows down", class_="bad"))
    if not all(case.warm_up.steady for case in cases):
        marks.append(tag("li", "Not steady after warming up", class_="warn"))
    return tag(
        "header",
        tag("p", "Benchmark", class_="kind"),
        tag("h1", " and ".join(model.name for model in record.models)),
        tag("p", what, class_="what"),
        tag("ul", *marks, class_="marks") if marks else None,
        tag("div", *(tag("p", line) for line in record.verdict), class_="verdict"),
        tag("ul", *_tiles(record), class_="tiles"),
        tag("div", *(tag("p", f"Note: {note}") for note in record.notes), class_="caption") if record.notes else None,
    )


def _tiles(record: BenchmarkRecord) -> Iterable[Markup]:
    for case in record.cases[:6]:
        value = _percentile(case, 50.0)
        yield tag(
            "li",
            tag("strong", f"{value} ms" if value != NONE else NONE),
            tag("span", f"{case_name(case, record.cases)}: half of {case.summary.samples:,} calls took no longer"),
        )


def _latency(record: BenchmarkRecord, plots: RunPlots | None) -> Markup:
    rows: list[Row] = []
    for case in record.cases:
        summary = case.summary
        rate = None if case.frames_per_s is None else decimal(case.frames_per_s, 1)
        figures = [
            *(_percentile(case, percent) for percent in PERCENTS),
            decimal(summary.jitter_ms),
            decimal(summary.mean_ms),
            decimal(summary.max_ms),
        ]
        rows.append([case_name(case, record.cases), f"{summary.samples:,}", *figures, rate or NONE])
    head = ["", "calls", *(f"p{percent:g}" for percent in PERCENTS), "jitter", "mean", "slowest", "stream frames/s"]
    needs = ", ".join(f"p{percent:g} {supporting_samples(percent):,}" for percent in PERCENTS)
    notes = (
        f"A percentile is shown where the samples support it with 95 % confidence (calls needed: {needs}). Jitter is "
        "the mean difference between a call and the one before. Stream frames/s is the "
        "throughput of Runtime.stream, which works on several frames at a time: it is not 1000 / p50."
    )
    return section(
        "Latency",
        data_table(head, rows, caption="From frame to detections, ms of a call; models took turns"),
        tag("p", notes, class_="caption"),
        *_figures(record, plots),
    )


def _figures(record: BenchmarkRecord, plots: RunPlots | None) -> Iterable[Markup]:
    if plots is None:
        yield tag("p", "Plots are left out: matplotlib is not installed (pip install 'yolo12edge[val]').")
        return
    yield _figure(plots.histogram, "Distribution of the latency")
    yield _figure(plots.percentiles, "Percentiles of the latency, with 95 % confidence intervals")
    if len(record.cases) > MAX_CASES:
        yield tag("p", f"Drawn are the first {MAX_CASES} of {len(record.cases)} cases.", class_="caption")


def _figure(svg: Markup, caption: str) -> Markup:
    drawn = Markup(svg.replace("<svg", f'<svg role="img" aria-label="{caption}"', 1))
    return tag("figure", drawn, tag("figcaption", caption))


def _percentile(case: MeasuredCase, percent: float) -> str:
    return next((decimal(item.ms) for item in case.summary.percentiles if item.percent == percent), NONE)


def _stages(record: BenchmarkRecord) -> Markup:
    rows: list[Row] = []
    for case in record.cases:
        stages = [getattr(case.summary, name) / case.batch for name in ("pre_ms", "infer_ms", "post_ms")]
        share = sum(stages[::2]) / sum(stages) if sum(stages) else None
        objects = decimal(case.objects_per_frame, 1)
        rows.append(
            [
                case_name(case, record.cases),
                *(decimal(stage, 3) for stage in stages),
                NONE if share is None else f"{decimal(100 * share, 1)} %",
                objects,
            ]
        )
    head = ["", "preprocessing", "engine", "postprocessing", "share of pre and post", "objects"]
    return section("Stages", data_table(head, rows, caption="Where the time goes, ms of a frame, means"))


def _over_time(record: BenchmarkRecord, plots: RunPlots | None) -> Markup | None:
    if record.sustained_s is None:
        return None
    rows: list[Row] = []
    for case in record.cases:
        slowdown = case.slowdown
        values = (None, None, None) if slowdown is None else (slowdown.ratio, slowdown.low, slowdown.high)
        said = "too short to say" if slowdown is None else "slows down" if slowdown.throttles else "keeps its speed"
        rows.append([case_name(case, record.cases), *map(decimal, values), said])
    head = ["", "last ÷ first quarter", "95 % from", "to", ""]
    table = data_table(head, rows, caption="Median of the last quarter of the run relative to the first", words=(4,))
    figure = None if plots is None or plots.over_time is None else _figure(plots.over_time, "Latency over time")
    return section("Sustained load", table, figure)


def _starting(record: BenchmarkRecord) -> Markup:
    rows: list[Row] = []
    for model in record.models:
        start = model.fresh_start
        if start is None:
            continue
        lists = (start.to_detections_ms, start.import_ms, start.load_ms, start.first_ms)
        sizes = (_memory(values) for values in (start.loaded_bytes, start.peak_bytes))
        rows.append([model.name, *(f"{median(values):,.0f}" for values in lists), *sizes])
    head = ["", "to first detections", "import", "load", "first frame", "loaded, MB", "peak, MB"]
    caption = "A fresh process with the files in the system's cache: ms, and resident memory; medians"
    return section("Cold start and memory", data_table(head, rows, caption=caption))


def _memory(sizes: list[int]) -> str:
    return megabytes(int(median(sizes))) if sizes and min(sizes) > 0 else NONE


def _sensors(record: BenchmarkRecord) -> Markup:
    told = [series for series in record.sensors if series.values]
    if not told:
        return section(
            "Clocks, temperature, power",
            tag("p", "This machine tells none of them (cpufreq, thermal zones, RAPL, NVML, tegrastats, INA3221)."),
        )
    rows: list[Row] = [_reading(series) for series in told]
    head = ["", "unit", "mean", "lowest", "highest", "first", "last", "readings"]
    return section(
        "Clocks, temperature, power",
        data_table(head, rows, caption="What the machine told while it was measured", words=(1,)),
    )


def _reading(series: SeriesEntry) -> Row:
    values = series.values
    figures = (sum(values) / len(values), min(values), max(values), values[0], values[-1])
    return [f"{series.name} ({series.source})", series.unit, *(decimal(value, 1) for value in figures), len(values)]


def _models(record: BenchmarkRecord) -> Markup:
    rows: list[Row] = [_model(model) for model in record.models]
    head = ["", "precision", "format", "input", "MB", "accuracy", "float's", "SHA-256"]
    return section("Models", data_table(head, rows, caption="What was measured", words=(1, 2, 3, 7)))


def _model(model: ModelFacts) -> Row:
    accuracy = model.accuracy
    points = (None, None) if accuracy is None else (100 * accuracy.value, 100 * accuracy.reference_value)
    digests = tag("code", ", ".join(f"{name} {digest[:12]}" for name, digest in model.files.items()))
    size = f"{model.width}x{model.height}"
    return [
        model.name,
        model.precision,
        model.format,
        size,
        megabytes(model.bytes),
        *(decimal(value, 1) for value in points),
        digests,
    ]


def _machine(record: BenchmarkRecord) -> Markup:
    environment = record.environment
    machine, cases = environment.machine, record.cases
    memory = machine.get("memory_bytes")
    features = machine.get("cpu_features")
    pairs: list[tuple[str, Node]] = [
        ("Engine", ", ".join(dict.fromkeys(case.engine for case in cases))),
        ("Device", ", ".join(dict.fromkeys(case.device for case in cases))),
        ("Threads", ", ".join(str(count or "the engine's own choice") for count in sorted({c.threads for c in cases}))),
        ("Board", _word(machine.get("board"))),
        ("Processor", _word(machine.get("cpu"))),
        ("Features", ", ".join(map(str, features)) if isinstance(features, list) else None),
        ("Cores", f"{_word(machine.get('cores_usable'))} usable of {_word(machine.get('cores_logical'))}"),
        ("Memory", f"{memory / 2**30:.1f} GiB" if isinstance(memory, int) else None),
        ("GPUs", ", ".join(gpu.get("name", "") for gpu in environment.gpus)),
        ("System", _word(machine.get("os"))),
        ("Python", _word(machine.get("python"))),
        *((name.replace("_", " ").capitalize(), value) for name, value in environment.settings.items()),
        ("Versions", ", ".join(f"{name} {version}" for name, version in environment.versions.items())),
        ("Frames", f"SHA-256 {record.source.digest[:16]}"),
    ]
    return section("Machine and versions", fact_list([(name, value) for name, value in pairs if value]))


def _word(value: object) -> str | None:
    return None if value is None else str(value)
