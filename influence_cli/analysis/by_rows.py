"""Linear figures of every row, or of groups that together hold many rows, from one pass over all rows."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np

from influence_cli.analysis.figures import Tables
from influence_cli.analysis.reliability import INFINITE, Estimation
from influence_cli.core.recession import recession
from influence_cli.core.rif import UNDETERMINED, SingleRemovals, rows_that_hold_the_minimum
from influence_cli.core.row_changes import BY_ROWS, RowChanges, row_changes
from influence_cli.core.solvers.choice import HessianSolver
from influence_cli.models.trained import TrainedModel
from influence_cli.results import OK
from influence_cli.specs.planned import GroupPlan, digest_of

WIDEST = 64
"""Groups whose directions of recession are computed together."""
LEAST = 0.1
"""Total rows of all groups, as a share of the training rows, above which one pass over all rows is faster than reading
each group's rows."""
BYTES = 256e6
"""Bytes of the rows' contributions (m, T) to the changes for the T test rows of one chunk."""
TOGETHER = 1 << 20
"""Rows of a block of groups."""
PENALTY_ELEMENTS = 1 << 20
"""Float64 numbers (8 MiB) in the penalties of a block of groups."""


def serves(model: TrainedModel, plan: GroupPlan, how: Estimation) -> bool:
    """Whether these figures are sums over rows, and the groups hold so many rows that summing all rows is faster."""
    if (
        how.evaluate != "linear"
        or how.errors
        or model.settings.is_network
        or how.certify is not None
        or not set(how.methods) <= set(BY_ROWS)
    ):
        return False
    return plan.each_row or bool(plan.size.sum() >= LEAST * plan.m)


def fill_by_rows(
    tables: Tables,
    solver: HessianSolver,
    *,
    name_test: Callable[[int], str],
    advance: Callable[[int], None],
) -> None:
    """Fill in the figures that ``serves`` describes, with one adjoint solve per test row and none per group.

    ``name_test`` gives the beginning of the message about an adjoint whose solve did not converge.
    """
    question, plan = tables.question, tables.plan
    figures, done = _Figures(tables, solver), 0
    for target in question.targets:
        solution = solver.solve(target.gradient(question.model.theta))
        count, step = solution.x.shape[1], max(1, int(BYTES / (16 * plan.m)))
        for start in range(0, count, step):
            columns = slice(start, min(start + step, count))
            figures.fill(slice(done + columns.start, done + columns.stop), solution.x[:, columns])
            advance(len(plan) * (columns.stop - columns.start))
        for column in np.flatnonzero(~solution.converged).tolist():
            at = done + column
            figures.lose(at, name_test(int(question.codes[at])) + solution.why(column))
        done += count
    figures.know()
    figures.finish()


class _Figures:
    """Computes the figures (G, T) of each method and collects what is wrong with each group."""

    def __init__(self, tables: Tables, solver: HessianSolver):
        self._tables, self._model, self._plan = tables, tables.question.model, tables.plan
        self._methods, self._scaling = tables.how.methods, self._model.settings.penalty_scaling
        objective, theta = self._model.objective, self._model.theta
        rif = "rif" in self._methods
        self._singles = SingleRemovals(objective, theta, solver, self._scaling) if rif else None
        self._problems: dict[str, dict[int, str]] = {method: {} for method in self._methods}

    def fill(self, columns: slice, adjoints: np.ndarray) -> None:
        """Fill in the figures of the test rows ``columns`` (T,), whose H^-1 grad f are ``adjoints`` (P, T)."""
        model, plan, tables = self._model, self._plan, self._tables
        parts = row_changes(model.objective, model.theta, adjoints, self._methods, self._scaling, self._singles)
        for block in _blocks(plan):
            groups = [plan.rows(index) for index in range(block.start, block.stop)] if not plan.each_row else None
            changes = parts.of_each(self._methods) if groups is None else parts.of_groups(self._methods, groups)
            moved = _by_penalties(model, groups, plan.m, adjoints)
            for method, change in changes.items():
                tables.values[method][block, columns] = change if method == "first-koh" else change + moved
            if groups is not None:
                tables.digests[block] = [digest_of(rows) for rows in groups]
            self._leave_out(parts, groups, block, columns)

    def _leave_out(self, parts: RowChanges, groups: list[np.ndarray] | None, block: slice, columns: slice) -> None:
        """Discard ``rif`` for groups that contain a row of leverage 1, or for all groups where it failed as a whole."""
        if "rif" not in self._methods:
            return
        lost = parts.undetermined if groups is None else np.array([parts.undetermined[rows].any() for rows in groups])
        problem = UNDETERMINED if parts.problem == OK else parts.problem
        for index in block.start + np.flatnonzero(lost | (parts.problem != OK)):
            self._tables.values["rif"][index, columns] = np.nan
            self._problems["rif"].setdefault(int(index), problem)

    def lose(self, column: int, problem: str) -> None:
        """Discard the figures of a test row whose adjoint solve did not converge."""
        for method, values in self._tables.values.items():
            values[:, column] = np.nan
            for index in range(len(values)):
                self._problems[method].setdefault(index, problem)

    def know(self) -> None:
        """Find the pairs whose truth is not taken at a minimum."""
        model, plan, tables = self._model, self._plan, self._tables
        objective, targets = model.objective, tables.question.targets
        chosen = rows_that_hold_the_minimum(objective, model.theta) if plan.each_row else np.arange(len(plan))
        for start in range(0, len(chosen), WIDEST):
            part = chosen[start : start + WIDEST]
            groups = [plan.rows(int(index)) for index in part]
            tables.know(part, targets, recession(objective, model.theta, model.removal(groups).removed))

    def finish(self) -> None:
        """Report what is wrong with each group, and replace values that are not finite by NaN."""
        for method, values in self._tables.values.items():
            finite = np.isfinite(values)
            for index in np.flatnonzero(~finite.all(axis=1)).tolist():
                values[index, ~finite[index]] = np.nan
                self._tables.fail(index, f"{method}: {self._problems[method].get(index, INFINITE)}")


def _blocks(plan: GroupPlan) -> Iterator[slice]:
    """Slices over the groups with at most TOGETHER rows, or with one larger group; a single slice for ``rows:each``."""
    if plan.each_row:
        yield slice(0, len(plan))
        return
    total, start = np.cumsum(plan.size), 0
    while start < len(plan):
        before = total[start - 1] if start else 0
        stop = max(start + 1, int(np.searchsorted(total, before + TOGETHER, side="right")))
        yield slice(start, stop)
        start = stop


def _by_penalties(
    model: TrainedModel, groups: list[np.ndarray] | None, rows: int, adjoints: np.ndarray
) -> np.ndarray | float:
    """What standardising again without each group adds to ``first`` and ``rif``: lambda v'(R - R_g) theta, (G, T)."""
    if model.refit is None or not model.refit.shared or model.refit.standardised is None:
        return 0.0
    groups = [np.array([row]) for row in range(rows)] if groups is None else groups
    out = np.empty((len(groups), adjoints.shape[1]))
    step = max(1, PENALTY_ELEMENTS // model.objective.size)
    for start in range(0, len(groups), step):
        penalty = model.refit.penalty(groups[start : start + step])
        removed = model.objective.penalty.removed(model.theta, penalty)
        out[start : start + step] = removed.T @ adjoints
    return out
