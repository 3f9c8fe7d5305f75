"""What holds for every command."""

from __future__ import annotations

import sys
from importlib.machinery import ModuleSpec

import pytest
import typer

from yolo12edge import cli
from yolo12edge.__main__ import main
from yolo12edge.errors import InputError


class Interrupting:
    """A finder of modules: Ctrl-C comes while the command line is imported."""

    @staticmethod
    def find_spec(name: str, *_: object) -> ModuleSpec | None:
        if name == "yolo12edge.cli":
            raise KeyboardInterrupt
        return None


@pytest.mark.parametrize("moment", ["import", "command", "end of a command"])
def test_control_c_is_said_and_ends_with_130(
    moment: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    app = typer.Typer()

    @app.command()
    def command() -> None:
        raise KeyboardInterrupt if moment == "command" else typer.Exit(130)

    monkeypatch.setattr(cli, "app", app)
    monkeypatch.setattr(sys, "argv", ["yolo12edge"])
    if moment == "import":
        monkeypatch.delitem(sys.modules, "yolo12edge.cli")
        monkeypatch.setattr(sys, "meta_path", [Interrupting, *sys.meta_path])
    with pytest.raises(SystemExit) as end:
        main()
    assert end.value.code == 130
    assert capsys.readouterr().err.strip() == "interrupted"


def test_an_error_that_quotes_a_file_does_nothing_to_the_terminal(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    app = typer.Typer()

    @app.command()
    def command() -> None:
        raise InputError("the classes are \x1b[2Jcat, [red]dog", remedy="one\ntwo")

    monkeypatch.setattr(cli, "app", app)
    monkeypatch.setattr(sys, "argv", ["yolo12edge"])
    with pytest.raises(SystemExit) as end:
        main()
    assert end.value.code == 2
    assert capsys.readouterr().err == "error: the classes are \\x1b[2Jcat, [red]dog. Remedy: one\ntwo.\n"


def test_paragraphs_of_help_flow() -> None:
    commands = [
        command for group in (cli.app, cli.benchmark.app, cli.deploy.app) for command in group.registered_commands
    ]
    assert len(commands) > 10
    for command in commands:
        assert command.help
        assert not any("\n" in paragraph for paragraph in command.help.split("\n\n")), command.help
