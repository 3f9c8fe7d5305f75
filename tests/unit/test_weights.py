"""Quantized weights and the bias that makes up for them."""

from __future__ import annotations

import numpy as np
import pytest

from yolo12edge.calibration.quantizers import quantize_weight


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
