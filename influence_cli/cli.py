"""The application: registration of the commands, and the one boundary where errors become text and exit codes."""

from __future__ import annotations

import sys
from contextlib import suppress
from typing import Annotated

import typer

from influence_cli import __version__, process
from influence_cli.commands.compare import compare
from influence_cli.commands.groundtruth import groundtruth
from influence_cli.commands.influence import influence
from influence_cli.commands.select import select
from influence_cli.commands.train import train
from influence_cli.errors import ExitCode, GinfError

app = typer.Typer(
    name="ginf",
    help="How would this model's prediction change if that group of training rows had not been there?",
    no_args_is_help=True,
    context_settings={"help_option_names": ["-h", "--help"]},
    pretty_exceptions_enable=False,
)
app.command()(train)
app.command()(influence)
app.command()(groundtruth)
app.command()(select)
app.command()(compare)


def _show_version(value: bool) -> None:
    if value:
        print(f"ginf {__version__}")
        raise typer.Exit


@app.callback()
def _app(
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    pass


def main() -> None:
    """Entry point of ``ginf`` and ``python -m influence_cli``."""
    process.prepare()
    code = run(sys.argv[1:])
    process.drain()
    sys.exit(code)


def run(arguments: list[str]) -> int:
    """Run one command line and return its exit code; every error has become text on stderr."""
    try:
        code = int(app(arguments, prog_name="ginf", standalone_mode=False) or ExitCode.OK)
        sys.stdout.flush()
        # Typer raises Abort at Ctrl-C or returns this code, depending on its version.
        return _interrupted() if code == ExitCode.INTERRUPTED else code
    except GinfError as error:
        return _report(error.message, error.hint, error.code)
    except BrokenPipeError:
        return _reader_left()
    except SystemExit as stop:
        # Typer makes this of a closed pipe; anything else is a signal, which has its own code.
        return _reader_left() if isinstance(stop.__context__, BrokenPipeError) else int(stop.code or 0)
    except (KeyboardInterrupt, typer.Abort):
        return _interrupted()
    except MemoryError:
        return _report(
            "not enough memory", "fewer groups or test rows at a time, or --solver cg, need less", ExitCode.USAGE
        )
    except Exception as error:
        # Typer's own usage errors, whichever Click it was built on, know how to phrase themselves.
        if hasattr(error, "format_message") and getattr(error, "exit_code", None) == ExitCode.USAGE:
            message = error.format_message()  # empty where help was shown for want of a command
            return _report(message, _help_hint(error), ExitCode.USAGE) if message else int(ExitCode.USAGE)
        return _defect(error)


def _report(message: str, hint: str | None, code: ExitCode) -> int:
    with suppress(OSError):  # nobody may be listening
        print(f"ginf: error: {message}", file=sys.stderr)
        if hint:
            print(f"hint: {hint}", file=sys.stderr)
    return int(code)


def _interrupted() -> int:
    with suppress(OSError):
        print("ginf: interrupted", file=sys.stderr)
    return int(ExitCode.INTERRUPTED)


def _reader_left() -> int:
    """Whoever read our output has seen enough (``| head``): nothing is wrong, and nothing more can be said."""
    return int(ExitCode.OK)


def _defect(error: Exception) -> int:
    import traceback

    with suppress(OSError):
        traceback.print_exception(error)
    return _report(
        f"this is a defect of ginf {__version__}: {type(error).__name__}",
        "please report it with the lines above",
        ExitCode.DEFECT,
    )


def _help_hint(error: Exception) -> str | None:
    context = getattr(error, "ctx", None)
    return f"see {context.command_path} --help" if context is not None else None
