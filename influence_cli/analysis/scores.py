"""Scores of scikit-learn on all chosen test rows together."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from influence_cli.core.objectives.families.base import Classifier, Family
from influence_cli.core.objectives.objective import Objective
from influence_cli.core.rows.sparse_design import Features
from influence_cli.errors import UsageError, did_you_mean
from influence_cli.models.trained import TrainedModel

OF_NUMBERS = ("r2", "explained_variance", "max_error", "neg_max_error", "neg_mean_", "neg_median_", "neg_root_")
"""Prefixes of scores that compare numbers: for class codes they would be meaningless."""


@dataclass(frozen=True)
class ScoreTarget:
    """A scorer on test rows X (T, d) with labels y (T,); larger is better, as in scikit-learn.

    Where it is undefined the value is NaN.  ``absolute`` takes the absolute value.
    """

    objective: Objective
    family: Family
    scorer: Callable[..., float]
    quantity: str
    X: Features
    y: np.ndarray
    absolute: bool = False

    @property
    def of_classes(self) -> bool:
        """Whether it depends on the predicted classes alone, which ``core.intervals`` can then bound."""
        return isinstance(self.family, Classifier) and getattr(self.scorer, "_response_method", "") == "predict"

    def value(self, theta: np.ndarray) -> np.ndarray:
        return np.array([[self._one(eta) for eta in self.objective.predict_outputs(theta, self.X)]])

    def gradient(self, theta: np.ndarray) -> np.ndarray:
        raise UsageError(f"--quantity {self.quantity} has no derivative", hint="ask for loss or margin here")

    def arrival(self, theta: np.ndarray, direction: np.ndarray) -> np.ndarray:
        """As ``core.recession.Clipped`` has it: the range of the outputs, since every step shortens it by 1."""
        outputs = self.objective.predict_outputs(theta, self.X)
        spans = np.ptp(outputs, axis=1).max(axis=1) if outputs.shape[1] > 1 else np.abs(outputs).max(axis=(1, 2))
        return np.asarray(np.broadcast_to(spans, direction.shape[1:]))

    def check(self, theta: np.ndarray) -> None:
        """Raises UsageError where the scorer has no value for the trained model."""
        eta = self.objective.predict_outputs(theta, self.X)[0]
        try:
            score = self._raw(eta)
        except (ValueError, AttributeError, TypeError, NotImplementedError) as error:
            raise UsageError(f"--quantity {self.quantity} cannot be had of these test rows: {error}") from None
        if not np.isfinite(score):
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
            score = float(self.scorer(_estimator(self.family), eta.T, self.y))
        return abs(score) if self.absolute else score


def score_target(
    model: TrainedModel, name: str, X: Features, y: np.ndarray, *, quantity: str, absolute: bool
) -> ScoreTarget:
    """The scorer of that name on rows X with labels y.  Raises UsageError if there is none, or none for this model."""
    from sklearn.metrics import get_scorer, get_scorer_names

    known = get_scorer_names()
    if name not in known:
        hint = did_you_mean(name, known, "for example score:accuracy, score:roc_auc or score:r2")
        raise UsageError(f"--quantity {quantity}: scikit-learn has no score of that name", hint=hint)
    if model.dataset.classes and name.startswith(OF_NUMBERS):
        raise UsageError(f"--quantity {quantity} is for regressions; this model is a classifier", hint="score:accuracy")
    return ScoreTarget(model.objective, model.family, get_scorer(name), quantity, X, y, absolute)


def _estimator(family: Family) -> Any:
    """A stand-in for a fitted estimator in scikit-learn's scorers: its rows are the outputs (T, K) of a model."""
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
