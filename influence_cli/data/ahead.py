"""Work on what comes one after the other, done for some of it at once and given in its order."""

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
"""That work at once."""
PIECE_BYTES, PIECES_SHARE = 3.2e7, 1 / 6
"""What a thread holds in memory, a piece of text and its numbers twice, and the share of ``--memory`` that all of them
may take."""


def ahead(work: Callable[[Item], Made], items: Iterable[Item], threads: int | None = None) -> Iterator[Made]:
    """What ``work`` makes of every item, in their order; up to ``threads`` of them are worked on meanwhile, by default
    as many as there are processors and memory for.

    An error is raised where its item's turn comes.  The items are asked for by the caller's own thread.
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
