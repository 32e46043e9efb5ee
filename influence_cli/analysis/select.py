"""The most influential groups: one driver for every search, and the truth about its results by retraining."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Protocol

import numpy as np

from influence_cli.analysis.advice import NO_PROOF, ill_conditioned
from influence_cli.analysis.certification import why_unproven
from influence_cli.analysis.describe import Description
from influence_cli.analysis.groundtruth import Retraining, groundtruth, start_truth
from influence_cli.analysis.influence import influence
from influence_cli.analysis.question import Question, TestRows, without_nan
from influence_cli.analysis.reliability import Estimation
from influence_cli.analysis.winners import prove_winners
from influence_cli.core.conditions import ILL, conditions
from influence_cli.core.parallel import alone_where_narrow
from influence_cli.core.quantities import Target
from influence_cli.core.retraining import PROXIMAL
from influence_cli.core.selection.evaluate import AUTO
from influence_cli.core.selection.pgd import L1
from influence_cli.core.selection.problem import INCREASE, Problem
from influence_cli.core.solvers.choice import HessianSolver
from influence_cli.errors import UNBOUNDED
from influence_cli.models.trained import TrainedModel
from influence_cli.results import (
    OK,
    REFINED,
    UNCERTAIN,
    InfluenceResult,
    Provenance,
    SelectionResult,
    TruthResult,
    name_of_test,
)
from influence_cli.specs.draws import same
from influence_cli.specs.planned import GroupPlan, PlannedGroup


@dataclass(frozen=True)
class Choice:
    """How to search, as the command line has it; ``candidates`` are the sorted numbers of rows that may be removed."""

    strategies: tuple[str, ...]
    candidates: np.ndarray
    direction: str = INCREASE
    draws: int = 100
    constraint: str = L1
    merit: str = AUTO
    rounds: int = 50
    seed: int = 0
    verify: bool = False
    follow: bool = False
    """Whether relinearize is followed by ``swap``, judged by retraining: see ``searches.followed``."""
    at_most: bool = False
    """Whether a group may have fewer rows than the size."""
    certify: float | None = None
    """The requested width of a change's proven interval as a share of the change, if any."""


@dataclass(frozen=True)
class Watch:
    """What is called as the search goes on: ``step`` before each strategy and in each of its rounds, ``entered`` with
    the number of new records, ``verified`` with the number of groups just retrained."""

    step: Callable[[str], None] = lambda label: None
    entered: Callable[[int], None] = lambda records: None
    verified: Callable[[int], None] = lambda groups: None


@dataclass
class Entry:
    """A record in the making: ``groups`` are retrained if requested, ``rows`` are written (None for random), and
    ``ends`` (2, groups) are the proven intervals of their changes, if any."""

    record: dict[str, Any]
    groups: list[np.ndarray]
    rows: np.ndarray | None
    column: int
    ends: np.ndarray = field(default_factory=lambda: np.empty((2, 0)))


@dataclass(frozen=True, eq=False)
class Single:
    """One f of a question: its column among the test rows, its code in ``results``, and its target."""

    model: TrainedModel
    solver: HessianSolver
    quantity: str
    column: int
    code: int
    target: Target
    tests: TestRows | None = None

    @property
    def question(self) -> Question:
        """The question about this f alone; with its ``tests`` it can be put to a model refitted without a group."""
        return Question(self.model, self.tests, self.quantity, np.array([self.code]), (self.target,))

    def problem(self, size: int, choice: Choice) -> Problem:
        """The search problem for this f: the group of ``size`` rows."""
        model = self.model
        return Problem(
            model.objective,
            model.theta,
            self.solver,
            self.target,
            size,
            model.settings.penalty_scaling,
            choice.candidates,
            choice.direction,
            choice.seed,
        )

    def record(self, strategy: str, problem: Problem) -> dict[str, Any]:
        """A record with its keys in the order of the output; new keys are added at the end."""
        return {
            "strategy": strategy,
            "size": problem.size,
            "test": name_of_test(self.code),
            "predicted_first": float("nan"),
            "predicted_second": float("nan"),
            "actual": float("nan"),
            "seconds": float("nan"),
            "rows": None,
            "fraction": problem.size / problem.rows,
            "direction": problem.direction,
            "quantity": self.quantity,
            "base": problem.base,
            "rounds": 0,
            "draws": None,
            "predicted_second_best": None,
            "predicted_second_spread": None,
            "actual_best": None,
            "actual_spread": None,
            "status": OK,
        }


class Search(Protocol):
    """A search for groups: ``analysis.searches`` has those for rows and for unions, ``flips`` the one for flips."""

    @property
    def choice(self) -> Choice: ...

    def __len__(self) -> int:
        """How many records there are for one f."""

    def entries(self, singles: Sequence[Single], watch: Watch) -> Iterator[Entry]:
        """The records for every f, in this order."""


class OneByOne:
    """A search that treats each f separately."""

    def of_one(self, single: Single, watch: Watch) -> Iterator[Entry]:
        """The records for one f."""
        raise NotImplementedError

    def entries(self, singles: Sequence[Single], watch: Watch) -> Iterator[Entry]:
        for single in singles:
            yield from self.of_one(single, watch)


@alone_where_narrow(lambda question, *arguments, **options: question.model.objective.size)
def select(
    question: Question, solver: HessianSolver, search: Search, *, provenance: Provenance, watch: Watch = Watch()
) -> SelectionResult:
    """The records of a search for every f of the question, in the order of the test rows.

    ``actual`` is NaN unless ``choice.verify`` is set, even for groups that a strategy retrained.
    """
    singles = [
        Single(question.model, solver, question.quantity, column, int(code), target, _tests_of(question, int(code)))
        for column, (code, target) in enumerate(zip(question.codes, question.each(), strict=True))
    ]
    provenance = question.named(provenance)
    entries = []
    for entry in search.entries(singles, watch):
        entries.append(entry)
        watch.entered(1)
    if search.choice.verify:
        verify(question, solver, entries, search.choice, provenance, watch)
    else:
        _doubt(question, solver, entries)
    description = Description(question.model.dataset)
    for entry in entries:
        _name_rows(entry, question, description)
    return SelectionResult(provenance, question.quantity, tuple(entry.record for entry in entries))


def _tests_of(question: Question, code: int) -> TestRows | None:
    return TestRows(np.array([code])) if code >= 0 else question.tests


def _doubt(question: Question, solver: HessianSolver, entries: Sequence[Entry]) -> None:
    """Mark predictions without a truth as uncertain where the remaining rows hardly determine the parameters."""
    model = question.model
    alone = [entry for entry in entries if len(entry.groups) == 1 and entry.record["status"] == OK]
    for entry in alone if model.refit is None or model.refit.shared else []:
        groups = model.removal(entry.groups)
        known = conditions(model.objective, model.theta, groups.removed, solver, groups)
        if known is not None and known[0] > ILL:
            entry.record["status"] = UNCERTAIN + ill_conditioned(float(known[0]))


def _name_rows(entry: Entry, question: Question, description: Description) -> None:
    """Add the group's rows, their names and what they have in common, and the test row's names to the record."""
    data, record, rows = question.model.dataset, entry.record, entry.rows
    record["rows"] = rows
    for key, names in (("records", data.records_train), ("ids", data.ids_train)):
        record[key] = None if rows is None or names is None else without_nan(names[rows])
    if not question.model.objective.convex:
        record["objective"] = PROXIMAL  # the predictions for a network are about this objective
    record["description"] = None if rows is None else description.of(rows)
    record |= {key: getattr(question.names, key)[entry.column] for key in ("true", "predicted", "record", "id")}


def verify(
    question: Question,
    solver: HessianSolver,
    entries: Sequence[Entry],
    choice: Choice,
    provenance: Provenance,
    watch: Watch,
) -> None:
    """Retrain without every group of every entry, side by side, each once; add ``actual`` and the proof to the
    records."""
    distinct = {rows.tobytes(): rows for entry in entries for rows in entry.groups}
    if not distinct:
        return
    place = {key: number for number, key in enumerate(distinct)}
    truth = retrained(question, solver, list(distinct.values()), provenance, watch, certify=choice.certify)
    for entry in entries:
        numbers = [place[rows.tobytes()] for rows in entry.groups]
        values = truth.actual[numbers, entry.column]
        if entry.record["draws"] is not None:
            entry.record |= spread("actual", values, 1.0 if choice.direction == INCREASE else -1.0)
        elif numbers:
            entry.record["actual"] = float(values[0])
        statuses = [truth.status[number] for number in numbers]
        entry.record["status"] = _status(entry.record["status"], statuses, np.isnan(values))
        if truth.low is not None and truth.high is not None:
            entry.ends = np.array([truth.low[numbers, entry.column], truth.high[numbers, entry.column]])
    if choice.certify is not None:
        prove_winners(entries, choice.direction)


def retrained(
    question: Question,
    solver: HessianSolver,
    groups: Sequence[np.ndarray],
    provenance: Provenance,
    watch: Watch = Watch(),
    *,
    certify: float | None = None,
) -> TruthResult:
    """The truth about groups of rows."""
    plan = _plan(question, groups)
    partial = start_truth(question, plan, provenance, certify=certify)
    how = Retraining(question.model.objective.tuning.tolerance, certify=certify)
    return groundtruth(question, solver, plan, partial, how, advance=watch.verified)


def unproven(question: Question, result: SelectionResult) -> str:
    """For how many retrained changes nothing is proven, and why; an empty text if there is none."""
    known = [record for record in result.entries if np.isfinite(record["actual"])]
    without = sum(np.isnan(record["low"]) for record in known)
    if not without:
        return ""
    return f"no proof for {without:,} of {len(known):,} changes: {why_unproven(question) or NO_PROOF}"


def estimated(single: Single, groups: Sequence[np.ndarray], rel_error: float) -> InfluenceResult:
    """``refined`` with its error for groups of rows, for this f alone."""
    question, how = single.question, Estimation((REFINED,), rel_error=rel_error)
    nobody = Provenance("", "", {})
    return influence(question, single.solver, _plan(question, groups), how, provenance=nobody)


def _plan(question: Question, groups: Sequence[np.ndarray]) -> GroupPlan:
    planned = tuple(
        PlannedGroup(f"selection#{number}", "rows", len(rows), (f"selection#{number}", 0), partial(same, rows))
        for number, rows in enumerate(groups)
    )
    return GroupPlan(planned, question.model.dataset.rows)


def _status(status: str, statuses: Sequence[str], missing: np.ndarray) -> str:
    """The status of the search together with that of retraining, if there is no value, or a limit instead of one."""
    said = [] if status == OK else [status]
    if len(statuses) == 1 and statuses[0].startswith(UNBOUNDED):
        return "; ".join([statuses[0], *(one for one in said if not one.startswith(UNBOUNDED))])
    if not missing.any():
        return status
    of = f"{missing.sum()} of {len(statuses)} groups: " if len(statuses) > 1 else ""
    return "; ".join([*said, f"no actual change: {of}{statuses[int(np.argmax(missing))]}"])


def spread(key: str, values: np.ndarray, sign: float) -> dict[str, float]:
    """Mean, best in the direction, and standard deviation of the draws that have a value."""
    values = values[np.isfinite(values)]
    if not len(values):
        return {key: float("nan")}
    deviation = float(values.std(ddof=1)) if len(values) > 1 else float("nan")
    return {key: float(values.mean()), f"{key}_best": float(sign * (sign * values).max()), f"{key}_spread": deviation}


def row_influences(question: Question, solver: HessianSolver) -> np.ndarray:
    """First-order change of f if a row by itself is removed, (m, T), with the weights of the other rows kept:
    ``first-koh``."""
    model = question.model
    gradients = np.hstack([target.gradient(model.theta) for target in question.targets])
    adjoints = solver.solve(gradients).x
    return model.objective.weights[:, None] * model.objective.row_products(model.theta, adjoints)
