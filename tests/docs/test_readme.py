"""What the pages say works: commands have these arguments, Python compiles, marked blocks run, links lead somewhere.

A fenced block of ``console`` holds commands after ``$ `` and what they print; ``bash`` holds commands only; ``python``
is Python. Below a line ``<!-- run -->`` the block is run, in the order of the page, in one folder, where it finds

- ``best.safetensors`` and ``runs/train/best.safetensors``: the bundled checkpoint,
- ``data.yaml`` with pictures and labels (``train`` and ``val``), as ``yolo12edge demo`` draws them,
- ``picture.jpg``, ``folder/`` with two pictures, ``video.mp4`` of four frames,

and what the blocks above it have made. A Python block that is run sees the names of those above it.
"""

from __future__ import annotations

import ast
import importlib
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).parents[2]
CHECKPOINT = ROOT / "yolo12edge" / "assets" / "demo-yolo12n.safetensors"
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")])
FENCE = re.compile(r"(?P<run><!-- run -->\n\n?)?^(?P<indent> *)```(?P<language>\w*)\n(?P<text>.*?)^ *```$", re.M | re.S)


@dataclass(frozen=True)
class Block:
    """One fenced block; ``line`` is that of its fence."""

    page: Path
    line: int
    language: str
    text: str
    run: bool

    def __str__(self) -> str:
        return f"{self.page.relative_to(ROOT)}:{self.line}"

    def commands(self) -> list[str]:
        lines = self.text.replace("\\\n", " ").splitlines()
        if self.language == "console":
            return [line[2:] for line in lines if line.startswith("$ ")]
        return [line for line in lines if line.strip() and not line.startswith("#")] if self.language == "bash" else []


def blocks_of(page: Path) -> Iterator[Block]:
    text = page.read_text(encoding="utf-8")
    for found in FENCE.finditer(text):
        indent = len(found["indent"])
        content = "".join(line[indent:] for line in found["text"].splitlines(keepends=True))
        line = text.count("\n", 0, found.start("language")) + 1
        yield Block(page, line, found["language"], content, run=bool(found["run"]))


BLOCKS = [block for page in PAGES for block in blocks_of(page)]
COMMANDS = [pytest.param(command, id=f"{block} {command}") for block in BLOCKS for command in block.commands()]
PYTHON = [pytest.param(block, id=str(block)) for block in BLOCKS if block.language == "python"]


def test_pages_have_blocks_to_test() -> None:
    assert ROOT / "README.md" in PAGES
    assert any(block.run for block in BLOCKS if block.page.name == "README.md"), "nothing in README.md is run"
    assert not [str(block) for block in BLOCKS if block.run and block.language not in ("console", "bash", "python")]
    for page in PAGES:  # every fence was understood
        fences = re.findall(r"^ *```", page.read_text(encoding="utf-8"), re.M)
        assert len(fences) == 2 * sum(block.page == page for block in BLOCKS), page.name


@pytest.mark.parametrize("command", COMMANDS)
def test_commands_exist(command: str) -> None:
    words = shlex.split(command, comments=True)
    if words[0] == "yolo12edge":
        parse(words[1:])
    elif words[0] == "make" and "-C" not in words:  # else it is a Makefile of another folder
        targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.M))
        assert {word for word in words[1:] if "=" not in word} <= targets
    elif "install" in words and Path(words[0]).name.startswith(("pip", "python")):
        check_extras(command)


def parse(words: list[str]) -> None:
    """Let the command line itself read the arguments, without running the command."""
    group = cli()
    if words[0].startswith("-"):
        assert words[0] in options(group)
        return
    assert words[0] in group.commands, f"there is no command {words[0]!r}"
    command = group.commands[words[0]]
    with command.make_context(words[0], words[1:]) as context:  # raises a usage error
        if hasattr(command, "commands"):  # a group of commands: its own reads the rest
            name, inner, rest = command.resolve_command(context, [*context._protected_args, *context.args])
            inner.make_context(name, rest, parent=context)


def cli() -> Any:
    import typer

    from yolo12edge.cli import app

    return typer.main.get_command(app)


def options(command: Any) -> set[str]:
    inner = [options(command) for command in getattr(command, "commands", {}).values()]
    own = {name for parameter in command.params for name in (*parameter.opts, *parameter.secondary_opts)}
    return own.union({"--help"}, *inner)


def check_extras(text: str) -> None:
    declared = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    for extras in re.findall(r"(?:\.|yolo12edge)\[([\w,-]+)\]", text):
        assert set(extras.split(",")) <= set(declared), text


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_commands_in_the_text_exist(page: Path) -> None:
    text = FENCE.sub("", page.read_text(encoding="utf-8"))
    for mention in re.findall(r"`yolo12edge ([a-z][^`]*)`", text):
        words = mention.split()
        assert words[0] in cli().commands, mention
        named = {word.partition("=")[0] for word in words[1:] if word.startswith("-")}
        assert named <= options(cli().commands[words[0]]), mention
    check_extras(text)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    text = FENCE.sub("", page.read_text(encoding="utf-8"))
    targets = [target.partition("#")[0] for target in re.findall(r"\]\(([^)\s]+)\)", text)]
    lost = [target for target in targets if target and "://" not in target and not (page.parent / target).exists()]
    assert not lost


@pytest.mark.parametrize("block", PYTHON)
def test_python_compiles_and_imports_what_exists(block: Block) -> None:
    tree = ast.parse(block.text, filename=str(block))
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "yolo12edge":
            module = importlib.import_module(node.module or "")
            for alias in node.names:
                assert hasattr(module, alias.name), f"{block}: {node.module} has no {alias.name}"


@pytest.mark.slow
@pytest.mark.parametrize(
    "page", sorted({block.page for block in BLOCKS if block.run}), ids=lambda page: str(page.relative_to(ROOT))
)
def test_marked_blocks_run(page: Path, tmp_path: Path) -> None:
    folder = tmp_path / "page"
    furnish(folder)
    environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
    environment |= {"COLUMNS": "120", "PYTHONPATH": str(ROOT)}
    above = ""
    for block in BLOCKS:
        if block.page != page or not block.run:
            continue
        if block.language == "python":
            above += block.text
            steps = [[sys.executable, "-c", above]]
        else:
            steps = [command_line(command) for command in block.commands()]
        for step in steps:
            done = subprocess.run(step, cwd=folder, env=environment, capture_output=True, text=True, timeout=300)
            assert done.returncode == 0, f"{block}: {shlex.join(step)}\n{done.stdout[-1000:]}\n{done.stderr}"


def command_line(command: str) -> list[str]:
    """Run ``yolo12edge`` and ``python`` by the interpreter of the tests, whatever is installed beside it."""
    words = shlex.split(command, comments=True)
    if words[0] == "yolo12edge":
        return [sys.executable, "-m", *words]
    return [sys.executable, *words[1:]] if words[0] == "python" else words


def furnish(folder: Path) -> None:
    import cv2

    from yolo12edge.data.scenes import generate_scenes

    pictures = generate_scenes(folder, train=8, val=6, size=320).splits["val"]
    (folder / "runs" / "train").mkdir(parents=True)
    shutil.copy(CHECKPOINT, folder / "best.safetensors")
    shutil.copy(CHECKPOINT, folder / "runs" / "train" / "best.safetensors")
    (folder / "folder").mkdir()
    shutil.copy(pictures[0], folder / "picture.jpg")
    shutil.copy(pictures[1], folder / "folder")
    shutil.copy(pictures[2], folder / "folder")
    video = cv2.VideoWriter(str(folder / "video.mp4"), cv2.VideoWriter.fourcc(*"mp4v"), 10, (320, 320))
    for picture in pictures[:4]:
        video.write(cv2.imread(str(picture)))
    video.release()
