"""Functions of theta that combine many rows: rates, the largest of several means, and the rows of each group itself.

docs/design.md, section 2.4, lists the quantities that they compute.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np

from influence_cli.core.objectives.families.base import Classifier
from influence_cli.core.objectives.objective import Objective
from influence_cli.core.quantities import TIE, RowTarget, Target, Valued, WeightedTarget, ties
from influence_cli.core.rows.sparse_design import Features
from influence_cli.errors import UsageError


@dataclass(frozen=True)
class WorstTarget:
    """The largest mean of a row quantity over the parts of its rows; ``part`` (T,) numbers the parts from 0.

    Its derivative is that of the part with the largest mean.
    """

    rows: RowTarget
    part: np.ndarray

    def value(self, theta: np.ndarray) -> np.ndarray:
        return self.means(theta).max(axis=0, keepdims=True)

    def gradient(self, theta: np.ndarray) -> np.ndarray:
        members = self.part == self.means(theta)[:, 0].argmax()
        return WeightedTarget(self.rows, members / members.sum()).gradient(theta)

    def means(self, theta: np.ndarray) -> np.ndarray:
        """The mean of every part, (parts, G)."""
        order, sizes = np.argsort(self.part, kind="stable"), np.bincount(self.part)
        starts = np.concatenate([[0], np.cumsum(sizes[:-1])])
        return np.add.reduceat(self.rows.value(theta)[order], starts, axis=0) / sizes[:, None]

    def kink(self, theta: np.ndarray) -> bool:
        """Whether the two largest means at theta (P, 1) are equal, up to ``TIE`` times the largest."""
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
        """Whether f at theta (P, 1) is 0 up to the rounding of its terms, or f itself has a kink."""
        if not isinstance(self.target, WeightedTarget):
            return bool(ties(self.target, theta)[0])
        terms = np.abs(self.target.coefficients) @ np.abs(self.target.rows.value(theta))
        return bool(self.value(theta)[0, 0] <= TIE**2 * terms[0])


@dataclass(frozen=True)
class RateTarget:
    """The share of the rows in ``second`` (T,) bool that are predicted the class ``code``, minus that share of the
    other rows.

    It is piecewise constant in theta, so that it has no useful derivative.  It is NaN where an output is NaN or
    infinite.
    """

    objective: Objective
    family: Classifier
    code: int
    X: Features
    second: np.ndarray

    def value(self, theta: np.ndarray) -> np.ndarray:
        eta = self.objective.predict_outputs(theta, self.X)
        predicted = self.family.predict(eta) == self.code
        gap = predicted[:, self.second].mean(axis=1) - predicted[:, ~self.second].mean(axis=1)
        return np.where(np.isfinite(eta).all(axis=(1, 2)), gap, np.nan)[None]

    def gradient(self, theta: np.ndarray) -> np.ndarray:
        raise UsageError("a rate has no derivative to rank rows by", hint="ask for gap: or gap-loss: here")


@runtime_checkable
class OfClasses(Protocol):
    """A quantity of rows X (T, d); ``of_classes`` says that it depends on their predicted classes alone."""

    @property
    def X(self) -> Features: ...

    @property
    def of_classes(self) -> bool: ...

    def value(self, theta: np.ndarray) -> np.ndarray:
        """f at theta (P, G), (1, G)."""


@dataclass(frozen=True)
class OwnTarget:
    """f of a separate target, with one value, for each of G columns, (1, G): used where each group's own rows are
    tested.

    theta is (P, G), or (P, n) where a single column or a single target serves all.
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
        """The target of the groups ``columns`` (A,)."""
        return OwnTarget([self.targets[g] for g in columns.tolist()])
