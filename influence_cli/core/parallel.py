"""Our own loops on the threads that BLAS may use.

Many small matrix products run faster side by side, each on one thread, than one after the other on all of them: the
work between them is spread as well.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import TypeVar

import numpy as np
from threadpoolctl import ThreadpoolController

Item = TypeVar("Item")

SPREAD_FROM = 1e8
"""Multiply-adds of a loop from which on it is worth starting threads, which takes a millisecond or two."""


@cache
def _pools() -> ThreadpoolController:
    """The BLAS libraries of this process; finding them takes ten milliseconds."""
    return ThreadpoolController().select(user_api="blas")


def thread_count() -> int:
    """Threads that our own loops run on: as many as BLAS is allowed, and one anywhere but on the main thread.

    BLAS has one limit for the whole process, and two loops that set it back could leave it changed; nor may the way in
    which a sum is split depend on what else is running.
    """
    if threading.current_thread() is not threading.main_thread():
        return 1
    return max((pool["num_threads"] for pool in _pools().info()), default=1)


def spread(work: Callable[[Item], None], items: Iterable[Item], *, operations: float = np.inf) -> None:
    """work(item) for every item, in no order, on ``thread_count`` threads; with more than one, BLAS has one in each.

    ``operations`` is about how many multiply-adds there are in all.
    """
    items = list(items)
    threads = _threads(len(items), operations)
    if threads == 1:
        for item in items:
            work(item)
        return
    with _pools().limit(limits=1), ThreadPoolExecutor(threads) as pool:
        for _ in pool.map(work, items):
            pass


def summed(
    work: Callable[[Sequence[Item], np.ndarray], None],
    items: Sequence[Item],
    shape: tuple[int, ...],
    *,
    operations: float = np.inf,
) -> np.ndarray:
    """The sum of what ``work`` adds to zeros of that shape, once for each thread with a span of the items in order."""
    count = max(1, min(_threads(len(items), operations), len(items)))
    sums = np.zeros((count, *shape))

    def add(number: int) -> None:
        work(items[number * len(items) // count : (number + 1) * len(items) // count], sums[number])

    spread(add, range(count))
    return sums.sum(axis=0) if count > 1 else sums[0]


def _threads(items: int, operations: float) -> int:
    return thread_count() if items > 1 and operations >= SPREAD_FROM else 1
