"""The directions along which no row's loss rises, where there is no penalty; found by linear programs
(docs/design.md, section 2.10).

The loss of a row never rises along theta + t v if certain linear forms of its outputs (``Family.forms``) are not
negative along v, and those that are ``fixed`` are 0.  Such v form a convex cone.  One v in it is found at a time, the
forms that grow along it are set aside, and the search continues among the others until none of them can grow (Geyer
2009: the limiting conditional model).  J has a minimum in the space that the remaining forms span; all other directions
are ``open``.

Features are centred, where there is an intercept, and scaled, so that neither their units nor their origins matter.  A
program starts with some of the forms, and those that its solution violates are added: only about P of them are needed.
"""

from __future__ import annotations

from collections.abc import Callable
from copy import copy
from dataclasses import dataclass

import numpy as np

from influence_cli.core.objectives.glm import Glm
from influence_cli.core.weights import Weights

NUMBERS = 5e7
"""Kept rows times parameters above which no separation is sought."""
CAP = 1e-2
"""Growth of a form, scaled to length 1, above which the program gains nothing.  It therefore prefers a direction along
which many forms grow a little to one along which a few grow much."""
TINY = 1e-9
"""Growth of a form, scaled to length 1, that is within the tolerance of a linear program and counts as 0."""
ROUNDS, ADDED = 100, 10
"""Most programs that are solved for one direction, and the forms added to each, as a multiple of its columns."""
NEGLIGIBLE = 64 * np.finfo(float).eps
"""Singular values, relative to the largest, that are rounding errors of features of size 1."""
WORK = 6e9
"""Largest sum of (rows of a program)^2 times its columns over the programs of a group, which takes about 10 s.  Above
it, it remains unknown what the group leaves open."""
COMBINATIONS = 1e8
"""Largest product of the numbers in the growing forms and the differences of the test rows' outputs with which
``Separation.decided`` decides anything."""


@dataclass(frozen=True)
class Separation:
    """What rows without a penalty leave undetermined, in the units of the parameters.

    ``open`` (P, q) spans the directions that the remaining forms do not determine, ``held`` (P, r) those that they do.
    Along ``outward`` (P, 1) each form that can grow grows by at least 1, and no other changes; it is 0 where none can.
    """

    open: np.ndarray
    held: np.ndarray
    outward: np.ndarray
    _forms: _Forms
    _grows: np.ndarray

    def growth(self, theta: np.ndarray) -> np.ndarray:
        """The values (s,) at theta (P, 1) of the forms that can grow."""
        return self._forms.values(self._forms.scale.inverse(theta))[self._grows]

    def still(self, X: np.ndarray) -> np.ndarray:
        """Whether the outputs of rows X (T, d), or for a softmax their differences, are constant along ``open``, (T,)
        bool."""
        forms, basis = self._forms, self._forms.scale.inverse(self.open)
        scaled = forms.scale.features(X)
        along = np.einsum("td,kdq->tkq", scaled, basis.reshape(forms.outputs, scaled.shape[1], basis.shape[1]))
        if len(forms.gauge):
            along -= along.mean(axis=1, keepdims=True)
        return np.asarray(np.abs(along).max(axis=(1, 2), initial=0.0) <= TINY * np.linalg.norm(scaled, axis=1))

    def decided(self, X: np.ndarray, lost: np.ndarray) -> tuple[np.ndarray, float]:
        """Which rows of X (T, d) have a definite limit, (T,) bool, and the least growth per step of ``outward`` among
        their outputs that are not constant.

        A row has a definite limit if each of its outputs (for a softmax, each difference of two) is either constant or
        tends to plus or minus infinity, in the same way along every path on which J approaches its infimum.  An output
        tends to infinity in this way if, apart from its component in ``held``, it is a combination of growing forms
        with coefficients of one sign.  Outputs of the classes in ``lost`` (K,) bool count as ruled out.
        """
        from scipy.optimize import nnls

        forms, basis = self._forms, self._forms.scale.inverse(self.open)
        single = np.eye(forms.outputs)[~lost]
        if len(forms.gauge):
            single = (single[:, None] - single)[np.triu_indices(len(single), 1)]
        out, least = np.zeros(X.shape[0], dtype=bool), np.inf
        if float(self._grows.sum()) * basis.shape[1] * len(out) * len(single) > COMBINATIONS:
            return out, 1.0
        made_of = basis.T @ forms.unit_rows(self._grows).T
        outward = forms.scale.inverse(self.outward)[:, 0]
        for t, x in enumerate(forms.scale.features(X)):
            asked = [np.kron(one, x) for one in single]
            components = [(form, basis.T @ form) for form in asked]
            moving = [(form, part) for form, part in components if np.linalg.norm(part) > TINY * np.linalg.norm(form)]
            along = np.array([form @ outward for form, _ in moving])
            out[t] = made_of.shape[1] > 0 or not moving
            for (_, part), growth in zip(moving, along, strict=True):
                unit = np.sign(growth) * part / np.linalg.norm(part)
                out[t] &= growth != 0.0 and nnls(made_of, unit, maxiter=10 * sum(made_of.shape))[1] <= TINY
                if not out[t]:
                    break
            if out[t] and len(along):
                least = min(least, float(np.abs(along).min()))
        return out, least if np.isfinite(least) else 1.0


def separation(objective: Glm, w: Weights, holds: Callable[[Separation], bool]) -> Separation | None:
    """What the rows with a positive weight in w, of one group, leave open; None where there are too many numbers
    (``NUMBERS``) or the programs take too much ``WORK``.

    ``holds`` can end the search without a program: for a given separation, it says whether J certainly has a minimum in
    the ``held`` space.
    """
    kept = np.flatnonzero(w.column() > 0)
    if float(len(kept)) * objective.size > NUMBERS or float(len(kept)) * objective.size**2 > 1e2 * NUMBERS:
        return None
    forms = _Forms(objective, kept)
    live, grown = ~forms.fixed & (forms.lengths > 0), []
    free = forms.scale.inverse(objective.recession(w))
    if free.any():  # a class without rows is ruled out for all rows, test rows included
        growing = live & (forms.values(free) > 0)
        grown, live = [(free, growing)], live & ~growing
    basis = forms.span(forms.fixed & (forms.lengths > 0), forms.gauge)
    while True:
        held = forms.span(live, basis.T)
        if held.shape[1] == basis.shape[1]:
            break
        if holds(_so_far(forms, held, grown, live)):
            break
        try:
            outward_direction = _direction(forms, live, held @ _complement(held.T @ basis))
        except _TooMuchWork:
            return None
        if outward_direction is None:
            break
        direction, growing = outward_direction
        grown.append((direction, growing))
        live = live & ~growing
    return _so_far(forms, held, grown, live)


def _so_far(
    forms: _Forms, held: np.ndarray, grown: list[tuple[np.ndarray, np.ndarray]], live: np.ndarray
) -> Separation:
    """The separation from the directions (P, 1) in ``grown``, each with the forms (F, n) that grow along it, where
    ``held`` (P, r) spans the forms ``live`` (F, n) that do not grow."""
    grows, outward = np.zeros_like(live), np.zeros((len(held), 1))
    for direction, growing in reversed(grown):  # earlier directions need longer steps: later ones may lower their forms
        grows |= growing
        ahead, already = forms.values(direction)[growing], forms.values(outward)[growing]
        outward = outward + direction * max(float(((1.0 - already) / ahead).max()), 0.0)
    scale, rows = forms.scale, np.asarray(grows.any(axis=0))
    return Separation(
        scale.apply(_complement(held)), scale.apply(held), scale.apply(outward), forms.of_rows(rows), grows[:, rows]
    )


class _TooMuchWork(Exception):
    """The programs of a group are too large."""


def _direction(forms: _Forms, live: np.ndarray, basis: np.ndarray) -> tuple[np.ndarray, np.ndarray] | None:
    """A direction (P, 1) in the span of ``basis`` (P, r) along which no ``live`` form (F, n) falls and some grow, and
    which ones grow, (F, n); None where there is none, or none was found in ``ROUNDS``.  Raises ``_TooMuchWork``."""
    size, places = basis.shape[1], np.flatnonzero(live)
    seen = np.zeros(live.size, dtype=bool)
    seen[places[np.linspace(0, len(places) - 1, min(len(places), 20 + 4 * size)).astype(int)]] = True

    def growth(along: np.ndarray) -> np.ndarray:
        return np.where(live, forms.values(along) / np.where(live, forms.lengths, 1.0), 0.0).ravel()

    for _ in range(ROUNDS):
        rows = forms.unit_rows(seen.reshape(live.shape)) @ basis
        forms.work += float(len(rows)) ** 2 * size
        if forms.work > WORK:
            raise _TooMuchWork
        coefficients = _program(rows)
        if coefficients is None:  # no seen form can grow: may the others change where the seen ones stay 0?
            free = basis @ _complement(_orthonormal(rows))
            wrong = np.max([np.zeros(live.size), *(np.abs(growth(one[:, None])) for one in free.T)], axis=0)
        else:
            direction = basis @ coefficients[:, None]
            wrong = -growth(direction)
        wrong[seen] = 0.0
        if (wrong > TINY).any():
            worst = np.argsort(-wrong)[: ADDED * size]
            seen[worst[wrong[worst] > TINY]] = True
            continue
        if coefficients is None:
            return None
        growing = live & (growth(direction) > TINY).reshape(live.shape)
        # The other forms are made exactly constant; if a growing form then falls, the direction is rejected.
        staying = forms.span(live & ~growing)
        direction -= staying @ (staying.T @ direction)
        exact = growing.any() and growth(direction)[growing.ravel()].min() > 0.0
        return (direction, growing) if exact else None
    return None


def _program(rows: np.ndarray) -> np.ndarray | None:
    """Coefficients a (r,) with rows (s, r) a >= 0 and the largest sum of min(rows a, ``CAP``); None where that is 0."""
    from scipy.optimize import linprog

    count, size = rows.shape
    solution = linprog(
        np.concatenate([np.zeros(size), -np.ones(count)]),
        A_ub=np.hstack([-rows, np.eye(count)]),
        b_ub=np.zeros(count),
        bounds=[(-1.0, 1.0)] * size + [(0.0, CAP)] * count,
        method="highs",
        options={"primal_feasibility_tolerance": 1e-10, "dual_feasibility_tolerance": 1e-10},
    )
    return solution.x[:size] if solution.x is not None and -solution.fun > TINY else None


@dataclass(frozen=True)
class _Scale:
    """The map from scaled parameters u to theta: theta_j = u_j / spread_j, and the intercept absorbs the centres."""

    centre: np.ndarray
    spread: np.ndarray
    outputs: int
    intercept: bool

    def features(self, X: np.ndarray) -> np.ndarray:
        """Scaled features (n, D) of X (n, d), with a column of ones for the intercept."""
        X = X.toarray() if hasattr(X, "toarray") else np.asarray(X, dtype=float)
        out = np.where(self.spread > 0, (X - self.centre) / np.where(self.spread > 0, self.spread, 1.0), 0.0)
        # A column that is constant in the kept rows is 0 there, and may be something else in test rows.
        flat = self.spread == 0
        out[:, flat] = np.where(np.abs(X - self.centre)[:, flat] <= NEGLIGIBLE * np.abs(self.centre[flat]), 0.0,
                                X[:, flat] - self.centre[flat])  # fmt: skip
        return np.hstack([out, np.ones((len(out), 1))]) if self.intercept else out

    def apply(self, u: np.ndarray) -> np.ndarray:
        """theta (P, n) from u (P, n)."""
        return self._each(u, 1.0 / np.where(self.spread > 0, self.spread, 1.0), to=True)

    def inverse(self, theta: np.ndarray) -> np.ndarray:
        """u (P, n) from theta (P, n)."""
        return self._each(theta, np.where(self.spread > 0, self.spread, 1.0), to=False)

    def _each(self, vectors: np.ndarray, factor: np.ndarray, *, to: bool) -> np.ndarray:
        d = len(factor)
        stack = np.array(vectors, dtype=float).reshape(self.outputs, d + self.intercept, vectors.shape[1])
        slopes = stack[:, :d] * factor[:, None]
        if self.intercept:
            chosen = slopes if to else stack[:, :d]
            stack[:, d] += (-1.0 if to else 1.0) * np.einsum("kdn,d->kn", chosen, self.centre)
        stack[:, :d] = slopes
        return stack.reshape(vectors.shape)


class _Forms:
    """The linear forms of the rows ``kept`` in the scaled parameters u (P,), F for each row; those ``fixed`` (F, n)
    must stay 0.

    A feature's scale is the geometric mean of its nonzero distances from the median.
    """

    def __init__(self, objective: Glm, kept: np.ndarray):
        design, family, self.outputs = objective.design, objective.family, objective.outputs
        d = design.columns - design.intercept
        X = np.asarray(design.dense(kept, np.ones(d, dtype=bool)), dtype=float)
        largest = np.abs(X).max(axis=0, initial=0.0)
        centre = np.median(X, axis=0) if design.intercept and len(X) else np.zeros(d)
        distance = np.abs(X - centre)
        distance[distance <= NEGLIGIBLE * largest] = 0.0
        varies = (distance > 0).sum(axis=0)
        typical = np.exp(np.log(np.where(distance > 0, distance, 1.0)).sum(axis=0) / np.maximum(varies, 1))
        spread = np.where(varies > 0, typical, 0.0)
        self.scale = _Scale(centre, spread, self.outputs, design.intercept)
        self._X = self.scale.features(X)
        self._blur = float((largest / np.where(spread > 0, spread, np.inf)).max(initial=1.0))
        self._combinations, self.fixed = family.forms(objective.y[kept])
        self.lengths = np.linalg.norm(self._combinations, axis=1) * np.linalg.norm(self._X, axis=1)
        D = design.columns
        self.work = 0.0
        self.gauge = np.tile(np.eye(D), self.outputs) if family.shift_invariant else np.zeros((0, D * self.outputs))

    def of_rows(self, rows: np.ndarray) -> _Forms:
        """The forms of some of the rows, (n,) bool: all that a block of groups keeps in memory."""
        part = copy(self)
        part._X, part._combinations = self._X[rows], self._combinations[:, :, rows]
        part.fixed, part.lengths = self.fixed[:, rows], self.lengths[:, rows]
        return part

    def values(self, u: np.ndarray) -> np.ndarray:
        """The values (F, n) of the forms at u (P, 1)."""
        eta = u.reshape(self.outputs, -1) @ self._X.T
        return np.einsum("fkn,kn->fn", self._combinations, eta)

    def rows(self, which: np.ndarray) -> np.ndarray:
        """The coefficients of the forms ``which`` (F, n), (s, P)."""
        form, row = np.nonzero(which)
        combination = self._combinations[form, :, row]
        return (combination[:, :, None] * self._X[row][:, None]).reshape(
            len(row), combination.shape[1] * self._X.shape[1]
        )

    def unit_rows(self, which: np.ndarray) -> np.ndarray:
        """The coefficients of the forms ``which`` (F, n), scaled to length 1, (s, P)."""
        return self.rows(which) / self.lengths[which][:, None]

    def span(self, which: np.ndarray, others: np.ndarray | None = None) -> np.ndarray:
        """An orthonormal basis (P, r) of the span of the forms ``which`` (F, n) and the rows ``others`` (n, P)."""
        size = self.outputs * self._X.shape[1]
        upper = np.zeros((0, size)) if others is None else others
        places = np.argwhere(which)
        step = max(1, 4 * size)
        for at in range(0, len(places), step):
            part = np.zeros_like(which)
            part[tuple(places[at : at + step].T)] = True
            upper = np.asarray(np.linalg.qr(np.vstack([upper, self.unit_rows(part)]), mode="r"))
        return _orthonormal(upper, NEGLIGIBLE * self._blur)


def _orthonormal(rows: np.ndarray, negligible: float = NEGLIGIBLE) -> np.ndarray:
    """An orthonormal basis (P, r) of the span of ``rows`` (n, P), without singular values up to ``negligible``."""
    if not len(rows):
        return np.zeros((rows.shape[1], 0))
    _, s, Vt = np.linalg.svd(rows, full_matrices=False)
    return Vt[s > negligible * s[0]].T if s.size and s[0] > 0 else np.zeros((rows.shape[1], 0))


def _complement(basis: np.ndarray) -> np.ndarray:
    """An orthonormal basis (P, P - r) of the orthogonal complement of ``basis`` (P, r), which has full rank."""
    size, rank = basis.shape
    return np.linalg.qr(np.hstack([basis, np.eye(size)]), mode="reduced")[0][:, rank:] if rank else np.eye(size)
