"""The covariance of all coefficients over clusters of rows, by retraining without each (CRV3)."""

from __future__ import annotations

import numpy as np

from influence_cli.analysis.groundtruth import Retraining, groundtruth, start_truth
from influence_cli.analysis.question import Question
from influence_cli.core.quantities import ParameterTarget
from influence_cli.core.solvers.choice import HessianSolver
from influence_cli.errors import NotConvergedError, UsageError
from influence_cli.models.trained import TrainedModel
from influence_cli.results import NO_TEST, OK, Provenance
from influence_cli.specs.planned import GroupPlan


def cluster_covariance(model: TrainedModel, solver: HessianSolver, plan: GroupPlan) -> np.ndarray:
    """(P, P): (G - 1) / G times the sum over the clusters of (b_g - b)(b_g - b)', where b_g are the parameters without
    cluster g and b those of all rows (MacKinnon, Nielsen and Webb 2023).

    Raises UsageError for groups that are no partition of the rows, NotConvergedError where a retraining has no minimum.
    """
    rows = [plan.rows(index) for index in range(len(plan))]
    if len(rows) < 2 or not np.array_equal(np.sort(np.concatenate(rows)), np.arange(plan.m)):
        raise UsageError(
            "clusters are at least two groups that divide all training rows among them",
            hint="name the parts of one partition, such as by:COLUMN",
        )
    size = model.objective.size
    targets = tuple(ParameterTarget(index) for index in range(size))
    question = Question(model, None, "param:*", np.full(size, NO_TEST), targets)
    partial = start_truth(question, plan, Provenance("", "", {}))
    truth = groundtruth(question, solver, plan, partial, Retraining(model.objective.tuning.tolerance))
    lost = [index for index in range(len(plan)) if truth.status[index] != OK]
    if lost:
        raise NotConvergedError(f"without {plan.label[lost[0]]}: {truth.status[lost[0]]}")
    return (len(rows) - 1) / len(rows) * truth.actual.T @ truth.actual
