"""The wheel, installed outside the checkout with what the ``onnxruntime`` extra declares and nothing else.

Nothing is downloaded: the declared dependencies are linked from the environment of the tests.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import zipfile
from importlib.metadata import Distribution, PathDistribution, distribution
from pathlib import Path

import numpy as np
import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
TOPS = ("yolo12edge", "exporters", "runtimes", "calibration")
NEEDS_TORCH = (
    "nn",
    "training",
    "checkpoint.checkpoint",
    "checkpoint.public",
    "checkpoint.torch_file",
    "data.batch",
    "data.loader",
    "exporters.onnx_blocks",
    "exporters.onnx_heads",
    "exporters.onnx_network",
    "exporters.quantized_network",
)

NEEDS_TRITON = {"yolo12edge.exporters.area_attention.kernel", "yolo12edge.runtimes.cuda.letterbox_kernel"}

IMPORT_ALL = """
import importlib, json, pkgutil
import yolo12edge
results = {}
for module in pkgutil.walk_packages(yolo12edge.__path__, "yolo12edge.", onerror=lambda name: None):
    try:
        importlib.import_module(module.name)
        results[module.name] = None
    except ModuleNotFoundError as error:
        results[module.name] = error.name
print(json.dumps(results))
"""

DETECT = """
import sys
import numpy as np
from yolo12edge import Runtime
from yolo12edge.thresholds import Thresholds
artifact, frame, out = sys.argv[1:]
with Runtime(artifact, threads=1) as runtime:
    found = runtime(np.load(frame), thresholds=Thresholds(confidence=0.3))
np.savez(out, xyxy=found.xyxy, confidence=found.confidence, class_id=found.class_id)
print(sorted({"torch", "onnx", "safetensors", "matplotlib"} & set(sys.modules)))
"""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built from the sdist, built from a copy: a stale ``build/`` of the checkout cannot slip in."""
    source = tmp_path_factory.mktemp("source")
    for top in TOPS:
        ignore = shutil.ignore_patterns("__pycache__", "*.egg-info")
        shutil.copytree(ROOT / top, source / top, symlinks=True, ignore=ignore)
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    command = [sys.executable, "-m", "build", "--no-isolation", "--outdir", source / "dist", source]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    (built,) = (source / "dist").glob("*.whl")
    return built


@pytest.fixture(scope="module")
def python(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The interpreter of an environment that holds the wheel and what it declares for a device."""
    if os.name == "nt":
        pytest.skip("links the dependencies into an environment, which needs a right that Windows users lack")
    environment = tmp_path_factory.mktemp("device") / "venv"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", environment], check=True)
    interpreter = environment / "bin" / "python"
    command = [sys.executable, "-m", "pip", "--python", interpreter, "install", "--quiet", "--no-deps", "--no-index"]
    subprocess.run([*command, wheel], check=True)
    (packages,) = environment.glob("lib/python*/site-packages")
    (metadata,) = packages.glob("yolo12edge-*.dist-info")
    for needed in _closure(PathDistribution(metadata), {"onnxruntime"}, {}).values():
        for name in {file.parts[0] for file in needed.files or ()} - {"..", "__pycache__"}:
            if not (packages / name).exists():
                (packages / name).symlink_to(needed.locate_file(name))
    return interpreter


def _closure(source: Distribution, extras: set[str], found: dict[str, Distribution]) -> dict[str, Distribution]:
    for text in source.requires or ():
        requirement = Requirement(text)
        name = canonicalize_name(requirement.name)
        wanted = requirement.marker is None or any(requirement.marker.evaluate({"extra": one}) for one in ("", *extras))
        if wanted and name not in found:
            found[name] = distribution(name)
            _closure(found[name], requirement.extras, found)
    return found


def _run(python: Path, code: str, *arguments: object, cwd: Path) -> str:
    command = [python, "-I", "-c", code, *map(str, arguments)]
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_wheel_holds_one_package_and_all_of_it(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
    assert {name.split("/")[0] for name in names} == {"yolo12edge", f"{wheel.name.split('-py3')[0]}.dist-info"}
    expected = {"yolo12edge/py.typed", "yolo12edge/assets/demo-yolo12n.safetensors"}
    for top in TOPS:
        for path in (ROOT / top).rglob("*.py"):
            inside = path.relative_to(ROOT).as_posix()
            expected.add(inside if top == "yolo12edge" else f"yolo12edge/{inside}")
    assert sorted(expected - names) == []
    assert any(name.endswith("licenses/LICENSE") for name in names)
    assert not [name for name in names if "test" in name.split("/")[1]]


def test_nothing_undeclared_is_there(python: Path, tmp_path: Path) -> None:
    names = ["torch", "onnx", "safetensors", "lightning", "matplotlib", "faster_coco_eval", "pytest"]
    code = "import importlib.util as u, sys; print([name for name in sys.argv[1:] if u.find_spec(name)])"
    assert _run(python, code, *names, cwd=tmp_path) == "[]"


def test_every_module_imports_or_needs_torch(python: Path, tmp_path: Path) -> None:
    results = json.loads(_run(python, IMPORT_ALL, cwd=tmp_path))
    allowed = tuple(f"yolo12edge.{name}." for name in NEEDS_TORCH)
    assert {name for name, missing in results.items() if missing == "triton"} == NEEDS_TRITON
    failed = {name: missing for name, missing in results.items() if missing and name not in NEEDS_TRITON}
    assert {name: missing for name, missing in failed.items() if not f"{name}.".startswith(allowed)} == {}
    assert set(failed.values()) <= {"torch", "lightning", "safetensors"}
    assert {"yolo12edge.runtimes.ort_backend", "yolo12edge.calibration.observe", "yolo12edge.cli"} <= set(results)
    assert "yolo12edge.nn" in failed


def test_runtime_detects_without_torch(python: Path, tmp_path: Path, tiny_onnx, scene_frames) -> None:  # type: ignore[no-untyped-def]
    from yolo12edge import Runtime
    from yolo12edge.thresholds import Thresholds

    np.save(tmp_path / "frame.npy", scene_frames[0])
    loaded = _run(python, DETECT, tiny_onnx.path, tmp_path / "frame.npy", tmp_path / "found.npz", cwd=tmp_path)
    assert loaded == "[]"
    with Runtime(tiny_onnx, threads=1) as runtime:
        expected = runtime(scene_frames[0], thresholds=Thresholds(confidence=0.3))
    found = np.load(tmp_path / "found.npz")
    assert len(expected) > 0
    np.testing.assert_allclose(found["xyxy"], expected.xyxy, atol=1e-3)
    np.testing.assert_array_equal(found["class_id"], expected.class_id)


def test_a_checkpoint_says_what_it_needs(python: Path, tmp_path: Path, tiny_checkpoint: Path) -> None:
    command = [python, "-I", "-c", "import sys; from yolo12edge import Runtime; Runtime(sys.argv[1])", tiny_checkpoint]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert "pip install 'yolo12edge[train]'" in done.stderr


def test_the_command_is_installed(python: Path, tmp_path: Path) -> None:
    done = subprocess.run([python.parent / "yolo12edge", "--version"], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split()[0] == "yolo12edge"


@pytest.mark.parametrize(
    ("code", "target"),
    [("import yolo12edge", 0.15), ("from yolo12edge import Runtime", 0.5)],
    ids=["package", "Runtime"],
)
def test_importing_is_quick(python: Path, tmp_path: Path, code: str, target: float) -> None:
    """In seconds of processor time, which a busy machine does not stretch; three times the target is allowed."""
    bare = min(_processor_seconds(python, "pass", tmp_path) for _ in range(5))
    seconds = min(_processor_seconds(python, code, tmp_path) for _ in range(5)) - bare
    print(f"{code}: {seconds:.3f} s (target {target} s), bare interpreter {bare:.3f} s")
    assert seconds < 3 * target


def _processor_seconds(python: Path, code: str, cwd: Path) -> float:
    process = subprocess.Popen([python, "-I", "-c", code], cwd=cwd)
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    assert process.returncode == 0
    return usage.ru_utime + usage.ru_stime
