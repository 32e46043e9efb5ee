"""Passes over the rows on the workers of a dask scheduler, each of which reads its rows from the files itself.

A pass is one task for each thread of the workers, and the same rows go to the same worker in every pass.  If a worker
is lost, another one does its tasks: a task contains all that it needs except for the shared values, which are sent
again if the worker does not have them.  Partial sums are formed over the same spans of rows as on a single machine and
added in the same order, so that the results are identical to the last bit.
"""

from __future__ import annotations

import logging
import platform
import queue
import re
import uuid
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from threading import Thread
from time import sleep
from typing import Any

import numpy as np

from influence_cli.core import stopping
from influence_cli.core.parallel import span_count
from influence_cli.core.rows.rows import Add, Piece
from influence_cli.data.compressed import CompressedRows
from influence_cli.data.stamps import content_digest
from influence_cli.data.stored import StoredRows, making
from influence_cli.engines import remote
from influence_cli.errors import FileError, UsageError

INSTALL = 'pip install "ginf[dask]"'
CONNECT_SECONDS, TICK_SECONDS, LOOK_SECONDS, PATIENCE_SECONDS = 10.0, 0.2, 1.0, 30.0
"""Seconds to wait for the scheduler, between checks for a signal, between checks of the tasks, and for a worker."""
INLINE_BYTES = 1 << 18
"""Most bytes of new shared values that are sent with every task; sending them separately costs a round trip."""
STOPPED = "start it again; with groundtruth -o FILE --resume the finished groups are kept"


@contextmanager
def connected(address: str | None) -> Iterator[None]:
    """Within this context, the scheduler at ``address``, if any, does the passes over rows in files.

    Raises UsageError if ``distributed`` is not installed, and FileError if no scheduler answers, if it has no workers,
    or if one of them has other versions.
    """
    if address is None:
        yield
        return
    loud = logging.root.manager.disable
    logging.disable(logging.CRITICAL)  # our own messages say what concerns the user
    try:
        cluster = Cluster(_client(address), address)
        try:
            cluster.check_versions()
            with making(cluster.rows):
                yield
        finally:
            cluster.close()
    finally:
        logging.disable(loud)


def _client(address: str) -> Any:
    try:
        import distributed
    except ImportError as error:
        raise UsageError("--scheduler needs the package distributed, which is not installed", INSTALL) from error
    if re.fullmatch(r"[a-z]+://.+:\d+", address) is None:
        raise UsageError(f"--scheduler expects tcp://HOST:PORT, got {address!r}", "dask scheduler says its address")
    try:
        return distributed.Client(address, timeout=CONNECT_SECONDS, set_as_default=False)
    except (OSError, TimeoutError) as error:
        raise FileError(
            f"no dask scheduler answers at {address} within {CONNECT_SECONDS:.0f} s", "start one: dask scheduler"
        ) from error


@dataclass(frozen=True)
class _Job:
    """The items of one task, the index of the first, and the address of the worker that should do it."""

    first: int
    items: Sequence[Any]
    worker: str


class WorkedRows(StoredRows):
    """Rows in files over which the workers of a cluster do the passes: an ``Engine``."""

    cluster: Cluster

    def check_reachable(self) -> None:
        """Raises FileError if a worker sees other files, or none, under the same paths."""
        self.cluster.check_files(list(dict.fromkeys(part.path for part in self.parts)))

    def total(self, add: Add, blocks: Sequence[slice], shape: tuple[int, ...], operations: float) -> np.ndarray:
        """See ``Engine.total``."""
        count, total = span_count(len(blocks), shape, operations), np.zeros(shape)
        bounds = [number * len(blocks) // count for number in range(count + 1)]
        spans = [blocks[low:high] for low, high in pairwise(bounds)]
        for partial in self.cluster.results(add, spans, shape):
            total += partial
        return total

    def each(self, work: Callable[[slice], Piece], blocks: Sequence[slice], operations: float) -> Iterator[Piece]:
        """See ``Engine.each``."""
        return self.cluster.results(work, blocks, None)


class WorkedCompressedRows(WorkedRows, CompressedRows):
    """``WorkedRows`` in compressed form."""


class Cluster:
    """The workers of a scheduler, and a record of what they have been sent."""

    def __init__(self, client: Any, address: str):
        self._client, self._address = client, address
        self._program = uuid.uuid4().hex
        self._sender = remote.Sender()
        self._sent: set[int] = set()
        self._checked: set[Path] = set()

    def rows(
        self,
        kind: type[StoredRows],
        parts: Sequence[Any],
        columns: int,
        dtype: np.dtype,
        stored_shape: tuple[int, ...],
    ) -> WorkedRows:
        """The rows in these parts of files, with passes by this cluster; a ``Maker``."""
        worked = WorkedCompressedRows if kind is CompressedRows else WorkedRows
        made = worked(parts, columns, dtype, stored_shape)
        made.cluster = self
        return made

    def check_files(self, paths: Sequence[Path]) -> None:
        """Raises FileError if a worker does not see the same content under the same paths."""
        paths = [path.absolute() for path in paths if path.absolute() not in self._checked]
        if not paths:
            return
        for path in paths:
            digest_here = content_digest(path)
            for worker, digest in self._everywhere(content_digest, path).items():
                if digest != digest_here:
                    what = "no such file" if not isinstance(digest, str) else "another content"
                    raise FileError(
                        f"{path}: the worker {worker} of {self._address} has {what} there",
                        "every worker must see the same files under the same paths",
                    )
        self._checked.update(paths)

    def check_versions(self) -> None:
        """Raises FileError if there are no workers, or if one has other ``versions``."""
        versions_here = versions()
        versions_there = self._everywhere(versions)
        if not versions_there:
            raise FileError(
                f"no worker has joined the scheduler at {self._address}", f"start some: dask worker {self._address}"
            )
        for worker, theirs in versions_there.items():
            if not isinstance(theirs, dict):
                raise FileError(f"the worker {worker} cannot run ginf ({theirs})", "install ginf[dask] where it runs")
            for name, version in versions_here.items():
                if theirs[name] != version:
                    raise FileError(
                        f"the worker {worker} has {name} {theirs[name]}, expected {version} as here",
                        "install the same versions everywhere",
                    )

    def close(self) -> None:
        """Free the shared values on the workers and disconnect."""
        with suppress(Exception):
            if self._client.status == "running":
                self._everywhere(remote.let_go, self._program)
        with suppress(Exception):
            self._client.close(timeout=1)

    def results(self, work: Callable[..., Any], items: Sequence[Any], shape: tuple[int, ...] | None) -> Iterator[Any]:
        """Yields the results of ``remote.worked`` for the items, in their order.  Raises FileError."""
        content = self._sender.packed(work)
        values = self._share()
        jobs = self._jobs(items)
        done: dict[int, list[Any]] = {}
        ended: queue.SimpleQueue[tuple[Any, Any]] = queue.SimpleQueue()
        running: dict[Any, _Job] = {}

        def begin(jobs: Sequence[_Job], values: dict[int, bytes]) -> None:
            futures_begun = []
            for job in jobs:
                arguments = (self._program, content, values, shape, list(job.items))
                future = self._client.submit(
                    remote.worked, *arguments, workers=[job.worker], allow_other_workers=True, pure=False
                )
                running[future] = job
                futures_begun.append(future)
            Thread(target=_listen, args=(futures_begun, self._client.loop, ended), daemon=True).start()

        try:
            begin(jobs, values)
            at = 0
            while at < len(jobs):
                future, outcome = self._next(ended, running)
                job = running.pop(future, None)
                if job is None:  # the task was restarted meanwhile
                    continue
                result = self._checked_outcome(future, outcome)
                if result is None:  # the worker is new and lacks shared values, or was lost with the task
                    begin([job], dict(self._sender.values))
                    continue
                done[job.first] = result
                while at < len(jobs) and jobs[at].first in done:
                    yield from done.pop(jobs[at].first)
                    at += 1
        finally:
            if running:
                with suppress(Exception):
                    self._client.cancel(list(running), force=True)

    def _next(self, ended: queue.SimpleQueue[tuple[Any, Any]], running: Collection[Any]) -> tuple[Any, Any]:
        """The next future that has ended, and its outcome, or a future that no worker has, and None.

        While it waits, it raises the exception of a signal, and FileError if the scheduler or all workers are lost.
        """
        alone, idle, strays = 0.0, 0.0, set[Any]()
        while True:
            try:
                return ended.get(timeout=TICK_SECONDS)
            except queue.Empty:
                stopping.check()
            self._check_connection()
            alone = 0.0 if self._workers() else alone + TICK_SECONDS
            if alone > PATIENCE_SECONDS:
                raise self._deserted()
            idle += TICK_SECONDS
            if idle >= LOOK_SECONDS:
                before, strays, idle = strays, self._strays(running), 0.0
                if before & strays:
                    return (before & strays).pop(), None

    def _strays(self, running: Collection[Any]) -> set[Any]:
        """Futures that no worker has, because the scheduler may lose a task together with its worker."""
        try:
            held = {key for keys in self._client.processing().values() for key in keys}
        except (OSError, TimeoutError, RuntimeError) as error:
            raise self._lost() from error
        return {one for one in running if one.status == "pending" and one.key not in held}

    def _check_connection(self) -> None:
        if self._client.status != "running":
            raise self._lost()

    def _checked_outcome(self, future: Any, outcome: Any) -> list[Any] | None:
        if future.status == "pending":
            return None
        if future.status == "finished":
            return list(outcome) if outcome is not None else None
        if future.status == "error":
            error = outcome[1]
            if type(error).__name__ == "KilledWorker":
                raise FileError(
                    f"workers of {self._address} end whenever they do the same task: they may lack memory", STOPPED
                ) from error
            raise error
        raise self._lost()

    def _lost(self) -> FileError:
        return FileError(f"the scheduler at {self._address} is gone", STOPPED)

    def _share(self) -> dict[int, bytes]:
        """The new shared values, to be sent with each task; empty if they are large, which are sent to all now."""
        values = self._sender.values
        new = {number: values[number] for number in sorted(set(values) - self._sent)}
        gone = sorted(self._sent - set(values))
        self._sent = set(values)
        if sum(map(len, new.values())) <= INLINE_BYTES:
            return new
        self._everywhere(remote.keep, self._program, new, gone)
        return {}

    def _jobs(self, items: Sequence[Any]) -> list[_Job]:
        """The items, divided into a contiguous run for each thread of the workers."""
        slots = self._slots()
        count = min(len(slots), len(items))
        bounds = [number * len(items) // count for number in range(count + 1)]
        return [
            _Job(bounds[number], items[bounds[number] : bounds[number + 1]], slots[number * len(slots) // count])
            for number in range(count)
        ]

    def _slots(self) -> list[str]:
        """The address of the worker of each thread; waits for a worker if there is none.  Raises FileError."""
        for _ in range(int(PATIENCE_SECONDS / TICK_SECONDS)):
            slots = [name for name, threads in self._workers().items() for _ in range(threads)]
            if slots:
                return slots
            stopping.check()
            self._check_connection()
            sleep(TICK_SECONDS)
        raise self._deserted()

    def _deserted(self) -> FileError:
        return FileError(f"the last worker has left the scheduler at {self._address}", STOPPED)

    def _workers(self) -> dict[str, int]:
        """Address of each worker -> its number of threads."""
        known = self._client.scheduler_info(n_workers=-1).get("workers", {})
        return {name: known[name]["nthreads"] for name in sorted(known)}

    def _everywhere(self, function: Callable[..., Any], *arguments: Any) -> dict[str, Any]:
        """Address of each worker -> what the function returns there, or the exception that it raises."""
        try:
            return dict(self._client.run(function, *arguments, on_error="return"))
        except (OSError, TimeoutError, RuntimeError, ValueError) as error:
            raise self._lost() from error


def _listen(futures: Sequence[Any], loop: Any, ended: queue.SimpleQueue[tuple[Any, Any]]) -> None:
    """Put futures into ``ended`` as they end, with their outcomes; runs in a thread, so that signals need not wait."""
    from distributed import as_completed

    with suppress(Exception):
        for future, outcome in as_completed(futures, loop=loop, with_results=True, raise_errors=False):
            ended.put((future, outcome))


def versions() -> dict[str, str]:
    """The versions of the packages on which the figures depend."""
    import scipy

    from influence_cli import __version__

    return {
        "ginf": __version__,
        "Python": platform.python_version(),
        "NumPy": np.__version__,
        "SciPy": scipy.__version__,
    }
