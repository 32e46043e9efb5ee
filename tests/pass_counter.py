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
def counted_passes(monkeypatch, outputs: int, rows: int | None = None) -> Iterator[Counted]:
    """Counts what dense designs do in the block, for a model whose passes compute that many outputs a row.

    Products that only go forward (losses, curvature states, rankings of rows) count where ``rows``, the number of
    training rows, tells them from those of test rows.
    """
    found = Counted()
    sweep, chosen, together, forward = Design.sweep, Design.sweep_chosen, Design.sweep_groups, Design.forward

    def counted_sweep(self, W, rowwise, groups):
        found.passes += (len(W) + groups) / (2 * outputs)
        return sweep(self, W, rowwise, groups)

    def counted_chosen(self, W, rowwise, rows, width):
        found.passes += sum(map(len, rows)) / self.rows
        return chosen(self, W, rowwise, rows, width)

    def counted_together(self, W, rowwise, rows, width):
        found.passes += sum(map(len, rows)) / self.rows
        return together(self, W, rowwise, rows, width)

    def counted_forward(self, W, part):
        if self.rows == rows:
            read = len(part) if hasattr(part, "__len__") else part.stop - part.start
            found.passes += len(W) / (2 * outputs) * read / rows
        return forward(self, W, part)

    with monkeypatch.context() as patch:
        patch.setattr(Design, "forward", counted_forward)
        patch.setattr(Design, "sweep", counted_sweep)
        patch.setattr(Design, "sweep_chosen", counted_chosen)
        patch.setattr(Design, "sweep_groups", counted_together)
        yield found
