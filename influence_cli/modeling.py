"""A trained model in memory: data, settings, parameters, and the objective that they define."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from time import perf_counter
from typing import Any

import numpy as np

from .core.families.base import Family
from .core.families.gaussian import Gaussian
from .core.families.logistic import Logistic
from .core.families.softmax import Softmax
from .core.glm import Glm
from .core.objective import Objective
from .core.solvers.cholesky import CholeskyFactor
from .core.training import train
from .data.dataset import Dataset
from .errors import UsageError

ESTIMATORS = {"logistic": "classification", "linear": "regression"}
"""Names of ``--estimator`` and the task each is for."""


@dataclass(frozen=True)
class ModelSettings:
    """Everything beside the data that decides what the trained parameters are and what removal means.

    ``l2`` is lambda of DESIGN 2.1; ``penalty_scaling`` is per-mean or per-sum.
    """

    estimator: str
    l2: float
    penalty_scaling: str
    fit_intercept: bool
    penalize_intercept: bool
    tol: float

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True)
class TrainedModel:
    """Parameters ``theta`` (P, 1) at a stationary point; ``residuals`` (m, K) are d l_i / d outputs there."""

    dataset: Dataset
    settings: ModelSettings
    theta: np.ndarray
    residuals: np.ndarray
    grad_norm: float
    iterations: int
    seconds: float
    factor: CholeskyFactor | None = None

    @cached_property
    def family(self) -> Family:
        return family_of(self.dataset, self.settings)

    @cached_property
    def objective(self) -> Objective:
        return objective_of(self.dataset, self.settings)

    @cached_property
    def parameter_names(self) -> tuple[str, ...]:
        """One name a parameter, in theta's order: ``FEATURE`` or, with several classes, ``CLASS:FEATURE``."""
        own = (*self.dataset.feature_names, *(("intercept",) if self.settings.fit_intercept else ()))
        if self.family.outputs == 1:
            return own
        return tuple(f"{label}:{name}" for label in self.dataset.classes for name in own)

    def predict(self, X: np.ndarray) -> np.ndarray:
        """Class codes or responses for rows X (n, d)."""
        return self.family.predict(self.objective.predict_outputs(self.theta, X))[0]

    def misclassified(self) -> np.ndarray:
        """Which test rows the model gets wrong, (n,) bool."""
        return self.predict(self.dataset.X_test) != self.dataset.y_test

    def score(self, X: np.ndarray, y: np.ndarray) -> float:
        """Accuracy, or R squared for a regression."""
        predicted = self.predict(X)
        if self.dataset.classes:
            return float((predicted == y).mean())
        spread = ((y - y.mean()) ** 2).sum()
        return float(1.0 - ((y - predicted) ** 2).sum() / spread) if spread > 0 else float("nan")

    def with_factor(self, factor: CholeskyFactor | None) -> TrainedModel:
        return replace(self, factor=factor)


def resolve_penalty(l2: float | None, C: float | None, scaling: str | None, rows: int) -> tuple[float, str]:
    """(lambda, penalty scaling) from the options: C is scikit-learn's, 1 / (lambda m), and brings per-sum with it."""
    if l2 is not None and C is not None:
        raise UsageError("--l2 and --C both set the penalty", hint="give one of them: l2 = 1 / (C * training rows)")
    if C is not None:
        if not (np.isfinite(C) and C > 0):
            raise UsageError(f"--C must be a number greater than 0, found {C:g}")
        return 1.0 / (C * rows), scaling or "per-sum"
    lam = 1e-3 if l2 is None else l2
    if not (np.isfinite(lam) and lam >= 0):
        raise UsageError(f"--l2 must be a number of at least 0, found {lam:g}")
    return lam, scaling or "per-mean"


def family_of(dataset: Dataset, settings: ModelSettings) -> Family:
    """The row loss: two classes are one weight vector, more are a softmax."""
    if settings.estimator == "linear":
        return Gaussian()
    return Logistic() if len(dataset.classes) == 2 else Softmax(len(dataset.classes))


def objective_of(dataset: Dataset, settings: ModelSettings) -> Objective:
    """J on the training rows."""
    return Glm(
        dataset.X_train,
        dataset.y_train,
        family_of(dataset, settings),
        l2=settings.l2,
        intercept=settings.fit_intercept,
        penalize_intercept=settings.penalize_intercept,
    )


def fit(
    dataset: Dataset,
    settings: ModelSettings,
    *,
    max_iterations: int = 200,
    watch: Callable[[int, float], None] | None = None,
) -> TrainedModel:
    """Train to a gradient norm of ``settings.tol``.  Raises NotConvergedError."""
    objective = objective_of(dataset, settings)
    start = perf_counter()
    minimum = train(objective, tol=settings.tol, max_iterations=max_iterations, watch=watch)
    return TrainedModel(
        dataset,
        settings,
        minimum.theta,
        objective.residuals(minimum.theta),
        float(minimum.grad_norm[0]),
        int(minimum.iterations[0]),
        perf_counter() - start,
    )
