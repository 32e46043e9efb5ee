"""Runs that may do anything: each in a process of its own, forked from one that has everything loaded.

``forked`` runs a command line with limits of time and memory and says how it ended; ``verdict`` says what is wrong with
that, if anything.  A fork takes milliseconds where a new interpreter takes a second.
"""

from __future__ import annotations

import json
import os
import resource
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

SECONDS = 10.0
"""Seconds after which a run hangs, of its own processor time: on a busy machine others' time is not counted."""
WAITING = 60
"""Seconds of the clock after which a run hangs all the same: it may wait for what never comes."""
MEMORY = 1 << 30
"""Bytes that a run may use where its input is small."""
CLEAN = (0, 2, 3, 4, 5)
"""Exit codes of runs that ended as they should; 1 is a defect."""


@dataclass(frozen=True)
class Outcome:
    """How a run ended: its exit code (minus the signal's number), what it wrote, its processor seconds and bytes."""

    code: int
    out: str
    err: str
    seconds: float
    memory: int


def load_everything() -> None:
    """Import what commands import in their bodies, so that a fork has it; nothing that starts threads is used."""
    import h5py  # noqa: F401
    import polars  # noqa: F401
    import sklearn.datasets
    import sklearn.linear_model
    import sklearn.model_selection
    import sklearn.preprocessing  # noqa: F401
    import skops.io  # noqa: F401


def forked(arguments: Sequence[str], folder: Path, *, before: Callable[[], object] | None = None) -> Outcome:
    """Run ``ginf ARGUMENTS`` in a folder; ``before`` is called in the child first."""
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        sys.stdout.flush()
        child = os.fork()
        if child == 0:
            _run(arguments, folder, out.fileno(), err.fileno(), before)
        _, status, usage = os.wait4(child, 0)
        texts = []
        for file in (out, err):
            file.seek(0)
            texts.append(file.read().decode(errors="backslashreplace"))
        code = os.waitstatus_to_exitcode(status)
        return Outcome(code, *texts, usage.ru_utime + usage.ru_stime, usage.ru_maxrss * 1024)


def _run(arguments: Sequence[str], folder: Path, out: int, err: int, before: Callable[[], object] | None) -> None:
    """In the child: never returns."""
    code = 1
    try:
        os.chdir(folder)
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        os.dup2(out, 1)
        os.dup2(err, 2)
        for name in ("stdin", "stdout", "stderr"):
            number = ("stdin", "stdout", "stderr").index(name)
            setattr(sys, name, open(number, "w" if number else "r", closefd=False))  # noqa: SIM115
        limit = int(SECONDS) + 1
        resource.setrlimit(resource.RLIMIT_CPU, (limit, limit + 1))
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        signal.alarm(WAITING)
        signal.signal(signal.SIGINT, signal.default_int_handler)
        if before is not None:
            before()
        from influence_cli import process
        from influence_cli.cli import run

        process.prepare()
        code = run(list(arguments))
        process.drain()
    except BaseException:
        import traceback

        traceback.print_exc()
    finally:
        for stream in (sys.stdout, sys.stderr):
            try:
                stream.flush()
            except (OSError, ValueError):
                code = code or 1
        os._exit(code)


def verdict(found: Outcome, expected: str | None = None, *, figures: Callable[[str], object] = str) -> str | None:
    """What is wrong with an outcome, in a word or two; None where nothing is.

    With ``expected``, the output of the right input, an exit of 0 must have its ``figures``.
    """
    if found.code in (-signal.SIGXCPU, -signal.SIGALRM) or found.seconds > SECONDS:
        return "hang"
    if found.code < 0:
        return f"crash ({signal.Signals(-found.code).name})"
    if found.code not in CLEAN:
        return f"exit {found.code}"
    if found.memory > MEMORY:
        return f"{found.memory >> 20} MiB"
    if found.code and ("error:" not in found.err or "Traceback" in found.err) and found.code != 4:
        return f"exit {found.code} without a sentence"
    if found.code == 0 and expected is not None and figures(found.out) != figures(expected):
        return "wrong figures"
    return None


def within(seconds: float) -> Callable[[], bool]:
    """Whether there is still time: for loops that have a budget."""
    end = time.monotonic() + seconds
    return lambda: time.monotonic() < end


@dataclass
class Tally:
    """How the runs of a campaign ended, and those that should not have ended so."""

    name: str
    runs: int = 0
    ends: Counter[str] = field(default_factory=Counter)
    found: list[str] = field(default_factory=list)
    seconds: float = 0.0
    memory: int = 0

    def count(self, case: str, outcome: Outcome, problem: str | None) -> None:
        self.runs += 1
        self.ends[problem or f"exit {outcome.code}"] += 1
        self.seconds, self.memory = max(self.seconds, outcome.seconds), max(self.memory, outcome.memory)
        if problem is not None:
            self.found.append(
                f"{self.name} {case}: {problem}: {' | '.join(outcome.err.strip().splitlines()[-3:])[:400]}"
            )


def figures(out: str) -> Any:
    """Records without what may differ from run to run."""
    try:
        records = json.loads(out)
    except ValueError:
        return out
    return [{key: value for key, value in record.items() if key != "seconds"} for record in records]
