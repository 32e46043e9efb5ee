"""Regression diagnostics of single rows, and Cook's distance of groups, from one pass and the inverse of the Hessian
(docs/design.md, section 2.12).

With e_i = dl_i/d eta (fitted minus observed), c_i = d2l_i/d eta2 (the variance of the response where the dispersion is
1), n rows of weights w_i that sum to 1, P parameters, and H the Hessian of J including the penalty:

    leverage          h_i = w_i c_i x_i' H^-1 x_i
    Pearson residual  r_i = -e_i sqrt(n w_i / c_i)
    dispersion        phi = sum r_i^2 / (n - P) of a linear regression, else 1
    studentized       r_i / sqrt(s_i (1 - h_i)), s_i = phi; for a linear regression, phi without row i
    Cook's distance   r_i^2 h_i / (phi P (1 - h_i)^2)
    DFFITS            studentized_i sqrt(h_i / (1 - h_i))
    DFBETAS           -w_i e_i (H^-1 x_i)_j / ((1 - h_i) sqrt(s_i (H^-1)_jj / n))

For linear regression all are exact (Belsley, Kuh and Welsch 1980); for the other models they are one Newton step
(Pregibon 1981).  Without a penalty they agree with statsmodels' OLSInfluence and GLMInfluence.  DFFITS and DFBETAS have
the field's sign, all rows minus without the row: the opposite of every other figure here.  For a group U,

    Cook's distance   n change' H change / (phi P)

with the change of theta by ``newton`` under the ``per-sum`` convention.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from influence_cli.core.estimators import estimate
from influence_cli.core.objectives.families.binomial import Binomial
from influence_cli.core.objectives.families.gaussian import Gaussian
from influence_cli.core.objectives.families.logistic import Logistic
from influence_cli.core.objectives.families.poisson import Poisson
from influence_cli.core.objectives.glm import Glm
from influence_cli.core.objectives.objective import Objective
from influence_cli.core.recession import recession
from influence_cli.core.removal import PER_SUM, removal
from influence_cli.core.solvers.choice import HessianSolver
from influence_cli.errors import UsageError

DETERMINED = 1e-8
"""1 - h below which a row alone determines a parameter, so that its figures have no correct digits."""


@dataclass(frozen=True)
class RowDiagnostics:
    """Arrays (m,), and ``dfbetas`` (m, P); all but ``leverage`` are NaN for a row of leverage 1."""

    leverage: np.ndarray
    studentized: np.ndarray
    cooks_distance: np.ndarray
    dffits: np.ndarray
    dfbetas: np.ndarray
    dispersion: float


def row_diagnostics(
    objective: Objective, theta: np.ndarray, solver: HessianSolver, observations: float | None = None
) -> RowDiagnostics:
    """The diagnostics of every row at theta (P, 1).

    ``observations`` replaces n where a row stands for several observations: it is the sum of their exposures or trials.

    Raises UsageError for models other than linear, binary logistic, binomial and Poisson regression, and where there
    are too few rows for the parameters.
    """
    model = _regression(objective)
    w, size = model.weights, model.size
    counted = float(np.count_nonzero(w)) if observations is None else observations
    inverse = solver.solve(np.eye(size, order="F")).x
    every = np.ones(size - model.design.intercept, dtype=bool)

    def of_block(rows: slice) -> tuple[np.ndarray, ...]:
        features = np.ones((rows.stop - rows.start, size))
        features[:, : len(every)] = model.design.dense(rows, every)
        eta, moved = model.passes.outputs(theta, rows), features @ inverse
        curved = model.family.pair(model.family.curvature_state(eta), 0, 0)[0]
        lever = w[rows] * curved * np.einsum("nd,nd->n", moved, features)
        return lever, model.family.residual(eta, model.y[rows])[0, 0], curved, moved

    leverage, residual, curvature, moves = map(np.concatenate, zip(*model.design.each(of_block, size), strict=True))
    linear = isinstance(model.family, Gaussian)
    with np.errstate(divide="ignore", invalid="ignore"):
        pearson = np.where(w > 0, -residual * np.sqrt(counted * w / curvature), 0.0)
        kept = np.where(1.0 - leverage > DETERMINED, 1.0 - leverage, np.nan)
        dispersion = float(pearson @ pearson) / (counted - size) if linear else 1.0
        scale = np.full(len(w), dispersion)
        if linear:
            scale = ((counted - size) * dispersion - pearson**2 / kept) / (counted - size - 1)
        studentized = pearson / np.sqrt(scale * kept)
        cooks = pearson**2 * leverage / (dispersion * size * kept**2)
        dffits = studentized * np.sqrt(leverage / kept)
        moves *= (-w * residual / (kept * np.sqrt(scale)))[:, None]
        moves /= np.sqrt(inverse.diagonal() / counted)
    return RowDiagnostics(leverage, studentized, cooks, dffits, moves, dispersion)


def groups_cooks_distance(
    objective: Objective,
    theta: np.ndarray,
    solver: HessianSolver,
    groups: list[np.ndarray],
    dispersion: float,
    observations: float | None = None,
) -> np.ndarray:
    """Cook's distance of G groups of rows, (G,); NaN where the remaining rows do not determine the parameters, or the
    model has no minimum without the group."""
    gone = removal(objective.weights, groups, PER_SUM)
    newton = estimate(objective, theta, solver, gone, ("newton",))["newton"]
    assert newton.change is not None
    open_ended = recession(objective, theta, gone.removed)
    if open_ended is not None:
        newton.change[:, np.flatnonzero(open_ended.direction.any(axis=0))] = np.nan
        newton.change[:, list(open_ended.settled)] = np.nan
    counted = np.count_nonzero(objective.weights) if observations is None else observations
    distance = counted * (newton.change * solver.product(newton.change)).sum(axis=0) / (dispersion * objective.size)
    return np.where([problem == "ok" for problem in newton.problems], distance, np.nan)


def _regression(objective: Objective) -> Glm:
    if not isinstance(objective, Glm) or not isinstance(objective.family, Gaussian | Logistic | Poisson | Binomial):
        raise UsageError(
            "diagnostics are defined for linear, binary logistic, binomial and Poisson regression",
            hint="--method rif ranks the rows of any model with linear outputs",
        )
    counted = np.count_nonzero(objective.weights)
    if counted <= objective.size + 1:
        raise UsageError(f"diagnostics need more rows than parameters: {counted:,} rows, {objective.size:,} parameters")
    return objective
