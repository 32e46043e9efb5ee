"""The standard streams and signals of the process, made safe for whatever surroundings the program is started in."""

from __future__ import annotations

import os
import signal
import sys
import warnings
from contextlib import suppress

TERMINATED = 128 + signal.SIGTERM


def prepare() -> None:
    """To be called once, before any file is opened."""
    _replace_closed()
    for stream in (sys.stdout, sys.stderr):
        with suppress(AttributeError):  # no text file: a test's or a notebook's stand-in
            # labels and file names may hold what an ASCII terminal cannot show
            stream.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]
    if not sys.warnoptions:
        warnings.simplefilter("ignore")  # an overflow ends as an error or a status, with words of its own
    signal.signal(signal.SIGTERM, _terminate)


def drain() -> None:
    """Write out what is buffered.  What cannot be written goes nowhere: the interpreter would complain at its end."""
    for stream in (sys.__stdout__ or sys.stdout, sys.__stderr__ or sys.stderr):
        try:
            stream.flush()
        except OSError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def _replace_closed() -> None:
    """Closed streams lead nowhere: otherwise the next file that is opened would take their number and their output."""
    while (handle := os.open(os.devnull, os.O_RDWR)) <= 2:
        pass
    os.close(handle)
    sys.stdin = sys.stdin or open(0)  # noqa: SIM115
    sys.stdout = sys.stdout or open(1, "w")  # noqa: SIM115
    sys.stderr = sys.stderr or open(2, "w")  # noqa: SIM115


def _terminate(number: int, frame: object) -> None:
    """SIGTERM unwinds as Ctrl-C does, so that no temporary file stays behind."""
    raise SystemExit(TERMINATED)
