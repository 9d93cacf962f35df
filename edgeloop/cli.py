"""The entry point: the tree of commands, and what becomes of errors."""

import errno
import logging
import sys
from collections.abc import Sequence
from importlib.metadata import version
from typing import Annotated

import typer
from rich.console import Console

from edgeloop.commands import artifact, bench, check, data, demo, dlq, doctor, hook, init, lab, result, run, up
from edgeloop.commands import compile as compile_command
from edgeloop.errors import EdgeloopError, ExitCode, InfrastructureError
from edgeloop.terminal import print_error
from shared.bus.errors import BusError

app = typer.Typer(
    name="edgeloop",
    help="TinyML operations: from a git push to boards, and back.\n\n"
    "Exit codes: 0 ok, 1 the work failed a gate, 2 usage or bad input, 3 infrastructure.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
)
app.command("up", epilog="Example: edgeloop up --virtual-boards 6 --project local-fan --world world.npz")(up.up)
app.command("demo", epilog="Example: edgeloop demo --keep")(demo.demo)
app.command("doctor")(doctor.doctor)
app.command("init", epilog="Example: edgeloop init . --board cortex-m4")(init.init)
app.command("check", epilog="Example: edgeloop check . --out build/check")(check.check)
app.command("compile", epilog="Example: edgeloop compile kws.tflite --board cortex-m4 --out build/kws")(
    compile_command.compile_
)
app.add_typer(run.app, name="run")
app.add_typer(dlq.app, name="dlq")
app.add_typer(hook.app, name="hook")
app.add_typer(data.app, name="data")
app.add_typer(artifact.app, name="artifact")
app.add_typer(result.app, name="result")
app.add_typer(bench.app, name="bench")
app.add_typer(lab.app, name="lab")


def _print_version(value: bool) -> None:
    if value:
        typer.echo(f"edgeloop {version('edgeloop')}")
        raise typer.Exit


@app.callback()
def root(
    *,
    debug: Annotated[bool, typer.Option("--debug", help="Show a traceback with every error.")] = False,
    _version: Annotated[
        bool, typer.Option("--version", help="Print the version.", callback=_print_version, is_eager=True)
    ] = False,
) -> None:
    """Take the options that stand before a command; `execute` acts on --debug."""
    # What a command has to say it says itself; libraries speak up with --debug only.
    logging.basicConfig(handlers=[logging.StreamHandler() if debug else logging.NullHandler()])


def execute(arguments: Sequence[str]) -> int:
    """Run one command line and return its exit code. A user sees one message, not a traceback, unless --debug."""
    debug, as_json = "--debug" in arguments, "--json" in arguments
    ordered = ["--debug", *(argument for argument in arguments if argument != "--debug")] if debug else arguments
    try:
        app(args=list(ordered), prog_name="edgeloop")
    except SystemExit as ended:
        return ended.code if isinstance(ended.code, int) else ExitCode.OK
    except KeyboardInterrupt:
        return 130  # what a shell reports for SIGINT
    except (EdgeloopError, BusError) as error:
        known = error if isinstance(error, EdgeloopError) else _of_bus(error)
        print_error(known, as_json=as_json)
        if debug:
            Console(stderr=True).print_exception()
        return known.exit_code
    except Exception as error:
        if debug:
            raise
        print_error(_unexpected(error), as_json=as_json)
        return ExitCode.INFRASTRUCTURE
    return ExitCode.OK


def main() -> None:
    """Run ``edgeloop``."""
    sys.exit(execute(sys.argv[1:]))


def _of_bus(error: BusError) -> InfrastructureError:
    message, _, next_step = str(error).partition(" Next: ")
    return InfrastructureError(message, next_step=next_step)


def _unexpected(error: Exception) -> InfrastructureError:
    next_step = "the same command with --debug shows where"
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        return InfrastructureError(
            f"{error.filename or 'a file'}: the disk is full",
            next_step="free some space, or put --data on another disk",
        )
    if isinstance(error, OSError) and error.filename:
        return InfrastructureError(f"{error.filename}: {error.strerror}", next_step=next_step)
    return InfrastructureError(f"unexpected {type(error).__name__}: {error}", next_step=next_step)
