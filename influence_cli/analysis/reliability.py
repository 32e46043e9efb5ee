"""Refined figures and the errors of every method's figures, a block of groups at a time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from influence_cli.analysis.certification import BEGIN, Certifier, why_unproven
from influence_cli.analysis.pooled import in_steps
from influence_cli.analysis.question import Question
from influence_cli.core.arrays import columns_of
from influence_cli.core.error_estimate import ErrorEstimator
from influence_cli.core.estimators import Estimate
from influence_cli.core.objectives.objective import Objective
from influence_cli.core.recession import FAR_OUT, Before, Recession
from influence_cli.core.refined import VISIBLE, Goal, Refined, first_gradient, refine
from influence_cli.core.removal import Removal
from influence_cli.core.solvers.choice import HessianSolver
from influence_cli.core.weights import Weights
from influence_cli.results import OK, REFINED

DEFAULT_METHODS = ("first", "second", REFINED)
INFINITE = "the estimate is not finite"


@dataclass(frozen=True)
class Estimation:
    """What is estimated: by which ``methods``, whether ``evaluate`` is exact or linear (``refined`` is always exact),
    to which relative error ``refined`` goes, whether the other methods get an error as well, and the requested width of
    the proven interval of ``refined`` as a share of the change, if any."""

    methods: Sequence[str] = DEFAULT_METHODS
    evaluate: str = "exact"
    rel_error: float = 0.05
    errors: bool = False
    certify: float | None = None

    @property
    def estimators(self) -> tuple[str, ...]:
        """The methods except ``refined``."""
        return tuple(method for method in self.methods if method != REFINED)

    @property
    def rounds(self) -> int:
        """How often every (group, test row) pair is processed."""
        return bool(self.estimators) + (REFINED in self.methods)


@dataclass(frozen=True)
class After:
    """What is left after removal: the question and J, the weights of G groups, and J's ``gradient`` (P, G) at the
    trained parameters (of a network's proximal objective, if there is one); ``without`` describes where J has no
    minimum."""

    question: Question
    objective: Objective
    weights: Weights
    gradient: np.ndarray
    without: Recession | None = None


class Reliability:
    """What is known about the errors of all pairs, filled in block by block.

    ``errors[method]`` (G, T), NaN where there is none, and ``growth[method]`` (G,), the q of each; for ``refined`` the
    ``steps`` (G,), the pairs ``unmet`` (G, T), and the length of the ``first`` gradient (G,).  ``low`` and ``high`` (G,
    T) are proven, NaN where nothing is; ``unproven`` says why nothing can be.
    """

    def __init__(self, question: Question, solver: HessianSolver, how: Estimation, groups: int):
        shape = (groups, len(question))
        self.question, self.solver, self.how = question, solver, how
        methods = how.methods if how.errors else [method for method in how.methods if method == REFINED]
        self.errors = {method: np.full(shape, np.nan) for method in methods}
        self.graded = not in_steps(question.quantity)
        self.growth = {method: np.zeros(groups) for method in methods}
        self.unmet = np.zeros(shape, dtype=bool)
        self.low, self.high = np.full(shape, np.nan), np.full(shape, np.nan)
        self.unproven = ""
        self._certifier: Certifier | None = None
        self.steps, self.first = np.zeros(groups, dtype=np.int64), np.full(groups, np.nan)

    @cached_property
    def base(self) -> np.ndarray:
        """f before removal, (T,), or (T, G) where it differs by group."""
        return self.question.base()

    def base_of(self, groups: slice | np.ndarray) -> np.ndarray:
        """The same for some of the groups."""
        return self.base if self.base.ndim == 1 else self.base[:, groups]

    @cached_property
    def left(self) -> float:
        """The length of the gradient at the trained parameters, in the norm of M^-1; 0 for the proximal objective."""
        model = self.question.model
        if not model.objective.convex:
            return 0.0
        gradient = model.objective.gradient(model.theta, model.objective.weights)
        return float(np.sqrt(max(0.0, float((gradient * self.solver.preconditioner(gradient)).sum()))))

    def after(self, groups: Removal, without: Recession | None = None, question: Question | None = None) -> After:
        """What is left after the removal of ``groups``, with the ``question`` about it."""
        objective, theta = self.question.model.objective, self.question.model.theta
        return After(
            question or self.question, objective, groups.removed, first_gradient(objective, theta, groups), without
        )

    def estimate(
        self, where: slice, after: After, solved: Mapping[str, Estimate], values: Mapping[str, np.ndarray]
    ) -> None:
        """Errors of the estimates ``solved`` of the groups ``where``; ``values`` are the figures of all pairs (G,
        T)."""
        errors = ErrorEstimator(
            after.objective,
            self.question.model.theta,
            after.weights,
            self.solver.preconditioner,
            after.gradient,
            values=after.question.value,
            base=self.base_of(where),
        )
        for method, solution in solved.items():
            assert solution.change is not None
            figures = values[method][where]
            error, self.growth[method][where] = errors.of(solution.change, figures.T)
            self.errors[method][where] = np.where(self.graded & np.isfinite(figures), error.T, np.nan)

    def refine(self, where: slice, after: After, counts: np.ndarray) -> tuple[np.ndarray, list[str]]:
        """Refined changes (G, T) of the groups ``where``, NaN where f has no finite value after removal (``counts``
        false, (G, T)) or none was found, and what went wrong with each group (G,)."""
        rel, wanted = self.how.rel_error, self.how.certify
        refined = refine(
            after.objective,
            self.question.model.theta,
            after.weights,
            self.solver.preconditioner,
            Goal(
                after.question,
                self.base_of(where),
                rel if wanted is None else min(rel, BEGIN * wanted),
                counts.T,
                graded=self.graded,
            ),
            gradient=after.gradient,
        )
        if wanted is not None:
            refined = self._prove(where, after, refined, counts, wanted)
        if after.without is not None:
            refined = self._at_the_ends(after.without, after.question, refined, self.base_of(where))
        change = refined.change.T
        known = counts & np.isfinite(change)
        self.errors[REFINED][where] = np.where(known & self.graded, refined.error.T, np.nan)
        self.unmet[where] = known & ~refined.met.T & (rel * np.abs(change) < refined.error.T)
        self.steps[where], self.first[where] = refined.steps, refined.first
        problems = [INFINITE if lost else OK for lost in (counts & ~known).any(axis=1)]
        return np.where(known, change, np.nan), problems

    def _at_the_ends(self, without: Recession, question: Question, refined: Refined, base: np.ndarray) -> Refined:
        """For groups without which J has no minimum: f at its limits, or where the rest of J has its minimum."""
        theta = refined.theta.copy()
        error, met, tol = refined.error.copy(), refined.met.copy(), question.model.objective.tuning.tolerance
        for g, one in without.settled.items():
            theta[:, g : g + 1], met[:, g] = one.theta, one.converged
        values, first, trained = [], 0, question.model.theta
        for target in question.targets:
            count = len(target.value(trained))
            before = Before(trained, base[first : first + count])
            values.append(without.ends(target, theta, before, out=FAR_OUT)[0])
            first += count
        value = np.concatenate(values)
        base = columns_of(base)
        change = value - base
        rounding = VISIBLE * (np.abs(value) + np.abs(base))
        for g in without.settled:
            error[:, g] = tol * np.abs(change[:, g]) + rounding[:, g]
        return replace(refined, change=change, error=error, met=met)

    def _prove(self, where: slice, after: After, refined: Refined, counts: np.ndarray, wanted: float) -> Refined:
        """Refine the groups ``where`` until their proven intervals are narrow enough, and keep the intervals."""
        certifier, base = self._certifier, self.base_of(where)
        if certifier is None or certifier.objective is not after.objective:
            certifier = Certifier(after.question, after.objective, self.question.model.theta, base, wanted)
        self._certifier = certifier
        self.unproven = self.unproven or why_unproven(after.question)
        if self.unproven:
            return refined
        certifier = certifier.put(after.question, base)
        refined, ends = certifier.narrow(refined, after.weights, self.solver.preconditioner, counts.T)
        low, high = np.where(np.isfinite(ends[1] - ends[0]), ends, np.nan)
        self.low[where], self.high[where] = low.T, high.T
        return refined
