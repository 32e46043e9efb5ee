"""Passes over the rows, counted while a test runs."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from influence_cli.core.rows.design import Design


@dataclass
class Counted:
    """``passes``: a forward and a backward product of one parameter vector with every row count as one."""

    passes: float = 0.0


@contextmanager
def counted_passes(monkeypatch, outputs: int) -> Iterator[Counted]:
    """Counts what dense designs do in the block, for a model whose passes compute that many outputs a row."""
    found = Counted()
    sweep, chosen = Design.sweep, Design.sweep_chosen

    def counted_sweep(self, W, rowwise, groups):
        found.passes += (len(W) + groups) / (2 * outputs)
        return sweep(self, W, rowwise, groups)

    def counted_chosen(self, W, rowwise, rows, width):
        found.passes += sum(map(len, rows)) / self.rows
        return chosen(self, W, rowwise, rows, width)

    with monkeypatch.context() as patch:
        patch.setattr(Design, "sweep", counted_sweep)
        patch.setattr(Design, "sweep_chosen", counted_chosen)
        yield found
