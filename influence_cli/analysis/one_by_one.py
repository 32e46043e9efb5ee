"""Estimates group by group, where removal changes the kept rows themselves (``core.changed_rows``)."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from influence_cli.analysis.question import Question, runs_away
from influence_cli.analysis.remade import Without, without
from influence_cli.core.changed_rows import estimate_changed
from influence_cli.core.estimators import Estimate
from influence_cli.core.removal import removal
from influence_cli.core.rif import SingleRemovals
from influence_cli.core.solvers.choice import HessianSolver
from influence_cli.errors import FileError
from influence_cli.results import OK, GroupTable, InfluenceResult, Provenance
from influence_cli.specs.plan import GroupPlan

OTHER_FEATURES = "without the group the features are others, so that nothing can be estimated from the trained model"
INFINITE = "the estimate is not finite"


def influence_one_by_one(
    question: Question,
    solver: HessianSolver,
    plan: GroupPlan,
    *,
    provenance: Provenance,
    methods: Sequence[str],
    evaluate: str,
    advance: Callable[[int], None],
) -> InfluenceResult:
    """As ``influence``, with one group at a time on the rows as they are without it."""
    model, count, pairs = question.model, len(plan), len(question)
    objective, theta = model.objective, model.theta
    scaling = model.settings.penalty_scaling
    singles = SingleRemovals(objective, theta, solver, scaling) if "rif" in methods else None
    base = question.value(theta)[:, 0]
    values = {method: np.full((count, pairs), np.nan) for method in methods}
    extrapolated = np.zeros((count, pairs), dtype=bool)
    status, digests = [OK] * count, []
    for index in range(count):
        group = plan.group(index)
        digests.append(group.digest)
        advance(pairs)
        try:
            other = without(question, group.rows)
        except FileError as error:
            status[index] = error.message
            continue
        if not other.aligned:
            status[index] = OTHER_FEATURES
            continue
        own = removal(objective.weights, [group.rows], scaling)
        changed, after = other.question.model.objective, other.removal.removed
        found = estimate_changed(objective, theta, solver, own, changed, after, methods, singles)
        runaway = changed.runaway(after)
        if runaway.any():
            lost = [runs_away(target, theta, runaway) for target in other.question.targets]
            extrapolated[index] = np.concatenate(lost, axis=1)[0]
        for method in methods:
            change, problem = _change(found[method], solver, other, theta, base, evaluate)
            values[method][index] = change
            if problem != OK and status[index] == OK:
                status[index] = f"{method}: {problem}"
    table = GroupTable(plan.label, plan.kind, plan.size, plan.fraction, tuple(digests))
    return InfluenceResult(
        provenance,
        table,
        question.codes,
        question.quantity,
        evaluate,
        base,
        values,
        tuple(status),
        extrapolated,
    )


def _change(
    estimate: Estimate, solver: HessianSolver, other: Without, theta: np.ndarray, base: np.ndarray, evaluate: str
) -> tuple[np.ndarray, str]:
    """Change of f (T,) against ``base`` (T,), and what went wrong.

    The test rows change too, so that a linear change begins with what that does at theta*.
    """
    solved = estimate.solved(solver)
    assert solved.change is not None
    if solved.problems[0] != OK:
        return np.full(len(base), np.nan), solved.problems[0]
    if evaluate == "exact":
        change = other.question.value(theta + solved.change)[:, 0] - base
    else:
        slopes = np.concatenate([target.gradient(theta).T @ solved.change for target in other.question.targets])
        change = other.question.value(theta)[:, 0] - base + slopes[:, 0]
    finite = np.isfinite(change)
    return np.where(finite, change, np.nan), OK if finite.all() else INFINITE
