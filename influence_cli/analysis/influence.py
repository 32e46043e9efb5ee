"""Estimates: rows -> weights (m, G) -> changes of theta (P, G) -> changes of f (G, T), a block of groups at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np

from influence_cli.analysis.pooled import check_evaluate
from influence_cli.analysis.question import Question, piece, runs_away
from influence_cli.core.estimators import METHODS, Estimate, estimate
from influence_cli.core.evaluation import exact_change, linear_change
from influence_cli.core.optimise.restarts import held_at_once
from influence_cli.core.quantities import Target
from influence_cli.core.removal import removal
from influence_cli.core.rif import SingleRemovals
from influence_cli.core.solvers.choice import SIDE_BY_SIDE, HessianSolver
from influence_cli.errors import UsageError, unknown_word
from influence_cli.models.trained import TrainedModel
from influence_cli.results import MEAN_TEST, NO_TEST, OK, GroupTable, InfluenceResult, Provenance
from influence_cli.specs.plan import GroupPlan

BLOCK_BYTES = 256e6
"""Memory that the weights and parameters of one block of groups may take."""
WIDEST = 64
"""Groups in a block: beyond this a pass over the rows gains nothing from more columns."""
INFINITE = "the estimate is not finite"

Evaluation = Callable[[Estimate], tuple[np.ndarray, list[str]]]
"""An estimate of G groups to changes of f (G, T), NaN where there is none, and what went wrong (G,), else ``OK``."""


def check_methods(methods: Sequence[str]) -> tuple[str, ...]:
    """The methods in the order given.  Raises UsageError for an unknown or repeated one."""
    for method in methods:
        if method not in METHODS:
            raise unknown_word("--method", method, METHODS)
    if len(set(methods)) < len(methods) or not methods:
        raise UsageError("--method needs one or more different methods", hint="for example --method first,second")
    return tuple(methods)


def check_possible(model: TrainedModel, methods: Sequence[str]) -> None:
    """Raises UsageError, before a solver is made, for a method that a model of this kind does not have."""
    if "rif" in methods:
        model.objective.check_row_steps()


def influence(
    question: Question,
    solver: HessianSolver,
    plan: GroupPlan,
    *,
    provenance: Provenance,
    methods: Sequence[str] = ("first", "second"),
    evaluate: str = "linear",
    advance: Callable[[int], None] = lambda pairs: None,
) -> InfluenceResult:
    """Estimated changes ``f(after removal) - f(before)`` for every group and test row, without retraining.

    One adjoint solve a test row and one forward solve a group, whatever the number of pairs.  Where a solve did not
    reach its tolerance the value is NaN and ``status`` says why.  Where retraining has no finite value the estimates
    stay, and ``extrapolated`` tells.  ``advance`` hears of (group, test row) pairs done.
    """
    methods = check_methods(methods)
    check_evaluate(question.quantity, evaluate)
    model, codes = question.model, question.codes
    scaling = model.settings.penalty_scaling
    singles = SingleRemovals(model.objective, model.theta, solver, scaling) if "rif" in methods else None
    digests: list[str] = [""] * len(plan)
    status = [OK] * len(plan)
    base = np.empty(len(codes))
    values = {method: np.empty((len(plan), len(codes))) for method in methods}
    extrapolated = np.zeros((len(plan), len(codes)), dtype=bool)
    first_test = 0
    for target in question.targets:
        before = target.value(model.theta)[:, 0]
        part = slice(first_test, first_test + len(before))
        first_test = part.stop
        base[part] = before
        if evaluate == "exact":
            evaluation = _exact(model, solver, target, before)
        else:
            evaluation = _linear(model, solver, target, codes[part], methods)
        for block in group_blocks(model, len(plan)):
            groups = [plan.group(index) for index in range(block.start, block.stop)]
            digests[block] = [group.digest for group in groups]
            weights = removal(model.objective.weights, [group.rows for group in groups], scaling)
            found = estimate(model.objective, model.theta, solver, weights, methods, singles)
            runaway = model.objective.runaway(weights.removed)
            if runaway.any():
                extrapolated[block, part] = runs_away(target, model.theta, runaway)
            for method in methods:
                values[method][block, part], problems = evaluation(found[method])
                for index, problem in zip(range(block.start, block.stop), problems, strict=True):
                    if problem != OK and status[index] == OK:
                        status[index] = f"{method}: {problem}"
            advance(len(groups) * len(before))
    table = GroupTable(plan.label, plan.kind, plan.size, plan.fraction, tuple(digests))
    return InfluenceResult(
        provenance, table, codes, question.quantity, evaluate, base, values, tuple(status), extrapolated
    )


def working_bytes(model: TrainedModel, groups: int, tests: int, methods: Sequence[str]) -> float:
    """Memory that ``influence`` takes at its peak beside the model and its factor."""
    objective = model.objective
    results = 16.0 * groups * tests * len(methods)
    curvatures = 20.0 * model.dataset.rows * objective.outputs
    adjoints = 16.0 * objective.size * min(tests, piece(objective.size))
    solves = 48.0 * objective.size * min(max(tests, WIDEST), SIDE_BY_SIDE)
    blocks = _group_bytes(model) * min(groups, _width(model))
    own = held_at_once(objective, groups) if "newton" in methods and objective.light_preconditioner else 0.0
    return results + curvatures + adjoints + solves + blocks + own


def group_blocks(model: TrainedModel, count: int) -> Iterator[slice]:
    """Slices over the groups, as wide as memory and use allow."""
    step = _width(model)
    return (slice(start, min(start + step, count)) for start in range(0, count, step))


def _width(model: TrainedModel) -> int:
    return int(min(WIDEST, max(1, BLOCK_BYTES / _group_bytes(model))))


def _group_bytes(model: TrainedModel) -> float:
    """Weights of the rows, once more in single precision, and the parameters with what solving for them needs."""
    return 8.0 * (4.5 * model.dataset.rows + 13 * model.objective.size)


def _exact(model: TrainedModel, solver: HessianSolver, target: Target, before: np.ndarray) -> Evaluation:
    """f after the estimated change minus f before."""

    def evaluate(found: Estimate) -> tuple[np.ndarray, list[str]]:
        change, solved = exact_change(found, solver, target, model.theta, before)
        return _only_valid(change, solved.problems)

    return evaluate


def _linear(
    model: TrainedModel, solver: HessianSolver, target: Target, codes: np.ndarray, methods: Sequence[str]
) -> Evaluation:
    """grad f' change.  H^-1 grad f is solved for once and serves every group; a Newton step alone needs none of it."""
    gradients = target.gradient(model.theta)
    if set(methods) == {"newton"}:
        return lambda found: _only_valid(linear_change(found, gradients, gradients), found.problems)
    adjoints = solver.solve(gradients)
    unsolved = {
        column: _at_test(int(codes[column])) + adjoints.why(column)
        for column in np.flatnonzero(~adjoints.converged).tolist()
    }

    def evaluate(found: Estimate) -> tuple[np.ndarray, list[str]]:
        change, problems = _only_valid(linear_change(found, gradients, adjoints.x), found.problems)
        if unsolved and found.rhs is not None:
            change[:, list(unsolved)] = np.nan
            first = next(iter(unsolved.values()))
            problems = [first if problem == OK else problem for problem in problems]
        return change, problems

    return evaluate


def _only_valid(change: np.ndarray, problems: Sequence[str]) -> tuple[np.ndarray, list[str]]:
    """The changes (G, T) without those of groups that have a problem, which a value beyond all numbers also is."""
    finite = np.isfinite(change)
    told = [
        INFINITE if problem == OK and not row.all() else problem for problem, row in zip(problems, finite, strict=True)
    ]
    valid = finite & (np.array(problems) == OK)[:, None]
    return np.where(valid, change, np.nan), told


def _at_test(code: int) -> str:
    return {MEAN_TEST: "mean of the test rows, ", NO_TEST: ""}.get(code, f"test row {code}, ")
