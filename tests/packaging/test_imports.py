"""Imports point one way, and torch stays where it belongs: read from the source, without running it."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
MAPPED = ("calibration", "exporters", "runtimes")

# Who may import whom, beside itself.
ALLOWED = {
    "core": "",
    "reading": "core",
    "runtimes": "core reading torch_backend",
    "torch_backend": "core reading runtimes nn checkpoint",
    "benchmark": "core reading runtimes",
    "metrics": "core reading runtimes",
    "calibration": "core reading runtimes metrics benchmark",
    "exporters": "core reading runtimes torch_backend benchmark metrics calibration nn checkpoint",
    "nn": "core",
    "checkpoint": "core nn",
    "loaders": "core reading nn checkpoint",
    "training": "core reading nn checkpoint loaders metrics",
    "assets": "",
    "adaptors": "core",
    "cluster": "core reading runtimes",
}
EVERYTHING = {"cli", "package"}  # the command line, and yolo12edge/__init__.py with its lazy names

# Which part a module is in: the longest name that it starts with. Modules right below yolo12edge are the core.
PARTS = {
    "yolo12edge": "core",
    "yolo12edge.adaptors": "adaptors",
    "yolo12edge.assets": "assets",
    "yolo12edge.benchmark": "benchmark",
    "yolo12edge.benchmark.sensors": "benchmark",
    "yolo12edge.calibration": "calibration",
    "yolo12edge.calibration.card": "calibration",
    "yolo12edge.calibration.placement": "calibration",
    "yolo12edge.checkpoint": "checkpoint",
    "yolo12edge.cli": "cli",
    "yolo12edge.__main__": "cli",
    "yolo12edge.cluster": "cluster",
    "yolo12edge.data": "reading",
    "yolo12edge.data.augment": "loaders",
    "yolo12edge.data.pipelines": "loaders",
    "yolo12edge.data.tools": "reading",
    "yolo12edge.data.preview": "loaders",
    "yolo12edge.data.batch": "loaders",
    "yolo12edge.data.loader": "loaders",
    "yolo12edge.ensemble": "core",
    "yolo12edge.exporters": "exporters",
    "yolo12edge.exporters.area_attention": "exporters",
    "yolo12edge.exporters.mil_evaluator": "exporters",
    "yolo12edge.imaging": "core",
    "yolo12edge.metrics": "metrics",
    "yolo12edge.nn": "nn",
    "yolo12edge.nn.heads": "nn",
    "yolo12edge.reports": "core",
    "yolo12edge.runtimes": "runtimes",
    "yolo12edge.runtimes.cuda": "runtimes",
    "yolo12edge.runtimes.torch_backend": "torch_backend",
    "yolo12edge.sources": "core",
    "yolo12edge.tasks": "core",
    "yolo12edge.training": "training",
    "yolo12edge.training.losses": "training",
    "yolo12edge.training.tuning": "training",
    "yolo12edge.training.pretraining": "training",
}

# Modules that may import torch and its company at the top; everywhere else they are imported where they are used.
TORCH_MODULES = {
    "yolo12edge.checkpoint.checkpoint",
    "yolo12edge.checkpoint.public",
    "yolo12edge.checkpoint.torch_file",
    "yolo12edge.data.batch",
    "yolo12edge.data.loader",
    "yolo12edge.exporters.onnx_blocks",
    "yolo12edge.exporters.onnx_heads",
    "yolo12edge.exporters.onnx_network",
    "yolo12edge.exporters.quantized_network",
}
TORCH_PACKAGES = ("yolo12edge.nn.", "yolo12edge.training.")
TORCH_ENGINES = {"lightning", "safetensors", "torch"}
# Never at the top of any module: optional, or slow to import.
LAZY_ENGINES = {
    "PIL",
    "coremltools",
    "cuda",
    "faster_coco_eval",
    "matplotlib",
    "nncf",
    "onnx",
    "onnxruntime",
    "openvino",
    "optuna",
    "pycuda",
    "pynvml",
    "ray",
    "supervision",
    "tensorboard",
    "tensorrt",
    "tensorrt_rtx",
    "triton",
}
# Kernels are written in Triton's language, which is a decorator; nothing else imports these modules at its top.
KERNELS = {"yolo12edge.exporters.area_attention.kernel", "yolo12edge.runtimes.cuda.letterbox_kernel"}
# Installed with the package, so that any module may import them at the top.
BASE = {"cv2", "msgspec", "numpy", "rich", "typer", "yaml"}


@dataclass(frozen=True)
class Import:
    """One imported module, absolute, at ``file:line``.

    ``name`` is what is taken from it, if not the module itself; ``top`` says that importing the file imports it, and
    ``runs`` that anything ever does: type checkers follow imports that nothing runs.
    """

    importer: str
    imported: str
    where: str
    name: str
    top: bool
    relative: bool
    runs: bool


def sources() -> dict[str, Path]:
    """Module name → file."""
    found = {}
    for top in ("yolo12edge", *MAPPED):
        for path in sorted((ROOT / top).rglob("*.py")):
            parts = path.relative_to(ROOT).with_suffix("").parts
            if top == "yolo12edge" and parts[1] in MAPPED:
                continue
            name = ".".join(parts if top == "yolo12edge" else ("yolo12edge", *parts))
            found[name.removesuffix(".__init__")] = path
    return found


def imports_of(name: str, path: Path, known: set[str]) -> Iterator[Import]:
    """Give every import statement of a file; one that only type checkers follow is not at the top."""
    package = name if path.name == "__init__.py" else name.rpartition(".")[0]

    def walk(node: ast.AST, *, top: bool, runs: bool = True) -> Iterator[Import]:
        for child in ast.iter_child_nodes(node):
            where = f"{path.relative_to(ROOT)}:{getattr(child, 'lineno', 0)}"
            if isinstance(child, ast.Import):
                for alias in child.names:
                    yield Import(name, alias.name, where, "", top, relative=False, runs=runs)
            elif isinstance(child, ast.ImportFrom):
                module = child.module or ""
                if child.level:
                    parents = package.split(".")[: len(package.split(".")) - child.level + 1]
                    module = ".".join([*parents, module] if module else parents)
                for alias in child.names:
                    full = f"{module}.{alias.name}"
                    target, taken = (full, "") if full in known else (module, alias.name)
                    yield Import(name, target, where, taken, top, relative=bool(child.level), runs=runs)
            elif isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test):
                for statement in child.body:
                    yield from walk(ast.Module([statement], []), top=False, runs=False)
                for statement in child.orelse:
                    yield from walk(ast.Module([statement], []), top=top, runs=runs)
            else:
                is_function = isinstance(child, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda))
                yield from walk(child, top=top and not is_function, runs=runs)

    yield from walk(ast.parse(path.read_text()), top=True)


def part_of(module: str) -> str:
    if module == "yolo12edge":
        return "package"
    while module not in PARTS:
        module = module.rpartition(".")[0]
    return PARTS[module]


SOURCES = sources()
IMPORTS = [entry for name, path in SOURCES.items() for entry in imports_of(name, path, set(SOURCES))]


def is_ours(module: str) -> bool:
    return module.split(".")[0] == "yolo12edge"


def may_import_torch(module: str) -> bool:
    return module in TORCH_MODULES or f"{module}.".startswith(TORCH_PACKAGES)


def torch_reach() -> set[str]:
    """Modules whose import ends up importing a module that may import torch, through packages and other modules."""
    needs = {name: set(_parents(name)) for name in SOURCES}
    for entry in IMPORTS:
        if entry.top and is_ours(entry.imported):
            needs[entry.importer] |= {entry.imported, *_parents(entry.imported)} & set(SOURCES)
    reach = {entry.importer for entry in IMPORTS if entry.top and entry.imported.split(".")[0] in TORCH_ENGINES}
    while grown := {name for name in SOURCES if name not in reach and needs[name] & reach}:
        reach |= grown
    return reach


def _parents(module: str) -> list[str]:
    pieces = module.split(".")
    return [".".join(pieces[:count]) for count in range(1, len(pieces))]


def report(entries: list[Import]) -> str:
    return "\n".join(f"{entry.where}: {entry.importer} imports {entry.imported}" for entry in entries)


def test_the_walk_sees_what_it_should() -> None:
    seen = {(entry.importer, entry.imported, entry.top) for entry in IMPORTS}
    assert ("yolo12edge.artifact", "yolo12edge.manifest", True) in seen
    assert ("yolo12edge.runtimes.torch_backend", "torch", False) in seen
    assert ("yolo12edge.nn.model", "torch", True) in seen
    assert ("yolo12edge", "yolo12edge.runtimes", False) in seen  # for type checkers


def test_every_package_has_a_place_in_the_table() -> None:
    packages = {name for name, path in SOURCES.items() if path.name == "__init__.py"}
    assert not sorted(name for name in packages if name not in PARTS)
    assert not sorted(name for name in PARTS if name not in SOURCES)
    assert set(PARTS.values()) == set(ALLOWED) | {"cli"}


def test_imports_point_one_way() -> None:
    wrong = [
        entry
        for entry in IMPORTS
        if is_ours(entry.imported)
        and part_of(entry.importer) not in EVERYTHING
        and part_of(entry.imported) != part_of(entry.importer)
        and part_of(entry.imported) not in ALLOWED[part_of(entry.importer)].split()
        and entry.imported != "yolo12edge"  # __version__: checked below
    ]
    assert not wrong, report(wrong)


def test_only_the_version_is_taken_from_the_top_of_the_package() -> None:
    """The other names there are lazy and lead to any part, past the table."""
    wrong = [entry for entry in IMPORTS if entry.imported == "yolo12edge" and entry.name != "__version__"]
    assert not wrong, report(wrong)


def test_imports_inside_the_package_are_relative() -> None:
    """An absolute one would load a second copy of a class when a mapped folder is imported by its own name."""
    wrong = [entry for entry in IMPORTS if is_ours(entry.imported) and not entry.relative]
    assert not wrong, report(wrong)
    wrong = [entry for entry in IMPORTS if entry.imported.split(".")[0] in MAPPED]
    assert not wrong, report(wrong)


def test_torch_is_imported_at_the_top_only_where_it_lives() -> None:
    wrong = [
        entry
        for entry in IMPORTS
        if entry.top and entry.imported.split(".")[0] in TORCH_ENGINES and not may_import_torch(entry.importer)
    ]
    assert not wrong, report(wrong)


def test_torch_free_parts_do_not_reach_torch() -> None:
    """Not through other modules either: what a device imports must load without it."""
    free = {
        "adaptors",
        "core",
        "reading",
        "runtimes",
        "torch_backend",
        "benchmark",
        "cluster",
        "metrics",
        "calibration",
        "cli",
        "package",
    }
    wrong = sorted(name for name in torch_reach() if part_of(name) in free)
    assert not wrong, f"importing these imports torch: {wrong}"
    assert "yolo12edge.training.losses" in torch_reach()
    assert "yolo12edge.checkpoint" not in torch_reach()  # reading metadata needs no torch


def test_optional_libraries_are_imported_where_they_are_used() -> None:
    wrong = [
        entry
        for entry in IMPORTS
        if entry.top and (entry.imported.split(".")[0] in LAZY_ENGINES or entry.imported in KERNELS)
        if entry.importer not in KERNELS or entry.imported.split(".")[0] != "triton"
    ]
    assert not wrong, report(wrong)


def test_every_other_library_is_a_declared_one() -> None:
    known = BASE | LAZY_ENGINES | TORCH_ENGINES | set(sys.stdlib_module_names) | {"yolo12edge"}
    wrong = [entry for entry in IMPORTS if entry.imported.split(".")[0] not in known]
    assert not wrong, report(wrong)


def test_openvino_is_imported_in_one_place() -> None:
    """Where its telemetry, which is NNCF's too, is kept from reporting; an import elsewhere would report."""
    found = [entry for entry in IMPORTS if entry.imported.split(".")[0] in ("openvino", "nncf") and entry.runs]
    assert {entry.importer for entry in found} == {"yolo12edge.runtimes.openvino_library"}, report(found)
