"""The standard streams and signals of the process, made safe for any surroundings in which the program is started.

Python runs a signal's handler between two instructions of the main thread, possibly inside a C library that is calling
Python, and not at all during a long matrix product.  Therefore the handler only sets a flag (``core.stopping``), and a
separate thread, which the system's part of the handler wakes at once, ends the process if the flag has not been read
within ``GRACE``, or as soon as a second signal arrives.  That is safe at any moment: files appear under their names
only when they are complete.
"""

from __future__ import annotations

import atexit
import io
import math
import os
import select
import signal
import sys
import threading
import time
import warnings
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn, TextIO

from influence_cli.core import stopping

BLAS_THREADS = ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS")
"""Variables by which users limit the threads of BLAS, which reads them when NumPy is imported."""
GRACE = 1.2
"""Seconds that a run has to unwind by itself; it is expected to have ended within two."""
ENDED_BY = {
    signal.SIGINT: "interrupted",
    signal.SIGTERM: "terminated (SIGTERM)",
    **({signal.SIGHUP: "ended by a hang-up (SIGHUP)"} if hasattr(signal, "SIGHUP") else {}),
}
"""The signals that end a run, in words."""
_farewell = threading.Lock()
"""Acquired by the thread that prints what is kept, and never released, so that it is printed only once."""


class _Outlet(io.FileIO):
    """The only output of bytes to a standard stream.

    If the reader has closed the pipe or the disk is full, bytes are discarded, so that the outcome of a run does not
    depend on them.  ``failure`` is the first error other than a closed pipe, to be reported at the end.
    """

    def __init__(self, number: int) -> None:
        super().__init__(number, "w", closefd=False)
        self.unread = False
        self.failure: OSError | None = None

    def write(self, content: Any) -> int:
        view = memoryview(content).cast("B")
        done = 0
        while done < len(view) and not self.unread and self.failure is None:
            try:
                taken = super().write(view[done:])
                if taken is None:  # a non-blocking pipe that is full
                    select.select([], [self], [])
                done += taken or 0
            except BrokenPipeError:
                self.unread = True
            except OSError as error:
                self.failure = error
        return len(view)


class Outlet(io.TextIOWrapper):
    """A standard stream whose failures do not change the outcome of a run."""

    def __init__(self, number: int, like: TextIO) -> None:
        self._bytes = _Outlet(number)
        # Labels and file names may contain characters that an ASCII terminal cannot show.
        super().__init__(
            io.BufferedWriter(self._bytes),
            encoding=like.encoding,
            errors="backslashreplace",
            line_buffering=self._bytes.isatty() or number == 2,
        )

    @property
    def unread(self) -> bool:
        """Whether the reader has closed the pipe, so that further output is useless."""
        return self._bytes.unread

    @property
    def failure(self) -> OSError | None:
        """The error by which the stream accepts no more data, other than a closed pipe; None without an error."""
        return self._bytes.failure


def prepare() -> None:
    """Prepare the streams, warnings and threads; called once, before any file is opened."""
    _replace_closed()
    sys.stdout, sys.stderr = Outlet(1, sys.stdout), Outlet(2, sys.stderr)
    if not sys.warnoptions:
        warnings.simplefilter("ignore")  # an overflow ends as an error or a status with its own text
    _obey_quota()


def watch_signals(clean_up: Callable[[], None]) -> None:
    """Let the signals that end a run set a flag, and end the process if that does not suffice.

    ``clean_up`` removes what a run leaves if it does not unwind.  A signal that is ignored, as under ``nohup``, stays
    ignored.
    """
    read, write = os.pipe()
    os.set_blocking(write, False)
    signal.set_wakeup_fd(write, warn_on_full_buffer=False)
    for number in ENDED_BY:
        if signal.getsignal(number) != signal.SIG_IGN:
            signal.signal(number, _ask)
    threading.Thread(target=_wait, args=(read, clean_up), daemon=True, name="signals").start()


def say_farewell(number: int) -> None:
    """Print on stderr what is kept and how to continue, if it was not printed yet; a closed stream is ignored."""
    if _farewell.acquire(blocking=False):
        with suppress(OSError, ValueError):
            print(farewell(number), file=sys.stderr, flush=True)


def farewell(number: int) -> str:
    """The last line of a run that a signal ended, for example ``ginf: interrupted: nothing is kept; ...``."""
    return f"ginf: {ENDED_BY.get(signal.Signals(number), 'stopped')}: {stopping.kept()}"


def drain() -> OSError | None:
    """Flush both streams and return the error of standard output, if any."""
    sys.stdout.flush()
    sys.stderr.flush()
    return getattr(sys.stdout, "failure", None)


def leave(code: object) -> NoReturn:
    """End the process at once, because Python takes up to 0.3 s to destroy its objects and handles no signal then."""
    atexit._run_exitfuncs()
    drain()
    os._exit(code if isinstance(code, int) else 0 if code is None else 1)


def _ask(number: int, frame: FrameType | None) -> None:
    stopping.ask(number)


def _wait(read: int, clean_up: Callable[[], None]) -> None:
    """In a thread: the first signal starts the grace period of the run, and a second one ends the process."""
    number = _next(read)
    stopping.ask(number)
    timer = threading.Thread(target=_end_later, args=(number, clean_up), daemon=True)
    timer.start()
    _next(read)
    _end(number, clean_up)


def _next(read: int) -> int:
    """The next signal that ends a run."""
    while True:
        for number in os.read(read, 1):
            if number in ENDED_BY and signal.getsignal(number) != signal.SIG_IGN:
                return number


def _end_later(number: int, clean_up: Callable[[], None]) -> None:
    time.sleep(GRACE)
    _end(number, clean_up)


def _end(number: int, clean_up: Callable[[], None]) -> None:
    """End the process from a thread other than the main thread."""
    with suppress(Exception):
        clean_up()
    if _farewell.acquire(blocking=False):  # written to the descriptor, because the main thread may hold the stream
        with suppress(OSError):
            os.write(2, (farewell(number) + "\n").encode(errors="backslashreplace"))
    os._exit(128 + number)


def _replace_closed() -> None:
    """Open closed streams as /dev/null: otherwise the next file that is opened would take their number and output."""
    while (handle := os.open(os.devnull, os.O_RDWR)) <= 2:
        pass
    os.close(handle)
    sys.stdin = sys.stdin or open(0, closefd=False)  # noqa: SIM115
    sys.stdout = sys.stdout or open(1, "w", closefd=False)  # noqa: SIM115
    sys.stderr = sys.stderr or open(2, "w", closefd=False)  # noqa: SIM115


def _obey_quota() -> None:
    """Give libraries no more threads than a container's quota allows: with more, all of them are paused in turn.

    Libraries read these variables when they are loaded, and know the processors but not the quota.  What the user has
    set stays.
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
    """Largest number of processors that this process's control groups, version 1 or 2, may use; None without a limit.

    A group lies within all groups above it.  In a container the mounted tree may begin at its own group, so that
    folders of the path that do not exist are skipped.
    """
    try:
        lines = (system / "proc/self/cgroup").read_text(encoding="utf-8").splitlines()
    except OSError:
        return None
    quotas = []
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
            quotas += [read(place) for place in (folder, *folder.parents[:depth])]
    return min((quota for quota in quotas if quota is not None), default=None)


def _quota_v2(folder: Path) -> float | None:
    """The quota in ``cpu.max``: "LIMIT PERIOD" in microseconds, where LIMIT is "max" if there is none."""
    with suppress(OSError, ValueError):
        limit, period = (folder / "cpu.max").read_text(encoding="ascii").split()
        return float(limit) / float(period)  # "max" is not a number
    return None


def _quota_v1(folder: Path) -> float | None:
    """The quota from limit and period, in microseconds in two files; the limit is -1 if there is none."""
    with suppress(OSError, ValueError):
        limit = float((folder / "cpu.cfs_quota_us").read_text(encoding="ascii"))
        if limit > 0:
            return limit / float((folder / "cpu.cfs_period_us").read_text(encoding="ascii"))
    return None
