"""Map a function over items on several threads; the results come in the order of the items."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextvars import copy_context
from typing import TypeVar

from influence_cli.memory import at_most

Item = TypeVar("Item")
Made = TypeVar("Made")

THREADS = min(4, os.cpu_count() or 1)
"""Threads that work at the same time."""
PIECE_BYTES, PIECES_SHARE = 3.2e7, 1 / 6
"""Bytes that a thread holds (a piece of text, and its numbers twice), and the share of ``--memory`` for all threads."""


def ahead(work: Callable[[Item], Made], items: Iterable[Item], threads: int | None = None) -> Iterator[Made]:
    """Yields ``work(item)`` for every item, in the order of the items.

    Up to ``threads`` items are worked on at the same time, by default as many as there are processors and memory for.
    An error in ``work`` is raised when the result of that item is due.  The caller's thread iterates over ``items``.
    """
    begun: deque[Future[Made]] = deque()
    if threads is None:
        threads = max(1, int(at_most(THREADS * PIECE_BYTES, PIECES_SHARE) / PIECE_BYTES))
    with ThreadPoolExecutor(threads) as pool:
        for item in items:
            begun.append(pool.submit(copy_context().run, work, item))
            if len(begun) > threads:
                yield begun.popleft().result()
        while begun:
            yield begun.popleft().result()
