"""H^-1 for models with fewer rows than columns: Woodbury's identity, with a matrix of the size of the rows.

With A_i = L_i L_i' (K, K) the second derivative of row i's loss, L_i (K, E), w_i its weight, B the diagonal penalty of
the slopes and Z the m E rows sqrt(w_i) L_i[:, e] (x) x_i, the slopes' block of H is B + Z'Z over all outputs and

    (B + Z'Z)^-1 = B^-1 - B^-1 Z' Q Z B^-1        Q = (I + Z B^-1 Z')^-1, (m E, m E)

The intercepts, with the rows O = sqrt(w_i) L_i[:, e]' and the penalty B0, follow from the Schur complement B0 + O' Q O.
A group's own penalty (b + s'w)^2 (``GroupPenalty.direction``) is that of an intercept b + s'w beside features x - s.
Thus m^2 D + (m E)^3 / 3 operations replace D^3 and more, and the inverse is never formed.
"""

from __future__ import annotations

import numpy as np
from scipy.linalg import cho_factor, cho_solve

from influence_cli.core.objectives.families.base import Family
from influence_cli.core.objectives.penalty import Penalty
from influence_cli.core.rows.design import Design
from influence_cli.core.weights import GroupPenalty
from influence_cli.memory import at_hand

GRAM_COLUMNS = 1 << 14
"""Columns of X that are scaled at a time, so that their scaled copy stays far smaller than X."""
LEVERAGE_NUMBERS = 1 << 22
"""Float64 numbers (32 MiB) that a block of right-hand sides for leverages may take."""
JITTER = 1e-14
"""Shift of the intercepts' matrix, relative to its diagonal; the matrix is almost 0 if a class has lost its rows."""
LEAST_OPERATIONS = 1e8
"""Multiply-adds of the D x D factors below which replacing them gains nothing."""
SAVING = 4.0
"""Ratio of operations above which the dual form pays: its smaller products run at a lower rate."""

MOST_BYTES, MEMORY_SHARE = 8e9, 0.5
"""Bytes that the rows' matrix and its factor may take, and the share of the available memory."""


def dual_operations(rows: int, outputs: int, columns: int) -> float:
    """Multiply-adds to form and factor the matrix of the rows."""
    return float(rows) ** 2 * columns + (float(rows) * outputs) ** 3 / 3


def is_wide(rows: int, outputs: int, columns: int) -> bool:
    """Whether the rows' matrix costs far less than the K factors (D, D) of a Kronecker approximation, and fits into
    memory with its factor.  The second may fail even where X is small: sparse X may be a hundred times smaller than
    that matrix."""
    if 16.0 * (float(rows) * outputs) ** 2 > min(MOST_BYTES, MEMORY_SHARE * at_hand()):
        return False
    other = float(rows) * columns**2 + outputs * float(columns) ** 3 / 3
    return other >= max(LEAST_OPERATIONS, SAVING * dual_operations(rows, outputs, columns))


class Dual:
    """r (P, A) -> H^-1 r where every slope is penalised; ``roots`` (m, K, E) are sqrt(w_i) L_i.

    ``group_penalty`` is that of the group, where its penalty differs from the objective's.
    """

    def __init__(self, design: Design, roots: np.ndarray, penalty: Penalty, group_penalty: GroupPenalty | None = None):
        self._X, self._roots, self._outputs = design.X, roots, roots.shape[1]
        d, K = design.X.shape[1], self._outputs
        ridge, intercept = penalty.ridge, penalty.ridge[d:]
        self._shift: np.ndarray | None = None
        if group_penalty is not None:
            ridge = ridge * group_penalty.scaling[: len(ridge), 0]
            if group_penalty.direction is not None:
                self._shift = group_penalty.direction[:d, 0] / group_penalty.direction[d, 0]
                intercept = group_penalty.direction[d:, 0] ** 2
        self._inverse = 1.0 / ridge[:d]
        flat = roots.transpose(0, 2, 1).reshape(-1, K)
        rows, free = roots.shape[0], roots.shape[2]
        matrix = flat @ flat.T
        matrix.reshape(rows, free, rows, free)[...] *= self._gram()[:, None, :, None]
        matrix[np.diag_indices(len(matrix))] += 1.0
        self._rows = cho_factor(matrix, lower=True, overwrite_a=True, check_finite=False)
        self._ones = flat if design.intercept else None
        if design.intercept:
            self._bent = self._Q(flat)
            small = flat.T @ self._bent + np.diag(np.repeat(intercept, K)) + penalty.gauge[d] / K
            small[np.diag_indices(K)] += np.maximum(JITTER * small.diagonal(), np.finfo(float).tiny)
            self._intercepts = cho_factor(small, check_finite=False)

    def __call__(self, r: np.ndarray) -> np.ndarray:
        count, d, K = r.shape[1], self._X.shape[1], self._outputs
        if not count:
            return np.array(r)
        stack = r.T.reshape(count, K, -1)
        right = stack[:, :, :d]
        if self._shift is not None:
            right = right - self._shift * stack[:, :, d:]
        moved = right * self._inverse
        along = self._Q(self._down(self._outputs_of(moved)))
        out = np.empty_like(stack, order="C")
        if self._ones is not None:
            free = cho_solve(self._intercepts, stack[:, :, d].T - self._ones.T @ along, check_finite=False)
            along = along + self._bent @ free
            out[:, :, d] = free.T
        out[:, :, :d] = moved - self._inverse * self._back(along, count)
        if self._shift is not None:
            out[:, :, d] -= out[:, :, :d] @ self._shift
        return out.reshape(count, -1).T

    def leverages(self, features: np.ndarray) -> np.ndarray:
        """X_i' H^-1 X_i of n rows with ``features`` (n, D), in blocks: (n, K, K)."""
        K, D = self._outputs, features.shape[1]
        out = np.empty((len(features), K, K))
        step = max(1, LEVERAGE_NUMBERS // (K * K * D))
        for start in range(0, len(features), step):
            part = features[start : start + step]
            right = np.zeros((len(part), K, K, D))
            right[:, range(K), range(K)] = part[:, None]
            solved = self(right.reshape(-1, K * D).T).T.reshape(right.shape)
            out[start : start + step] = np.einsum("nkld,nd->nkl", solved, part)
        return out

    def _Q(self, t: np.ndarray) -> np.ndarray:
        return np.asarray(cho_solve(self._rows, t, check_finite=False))

    def _outputs_of(self, moved: np.ndarray) -> np.ndarray:
        """(x_i - s)' times each output's slopes ``moved`` (A, K, d) for every row: (m, A, K)."""
        count, K, d = moved.shape
        out = np.asarray(self._X @ moved.reshape(-1, d).T).reshape(-1, count, K)
        return out if self._shift is None else out - moved @ self._shift

    def _down(self, outputs: np.ndarray) -> np.ndarray:
        """Z applied to the result of ``_outputs_of``: (m E, A)."""
        return np.einsum("ike,iak->iea", self._roots, outputs).reshape(-1, outputs.shape[1])

    def _back(self, t: np.ndarray, count: int) -> np.ndarray:
        """Z' t for t (m E, A): (A, K, d)."""
        rows, K, free = self._roots.shape
        per_output = np.einsum("ike,iea->iak", self._roots, t.reshape(rows, free, count)).reshape(rows, -1)
        out = np.asarray(self._X.T @ per_output).T.reshape(count, K, -1)
        if self._shift is not None:
            out = out - per_output.sum(axis=0).reshape(count, K, 1) * self._shift
        return out

    def _gram(self) -> np.ndarray:
        """(x_i - s)' B^-1 (x_j - s), (m, m)."""
        X, inverse = self._X, self._inverse
        if isinstance(X, np.ndarray):
            gram = np.zeros((len(X), len(X)))
            for start in range(0, X.shape[1], GRAM_COLUMNS):
                part = X[:, start : start + GRAM_COLUMNS] * np.sqrt(inverse[start : start + GRAM_COLUMNS])
                gram += part @ part.T
        else:
            gram = (X.multiply(inverse).tocsr() @ X.T).toarray()
        if self._shift is not None:
            across = X @ (inverse * self._shift)
            gram += self._shift @ (inverse * self._shift) - across[:, None] - across
        return gram


def curvature_roots(family: Family, state: np.ndarray, w: np.ndarray) -> np.ndarray:
    """sqrt(w_i) L_i with L_i L_i' the second derivative of row i's loss, from ``state`` (1, K, m) and w (m,): (m, K,
    E).

    E is K, or K - 1 where one number added to all outputs changes nothing.
    """
    K = family.outputs
    entries = np.empty((state.shape[2], K, K))
    for j in range(K):
        for k in range(j + 1):
            entries[:, j, k] = entries[:, k, j] = w * family.pair(state, j, k)[0]
    if K == 1:
        return np.sqrt(entries)
    values, vectors = np.linalg.eigh(entries)
    return (vectors * np.sqrt(np.maximum(values, 0.0))[:, None])[:, :, int(family.shift_invariant) :]
