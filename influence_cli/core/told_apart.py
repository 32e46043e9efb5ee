"""Groups that the features tell from all other rows: what M does not know of them.

Where a combination x'z of the features is 1 on the group's rows and 0 on all others, the rows that are left have no
curvature along z, and the penalty alone holds it: the rows of the level that a dummy coding leaves out, say, after
which the dummies add up to the intercept.  M, the Hessian with the group, is blind to that: M^-1 times a gradient moves
far too little along z, in steps that look like a way that has ended.

With e an output's intercept and D the group's part of H, z = M^-1 D e regresses the group's membership on the features,
in the metric of the curvature, and z'D e / e'D e is the share of it that they tell (R^2).  Where that is nearly all,
z is put right: with H_r the Hessian after removal, c = z'H_r z and s = (H_r z)'B (H_r z), which would be c if the
preconditioner B were right, (c - s) / c^2 z z' is added to B.  Of several outputs this is done on the span of their z.
Where a group is told apart but for some of its rows, or in several ways at once, the directions are the largest ones of
M^-1 D: all of them in narrow models, and in others what a few steps of it span.  Which groups these are, and by how
much to put them right, is seen from their rows alone, or from the others where these are fewer (``group_curvature``).
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
"""Share of a way along z that a preconditioner makes in one step, under which it is put right."""
WHOLLY = 1e-3
"""1 - R^2, in shares of the weight that is left, up to which the features tell a group apart with all of its rows."""
HINTED, SMALL = 2.0, 0.5
"""Sum of the features' own R^2, in what is expected of rows that are drawn, from which on a group is looked at; or in
the group's share of the weight: a small one costs little."""
LOOKS, STEPS = 3, 4
"""Steps of M^-1 D in which a direction shows to which M is blind, and after which it stands alone."""
SPARE, FEW = 2, 3
"""Further directions of that kind for each of at most so many outputs: of more they cost too much."""
NEARLY = 0.15
"""Curvature that is left along such a direction, in shares of the weight that is left, under which it is put right:
where more is left the mixing finds it, as in wide tables, of which any group leaves little somewhere."""
TWICE, DEPENDENT = 2, 1e-8
"""Times that a new direction is made orthogonal to those before, and what of its squared length must be left then."""
UNDETERMINED = 1e-12
"""Curvature that is left, relative to what M has, under which nothing is: that is left to ``recession``."""


def raised_where_told_apart(
    objective: Objective,
    w: Weights,
    theta: np.ndarray,
    trained: Preconditioner,
    inverse: Preconditioner,
    known: Preconditioner,
) -> Preconditioner:
    """``known`` put right for groups, with the weights w after removal, that the features tell apart.

    ``trained`` is M^-1 at the trained theta (P, 1), ``inverse`` the same with the penalties after removal, and
    ``known`` with what else is known of the groups.
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
    """Groups, directions (P, b) of each along which a preconditioner is put right, and by how much, (b,)."""

    groups: list[int]
    directions: list[np.ndarray]
    sizes: list[np.ndarray]

    def added(self, known: Preconditioner, groups: int) -> Preconditioner:
        """``known``, of so many groups, put right."""
        if not self.groups:
            return known
        most, places = max(map(len, self.sizes)), np.full(groups, -1)
        vectors, sizes = np.zeros((len(self.groups), len(self.directions[0]), most)), np.zeros((len(self.groups), most))
        for place, one in enumerate(self.sizes):
            vectors[place, :, : len(one)], sizes[place, : len(one)] = self.directions[place], one
        places[self.groups] = np.arange(len(self.groups))
        return Along(known, vectors, sizes, places)


class _Look:
    """What ``raised_where_told_apart`` sees of groups."""

    def __init__(self, objective: Glm, inverse: Preconditioner, known: Preconditioner):
        self._objective, self._inverse, self._known = objective, inverse, known
        self._common: np.ndarray | None = None

    def at(self, part: Part, found: _Found) -> None:
        """Look at the groups of a part, and add to what was ``found``."""
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
        """Those of the part's groups ``at`` (A,) that leave M blind to some direction: to which M^-1 D, from an
        intercept's D e (P, A), leads."""
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
        """Put right the part's groups ``at`` (A,), on all that so many ``steps`` of M^-1 D from ``starts`` (P, s)
        span."""
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
        """The directions Z (P, n) of which D (P, P), that of a group, has the most, with Z'M Z = 1, and D Z."""
        root = self._root(part, group)
        share, turned = np.linalg.eigh(root.T @ D @ root)
        Z = root @ turned[:, share > 1.0 - BLIND]
        return Z, D @ Z

    def _root(self, part: Part, group: int) -> np.ndarray:
        """B (P, P) with M^-1 = B B' for a group: kept where it is that of all groups."""
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
        """A basis Z (P, n), with Z'M Z = 1, of what ``steps`` of M^-1 D of a group from ``starts`` (P, s) lead to, and
        D Z."""
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
    """Which groups (G,) single features, each by itself, tell apart better than those that are drawn: such a feature
    has an R^2 of 1 / m."""
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
    """The same, and for each of few outputs ``SPARE`` drawn directions, (P, s): a group may be told apart in several
    ways."""
    spare = SPARE * objective.outputs if objective.outputs <= FEW else 0
    drawn = np.random.default_rng(0).normal(size=(objective.size, spare))
    return np.hstack([_intercepts(objective), drawn / objective.units[:, None]])


def _blind_to(Z: np.ndarray, left: np.ndarray, made: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Directions (P, b) in the span of Z (P, n), with Z'M Z = 1, along which a preconditioner makes less than ``BLIND``
    of what it should, and what is to be added to it along each, (b,): the Hessian after removal times Z is ``left``,
    of which the preconditioner makes ``made``."""
    after = Z.T @ left
    share, along = np.linalg.eigh((after + after.T) / 2.0)
    found = np.einsum("ki,kl,li->i", along, left.T @ made, along)
    blind = (share > UNDETERMINED) & (found < BLIND * share)
    return Z @ along[:, blind], (share - found)[blind] / share[blind] ** 2
