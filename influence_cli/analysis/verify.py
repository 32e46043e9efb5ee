"""Retraining beside the estimates: how well they agree, and how long it would take."""

from __future__ import annotations

from dataclasses import replace
from time import perf_counter

import numpy as np

from influence_cli.analysis.groundtruth import Retraining, groundtruth, start_truth
from influence_cli.analysis.question import Question
from influence_cli.core.removal import removal
from influence_cli.core.solvers.choice import HessianSolver
from influence_cli.models.trained import TrainedModel
from influence_cli.results import REFINED, InfluenceResult
from influence_cli.specs.planned import GroupPlan

REFINED_PASSES, RETRAINING_PASSES = 7, 20
"""Passes over the rows that a group typically takes: of ten problems at --l2 1e-3, half took fewer."""
TRIED = 8
"""Groups on which a pass is timed: the more groups share it, the less time it takes for each."""
CERTAIN = 5e9
"""Multiply-adds that take about a second, too little to be worth measuring."""


def predicted_seconds(model: TrainedModel, plan: GroupPlan, passes: float) -> float:
    """Predicted seconds for ``passes`` passes per group, from the time of one pass; 0 if it is certainly little."""
    objective, rows = model.objective, model.dataset.rows
    if 2.0 * rows * objective.size * len(plan) * passes < CERTAIN:
        return 0.0
    count = min(TRIED, len(plan))
    w = removal(objective.weights, [plan.rows(g) for g in range(count)], model.settings.penalty_scaling).removed
    theta = np.repeat(model.theta, count, axis=1)
    start = perf_counter()
    objective.gradient(theta, w)
    return (perf_counter() - start) / count * passes * len(plan)


def verified(question: Question, solver: HessianSolver, plan: GroupPlan, result: InfluenceResult) -> InfluenceResult:
    """The result with ``actual`` as ``groundtruth`` measures it, NaN where retraining has no value."""
    partial = start_truth(question, plan, result.provenance)
    how = Retraining(question.model.objective.tuning.tolerance)
    truth = groundtruth(question, solver, plan, partial, how)
    return replace(result, actual=truth.actual)


def agreement(result: InfluenceResult) -> str:
    """One sentence on how the figures of ``refined``, or else of the last method, compare with retraining."""
    if result.actual is None:
        return ""
    method = REFINED if REFINED in result.values else list(result.values)[-1]
    estimate, actual = result.values[method], result.actual
    known = np.isfinite(estimate) & np.isfinite(actual)
    if not known.any():
        return "retrained: no figure can be compared, see status"
    off = np.abs(estimate - actual)[known]
    size = np.abs(actual[known])
    signs = int((np.sign(estimate[known]) == np.sign(actual[known])).sum())
    relative = off[size > 0] / size[size > 0]
    again = "" if result.objective is None else f" from the trained parameters, where {method} is {result.objective}"
    text = f"retrained{again}: {signs:,} of {known.sum():,} signs of {method} agree"
    if relative.size:
        text += f"; relative error {_percent(np.median(relative))} in the median, {_percent(relative.max())} at most"
    error = result.errors.get(method, np.full(result.actual.shape, np.nan))[known]
    if np.isfinite(error).any():
        text += f"; {np.mean(off <= error + 1e-9 * size):.0%} within their error"
    lost = int((np.isfinite(estimate) & ~np.isfinite(actual)).sum())
    return f"{text}; {lost:,} figures have no value by retraining: see ginf groundtruth" if lost else text


def _percent(share: float) -> str:
    """A percentage with two significant digits."""
    return f"{float(f'{100.0 * share:.2g}'):,g}%"
