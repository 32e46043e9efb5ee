"""Small networks of every family of outputs, and the passes' blocks so short that sums cross their borders."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from oracle import LINEAR, LOGISTIC, SOFTMAX

from influence_cli.core.objectives import mlp
from influence_cli.core.objectives.families.gaussian import Gaussian
from influence_cli.core.objectives.families.logistic import Logistic
from influence_cli.core.objectives.families.softmax import Softmax
from influence_cli.core.objectives.mlp import GAUSS_NEWTON, HESSIAN, Form, Mlp
from influence_cli.core.objectives.networks import kfac

ROWS, GROUPS = 150, 3
FAMILIES = {SOFTMAX: (lambda: Softmax(3), 3), LOGISTIC: (Logistic, 2), LINEAR: (Gaussian, 0)}
CASES = [
    (kind, hidden, activation)
    for kind in FAMILIES
    for hidden, activation in (((4,), "tanh"), ((4, 3), "sigmoid"), ((3, 4, 2), "tanh"))
]
each_case = pytest.mark.parametrize(("kind", "hidden", "activation"), CASES)
each_curvature = pytest.mark.parametrize("curvature", (HESSIAN, GAUSS_NEWTON))


BIASES = {"intercept", "penalize_intercept"}


def short_blocks(monkeypatch) -> None:
    """Passes of 64 rows, and of 40 for the dense matrix: every sum crosses block borders."""
    monkeypatch.setattr(mlp, "SIGNAL_NUMBERS", 1)
    monkeypatch.setattr(mlp, "DENSE_ROWS", 40)
    monkeypatch.setattr(kfac, "ROWS", 40)


def make(kind: str, hidden: tuple[int, ...] = (4, 3), activation: str = "tanh", *, rows: int = ROWS, **options) -> Mlp:
    rng = np.random.default_rng(3)
    family, classes = FAMILIES[kind]
    X = rng.normal(size=(rows, 3))
    scores = np.sin(X @ rng.normal(size=(3, max(classes, 1)))) + 0.3 * rng.normal(size=(rows, max(classes, 1)))
    y = scores.argmax(axis=1) if classes else scores[:, 0]
    form = Form(hidden, options.pop("l2", 0.02), activation, **{key: options.pop(key) for key in BIASES & set(options)})
    return Mlp(X, y, family(), form, **options)


def draw(objective: Mlp, rng: np.random.Generator, count: int) -> np.ndarray:
    return 0.7 * rng.normal(size=(objective.size, count))


def broadcasts(objective: Mlp, rng: np.random.Generator):
    """theta and weights, shared and per group in every combination; the weights of both signs."""
    weights = rng.normal(size=(len(objective.y), GROUPS)) / len(objective.y)
    for shared_theta, shared_weights in itertools.product((True, False), repeat=2):
        yield draw(objective, rng, 1 if shared_theta else GROUPS), weights[:, 0] if shared_weights else weights
