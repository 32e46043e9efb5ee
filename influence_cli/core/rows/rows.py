"""Where rows may live other than in an array: what the passes ask of it.

A pass is a sum over blocks of rows of something small, a row-wise result, or the reading of named rows
(``Design.sweep``, ``Design.each``, ``Design.dense``).  A design asks its features for blocks and for named rows alone,
so that whatever answers these two is enough for every objective, estimator and search.
"""

from __future__ import annotations

from typing import Protocol, runtime_checkable

import numpy as np


class Cost(Protocol):
    """What one pass over all rows reads."""

    @property
    def bytes(self) -> int:
        """All of it."""

    @property
    def files(self) -> int:
        """In how many files."""


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
