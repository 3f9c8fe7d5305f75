"""Ranges of activations, each method against a plain reckoning."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from yolo12edge.calibration.observe import TensorObserver
from yolo12edge.calibration.quantizers import activation_params
from yolo12edge.calibration.ranges import METHODS, _divergence, solve_range
from yolo12edge.calibration.tensor_statistics import BINS, TensorStatistics


def statistics_of(*parts: np.ndarray) -> TensorStatistics:
    observer = TensorObserver()
    for part in parts:
        assert observer.add(part.astype(np.float32))
    return observer.result()


@pytest.mark.parametrize("symmetric", [False, True])
@pytest.mark.parametrize("seed", range(3))
def test_mse_range_is_as_good_as_brute_force(seed, symmetric):
    rng = np.random.default_rng(seed)
    x = rng.standard_normal(20000) * 2
    values = x / (1 + np.exp(-x))  # SiLU: lopsided, as in the network
    values[:3] = [25.0, 31.0, 40.0]  # outliers that clipping should sacrifice
    statistics = statistics_of(*np.array_split(values, 4))  # few enough at once that all enter the histogram
    low, high = solve_range(statistics, "mse", symmetric=symmetric)

    def error(low: float, high: float) -> float:
        step = (high - low) / 255
        return float(((np.round(np.clip(values, low, high) / step) * step - values) ** 2).sum())

    tries = np.linspace(0.25, 1, 151)
    if symmetric:
        best = min(error(-40 * f, 40 * f) for f in tries)
    else:
        best = min(error(values.min() * g, 40 * f) for f in tries for g in np.linspace(0.3, 1, 29))
    assert error(low, high) <= 1.05 * best
    assert error(low, high) < error(*solve_range(statistics, "minmax", symmetric=symmetric))


def test_percentile_leaves_out_the_outermost_values():
    values = np.concatenate((np.linspace(-1, 1, 100000), [3.0]))
    low, high = solve_range(statistics_of(*np.array_split(values, 20)), "percentile", symmetric=False)
    assert low == pytest.approx(-1, abs=0.004)
    assert high == pytest.approx(1, abs=0.004)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("values", [[0.0, 0.0], [2.0, 3.0], [-3.0, -2.0], [-1e-30, 1e-30], [1e-42, -2e-42]])
@pytest.mark.parametrize("symmetric", [False, True])
def test_zero_lies_in_every_range_and_is_exact(method, values, symmetric):
    low, high = solve_range(statistics_of(np.array(values)), method, symmetric=symmetric)
    assert low <= 0 <= high
    assert low < high
    params = activation_params(low, high, signed=symmetric)
    assert params.scale > 0
    assert np.isfinite(params.scale)
    assert params.zero_point.dtype == (np.int8 if symmetric else np.uint8)
    if symmetric:
        assert low == -high
        assert params.zero_point == 0


@st.composite
def tensors(draw):
    """Statistics of values of any size, lopsided or not, with or without outliers, spikes and gaps."""
    rng = np.random.default_rng(draw(st.integers(0, 1000)))
    values = rng.standard_normal(draw(st.integers(2, 3000)))
    values += draw(st.sampled_from([0, 0, 2, -5]))
    if draw(st.booleans()):
        values = values / (1 + np.exp(-values))
    if draw(st.booleans()):
        values[:: draw(st.integers(2, 50))] *= draw(st.sampled_from([0, 20, 1000]))
    if draw(st.booleans()):
        values = np.round(values, 1)
    return statistics_of(values * 10.0 ** draw(st.integers(-20, 20)))


@settings(max_examples=150)
@given(tensors(), st.sampled_from(METHODS), st.booleans())
def test_ranges_hold_zero_and_lie_within_the_extremes(statistics, method, symmetric):
    low, high = solve_range(statistics, method, symmetric=symmetric)
    assert low <= 0 <= high
    assert low < high
    least, most = min(statistics.low, 0), max(statistics.high, 0)
    if symmetric:
        assert low == -high
        least, most = -max(-least, most), max(-least, most)
    if least < most:
        assert least <= low
        assert high <= most


@settings(max_examples=60)
@given(tensors(), st.booleans())
def test_mse_is_never_worse_than_minmax(statistics, symmetric):
    def error(method):
        low, high = solve_range(statistics, method, symmetric=symmetric)
        step = (high - low) / 255
        values = statistics.centres()
        return (statistics.counts * (np.round(np.clip(values, low, high) / step) * step - values) ** 2).sum()

    assert error("mse") <= error("minmax") * (1 + 1e-9)


def plain_divergence(counts, first, last):
    """Migacz's reckoning, bin by bin."""
    clipped = counts[first:last].astype(float)
    inside = clipped.copy()
    clipped[0] += counts[:first].sum()
    clipped[-1] += counts[last:].sum()
    edges = np.round(np.linspace(first, last, 256)).astype(int) - first
    quantized = np.zeros_like(clipped)
    for start, end in itertools.pairwise(edges):
        filled = clipped[start:end] > 0
        if filled.any():
            quantized[start:end][filled] = max(inside[start:end].sum(), 1e-4) / filled.sum()
    p, q = clipped / clipped.sum(), quantized / inside.sum()
    filled = p > 0
    return (p[filled] * np.log(p[filled] / q[filled])).sum()


@settings(max_examples=25)
@given(tensors())
def test_divergence_is_that_of_the_histograms(statistics):
    first = np.array([0, 1024, 1700, 1900, 2040])
    last = np.array([BINS, 3072, 2300, 4096, 2800])
    found = _divergence(statistics.counts, first, last)
    for index, (start, end) in enumerate(zip(first, last, strict=True)):
        if statistics.counts[start:end].sum():
            assert found[index] == pytest.approx(plain_divergence(statistics.counts, start, end), abs=1e-9)
        else:
            assert found[index] == np.inf


@pytest.mark.parametrize("symmetric", [False, True])
def test_entropy_clips_an_outlier_and_no_more(symmetric):
    values = np.random.default_rng(0).standard_normal(200_000).clip(-4, 4)
    values[0] = 60.0
    low, high = solve_range(statistics_of(*np.array_split(values, 20)), "entropy", symmetric=symmetric)
    assert 3 < high < 10
    assert low == (-high if symmetric else -4.0)
