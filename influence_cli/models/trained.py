"""A trained model in memory: data, settings, parameters, and the objective that they define."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from time import perf_counter
from typing import Any

import numpy as np

from influence_cli.core.objectives.families.base import Family
from influence_cli.core.objectives.families.gaussian import Gaussian
from influence_cli.core.objectives.families.logistic import Logistic
from influence_cli.core.objectives.families.poisson import Poisson
from influence_cli.core.objectives.families.signed import Signed
from influence_cli.core.objectives.families.softmax import Softmax
from influence_cli.core.objectives.glm import Glm
from influence_cli.core.objectives.mlp import CURVATURES, GAUSS_NEWTON, Mlp
from influence_cli.core.objectives.networks.activations import ACTIVATIONS
from influence_cli.core.objectives.objective import Objective
from influence_cli.core.optimise.newton_cg import Watch
from influence_cli.core.solvers.cholesky import CholeskyFactor
from influence_cli.core.training import train
from influence_cli.data.dataset import Dataset
from influence_cli.data.prepare import Task
from influence_cli.data.sparse import Rows
from influence_cli.errors import FileError, UsageError

ESTIMATORS: dict[str, Task] = {
    "logistic": "classification",
    "linear": "regression",
    "poisson": "regression",
    "ridge-classifier": "classification",
    "mlp": "classification",
    "mlp-regressor": "regression",
}
"""Names of ``--estimator`` and the task each is for."""
NETWORKS = ("mlp", "mlp-regressor")
DAMPING = 0.01
"""The paper's, and Koh and Liang's (2017)."""


@dataclass(frozen=True)
class ModelSettings:
    """Everything beside the data that decides what the trained parameters are and what removal means.

    ``l2`` is lambda of DESIGN 2.1; ``penalty_scaling`` is per-mean or per-sum.  What follows ``tol`` is for networks
    alone: hidden widths, what stands for the Hessian and is added to its diagonal, and the seed of the initial weights.
    """

    estimator: str
    l2: float
    penalty_scaling: str
    fit_intercept: bool
    penalize_intercept: bool
    tol: float
    hidden: tuple[int, ...] = ()
    activation: str = "sigmoid"
    curvature: str = GAUSS_NEWTON
    damping: float = 0.0
    seed: int = 0

    @property
    def is_network(self) -> bool:
        return self.estimator in NETWORKS

    def as_dict(self) -> dict[str, Any]:
        """What a model file keeps: the same for a GLM as before there were networks."""
        own = asdict(self) | {"hidden": list(self.hidden)}
        return own if self.is_network else {key: own[key] for key in list(own)[: list(own).index("hidden")]}

    @classmethod
    def from_dict(cls, kept: Mapping[str, Any]) -> ModelSettings:
        """The settings among what a model file keeps."""
        known = {key: kept[key] for key in cls.__dataclass_fields__ if key in kept}
        return cls(**known | {"hidden": tuple(kept.get("hidden", ()))})


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
        """One name a parameter, in theta's order: ``FEATURE`` or, with several classes, ``CLASS:FEATURE``.

        Of a network ``h1.0:FEATURE`` is a weight of the first unit of the first hidden layer, and ``CLASS:h2.3`` one of
        the outputs'.
        """
        bias = ("intercept",) if self.settings.fit_intercept else ()
        own = (*self.dataset.feature_names, *bias)
        hidden = []
        for depth, width in enumerate(self.settings.hidden, start=1):
            units = [f"h{depth}.{unit}" for unit in range(width)]
            hidden += [f"{unit}:{name}" for unit in units for name in own]
            own = (*units, *bias)
        if self.family.outputs == 1:
            return (*hidden, *own)
        return (*hidden, *(f"{label}:{name}" for label in self.dataset.classes for name in own))

    def predict(self, X: Rows) -> np.ndarray:
        """Class codes or responses for rows X (n, d)."""
        return self.family.predict(self.objective.predict_outputs(self.theta, X))[0]

    @property
    def score_name(self) -> str:
        if self.dataset.classes:
            return "accuracy"
        return "D squared" if isinstance(self.family, Poisson) else "R squared"

    def misclassified(self) -> np.ndarray:
        """Which test rows the model gets wrong, (n,) bool."""
        return (self.predict(self.dataset.X_test) != self.dataset.y_test) & self.dataset.labelled

    def score(self, X: Rows, y: np.ndarray) -> float:
        """The score that ``score_name`` says over the rows that have a label, rows equal; NaN where none has."""
        known = y >= 0 if self.dataset.classes else ~np.isnan(y)
        if not known.any():
            return float("nan")
        X, y = (X, y) if known.all() else (X[known], y[known])
        predicted = self.predict(X)
        if self.dataset.classes:
            return float((predicted == y).mean())
        if isinstance(self.family, Poisson):
            explained = self.family.loss(np.log(np.maximum(predicted, np.finfo(float).tiny))[None, None], y).sum()
            spread = self.family.loss(np.log(np.full((1, 1, len(y)), max(y.mean(), 1e-300))), y).sum()
            return float(1.0 - explained / spread) if spread > 0 else float("nan")
        spread = ((y - y.mean()) ** 2).sum()
        return float(1.0 - ((y - predicted) ** 2).sum() / spread) if spread > 0 else float("nan")

    def with_factor(self, factor: CholeskyFactor | None) -> TrainedModel:
        return replace(self, factor=factor)

    def with_curvature(self, curvature: str | None, damping: float | None) -> TrainedModel:
        """The same parameters with another notion of their Hessian; a factor of another is dropped."""
        if curvature is None and damping is None:
            return self
        if not self.settings.is_network:
            raise UsageError(f"--curvature and --damping are for networks; this model is {self.settings.estimator}")
        check_curvature(curvature, damping)
        own = self.settings
        settings = replace(
            own,
            curvature=own.curvature if curvature is None else curvature,
            damping=own.damping if damping is None else damping,
        )
        return replace(self, settings=settings, factor=self.factor if settings == own else None)


def check_curvature(curvature: str | None, damping: float | None) -> None:
    """Raises UsageError for values that are none."""
    if curvature is not None and curvature not in CURVATURES:
        raise UsageError(f"--curvature must be one of {', '.join(CURVATURES)}; found {curvature!r}")
    if damping is not None and not (np.isfinite(damping) and damping >= 0):
        raise UsageError(f"--damping must be a number of at least 0, found {damping:g}")


def default_tolerance(estimator: str) -> float:
    """Gradient norm to which an estimator of that name is trained."""
    return Mlp.tolerance if estimator in NETWORKS else Glm.tolerance


def resolve_network(
    estimator: str,
    hidden: str | None,
    activation: str | None,
    curvature: str | None,
    damping: float | None,
    seed: int,
) -> dict[str, Any]:
    """The settings that only networks have, from the options; none for a GLM, which none of the options suits."""
    if estimator not in NETWORKS:
        given = {"--hidden": hidden, "--activation": activation, "--curvature": curvature, "--damping": damping}
        for option, value in given.items():
            if value is not None:
                raise UsageError(f"{option} is for networks", hint=f"add --estimator {NETWORKS[0]}")
        return {}
    check_curvature(curvature, damping)
    if activation is not None and activation not in ACTIVATIONS:
        raise UsageError(f"--activation must be one of {', '.join(ACTIVATIONS)}; found {activation!r}")
    return {
        "hidden": parse_hidden("64,32" if hidden is None else hidden),
        "activation": activation or "sigmoid",
        "curvature": curvature or GAUSS_NEWTON,
        "damping": DAMPING if damping is None else damping,
        "seed": seed,
    }


def parse_hidden(text: str) -> tuple[int, ...]:
    """``64,32`` to the widths of the hidden layers."""
    try:
        widths = tuple(int(part) for part in text.split(","))
    except ValueError:
        widths = ()
    if not widths or min(widths) < 1:
        raise UsageError(f"--hidden must be widths of hidden layers, found {text!r}", hint="for example --hidden 64,32")
    return widths


def resolve_penalty(l2: float | None, C: float | None, scaling: str | None, rows: float) -> tuple[float, str]:
    """(lambda, penalty scaling) from the options: C is scikit-learn's, 1 / (lambda m), and brings per-sum with it.

    ``rows`` is m, or the sum of the rows' weights as they were given.
    """
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
    if ESTIMATORS[settings.estimator] == "regression":
        return Poisson() if settings.estimator == "poisson" else Gaussian()
    if settings.estimator == "ridge-classifier":
        return Signed(len(dataset.classes))
    return Logistic() if len(dataset.classes) == 2 else Softmax(len(dataset.classes))


def check_responses(dataset: Dataset, settings: ModelSettings) -> None:
    """Raises FileError for responses that the estimator has no loss for."""
    if settings.estimator != "poisson":
        return
    hint = "for a response of either sign use --estimator linear"
    for where, y in (("training", dataset.y_train), ("test", dataset.y_test)):
        if (y < 0).any():
            row = int(np.argmax(y < 0))
            raise FileError(
                f"{dataset.name}: --estimator poisson expects responses of at least 0, found {y[row]:g} in {where} row"
                f" {row}",
                hint,
            )
    if not (dataset.y_train > 0).any():
        raise FileError(f"{dataset.name}: --estimator poisson expects a response over 0, found 0 in every row")


def objective_of(dataset: Dataset, settings: ModelSettings) -> Objective:
    """J on the training rows."""
    if settings.is_network:
        if not isinstance(dataset.X_train, np.ndarray):
            raise UsageError(
                f"--estimator {settings.estimator} takes dense features, and those of {dataset.name} are sparse",
                hint="store them dense (.npz, or X.toarray()), or take --estimator logistic, linear or poisson",
            )
        return Mlp(
            dataset.X_train,
            dataset.y_train,
            family_of(dataset, settings),
            hidden=settings.hidden,
            activation=settings.activation,
            curvature=settings.curvature,
            damping=settings.damping,
            l2=settings.l2,
            intercept=settings.fit_intercept,
            penalize_intercept=settings.penalize_intercept,
            weights=dataset.weights,
        )
    return Glm(
        dataset.X_train,
        dataset.y_train,
        family_of(dataset, settings),
        l2=settings.l2,
        intercept=settings.fit_intercept,
        penalize_intercept=settings.penalize_intercept,
        weights=dataset.weights,
    )


def fit(
    dataset: Dataset,
    settings: ModelSettings,
    *,
    max_iterations: int = 200,
    watch: Watch | None = None,
) -> TrainedModel:
    """Train to a gradient norm of ``settings.tol``.  Raises NotConvergedError; FileError for unsuitable responses."""
    check_responses(dataset, settings)
    objective = objective_of(dataset, settings)
    start = perf_counter()
    minimum = train(objective, tol=settings.tol, max_iterations=max_iterations, seed=settings.seed, watch=watch)
    return TrainedModel(
        dataset,
        settings,
        minimum.theta,
        objective.residuals(minimum.theta),
        float(minimum.grad_norm[0]),
        int(minimum.iterations[0]),
        perf_counter() - start,
    )
