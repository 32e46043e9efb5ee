"""Proven intervals of whole blocks of groups, including groups that contain all rows of a class
(docs/design.md, section 2.8).

If the intercepts are free, J has no minimiser without such a group.  Its infimum is the minimum of the model of the
remaining classes: their log-sum-exp is smaller than that of all classes, with equality in the limit, and their penalty
is no larger.  That model is certified instead.  Nothing is proven for test rows of the lost class: their f is infinite
or a limit.
"""

from __future__ import annotations

from collections.abc import Sequence
from copy import copy
from dataclasses import dataclass, replace

import numpy as np

from influence_cli.core.certificate import PRODUCTS, RowGeometry, certify
from influence_cli.core.intervals import Interval, intervals
from influence_cli.core.objectives.families.logistic import Logistic
from influence_cli.core.objectives.families.softmax import Softmax
from influence_cli.core.objectives.glm import Glm
from influence_cli.core.objectives.passes import Passes
from influence_cli.core.objectives.penalty import Penalty
from influence_cli.core.quantities import Loss, Margin, Probability, RowTarget, Target, of_columns
from influence_cli.core.solvers.preconditioners import Preconditioner
from influence_cli.core.weights import GroupPenalty, Weights


def proven(
    objective: Glm,
    theta: np.ndarray,
    w: Weights,
    preconditioner: Preconditioner,
    geometry: RowGeometry,
    asked: Sequence[tuple[Target, np.ndarray]],
    *,
    products: int = PRODUCTS,
) -> Interval:
    """low <= f(theta_removed) - f(theta*) <= high, (T, G) each, infinite where nothing is proven.

    ``asked`` are the targets, each with its f(theta*), (T,) or (T, G).  theta (P, G) may be any point; the intervals
    are narrowest near the minimisers of J(.; w).  ``products`` is that of ``certify``.
    """
    total = sum(len(base) for _, base in asked)
    low, high = np.full((total, w.groups), -np.inf), np.full((total, w.groups), np.inf)
    lost = objective.recession(w).any(axis=0)
    whole = np.flatnonzero(~lost)
    if whole.size:
        certificate = certify(objective, theta[:, whole], w.take(whole), preconditioner, geometry, products=products)
        parts = [intervals(certificate, target, base) for target, base in _of_columns(asked, whole)]
        _fill(low, high, whole, parts, asked)
    for g in np.flatnonzero(lost):
        at = np.array([g])
        parts = _of_the_rest(objective, theta[:, at], w.take(at), geometry, _of_columns(asked, at))
        _fill(low, high, at, parts, asked)
    return low, high


def _of_columns(asked: Sequence[tuple[Target, np.ndarray]], groups: np.ndarray) -> list[tuple[Target, np.ndarray]]:
    return [(of_columns(target, groups), base if base.ndim == 1 else base[:, groups]) for target, base in asked]


def _fill(
    low: np.ndarray,
    high: np.ndarray,
    groups: np.ndarray,
    parts: Sequence[Interval | None],
    asked: Sequence[tuple[Target, np.ndarray]],
) -> None:
    start = 0
    for part, (_, base) in zip(parts, asked, strict=True):
        if part is not None:
            rows = np.ix_(np.arange(start, start + len(base)), groups)
            low[rows], high[rows] = part
        start += len(base)


@dataclass(frozen=True)
class Reduced:
    """The model of the classes ``kept`` (K',), which are class codes of the whole model, on the same rows."""

    objective: Glm
    kept: np.ndarray

    def codes(self, y: np.ndarray) -> np.ndarray:
        """Class codes of the whole model translated to this one; 0 for a lost class."""
        return np.maximum(np.searchsorted(self.kept, y), 0) * np.isin(y, self.kept)


def without_classes(objective: Glm, kept: np.ndarray) -> Reduced:
    """The softmax model of the at least two classes ``kept``.  Rows of the other classes must have weight 0."""
    reduced = copy(objective)
    family, penalty = Softmax(len(kept)), objective.penalty
    reduced.family, reduced.outputs = family, len(kept)
    reduced.passes = Passes(objective.design, family)
    reduced.size = len(kept) * objective.design.columns
    reduced.units = objective.units[: reduced.size]
    reduced.penalty = Penalty(penalty.ridge, penalty.gauge, len(kept))
    reduction = Reduced(reduced, kept)
    reduced.y = reduction.codes(objective.y)
    reduced.kept = None
    for name in ("_kinds", "_training_gram", "_in_single"):
        reduced.__dict__.pop(name, None)  # cached properties of the whole model
    return reduction


def _of_the_rest(
    objective: Glm,
    theta: np.ndarray,
    w: Weights,
    geometry: RowGeometry,
    asked: Sequence[tuple[Target, np.ndarray]],
) -> list[Interval | None]:
    """Intervals (T, 1) of each target for one group that contains all rows of some classes."""
    if not isinstance(objective.family, Softmax | Logistic):
        return [None] * len(asked)
    classes = objective.family.classes
    counts = np.bincount(objective.y.astype(np.int64), minlength=classes)
    kept = np.flatnonzero(w.present(objective.y.astype(np.int64), counts)[0])
    if len(kept) == 1:
        return [_of_one_class(target, base, int(kept[0])) for target, base in asked]
    reduced = without_classes(objective, kept)
    coefficients = theta.reshape(classes, -1)[kept]
    coefficients[:, -1] -= coefficients[:, -1].mean()
    start = coefficients.reshape(-1, 1)
    if w.penalty is not None:
        scaling = w.penalty.scaling.reshape(classes, -1, 1)[kept]
        w = replace(w, penalty=GroupPenalty(scaling.reshape(-1, 1)))
    solver = reduced.objective.preconditioner(start, w)
    certificate = certify(reduced.objective, start, w, solver, geometry)
    out: list[Interval | None] = []
    for target, base in asked:
        if not isinstance(target, RowTarget) or not isinstance(target.quantity, Loss | Probability | Margin):
            out.append(None)
            continue
        quantity = replace(target.quantity, family=Softmax(len(kept)))
        interval = intervals(
            certificate, RowTarget(reduced.objective, quantity, target.X, reduced.codes(target.y)), base
        )
        out.append(_where(np.isin(target.y, kept), interval))
    return out


def _of_one_class(target: Target, base: np.ndarray, kept: int) -> Interval | None:
    """If a single class remains, its loss tends to 0 and its probability to 1."""
    if not isinstance(target, RowTarget) or not isinstance(target.quantity, Loss | Probability):
        return None
    limit = 0.0 if isinstance(target.quantity, Loss) else 1.0
    change = (limit - base)[:, None]
    return _where(target.y == kept, (change, change))


def _where(known: np.ndarray, interval: Interval | None) -> Interval | None:
    """The interval where ``known`` (T,), and infinite elsewhere."""
    if interval is None:
        return None
    return np.where(known[:, None], interval[0], -np.inf), np.where(known[:, None], interval[1], np.inf)
