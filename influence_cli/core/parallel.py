"""Our own loops on the threads that BLAS may use.

Many small matrix products run faster side by side, each on one thread, than one after the other on all of them: the
work between them is spread as well.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import TypeVar

from threadpoolctl import ThreadpoolController

Item = TypeVar("Item")

_ALONE = threading.Lock()
"""BLAS has one limit for the whole process: two loops that set it back could leave it changed."""


@cache
def _pools() -> ThreadpoolController:
    """The BLAS libraries of this process; finding them takes ten milliseconds."""
    return ThreadpoolController().select(user_api="blas")


def thread_count() -> int:
    """Threads that BLAS is allowed, and so are our own loops."""
    return max((pool["num_threads"] for pool in _pools().info()), default=1)


def spread(work: Callable[[Item], None], items: Iterable[Item]) -> None:
    """work(item) for every item, in no order, on as many threads as BLAS is allowed; inside, BLAS has one.

    A loop inside of another, or beside one, runs on its own thread alone.
    """
    threads = thread_count()
    if threads == 1 or not _ALONE.acquire(blocking=False):
        for item in items:
            work(item)
        return
    try:
        with _pools().limit(limits=1), ThreadPoolExecutor(threads) as pool:
            for _ in pool.map(work, items):
                pass
    finally:
        _ALONE.release()
