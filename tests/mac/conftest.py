"""What is run on a Mac alone, by ``make test-coreml``: true predictions of Core ML, compared with the evaluator."""

from __future__ import annotations

import pytest

from yolo12edge.runtimes.coreml_library import macos_version


def pytest_configure(config):
    config.addinivalue_line("markers", "coreml: runs Core ML, hence on a Mac alone (make test-coreml)")


@pytest.fixture(scope="session", autouse=True)
def mac():
    """Skips everything elsewhere."""
    if macos_version() is None:
        pytest.skip("Core ML runs on macOS alone; there, run make test-coreml")
    pytest.importorskip("coremltools", reason="coremltools is not installed; pip install 'yolo12edge[coreml]'")
