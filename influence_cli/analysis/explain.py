"""Where one figure comes from: the terms of the paper's Eq. 17, and the rows of the group that matter most.

With v = H^-1 grad f, in the order in which they are added up:

    rows        sum_U w_i v' grad l_i: each row of the group by itself
    weights     the rest of v'g: the remaining rows count for more (per-mean), and the penalty of a refit changes
    curvature   v' D H^-1 g: the curvature that the group takes with it, the pairs of Eq. 17
    beyond      what ``refined`` adds: higher orders, and f itself instead of its slope

``row`` records are the group's rows whose single removals change f most (``rif`` where the model has it, else their
part of ``rows``); ``interplay`` is what the whole group does beyond the sum of all of its rows one at a time.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from influence_cli.analysis.question import Question
from influence_cli.analysis.reliability import Estimation, Reliability
from influence_cli.core.estimators import estimate
from influence_cli.core.recession import FINITE, LIMIT, recession
from influence_cli.core.removal import Removal, removal
from influence_cli.core.rif import SingleRemovals
from influence_cli.core.solvers.choice import HessianSolver
from influence_cli.errors import NotConvergedError, UsageError
from influence_cli.models.trained import TrainedModel
from influence_cli.results import OK, REFINED, name_of_test
from influence_cli.specs.planned import GroupPlan
from influence_cli.tabular import Records

SHOWN = 10
"""Rows of the group that are named."""
SIDE_BY_SIDE = 256
"""Rows whose single removals are solved for at a time."""
ROWS, WEIGHTS, CURVATURE, BEYOND, TOTAL = "rows", "weights", "curvature", "beyond", "refined"
INTERPLAY, ROW = "interplay", "row"


@dataclass(frozen=True)
class Explanation:
    """The ``terms`` add up to the ``refined`` change, which may be off by ``error``; ``rows`` (n,) of the group are
    sorted by the size of the change ``own`` (n,) of their single removals, found by ``method``; ``asked`` names the
    test row, and ``before`` is f now."""

    group: str
    asked: str
    before: float
    terms: dict[str, float]
    refined: float
    error: float
    rows: np.ndarray
    own: np.ndarray
    method: str

    @property
    def interplay(self) -> float:
        """What the group does beyond the sum of its rows one at a time."""
        return self.refined - float(self.own.sum())

    def records(self, model: TrainedModel) -> Records:
        """The terms, the total, the interplay and the largest rows, one record each."""
        nothing = {"row": None, "record": None, "id": None, "true": None}
        parts = [{"part": part, **nothing, "change": value, "share": None} for part, value in self.terms.items()]
        parts.append({"part": TOTAL, **nothing, "change": self.refined, "share": None})
        parts.append({"part": INTERPLAY, **nothing, "change": self.interplay, "share": None})
        total = float(np.abs(self.own).sum())
        for row, row_share in zip(self.rows[:SHOWN].tolist(), self.own[:SHOWN].tolist(), strict=True):
            share = abs(row_share) / total if total else None
            parts.append({"part": ROW, **_named(model, row), "change": row_share, "share": share})
        return Records(tuple(parts))


def explain(question: Question, solver: HessianSolver, plan: GroupPlan) -> Explanation:
    """Explain the change of one figure by one group.

    Raises UsageError for more than one of either, for a quantity without a derivative, and where removal changes the
    features themselves; NotConvergedError where a solve or ``refined`` gave no figure.
    """
    if question.of_weights:
        raise UsageError(
            f"--explain: --quantity {question.quantity} depends on the rows left, of which no term is known",
            hint="ask for --quantity param:NAME",
        )
    if len(plan) != 1 or len(question) != 1 or question.of_removed:
        single, example = ("quantity", "") if question.tests is None else ("test row", " --test 17")
        found = "each group's own rows" if question.of_removed else f"{len(question):,}"
        raise UsageError(
            f"--explain is about one group and one {single}, found {len(plan):,} and {found}",
            hint=f"for example --group coherent:3:20{example}",
        )
    model = question.model
    if model.refit is not None and not model.refit.shared:
        raise UsageError("--explain needs features that removal leaves as they are", hint="add --preprocessing frozen")
    objective, theta, rows = model.objective, model.theta, plan.rows(0)
    groups = model.removal([rows])
    target = question.targets[0]
    adjoint = solver.solve(target.gradient(theta))
    estimates = estimate(objective, theta, solver, groups, ("first-koh", "first", "second"))
    koh, first, second = (_figure(estimates[name].rhs, adjoint.x) for name in ("first-koh", "first", "second"))
    how = Estimation((REFINED,))
    known = Reliability(question, solver, how, 1)
    without = recession(objective, theta, groups.removed)
    counts = np.ones((1, 1), dtype=bool)
    if without is not None:
        counts = np.isin(without.of_all(question.targets, theta, known.base).T, (FINITE, LIMIT))
    change, problems = known.refine(slice(0, 1), known.after(groups, without), counts)
    problem = next((state for state in (adjoint.why(0), *estimates["second"].problems, *problems) if state != OK), OK)
    refined = float(change[0, 0])
    if problem != OK or not np.isfinite(refined):
        why = problem if problem != OK else "without the group the figure has no finite value"
        raise NotConvergedError(
            f"there is nothing to explain: {why}", hint="ginf influence without --explain says more"
        )
    shares, method = _one_by_one(model, solver, rows, adjoint.x)
    order = np.argsort(-np.abs(shares), kind="stable")
    terms = {ROWS: koh, WEIGHTS: first - koh, CURVATURE: second - first, BEYOND: refined - second}
    error = float(known.errors[REFINED][0, 0])
    return Explanation(
        plan.label[0], _asked(question), float(known.base[0]), terms, refined, error, rows[order], shares[order], method
    )


def _figure(rhs: np.ndarray | None, adjoint: np.ndarray) -> float:
    assert rhs is not None
    return float((rhs * adjoint).sum())


def _one_by_one(
    model: TrainedModel, solver: HessianSolver, rows: np.ndarray, adjoint: np.ndarray
) -> tuple[np.ndarray, str]:
    """The changes (n,) by removing each row alone, to first order in f, and the name of the method."""
    objective, theta, scaling = model.objective, model.theta, model.settings.penalty_scaling
    try:
        singles = SingleRemovals(objective, theta, solver, scaling)
    except UsageError:
        weights = objective.weights[rows]
        return weights * objective.row_products(theta, adjoint)[rows, 0], "first-koh"
    shares = []
    for start in range(0, len(rows), SIDE_BY_SIDE):
        part: Removal = removal(objective.weights, list(rows[start : start + SIDE_BY_SIDE, None]), scaling)
        shares.append((singles.sums(part)[0] * adjoint).sum(axis=0))
    return np.concatenate(shares), "rif"


def _asked(question: Question) -> str:
    """``test row 17 (true 3, predicted 3)``, or what takes its place if the question is not about one test row."""
    name = name_of_test(int(question.codes[0]))
    if not isinstance(name, int):
        return "the model" if name is None else "the chosen test rows together"
    known = question.names
    labels = {"true": known.true[0], "predicted": known.predicted[0]}
    said = [
        f"{key} {f'{label:.4g}' if isinstance(label, float) else label}"
        for key, label in labels.items()
        if label is not None
    ]
    return f"test row {name} ({', '.join(said)})"


def _named(model: TrainedModel, row: int) -> dict[str, Any]:
    data = model.dataset
    label = data.classes[int(data.y_train[row])] if data.classes else float(data.y_train[row])
    return {
        "row": row,
        "record": None if data.records_train is None else int(data.records_train[row]),
        "id": None if data.ids_train is None else data.ids_train[row : row + 1].tolist()[0],
        "true": label,
    }
