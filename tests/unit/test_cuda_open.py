"""``open_cuda``: which library it takes, and what it says where there is none."""

from __future__ import annotations

import pytest

from yolo12edge.errors import InputError, MissingDependencyError
from yolo12edge.runtimes import cuda
from yolo12edge.runtimes.cuda import open_cuda


@pytest.fixture
def installed(monkeypatch):
    """What is installed: names may be put in; the drivers are their own names."""
    names: set[str] = set()
    monkeypatch.delenv("YOLO12EDGE_CUDA", raising=False)
    monkeypatch.setattr(cuda, "_has", lambda name: name in names)
    monkeypatch.setattr("yolo12edge.runtimes.cuda.bindings_driver.BindingsCuda", lambda: "bindings")
    monkeypatch.setattr("yolo12edge.runtimes.cuda.pycuda_driver.PyCuda", lambda: "pycuda")
    return names


@pytest.mark.parametrize(
    ("there", "wish", "variable", "taken"),
    [
        ({"cuda.bindings"}, None, None, "bindings"),
        ({"pycuda"}, None, None, "pycuda"),
        ({"cuda.bindings", "pycuda"}, None, None, "bindings"),
        ({"cuda.bindings", "pycuda"}, None, "", "bindings"),
        ({"cuda.bindings", "pycuda"}, "pycuda", None, "pycuda"),
        ({"cuda.bindings", "pycuda"}, None, "pycuda", "pycuda"),
        ({"cuda.bindings", "pycuda"}, "cuda-bindings", "pycuda", "bindings"),
    ],
)
def test_choice(installed, monkeypatch, there, wish, variable, taken):
    installed |= there
    if variable is not None:
        monkeypatch.setenv("YOLO12EDGE_CUDA", variable)
    assert open_cuda(wish) == taken


def test_what_is_asked_for_is_taken_or_an_error(installed, monkeypatch):
    installed.add("cuda.bindings")
    with pytest.raises(MissingDependencyError, match=r"'pycuda' is not installed.*pip install pycuda"):
        open_cuda("pycuda")
    installed.clear()
    with pytest.raises(MissingDependencyError, match="'cuda-bindings' is not installed"):
        open_cuda()
    with pytest.raises(InputError, match=r"library is 'cupy'.*'cuda-bindings' or 'pycuda'"):
        open_cuda("cupy")
    monkeypatch.setenv("YOLO12EDGE_CUDA", "cupy")
    with pytest.raises(InputError, match="YOLO12EDGE_CUDA is 'cupy'"):
        open_cuda()


def test_a_package_that_is_not_there_is_no_crash():
    assert not cuda._has("no_such_package.at_all")
    assert cuda._has("numpy.linalg")
