"""A proven upper bound of the change of f over all groups of k rows, for models with one output per row.

Let W_i be the weights of the remaining rows: w_i, or per-mean w_i / (1 - p), where p is the same for all groups of k
rows if weights are equal, and has no effect without a penalty.  Let theta_0 be the minimiser of F = J(.; W) over all
rows, A the Hessian of F there, x_i the features, r_i the residuals and a_i = W_i l_i'' the curvatures at theta_0.
Removal of a group S subtracts W_i l_i of its rows from F.  With t_i = A^(-1/2) x_i, u_i = b' A^-1 x_i for a linear
functional b, q >= |M_S| and M_S = sum_S a_i t_i t_i', the step b'n = sum_S W_i r_i u_i + e of Newton's method from
theta_0 has

    e = (sum_S a_i u_i t_i)' (I - M_S)^-1 (sum_S W_i r_i t_i),      |e| <= U V / (1 - q),   e <= C + U V q / (1 - q)

(Woodbury).  U and V bound the lengths of both sums, and C bounds their inner product, over groups of k rows.  Likewise
|e| <= |sqrt(a_S) u_S| |W_S r_S / sqrt(a_S)| q / (1 - q).  sum_S W_i r_i u_i is at most the sum of its k largest
terms.  q, U^2, V^2 and C are sums over pairs of rows in S.  Leverages h_i = |t_i|^2 bound them: by the k largest a_i
h_i for q, and by the k largest c_i sqrt(h_i) with the respective factors c_i for the others.  Where t_i' t_j of all
pairs is affordable, they are also bounded by the sum of the k largest terms of each row, of which the largest
(Gershgorin, for q) or the k largest are taken.  For squared errors b'n is the change itself.  Otherwise, with
d = V / sqrt(1 - q), kappa = max_i |t_i| / sqrt(1 - q) and E = -log(1 - kappa d) / kappa as in ``core.certificate``, the
change D has |D|_H <= E in the norm of the Hessian H at theta_0 without S, and by the same bound on l''' (Bach 2010)

    |b'D - b'n| <= |b|_{H^-1} E (exp(s) - 1 - s) / s,  s = kappa E,      |b|_{H^-1} <= |A^(-1/2) b| / sqrt(1 - q)

because the change of the gradient without S from theta_0 to the new minimum differs from H D by no more than that.  If
q or kappa d reaches 1, there is no bound.  The bound of f follows from the interval of its linear functional b'theta,
in which a loss is convex and every other f monotone.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from scipy.linalg import cholesky, solve_triangular

from influence_cli.core.arrays import symmetric
from influence_cli.core.objectives.families.gaussian import Gaussian
from influence_cli.core.objectives.families.logistic import Logistic
from influence_cli.core.objectives.families.poisson import FARTHEST, Poisson
from influence_cli.core.objectives.families.signed import Signed
from influence_cli.core.objectives.glm import Glm
from influence_cli.core.quantities import (
    Logit,
    Loss,
    Margin,
    MeanTarget,
    ParameterTarget,
    Prediction,
    RowTarget,
    WeightedTarget,
)
from influence_cli.core.removal import PER_MEAN
from influence_cli.core.retraining import retrain
from influence_cli.core.rows.design import Design
from influence_cli.core.selection.problem import Problem
from influence_cli.core.weights import NO_ROWS, Weights, as_weights

OPERATIONS = 2e9
"""Multiply-adds for the leverages of all rows up to which a bound is computed (one or two seconds)."""
SIZES = 16
"""Group sizes that are examined for the lower bound of the size of a flip."""
PAIRED_ROWS, PAIRED_FOR_FLIP = 2000, 4000
"""Candidates up to which every pair of rows enters the bound, for one size and for the sizes of a flip."""
WORST_CONDITION = 1e10
"""Condition of A, scaled to a unit diagonal, beyond which rounding errors of sums may exceed ``INFLATION``."""
INFLATION = 1e-5
"""Relative inflation of every bound, which covers rounding and the remaining error of theta_0."""
BLOCK = 1 << 22
"""Pairs of rows in one block (32 MiB of doubles)."""


@dataclass(frozen=True)
class _Functional:
    """f as a function of one linear functional b'theta: ``direction`` is b (P,), ``curved`` is f unless f is linear."""

    direction: np.ndarray
    curved: RowTarget | None = None


@dataclass(frozen=True)
class _Rows:
    """The candidates' terms at theta_0, (n,) each: ``h`` = |t|, curvatures ``a``, ``pull`` = W r, ``along`` = u.

    ``t`` (P, n) is present where pairs of rows enter the bound.  ``length`` is |A^(-1/2) b|; ``kappa`` is the largest
    |t_i| of all rows, or 0 for squared errors; ``left`` is |A^(-1/2) grad F|, the remaining error of theta_0.
    """

    t: np.ndarray | None
    h: np.ndarray
    a: np.ndarray
    pull: np.ndarray
    along: np.ndarray
    length: float
    kappa: float
    left: float


def largest_change(problem: Problem, *, at_most: bool = False) -> float:
    """The signed change of f that no group of ``problem.size`` candidates exceeds in the problem's direction.

    It is NaN where no bound is proven.  With ``at_most`` the bound holds for smaller groups as well.
    """
    return float(_changes(problem, np.array([problem.size]), at_most=at_most)[0])


def fewest_rows(problem: Problem, most: int) -> int:
    """A proven lower bound of the size of any group whose removal changes the sign of f; 1 if nothing is proven.

    Only some of the sizes up to ``most`` are examined.
    """
    if _is_scaled(problem):  # theta_0 depends on the size
        for size in range(1, min(most, SIZES)):
            change = _changes(replace(problem, size=size), np.array([size]), at_most=False)[0]
            if not (problem.base + change) * problem.base > 0:
                return size
        return min(most, SIZES)
    sizes = np.unique(np.geomspace(1, max(1, most - 1), SIZES).round().astype(int))
    changes = _changes(replace(problem, size=int(sizes[-1])), sizes, at_most=True, paired=PAIRED_FOR_FLIP)
    kept = (problem.base + changes) * problem.base > 0
    return 1 + int(sizes[: int(np.argmin(kept))].max(initial=0)) if not kept.all() else 1 + int(sizes[-1])


def _is_scaled(problem: Problem) -> bool:
    """Whether the ratio of penalty to loss depends on the group's share of the weights."""
    objective = problem.objective
    return problem.scaling == PER_MEAN and isinstance(objective, Glm) and bool((objective.penalty.ridge > 0).any())


def _changes(problem: Problem, sizes: np.ndarray, *, at_most: bool, paired: int = PAIRED_ROWS) -> np.ndarray:
    """``largest_change`` for several sizes (S,); ``sizes`` has one entry where the penalty depends on the size."""
    objective, unknown = problem.objective, np.full(len(sizes), np.nan)
    functional = _functional(problem) if isinstance(objective, Glm) and _served(objective) else None
    if functional is None or not isinstance(objective, Glm):
        return unknown
    scaled = _is_scaled(problem)
    interval = objective.weights[problem.candidates]
    if scaled and (at_most or np.ptp(interval) > 0.0):
        return unknown
    w = Weights(objective.weights, (NO_ROWS,), *(np.array([1.0 / (1.0 - problem.largest_share * scaled)]),) * 2)
    theta = problem.theta
    if scaled:
        tol = objective.tuning.tolerance
        theta = retrain(objective, theta, w, preconditioner=problem.solver.preconditioner, tol=tol).theta
    rows = _terms(problem, (theta, w), functional.direction, by_pairs=len(problem.candidates) <= paired)
    if rows is None:
        return unknown
    intervals = _intervals(rows, sizes, at_most)
    return np.array(
        [
            _worst(problem, functional, theta, interval) if np.isfinite(interval).all() else np.nan
            for interval in intervals
        ]
    )


def rises_with_one_parameter(problem: Problem) -> bool:
    """Whether the model has one parameter and f is monotone in it."""
    objective = problem.objective
    if objective.size != 1 or not isinstance(objective, Glm) or not _served(objective):
        return False
    functional = _functional(problem)
    curved = None if functional is None else functional.curved
    turns = curved is not None and isinstance(curved.quantity, Loss) and not isinstance(objective.family, Logistic)
    return functional is not None and not turns


def _served(objective: Glm) -> bool:
    known = isinstance(objective.family, Gaussian | Logistic | Poisson | Signed) and objective.outputs == 1
    return known and len(objective.weights) * objective.size**2 <= OPERATIONS


def _functional(problem: Problem) -> _Functional | None:
    """The linear functional of theta on which f depends, or None if there is no single one."""
    objective, target = problem.objective, problem.target
    if isinstance(target, ParameterTarget):
        return _Functional(target.gradient(problem.theta)[:, 0])
    rows = target.rows if isinstance(target, MeanTarget | WeightedTarget) else target
    if not isinstance(rows, RowTarget):
        return None
    linear = isinstance(rows.quantity, Margin | Logit)
    linear |= isinstance(rows.quantity, Prediction) and isinstance(objective.family, Gaussian)
    if linear:
        return _Functional(target.gradient(problem.theta)[:, 0])
    if rows is not target or len(rows.y) != 1:
        return None
    return _Functional(objective.pull_back(problem.theta, rows.X, np.ones((1, 1)))[:, 0], rows)


def _terms(problem: Problem, at: tuple[np.ndarray, Weights], b: np.ndarray, *, by_pairs: bool) -> _Rows | None:
    """The terms for the direction b (P,); ``at`` is theta_0 (P, 1) with the weights of F.

    None where A is too ill-conditioned to prove anything, or where a Poisson mean is too large.
    """
    objective, (theta, w), candidates = problem.objective, at, problem.candidates
    assert isinstance(objective, Glm)
    A = symmetric(objective.dense_curvature(theta, w, np.dtype(np.float64)))
    scale = np.sqrt(A.diagonal())
    if not (scale > 0).all() or not np.linalg.cond(A / np.outer(scale, scale)) < WORST_CONDITION:
        return None
    root = cholesky(A, lower=True)
    design = objective.design
    eta = objective.passes.outputs(theta, slice(0, design.rows))
    if isinstance(objective.family, Poisson) and eta.max() > FARTHEST / 2:
        return None
    weights = as_weights(w).column()
    a = weights * objective.family.curve(objective.family.curvature_state(eta), np.ones_like(eta))[0, 0]
    pull = weights * objective.family.residual(eta, objective.y)[0, 0]
    along, h, every = solve_triangular(root, b, lower=True), np.empty(design.rows), np.empty(design.rows)
    step = max(1, BLOCK // (8 * len(root)))
    for part in (slice(start, min(start + step, design.rows)) for start in range(0, design.rows, step)):
        t = _in_units(design, root, part)
        h[part], every[part] = np.sqrt((t**2).sum(axis=0)), along @ t
    squared = isinstance(objective.family, Gaussian | Signed)
    return _Rows(
        _in_units(design, root, candidates) if by_pairs else None,
        h[candidates],
        a[candidates],
        pull[candidates],
        every[candidates],
        float(np.linalg.norm(along)),
        0.0 if squared else float(h.max()),
        float(np.linalg.norm(solve_triangular(root, objective.gradient(theta, w)[:, 0], lower=True))),
    )


def _in_units(design: Design, root: np.ndarray, rows: slice | np.ndarray) -> np.ndarray:
    """t = root^-1 x of ``rows``, (P, n), where A = root root'."""
    known = design.dense(rows, np.ones(design.X.shape[1], dtype=bool))
    features = np.ones((len(known), design.columns))
    features[:, : known.shape[1]] = known
    return np.asarray(solve_triangular(root, features.T, lower=True))


def _intervals(rows: _Rows, sizes: np.ndarray, at_most: bool) -> list[tuple[float, float]]:
    """Smallest and largest change of b'theta from theta_0 for each size; infinite where nothing is proven."""
    h, bent = rows.h, rows.a * rows.along
    sums = np.stack([_top(values, sizes) for values in (rows.a * h**2, np.abs(bent) * h, np.abs(rows.pull) * h)])
    C = np.stack([sums[1] * sums[2]] * 2)
    if rows.t is not None:
        paired = _paired(rows, rows.t, bent, sizes, at_most)
        sums, C = np.minimum(sums, paired[:3]), np.minimum(C, paired[3:])
    with np.errstate(divide="ignore", invalid="ignore"):
        lengths = [_root(_top(values, sizes)) for values in (bent**2 / rows.a, rows.pull**2 / rows.a)]
    terms = np.stack([rows.pull * rows.along, -rows.pull * rows.along])
    terms = np.maximum(terms, 0.0) if at_most else terms
    straight, whole = (np.stack([_top(values, sizes) for values in both]) for both in (terms, np.abs(terms)))
    out = []
    for at in range(len(sizes)):
        rest = _remainder(rows, sums[:, at], C[:, at], float(lengths[0][at] * lengths[1][at]))
        ends = straight[:, at] + rest + INFLATION * (whole[:, at] + np.abs(rest))
        out.append((-float(ends[1]), float(ends[0])))
    return out


def _remainder(rows: _Rows, sums: np.ndarray, C: np.ndarray, lengths: float) -> np.ndarray:
    """Bounds from q, U, V and C (2,) on the change of b'theta beyond sum_S W r u, upwards and downwards: (2,)."""
    q, U, V = sums
    q *= 1.0 + INFLATION
    if q >= 1.0:
        return np.full(2, np.inf)
    e = np.minimum(C + U * V * q / (1.0 - q), U * V / (1.0 - q))
    if np.isfinite(lengths):
        e = np.minimum(e, lengths * q / (1.0 - q))
    d, kappa = (V + rows.left) / np.sqrt(1.0 - q), rows.kappa / np.sqrt(1.0 - q)
    if kappa * d >= 1.0:
        return np.full(2, np.inf)
    e = e + rows.length * rows.left / (1.0 - q)
    if kappa:
        s = -np.log1p(-kappa * d)
        e = e + rows.length / np.sqrt(1.0 - q) / kappa * (np.expm1(s) - s)
    return np.asarray(e)


def _paired(rows: _Rows, t: np.ndarray, bent: np.ndarray, sizes: np.ndarray, at_most: bool) -> np.ndarray:
    """q, U, V and C (for both signs of e) from all pairs of rows: (5, S)."""
    n = len(rows.a)
    root = np.sqrt(rows.a)
    kinds = ((root, root), (bent, bent), (rows.pull, rows.pull), (bent, rows.pull), (-bent, rows.pull))
    sums, squares = np.empty((5, n, len(sizes))), np.empty((n, len(sizes)))
    step = max(1, BLOCK // n)
    for start in range(0, n, step):
        part = slice(start, start + step)
        gram = t[:, part].T @ t
        for number, (left, right) in enumerate(kinds):
            both = gram * left[part, None] * right
            if number == 0:
                both = np.abs(both)
                squares[part] = _tops(both**2, sizes)
            if at_most:  # a smaller group may omit negative terms
                both = np.maximum(both, 0.0)
            sums[number, part] = _tops(both, sizes)
    out = np.empty((5, len(sizes)))
    for at, size in enumerate(sizes):
        size_alone = np.array([size])
        out[:, at] = [_top(sums[number, :, at], size_alone)[0] for number in range(5)]
        out[0, at] = min(sums[0, :, at].max(), _root(_top(squares[:, at], size_alone))[0])
    out[1:3] = _root(out[1:3])
    return out


def _worst(problem: Problem, functional: _Functional, theta: np.ndarray, interval: tuple[float, float]) -> float:
    """The extreme change of f, in the problem's direction, over an interval of its linear functional."""
    b, ends = functional.direction, np.array(interval)
    if functional.curved is None:
        change = ends + float(b @ (theta - problem.theta)[:, 0])
        return float(change[1] if problem.sign > 0 else change[0])
    points = theta + np.outer(b / (b @ b), ends)
    values = functional.curved.value(points)[0]
    if isinstance(functional.curved.quantity, Loss) and problem.sign < 0:
        slopes = [float(b @ functional.curved.gradient(points[:, at : at + 1])[:, 0]) for at in (0, 1)]
        if slopes[0] < 0.0 < slopes[1]:
            return -problem.base  # the minimum lies inside; a loss is at least 0
    return float(problem.sign * (problem.sign * values).max() - problem.base)


def _top(values: np.ndarray, sizes: np.ndarray) -> np.ndarray:
    """The sum of the k largest ``values`` (N,) for every k in ``sizes``: (S,)."""
    return _tops(values[None], sizes)[0]


def _tops(values: np.ndarray, sizes: np.ndarray) -> np.ndarray:
    """``_top`` for every row of ``values`` (n, N): (n, S)."""
    starts = values.shape[1] - sizes
    ordered = np.partition(values, starts, axis=1)
    return np.stack([ordered[:, start:].sum(axis=1) for start in starts], axis=1)


def _root(squares: np.ndarray) -> np.ndarray:
    return np.sqrt(np.maximum(squares, 0.0))
