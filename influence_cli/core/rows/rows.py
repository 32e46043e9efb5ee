"""Where rows may live other than in an array: what the passes ask of it.

A pass is a sum over blocks of rows of something small (``total``), something of every block in their order (``each``),
or the reading of named rows (``take``).  What is done to a block is a function that reads the block by ``X[rows]`` and
changes nothing but what it is given, so that whoever keeps the rows may call it wherever they are.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Protocol, TypeVar, runtime_checkable

import numpy as np

Piece = TypeVar("Piece")
Add = Callable[[Sequence[slice], np.ndarray], None]


class Cost(Protocol):
    """What one pass over all rows takes."""

    @property
    def bytes(self) -> int:
        """All that is read."""

    @property
    def files(self) -> int:
        """In how many files."""

    @property
    def seconds(self) -> float:
        """About how long reading it takes; 0 where nothing has been read yet."""


@runtime_checkable
class Rows(Protocol):
    """m rows of d features, float64, that are not in memory.  Any number of threads may ask at once.

    What is given belongs to who asked until it lets go of it, and is not to be written to.
    """

    @property
    def shape(self) -> tuple[int, int]:
        """(m, d)."""

    @property
    def size(self) -> int:
        """m times d."""

    @property
    def cost(self) -> Cost:
        """Of a pass."""

    def take(self, rows: np.ndarray) -> np.ndarray:
        """The rows of these numbers (n,), in their order: (n, d)."""

    def __getitem__(self, rows: slice | np.ndarray) -> np.ndarray:
        """A block of rows (b, d), or ``take``."""


@runtime_checkable
class Engine(Rows, Protocol):
    """Rows whose passes are done elsewhere than in this process; of others ``StreamedDesign`` does them here."""

    def total(self, add: Add, blocks: Sequence[slice], shape: tuple[int, ...], operations: float) -> np.ndarray:
        """The sum of what ``add(span, out)`` adds to zeros of that shape for spans of the blocks.

        The spans depend on what is given here alone (``parallel.span_count``), and their sums are added in their order:
        the same bits for any number of threads, or of machines.  ``operations`` is about how many multiply-adds there
        are in all.
        """

    def each(self, work: Callable[[slice], Piece], blocks: Sequence[slice], operations: float) -> Iterator[Piece]:
        """work(block) for every block, in their order."""
