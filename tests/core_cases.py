"""Small problems as oracles, the same problems as objectives of the core, and the tolerances of the core's tests."""

from __future__ import annotations

import numpy as np
from oracle import LINEAR, LOGISTIC, SOFTMAX, Oracle

from influence_cli.core.objectives.families.base import Family
from influence_cli.core.objectives.families.gaussian import Gaussian
from influence_cli.core.objectives.families.logistic import Logistic
from influence_cli.core.objectives.families.softmax import Softmax
from influence_cli.core.objectives.glm import Glm
from influence_cli.core.weights import RowWeights, Weights

DIRECT = 1e-8
"""Relative error of what was solved through a Cholesky factor."""
ROUNDING = 1e-11
"""Relative error of sums that differ only in their order."""
DIFFERENCE = 1e-6
"""Relative error of central finite differences."""

KINDS = (LOGISTIC, SOFTMAX, LINEAR)
INTERCEPTS = {"none": (False, False), "free": (True, False), "penalised": (True, True)}
CASES = [(kind, intercept) for kind in KINDS for intercept in INTERCEPTS]


def make_oracle(
    kind: str, intercept: str = "free", *, m: int = 60, d: int = 3, l2: float = 0.05, seed: int = 0
) -> Oracle:
    """Rows with some signal and some noise, so that no method is trivially right."""
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(m, d)) * np.linspace(0.7, 1.5, d) + 0.3
    classes = {LOGISTIC: 2, SOFTMAX: 3, LINEAR: 0}[kind]
    scores = X @ rng.normal(size=(d, max(classes, 1))) + rng.normal(size=(m, max(classes, 1)))
    y = scores[:, 0] + 0.7 if kind == LINEAR else scores.argmax(axis=1)
    with_intercept, penalised = INTERCEPTS[intercept]
    return Oracle(kind, X, y, classes, l2, with_intercept, penalised)


def family(oracle: Oracle) -> Family:
    return {LOGISTIC: Logistic, LINEAR: Gaussian, SOFTMAX: lambda: Softmax(oracle.classes)}[oracle.kind]()


def make_objective(oracle: Oracle, weights: np.ndarray | None = None) -> Glm:
    return Glm(
        oracle.X,
        oracle.y,
        family(oracle),
        l2=oracle.l2,
        intercept=oracle.intercept,
        penalize_intercept=oracle.penalize_intercept,
        weights=weights,
    )


def weights_of(w: np.ndarray) -> RowWeights:
    """Any weights, (m,) for all groups or (m, G) a column a group, as the core takes them."""
    if w.ndim == 1:
        return w
    rows = tuple(np.flatnonzero(column) for column in w.T)
    membership = tuple(column[chosen] for column, chosen in zip(w.T, rows, strict=True))
    return Weights(np.ones(len(w)), rows, np.zeros(len(rows)), np.ones(len(rows)), membership)


def dense_weights(weights: Weights) -> np.ndarray:
    """The weights of every row for every group, (m, G)."""
    return np.column_stack([weights.column(g) for g in range(weights.groups)])


def relative_error(found: np.ndarray, expected: np.ndarray) -> float:
    """Norm of the difference over the norm of what was expected, over the whole array."""
    assert found.shape == expected.shape, (found.shape, expected.shape)
    return float(np.linalg.norm(found - expected)) / max(float(np.linalg.norm(expected)), 1e-12)


def worst_error(found: np.ndarray, expected: np.ndarray) -> float:
    """The largest relative error of a row: a small group's error must not hide behind a large group's change."""
    return max(relative_error(one, other) for one, other in zip(found, expected, strict=True))
