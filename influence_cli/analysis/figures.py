"""The figures of all pairs of a group and a test row, filled in block by block."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from influence_cli.analysis.advice import advice, few_digits, ill_conditioned, stationarity, unproven
from influence_cli.analysis.pooled import ABSOLUTE
from influence_cli.analysis.question import Question, at_minimum
from influence_cli.analysis.reliability import Estimation, Reliability
from influence_cli.core.conditions import ILL, conditions
from influence_cli.core.estimators import Estimate
from influence_cli.core.quantities import MeanTarget, RowTarget, Target, ties
from influence_cli.core.recession import FINITE, LIMIT, Recession
from influence_cli.core.retraining import PROXIMAL
from influence_cli.core.weights import as_weights
from influence_cli.errors import UNDEFINED
from influence_cli.results import OK, REFINED, UNCERTAIN, InfluenceResult, Provenance, name_of_test
from influence_cli.specs.planned import GroupPlan

EXACTLY = "ask for --evaluate exact"
FLAT = (
    f"{UNCERTAIN}the test rows are the training rows, whose mean loss is at its minimum: a linear change, which follows"
    f" its slope, says nothing of it: {EXACTLY}"
)

Figures = tuple[np.ndarray, list[str]]
"""Changes of f (G, T), NaN where there is no figure, and what went wrong with each group (G,), or else ``OK``."""


class Tables:
    """``values[method]`` (G, T), what every pair ``ends`` (G, T) in (codes of ``core.recession``), and the groups'
    digests and status."""

    def __init__(self, question: Question, plan: GroupPlan, how: Estimation, known: Reliability):
        shape = (len(plan), len(question))
        self.question, self.plan, self.how, self.known = question, plan, how, known
        self.values = {method: np.full(shape, np.nan) for method in how.methods}
        self.ends = np.zeros(shape, dtype=np.uint8)
        self.digests, self.status = [""] * len(plan), [OK] * len(plan)
        self.conditions = np.zeros(len(plan))

    def put(self, groups: slice, digests: Sequence[str], figures: Mapping[str, Figures], tests: slice) -> None:
        """Fill in the figures of some groups for some test rows."""
        self.digests[groups] = digests
        for method, (change, problems) in figures.items():
            self.values[method][groups, tests] = change
            for index, problem in zip(range(groups.start, groups.stop), problems, strict=True):
                if problem != OK:
                    self.fail(index, f"{method}: {problem}")

    def doubt(self, groups: slice, estimates: Mapping[str, Estimate]) -> None:
        """Record the condition numbers of the Hessians of these groups' Newton steps, where they are known."""
        if "newton" in estimates and estimates["newton"].conditions is not None:
            self.conditions[groups] = estimates["newton"].conditions

    def fail(self, index: int, why: str) -> None:
        """Set the group's status to ``why`` it has no figures, unless it has a status already."""
        if self.status[index] == OK:
            self.status[index] = why

    def know(
        self,
        groups: slice | np.ndarray,
        targets: Sequence[Target],
        without: Recession | None,
        tests: slice = slice(None),
    ) -> None:
        """Find the pairs whose truth is not taken at a minimum; ``without`` describes where there is none."""
        if without is not None:
            values = without.of_all(targets, self.question.model.theta, self.known.base_of(groups)[tests])
            rows = np.arange(len(self.plan))[groups]
            self.ends[rows, tests] = values.T

    def finite(self, groups: slice) -> np.ndarray:
        """Which pairs of these groups have a finite truth, (G, T)."""
        return np.isin(self.ends[groups], (FINITE, LIMIT))

    def _doubt_sizes(self) -> None:
        """Mark linear changes of |f| below -|f| as uncertain."""
        for method in self.how.estimators:
            for index in np.flatnonzero((self.values[method] < -self.known.base).any(axis=1)).tolist():
                self.fail(
                    index, f"{UNCERTAIN}{method}: the linear change crosses 0, where a size has a kink: {EXACTLY}"
                )

    def _doubt_factor(self) -> None:
        """Mark the estimates as uncertain if steps with the trained model's Hessian have lost digits."""
        affected = [method for method in self.how.estimators if method != "newton"]
        model = self.question.model
        condition = conditions(model.objective, model.theta, as_weights(model.objective.weights)) if affected else None
        if condition is not None and condition[0] > ILL:
            for index in range(len(self.plan)):
                self.fail(index, UNCERTAIN + f"{', '.join(affected)}: {few_digits(condition[0])}")

    def result(self, provenance: Provenance) -> InfluenceResult:
        """The whole result, with what is known about the errors."""
        known, question, plan, refined = self.known, self.question, self.plan, REFINED in self.how.methods
        provenance = question.named(provenance)
        if self.how.estimators and self.how.evaluate == "linear":
            if why := _tied(question) or (FLAT if at_minimum(question) else ""):
                self.status = [why if status == OK else status for status in self.status]
            if question.quantity.startswith(ABSOLUTE):
                self._doubt_sizes()
        if question.of_removed:
            self.status = [
                UNDEFINED if lost else status for status, lost in zip(self.status, np.isnan(known.base[0]), strict=True)
            ]
        for index in np.flatnonzero(self.conditions > ILL):
            self.fail(int(index), UNCERTAIN + f"newton: {ill_conditioned(self.conditions[index])}")
        self._doubt_factor()
        proven = self.how.certify is not None
        if not question.model.objective.convex and (refined or known.errors):
            provenance = replace(provenance, config={**provenance.config, "objective": PROXIMAL})
        changes = InfluenceResult(
            provenance,
            plan.table(self.digests),
            question.codes,
            question.quantity,
            self.how.evaluate,
            known.base.T if question.of_removed else known.base,
            self.values,
            tuple(self.status),
            self.ends if self.ends.any() else None,
            known.errors,
            known.steps if refined else None,
            known.unmet if refined else None,
            known.low if proven else None,
            known.high if proven else None,
            names=question.names,
        )
        sentences = advice(question.model, changes, known.growth)
        if refined:
            sentences += (stationarity(known.left, known.first), unproven(changes, known.unproven))
        return replace(changes, notes=tuple(filter(None, sentences)))


def _tied(question: Question) -> str:
    """For which test rows a linear margin is uncertain, or an empty text."""
    tied = np.concatenate([ties(target, question.model.theta) for target in question.targets])
    if not tied.any():
        return ""
    if not any(isinstance(target, RowTarget | MeanTarget) for target in question.targets):
        return f"{UNCERTAIN}the figure has a kink here, of which a linear one follows one side only: {EXACTLY}"
    codes = [str(name_of_test(int(code))) for code in question.codes[tied]]
    named = ", ".join(codes[:3]) + (f" and {len(codes) - 3} more" if len(codes) > 3 else "")
    return (
        f"{UNCERTAIN}two rivals tie for the strongest at test {named}, where a linear margin follows only one of them:"
        f" {EXACTLY}"
    )
