"""The formulas once more, dense: the oracle that the core is checked against.

Written with numpy.linalg only and without anything of influence_cli, from the definitions: derivatives of a row's loss
are moments that are summed outcome by outcome, every Hessian is a full (P, P) matrix, and a softmax keeps its gauge:
its singular Hessian is inverted by ``pinv``, so that fixing the gauge is checked as well.

theta is (P,) with P = K D, output after output, the intercept last in each.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

LOGISTIC, SOFTMAX, LINEAR = "logistic", "softmax", "linear"
PINV_CUT = 1e-11
"""Relative eigenvalue under which a direction of the Hessian is the gauge's."""


@dataclass(frozen=True)
class Oracle:
    """A model on its rows: ``kind`` is logistic (y in 0, 1), softmax (y in 0..classes-1) or linear."""

    kind: str
    X: np.ndarray
    y: np.ndarray
    classes: int
    l2: float
    intercept: bool = True
    penalize_intercept: bool = False
    weights: np.ndarray | None = None
    """Training weights of the rows up to a factor; None for equal ones."""

    @property
    def outputs(self) -> int:
        return self.classes if self.kind == SOFTMAX else 1

    @property
    def penalty(self) -> np.ndarray:
        """lambda R, (P, P)."""
        each = np.full(self.X.shape[1] + self.intercept, self.l2)
        if self.intercept and not self.penalize_intercept:
            each[-1] = 0.0
        return np.diag(np.tile(each, self.outputs))

    def features(self, X: np.ndarray) -> np.ndarray:
        return np.column_stack([X, np.ones(len(X))]) if self.intercept else np.asarray(X)

    def eta(self, theta: np.ndarray, X: np.ndarray) -> np.ndarray:
        """Outputs, (n, K)."""
        return self.features(X) @ theta.reshape(self.outputs, -1).T

    # Rows: losses and derivatives in the outputs

    def losses(self, theta: np.ndarray, X: np.ndarray, y: np.ndarray) -> np.ndarray:
        """(n,)."""
        eta = self.eta(theta, X)
        if self.kind == LINEAR:
            return 0.5 * (y - eta[:, 0]) ** 2
        return -np.log(self._laws(eta)[np.arange(len(y)), y])

    def slopes(self, theta: np.ndarray, X: np.ndarray, y: np.ndarray) -> np.ndarray:
        """d loss / d eta, (n, K)."""
        eta = self.eta(theta, X)
        if self.kind == LINEAR:
            return eta - y[:, None]
        return self._laws(eta) @ self._statistics - self._statistics[y]

    def _laws(self, eta: np.ndarray) -> np.ndarray:
        """Probabilities of the classes of rows with outputs (n, K), (n, classes)."""
        scores = np.column_stack([np.zeros(len(eta)), eta]) if self.kind == LOGISTIC else eta
        odds = np.exp(scores - scores.max(axis=1, keepdims=True))
        return odds / odds.sum(axis=1, keepdims=True)

    @property
    def _statistics(self) -> np.ndarray:
        """The sufficient statistic of each class, (classes, K): the loss is log-normaliser - eta' statistic."""
        return np.array([[0.0], [1.0]]) if self.kind == LOGISTIC else np.eye(self.classes)

    def _cumulants(self, eta: np.ndarray, order: int) -> np.ndarray:
        """The second (n, K, K) or third (n, K, K, K) derivative of rows' losses: central moments of the statistic."""
        if self.kind == LINEAR:
            return np.full((len(eta),) + (1,) * order, 1.0 if order == 2 else 0.0)
        laws = self._laws(eta)
        centred = self._statistics - (laws @ self._statistics)[:, None]  # (n, classes, K)
        if order == 2:
            return np.einsum("nk,nka,nkb->nab", laws, centred, centred)
        return np.einsum("nk,nka,nkb,nkc->nabc", laws, centred, centred, centred)

    # The objective and its derivatives in theta

    def value(self, theta: np.ndarray, w: np.ndarray) -> float:
        return float(w @ self.losses(theta, self.X, self.y) + 0.5 * theta @ self.penalty @ theta)

    def row_gradients(self, theta: np.ndarray) -> np.ndarray:
        """grad l_i, (m, P)."""
        slopes = self.slopes(theta, self.X, self.y)
        return np.einsum("na,nd->nad", slopes, self.features(self.X)).reshape(len(slopes), -1)

    def row_hessians(self, theta: np.ndarray) -> np.ndarray:
        """hess l_i, (m, P, P)."""
        x, P = self.features(self.X), len(theta)
        return np.einsum("nab,nd,ne->nadbe", self._cumulants(self.eta(theta, self.X), 2), x, x).reshape(-1, P, P)

    def gradient(self, theta: np.ndarray, w: np.ndarray) -> np.ndarray:
        return w @ self.row_gradients(theta) + self.penalty @ theta

    def hessian(self, theta: np.ndarray, w: np.ndarray) -> np.ndarray:
        return np.einsum("i,ipq->pq", w, self.row_hessians(theta)) + self.penalty

    def third(self, theta: np.ndarray, w: np.ndarray, u: np.ndarray) -> np.ndarray:
        """sum_i w_i l_i'''[u, u], (P,)."""
        x = self.features(self.X)
        moved = x @ u.reshape(self.outputs, -1).T
        cumulants = self._cumulants(self.eta(theta, self.X), 3)
        return np.einsum("n,nabc,nb,nc,nd->ad", w, cumulants, moved, moved, x, optimize=True).ravel()

    def uniform(self) -> np.ndarray:
        return np.full(len(self.X), 1.0 / len(self.X))

    def training(self) -> np.ndarray:
        """Weights in training, summing to 1."""
        return self.uniform() if self.weights is None else self.weights / self.weights.sum()

    def minimise(self, w: np.ndarray, start: np.ndarray | None = None) -> np.ndarray:
        """The minimiser of J(.; w) by Newton steps, halved while J rises; without a part along the gauge."""
        theta = np.zeros(len(self.penalty)) if start is None else start
        for _ in range(100):
            gradient = self.gradient(theta, w)
            step = -inverse(self.hessian(theta, w)) @ gradient
            size, value = 1.0, self.value(theta, w)
            while self.value(theta + size * step, w) > value + 1e-14 and size > 1e-9:
                size /= 2
            theta = theta + size * step
            if np.linalg.norm(gradient) < 1e-14:
                break
        assert np.linalg.norm(self.gradient(theta, w)) < 1e-12
        return theta

    # Removal

    def weights_without(self, group: np.ndarray, scaling: str) -> np.ndarray:
        """The kept rows' weights, scaled up to sum to 1 again (per-mean) or as they are (per-sum)."""
        kept = self.training()
        kept[group] = 0.0
        return kept / (kept.sum() if scaling == "per-mean" else 1.0)

    def refit_change(self, theta: np.ndarray, group: np.ndarray, scaling: str) -> np.ndarray:
        """What every estimator estimates."""
        return self.minimise(self.weights_without(group, scaling), start=theta) - theta

    def changes(self, theta: np.ndarray, group: np.ndarray, scaling: str) -> dict[str, np.ndarray]:
        """Estimated change of theta on removal of the group, a method a key (DESIGN 2.2 and 2.3)."""
        before, after = self.training(), self.weights_without(group, scaling)
        delta = before - after
        gradients, hessians = self.row_gradients(theta), self.row_hessians(theta)
        H = np.einsum("i,ipq->pq", before, hessians) + self.penalty
        D = np.einsum("i,ipq->pq", delta, hessians)
        theta1 = -inverse(H) @ (delta @ gradients)
        theta2 = -inverse(H) @ (D @ theta1)
        bend = -inverse(H) @ (0.5 * self.third(theta, before, theta1))
        return {
            "first-koh": inverse(H) @ (before[group] @ gradients[group]),
            "first": -theta1,
            "second": -theta1 + theta2,
            "second-full": -theta1 + theta2 + bend,
            "newton": -inverse(self.hessian(theta, after)) @ self.gradient(theta, after),
            "rif": self._single_steps(theta, group, scaling, H),
        }

    def _single_steps(self, theta: np.ndarray, group: np.ndarray, scaling: str, H: np.ndarray) -> np.ndarray:
        """sum_U (H - w_i hess l_i)^-1 w_i (grad l_i + c); c = -sum_j w_j grad l_j per-mean, else 0."""
        w, gradients, hessians = self.uniform(), self.row_gradients(theta), self.row_hessians(theta)
        c = -w @ gradients if scaling == "per-mean" else 0.0
        return np.sum([inverse(H - w[i] * hessians[i]) @ (w[i] * (gradients[i] + c)) for i in group], axis=0)

    # Quantities of test rows

    def quantity(self, name: str, theta: np.ndarray, X: np.ndarray, y: np.ndarray) -> np.ndarray:
        """loss, prob, margin, logit:K (K a class code) or prediction of each row, (T,)."""
        if name == "loss":
            return self.losses(theta, X, y)
        if name == "prob":
            return np.exp(-self.losses(theta, X, y))
        scores = self._scores(theta, X)
        if name == "prediction":
            return scores[:, 0]
        if name.startswith("logit:"):
            k = int(name.removeprefix("logit:"))
            return scores[:, k] - (scores[:, 1 - k] if self.kind == LOGISTIC else 0.0)
        rivals = np.array([np.delete(row, label).max() for row, label in zip(scores, y, strict=True)])
        return scores[np.arange(len(y)), y] - rivals

    def quantity_gradient(self, name: str, theta: np.ndarray, X: np.ndarray, y: np.ndarray) -> np.ndarray:
        """grad f, a row a test row: (T, P)."""
        by_output = [self._quantity_slope(name, eta, label) for eta, label in zip(self.eta(theta, X), y, strict=True)]
        if name in ("loss", "prob"):
            by_output = list(self.slopes(theta, X, y))
        if name == "prob":
            by_output = list(-np.exp(-self.losses(theta, X, y))[:, None] * np.array(by_output))
        return np.array([np.kron(slope, x) for slope, x in zip(by_output, self.features(X), strict=True)])

    def _scores(self, theta: np.ndarray, X: np.ndarray) -> np.ndarray:
        """One score a class (one in all for a regression); 0 for the class 0 of two."""
        eta = self.eta(theta, X)
        return np.column_stack([np.zeros(len(X)), eta[:, 0]]) if self.kind == LOGISTIC else eta

    def _quantity_slope(self, name: str, eta: np.ndarray, label: int) -> np.ndarray:
        """d f / d eta of margin, logit:K and prediction, (K,)."""
        if self.kind == LINEAR:
            return np.ones(1)
        if name.startswith("logit:"):
            label = int(name.removeprefix("logit:"))
        if self.kind == LOGISTIC:
            return np.array([1.0 if label == 1 else -1.0])
        slope = np.eye(self.classes)[label]
        if name == "margin":
            scores = eta.copy()
            scores[label] = -np.inf
            slope = slope - np.eye(self.classes)[scores.argmax()]
        return slope


def inverse(H: np.ndarray) -> np.ndarray:
    """The inverse of a symmetric matrix on everything but its null space."""
    return np.linalg.pinv(H, rcond=PINV_CUT, hermitian=True)


def central_difference(f, at: np.ndarray, direction: np.ndarray, step: float = 1e-5) -> np.ndarray:
    """d f(at + t direction) / dt at t = 0, to about step^2."""
    return (f(at + step * direction) - f(at - step * direction)) / (2 * step)
