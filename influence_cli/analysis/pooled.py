"""Quantities of all chosen test rows together: differences between the values of a column, and scores.

    gap:COLUMN[:CLASS]      mean prediction (of a classifier probability of the class), second value minus first
    gap-tpr:COLUMN[:CLASS]  share of the rows of the class that are predicted it: true positive rate
    gap-fpr:COLUMN[:CLASS]  share of the rows of other classes that are predicted it: false positive rate
    gap-loss:COLUMN         mean loss
    worst:COLUMN            the largest mean loss over the values of the column
    score:NAME              a scorer of scikit-learn

CLASS is by default the second of two classes; ``abs:`` before any of them takes the absolute value.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from influence_cli.analysis.scores import ScoreTarget, score_target
from influence_cli.core.joint_targets import AbsoluteTarget, RateTarget, WorstTarget
from influence_cli.core.objectives.families.base import Classifier, Regressor
from influence_cli.core.quantities import (
    Logit,
    Loss,
    Prediction,
    Probability,
    RowQuantity,
    RowTarget,
    Target,
    WeightedTarget,
)
from influence_cli.core.rows.sparse_design import Features
from influence_cli.errors import UsageError, did_you_mean
from influence_cli.models.trained import TrainedModel

ABSOLUTE = "abs:"
GAP, TPR, FPR, GAP_LOSS, WORST, SCORE = "gap", "gap-tpr", "gap-fpr", "gap-loss", "worst", "score"
KINDS = (GAP, TPR, FPR, GAP_LOSS, WORST, SCORE)
STEPS = (TPR, FPR, SCORE)
"""Kinds that change, or may change, in steps: they have no derivative, and a small change does not predict the next."""
OF_WHAT = {GAP_LOSS: "loss", TPR: "true positive rate of class {}", FPR: "false positive rate of class {}"}


@dataclass(frozen=True)
class Pooled:
    """The parts of a quantity of all test rows: ``abs:`` or not, one of ``KINDS``, and the text behind its colon."""

    text: str
    absolute: bool
    kind: str
    body: str

    @property
    def in_steps(self) -> bool:
        return self.kind in STEPS


def pooled(quantity: str) -> Pooled | None:
    """The parts of a quantity that is one figure for all test rows; None for any other.

    Raises UsageError for ``abs:`` before any other quantity.
    """
    absolute = quantity.startswith(ABSOLUTE)
    kind, colon, body = quantity.removeprefix(ABSOLUTE).partition(":")
    if kind in KINDS and colon:
        return Pooled(quantity, absolute, kind, body)
    if absolute:
        raise UsageError(
            f"--quantity {quantity}: abs: stands before a figure of all test rows together, found {kind!r}",
            hint="for example abs:gap:COLUMN; " + ", ".join(f"{one}:" for one in KINDS),
        )
    return None


def in_steps(quantity: str) -> bool:
    """Whether the quantity has no derivative."""
    target = pooled(quantity)
    return target is not None and target.in_steps


def why_exact(quantity: str) -> str:
    """Why a quantity cannot be linearised, or an empty text."""
    if quantity.startswith("t:"):
        return "depends on the rows left as well as on the parameters"
    return "has no derivative" if in_steps(quantity) else ""


def check_evaluate(quantity: str, evaluate: str) -> None:
    """Raises UsageError if a quantity that cannot be linearised is to be."""
    if evaluate != "exact" and (why := why_exact(quantity)):
        raise UsageError(f"--quantity {quantity} {why}, so that it is evaluated exactly", hint="add --evaluate exact")


def pooled_target(model: TrainedModel, rows: np.ndarray, asked: Pooled) -> Target:
    """The quantity over these test rows.  Raises UsageError where model, rows and quantity do not fit together."""
    if asked.kind in (SCORE, TPR, FPR, GAP_LOSS, WORST):
        _require_labels(model, rows, asked.text)
    X, y = model.dataset.X_test[rows], model.dataset.y_test[rows]
    if asked.kind == SCORE:
        score = own_score(model, rows, asked)
        score.check(model.theta)
        return score
    target = _worst(model, rows, asked, X, y) if asked.kind == WORST else _gap(model, rows, asked, X, y)
    return AbsoluteTarget(target) if asked.absolute else target


def own_score(model: TrainedModel, rows: np.ndarray, asked: Pooled) -> ScoreTarget:
    """The scorer on these test rows, NaN where it is undefined.  Raises UsageError if there is none of that name."""
    X, y = model.dataset.X_test[rows], model.dataset.y_test[rows]
    return score_target(model, asked.body, X, y, quantity=asked.text, absolute=asked.absolute)


def in_words(model: TrainedModel, rows: np.ndarray, asked: Pooled) -> str | None:
    """The quantity in words, with the values of the column and the class; None for a score, whose name suffices."""
    if asked.kind == SCORE:
        return None
    if asked.kind == WORST:
        worst_value = _worst(model, rows, asked, model.dataset.X_test[rows], model.dataset.y_test[rows])
        column, values, _ = _column_values(model, rows, asked)
        worst = np.unique(_comparable(values))[int(np.argmax(worst_value.means(model.theta)[:, 0]))]
        return f"largest mean loss over the values of {column} (now where it is {worst})"
    column, values, label = _column_values(model, rows, asked)
    first, second = _two_values(column, values, asked)
    classes = model.dataset.classes
    of = "prediction" if not classes else f"probability of class {label or classes[1]}"
    if isinstance(model.family, Classifier) and not model.family.probabilistic:
        of = of.replace("probability", "score")
    if asked.kind in OF_WHAT:
        of = OF_WHAT[asked.kind].format(label or (classes[1] if classes else ""))
    mean = "" if asked.kind in (TPR, FPR) else "mean "
    size = "size of the " if asked.absolute else ""
    return f"{size}gap ({mean}{of} where {column} is {second} minus where it is {first})"


def _gap(model: TrainedModel, rows: np.ndarray, asked: Pooled, X: Features, y: np.ndarray) -> Target:
    """A mean over the rows with the column's second value minus that over the rows with its first."""
    column, values, label = _column_values(model, rows, asked)
    first, second = _two_values(column, values, asked)
    counted, code = np.ones(len(rows), dtype=bool), 0
    if asked.kind != GAP_LOSS and model.dataset.classes:
        code = _code(model, label, asked)
    if asked.kind in (TPR, FPR):
        _require_classes(model, asked)
        counted = (y == code) == (asked.kind == TPR)
    parts = [(_comparable(values) == value) & counted for value in (first, second)]
    for value, part in zip((first, second), parts, strict=True):
        if not part.any():
            name = model.dataset.classes[code]
            lacks = f"rows of class {name}" if asked.kind == TPR else f"rows of another class than {name}"
            raise UsageError(
                f"--quantity {asked.text}: where {column} is {value} the chosen test rows have no {lacks}",
                hint="choose more test rows (--test all), or another class",
            )
    if asked.kind in (TPR, FPR):
        assert isinstance(model.family, Classifier)
        return RateTarget(model.objective, model.family, code, X[counted], parts[1][counted])
    coefficients = parts[1] / parts[1].sum() - parts[0] / parts[0].sum()
    if asked.kind == GAP_LOSS:
        return WeightedTarget(RowTarget(model.objective, Loss(model.family), X, y), coefficients)
    rule, labels = _prediction(model, code, len(rows))
    return WeightedTarget(RowTarget(model.objective, rule, X, labels), coefficients)


def _worst(model: TrainedModel, rows: np.ndarray, asked: Pooled, X: Features, y: np.ndarray) -> WorstTarget:
    column, values, _ = _column_values(model, rows, asked)
    different, codes = np.unique(_comparable(values), return_inverse=True)
    if len(different) < 2:
        raise UsageError(
            f"--quantity {asked.text}: a column with several values is expected, but {column} is {different[0]} in all"
            " of the chosen test rows",
            hint="choose more test rows (--test all), or a column with several values",
        )
    return WorstTarget(RowTarget(model.objective, Loss(model.family), X, y), codes)


def _column_values(model: TrainedModel, rows: np.ndarray, asked: Pooled) -> tuple[str, np.ndarray, str | None]:
    """The column, its values in these test rows, and the class named after it."""
    column, label = _column_and_class(model, asked)
    values = _values(model, column)[rows]
    missing = sum(value is None or value != value for value in values.tolist())
    if missing:
        raise UsageError(
            f"--quantity {asked.text}: {missing:,} of the {len(rows):,} test rows have no value of {column}",
            hint=f"fill {column} in the file of test rows, or name rows that have one: --test 0,5,9",
        )
    return column, values, label


def _comparable(values: np.ndarray) -> np.ndarray:
    return values.astype(str) if values.dtype.kind == "O" else values


def _two_values(column: str, values: np.ndarray, asked: Pooled) -> np.ndarray:
    """The column's two values in sorted order."""
    different = np.unique(_comparable(values))
    if len(different) != 2:
        shown = ", ".join(map(str, different[:5])) + (", ..." if len(different) > 5 else "")
        raise UsageError(
            f"--quantity {asked.text}: a column with two values is expected, but {column} has {len(different):,} in the"
            f" chosen test rows: {shown}",
            hint=f"choose {'more test rows (--test all), or ' * (len(different) < 2)}a column with two values",
        )
    return different


def _column_and_class(model: TrainedModel, asked: Pooled) -> tuple[str, str | None]:
    """``COLUMN`` or, where a class can be meant, ``COLUMN:CLASS``."""
    body, names = asked.body, [*model.dataset.columns_test, *model.dataset.feature_names]
    if body in names:
        return body, None
    colons = [at for at, sign in enumerate(body) if sign == ":"] if asked.kind in (GAP, TPR, FPR) else []
    parts = [(body[:at], body[at + 1 :]) for at in colons if body[:at] in names]  # names and classes may contain colons
    for head, tail in parts:
        if tail in model.dataset.classes:
            return head, tail
    if parts:
        classes, label = model.dataset.classes, parts[0][1]
        known = "the classes are " + (", ".join(classes[:20]) or "none: this is a regression")
        raise UsageError(
            f"--quantity {asked.text}: no class is named {label!r}", hint=did_you_mean(label, classes, known)
        )
    raise UsageError(
        f"--quantity {asked.text}: {body!r} is no column of the test rows",
        hint=did_you_mean(body, names, "the columns are " + ", ".join(dict.fromkeys(names[:20]))),
    )


def _values(model: TrainedModel, column: str) -> np.ndarray:
    data = model.dataset
    if column in data.columns_test:
        return data.columns_test[column]
    values = data.X_test[:, [data.feature_names.index(column)]]
    return (values.toarray() if hasattr(values, "toarray") else values)[:, 0]


def _require_labels(model: TrainedModel, rows: np.ndarray, quantity: str) -> None:
    unknown = np.flatnonzero(~model.dataset.labelled[rows])
    if len(unknown):
        raise UsageError(
            f"--quantity {quantity} needs the labels of all test rows, and {len(unknown):,} have none, the first"
            f" of them row {rows[unknown[0]]}",
            hint="add the labels, or choose test rows that have one",
        )


def _require_classes(model: TrainedModel, asked: Pooled) -> None:
    if not model.dataset.classes:
        raise UsageError(
            f"--quantity {asked.text} is for classifiers; this model is a regression", hint="use gap: or gap-loss:"
        )


def _code(model: TrainedModel, label: str | None, asked: Pooled) -> int:
    """The index of the class."""
    classes = model.dataset.classes
    if label is None and len(classes) > 2:
        raise UsageError(
            f"--quantity {asked.text}: of which class? The model has {len(classes)}",
            hint=f"{asked.text}:{classes[0]}",
        )
    return 1 if label is None else classes.index(label)


def _prediction(model: TrainedModel, code: int, count: int) -> tuple[RowQuantity, np.ndarray]:
    """The row quantity that serves as the prediction, with the labels (count,) that it takes."""
    family = model.family
    if isinstance(family, Regressor):
        return Prediction(family), np.zeros(count)
    assert isinstance(family, Classifier)
    if not family.probabilistic:
        return Logit(family, code), np.full(count, code)
    return Probability(family), np.full(count, code)
