"""Quantized weights and the bias that makes up for them."""

from __future__ import annotations

import numpy as np
import pytest

from yolo12edge.calibration.quantizers import largest_weight, quantize_weight
from yolo12edge.calibration.weights import bias_correction


@pytest.mark.parametrize(("reduced", "limit"), [(True, 64), (False, 127)])
def test_weights_are_symmetric_per_channel_and_keep_to_their_bits(reduced, limit):
    rng = np.random.default_rng(0)
    weight = rng.standard_normal((8, 16, 3, 3)).astype(np.float32) * np.logspace(-3, 2, 8)[:, None, None, None]
    weight = weight.astype(np.float32)
    weight[3] = 0
    integers, scales = quantize_weight(weight, reduced_range=reduced)
    assert integers.dtype == np.int8
    assert np.abs(integers.astype(int)).max() <= limit
    assert np.abs(integers.astype(int)).max() > limit // 2
    error = np.abs(integers * scales[:, None, None, None] - weight).reshape(8, -1).max(1)
    peak = np.abs(weight).reshape(8, -1).max(1)
    assert (error <= 0.41 * peak + 1e-12).all()  # clipping may cost the peak up to 40 %
    plain = peak / limit
    rounded = np.round(weight / np.where(plain, plain, 1)[:, None, None, None]) * plain[:, None, None, None]
    assert ((integers * scales[:, None, None, None] - weight) ** 2).sum() <= ((rounded - weight) ** 2).sum() * 1.001


@pytest.mark.parametrize("peak", [0.0, 1e-45, 1e-35, 1e-20, 1e30])
def test_scales_of_tiny_and_huge_channels_are_finite(peak):
    weight = np.full((2, 3, 1, 1), peak, np.float32)
    integers, scales = quantize_weight(weight, reduced_range=False)
    assert np.isfinite(scales).all()
    assert (scales > 0).all()
    np.testing.assert_allclose(integers * scales[:, None, None, None].astype(np.float64), weight, rtol=0.01, atol=1e-30)


@pytest.mark.parametrize("reduced", [False, True])
def test_weights_are_clipped_where_that_costs_least(reduced):
    weight = np.random.default_rng(0).laplace(size=(4, 64, 3, 3)).astype(np.float32)
    integers, scales = quantize_weight(weight, reduced_range=reduced)
    largest = largest_weight(reduced)

    def error(row, scale):
        return ((np.clip(np.round(row / scale), -largest, largest) * scale - row) ** 2).sum()

    for row, scale in zip(weight.astype(np.float64), scales, strict=True):
        best = min(error(row, np.abs(row).max() * fraction / largest) for fraction in np.linspace(0.6, 1, 21))
        assert error(row, scale) == pytest.approx(best, rel=1e-3)
    assert np.abs(integers.astype(int)).max() == largest


def around(image, weight, groups):
    """Convolution with the picture repeated at its edges, so that every position is an interior one."""
    out, each, height, width = weight.shape
    result = np.zeros((out, *image.shape[1:]))
    for o in range(out):
        first = o // (out // groups) * each
        for i in range(each):
            for y in range(height):
                for x in range(width):
                    result[o] += weight[o, i, y, x] * np.roll(image[first + i], (-y, -x), (0, 1))
    return result


@pytest.mark.parametrize(("groups", "size"), [(1, 1), (1, 3), (2, 3), (4, 3), (8, 5)])
def test_bias_correction_restores_the_mean_of_the_output(groups, size):
    rng = np.random.default_rng(groups)
    weight = rng.standard_normal((16, 8 // groups, size, size)).astype(np.float32)
    images = rng.standard_normal((3, 8, 9, 11)) + rng.uniform(-2, 2, (8, 1, 1))
    integers, scales = quantize_weight(weight, reduced_range=True)
    quantized = integers * scales[:, None, None, None]
    shift = bias_correction(weight, quantized, images.mean((0, 2, 3)), groups=groups)
    wanted, found = (
        np.mean([around(image, item, groups).mean((1, 2)) for image in images], axis=0) for item in (weight, quantized)
    )
    assert np.abs(found - wanted).max() > 1e-3
    np.testing.assert_allclose(found + shift, wanted, atol=1e-6)
    assert shift.dtype == np.float64
