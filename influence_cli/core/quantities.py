"""What is asked about the model: a function f of theta for each test row, and its gradient.

The quantities are listed in docs/design.md, "Quantities".

Each quantity of a row's outputs is a small class with ``value`` (G, T) and ``slope`` (K, T); a ``Target`` binds one to
test rows.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, TypeVar, cast, runtime_checkable

import numpy as np

from influence_cli.core.objectives.families.base import Classifier, Family, Regressor
from influence_cli.core.objectives.objective import Objective
from influence_cli.core.rows.sparse_design import Features
from influence_cli.errors import UsageError, did_you_mean

TIE = 1e-6
"""Difference of two scores, relative to the spread of a row's scores, up to which rounding decides which is larger."""
QUANTITIES = (
    *("loss", "margin", "prob", "prob:K", "logit:K", "prediction", "param:NAME", "gap:COLUMN", "gap-tpr:COLUMN"),
    *("gap-fpr:COLUMN", "gap-loss:COLUMN", "worst:COLUMN", "score:NAME", "abs:..."),
)

GRADIENT_ELEMENTS = 1 << 25
"""Float64 numbers (256 MiB) of test rows' gradients that are held at a time where only their sum is asked for."""


class RowQuantity(Protocol):
    """A function of the outputs eta (G, K, T) of test rows with labels y (T,)."""

    def value(self, eta: np.ndarray, y: np.ndarray) -> np.ndarray:
        """(G, T)."""

    def slope(self, eta: np.ndarray, y: np.ndarray) -> np.ndarray:
        """The derivative in eta at one theta, eta (1, K, T): (K, T)."""


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
    """The score of one class: eta_k of a softmax (scores sum to 0 over the classes' gauge), log-odds of two classes."""

    family: Classifier
    k: int

    def value(self, eta: np.ndarray, y: np.ndarray) -> np.ndarray:
        return self.family.logit(eta, self.k)[0]

    def slope(self, eta: np.ndarray, y: np.ndarray) -> np.ndarray:
        return self.family.logit(eta, self.k)[1][0]


@dataclass(frozen=True)
class Prediction:
    """The expected response of a regression, in the response's unit: eta of a linear one, exp(eta) of Poisson's."""

    family: Regressor

    def value(self, eta: np.ndarray, y: np.ndarray) -> np.ndarray:
        return self.family.response(eta)[0]

    def slope(self, eta: np.ndarray, y: np.ndarray) -> np.ndarray:
        return self.family.response(eta)[1][0]


class Valued(Protocol):
    """What has values f, and need not have a gradient."""

    def value(self, theta: np.ndarray) -> np.ndarray:
        """theta (P, G) to f, (T, G)."""


F = TypeVar("F", bound=Valued)


class Target(Valued, Protocol):
    """f as a function of theta alone."""

    def gradient(self, theta: np.ndarray) -> np.ndarray:
        """theta (P, 1) to grad f, (P, T)."""


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


@dataclass(frozen=True)
class WorstTarget:
    """The largest of the mean values of a row quantity over the parts of its rows; ``part`` (T,) numbers them from 0.

    Its derivative is that of the part which is the largest.
    """

    rows: RowTarget
    part: np.ndarray

    def value(self, theta: np.ndarray) -> np.ndarray:
        return self.means(theta).max(axis=0, keepdims=True)

    def gradient(self, theta: np.ndarray) -> np.ndarray:
        own = self.part == self.means(theta)[:, 0].argmax()
        return WeightedTarget(self.rows, own / own.sum()).gradient(theta)

    def means(self, theta: np.ndarray) -> np.ndarray:
        """The mean of every part, (parts, G)."""
        order, sizes = np.argsort(self.part, kind="stable"), np.bincount(self.part)
        starts = np.concatenate([[0], np.cumsum(sizes[:-1])])
        return np.add.reduceat(self.rows.value(theta)[order], starts, axis=0) / sizes[:, None]

    def kink(self, theta: np.ndarray) -> bool:
        """Whether the two largest means at theta (P, 1) are equal, up to ``TIE`` of them."""
        second, first = np.sort(self.means(theta)[:, 0])[-2:]
        return bool(first - second <= TIE * abs(first))


@dataclass(frozen=True)
class AbsoluteTarget:
    """|f| of a target with one value."""

    target: Target

    def value(self, theta: np.ndarray) -> np.ndarray:
        return np.abs(self.target.value(theta))

    def gradient(self, theta: np.ndarray) -> np.ndarray:
        return np.sign(self.target.value(theta)[0, 0]) * self.target.gradient(theta)

    def kink(self, theta: np.ndarray) -> bool:
        """Whether f at theta (P, 1) is 0 up to the rounding of its terms, or has a kink of its own."""
        if not isinstance(self.target, WeightedTarget):
            return bool(ties(self.target, theta)[0])
        terms = np.abs(self.target.coefficients) @ np.abs(self.target.rows.value(theta))
        return bool(self.value(theta)[0, 0] <= TIE**2 * terms[0])


@dataclass(frozen=True)
class RateTarget:
    """The share of the ``second`` rows (T,) that are predicted the class ``code``, minus that of the other rows.

    It moves in steps, so that it has no derivative.  NaN where the outputs are no numbers.
    """

    objective: Objective
    family: Classifier
    code: int
    X: Features
    second: np.ndarray

    def value(self, theta: np.ndarray) -> np.ndarray:
        eta = self.objective.predict_outputs(theta, self.X)
        predicted = self.family.predict(eta) == self.code
        found = predicted[:, self.second].mean(axis=1) - predicted[:, ~self.second].mean(axis=1)
        return np.where(np.isfinite(eta).all(axis=(1, 2)), found, np.nan)[None]

    def gradient(self, theta: np.ndarray) -> np.ndarray:
        raise UsageError("--quantity: a rate has no derivative", hint="ask for gap: or gap-loss: here")


@dataclass(frozen=True)
class OwnTarget:
    """f of a target of its own for each of G columns, which have one value: what the removed rows themselves are asked.

    theta is (P, G), or (P, n) where all columns or all targets are one.
    """

    targets: Sequence[Valued]

    def value(self, theta: np.ndarray) -> np.ndarray:
        count = max(len(self.targets), theta.shape[1])
        last = len(self.targets) - 1, theta.shape[1] - 1
        if last[0] == 0:
            return self.targets[0].value(theta)
        one = [self.targets[g].value(theta[:, [min(g, last[1])]]) for g in range(count)]
        return np.hstack(one)

    def gradient(self, theta: np.ndarray) -> np.ndarray:
        raise UsageError("--test removed asks every group about other rows", hint="leave --evaluate linear out")

    def of(self, columns: np.ndarray) -> OwnTarget:
        """That of some of the columns."""
        return OwnTarget([self.targets[g] for g in columns.tolist()])


@runtime_checkable
class PerColumn(Protocol):
    """What is asked about each of G columns by itself."""

    def of(self, columns: np.ndarray) -> Valued:
        """That of some of the columns."""


def of_columns(target: F, columns: np.ndarray) -> F:
    """What is asked of some of G columns."""
    return cast(F, target.of(columns)) if isinstance(target, PerColumn) else target


def ties(target: Valued, theta: np.ndarray) -> np.ndarray:
    """Which values (T,) of f at theta (P, 1) have a kink, so that no derivative holds for changes of either sign: a
    margin whose two strongest rivals are equal, up to ``TIE`` of the scores' spread, a largest mean that two parts
    share, a size of 0."""
    if isinstance(target, WorstTarget | AbsoluteTarget):
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
    """One parameter; no test row has a part in it."""

    index: int

    def value(self, theta: np.ndarray) -> np.ndarray:
        return theta[self.index : self.index + 1]

    def gradient(self, theta: np.ndarray) -> np.ndarray:
        unit = np.zeros((len(theta), 1))
        unit[self.index] = 1.0
        return unit


def row_quantity(name: str, family: Family, classes: tuple[str, ...]) -> RowQuantity:
    """The quantity of that name for that family; ``classes`` names the classes for ``logit:K`` and ``prob:K``.

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
        # of the probability of one class, the label that is asked with says which
        return Probability(family) if kind == "prob" else Logit(family, classes.index(label))
    raise UsageError(f"unknown --quantity {name!r}", hint="choose from " + ", ".join(QUANTITIES))
