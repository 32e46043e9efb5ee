"""The standard streams and signals of the process, made safe for whatever surroundings the program is started in."""

from __future__ import annotations

import math
import os
import signal
import sys
import warnings
from contextlib import suppress
from pathlib import Path

TERMINATED = 128 + signal.SIGTERM
BLAS_THREADS = ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS")
"""Variables by which users limit the threads of BLAS, which reads them when NumPy is imported."""


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
    _obey_quota()


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


def _obey_quota() -> None:
    """Give libraries no more threads than a container's quota pays for: beyond it all of them are stopped in turn.

    They read these variables when they are loaded, and know of processors, not of quotas.  What the user has set stays.
    """
    quota = cpu_quota()
    processors = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    if quota is None or quota >= processors:
        return
    threads = str(math.ceil(quota))
    if not any(name in os.environ for name in BLAS_THREADS):
        os.environ["OMP_NUM_THREADS"] = threads
    os.environ.setdefault("POLARS_MAX_THREADS", threads)


def cpu_quota(system: Path = Path("/")) -> float | None:
    """Processors that this process's control groups, version 1 or 2, may use at most; None without a limit.

    A group lies within all groups above it.  In a container the mounted tree may begin at its own group, so that
    folders of the path that do not exist are passed over.
    """
    try:
        lines = (system / "proc/self/cgroup").read_text(encoding="utf-8").splitlines()
    except OSError:
        return None
    found = []
    for line in lines:
        number, controllers, path = line.split(":", 2)
        if number == "0":
            trees, read = ("sys/fs/cgroup", "sys/fs/cgroup/unified"), _quota_v2
        elif "cpu" in controllers.split(","):
            trees, read = (f"sys/fs/cgroup/{controllers}", "sys/fs/cgroup/cpu"), _quota_v1
        else:
            continue
        for tree in trees:
            folder = system / tree / path.strip("/")
            depth = len(folder.relative_to(system / tree).parts)
            found += [read(place) for place in (folder, *folder.parents[:depth])]
    return min((quota for quota in found if quota is not None), default=None)


def _quota_v2(folder: Path) -> float | None:
    """cpu.max is "LIMIT PERIOD" in microseconds; LIMIT is "max" where there is none."""
    with suppress(OSError, ValueError):
        limit, period = (folder / "cpu.max").read_text(encoding="ascii").split()
        return float(limit) / float(period)  # "max" is no number
    return None


def _quota_v1(folder: Path) -> float | None:
    """Microseconds in two files; -1 where there is no limit."""
    with suppress(OSError, ValueError):
        limit = float((folder / "cpu.cfs_quota_us").read_text(encoding="ascii"))
        if limit > 0:
            return limit / float((folder / "cpu.cfs_period_us").read_text(encoding="ascii"))
    return None
