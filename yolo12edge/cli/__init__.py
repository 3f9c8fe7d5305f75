"""The ``yolo12edge`` command: one file a subcommand, each thin: it parses, calls and prints.

Exit codes: 0 done; 1 done in part or with a finding (the message says which); 2 wrong usage or an
error; 130 interrupted; 143 ended by the system while training, which --resume goes on with.
"""

from __future__ import annotations

import sys
import warnings
from inspect import cleandoc
from typing import Annotated, TextIO

import typer

from .. import __version__
from ..errors import Yolo12EdgeError
from . import (
    benchmark,
    calibrate,
    cluster,
    data,
    demo,
    deploy,
    doctor,
    export,
    import_checkpoint,
    inspect,
    predict,
    pretrain,
    pseudo_label,
    qat,
    train,
    tune,
    val,
)

__all__ = ["app", "main"]

app = typer.Typer(
    name="yolo12edge",
    help="Take YOLO12 from training to the device, in all its five tasks.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
)

app.command()(train.train)
app.command()(pretrain.pretrain)
app.command()(qat.qat)
app.command()(tune.tune)
app.command()(val.val)
app.command()(predict.predict)
app.add_typer(benchmark.app, name="benchmark")
app.add_typer(data.app, name="data")
app.command()(export.export)
app.command()(calibrate.calibrate)
app.add_typer(deploy.app, name="deploy")
app.add_typer(cluster.app, name="cluster")
app.command()(pseudo_label.pseudo_label)
app.command("import")(import_checkpoint.import_)
app.command()(inspect.inspect)
app.command()(doctor.doctor)
app.command()(demo.demo)
for _group in (app, benchmark.app, cluster.app, data.app, deploy.app):
    for _command in _group.registered_commands:
        # A terminal is narrower than a line of source: paragraphs flow.
        _paragraphs = cleandoc(getattr(_command.callback, "__doc__", None) or "").split("\n\n")
        _command.help = "\n\n".join(" ".join(paragraph.split()) for paragraph in _paragraphs)

_debug = False
_show_by_default = warnings.showwarning
_INTERRUPTED = 130


def _print_version(value: bool) -> None:
    if value:
        typer.echo(f"yolo12edge {__version__}")
        raise typer.Exit


def _show_warning(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    file: TextIO | None = None,
    line: str | None = None,
) -> None:
    """Print what the library warns of as one message; other warnings are for programmers, and stay as they are."""
    if category is not RuntimeWarning:
        _show_by_default(message, category, filename, lineno, file, line)
        return
    from ._console import console, plain

    console.print(plain(f"Warning: {message}", "yellow"), soft_wrap=True)


@app.callback()
def options(
    *,
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and exit.")
    ] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")] = False,
) -> None:
    """Take YOLO12 from training to the device, in all its five tasks."""
    global _debug
    _debug = debug


def main() -> None:
    """Run the command line; print errors and warnings of the library as one message, without a traceback."""
    warnings.showwarning = _show_warning
    try:
        app()
    except Yolo12EdgeError as error:
        if _debug:
            raise
        from rich.markup import escape

        from ._console import console, plain

        text = "\n".join(plain(line).plain for line in str(error).split("\n"))  # it may quote a file
        console.print(f"[bold red]error:[/] {escape(text)}", soft_wrap=True)
        sys.exit(error.exit_code)
    except SystemExit as end:  # Typer turns Ctrl-C into this
        if end.code == _INTERRUPTED:
            print("interrupted", file=sys.stderr)
        raise
