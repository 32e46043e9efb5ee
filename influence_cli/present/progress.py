"""The progress of a run: a bar on a terminal, and a line now and then in a log."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

from influence_cli.core import stopping
from influence_cli.present.tables import console

LOG_SECONDS = 30.0
"""Between two lines of progress in a log: a run that takes less is not interrupted by any."""


class _Log:
    """Lines about how far a run is, for whoever reads the log of a job that takes minutes."""

    def __init__(self, label: str, total: int | None) -> None:
        self._label, self._total, self._done = label, total, 0
        self._start = self._last = time.monotonic()

    def advance(self, done: int) -> None:
        """Count further steps, and write a line where the last one is long ago."""
        self._done += done
        now = time.monotonic()
        if now - self._last < LOG_SECONDS or not self._done:
            return
        self._last = now
        text = f"{self._done:,} done"
        if self._total is not None:
            left = (now - self._start) * max(self._total - self._done, 0) / self._done
            text = f"{self._done:,} of {self._total:,} done, about {_spoken(left)} left"
        with suppress(OSError):
            print(f"ginf: {self._label}: {text}", file=sys.stderr, flush=True)


def _spoken(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 90 else f"{seconds / 60:.0f} min"


@contextmanager
def progress(label: str, total: int | None, *, quiet: bool, color: bool) -> Iterator[Callable[[int], None]]:
    """A transient bar on stderr with the remaining time; if stderr is no terminal, a line every ``LOG_SECONDS``."""
    if quiet or not sys.stderr.isatty():
        log = None if quiet else _Log(label, total)

        def advance_quietly(done: int) -> None:
            stopping.check()
            if log is not None:
                log.advance(done)

        yield advance_quietly
        return
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    bar = Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn() if total is not None else TextColumn("{task.completed}"),
        TimeRemainingColumn(),
        console=console(sys.stderr, color),
        transient=True,
    )
    with bar:
        task = bar.add_task(label, total=total)

        def advance(done: int) -> None:
            stopping.check()
            bar.advance(task, done)

        yield advance
