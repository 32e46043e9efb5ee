"""Random small problems, retrained by the core and by a dense Newton method that shares no code with it."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from influence_cli.core.objectives.families.binomial import Binomial
from influence_cli.core.objectives.families.gaussian import Gaussian
from influence_cli.core.objectives.families.logistic import Logistic
from influence_cli.core.objectives.families.poisson import Poisson
from influence_cli.core.objectives.families.signed import Signed
from influence_cli.core.objectives.families.softmax import Softmax
from influence_cli.core.objectives.glm import Glm
from influence_cli.core.outcome import after_removal, before_removal
from influence_cli.core.quantities import Logit, Prediction, Probability, RowTarget
from influence_cli.core.removal import PENALTY_SCALINGS, removal
from influence_cli.core.retraining import retrain
from influence_cli.core.solvers.choice import make_solver
from influence_cli.core.training import train
from influence_cli.errors import NotConvergedError

KINDS = ("linear", "logistic", "softmax", "poisson", "binomial", "ridge-classifier")
CLASSES = ("logistic", "softmax", "ridge-classifier")
FAMILIES = {
    "linear": Gaussian(),
    "logistic": Logistic(),
    "softmax": Softmax(3),
    "poisson": Poisson(),
    "binomial": Binomial(),
    "ridge-classifier": Signed(2),
}
PENALTIES = (0.0, 1e-4, 1e-2, 1.0, 10.0)
SIZES = ("one", "few", "tenth", "half", "most", "class")


@dataclass(frozen=True)
class Problem:
    """Rows X (m, d), y, weights w (m,) that sum to 1, a penalty, and a group; the last row of X_all is the test row."""

    kind: str
    X: np.ndarray
    y: np.ndarray
    w: np.ndarray
    x_test: np.ndarray
    l2: float
    intercept: str
    scaling: str
    group: np.ndarray

    def scaled(self, features: float, response: float) -> Problem:
        """The same problem in other units: of the features, all alike, and of the response of a linear regression."""
        response = response if self.kind == "linear" else 1.0
        return replace(
            self,
            X=self.X * features,
            x_test=self.x_test * features,
            y=self.y * response if self.kind == "linear" else self.y,
            l2=self.l2 * features**2,
        )


def draw(seed: int) -> Problem:
    """A problem; every kind, penalty, intercept, convention and size comes up."""
    rng = np.random.default_rng(seed)
    kind, size = KINDS[seed % len(KINDS)], SIZES[rng.integers(len(SIZES))]
    m, d = int(rng.integers(24, 70)), int(rng.integers(1, 5))
    X = rng.normal(size=(m + 1, d)) * 10.0 ** rng.uniform(-1, 1, size=d)
    beta = rng.normal(size=(d, 3)) / np.abs(X).mean(axis=0)[:, None]
    eta = X @ beta
    if kind == "linear":
        y = eta[:, 0] + rng.normal(size=m + 1)
    elif kind == "poisson":
        y = rng.poisson(np.exp(np.clip(0.4 * eta[:, 0], -3, 3))).astype(float)
    elif kind == "binomial":
        trials = rng.integers(1, 9, size=m + 1)
        y = rng.binomial(trials, 1.0 / (1.0 + np.exp(-np.clip(0.4 * eta[:, 0], -3, 3)))) / trials
    elif kind in ("logistic", "ridge-classifier"):
        y = (eta[:, 0] + 2 * rng.logistic(size=m + 1) > 0).astype(int)
    else:
        y = (eta + 2 * rng.gumbel(size=(m + 1, 3))).argmax(axis=1)
    w = rng.uniform(0.5, 2.0, size=m) if rng.random() < 0.4 else np.ones(m)
    counts = {"one": 1, "few": 3, "tenth": max(1, m // 10), "half": m // 2, "most": int(0.95 * m)}
    if size == "class" and kind in CLASSES:
        group = np.flatnonzero(y[:m] == y[0])
    else:
        group = np.sort(rng.choice(m, counts.get(size, 5), replace=False))
    intercept = ("free", "none", "penalised")[rng.integers(3)]
    l2 = PENALTIES[rng.integers(len(PENALTIES))] * (np.abs(X).mean() ** 2)
    scaling = PENALTY_SCALINGS[rng.integers(2)]
    return Problem(kind, X[:m], y[:m], w / w.sum(), X[m], l2, intercept, scaling, group)


@dataclass(frozen=True)
class Figure:
    """f before removal, its change, how far that may be off, and what is said of it."""

    base: float
    change: float
    error: float
    status: str


def by_the_core(problem: Problem) -> Figure | None:
    """The truth as ``groundtruth`` finds it; None where the model itself has no minimum."""
    family = FAMILIES[problem.kind]
    objective = Glm(
        problem.X,
        problem.y,
        family,
        l2=problem.l2,
        intercept=problem.intercept != "none",
        penalize_intercept=problem.intercept == "penalised",
        weights=problem.w,
    )
    try:
        theta = train(objective).theta
        solver = make_solver(objective, theta, "cholesky")
    except NotConvergedError:
        return None
    quantity = Logit(family, 0) if problem.kind in CLASSES else Prediction(family)
    quantity = Probability(family) if problem.kind == "softmax" else quantity
    target = RowTarget(objective, quantity, problem.x_test[None], np.zeros(1, dtype=np.int64))
    base = target.value(theta)[:, 0]
    gone = removal(problem.w, [problem.group], problem.scaling)
    minimum = retrain(objective, theta, gone.removed, preconditioner=solver.preconditioner)
    before = before_removal(objective, [target], theta, base, solver.preconditioner)
    found = after_removal(objective, [target], before, minimum, gone.removed, 1e-8)
    return Figure(float(base[0]), float(found.change[0, 0]), float(found.error[0, 0]), found.status[0])


def by_dense_newton(problem: Problem) -> Figure:
    """The same by a dense Newton method on standardised features, from zero."""
    kept = problem.w.copy()
    kept[problem.group] = 0.0
    if problem.scaling == "per-mean":
        kept /= kept.sum()
    base, fine = _minimise(problem, problem.w)
    after, done = _minimise(problem, kept)
    return Figure(base, after - base, 0.0, "ok" if fine and done else "no minimum found")


def _minimise(problem: Problem, w: np.ndarray) -> tuple[float, bool]:
    """f at the minimum, and whether one was found."""
    K = 3 if problem.kind == "softmax" else 1
    unit = np.abs(problem.X).mean(axis=0)
    ones = [] if problem.intercept == "none" else [np.ones(len(problem.X))]
    A = np.column_stack([problem.X / unit, *ones])
    a = np.append(problem.x_test / unit, np.ones(len(ones)))
    ridge = np.append(problem.l2 / unit**2, np.full(len(ones), problem.l2 if problem.intercept == "penalised" else 0.0))
    R = np.tile(ridge, K)
    size = 1.0 if problem.kind != "linear" else max(float(np.abs(problem.y).max()), 1e-300)
    theta, target = np.zeros(K * A.shape[1]), problem.y / size if problem.kind == "linear" else problem.y
    done = False
    for _ in range(200):
        value, residual, curvature = _rows(problem.kind, A @ theta.reshape(K, -1).T, target)
        J = w @ value + 0.5 * (R * theta) @ theta
        g = ((w[:, None] * residual).T @ A).ravel() + R * theta
        H = np.einsum("i,ikl,ij,in->kjln", w, curvature, A, A).reshape(len(theta), -1) + np.diag(R)
        values, basis = np.linalg.eigh(H)
        held = values > 1e-13 * max(values.max(), 1e-300)
        along = basis[:, held].T @ g
        step = -basis[:, held] @ (along / values[held])
        if np.sqrt((along**2 / values[held]).sum()) < 1e-14 * max(1.0, np.abs(theta).max()):
            done = bool(held.sum() >= len(theta) - (K == 3) * (ridge == 0).sum())
            break
        share = 1.0
        while share > 1e-10:
            trial = theta + share * step
            there = w @ _rows(problem.kind, A @ trial.reshape(K, -1).T, target)[0] + 0.5 * (R * trial) @ trial
            if there <= J + 1e-15 * abs(J):
                break
            share /= 2
        theta = theta + share * step
    eta = theta.reshape(K, -1) @ a
    if problem.kind == "softmax":
        p = np.exp(eta - eta.max())
        return float(p[0] / p.sum()), done
    if problem.kind == "ridge-classifier":
        return float(-eta[0]), done
    if problem.kind in ("logistic", "binomial"):
        f = -eta[0] if problem.kind == "logistic" else 1.0 / (1.0 + np.exp(-eta[0]))
        return float(f), done and bool(np.abs(theta).max() < 50)
    return float(np.exp(eta[0]) if problem.kind == "poisson" else eta[0] * size), done and bool(
        problem.kind == "linear" or np.abs(theta).max() < 25
    )


def _rows(kind: str, eta: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Losses (m,), residuals (m, K) and curvatures (m, K, K) of the rows."""
    if kind == "linear":
        return 0.5 * (eta[:, 0] - y) ** 2, eta - y[:, None], np.ones((len(y), 1, 1))
    if kind == "ridge-classifier":
        return _rows("linear", eta, 2.0 * y - 1.0)
    if kind == "poisson":
        mean = np.exp(np.minimum(eta, 200.0))
        return mean[:, 0] - y * eta[:, 0], mean - y[:, None], mean[:, :, None]
    if kind in ("logistic", "binomial"):
        p = 1.0 / (1.0 + np.exp(-np.clip(eta, -500, 500)))
        return np.logaddexp(0.0, eta[:, 0]) - y * eta[:, 0], p - y[:, None], (p * (1 - p))[:, :, None]
    p = np.exp(eta - eta.max(axis=1, keepdims=True))
    p /= p.sum(axis=1, keepdims=True)
    one = np.eye(3)[y]
    loss = np.log(np.exp(eta - eta.max(axis=1, keepdims=True)).sum(axis=1)) + eta.max(axis=1) - (eta * one).sum(axis=1)
    return loss, p - one, p[:, :, None] * np.eye(3) - p[:, :, None] * p[:, None, :]


def disagreement(found: Figure, other: Figure) -> float:
    """|difference| over |change|, less what ``found`` says it may be off: at most 1e-6 is agreement."""
    length = max(abs(other.change), 1e-300)
    return max(0.0, abs(found.change - other.change) - found.error) / length
