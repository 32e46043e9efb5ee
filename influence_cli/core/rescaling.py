"""Standardisation repeated without each group, expressed as a penalty of that group (docs/design.md, section 2.1).

Let z be a feature standardised over all training rows, and z' the same feature standardised over the kept rows only: z'
= (z - shift) / ratio, where ``ratio`` is the standard deviation and ``shift`` the mean of z over the kept rows.  A
model w'z' + b' with the penalty lambda |w'|^2 is the model w z + b with

    w = w' / ratio,    b = b' - shift w,    lambda sum_j ratio_j^2 w_j^2

so that the group's penalty has R_g = ratio^2 in place of R, and a penalised intercept adds lambda (b + shift' w)^2.
Ratio and shift follow from sums of z and z^2 over the group's rows, without another pass over the data.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.sparse import csr_array

from influence_cli.core.objectives.objective import Objective
from influence_cli.core.rows.rows import Rows
from influence_cli.core.rows.sparse_design import Features, design_of
from influence_cli.core.solvers.preconditioners import Preconditioner, with_terms
from influence_cli.core.weights import GroupPenalty, Weights

CANCELLED = 1e-4
"""Variance, as a share of the second moment, below which sums have cancelled too many digits, so that it is recomputed
from the rows."""


@dataclass(frozen=True)
class Standardised:
    """How the features were standardised: the ``columns`` (d,) that were, and their ``mean`` and ``scale`` (d,).

    The mean was subtracted from the ``centred`` (d,) columns only: sparse rows were just divided by ``scale``.
    ``scale`` is 1 where a feature was constant, as in scikit-learn.
    """

    columns: np.ndarray
    mean: np.ndarray
    scale: np.ndarray
    centred: np.ndarray


class Restandardising:
    """Repeats the standardisation of training rows X (m, d) without each of some groups."""

    def __init__(self, X: Features | Rows, how: Standardised):
        self._X, self._how = X, how
        self._first, self._second = _moments(X)

    @property
    def mean_and_deviation(self) -> tuple[np.ndarray, np.ndarray]:
        """Mean and standard deviation of every column over all rows, (d,) each."""
        mean, square = self._first / self._X.shape[0], self._second / self._X.shape[0]
        return mean, np.sqrt(np.maximum(square - mean**2, 0.0))

    def without(self, groups: Sequence[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
        """``ratio`` and ``shift`` (d, G) for G arrays of row numbers; 1 and 0 where nothing was standardised."""
        if all(len(rows) == 1 for rows in groups):
            return self._without_rows(np.concatenate(groups))
        d, m = self._X.shape[1], self._X.shape[0]
        ratio, shift = np.ones((d, len(groups))), np.zeros((d, len(groups)))
        how = self._how
        for g, rows in enumerate(groups):
            first, second = _moments(self._X[rows])
            count = m - len(rows)
            mean, square = (self._first - first) / count, (self._second - second) / count
            variance = square - mean**2
            lost = np.flatnonzero(how.columns & (variance < CANCELLED * square))
            if len(lost):
                mean[lost], variance[lost] = self._exact(rows, lost)
            ratio[:, g] = np.where(how.columns, self._ratio(mean, variance, count), 1.0)
            shift[:, g] = np.where(how.centred, mean, 0.0)
        return ratio, shift

    def _without_rows(self, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """``ratio`` and ``shift`` (d, n) without each of n rows."""
        how, count = self._how, self._X.shape[0] - 1
        rows_dense = _dense(self._X[rows])
        mean, square = (self._first - rows_dense) / count, (self._second - rows_dense**2) / count
        variance = square - mean**2
        for at, column in np.argwhere(how.columns & (variance < CANCELLED * square)):
            lost = self._exact(rows[at : at + 1], np.array([column]))
            mean[at, column], variance[at, column] = lost[0][0], lost[1][0]
        ratio = np.where(how.columns, self._ratio(mean, variance, count), 1.0)
        return ratio.T, np.where(how.centred, mean, 0.0).T

    def _exact(self, rows: np.ndarray, columns: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Mean and variance of these columns over the kept rows, by two passes."""
        kept = np.ones(self._X.shape[0], dtype=bool)
        kept[rows] = False
        if not isinstance(self._X, np.ndarray | csr_array):
            return _exact_moments(self._X, kept, columns)
        values = _dense(self._X[:, columns])[kept]
        return values.mean(axis=0), values.var(axis=0)

    def _ratio(self, mean: np.ndarray, variance: np.ndarray, count: int) -> np.ndarray:
        """The new scale over the old one; the new scale of a feature that has become constant is 1.

        scikit-learn's rule decides what is constant, applied in units of the old scale, whose own square may overflow
        or underflow.
        """
        how, eps = self._how, np.finfo(float).eps
        mean_before_centring = np.where(how.centred, how.mean / how.scale, 0.0) + mean
        variance = np.maximum(variance, 0.0)
        constant = variance <= count * eps * variance + (count * mean_before_centring * eps) ** 2
        return np.where(constant, 1.0 / how.scale, np.sqrt(variance))


def group_penalty(
    ratio: np.ndarray, shift: np.ndarray, *, size: int, units: int, intercept: bool, penalized: float | None
) -> GroupPenalty:
    """The penalties of G groups from their ``ratio`` and ``shift`` (d, G).

    ``size`` is P.  Of these, the first ``units`` blocks of d parameters (d + 1 with an ``intercept``) multiply the
    features.  ``penalized`` is lambda where the intercept is penalised as well, else None.
    """
    d, count = ratio.shape
    columns = d + intercept
    scaling = np.ones((size, count))
    scales = scaling[: units * columns].reshape(units, columns, count)
    scales[:, :d] = ratio**2
    if penalized is None or not intercept:
        return GroupPenalty(scaling)
    scales[:, d] = 0.0
    direction = np.sqrt(penalized) * np.concatenate([shift, np.ones((1, count))])
    return GroupPenalty(scaling, direction)


def _moments(X: Features | Rows) -> tuple[np.ndarray, np.ndarray]:
    """sum z and sum z^2 of every column, (d,) each."""
    if isinstance(X, csr_array):
        return np.asarray(X.sum(axis=0)).ravel(), np.asarray(X.multiply(X).sum(axis=0)).ravel()
    if isinstance(X, np.ndarray):
        return X.sum(axis=0), np.einsum("ij,ij->j", X, X)
    first, second = np.zeros((2, X.shape[1]))
    for rows in design_of(X, False).blocks(1):
        removed = _moments(X[rows])
        first += removed[0]
        second += removed[1]
    return first, second


def _exact_moments(X: Rows, kept: np.ndarray, columns: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean and variance of these columns over the rows where ``kept`` (m,) is true."""
    blocks, count = list(design_of(X, False).blocks(1)), int(kept.sum())

    def in_block(rows: slice) -> np.ndarray:
        return _dense(X[rows][kept[rows]][:, columns])

    mean = np.sum([in_block(rows).sum(axis=0) for rows in blocks], axis=0) / count
    return mean, np.sum([((in_block(rows) - mean) ** 2).sum(axis=0) for rows in blocks], axis=0) / count


def _dense(X: Features) -> np.ndarray:
    return X.toarray() if isinstance(X, csr_array) else X


def rescaled_preconditioner(objective: Objective, w: Weights, preconditioner: Preconditioner) -> Preconditioner:
    """M^-1 corrected for the penalties after removal, for maps of blocks (P, G).  Where features are standardised
    again, the penalty of an intercept changes by a rank-one term, which may be hundreds of times the curvature that M
    has in its direction."""
    penalty = w.penalty
    if penalty is None or penalty.direction is None or not objective.convex or not penalty.direction.any():
        return preconditioner
    directions = np.zeros_like(penalty.direction)
    directions[-1] = np.sqrt(objective.penalty.ridge[-1] * np.maximum(1.0 - penalty.scaling[len(directions) - 1], 0.0))
    along = np.stack([penalty.direction, directions])
    return with_terms(preconditioner, along, np.array([1.0, -1.0]), objective.outputs)
