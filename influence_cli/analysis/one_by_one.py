"""Estimates group by group, where removal changes the remaining rows themselves (``core.changed_rows``)."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from influence_cli.analysis.figures import Tables
from influence_cli.analysis.question import Question
from influence_cli.analysis.reliability import INFINITE, After, Estimation, Reliability
from influence_cli.analysis.remade import Without, without
from influence_cli.core.changed_rows import Changed, estimate_changed
from influence_cli.core.estimators import Estimate
from influence_cli.core.recession import recession
from influence_cli.core.removal import Removal, removal
from influence_cli.core.rif import SingleRemovals
from influence_cli.core.solvers.choice import HessianSolver
from influence_cli.errors import FileError
from influence_cli.results import OK, REFINED, InfluenceResult, Provenance
from influence_cli.specs.planned import GroupPlan

OTHER_FEATURES = "without the group the features are others, so that nothing can be estimated from the trained model"
NO_NETWORK = "a network has no proximal objective on features that removal changes"


def influence_one_by_one(
    question: Question,
    solver: HessianSolver,
    plan: GroupPlan,
    how: Estimation,
    *,
    provenance: Provenance,
    advance: Callable[[int], None],
) -> InfluenceResult:
    """As ``influence``, for one group at a time, with the remaining rows as they are without it."""
    model = question.model
    scaling = model.settings.penalty_scaling
    singles = SingleRemovals(model.objective, model.theta, solver, scaling) if "rif" in how.methods else None
    known = Reliability(question, solver, how, len(plan))
    tables = Tables(question, plan, how, known)
    for index in range(len(plan)):
        group, where = plan.group(index), slice(index, index + 1)
        tables.put(where, (group.digest,), {}, slice(None))
        advance(how.rounds * len(question))
        try:
            other = without(question.of(np.array([index])), group.rows)
        except FileError as error:
            tables.fail(index, error.message)
            continue
        if not other.aligned:
            tables.fail(index, OTHER_FEATURES)
            continue
        gone = removal(model.objective.weights, [group.rows], scaling)
        _fill_in(tables, solver, where, gone, other, singles)
    return tables.result(provenance)


def _fill_in(
    tables: Tables,
    solver: HessianSolver,
    where: slice,
    gone: Removal,
    other: Without,
    singles: SingleRemovals | None,
) -> None:
    """Fill in the figures of one group."""
    model, how, known, every = tables.question.model, tables.how, tables.known, slice(None)
    changed, weights = other.question.model.objective, other.removal.removed
    lost = recession(changed, model.theta, weights)
    tables.know(where, other.question.targets, lost)
    after = After(other.question, changed, weights, changed.gradient(model.theta, weights), lost)
    if how.estimators:
        new = Changed(changed, weights)
        estimates = estimate_changed(model.objective, model.theta, solver, gone, new, how.estimators, singles)
        tables.doubt(where, estimates)
        solved = {method: one.solved(solver) for method, one in estimates.items()}
        for method, one in solved.items():
            change, problem = _change(one, other, model.theta, known.base_of(where).reshape(-1), how.evaluate)
            tables.put(where, tables.digests[where], {method: (change[None], [problem])}, every)
        if how.errors and changed.convex:
            known.estimate(where, after, solved, tables.values)
    if REFINED in how.methods and not changed.convex:
        tables.fail(where.start, f"{REFINED}: {NO_NETWORK}")
    elif REFINED in how.methods:
        figures = known.refine(where, after, tables.finite(where))
        tables.put(where, tables.digests[where], {REFINED: figures}, every)


def _change(
    solved: Estimate, other: Without, theta: np.ndarray, base: np.ndarray, evaluate: str
) -> tuple[np.ndarray, str]:
    """Change of f (T,) relative to ``base`` (T,), and what went wrong.

    The test rows change too; a linear change therefore includes the effect of this on f at theta*.
    """
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
