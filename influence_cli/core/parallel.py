"""Loops that run on the threads that BLAS may use, with BLAS held to one thread in each.

BLAS divides every matrix product among its threads and waits for all of them, thousands of times in a pass over the
rows: if other programs run, each wait lasts until the scheduler resumes the last thread, and the waiting threads spin.
Therefore passes are divided here, a block of rows at a time, and BLAS uses one thread inside.  The calling thread works
too, so that a pass takes no longer than on one thread even if a helper thread gets no processor.

Sizes alone decide how sums are split.  The number of threads, and whatever else runs, does not change a bit of them.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager, nullcontext
from contextvars import ContextVar, copy_context
from functools import cached_property, wraps
from typing import ParamSpec, TypeVar

import numpy as np
from threadpoolctl import ThreadpoolController

from influence_cli.core import stopping
from influence_cli.memory import addresses_limited, require

Item = TypeVar("Item")
Result = TypeVar("Result")
P = ParamSpec("P")

SPREAD_FROM = 1e6
"""Multiply-adds of a loop above which it is worth waking threads, which takes about 50 microseconds."""
HOLD_FROM = 1e4
"""Multiply-adds of a loop up to which BLAS uses one thread anyway; limiting it to one takes 20 microseconds."""
NARROW = 1000
"""Parameters of a model up to which the work outside of the loops is too little for more than one thread."""
SPANS = 32
"""Partial sums of a loop at most: enough that threads which finish early find more work."""
WAITING_BYTES = 16 * 2**20
"""Bytes of partial sums that may wait for earlier ones to be added; above it, the threads that computed them wait."""
WAITING_SECONDS = 5.0
"""Longest wait, in seconds: a thread that is interrupted while it works on the next span never announces that span."""
SPAN_OPERATIONS = 64
"""Multiply-adds for each number of a partial sum that make it worthwhile: adding it to the total costs about ten."""

BLAS_BYTES, BLAS_ROWS = 80e6, 400
"""Address space of the buffers of NumPy's and SciPy's BLAS per thread, and rows of a product that makes BLAS take
them."""
LESS_THREADS = "raise the limit of address space (ulimit -v), or give --threads 1"
HELPERS = 256
"""Helper threads at most; no more are started than a loop asks for."""

_allowed: ContextVar[int | None] = ContextVar("allowed", default=None)
"""Threads for the loops of one job; None where a loop may use all."""


class _Process:
    """What the loops of this process share, created when it is first needed, because it takes ten milliseconds to find
    BLAS."""

    def __init__(self) -> None:
        self._making = threading.RLock()

    @cached_property
    def _blas(self) -> ThreadpoolController:
        return ThreadpoolController().select(user_api="blas")

    @cached_property
    def _helpers(self) -> ThreadPoolExecutor:
        return ThreadPoolExecutor(HELPERS, "ginf-helper", initializer=self.begin_thread)

    def blas(self) -> ThreadpoolController:
        with self._making:
            return self._blas

    def helpers(self) -> ThreadPoolExecutor:
        """Threads that sleep between loops and are started as needed."""
        with self._making:
            return self._helpers

    def begin_thread(self) -> None:
        """Limit BLAS to one thread in a helper thread, if OpenMP makes its threads, where each thread has its own
        limit."""
        for library in self.blas().lib_controllers:
            if getattr(library, "threading_layer", "") == "openmp":
                library.set_num_threads(1)


_process = _Process()


def _begin_child() -> None:
    """Replace the shared objects in a forked process, which has copies of its parent's locks, but none of its
    threads."""
    global _process
    _process = _Process()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_begin_child)


def thread_count() -> int:
    """Threads that a loop started here may run on: the job's share, else as many as BLAS may use.

    In every thread but the main one it is one: BLAS has a single limit for the process, and two loops that restore it
    could leave it changed.
    """
    allowed = _allowed.get()
    if allowed is not None:
        return allowed
    if not _in_main():
        return 1
    return max((library.num_threads for library in _process.blas().lib_controllers), default=1)


def reserve() -> None:
    """Make BLAS allocate its buffers where address space is limited: it allocates them in its first calls, and retries
    for ever if it gets none.  Raises MemoryLackError where there is no room for them."""
    if not addresses_limited():
        return
    from scipy.linalg import cholesky

    require("starting linear algebra", BLAS_BYTES * thread_count(), LESS_THREADS)
    square = np.eye(BLAS_ROWS)

    def touch(_: int) -> None:
        cholesky(square @ square, lower=True)

    spread(touch, range(4 * thread_count()))


@contextmanager
def divided(jobs: int) -> Iterator[Callable[[], None]]:
    """Share the threads among ``jobs`` jobs, and hold BLAS to one thread in each.

    Each job calls the yielded function once, in its own thread.
    """
    each = max(1, thread_count() // jobs)

    def begin() -> None:
        _allowed.set(each)
        _process.begin_thread()

    with _one_blas_thread():
        yield begin


def alone_where_narrow(size: Callable[..., int]) -> Callable[[Callable[P, Result]], Callable[P, Result]]:
    """A decorator that holds BLAS to one thread between the loops too, for models of up to ``NARROW`` parameters.

    ``size`` computes P from the function's arguments.  Outside of its loops such a model needs only short products and
    small systems, which a second thread does not speed up: while other programs ran, LAPACK's inverse of a 21 x 21
    matrix took 200 ms on two threads.
    """

    def decorate(function: Callable[P, Result]) -> Callable[P, Result]:
        @wraps(function)
        def alone(*args: P.args, **kwargs: P.kwargs) -> Result:
            if _allowed.get() is not None or not _in_main() or size(*args, **kwargs) > NARROW:
                return function(*args, **kwargs)
            threads = _allowed.set(thread_count())
            try:
                with _process.blas().limit(limits=1):
                    return function(*args, **kwargs)
            finally:
                _allowed.reset(threads)

        return alone

    return decorate


def _one_blas_thread() -> AbstractContextManager[object]:
    """Hold BLAS to one thread; within a loop or a job, it is held already."""
    held = _allowed.get() is not None or not _in_main()
    return nullcontext() if held else _process.blas().limit(limits=1)


def _in_main() -> bool:
    return threading.current_thread() is threading.main_thread()


def spread(work: Callable[[Item], None], items: Iterable[Item], *, operations: float = np.inf) -> None:
    """work(item) for every item, in no particular order, on ``thread_count`` threads; BLAS uses one thread in each.

    ``operations`` is the approximate number of multiply-adds in total.
    """
    stopping.check()
    items = list(items)
    threads = min(thread_count(), len(items)) if operations >= SPREAD_FROM else 1
    with _one_blas_thread() if operations >= HOLD_FROM else nullcontext():
        if threads > 1:
            _side_by_side(work, items, threads - 1)
            return
        for item in items:
            work(item)


def collected(work: Callable[[Item], Result], items: Iterable[Item], *, operations: float = np.inf) -> list[Result]:
    """The results of ``work`` for all items, in the order of the items; otherwise as ``spread``."""
    results: dict[int, Result] = {}

    def keep(numbered: tuple[int, Item]) -> None:
        results[numbered[0]] = work(numbered[1])

    spread(keep, enumerate(items), operations=operations)
    return [results[number] for number in range(len(results))]


def _side_by_side(work: Callable[[Item], None], items: Sequence[Item], helpers: int) -> None:
    left = iter(items)  # next() of a list's iterator is atomic, so that threads can share it

    def drain() -> None:
        for _ in left:
            pass

    def run() -> None:
        _allowed.set(1)
        try:
            for item in left:
                work(item)
        except BaseException:
            drain()
            raise

    futures: list[Future[None]] = []
    try:
        futures += [_process.helpers().submit(copy_context().run, run) for _ in range(helpers)]
        copy_context().run(run)
    finally:
        # Helpers that have not started by now are cancelled rather than waited for.
        failures = [_failure(future, drain) for future in futures if not future.cancel()]
    for failure in failures:
        if failure is not None:
            raise failure


def _failure(future: Future[None], drain: Callable[[], None]) -> BaseException | None:
    """The exception with which a helper ended, or None.  Waits for its end even if the wait is interrupted, because the
    helper writes where the caller reads."""
    try:
        return future.exception()
    except BaseException:
        drain()
        future.exception()
        raise


def span_count(items: int, shape: tuple[int, ...], operations: float) -> int:
    """Partial sums n of ``summed``: number i is over the items from i * items // n to (i + 1) * items // n."""
    return int(max(1, min(SPANS, items, operations / (SPAN_OPERATIONS * max(1, int(np.prod(shape)))))))


def summed(
    work: Callable[[Sequence[Item], np.ndarray], None],
    items: Sequence[Item],
    shape: tuple[int, ...],
    *,
    operations: float = np.inf,
) -> np.ndarray:
    """The sum of the arrays that ``work`` fills, starting from zeros of that shape, once for each span of the items.

    Spans depend on the number of items, the shape and ``operations`` only; their sums are added in order.
    """
    count = span_count(len(items), shape, operations)
    total = np.zeros(shape)
    if count == 1:
        spread(lambda _: work(items, total), range(1), operations=operations)
        return total
    waiting: dict[int, np.ndarray] = {}
    turn, added, ended = threading.Condition(), 0, False
    most = max(1, WAITING_BYTES // max(total.nbytes, 1))

    def add(number: int) -> None:
        nonlocal added, total, ended
        partial = np.zeros(shape)
        try:
            work(items[number * len(items) // count : (number + 1) * len(items) // count], partial)
        except BaseException:
            with turn:
                ended = True  # other threads stop waiting for this sum
                turn.notify_all()
            raise
        with turn:
            # Spans are started in order, so that the thread with the next one in turn does not wait.
            turn.wait_for(lambda: number == added or len(waiting) < most or ended, timeout=WAITING_SECONDS)
            waiting[number] = partial
            while added in waiting:
                total += waiting.pop(added)
                added += 1
            turn.notify_all()

    spread(add, range(count), operations=operations)
    return total
