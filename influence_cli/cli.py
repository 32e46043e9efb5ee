"""The application: registration of the commands, and the one boundary where errors become text and exit codes."""

from __future__ import annotations

import os
import signal
import sys
from contextlib import suppress
from functools import cached_property
from typing import Annotated, Any

import typer
from typer.main import get_command

from influence_cli import __version__, process
from influence_cli.commands.compare import compare
from influence_cli.commands.groundtruth import groundtruth
from influence_cli.commands.help import Command, name_values
from influence_cli.commands.influence import influence
from influence_cli.commands.report import report
from influence_cli.commands.select import select
from influence_cli.commands.show import show
from influence_cli.commands.train import train
from influence_cli.core import stopping
from influence_cli.errors import ExitCode, GinfError, StoppedError, shown_lines
from influence_cli.memory import lack


class Application(typer.Typer):
    """The commands, whose signatures Typer reads once per process: that takes far longer than parsing a line."""

    @cached_property
    def _command(self) -> Any:
        return get_command(self)

    def __call__(self, *arguments: Any, **options: Any) -> Any:
        """Parse a command line and run its command."""
        return self._command(*arguments, **options)


app = Application(
    name="ginf",
    help="How would this model's prediction change if that group of training rows had not been there?",
    no_args_is_help=True,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 200},
    pretty_exceptions_enable=False,
)
for _command in (train, influence, groundtruth, select, compare, report, show):
    name_values(_command)
    app.command(cls=Command)(_command)


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
    """Run the command line of this process and end it."""
    code = _until_stopped(sys.argv[1:])
    failure = process.drain()
    if failure is not None:  # it must not hide the result of the run
        reason = (failure.strerror or str(failure)).lower()
        code_of_report = _report(f"cannot write the results to standard output: {reason}", None, ExitCode.FILE)
        code = code or code_of_report
    process.drain()
    sys.exit(code)


def run(arguments: list[str]) -> int:
    """Run one command line and return its exit code; every error is written to stderr as text."""
    stopping.begin()
    return _until_stopped(arguments)


def _until_stopped(arguments: list[str]) -> int:
    try:
        stopping.check()
        code = _run(arguments)
        stopping.check()
        return code
    except StoppedError as stop:
        process.say_farewell(stop.signal)
        return stop.code


def _run(arguments: list[str]) -> int:
    try:
        code = int(app(arguments, prog_name="ginf", standalone_mode=False) or ExitCode.OK)
        sys.stdout.flush()
        # Typer raises Abort at Ctrl-C or returns this code, depending on its version.
        return _interrupted() if code == ExitCode.INTERRUPTED else code
    except GinfError as error:
        return _report(error.message, error.hint, error.code)
    except BrokenPipeError:  # when called from Python: the command line's own streams do not raise it
        return int(ExitCode.OK)
    except SystemExit as stop:
        return int(stop.code or 0)
    except (KeyboardInterrupt, typer.Abort):
        return _interrupted()
    except MemoryError:
        lacking = lack("this", None, "fewer groups or test rows at a time, --solver cg or --threads 1 need less")
        return _report(lacking.message, lacking.hint, lacking.code)
    except (OSError, ImportError) as error:
        return _surroundings(error)
    except Exception as error:
        # Typer's own usage errors, from whichever Click it was built on, format themselves.
        if hasattr(error, "format_message") and getattr(error, "exit_code", None) == ExitCode.USAGE:
            message = error.format_message()  # empty where help was shown because no command was given
            return _report(message, _help_hint(error), ExitCode.USAGE) if message else int(ExitCode.USAGE)
        return _defect(error)


def _report(message: str, hint: str | None, code: ExitCode) -> int:
    with suppress(OSError):  # nobody may be reading
        print(f"ginf: error: {shown_lines(message)}", file=sys.stderr)
        if hint:
            print(f"hint: {shown_lines(hint)}", file=sys.stderr)
    return int(code)


def _interrupted() -> int:
    """Ctrl-C where the program was called from Python, whose default handler raises."""
    with suppress(OSError):
        print(process.farewell(signal.SIGINT), file=sys.stderr)
    return int(ExitCode.INTERRUPTED)


def _surroundings(error: OSError | ImportError) -> int:
    """Errors that no command anticipated, from the surroundings: a file that vanished, a library that does not load."""
    if isinstance(error, ImportError):
        hint = "if memory is limited (ulimit -v), raise the limit; else install ginf again"
        return _report(f"a library cannot be loaded: {error}", hint, ExitCode.FILE)
    reason = (error.strerror or str(error) or type(error).__name__).lower()
    names = ", ".join(os.fsdecode(name) for name in (error.filename, error.filename2) if isinstance(name, str | bytes))
    return _report(f"{names}: {reason}" if names else f"the system refused: {reason}", None, ExitCode.FILE)


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
