"""The search for the smallest group that flips a prediction, a sign, or the significance of a coefficient."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from time import perf_counter
from typing import Any

import numpy as np

from influence_cli.analysis.pooled import in_steps
from influence_cli.analysis.question import OF_MODEL, Question, TestRows, ask
from influence_cli.analysis.select import Choice, Entry, Single, Watch, retrained
from influence_cli.core.objectives.families.base import Classifier
from influence_cli.core.quantities import Logit, Margin, OfWeights, RowTarget, Target
from influence_cli.core.selection.bounds import fewest_rows
from influence_cli.core.selection.flip import Flip, flipping
from influence_cli.core.selection.problem import DECREASE, INCREASE, Problem
from influence_cli.core.selection.together import at_once, side_by_side
from influence_cli.core.wald import LEVEL, WaldTarget
from influence_cli.errors import UsageError
from influence_cli.models.trained import TrainedModel
from influence_cli.results import SEVERAL, Provenance

SIGN, SIGNIFICANCE = FLIPS = ("sign", "significance")
"""What ``--flip-of`` of a coefficient may be."""
PREDICTED = "margin of the predicted class"
"""The quantity whose sign is the prediction: log-odds of the predicted class against its strongest rival."""
TELLING = 0.5
"""Width of a proven interval, relative to f after the flip, that determines its sign."""
NEVER_NEGATIVE = ("loss", "prob", "worst", "abs")


@dataclass(frozen=True)
class FlipSearch:
    """The smallest group of at most ``largest`` rows found to flip f: one record, always verified by retraining.

    ``base`` and ``after`` are f before and after removal, by retraining, and ``actual`` their difference; ``minimal``
    says whether re-adding any single row undoes the flip, and no group of fewer than ``at_least`` rows flips, which is
    proven (1 says nothing).  If no group is found, ``rows`` is None.  With ``choice.certify`` the change lies between
    ``low`` and ``high``, and ``proven`` says that f has the other sign in all of that interval.
    """

    choice: Choice
    largest: int

    def __len__(self) -> int:
        return 1

    def entries(self, singles: Sequence[Single], watch: Watch) -> Iterator[Entry]:
        """The searches for all f, side by side: ``seconds`` is an equal share of the time that they take."""
        together = at_once(singles[0].problem(self.largest, self.choice)) if singles else 1
        for first in range(0, len(singles), together):
            watch.step("flip")
            started, part = perf_counter(), singles[first : first + together]
            problems = [single.problem(self.largest, self.choice) for single in part]
            flips = side_by_side([flipping(problem, watch.step) for problem in problems])
            each = (perf_counter() - started) / len(part)
            for single, problem, one in zip(part, problems, flips, strict=True):
                yield self._entry(single, problem, one, each)

    def _entry(self, single: Single, problem: Problem, result: Flip, seconds: float) -> Entry:
        started = perf_counter()
        record = _flip_record(single.record("flip", problem), result, problem.rows)
        if isinstance(single.target, OfWeights):  # the second-order terms ignore how f depends on the rows
            record |= {"predicted_first": float("nan"), "predicted_second": float("nan")}
        rows = None if result.selection is None else result.selection.rows
        towards = DECREASE if result.before > 0 else INCREASE
        most = min(problem.size + 1, len(problem.candidates)) if rows is None else len(rows)
        fewest = fewest_rows(replace(problem, direction=towards), most)
        record |= {"at_least": fewest, "optimal": (rows is not None and fewest == len(rows)) or None}
        if single.quantity == PREDICTED:
            record["class_after"] = None if rows is None else _class_without(single, rows)
        if self.choice.certify is not None:
            record |= _certified(single, rows, record, self.choice.certify)
        return Entry(record | {"seconds": seconds + perf_counter() - started}, [], rows, single.column)


def _certified(single: Single, rows: np.ndarray | None, record: dict[str, Any], rel: float) -> dict[str, Any]:
    """The proven interval of a flip, narrow enough to determine the sign of f where that is possible."""
    nothing = {"low": float("nan"), "high": float("nan"), "proven": None if rows is None else False}
    before, change, after = record["base"], record["actual"], record["after"]
    if rows is None or not (np.isfinite(after) and change):
        return nothing
    rel = min(rel, TELLING * abs(after / change))
    truth = retrained(_frozen(single, (single.target,)), single.solver, [rows], Provenance("", "", {}), certify=rel)
    assert truth.low is not None and truth.high is not None
    low, high = float(truth.low[0, 0]), float(truth.high[0, 0])
    other = before + high < 0 if before > 0 else before + low > 0
    return {"low": low, "high": high, "proven": other}


def _frozen(single: Single, targets: tuple[Target, ...]) -> Question:
    """A question about the same row with the preprocessing kept, under which the flip itself is judged."""
    model = replace(single.model, refit=None)
    return Question(model, None, single.quantity, np.full(len(targets), single.code), targets)


def _class_without(single: Single, rows: np.ndarray) -> str | None:
    """The class that the model predicts after retraining without the rows: the scores of all classes are computed."""
    model, target = single.model, single.target
    classes, family = model.dataset.classes, model.family
    assert isinstance(target, RowTarget) and isinstance(family, Classifier)
    if len(classes) == 2:
        return classes[1 - int(target.y[0])]
    scores = tuple(replace(target, quantity=Logit(family, code)) for code in range(len(classes)))
    truth = retrained(_frozen(single, scores), single.solver, [rows], Provenance("", "", {}))
    after = truth.base + truth.actual[0]
    return classes[int(np.argmax(after))] if np.isfinite(after).all() else None


def _flip_record(record: dict[str, Any], result: Flip, m: int) -> dict[str, Any]:
    selection = result.selection
    record |= {"direction": "decrease" if result.before > 0 else "increase", "status": result.status}
    if selection is None:
        record |= {"size": None, "fraction": None}
    else:
        record |= {
            "size": len(selection.rows),
            "predicted_first": selection.predicted_first,
            "predicted_second": selection.predicted_second,
            "actual": _finite(selection.realised),
            "fraction": len(selection.rows) / m,
            "rounds": selection.rounds,
        }
    return record | {
        "after": _finite(result.after),
        "flips": selection is not None,
        "minimal": result.minimal if selection is not None else None,
        "largest": result.largest,
        "found_by": selection.strategy if selection is not None else None,
    }


def of_one(question: Question) -> Question:
    """A question about one quantity.  Raises UsageError for several, because a search is about one."""
    if question.codes[0] <= SEVERAL:
        raise UsageError(
            f"a search is about one quantity, and {question.quantity} names {len(question)}",
            hint="ask for each by itself",
        )
    return question


def ranked(question: Question) -> Question:
    """A question that groups can be ranked by.  Raises UsageError for several quantities, and for one that only
    ``--flip`` accepts."""
    of_one(question)
    if question.of_weights:
        raise UsageError(
            f"--quantity {question.quantity} depends on the rows left, for which groups are not ranked",
            hint="--flip --flip-of significance, or --quantity param:NAME",
        )
    if in_steps(question.quantity):
        smooth = "gap: or gap-loss:" if "gap" in question.quantity else "loss, margin or prob"
        raise UsageError(
            f"--quantity {question.quantity} has no derivative to rank rows by",
            hint=f"ask for {smooth} here, or name groups: ginf influence --quantity {question.quantity}",
        )
    return question


def ask_flip(model: TrainedModel, tests: TestRows | None, quantity: str, of: str = SIGN) -> Question:
    """The question whose sign is to change: ``loss``, the default, stands for the predicted class of a classifier.
    With ``of`` = significance it is |t| of a coefficient minus the limit of significance.

    Raises UsageError for a quantity that has one sign only.
    """
    if of == SIGNIFICANCE and not quantity.startswith(OF_MODEL):
        raise UsageError(f"--flip-of {of} is about a coefficient", hint="for example --quantity t:NAME")
    if quantity.startswith(OF_MODEL):
        name = quantity.partition(":")[2]
        if of == SIGN:
            return of_one(ask(model, tests, f"param:{name}"))
        asked = of_one(ask(model, tests, f"t:{name}"))
        target = asked.targets[0]
        assert isinstance(target, WaldTarget)
        return replace(asked, quantity=f"{SIGNIFICANCE}:{name}", targets=(replace(target, level=LEVEL),))
    family = model.family
    if quantity != "loss" or not isinstance(family, Classifier):
        if quantity.partition(":")[0] in NEVER_NEGATIVE:
            better = "margin or logit:CLASS, or leave it out" if isinstance(family, Classifier) else "prediction"
            if quantity.startswith("abs:gap"):
                better = quantity.removeprefix("abs:")
            raise UsageError(
                f"--flip: {quantity} is never negative, so its sign cannot change", hint=f"use --quantity {better}"
            )
        return ranked(ask(model, tests, quantity))
    if tests is None:
        raise UsageError("--flip needs test rows", hint="for example --test 17 or --test misclassified:5")
    if tests.mean or tests.removed:
        raise UsageError("--flip changes the class of one test row at a time", hint="name rows: --test 17")
    X = model.dataset.X_test[tests.rows]
    target = RowTarget(model.objective, Margin(family), X, model.predict(X))
    return Question(model, tests, PREDICTED, tests.rows, (target,))


def _finite(value: float) -> float:
    """NaN where f is infinite, which the status says."""
    return value if np.isfinite(value) else float("nan")
