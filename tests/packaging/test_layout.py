"""The folders, the links and ``pyproject.toml`` say the same about what the package is."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest

from yolo12edge.manifest import TENSORRT_FORMATS  # each has an extra of its name

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).parents[2]
MAPPED = ("calibration", "exporters", "runtimes")
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())


def packages() -> set[str]:
    """Every package of the checkout, by its folders."""
    found = set()
    for top in ("yolo12edge", *MAPPED):
        for init in (ROOT / top).rglob("__init__.py"):
            folder = init.parent.relative_to(ROOT)
            if folder.parts[:1] == ("yolo12edge",) and folder.parts[1:2] in [(name,) for name in MAPPED]:
                continue  # through a link: counted where the files are
            found.add(".".join(folder.parts if top == "yolo12edge" else ("yolo12edge", *folder.parts)))
    return found


def modules() -> list[Path]:
    return [path for top in ("yolo12edge", *MAPPED) for path in (ROOT / top).rglob("*.py")]


def test_pyproject_lists_every_package() -> None:
    listed = PROJECT["tool"]["setuptools"]["packages"]
    assert len(listed) == len(set(listed))
    assert set(listed) == packages()


def test_every_folder_with_modules_is_a_package() -> None:
    folders = {path.parent for path in modules()}
    assert not [str(folder.relative_to(ROOT)) for folder in folders if not (folder / "__init__.py").is_file()]


@pytest.mark.parametrize("name", MAPPED)
def test_mapped_folders_are_linked(name: str) -> None:
    """A link, or the text file that git makes of one on a system without links."""
    link = ROOT / "yolo12edge" / name
    target = str(link.readlink()) if link.is_symlink() else link.read_text().strip()
    assert target == f"../{name}"
    assert PROJECT["tool"]["setuptools"]["package-dir"][f"yolo12edge.{name}"] == name
    assert (ROOT / name / "__init__.py").is_file()


@pytest.mark.parametrize("name", MAPPED)
def test_mapped_folders_cannot_be_imported_by_their_own_name(name: str) -> None:
    """From the root of the checkout, where they would be found; each class would exist twice."""
    done = subprocess.run([sys.executable, "-c", f"import {name}"], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 1
    assert "ImportError: attempted relative import beyond top-level package" in done.stderr


def test_no_module_is_named_like_a_library() -> None:
    """``onnx.py`` beside a module that says ``import onnx`` misleads readers, and Python when it is run as a script."""
    taken = {path for path in modules() if path.stem not in ("__init__", "__main__") and _is_library(path.stem)}
    standard_commands = {ROOT / "yolo12edge" / "cli" / "inspect.py"}  # the name of the command
    assert not sorted(str(path.relative_to(ROOT)) for path in taken - standard_commands)


def _is_library(name: str) -> bool:
    if name in sys.stdlib_module_names:
        return True
    if (ROOT / name).exists() or (ROOT / f"{name}.py").exists():
        return False
    return importlib.util.find_spec(name) is not None


def test_package_data_exists() -> None:
    for package, patterns in PROJECT["tool"]["setuptools"]["package-data"].items():
        for pattern in patterns:
            assert list((ROOT / package.replace(".", "/")).glob(pattern)), f"{package}: {pattern}"


def test_the_bundled_checkpoint_is_small() -> None:
    path = ROOT / "yolo12edge" / "assets" / "demo-yolo12n.safetensors"
    assert path.stat().st_size <= 6 * 2**20


def test_version_is_said_once_more_only() -> None:
    import yolo12edge

    assert yolo12edge.__version__ == PROJECT["project"]["version"]
    assert f"## [{yolo12edge.__version__}]" in (ROOT / "CHANGELOG.md").read_text()


def test_constraints_pin_what_is_declared() -> None:
    """Plain versions that ``pyproject.toml`` allows; a requirement without a pin could change overnight."""
    from packaging.requirements import Requirement
    from packaging.utils import canonicalize_name

    pins = {}
    for line in (ROOT / "constraints.txt").read_text().splitlines():
        if line.strip() and not line.startswith("#"):
            pin = Requirement(line)
            (specifier,) = pin.specifier
            assert specifier.operator == "==", line
            assert pin.url is None, line
            pins[canonicalize_name(pin.name)] = specifier.version
    extras = PROJECT["project"]["optional-dependencies"].values()
    for text in [*PROJECT["project"]["dependencies"], *(entry for extra in extras for entry in extra)]:
        requirement = Requirement(text)
        name = canonicalize_name(requirement.name)
        applies = requirement.marker is None or requirement.marker.evaluate({"python_version": "3.12"})
        if applies and name != "yolo12edge":
            if name == "tensorrt":  # comes from its maker's own servers, and has never been tested
                continue
            assert pins.get(name), f"{requirement} has no pin"
            assert requirement.specifier.contains(pins[name], prereleases=True), f"{requirement} excludes its pin"
    assert pins["torch"] == "2.13.0"


def test_extras_named_in_messages_exist() -> None:
    """Every ``pip install 'yolo12edge[…]'`` that the code can print is an extra that exists."""
    import ast

    named = set()
    for path in modules():
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "MissingDependencyError":
                extras = [word.value for word in node.keywords if word.arg == "extra"]
                named |= {value.value for value in extras if isinstance(value, ast.Constant)}
                named |= {name for value in extras if not isinstance(value, ast.Constant) for name in TENSORRT_FORMATS}
    assert named
    assert named <= set(PROJECT["project"]["optional-dependencies"])
