"""The figures of all pairs of a group and a test row, filled in as they are found."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from influence_cli.analysis.advice import advice, stationarity, unproven
from influence_cli.analysis.question import Question, runs_away
from influence_cli.analysis.reliability import Estimation, Reliability
from influence_cli.core.quantities import Valued
from influence_cli.core.recession import UNBOUNDED, Recession
from influence_cli.results import OK, REFINED, InfluenceResult, Provenance
from influence_cli.specs.planned import GroupPlan

Figures = tuple[np.ndarray, list[str]]
"""Changes of f (G, T), NaN where there is none, and what went wrong with each group (G,), else ``OK``."""


class Tables:
    """``values[method]`` (G, T), the pairs ``extrapolated`` (G, T), and the groups' digests and status."""

    def __init__(self, question: Question, plan: GroupPlan, how: Estimation):
        shape = (len(plan), len(question))
        self.question, self.plan, self.how = question, plan, how
        self.values = {method: np.full(shape, np.nan) for method in how.methods}
        self.extrapolated = np.zeros(shape, dtype=bool)
        self.digests, self.status = [""] * len(plan), [OK] * len(plan)

    def put(self, groups: slice, digests: Sequence[str], figures: Mapping[str, Figures], tests: slice) -> None:
        """Fill in the figures of some groups for some test rows."""
        self.digests[groups] = digests
        for method, (change, problems) in figures.items():
            self.values[method][groups, tests] = change
            for index, problem in zip(range(groups.start, groups.stop), problems, strict=True):
                if problem != OK:
                    self.fail(index, problem if problem.startswith(UNBOUNDED) else f"{method}: {problem}")

    def fail(self, index: int, why: str) -> None:
        """Say of a group why it has no figures, unless something was said already."""
        if self.status[index] == OK:
            self.status[index] = why

    def extrapolate(self, groups: slice, tests: slice, target: Valued, runaway: Recession | None) -> None:
        """Find the pairs of which retraining has no finite value, from the groups' directions (P, G), if any."""
        if runaway is not None:
            self.extrapolated[groups, tests] = runs_away(target, self.question.model.theta, runaway)

    def result(self, known: Reliability, provenance: Provenance) -> InfluenceResult:
        """All of it, with what is known of the errors."""
        question, plan, refined = self.question, self.plan, REFINED in self.how.methods
        proven = self.how.certify is not None
        found = InfluenceResult(
            provenance,
            plan.table(self.digests),
            question.codes,
            question.quantity,
            self.how.evaluate,
            known.base,
            self.values,
            tuple(self.status),
            self.extrapolated,
            known.errors,
            known.steps if refined else None,
            known.unmet if refined else None,
            known.low if proven else None,
            known.high if proven else None,
            names=question.names,
        )
        sentences = advice(question.model, found, known.growth)
        if refined:
            sentences += (stationarity(known.left, known.first), unproven(found, known.unproven))
        return replace(found, notes=tuple(filter(None, sentences)))
