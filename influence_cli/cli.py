"""The application: registration of the commands, and the one boundary where errors become text and exit codes."""

from __future__ import annotations

import os
import sys
from typing import Annotated

import typer

from . import __version__
from .commands.compare import compare
from .commands.groundtruth import groundtruth
from .commands.influence import influence
from .commands.train import train
from .errors import ExitCode, GinfError

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
    sys.exit(run(sys.argv[1:]))


def run(arguments: list[str]) -> int:
    """Run one command line and return its exit code; every error has become text on stderr."""
    try:
        code = app(arguments, prog_name="ginf", standalone_mode=False)
        sys.stdout.flush()
        return int(code or ExitCode.OK)
    except GinfError as error:
        return _report(error.message, error.hint, error.code)
    except BrokenPipeError:
        return _closed_pipe()
    except (KeyboardInterrupt, typer.Abort):
        return _report("interrupted", None, ExitCode.INTERRUPTED)
    except MemoryError:
        return _report(
            "not enough memory", "fewer groups or test rows at a time, or --solver cg, need less", ExitCode.USAGE
        )
    except Exception as error:
        # Typer's own usage errors, whichever Click it was built on, know how to phrase themselves.
        if hasattr(error, "format_message") and getattr(error, "exit_code", None) == ExitCode.USAGE:
            return _report(error.format_message(), _help_hint(error), ExitCode.USAGE)
        import traceback

        traceback.print_exc()
        return _report(
            f"this is a defect of ginf {__version__}: {type(error).__name__}",
            "please report it with the lines above",
            ExitCode.DEFECT,
        )


def _report(message: str, hint: str | None, code: ExitCode) -> int:
    print(f"ginf: error: {message}", file=sys.stderr)
    if hint:
        print(f"hint: {hint}", file=sys.stderr)
    return int(code)


def _help_hint(error: Exception) -> str | None:
    context = getattr(error, "ctx", None)
    return f"see {context.command_path} --help" if context is not None else None


def _closed_pipe() -> int:
    """The reader of our output has left (``| head``): nothing is wrong, and nothing more can be said."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return int(ExitCode.OK)
