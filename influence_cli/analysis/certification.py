"""Refining until the proven interval of every figure is as narrow as requested."""

from __future__ import annotations

from dataclasses import replace
from functools import cached_property

import numpy as np

from influence_cli.analysis.pooled import in_steps
from influence_cli.analysis.question import Question
from influence_cli.core.arrays import columns_of
from influence_cli.core.certificate import PRODUCTS, RowGeometry, no_certificate
from influence_cli.core.intervals import has_proof
from influence_cli.core.lost_classes import proven
from influence_cli.core.objectives.glm import Glm
from influence_cli.core.objectives.objective import Objective
from influence_cli.core.outcome import Outcome, Trained
from influence_cli.core.refined import Goal, Refined, refine
from influence_cli.core.solvers.choice import HessianSolver
from influence_cli.core.solvers.preconditioners import Preconditioner
from influence_cli.core.weights import Weights

ROUNDS = 4
"""Times that groups whose intervals are too wide are refined further."""
BEGIN = 0.05
"""Share of the requested width to which figures are refined before anything is proven."""
SPARE = 0.6
"""Share of the requested width that is aimed at."""
GAIN = 1.5
"""Factor by which a round must narrow an interval for another round to follow."""
POINT = 64 * np.finfo(float).eps
"""Width, relative to f after removal, up to which an interval is a point: only rounding or a step of f is left."""
LEAST, BLIND = 1e-4, 0.02
"""The largest tightening of the tolerance in a round, and the tightening where the interval is infinite."""


def why_unproven(question: Question) -> str:
    """Why nothing can be proven about the question, or an empty text."""
    if question.of_weights:
        why = "it is of models without a penalty, and a certificate needs one"
        return f"--quantity {question.quantity} has no proof: {why}"
    if not all(has_proof(target) for target in question.targets):
        why = "of scores those have one that are made of predicted classes"
        return f"--quantity {question.quantity} has no proof: {why}"
    return no_certificate(question.model.objective)


class Certifier:
    """Proven intervals for one question about one model, whose figures are wanted to a relative width ``rel``."""

    def __init__(self, question: Question, objective: Objective, theta: np.ndarray, base: np.ndarray, rel: float):
        self.question, self.objective, self.theta, self.base, self.rel = question, objective, theta, base, rel

    @cached_property
    def _geometry(self) -> RowGeometry:
        assert isinstance(self.objective, Glm)
        return RowGeometry.of(self.objective)

    def of(self, groups: np.ndarray) -> Certifier:
        """The same certifier for some of the groups (A,)."""
        if not self.question.by_group:
            return self
        return self.put(self.question.of(groups), self.base[:, groups])

    def put(self, question: Question, base: np.ndarray) -> Certifier:
        """The same certifier for another question about the same rows."""
        other = Certifier(question, self.objective, self.theta, base, self.rel)
        other.__dict__["_geometry"] = self._geometry
        return other

    def intervals(
        self, reached: np.ndarray, w: Weights, preconditioner: Preconditioner, *, products: int = PRODUCTS
    ) -> np.ndarray:
        """low and high, (2, T, G), infinite where nothing is proven; only for a model that has a certificate."""
        assert isinstance(self.objective, Glm)
        asked, start = [], 0
        for target in self.question.targets:
            count = len(target.value(self.theta))
            asked.append((target, self.base[start : start + count]))
            start += count
        return np.array(proven(self.objective, reached, w, preconditioner, self._geometry, asked, products=products))

    def narrow(
        self, refined: Refined, w: Weights, preconditioner: Preconditioner, counts: np.ndarray
    ) -> tuple[Refined, np.ndarray]:
        """Refine the groups of ``refined`` until their intervals are narrow; also returns low and high, (2, T, G)."""
        ends = self.intervals(refined.theta, w, preconditioner, products=0)
        goal, before = np.full(w.groups, self.rel * BEGIN), np.full(w.groups, -1.0)
        for rounds in range(ROUNDS):
            missing = self._missing(refined, ends, counts)
            # A width that no longer falls is due to rounding.
            left = np.flatnonzero((missing < 1.0) & (missing > GAIN * before))
            before = np.where(missing > 0, missing, before)
            if not left.size:
                break
            goal *= np.where(missing > 0, np.maximum(SPARE * np.minimum(missing, 1.0), LEAST), BLIND)
            here, weights_left = self.of(left), w.take(left)
            graded = not in_steps(self.question.quantity)
            at = Goal(here.question, here.base, float(goal[left].min()), counts[:, left], graded=graded)
            further = refine(self.objective, self.theta, weights_left, preconditioner, at, start=refined.theta[:, left])
            refined = _with(refined, left, further)
            products = PRODUCTS if rounds else 0
            ends[:, :, left] = here.intervals(further.theta, weights_left, preconditioner, products=products)
        return refined, ends

    def _missing(self, refined: Refined, ends: np.ndarray, counts: np.ndarray) -> np.ndarray:
        """The smallest ratio of the requested width to a pair's width, (G,): 0 where an interval is infinite, and
        infinite where it is a point up to rounding."""
        with np.errstate(divide="ignore", invalid="ignore"):
            width = ends[1] - ends[0]
            ratio = np.where(np.isfinite(width), self.rel * np.abs(refined.change) / width, 0.0)
            size = np.abs(columns_of(self.base)) + np.abs(ends[1]) + in_steps(self.question.quantity)
            ratio = np.where(width <= POINT * size, np.inf, ratio)
        return np.where(counts & np.isfinite(refined.change), ratio, np.inf).min(axis=0, initial=np.inf)


def _with(refined: Refined, groups: np.ndarray, further: Refined) -> Refined:
    """``refined`` with the groups (A,) replaced by ``further``; their steps add up."""
    change, error, met = refined.change.copy(), refined.error.copy(), refined.met.copy()
    theta, steps = refined.theta.copy(), refined.steps.copy()
    change[:, groups], error[:, groups], met[:, groups] = further.change, further.error, further.met
    theta[:, groups] = further.theta
    steps[groups] += further.steps
    return replace(refined, change=change, error=error, met=met, theta=theta, steps=steps)


def prove_truth(
    question: Question, solver: HessianSolver, w: Weights, before: Trained, ended: Outcome, rel: float
) -> np.ndarray | None:
    """low and high (2, G, T) of the changes found by retraining, refined further where they are wider than ``rel``
    allows; NaN where nothing is proven, None where nothing can be."""
    certifier = Certifier(question, question.model.objective, before.theta, before.base, rel)
    if why_unproven(question):
        return None
    counts = np.isfinite(ended.change)
    steps = np.zeros(w.groups, dtype=np.int64)
    begin = Refined(ended.change, ended.error, counts, ended.minimum.theta, steps, np.ones(w.groups))
    _, ends = certifier.narrow(begin, w, solver.preconditioner, counts)
    return np.where(np.isfinite(ends[1] - ends[0]), ends, np.nan).transpose(0, 2, 1)
