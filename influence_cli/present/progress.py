"""The progress of a run, on a terminal."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from influence_cli.core import stopping
from influence_cli.present.tables import console


@contextmanager
def progress(label: str, total: int | None, *, quiet: bool, color: bool) -> Iterator[Callable[[int], None]]:
    """A transient bar on stderr with the remaining time; nothing if stderr is not a terminal."""
    if quiet or not sys.stderr.isatty():
        yield lambda done: stopping.check()
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
