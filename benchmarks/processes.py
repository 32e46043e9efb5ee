"""Commands of ginf as whole processes: the time and the peak memory of each.

On Linux a child's peak starts at what its parent holds when it forks: a script that measures here must stay small, and
leave large arrays to processes of their own.
"""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import dataclass
from time import perf_counter


@dataclass(frozen=True)
class Finished:
    """What a process printed, its wall-clock and processor seconds and its largest resident memory in bytes."""

    output: str
    seconds: float
    processor: float
    peak: int


def ginf(*arguments: str) -> Finished:
    return process(sys.executable, "-m", "influence_cli", *arguments)


def process(*command: str) -> Finished:
    """Raises CalledProcessError where it fails; what it says on standard error is shown."""
    begun = perf_counter()
    child = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert child.stdout is not None
    output = child.stdout.read()
    _, status, used = os.wait4(child.pid, 0)
    seconds = perf_counter() - begun
    child.returncode = os.waitstatus_to_exitcode(status)
    if child.returncode:
        raise subprocess.CalledProcessError(child.returncode, command)
    return Finished(
        output, seconds, used.ru_utime + used.ru_stime, used.ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    )
