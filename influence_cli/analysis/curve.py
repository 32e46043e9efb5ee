"""Removal curves: how far f moves as more and more of the most influential rows are removed, and as random ones are."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from influence_cli.analysis.searches import RowSearch
from influence_cli.analysis.select import Choice, Entry, OneByOne, Single, Watch, estimated, retrained
from influence_cli.core.selection.problem import Problem
from influence_cli.results import OK, REFINED, Provenance

STRATEGY, DRAWS = "greedy", 10
"""The defaults: a ranking that retrains nothing, and the number of random groups of each size."""
REL_ERROR = 0.05


@dataclass(frozen=True)
class CurveSearch(OneByOne):
    """One record per size: the group that the strategy finds, with ``refined`` as its ``estimate`` and ``error``, and
    the mean (``random_estimate``, ``random_actual``) and standard deviation (``.._spread``) over ``random_draws``
    random groups of the same size."""

    choice: Choice
    sizes: Sequence[int]

    def __len__(self) -> int:
        return len(self.sizes)

    def of_one(self, single: Single, watch: Watch) -> Iterator[Entry]:
        entries = list(RowSearch(self.choice, self.sizes).of_one(single, watch))
        draws = [rows for size in self.sizes for rows in self._drawn(single.problem(size, self.choice))]
        groups = [rows for entry in entries for rows in entry.groups]
        watch.step("estimates")
        result = estimated(single, [*groups, *draws], REL_ERROR)
        value, error = result.values[REFINED][:, 0], result.errors[REFINED][:, 0]
        statuses = result.statuses()
        by_size = (len(entries), self.choice.draws)
        random = {"estimate": value[len(groups) :].reshape(by_size)}
        if self.choice.verify:
            truth = retrained(single.question, single.solver, draws, Provenance("", "", {}), watch)
            random["actual"] = truth.actual[:, 0].reshape(by_size)
        places = iter(range(len(groups)))
        for number, entry in enumerate(entries):
            record = entry.record | {"estimate": float("nan"), "error": float("nan")}
            for at in [next(places) for _ in entry.groups]:
                record |= {"estimate": float(value[at]), "error": float(error[at])}
                record["status"] = statuses[at] if record["status"] == OK else record["status"]
            for key in ("estimate", "actual"):
                record |= _summary(f"random_{key}", random[key][number] if key in random else np.empty(0))
            record["random_draws"] = self.choice.draws
            yield Entry(record, entry.groups, entry.rows, single.column)

    def _drawn(self, problem: Problem) -> list[np.ndarray]:
        rng = problem.rng()
        return [np.sort(rng.choice(problem.candidates, problem.size, replace=False)) for _ in range(self.choice.draws)]


def _summary(key: str, values: np.ndarray) -> dict[str, float]:
    """Mean and standard deviation of the finite values."""
    values = values[np.isfinite(values)]
    mean = float(values.mean()) if len(values) else float("nan")
    return {key: mean, f"{key}_spread": float(values.std(ddof=1)) if len(values) > 1 else float("nan")}
