"""Quantities of all chosen test rows together: a difference of mean predictions, and scores of scikit-learn's."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from influence_cli.core.objectives.families.base import Classifier, Family, Regressor
from influence_cli.core.objectives.objective import Objective
from influence_cli.core.quantities import Logit, Prediction, Probability, RowQuantity, RowTarget, Target, WeightedTarget
from influence_cli.core.rows.sparse_design import Features
from influence_cli.errors import UsageError, did_you_mean
from influence_cli.models.trained import TrainedModel

GAP, SCORE = "gap:", "score:"
OF_NUMBERS = ("r2", "explained_variance", "max_error", "neg_max_error", "neg_mean_", "neg_median_", "neg_root_")
"""How the names of scores begin that compare numbers: of class codes they would mean nothing."""


def is_pooled(quantity: str) -> bool:
    """Whether the quantity is one figure for all test rows."""
    return quantity.startswith((GAP, SCORE))


def check_evaluate(quantity: str, evaluate: str) -> None:
    """Raises UsageError for a quantity without a derivative that is to be linearised."""
    if quantity.startswith(SCORE) and evaluate != "exact":
        raise UsageError(
            f"--quantity {quantity} has no derivative, which --evaluate {evaluate} needs", hint="add --evaluate exact"
        )


def pooled_target(model: TrainedModel, rows: np.ndarray, quantity: str) -> Target:
    """The quantity over these test rows.  Raises UsageError where model, rows and quantity do not suit."""
    if quantity.startswith(GAP):
        return _gap(model, rows, quantity)
    target = _score(model, rows, quantity)
    target.check(model.theta)
    return target


@dataclass(frozen=True)
class ScoreTarget:
    """A scorer on test rows X (T, d) with labels y (T,); larger is better, as scikit-learn has it.

    Where it is undefined the value is NaN.
    """

    objective: Objective
    family: Family
    scorer: Callable[..., float]
    quantity: str
    X: Features
    y: np.ndarray

    def value(self, theta: np.ndarray) -> np.ndarray:
        return np.array([[self._one(eta) for eta in self.objective.predict_outputs(theta, self.X)]])

    def gradient(self, theta: np.ndarray) -> np.ndarray:
        raise UsageError(f"--quantity {self.quantity} has no derivative", hint="ask for loss or margin here")

    def arrival(self, theta: np.ndarray, direction: np.ndarray) -> np.ndarray:
        """As ``core.recession.Clipped`` has it: the outputs' range, which every step shortens by 1."""
        outputs = self.objective.predict_outputs(theta, self.X)
        spans = np.ptp(outputs, axis=1).max(axis=1) if outputs.shape[1] > 1 else np.abs(outputs).max(axis=(1, 2))
        return np.asarray(np.broadcast_to(spans, direction.shape[1:]))

    def check(self, theta: np.ndarray) -> None:
        """Raises UsageError where the scorer has no value for the model as it is."""
        eta = self.objective.predict_outputs(theta, self.X)[0]
        try:
            found = self._raw(eta)
        except (ValueError, AttributeError, TypeError, NotImplementedError) as error:
            raise UsageError(f"--quantity {self.quantity} cannot be had of these test rows: {error}") from None
        if not np.isfinite(found):
            raise UsageError(
                f"--quantity {self.quantity} is undefined for these {len(self.y):,} test rows",
                hint="take more test rows, of every class",
            )

    def _one(self, eta: np.ndarray) -> float:
        try:
            return self._raw(eta)
        except ValueError:
            return float("nan")

    def _raw(self, eta: np.ndarray) -> float:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return float(self.scorer(_estimator(self.family), eta.T, self.y))


def _score(model: TrainedModel, rows: np.ndarray, quantity: str) -> ScoreTarget:
    from sklearn.metrics import get_scorer, get_scorer_names

    name = quantity.removeprefix(SCORE)
    known = get_scorer_names()
    if name not in known:
        hint = did_you_mean(name, known, "for example score:accuracy, score:roc_auc or score:r2")
        raise UsageError(f"--quantity {quantity}: scikit-learn has no score of that name", hint=hint)
    data = model.dataset
    if data.classes and name.startswith(OF_NUMBERS):
        raise UsageError(f"--quantity {quantity} is for regressions; this model is a classifier", hint="score:accuracy")
    unknown = np.flatnonzero(~data.labelled[rows])
    if len(unknown):
        raise UsageError(
            f"--quantity {quantity} needs the labels of all test rows, and {len(unknown):,} have none, the first"
            f" of them row {rows[unknown[0]]}",
            hint="add the labels, or choose test rows that have one",
        )
    X, y = data.X_test[rows], data.y_test[rows]
    return ScoreTarget(model.objective, model.family, get_scorer(name), quantity, X, y)


def _estimator(family: Family) -> Any:
    """What scikit-learn's scorers take for a fitted estimator, its rows the outputs (T, K) of a model."""
    from sklearn.base import BaseEstimator, ClassifierMixin, RegressorMixin

    class Base(BaseEstimator):
        def fit(self, X: np.ndarray, y: np.ndarray) -> Base:
            return self

        def __sklearn_is_fitted__(self) -> bool:
            return True

        def predict(self, X: np.ndarray) -> np.ndarray:
            return family.predict(X.T[None])[0]

    if not isinstance(family, Classifier):
        return type("Regression", (RegressorMixin, Base), {})()

    def decision_function(self: Base, X: np.ndarray) -> np.ndarray:
        return X[:, 0] if X.shape[1] == 1 else X

    def predict_proba(self: Base, X: np.ndarray) -> np.ndarray:
        p = family.curvature_state(X.T[None])[0].T
        return np.column_stack([1.0 - p, p]) if p.shape[1] == 1 else p

    methods: dict[str, Any] = {"decision_function": decision_function, "classes_": np.arange(family.classes)}
    if family.probabilistic:
        methods["predict_proba"] = predict_proba
    return type("Classification", (ClassifierMixin, Base), methods)()


def _gap(model: TrainedModel, rows: np.ndarray, quantity: str) -> WeightedTarget:
    """Mean prediction of the rows with the column's second value minus that of the rows with its first."""
    values, (_, second), label = _gap_values(model, rows, quantity)
    chosen = values == second
    coefficients = np.where(chosen, 1.0 / chosen.sum(), -1.0 / (~chosen).sum())
    rule, y = _prediction(model, label, len(rows), quantity)
    return WeightedTarget(RowTarget(model.objective, rule, model.dataset.X_test[rows], y), coefficients)


def gap_in_words(model: TrainedModel, rows: np.ndarray, quantity: str) -> str:
    """What ``gap:COLUMN[:CLASS]`` is the difference of, with both values of the column and the class."""
    _, (first, second), label = _gap_values(model, rows, quantity)
    column, classes = _column_and_class(model, quantity)[0], model.dataset.classes
    of = "prediction" if not classes else f"probability of class {label or classes[1]}"
    if isinstance(model.family, Classifier) and not model.family.probabilistic:
        of = of.replace("probability", "score")
    return f"gap: mean {of} where {column} is {second} minus where it is {first}"


def _gap_values(model: TrainedModel, rows: np.ndarray, quantity: str) -> tuple[np.ndarray, np.ndarray, str | None]:
    """The column's values in these test rows, its two values in sorted order, and the class."""
    column, label = _column_and_class(model, quantity)
    values = _values(model, column)[rows]
    missing = sum(value is None or value != value for value in values.tolist())
    if missing:
        raise UsageError(f"--quantity {quantity}: {missing:,} of the {len(rows):,} test rows have no value of {column}")
    found = np.unique(values.astype(str) if values.dtype.kind == "O" else values)
    if len(found) != 2:
        shown = ", ".join(map(str, found[:5])) + (", ..." if len(found) > 5 else "")
        raise UsageError(
            f"--quantity {quantity}: a column with two values is expected, but {column} has {len(found):,} in the"
            f" chosen test rows: {shown}",
            hint="choose more test rows (--test all)" if len(found) < 2 else "choose a column with two values",
        )
    return values, found, label


def _column_and_class(model: TrainedModel, quantity: str) -> tuple[str, str | None]:
    """``gap:COLUMN`` or, of a classifier, ``gap:COLUMN:CLASS``."""
    body = quantity.removeprefix(GAP)
    names = [*model.dataset.columns_test, *model.dataset.feature_names]
    if body in names:
        return body, None
    head, _, tail = body.rpartition(":")
    if head in names:
        if tail not in model.dataset.classes:
            classes = ", ".join(model.dataset.classes[:20]) or "none: this is a regression"
            raise UsageError(f"--quantity {quantity}: no class is named {tail!r}", hint=f"the classes are {classes}")
        return head, tail
    raise UsageError(
        f"--quantity {quantity}: {body!r} is no column of the test rows",
        hint=did_you_mean(body, names, "the columns are " + ", ".join(dict.fromkeys(names[:20]))),
    )


def _values(model: TrainedModel, column: str) -> np.ndarray:
    data = model.dataset
    if column in data.columns_test:
        return data.columns_test[column]
    values = data.X_test[:, [data.feature_names.index(column)]]
    return (values.toarray() if hasattr(values, "toarray") else values)[:, 0]


def _prediction(model: TrainedModel, label: str | None, count: int, quantity: str) -> tuple[RowQuantity, np.ndarray]:
    """What stands for the prediction of a row, with the labels (count,) that it takes."""
    family, classes = model.family, model.dataset.classes
    if isinstance(family, Regressor):
        return Prediction(family), np.zeros(count)
    assert isinstance(family, Classifier)
    if label is None and len(classes) > 2:
        raise UsageError(
            f"--quantity {quantity}: of which class? The model has {len(classes)}", hint=f"{quantity}:{classes[0]}"
        )
    code = 1 if label is None else classes.index(label)
    if not family.probabilistic:
        return Logit(family, code), np.full(count, code)
    return Probability(family), np.full(count, code)
