"""The interface to rows that are not in an array in memory.

A pass is a sum over blocks of rows of something small (``total``), a result for every block in order (``each``), or the
reading of rows with given numbers (``take``).  The work on a block is a function that reads the block by ``X[rows]``
and modifies only its arguments, so that the owner of the rows may call it wherever they are.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Protocol, TypeVar, runtime_checkable

import numpy as np

Piece = TypeVar("Piece")
"""The result of the work on a block."""
Add = Callable[[Sequence[slice], np.ndarray], None]
"""add(span, out) adds the sums over some consecutive blocks to ``out``."""


class Cost(Protocol):
    """The cost of one pass over all rows."""

    @property
    def bytes(self) -> int:
        """Bytes that are read."""

    @property
    def files(self) -> int:
        """Files that are read."""

    @property
    def seconds(self) -> float:
        """Approximate time to read them; 0 where nothing has been read yet."""


@runtime_checkable
class Rows(Protocol):
    """m rows of d features, float64, that are not in memory.  Several threads may call its methods at once.

    A returned array stays valid as long as the caller refers to it, and must not be modified.
    """

    @property
    def shape(self) -> tuple[int, int]:
        """(m, d)."""

    @property
    def size(self) -> int:
        """m times d."""

    @property
    def cost(self) -> Cost:
        """The cost of a pass."""

    def take(self, rows: np.ndarray) -> np.ndarray:
        """The rows with these numbers (n,), in the order given: (n, d)."""

    def __getitem__(self, rows: slice | np.ndarray) -> np.ndarray:
        """A block of rows (b, d) for a slice; for numbers the same as ``take``."""


@runtime_checkable
class Engine(Rows, Protocol):
    """Rows whose passes run outside of this process; for other ``Rows``, ``StreamedDesign`` runs them here."""

    def total(self, add: Add, blocks: Sequence[slice], shape: tuple[int, ...], operations: float) -> np.ndarray:
        """The sum of the arrays that ``add(span, out)`` fills, starting from zeros of that shape, for spans of the
        blocks.

        The arguments alone decide the spans (``parallel.span_count``), and their sums are added in order, so that the
        result has the same bits for any number of threads or machines.  ``operations`` is the approximate number of
        multiply-adds in total.
        """

    def each(self, work: Callable[[slice], Piece], blocks: Sequence[slice], operations: float) -> Iterator[Piece]:
        """work(block) for every block, in order."""
