"""The smallest group whose removal flips a prediction: one record a test row, always retrained."""

from __future__ import annotations

from collections.abc import Iterator
from time import perf_counter

import numpy as np

from influence_cli.analysis.question import TestRows
from influence_cli.analysis.selecting import Choice, Question, Watch, new_record, problem_of, questions
from influence_cli.core.objectives.families.base import Classifier
from influence_cli.core.quantities import Margin, RowTarget
from influence_cli.core.selection.flip import Flip, flip
from influence_cli.core.solvers.choice import HessianSolver
from influence_cli.errors import UsageError
from influence_cli.models.trained import TrainedModel
from influence_cli.results import Provenance, SelectionResult

PREDICTED = "margin of the predicted class"
"""The quantity whose sign is the prediction: log-odds of the predicted class against its strongest rival."""
NEVER_NEGATIVE = ("loss", "prob")


def check_flip(model: TrainedModel, tests: TestRows | None, quantity: str) -> str:
    """The quantity whose sign is to change: ``loss``, the default, stands for the predicted class of a classifier.

    Raises UsageError for a quantity that has one sign only.
    """
    classifies = isinstance(model.family, Classifier)
    if quantity == "loss" and classifies:
        if tests is not None and tests.mean:
            raise UsageError("--flip changes the class of one test row at a time", hint="name rows: --test 17")
        return PREDICTED
    if quantity in NEVER_NEGATIVE:
        better = "margin or logit:CLASS" if classifies else "prediction"
        raise UsageError(
            f"--flip: {quantity} is never negative, so its sign cannot change",
            hint=f"use --quantity {better}" + (", or leave it out" if classifies else ""),
        )
    return quantity


def select_flips(
    model: TrainedModel,
    solver: HessianSolver,
    tests: TestRows | None,
    largest: int,
    choice: Choice,
    *,
    quantity: str = "loss",
    provenance: Provenance,
    watch: Watch = Watch(),
) -> SelectionResult:
    """For each test row the smallest group of at most ``largest`` rows that is found to flip it.

    ``base`` and ``after`` are f before and after removal, by retraining, and ``actual`` their difference; ``minimal``
    says whether every single row was put back in vain.  Without such a group ``rows`` is None.
    """
    chosen = check_flip(model, tests, quantity)
    records = []
    for question in _flip_questions(model, tests, chosen):
        watch.step("flip")
        begun = perf_counter()
        problem = problem_of(model, solver, question.target, largest, choice)
        found = flip(problem, advance=watch.step)
        records.append(_flip_record(model, problem, question, chosen, found) | {"seconds": perf_counter() - begun})
        watch.verified(1)
    return SelectionResult(provenance, chosen, tuple(records))


def _flip_questions(model: TrainedModel, tests: TestRows | None, quantity: str) -> Iterator[Question]:
    if quantity != PREDICTED:
        yield from questions(model, tests, quantity)
        return
    if tests is None:
        raise UsageError("--flip needs test rows", hint="for example --test 17 or --test misclassified:5")
    assert isinstance(model.family, Classifier)
    rows = model.dataset.X_test[tests.rows]
    predicted = model.predict(rows)
    for column, (row, label) in enumerate(zip(tests.rows, predicted, strict=True)):
        target = RowTarget(model.objective, Margin(model.family), rows[column : column + 1], np.array([label]))
        yield Question(column, int(row), target)


def _flip_record(model: TrainedModel, problem, question: Question, quantity: str, found: Flip) -> dict:
    selection = found.selection
    record = new_record("flip", problem, question, quantity)
    record |= {"direction": "decrease" if found.before > 0 else "increase", "status": found.status}
    if selection is None:
        record |= {"size": None, "fraction": None}
    else:
        record |= {
            "size": len(selection.rows),
            "predicted_first": selection.predicted_first,
            "predicted_second": selection.predicted_second,
            "actual": selection.realised,
            "rows": selection.rows,
            "fraction": len(selection.rows) / problem.rows,
            "rounds": selection.rounds,
        }
    return record | {
        "after": found.after,
        "flips": selection is not None,
        "minimal": found.minimal if selection is not None else None,
        "largest": found.largest,
        "found_by": selection.strategy if selection is not None else None,
    }
