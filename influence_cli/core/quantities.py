"""The quantities f that are asked about: functions of theta for each test row, with their gradients.

docs/design.md, section 2.4, lists them.  Each quantity of a row's outputs is a small class with ``value`` (G, T) and
``slope`` (K, T); a ``Target`` binds one to T test rows.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol, TypeVar, cast, runtime_checkable

import numpy as np

from influence_cli.core.objectives.families.base import Classifier, Family, Regressor
from influence_cli.core.objectives.objective import Objective
from influence_cli.core.rows.sparse_design import Features
from influence_cli.core.weights import Weights
from influence_cli.errors import UsageError, did_you_mean

TIE = 1e-6
"""Difference of two scores, relative to the range of a row's scores, up to which rounding decides which is larger."""
QUANTITIES = (
    *("loss", "margin", "prob", "prob:K", "logit:K", "prediction", "param:NAME", "t:NAME", "gap:COLUMN"),
    *("gap-tpr:COLUMN", "gap-fpr:COLUMN", "gap-loss:COLUMN", "worst:COLUMN", "score:NAME", "abs:..."),
)

GRADIENT_ELEMENTS = 1 << 25
"""Float64 numbers (256 MiB) that a block of test rows' gradients may take where only their sum is needed."""


class RowQuantity(Protocol):
    """A function of the outputs eta (G, K, T) of test rows with labels y (T,)."""

    def value(self, eta: np.ndarray, y: np.ndarray) -> np.ndarray:
        """The quantity, (G, T)."""

    def slope(self, eta: np.ndarray, y: np.ndarray) -> np.ndarray:
        """Its derivative in eta at a single theta, where eta is (1, K, T): (K, T)."""


@dataclass(frozen=True)
class Loss:
    """The test row's loss: cross-entropy in nats, half the squared error, or half the Poisson deviance."""

    family: Family

    def value(self, eta: np.ndarray, y: np.ndarray) -> np.ndarray:
        return self.family.loss(eta, y)

    def slope(self, eta: np.ndarray, y: np.ndarray) -> np.ndarray:
        return self.family.residual(eta, y)[0]


@dataclass(frozen=True)
class Probability:
    """Predicted probability of the row's own class: exp(-loss) for every classifier."""

    family: Family

    def value(self, eta: np.ndarray, y: np.ndarray) -> np.ndarray:
        return np.exp(-self.family.loss(eta, y))

    def slope(self, eta: np.ndarray, y: np.ndarray) -> np.ndarray:
        return -self.value(eta, y) * self.family.residual(eta, y)[0]


@dataclass(frozen=True)
class Margin:
    """Log-odds of the row's own class against its strongest rival: negative where the row is misclassified."""

    family: Classifier

    def value(self, eta: np.ndarray, y: np.ndarray) -> np.ndarray:
        return self.family.margin(eta, y)[0]

    def slope(self, eta: np.ndarray, y: np.ndarray) -> np.ndarray:
        return self.family.margin(eta, y)[1][0]


@dataclass(frozen=True)
class Logit:
    """The score of class k: eta_k of a softmax (whose scores sum to 0 over the classes), log-odds for two classes."""

    family: Classifier
    k: int

    def value(self, eta: np.ndarray, y: np.ndarray) -> np.ndarray:
        return self.family.logit(eta, self.k)[0]

    def slope(self, eta: np.ndarray, y: np.ndarray) -> np.ndarray:
        return self.family.logit(eta, self.k)[1][0]


@dataclass(frozen=True)
class Prediction:
    """The expected response of a regression, in the unit of the response: eta for linear, exp(eta) for Poisson."""

    family: Regressor

    def value(self, eta: np.ndarray, y: np.ndarray) -> np.ndarray:
        return self.family.response(eta)[0]

    def slope(self, eta: np.ndarray, y: np.ndarray) -> np.ndarray:
        return self.family.response(eta)[1][0]


class Valued(Protocol):
    """An object with values f, which need not have a gradient."""

    def value(self, theta: np.ndarray) -> np.ndarray:
        """f at theta (P, G), (T, G)."""


F = TypeVar("F", bound=Valued)


class Target(Valued, Protocol):
    """f as a function of theta alone, with its gradient."""

    def gradient(self, theta: np.ndarray) -> np.ndarray:
        """grad f at theta (P, 1), (P, T)."""


@dataclass(frozen=True)
class RowTarget:
    """A row quantity on test rows X (T, d), y (T,)."""

    objective: Objective
    quantity: RowQuantity
    X: Features
    y: np.ndarray

    def value(self, theta: np.ndarray) -> np.ndarray:
        return self.quantity.value(self.objective.predict_outputs(theta, self.X), self.y).T

    def gradient(self, theta: np.ndarray) -> np.ndarray:
        eta = self.objective.predict_outputs(theta, self.X)
        return self.objective.pull_back(theta, self.X, self.quantity.slope(eta, self.y))


@dataclass(frozen=True)
class MeanTarget:
    """The mean of a row quantity over its rows: one value instead of T."""

    rows: RowTarget

    def value(self, theta: np.ndarray) -> np.ndarray:
        return self.rows.value(theta).mean(axis=0, keepdims=True)

    def gradient(self, theta: np.ndarray) -> np.ndarray:
        count = len(self.rows.y)
        return WeightedTarget(self.rows, np.full(count, 1.0 / count)).gradient(theta)


@dataclass(frozen=True)
class WeightedTarget:
    """sum_t c_t f_t over the rows of a row quantity, ``coefficients`` c (T,): one value instead of T."""

    rows: RowTarget
    coefficients: np.ndarray

    def value(self, theta: np.ndarray) -> np.ndarray:
        return (self.coefficients @ self.rows.value(theta))[None]

    def gradient(self, theta: np.ndarray) -> np.ndarray:
        rows, total = self.rows, np.zeros(len(theta))
        step = max(1, GRADIENT_ELEMENTS // len(theta))
        for start in range(0, len(rows.y), step):
            part = slice(start, start + step)
            block = RowTarget(rows.objective, rows.quantity, rows.X[part], rows.y[part])
            total += block.gradient(theta) @ self.coefficients[part]
        return total[:, None]


@runtime_checkable
class PerColumn(Protocol):
    """A target that differs among G columns."""

    def of(self, columns: np.ndarray) -> Valued:
        """The target of the groups ``columns`` (A,)."""


def of_columns(target: F, columns: np.ndarray) -> F:
    """The target of the groups ``columns`` (A,) where it differs by group, else the target itself."""
    return cast(F, target.of(columns)) if isinstance(target, PerColumn) else target


def tested_rows(target: Any) -> Features | None:
    """The rows (T, d) on whose outputs f depends, in whatever way; None where there are none."""
    if hasattr(target, "X"):
        return cast("Features", target.X)
    parts = [getattr(target, name) for name in ("rows", "target") if hasattr(target, name)]
    parts += getattr(target, "targets", ())
    return tested_rows(parts[0]) if len(parts) == 1 else None


@runtime_checkable
class OfWeights(Protocol):
    """A target that depends on the weights of the rows directly, not through theta alone."""

    def under(self, w: Weights) -> Valued:
        """The same target under the row weights w."""

    def at_once(self, theta: np.ndarray) -> np.ndarray:
        """Its change on removal of each row for fixed theta (P, 1), (m,), divided by the weights' ``kept``."""


def under(target: F, w: Weights) -> F:
    """The target under the row weights w."""
    return cast(F, target.under(w)) if isinstance(target, OfWeights) else target


@runtime_checkable
class Kinked(Protocol):
    """A target of one value that may have a kink, a point where it is not differentiable."""

    def kink(self, theta: np.ndarray) -> bool:
        """Whether it has a kink at theta (P, 1)."""


def ties(target: Valued, theta: np.ndarray) -> np.ndarray:
    """Which values (T,) of f at theta (P, 1) have a kink, so that no derivative holds on both sides: a margin whose two
    strongest rivals are equal, up to ``TIE`` of the scores' range; a largest mean that two parts share; an absolute
    value at 0."""
    if isinstance(target, Kinked):
        return np.array([target.kink(theta)])
    rows = target.rows if isinstance(target, MeanTarget | WeightedTarget) else target
    if not isinstance(rows, RowTarget) or not isinstance(rows.quantity, Margin):
        return np.zeros(target.value(theta).shape[0], dtype=bool)
    scores = rows.objective.predict_outputs(theta, rows.X)[0]
    if len(scores) < 3:
        tied = np.zeros(len(rows.y), dtype=bool)
    else:
        spread = np.ptp(scores, axis=0)
        others = scores.copy()
        others[rows.y, np.arange(len(rows.y))] = -np.inf
        second, first = np.sort(others, axis=0)[-2:]
        tied = first - second <= TIE * spread
    return tied if rows is target else np.array([tied.any()])


@dataclass(frozen=True)
class ParameterTarget:
    """The parameter with that ``index``; it does not depend on any test row."""

    index: int

    def value(self, theta: np.ndarray) -> np.ndarray:
        return theta[self.index : self.index + 1]

    def gradient(self, theta: np.ndarray) -> np.ndarray:
        unit = np.zeros((len(theta), 1))
        unit[self.index] = 1.0
        return unit


def row_quantity(name: str, family: Family, classes: tuple[str, ...]) -> RowQuantity:
    """The quantity called ``name`` for a family; ``classes`` are the class names for ``logit:K`` and ``prob:K``.

    Raises UsageError for a name that does not exist or does not suit the model.
    """
    if name == "loss":
        return Loss(family)
    if name == "prediction":
        if not isinstance(family, Regressor):
            raise UsageError(
                "--quantity prediction is for regressions; this model is a classifier",
                hint="use prob, margin, loss or logit:CLASS",
            )
        return Prediction(family)
    if name in ("prob", "margin") or name.startswith(("logit:", "prob:")):
        if not isinstance(family, Classifier):
            raise UsageError(
                f"--quantity {name} is for classifiers; this model is a regression", hint="use prediction or loss"
            )
        if name.startswith("prob") and not family.probabilistic:
            raise UsageError(
                f"--quantity {name}: this model's scores are no probabilities", hint="use margin, loss or logit:CLASS"
            )
        if name == "prob":
            return Probability(family)
        if name == "margin":
            return Margin(family)
        kind, _, label = name.partition(":")
        if label not in classes:
            hint = did_you_mean(label, classes, "the classes are " + ", ".join(classes[:20]))
            raise UsageError(f"--quantity {name}: no class is named {label!r}", hint=hint)
        # For the probability of one class, the caller passes its code as the label y of every row.
        return Probability(family) if kind == "prob" else Logit(family, classes.index(label))
    hint = did_you_mean(name, QUANTITIES, "choose from " + ", ".join(QUANTITIES))
    raise UsageError(f"unknown --quantity {name!r}", hint=hint)
