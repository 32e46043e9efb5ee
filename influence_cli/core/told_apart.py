"""Groups that the features identify among all rows, for which the trained Hessian M is a poor preconditioner
(docs/design.md, section 2.7).

If a linear combination x'z of the features is 1 on the rows of the group and 0 on all other rows, then the rows that
remain have no curvature along z, and only the penalty determines the parameters along it.  An example are the rows of
the reference level of a dummy coding: without them the dummies sum to the intercept's column.  M, the Hessian of all
rows, has the group's curvature along z.  M^-1 times a gradient is therefore far too short along z, and the small steps
look as if the iteration had converged.

Let e be the unit vector of an output's intercept and D the group's part of M.  Then z = M^-1 D e is the regression of
the group's membership on the features in the metric of the curvature, and z'D e / e'D e is its R^2.  Where R^2 is
nearly 1, the preconditioner B is corrected along z: with H_r the Hessian after removal, c = z'H_r z and s = (H_r z)'B
(H_r z), which would equal c if B were H_r^-1, the term (c - s) / c^2 z z' is added to B.  With several outputs this is
done on the span of their directions z.  If the features identify all but some rows of the group, or identify it in
several ways, the directions are the eigenvectors of M^-1 D with the largest eigenvalues: all of them in narrow models,
and in wider ones those of the space that a few multiplications by M^-1 D span.  Which groups need a correction, and how
large it is, follows from their own rows, or from the other rows where these are fewer (``group_curvature``).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from influence_cli.core.arrays import dots
from influence_cli.core.group_curvature import Part, TrainedHessian
from influence_cli.core.objectives.glm import Glm
from influence_cli.core.objectives.objective import Objective
from influence_cli.core.solvers.preconditioners import Along, Preconditioner, for_columns
from influence_cli.core.weights import Weights

BLIND = 0.5
"""Share of the right step along z below which the step of a preconditioner is corrected."""
WHOLLY = 1e-3
"""1 - R^2, relative to the weight that remains, up to which the features identify a group with all of its rows."""
HINTED, SMALL = 2.0, 0.5
"""A group is examined if the sum of the single features' R^2 exceeds ``HINTED`` times what randomly drawn rows would
give, or ``SMALL`` times the group's share of the weight, because examining a small group costs little."""
LOOKS, STEPS = 3, 4
"""Multiplications by M^-1 D after which a direction that needs a correction is visible, and that span the directions of
a wide model (4: with 2 or 3 several times as many figures were wrong, benchmarks/trust.py)."""
SPARE, FEW = 2, 3
"""Random directions that are added per output, in models of at most ``FEW`` outputs: with more they cost too much."""
NEARLY = 0.15
"""Curvature that remains along such a direction, relative to the weight that remains, below which it is corrected.
Where more remains, the mixing converges by itself; in wide tables every group leaves little curvature along some
direction."""
TWICE, DEPENDENT = 2, 1e-8
"""Number of times that a new direction is orthogonalised against the earlier ones, and the share of its squared length
that must remain for it to count as independent of them."""
UNDETERMINED = 1e-12
"""Curvature that remains, relative to that of M, below which the direction counts as undetermined, which ``recession``
handles."""


def raised_where_told_apart(
    objective: Objective,
    w: Weights,
    theta: np.ndarray,
    trained: Preconditioner,
    inverse: Preconditioner,
    known: Preconditioner,
) -> Preconditioner:
    """The preconditioner ``known``, corrected for the groups that the features identify; w are the weights after
    removal.

    ``trained`` is M^-1 at the trained theta (P, 1), ``inverse`` is the same with the penalties after removal, and
    ``known`` has further corrections for the groups.
    """
    if not isinstance(objective, Glm) or not objective.design.intercept:
        return known
    groups = np.flatnonzero(_may_be_told(objective, w) & ~objective.loses_class(w))
    if not groups.size:
        return known
    look, found = _Look(objective, inverse, known), _Found([], [], [])
    for part in TrainedHessian(objective, w, theta, trained).parts(groups):
        look.at(part, found)
    return found.added(known, w.groups)


@dataclass(frozen=True)
class _Found:
    """Groups, the directions (P, b) of each along which the preconditioner is corrected, and the corrections (b,)."""

    groups: list[int]
    directions: list[np.ndarray]
    sizes: list[np.ndarray]

    def added(self, known: Preconditioner, groups: int) -> Preconditioner:
        """``known``, a preconditioner for that many groups, with the corrections."""
        if not self.groups:
            return known
        most, places = max(map(len, self.sizes)), np.full(groups, -1)
        vectors, sizes = np.zeros((len(self.groups), len(self.directions[0]), most)), np.zeros((len(self.groups), most))
        for place, one in enumerate(self.sizes):
            vectors[place, :, : len(one)], sizes[place, : len(one)] = self.directions[place], one
        places[self.groups] = np.arange(len(self.groups))
        return Along(known, vectors, sizes, places)


class _Look:
    """Examines groups part by part, for ``raised_where_told_apart``."""

    def __init__(self, objective: Glm, inverse: Preconditioner, known: Preconditioner):
        self._objective, self._inverse, self._known = objective, inverse, known
        self._common: np.ndarray | None = None

    def at(self, part: Part, found: _Found) -> None:
        """Examine the groups of a part, and add their corrections to ``found``."""
        w, every = part.w, np.arange(len(part.groups))
        of_one = part.taken(_intercepts(self._objective)[:, :1], every)
        total, kept = of_one[self._objective.design.columns - 1], 1.0 - w.sums(w.base)
        told = dots(self._solved(part, of_one, every), of_one)
        wholly = total - told < WHOLLY * kept * total
        self._put_right(part, every[wholly & (total > 0)], _intercepts(self._objective), 1, found)
        partly = self._blind(part, of_one[:, ~wholly], every[~wholly], kept[~wholly])
        self._put_right(part, partly, _starts(self._objective), STEPS, found)

    def _solved(self, part: Part, V: np.ndarray, at: np.ndarray) -> np.ndarray:
        """M^-1 V (P, A) of the part's groups ``at`` (A,)."""
        return for_columns(self._inverse, part.groups[at])(V)

    def _blind(self, part: Part, of_one: np.ndarray, at: np.ndarray, kept: np.ndarray) -> np.ndarray:
        """Those of the part's groups ``at`` (A,) without which little curvature remains along some direction.  A power
        iteration with M^-1 D shows this; it starts from D e (P, A) for an intercept's e."""
        for limit in (BLIND,) * LOOKS + (NEARLY,) if at.size else ():
            z = self._solved(part, of_one, at)
            again = part.taken(z, at)
            length = dots(z, of_one)
            near = (length > 0) & (length - dots(z, again) < limit * kept * length)
            at, kept, of_one = at[near], kept[near], again[:, near]
            if not at.size:
                break
        return at

    def _put_right(self, part: Part, at: np.ndarray, starts: np.ndarray, steps: int, found: _Found) -> None:
        """Find the corrections for the part's groups ``at`` (A,) in the space that ``steps`` multiplications by M^-1 D
        span from ``starts`` (P, s), or in the whole space where D is available as a matrix, and add them to
        ``found``."""
        for group in at.tolist():
            D = part.dense(group, starts.shape[1] * (steps + 1))
            Z, taken = self._spanned(part, group, starts, steps) if D is None else self._largest(part, group, D)
            if not Z.size:
                continue
            columns = np.full(Z.shape[1], group)
            left = part.left(Z, taken, columns)
            made = for_columns(self._known, part.groups[columns])(left)
            directions, sizes = _blind_to(Z, left, made)
            if len(sizes):
                found.groups.append(int(part.groups[group]))
                found.directions.append(directions)
                found.sizes.append(sizes)

    def _largest(self, part: Part, group: int, D: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The eigenvectors Z (P, n) of M^-1 D, with Z'M Z = I, along which D (P, P), a group's part of M, has most of
        the curvature; and D Z."""
        root = self._root(part, group)
        share, turned = np.linalg.eigh(root.T @ D @ root)
        Z = root @ turned[:, share > 1.0 - BLIND]
        return Z, D @ Z

    def _root(self, part: Part, group: int) -> np.ndarray:
        """A root B (P, P) with M^-1 = B B' for a group; it is kept if all groups have the same one."""
        if self._common is not None:
            return self._common
        size = self._objective.size
        inverse = self._solved(part, np.eye(size), np.full(size, group))
        sizes, basis = np.linalg.eigh((inverse + inverse.T) / 2.0)
        root = np.asarray(basis * np.sqrt(np.maximum(sizes, 0.0)))
        if not hasattr(self._inverse, "take"):
            self._common = root
        return root

    def _spanned(self, part: Part, group: int, starts: np.ndarray, steps: int) -> tuple[np.ndarray, np.ndarray]:
        """A basis Z (P, n), with Z'M Z = I, of the space that ``steps`` multiplications by a group's M^-1 D span from
        ``starts`` (P, s), and D Z."""
        Z = images = np.empty((len(starts), 0))
        taken = part.taken(starts, np.full(starts.shape[1], group))
        parts: list[np.ndarray] = []
        for _ in range(steps):
            image, new = taken, self._solved(part, taken, np.full(taken.shape[1], group))
            size = np.sqrt(np.maximum(dots(new, image), np.finfo(float).tiny))
            new, image = new / size, image / size
            for _ in range(TWICE):
                within = images.T @ new
                new, image = new - Z @ within, image - images @ within
            gram = new.T @ image
            sizes, turned = np.linalg.eigh((gram + gram.T) / 2.0)
            turned = turned[:, sizes > DEPENDENT] / np.sqrt(sizes[sizes > DEPENDENT])
            if not turned.size:
                break
            new, image = new @ turned, image @ turned
            taken = part.taken(new, np.full(new.shape[1], group))
            Z, images, parts = np.hstack([Z, new]), np.hstack([images, image]), [*parts, taken]
        return Z, np.hstack([images[:, :0], *parts])


def _may_be_told(objective: Glm, w: Weights) -> np.ndarray:
    """Which groups (G,) the single features identify better than they identify rows drawn at random, for which the R^2
    of one feature is 1 / m on average."""
    design, mean = objective.design, objective.means[:-1, None]
    taken = np.stack([design.chosen_moments(rows, w.base[rows])[0] for rows in w.rows], axis=-1)
    share, varies = taken[-1], objective.mean_squares[:-1, None] - mean**2
    varies = np.where(varies > UNDETERMINED * objective.mean_squares[:-1, None], varies, np.inf)
    told = ((taken[:-1] - share * mean) ** 2 / varies).sum(axis=0)
    enough = np.minimum(HINTED * len(mean) / design.rows, SMALL * share)
    return np.asarray(told > enough * share * (1.0 - share))


def _intercepts(objective: Glm) -> np.ndarray:
    """The unit vectors of the outputs' intercepts, (P, K)."""
    out = np.zeros((objective.outputs, objective.design.columns, objective.outputs))
    out[:, -1] = np.eye(objective.outputs)
    return out.reshape(objective.size, objective.outputs)


def _starts(objective: Glm) -> np.ndarray:
    """The unit vectors of the intercepts and, in models of few outputs, ``SPARE`` random directions per output, (P, s),
    because the features may identify a group in several ways."""
    spare = SPARE * objective.outputs if objective.outputs <= FEW else 0
    drawn = np.random.default_rng(0).normal(size=(objective.size, spare))
    return np.hstack([_intercepts(objective), drawn / objective.units[:, None]])


def _blind_to(Z: np.ndarray, left: np.ndarray, made: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Directions (P, b) in the span of Z (P, n), with Z'M Z = I, along which the steps of a preconditioner are shorter
    than ``BLIND`` times the right ones, and the terms (b,) to add to it along each.

    ``left`` is the Hessian after removal times Z, and ``made`` the preconditioner times ``left``.
    """
    after = Z.T @ left
    share, along = np.linalg.eigh((after + after.T) / 2.0)
    found = np.einsum("ki,kl,li->i", along, left.T @ made, along)
    blind = (share > UNDETERMINED) & (found < BLIND * share)
    return Z @ along[:, blind], (share - found)[blind] / share[blind] ** 2
