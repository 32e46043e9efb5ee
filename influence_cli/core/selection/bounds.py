"""What no group of k rows can do: an upper bound of the change of f, proven, for models with one output a row.

Let W_i be the weights of the rows that stay (w_i, per-mean w_i / (1 - p): p is the same for all groups of k rows where
rows weigh the same, and plays no part without a penalty), theta_0 the minimiser of F = J(.; W) over all rows, A its
Hessian there, x_i the features, r_i the residuals and a_i = W_i l_i'' the curvatures at theta_0.  Removal of S takes
W_i l_i of its rows from F.  With t_i = A^(-1/2) x_i, u_i = b' A^-1 x_i for a linear functional b, q >= |M_S| and
M_S = sum_S a_i t_i t_i', the step b'n = sum_S W_i r_i u_i + e of Newton's method from theta_0 has

    e = (sum_S a_i u_i t_i)' (I - M_S)^-1 (sum_S W_i r_i t_i),      |e| <= U V / (1 - q),   e <= C + U V q / (1 - q)

(Woodbury), where U and V bound the lengths of both sums and C their inner product over groups of k rows, and likewise
|e| <= |sqrt(a_S) u_S| |W_S r_S / sqrt(a_S)| q / (1 - q).  The sum is at most that of its k largest terms.  q, U^2, V^2
and C are sums over pairs of rows of S: they are bounded by leverages h_i = |t_i|^2 (the k largest a_i h_i for q, and of
c_i sqrt(h_i) for the others), and where t_i' t_j of all pairs is affordable by the k largest of every row, and of these
the largest (Gershgorin for q) or the k largest.  For squared errors b'n is the change itself.  Otherwise, with
d = V / sqrt(1 - q), kappa = max_i |t_i| / sqrt(1 - q) and E = -log(1 - kappa d) / kappa as in ``core.certificate``, the
change D has |D|_H <= E in the norm of the Hessian H at theta_0 without S, and by the same bound on l''' (Bach 2010)

    |b'D - b'n| <= |b|_{H^-1} E (exp(s) - 1 - s) / s,  s = kappa E,      |b|_{H^-1} <= |A^(-1/2) b| / sqrt(1 - q)

because the gradient without S, from theta_0 to the new minimum, is H D up to that.  Where q or kappa d reach 1 there is
no bound.  f follows from the interval of its linear predictor, on which a loss is convex and everything else monotone.
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
"""Multiply-adds for the leverages of all rows, a second or two, up to which bounds are looked for."""
SIZES = 16
"""Sizes that are looked at for what a flip takes."""
PAIRED_ROWS, PAIRED_FOR_FLIP = 2000, 4000
"""Candidates up to which every pair of rows is looked at, for one size and for all that a flip may take."""
WORST_CONDITION = 1e10
"""Of A with a unit diagonal: beyond it sums in double precision prove nothing to ``INFLATION``."""
INFLATION = 1e-5
"""Relative inflation of every bound, for rounding and for the last digits of theta_0."""
BLOCK = 1 << 22
"""Pairs of rows (32 MiB) at a time."""


@dataclass(frozen=True)
class _Functional:
    """f of a change delta of one linear functional of theta: ``direction`` b (P,), and f itself unless it is linear."""

    direction: np.ndarray
    curved: RowTarget | None = None


@dataclass(frozen=True)
class _Rows:
    """The candidates' terms at theta_0, (n,) each: lengths ``h`` of t, curvatures a, ``pull`` W r and ``along`` u, and
    ``t`` (P, n) itself where pairs of rows are looked at; ``length`` is |A^(-1/2) b|, ``kappa`` the largest |t_i| of
    all rows, 0 for squared errors, and ``left`` |A^(-1/2) grad F|."""

    t: np.ndarray | None
    h: np.ndarray
    a: np.ndarray
    pull: np.ndarray
    along: np.ndarray
    length: float
    kappa: float
    left: float


def largest_change(problem: Problem, *, at_most: bool = False) -> float:
    """The change of f that no group of ``problem.size`` candidates exceeds in the problem's direction, a change of its
    sign; NaN where none is proven.  With ``at_most`` it holds for smaller groups as well."""
    return float(_changes(problem, np.array([problem.size]), at_most=at_most)[0])


def fewest_rows(problem: Problem, most: int) -> int:
    """How many rows a group has at least whose removal gives f the other sign, proven; 1 where nothing is, and of the
    numbers up to ``most`` some."""
    if _is_scaled(problem):  # each size has a penalty of its own
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
    """Whether the penalty gains on the loss, or loses, with the group's share of the weights."""
    objective = problem.objective
    return problem.scaling == PER_MEAN and isinstance(objective, Glm) and bool((objective.penalty.ridge > 0).any())


def _changes(problem: Problem, sizes: np.ndarray, *, at_most: bool, paired: int = PAIRED_ROWS) -> np.ndarray:
    """``largest_change`` for several sizes (S,), for one only where the penalty depends on it."""
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
    """Whether the model has one parameter, and f rises or falls with it everywhere."""
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
    """None where f is no function of one linear functional."""
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
    """Terms at theta_0 under the weights of F, ``at``, for the direction b; None where the rows do not determine the
    parameters well enough to prove anything."""
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
    """t = A^(-1/2) x of these rows, (P, n), with A = root root'."""
    known = design.dense(rows, np.ones(design.X.shape[1], dtype=bool))
    features = np.ones((len(known), design.columns))
    features[:, : known.shape[1]] = known
    return np.asarray(solve_triangular(root, features.T, lower=True))


def _intervals(rows: _Rows, sizes: np.ndarray, at_most: bool) -> list[tuple[float, float]]:
    """Least and largest change of b'theta from theta_0 for each size, infinite where nothing is proven."""
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
    """What a change of b'theta is more than sum_S W r u at most, upwards and downwards (2,), from q, U, V and C."""
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
    """q, U, V and C, the last for both signs of e, (5, S), by what every row shares with every other."""
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
            if at_most:  # a smaller group may leave out whatever is negative
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
    """The end of f's change over an interval of its linear functional."""
    b, ends = functional.direction, np.array(interval)
    if functional.curved is None:
        change = ends + float(b @ (theta - problem.theta)[:, 0])
        return float(change[1] if problem.sign > 0 else change[0])
    points = theta + np.outer(b / (b @ b), ends)
    values = functional.curved.value(points)[0]
    if isinstance(functional.curved.quantity, Loss) and problem.sign < 0:
        slopes = [float(b @ functional.curved.gradient(points[:, at : at + 1])[:, 0]) for at in (0, 1)]
        if slopes[0] < 0.0 < slopes[1]:
            return -problem.base  # a loss of 0 lies between
    return float(problem.sign * (problem.sign * values).max() - problem.base)


def _top(values: np.ndarray, sizes: np.ndarray) -> np.ndarray:
    """The sums of the k largest for every k of the sizes, (S,)."""
    return _tops(values[None], sizes)[0]


def _tops(values: np.ndarray, sizes: np.ndarray) -> np.ndarray:
    """The same of every row of values (n, N): (n, S)."""
    starts = values.shape[1] - sizes
    ordered = np.partition(values, starts, axis=1)
    return np.stack([ordered[:, start:].sum(axis=1) for start in starts], axis=1)


def _root(squares: np.ndarray) -> np.ndarray:
    return np.sqrt(np.maximum(squares, 0.0))
