"""The Wald statistic of a coefficient, and its distance from significance, as functions of theta and the remaining rows
(docs/design.md, sections 2.4 and 2.5).

With weights w of any sum, n rows with a weight over 0, P parameters, H = sum_i w_i hess l_i and no penalty,

    t = theta_j / sqrt(phi (H^-1)_jj)       phi = 2 sum_i w_i l_i / (n - P) of a linear regression,
                                            else the weight in w of one observation

which statsmodels calls tvalues.  Where the remaining rows do not determine every parameter (a column that is nonzero in
the group only), the parameters that are estimable keep their t: x solves H x = e_j, and P is the rank of H.  A
coefficient is significant at 5% if |t| exceeds the .975 quantile, of Student's distribution with n - P degrees of
freedom for a linear regression and of the normal distribution for the other models.

Removal changes t directly and through theta.  With x = H^-1 e_j and V = (H^-1)_jj, to first order in row i,

    directly        -t/2 (w_i x' hess l_i x / V  +  (phi - 2 w_i l_i) / ((n - P) phi) of a linear regression)
    through theta   (e_j / sqrt(phi V) + t/2 H'[x, x] / V)' change of theta

with H'[x, x] the third derivative contracted twice with x.  Sources: Wald 1943; Cook and Weisberg 1982 call the first
the change of the standard error.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np

from influence_cli.core.objectives.families.binomial import Binomial
from influence_cli.core.objectives.families.gaussian import Gaussian
from influence_cli.core.objectives.families.logistic import Logistic
from influence_cli.core.objectives.families.poisson import Poisson
from influence_cli.core.objectives.glm import Glm
from influence_cli.core.objectives.objective import Objective
from influence_cli.core.optimise.newton import DEPENDENT, LEAST_SIZE, inverses
from influence_cli.core.optimise.restarts import has_cheap_factor
from influence_cli.core.solvers.cholesky import factorize
from influence_cli.core.solvers.refinement import HessianAt, refined_conjugate_gradient
from influence_cli.core.weights import Weights, as_weights
from influence_cli.errors import UsageError

LEVEL = 0.05
"""Level of significance."""
DETERMINED = 1e-7
"""Component of e_j in the null space of H up to which it is rounding error, so that parameter j is estimable."""


@dataclass(frozen=True)
class WaldTarget:
    """t of the parameter ``index`` for the weights w of G groups, by default the training weights.

    ``trained`` (P, 1) are the trained parameters; ``observations`` is the number of observations: phi of models other
    than linear regression is the weights' ``kept`` divided by it.  With a ``level``, f is |t| minus the quantile of
    that level, so that its sign says whether the coefficient is significant.
    """

    objective: Glm
    index: int
    trained: np.ndarray
    observations: float
    level: float | None = None
    w: Weights | None = None
    kept: dict[str, np.ndarray] = field(default_factory=dict, compare=False)

    def under(self, w: Weights) -> WaldTarget:
        """The same target under the row weights w."""
        return replace(self, w=w, kept={})

    def of(self, columns: np.ndarray) -> WaldTarget:
        """The target of the groups ``columns`` (A,)."""
        return self if self.w is None else self.under(self.w.take(columns))

    def value(self, theta: np.ndarray) -> np.ndarray:
        """f at theta (P, 1 or G), (1, G); NaN where the remaining rows do not determine the parameter."""
        t = self._statistic(theta)[0]
        return (t if self.level is None else np.abs(t) - self._quantile())[None]

    def gradient(self, theta: np.ndarray) -> np.ndarray:
        """Gradient of f at theta (P, 1) for fixed weights of the rows, (P, 1)."""
        t, x, scale = self._statistic(theta)
        slope = 0.5 * t * self.objective.third(theta, self._weights, x) / x[self.index]
        slope[self.index] += scale
        return slope * (1.0 if self.level is None else np.sign(t))

    def at_once(self, theta: np.ndarray) -> np.ndarray:
        """The direct change of f on removal of each row, for fixed theta (P, 1), divided by the weights' ``kept``:
        (m,).

        A row that has already been removed has the value that it would have were it still there.
        """
        t, x, _ = self._statistic(theta)
        base, factor = self.objective.weights, float(self._weights.kept[0])
        change = factor * base * self.objective.row_curvatures(theta, x, x)[:, 0] / x[self.index]
        if isinstance(self.objective.family, Gaussian):
            squares = factor * base * self.objective.residuals(theta)[:, 0] ** 2 / self._dispersion(theta)
            change += np.where(base > 0, (1.0 - squares) / self._freedom(), 0.0)
        return -0.5 * float(t[0]) * change / factor * (1.0 if self.level is None else np.sign(float(t[0])))

    @property
    def _weights(self) -> Weights:
        return as_weights(self.objective.weights) if self.w is None else self.w

    def _statistic(self, theta: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """t (G,), x = H^-1 e_j (P, G), and 1 / sqrt(phi V), (G,)."""
        w = self._weights
        groups = max(w.groups, theta.shape[1])
        theta = np.asfortranarray(np.broadcast_to(theta, (len(theta), groups)))
        x = self._columns(theta, w)
        with np.errstate(invalid="ignore", divide="ignore"):
            scale = 1.0 / np.sqrt(self._dispersion(theta) * x[self.index])
        return theta[self.index] * scale, x, scale

    def _columns(self, theta: np.ndarray, w: Weights) -> np.ndarray:
        """x = H^-1 e_j, (P, G); for a linear regression it is the same at every theta."""
        fixed, groups = isinstance(self.objective.family, Gaussian), theta.shape[1]
        if fixed and "x" in self.kept and self.kept["x"].shape == theta.shape:
            return self.kept["x"]
        unit = np.zeros_like(theta)
        unit[self.index] = 1.0
        if has_cheap_factor(self.objective):
            inverse, definite = inverses(self.objective, theta, w)
            x, rank = np.where(definite, inverse(unit), np.nan), np.full(groups, len(theta))
            for g in np.flatnonzero(~definite).tolist():
                one = np.array([min(g, w.groups - 1)])
                (hessian,) = self.objective.dense_curvatures(theta[:, [g]], w.take(one))
                x[:, g], rank[g] = _column(hessian, self.index)
            self.kept["rank"] = rank
        else:
            solution = refined_conjugate_gradient(
                HessianAt(self.objective, theta, w), unit, preconditioner=self._inverse, tol=1e-10
            )
            x = np.where(solution.converged, solution.x, np.nan)
        if fixed:
            self.kept["x"] = x
        return x

    @cached_property
    def _inverse(self) -> Callable[[np.ndarray], np.ndarray]:
        return factorize(self.objective, self.trained, self.objective.weights)

    def _dispersion(self, theta: np.ndarray) -> np.ndarray:
        """phi (G,), in units of the weights."""
        w = self._weights
        if isinstance(self.objective.family, Gaussian):
            freedom = self._freedom()
            return np.where(
                freedom > 0, 2.0 * self.objective.loss(theta, w) / np.where(freedom > 0, freedom, 1), np.nan
            )
        return w.kept / self.observations

    def _freedom(self) -> np.ndarray:
        """n - P, (G,), where P is the rank of H for the remaining rows."""
        weighs = self.objective.weights > 0
        left = np.count_nonzero(weighs) - self._weights.sums(weighs.astype(float))
        return left - self.kept.get("rank", np.array([self.objective.size]))

    def _quantile(self) -> np.ndarray:
        from scipy.stats import norm, t

        assert self.level is not None
        if isinstance(self.objective.family, Gaussian):
            return np.asarray(t.ppf(1.0 - self.level / 2.0, np.maximum(self._freedom(), 1e-9)))
        return np.full(len(self._freedom()), norm.ppf(1.0 - self.level / 2.0))


def _column(hessian: np.ndarray, index: int) -> tuple[np.ndarray, int]:
    """x (P,) with H x = e_j for a singular H (P, P), NaN where none exists, and the rank of H."""
    if not np.isfinite(hessian).all():
        return np.full(len(hessian), np.nan), len(hessian)
    diagonal = hessian.diagonal()
    unit = np.sqrt(np.where(diagonal > 0, diagonal, 1.0))
    values, vectors = np.linalg.eigh(hessian / unit[:, None] / unit)
    held = values > DEPENDENT * max(len(values), LEAST_SIZE) * np.finfo(float).eps * values[-1]
    if (np.abs(vectors[index, ~held]) > DETERMINED).any():
        return np.full(len(values), np.nan), int(held.sum())
    part = vectors[:, held]
    return part @ (part[index] / values[held]) / unit[index] / unit, int(held.sum())


def wald_target(
    objective: Objective, index: int, theta: np.ndarray, observations: float, level: float | None = None
) -> WaldTarget:
    """The Wald statistic of the parameter ``index`` of the model with the trained theta (P, 1).

    Raises UsageError for a model without one: with a penalty, with several outputs, or a network.
    """
    known = Gaussian | Logistic | Poisson | Binomial
    if not isinstance(objective, Glm) or not isinstance(objective.family, known):
        raise UsageError(
            "a Wald statistic is defined for linear, binary logistic, binomial and Poisson regression",
            hint="ask for --quantity param:NAME",
        )
    penalty = float(objective.penalty.ridge.max())
    if penalty > 0:
        raise UsageError(
            f"a Wald statistic has no meaning with a penalty, and the model has --l2 {penalty:g}",
            hint="train with --l2 0, or ask for --quantity param:NAME",
        )
    return WaldTarget(objective, index, theta, observations, level)
