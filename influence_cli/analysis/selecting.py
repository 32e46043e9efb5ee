"""What every search has in common: the questions asked, records in the making, and verification by retraining."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from influence_cli.analysis.groundtruth import Retraining, groundtruth, start_truth
from influence_cli.analysis.pooled import is_pooled
from influence_cli.analysis.question import TestRows, make_targets
from influence_cli.core.quantities import Target
from influence_cli.core.selection.evaluate import AUTO
from influence_cli.core.selection.pgd import L1
from influence_cli.core.selection.problem import INCREASE, Problem
from influence_cli.core.solvers.choice import HessianSolver
from influence_cli.models.trained import TrainedModel
from influence_cli.results import OK, Provenance, SelectionResult, name_of_test
from influence_cli.specs.plan import GroupPlan, PlannedGroup


@dataclass(frozen=True)
class Choice:
    """How to search, as the command line has it; ``candidates`` are sorted row numbers."""

    strategies: tuple[str, ...]
    candidates: np.ndarray
    direction: str = INCREASE
    draws: int = 100
    constraint: str = L1
    merit: str = AUTO
    rounds: int = 50
    seed: int = 0
    verify: bool = False


@dataclass
class Entry:
    """A record in the making: ``groups`` are retrained if asked for, and ``rows`` written (None for random)."""

    record: dict[str, Any]
    groups: list[np.ndarray]
    rows: np.ndarray | None
    column: int


@dataclass(frozen=True)
class Question:
    """One f: its position among the test rows, its code in ``results``, and itself."""

    column: int
    code: int
    target: Target


@dataclass(frozen=True)
class Watch:
    """What is told on the way: ``step`` before each strategy and at each of its rounds, ``verified`` groups done."""

    step: Callable[[str], None] = lambda label: None
    verified: Callable[[int], None] = lambda groups: None


def questions(model: TrainedModel, tests: TestRows | None, quantity: str) -> list[Question]:
    """One f a test row, or the one that ``mean`` or a parameter is."""
    if tests is None or tests.mean or is_pooled(quantity):
        codes, (target,) = make_targets(model, tests, quantity)
        return [Question(0, int(codes[0]), target)]
    out = []
    for column, row in enumerate(tests.rows):
        _, (target,) = make_targets(model, TestRows(np.array([row])), quantity)
        out.append(Question(column, int(row), target))
    return out


def problem_of(model: TrainedModel, solver: HessianSolver, target: Target, size: int, choice: Choice) -> Problem:
    return Problem(
        model.objective,
        model.theta,
        solver,
        target,
        size,
        model.settings.penalty_scaling,
        choice.candidates,
        choice.direction,
        choice.seed,
    )


def new_record(strategy: str, problem: Problem, question: Question, quantity: str) -> dict[str, Any]:
    """A record with its keys in the order that files and pipes see; new keys go behind the old ones."""
    return {
        "strategy": strategy,
        "size": problem.size,
        "test": name_of_test(question.code),
        "predicted_first": float("nan"),
        "predicted_second": float("nan"),
        "actual": float("nan"),
        "seconds": float("nan"),
        "rows": None,
        "fraction": problem.size / problem.rows,
        "direction": problem.direction,
        "quantity": quantity,
        "base": problem.base,
        "rounds": 0,
        "draws": None,
        "predicted_second_best": None,
        "predicted_second_spread": None,
        "actual_best": None,
        "actual_spread": None,
        "status": OK,
    }


def spread(key: str, values: np.ndarray, sign: float) -> dict[str, float]:
    """Mean, best in the direction and standard deviation of the draws that have a value."""
    values = values[np.isfinite(values)]
    if not len(values):
        return {key: float("nan")}
    spread = float(values.std(ddof=1)) if len(values) > 1 else float("nan")
    return {key: float(values.mean()), f"{key}_best": float(sign * (sign * values).max()), f"{key}_spread": spread}


def finish(
    model: TrainedModel,
    solver: HessianSolver,
    tests: TestRows | None,
    quantity: str,
    provenance: Provenance,
    entries: list[Entry],
    choice: Choice,
    watch: Watch,
) -> SelectionResult:
    if choice.verify:
        verify(
            model, solver, tests, quantity, provenance, entries, 1.0 if choice.direction == INCREASE else -1.0, watch
        )
    for entry in entries:
        entry.record["rows"] = entry.rows
    return SelectionResult(provenance, quantity, tuple(entry.record for entry in entries))


def verify(
    model: TrainedModel,
    solver: HessianSolver,
    tests: TestRows | None,
    quantity: str,
    provenance: Provenance,
    entries: Sequence[Entry],
    sign: float,
    watch: Watch,
) -> None:
    """Retrain without every group of every entry, side by side, each once; puts ``actual`` into the records."""
    distinct = {rows.tobytes(): rows for entry in entries for rows in entry.groups}
    if not distinct:
        return
    m = model.dataset.rows
    planned = tuple(
        PlannedGroup(f"selection#{number}", "rows", len(rows), (f"selection#{number}", 0), partial(_same, rows))
        for number, rows in enumerate(distinct.values())
    )
    place = {key: number for number, key in enumerate(distinct)}
    plan = GroupPlan(planned, m)
    begun = start_truth(model, plan, tests, quantity, provenance)
    how = Retraining(model.objective.tolerance)
    truth = groundtruth(model, solver.preconditioner, plan, tests, begun, how, advance=watch.verified)
    for entry in entries:
        numbers = [place[rows.tobytes()] for rows in entry.groups]
        values = truth.actual[numbers, entry.column]
        if entry.record["draws"] is not None:
            entry.record |= spread("actual", values, sign)
        elif numbers:
            entry.record["actual"] = float(values[0])
        missing = [truth.status[number] for number, value in zip(numbers, values, strict=True) if np.isnan(value)]
        if missing:
            of = f"{len(missing)} of {len(numbers)} groups: " if len(numbers) > 1 else ""
            own = entry.record["status"]
            entry.record["status"] = "; ".join(([] if own == OK else [own]) + [f"no actual change: {of}{missing[0]}"])


def _same(rows: np.ndarray) -> np.ndarray:
    return rows
