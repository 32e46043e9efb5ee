"""Estimates: rows -> delta (m, G) -> changes of theta (P, G) -> changes of f (G, T), a block of groups at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from ..core.estimators import METHODS, Estimate, estimate
from ..core.evaluation import exact_change, linear_change
from ..core.quantities import Target
from ..core.removal import removal
from ..core.solvers.choice import HessianSolver
from ..drawing import GroupPlan
from ..errors import UsageError
from ..modeling import TrainedModel
from ..results import OK, GroupTable, InfluenceResult, Provenance
from .targets import TestRows, make_targets

BLOCK_BYTES = 256e6
"""Memory that the weights and parameters of one block of groups may take."""
WIDEST = 64
"""Groups in a block: beyond this a pass over the rows gains nothing from more columns."""


def check_methods(methods: Sequence[str]) -> tuple[str, ...]:
    """The methods in the order given.  Raises UsageError for an unknown or repeated one."""
    for method in methods:
        if method not in METHODS:
            raise UsageError(f"unknown --method {method!r}", hint="choose from " + ", ".join(METHODS))
    if len(set(methods)) < len(methods) or not methods:
        raise UsageError("--method needs one or more different methods", hint="for example --method first,second")
    return tuple(methods)


def influence(
    model: TrainedModel,
    solver: HessianSolver,
    plan: GroupPlan,
    tests: TestRows | None,
    *,
    provenance: Provenance,
    methods: Sequence[str] = ("first", "second"),
    quantity: str = "loss",
    evaluate: str = "linear",
    advance: Callable[[int], None] = lambda groups: None,
) -> InfluenceResult:
    """Estimated changes ``f(after removal) - f(before)`` for every group and test row, without retraining.

    One adjoint solve a test row and one forward solve a group, whatever the number of pairs.  Where a solve did not
    reach its tolerance the value is NaN and ``status`` says why.
    """
    methods = check_methods(methods)
    codes, targets = make_targets(model, tests, quantity)
    digests: list[str] = [""] * len(plan)
    status = [OK] * len(plan)
    base = np.empty(len(codes))
    values = {method: np.empty((len(plan), len(codes))) for method in methods}
    first_test = 0
    for target in targets:
        part = slice(first_test, first_test + len(target.value(model.theta)))
        first_test = part.stop
        base[part] = target.value(model.theta)[:, 0]
        evaluation = _Evaluation.of(model, solver, target, base[part], evaluate, methods)
        for block in group_blocks(model, len(plan)):
            groups = [plan.group(index) for index in range(block.start, block.stop)]
            digests[block] = [group.digest for group in groups]
            weights = removal(model.objective.weights, [group.rows for group in groups], model.settings.penalty_scaling)
            found = estimate(model.objective, model.theta, solver, weights, methods)
            for method in methods:
                values[method][block, part], problems = evaluation(found[method])
                for index, problem in zip(range(block.start, block.stop), problems, strict=True):
                    if problem != OK and status[index] == OK:
                        status[index] = f"{method}: {problem}"
            advance(len(groups))
    table = GroupTable(plan.label, plan.kind, plan.size, plan.fraction, tuple(digests))
    return InfluenceResult(provenance, table, codes, quantity, evaluate, base, values, tuple(status))


def group_blocks(model: TrainedModel, count: int) -> Iterator[slice]:
    """Slices over the groups, as wide as memory and use allow."""
    each = 8 * (4 * len(model.dataset.X_train) + 10 * model.objective.size)
    step = int(min(WIDEST, max(1, BLOCK_BYTES / each)))
    return (slice(start, min(start + step, count)) for start in range(0, count, step))


@dataclass(frozen=True)
class _Evaluation:
    """``--evaluate`` bound to one target: an Estimate to changes (G, T) and the problems (G,) met on the way."""

    model: TrainedModel
    solver: HessianSolver
    target: Target
    base: np.ndarray
    gradients: np.ndarray | None
    adjoints: np.ndarray | None
    adjoint_problem: tuple[str, ...]

    @classmethod
    def of(cls, model, solver, target, base, evaluate, methods) -> _Evaluation:
        if evaluate == "exact":
            return cls(model, solver, target, base, None, None, (OK,) * len(base))
        gradients = target.gradient(model.theta)
        if set(methods) == {"newton"}:
            return cls(model, solver, target, base, gradients, gradients, (OK,) * len(base))
        solution = solver.solve(gradients)
        problems = tuple(solution.why(column) for column in range(gradients.shape[1]))
        return cls(model, solver, target, base, gradients, solution.x, problems)

    def __call__(self, found: Estimate) -> tuple[np.ndarray, Sequence[str]]:
        if self.gradients is None or self.adjoints is None:
            change, found = exact_change(found, self.solver, self.target, self.model.theta, self.base)
            problems = list(found.problems)
        else:
            change = linear_change(found, self.gradients, self.adjoints)
            problems = list(found.problems)
            if found.rhs is not None:
                for column, problem in enumerate(self.adjoint_problem):
                    if problem != OK:
                        change[:, column] = np.nan
                        problems = [problem if own == OK else own for own in problems]
        for row, problem in enumerate(found.problems):
            if problem != OK:
                change[row] = np.nan
        return change, problems
