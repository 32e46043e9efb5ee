"""Causes in words: the groups described by conditions on columns whose removal changes f most for their size."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from time import perf_counter

import numpy as np

from influence_cli.analysis.select import Choice, Entry, OneByOne, Single, Watch, estimated
from influence_cli.analysis.verify import REFINED_PASSES
from influence_cli.core.selection.causes import Found, describe, distinct, findings, mask_of
from influence_cli.core.selection.second_order import Expansion
from influence_cli.results import REFINED
from influence_cli.specs.cells import CutColumn
from influence_cli.specs.planned import Group

DESCRIBE = "describe"
USUAL_SUPPORT, USUAL_TOP = "5%", 10
"""The smallest size of a group, and the number of groups, by default."""
SPARE = 2
"""Findings that are estimated, as a multiple of those wanted, since estimates may order them differently."""
EACH, MOST_ESTIMATED = 5, 1000
"""Groups estimated per finding at least, and in all at most: the estimate decides which group of a finding is best."""
ESTIMATING = 2e10
"""Multiply-adds, about ten seconds, that further estimates may take."""


REL_ERROR = 0.002
"""Relative error of an estimate; it is small because groups with similar descriptions differ by little."""


@dataclass(frozen=True)
class DescribedSearch(OneByOne):
    """The ``top`` groups of up to ``depth`` conditions on the columns and at least ``support`` rows, one record each.

    ``predicted_first`` and ``predicted_second`` are linear, as in the other searches; ``estimate`` is ``refined`` with
    its ``error``, and groups are in the order of ``per_percent``, the estimate for each percent of the rows removed.
    """

    choice: Choice
    columns: Sequence[CutColumn]
    depth: int
    support: int
    top: int

    def __len__(self) -> int:
        return self.top

    def of_one(self, single: Single, watch: Watch) -> Iterator[Entry]:
        started = perf_counter()
        watch.step(DESCRIBE)
        cells = [column.cells for column in self.columns]
        problem = single.problem(self.support, self.choice)
        expansion = Expansion(problem)
        description = describe(expansion, cells, self.depth, self.support, watch.step)
        places = self._promising(description, single)
        groups = [self._group(description, place) for place in places]
        result = estimated(single, [group.rows for group in groups], REL_ERROR) if groups else None
        value = np.empty(0) if result is None else result.values[REFINED][:, 0]
        worth = problem.sign * value / np.array([group.size for group in groups])
        order = [at for at in np.argsort(-np.nan_to_num(worth), kind="stable").tolist() if worth[at] > 0]
        if result is None or not order:
            sentence = f"no described group of at least {self.support:,} rows moves it in that direction"
            empty = {"size": None, "fraction": None, "status": sentence, **_NOTHING, "tried": description.tried}
            yield Entry(single.record(DESCRIBE, problem) | empty, [], None, single.column)
            return
        kept = [order[at] for at in distinct([groups[at].rows for at in order], problem.rows, self.top)]
        members = problem.members([groups[at].rows for at in kept])
        predicted = zip(expansion.first(members).tolist(), expansion.second(members).tolist(), strict=True)
        share, statuses = (perf_counter() - started) / len(kept), result.statuses()
        for at, (first, second) in zip(kept, predicted, strict=True):
            group = groups[at]
            fraction = group.size / problem.rows
            record = single.record(DESCRIBE, problem) | {"size": group.size, "fraction": fraction, "seconds": share}
            record |= {"predicted_first": first, "predicted_second": second, "status": statuses[at]}
            estimate, error = float(value[at]), float(result.errors[REFINED][at, 0])
            record |= {
                "group": group.label,
                "estimate": estimate,
                "error": error,
                "per_percent": estimate / (100 * fraction),
            }
            yield Entry(record | {"tried": description.tried}, [group.rows], group.rows, single.column)

    def _promising(self, described: Found, single: Single) -> list[int]:
        """Indices of the groups to estimate: all if that is affordable, else the best groups of the best findings."""
        model, cells = single.model, [column.cells for column in self.columns]
        if model.refit is not None and not model.refit.shared:  # every estimate fits the preprocessing again
            return [place for one in findings(described, cells, SPARE * self.top, 1) for place in one]
        cost = 2.0 * model.dataset.rows * model.objective.size * REFINED_PASSES
        most = max(SPARE * self.top * EACH, min(MOST_ESTIMATED, int(ESTIMATING / cost)))
        if len(described) <= most:
            return list(range(len(described)))
        return [
            place for one in findings(described, cells, SPARE * self.top, most // (SPARE * self.top)) for place in one
        ]

    def _group(self, described: Found, place: int) -> Group:
        members = described.members[place]
        chosen = [self.columns[column].conditions[condition] for column, condition in members.tolist() if column >= 0]
        rows = np.flatnonzero(mask_of(members, [column.cells for column in self.columns]))
        return Group("column:" + ",".join(sorted(condition.text for condition in chosen)), "column", rows)


_NOTHING = {"group": None, "estimate": float("nan"), "error": float("nan"), "per_percent": float("nan")}
