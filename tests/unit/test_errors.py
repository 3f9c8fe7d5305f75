from __future__ import annotations

import pickle

import pytest

from yolo12edge import errors
from yolo12edge.errors import ExportError, InputError, MissingDependencyError, VerificationError, Yolo12EdgeError


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (InputError("the list is empty"), "the list is empty."),
        (InputError("the list is empty."), "the list is empty."),
        (InputError("size is 3", expected="4"), "size is 3. Expected: 4."),
        (InputError("size is 3", remedy="give 4."), "size is 3. Remedy: give 4."),
        (InputError("size is 3", expected="4", remedy="give 4"), "size is 3. Expected: 4. Remedy: give 4."),
    ],
)
def test_message_says_fact_expectation_and_remedy_in_that_order(error: InputError, message: str) -> None:
    assert str(error) == message


def test_parts_stay_readable() -> None:
    error = InputError("a", expected="b", remedy="c")
    assert (error.fact, error.expected, error.remedy) == ("a", "b", "c")


def test_missing_dependency_names_the_command() -> None:
    error = MissingDependencyError("onnxruntime", extra="onnxruntime", purpose="to run ONNX artifacts")
    assert "'onnxruntime' is not installed; it is needed to run ONNX artifacts." in str(error)
    assert "pip install 'yolo12edge[onnxruntime]'" in str(error)


@pytest.mark.parametrize(
    ("machine", "package", "words"),
    [
        ("aarch64", "tensorrt", "--system-site-packages"),
        ("aarch64", "cuda-bindings", "pip install 'yolo12edge[tensorrt]'"),
        ("x86_64", "pycuda", "pip install pycuda"),
        ("x86_64", "tensorrt", "pip install 'yolo12edge[tensorrt]'"),
    ],
)
def test_remedy_brings_what_is_missing(monkeypatch: pytest.MonkeyPatch, machine: str, package: str, words: str) -> None:
    monkeypatch.setattr("platform.machine", lambda: machine)
    error = MissingDependencyError(package, extra="tensorrt", purpose="to run engines")
    assert words in error.remedy
    assert str(pickle.loads(pickle.dumps(error))) == str(error)


def test_every_public_error_has_the_one_base() -> None:
    for name in errors.__all__:
        assert issubclass(getattr(errors, name), Yolo12EdgeError), name
    assert issubclass(VerificationError, ExportError)


def _example(name: str) -> Yolo12EdgeError:
    if name == "MissingDependencyError":
        return MissingDependencyError("onnx", extra="export", purpose="to export")
    error: Yolo12EdgeError = getattr(errors, name)("fact", expected="this", remedy="that")
    return error


@pytest.mark.parametrize("name", errors.__all__)
def test_errors_cross_processes(name: str) -> None:
    """Data-loading workers hand their errors over by pickle."""
    error = _example(name)
    twin = pickle.loads(pickle.dumps(error))
    assert type(twin) is type(error)
    assert str(twin) == str(error)
    assert vars(twin) == vars(error)
    assert twin.remedy


def test_a_question_keeps_its_mark_alone() -> None:
    assert str(InputError("no 'epoch'", remedy="did you mean 'epochs'?")).endswith("did you mean 'epochs'?")
