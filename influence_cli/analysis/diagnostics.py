"""Diagnostics of training rows and groups: leverage, Cook's distance, DFFITS, DFBETAS, studentised residuals."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from influence_cli.analysis.influence import group_blocks
from influence_cli.analysis.question import without_nan
from influence_cli.core.diagnostics import groups_cooks_distance, row_diagnostics
from influence_cli.core.parallel import alone_where_narrow
from influence_cli.core.solvers.choice import HessianSolver
from influence_cli.models.trained import TrainedModel
from influence_cli.results import OK, GroupTable, Provenance
from influence_cli.specs.planned import GroupPlan
from influence_cli.tabular import Tabular

UNDETERMINED = "unbounded: without it the rows do not determine the parameters"
OF_ROWS = ("studentized", "dffits")


@dataclass(frozen=True)
class DiagnosticsResult(Tabular):
    """Diagnostics of G groups (docs/design.md, section 2.12): ``values[key]`` (G,), NaN where a
    group has no such figure; ``record`` and ``id`` (G,) name single rows as their file does, else None.
    """

    provenance: Provenance
    groups: GroupTable
    values: dict[str, np.ndarray]
    status: tuple[str, ...]
    record: tuple[Any, ...]
    id: tuple[Any, ...]

    def columns(self) -> dict[str, Any]:
        """The records, one column per key."""
        groups = self.groups
        columns = {"group": groups.label, "kind": groups.kind, "size": groups.size, "fraction": groups.fraction}
        return columns | self.values | {"status": self.status, "record": self.record, "id": self.id}


@alone_where_narrow(lambda model, *arguments, **options: model.objective.size)
def diagnostics(
    model: TrainedModel, solver: HessianSolver, plan: GroupPlan, *, provenance: Provenance
) -> DiagnosticsResult:
    """The diagnostics of every group; groups of several rows have only a summed leverage and a Cook's distance.

    Raises UsageError for models without diagnostics.
    """
    of_rows = row_diagnostics(model.objective, model.theta, solver, model.observations)
    names = [f"dfbetas:{name}" for name in model.parameter_names]
    count = len(plan)
    rows = np.arange(plan.m) if plan.each_row else np.full(count, -1)
    values = {key: np.full(count, np.nan) for key in ("leverage", "cooks_distance")}
    if not plan.each_row:
        for block in group_blocks(model, plan):
            groups = [plan.rows(index) for index in range(block.start, block.stop)]
            values["leverage"][block] = [of_rows.leverage[group].sum() for group in groups]
            several = [at for at, group in enumerate(groups) if len(group) > 1]
            if several:
                values["cooks_distance"][block.start + np.array(several)] = groups_cooks_distance(
                    model.objective,
                    model.theta,
                    solver,
                    [groups[at] for at in several],
                    of_rows.dispersion,
                    model.observations,
                )
            rows[block] = [group[0] if len(group) == 1 else -1 for group in groups]
    single = rows >= 0
    values["leverage"][single] = of_rows.leverage[rows[single]]
    values["cooks_distance"][single] = of_rows.cooks_distance[rows[single]]
    for key in OF_ROWS:
        values[key] = np.where(single, getattr(of_rows, key)[rows], np.nan)
    for number, name in enumerate(names):
        values[name] = np.where(single, of_rows.dfbetas[rows, number], np.nan)
    status = [OK] * count
    for index in np.flatnonzero(np.isnan(values["cooks_distance"])).tolist():
        status[index] = UNDETERMINED
    record, ids = (_of_rows(row_names, rows) for row_names in (model.dataset.records_train, model.dataset.ids_train))
    digests = [] if plan.each_row else [plan.group(index).digest for index in range(count)]
    return DiagnosticsResult(provenance, plan.table(digests), values, tuple(status), record, ids)


def _of_rows(names: np.ndarray | None, rows: np.ndarray) -> tuple[Any, ...]:
    """The names of rows (G,), None where there are none or where a group has several rows (-1)."""
    known = [] if names is None else without_nan(names)
    return tuple(known[row] if known and row >= 0 else None for row in rows.tolist())
