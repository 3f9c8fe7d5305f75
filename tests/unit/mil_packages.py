"""Small CoreML packages, written by coremltools' own builder, for the tests of the reference evaluator."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

MODEL = "Data/com.apple.CoreML/model.mlmodel"
WEIGHTS = "Data/com.apple.CoreML/weights/weight.bin"
MANIFEST = "Manifest.json"


def written(
    build: Callable[..., Any], inputs: Mapping[str, tuple[tuple[int, ...], str]], *, target: str = "iOS17"
) -> dict[str, bytes]:
    """Return the files of a package, without any of the passes of ``coremltools.convert``.

    Args:
        build: Called with the builder and the inputs by name; returns one output or several, which are named
            ``out0`` and so on.
        inputs: Shape and element type by name.
        target: Generation of the operators.
    """
    from yolo12edge.exporters.coreml_library import import_coremltools

    ct = import_coremltools()
    from coremltools.converters.mil import Builder as mb
    from coremltools.converters.mil.backend.mil.load import load
    from coremltools.converters.mil.mil import Function, Program, types

    version = getattr(ct.target, target)
    program = Program()
    places = {
        name: mb.placeholder(shape=shape, dtype=types.string_to_builtin(dtype))
        for name, (shape, dtype) in inputs.items()
    }
    with Function(places, opset_version=version) as function:
        found = build(mb, **function.inputs)
        results = [mb.identity(x=one, name=f"out{place}") for place, one in enumerate(_listed(found))]
        function.set_outputs(results)
    program.add_function("main", function)
    with tempfile.TemporaryDirectory() as folder:
        spec = load(program, folder, specification_version=version)
        weights = Path(folder) / "weight.bin"
        content = weights.read_bytes() if weights.exists() else None
    return files_of(spec.SerializeToString(), content)


def files_of(model: bytes, weights: bytes | None) -> dict[str, bytes]:
    index = {
        "fileFormatVersion": "1.0.0",
        "itemInfoEntries": {"one": {"name": "model.mlmodel", "path": "com.apple.CoreML/model.mlmodel"}},
        "rootModelIdentifier": "one",
    }
    files = {MANIFEST: json.dumps(index).encode(), MODEL: model}
    return files if weights is None else {**files, WEIGHTS: weights}


def files_in(package: Path) -> dict[str, bytes]:
    return {str(path.relative_to(package)): path.read_bytes() for path in package.rglob("*") if path.is_file()}


def results(build: Callable[..., Any], feeds: Mapping[str, np.ndarray], *, target: str = "iOS17") -> list[np.ndarray]:
    """Write, read and run a program."""
    from yolo12edge.exporters.mil_evaluator import MilProgram

    kinds = {"float16": "fp16", "float32": "fp32", "int32": "int32", "int8": "int8"}
    inputs = {name: (array.shape, kinds[array.dtype.name]) for name, array in feeds.items()}
    found = MilProgram.load(written(build, inputs, target=target)).run(feeds)
    return [found[name] for name in sorted(found)]


def result(build: Callable[..., Any], feeds: Mapping[str, np.ndarray], *, target: str = "iOS17") -> np.ndarray:
    (found,) = results(build, feeds, target=target)
    return found


def _listed(found: Any) -> list[Any]:
    return list(found) if isinstance(found, (list, tuple)) else [found]
