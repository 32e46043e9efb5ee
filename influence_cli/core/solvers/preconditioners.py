"""Approximate inverse Hessians for conjugate gradients: some that a model computes at little cost, and some that differ
from column to column of a block.

Kronecker is the inverse of the Hessian that a generalised linear model would have if every row had the average
curvature: sum_i w_i A_i (x) x_i x_i', with A_i (K, K) the second derivative of row i's loss, is replaced by (sum_i w_i
A_i) (x) (sum_i w_i x_i x_i').  In the eigenbasis of the small K x K matrix it decomposes into K separate D x D systems,
to which the penalty adds exactly.  Jacobi uses the diagonal only, for models where even a D x D matrix is too large.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from scipy.linalg import cho_solve, cholesky

from influence_cli.errors import NotConvergedError

FACTOR_NUMBERS = 100_000_000
"""Float64 numbers that the K factors may take (0.8 GB)."""
WORTH_PRODUCTS = 400.0
"""Products with X that may take as long as the factors: after that many, CG has converged without them."""
FACTOR_FLOP = 0.05
"""Time of a multiply-add in a factorisation, in units of the time per number of X in a product (measured)."""
CHEAP_COLUMNS = 1000
"""Columns of X up to which the factors take less time than a Newton step (a D x D factor takes 20 ms)."""
OVERFLOW = "the Hessian has numbers beyond the largest of float64: some features, or the response, are too large"
SCALE = "scale the columns (their largest values are the ones to look at)"
JITTER = 1e-12
"""Shift of the diagonal, relative to each entry so that features' units have no influence: exact copies of columns must
not make the factorisation of a preconditioner fail."""

Preconditioner: TypeAlias = Callable[[np.ndarray], np.ndarray]
"""An approximate inverse Hessian: r (P, G) -> M^-1 r (P, G)."""


def kronecker_fits(outputs: int, columns: int, stored: int) -> bool:
    """Whether K factors (D, D) are small enough, and fast enough to compute compared with products over the ``stored``
    numbers of X.

    For dense rows they hardly ever take too long; for very sparse rows D^3 operations equal thousands of products.
    """
    factors = FACTOR_FLOP * columns**3 / 3
    return outputs * columns**2 <= FACTOR_NUMBERS and (columns <= CHEAP_COLUMNS or factors <= WORTH_PRODUCTS * stored)


class Kronecker:
    """r -> M^-1 r with M = between (x) within + penalty, where ``between`` (K, K) and ``within`` (D, D) are positive
    semidefinite.

    The penalty is ``block`` (D, D) on every output's coefficients and ``gauge`` (D,) on their mean over the outputs.
    Raises NotConvergedError where the Hessian overflows.
    """

    def __init__(self, between: np.ndarray, within: np.ndarray, block: np.ndarray, gauge: np.ndarray):
        if not (np.isfinite(between).all() and np.isfinite(within).all()):
            raise NotConvergedError(OVERFLOW, hint=SCALE)
        eigenvalues, self._basis = np.linalg.eigh(between)
        along_ones = self._basis.sum(axis=0) ** 2 / len(between)
        self._factors = []
        for value, share in zip(np.maximum(eigenvalues, 0.0), along_ones, strict=True):
            system = value * within + block
            diagonal = np.diag_indices(len(within))
            system[diagonal] += share * gauge
            diagonal_block = system[diagonal]
            system[diagonal] += JITTER * np.where(diagonal_block > 0, diagonal_block, 1.0)
            self._factors.append(cholesky(system, lower=True, overwrite_a=True, check_finite=False))

    def __call__(self, r: np.ndarray) -> np.ndarray:
        (size, columns), K = r.shape, len(self._basis)
        stack = np.einsum("ke,gkd->edg", self._basis, r.T.reshape(columns, K, size // K))
        for e, factor in enumerate(self._factors):
            stack[e] = cho_solve((factor, True), stack[e], check_finite=False)
        return np.einsum("ke,edg->gkd", self._basis, stack).reshape(columns, size).T


class Jacobi:
    """r -> r / diagonal, for the diagonal (P,) of the Hessian; entries that are not positive count as 1."""

    def __init__(self, diagonal: np.ndarray):
        self._inverse = 1.0 / np.where(diagonal > 0, diagonal, 1.0)

    def __call__(self, r: np.ndarray) -> np.ndarray:
        return self._inverse[:, None] * r


@dataclass(frozen=True)
class PerColumn:
    """Applies the preconditioner ``each[g]`` to column g of r (P, G)."""

    each: tuple[Preconditioner, ...]

    def take(self, columns: np.ndarray) -> PerColumn:
        """The preconditioner of the columns (A,) of the block."""
        return PerColumn(tuple(self.each[g] for g in columns))

    def __call__(self, r: np.ndarray) -> np.ndarray:
        out = np.empty_like(r)
        for one in {id(one): one for one in self.each}.values():
            columns = [g for g, other in enumerate(self.each) if other is one]
            out[:, columns] = one(r[:, columns])
        return out


@dataclass(frozen=True)
class Inverses:
    """Applies the inverse Hessian ``each[g]`` to column g of r (P, G); ``each`` is (G, P, P)."""

    each: np.ndarray

    def take(self, columns: np.ndarray) -> Inverses:
        """The preconditioner of the columns (A,) of the block."""
        return self if np.array_equal(columns, np.arange(len(self.each))) else Inverses(self.each[columns])

    def __call__(self, r: np.ndarray) -> np.ndarray:
        return np.asfortranarray((self.each @ r.T[:, :, None])[:, :, 0].T)


@dataclass(frozen=True)
class Raised:
    """Maps column g of r (P, G) to M^-1 r + sum_j d_jg a_jg a_jg' r, with d >= 0 the ``diagonal`` (K, D, G).

    a_jg is the unit vector of parameter j minus ``mean`` (K, D, G) times the unit vector of its output's intercept.
    """

    inverse: Preconditioner
    diagonal: np.ndarray
    mean: np.ndarray

    def take(self, columns: np.ndarray) -> Raised:
        """The preconditioner of the columns (A,) of the block."""
        return Raised(for_columns(self.inverse, columns), self.diagonal[:, :, columns], self.mean[:, :, columns])

    def __call__(self, r: np.ndarray) -> np.ndarray:
        R = r.reshape(self.diagonal.shape)
        along = self.diagonal * (R - self.mean * R[:, -1:])
        along[:, -1] -= (self.mean * along).sum(axis=1)
        return self.inverse(r) + along.reshape(r.shape)


@dataclass(frozen=True)
class Along:
    """Maps column g of r (P, G) to M^-1 r + Z diag(b) Z' r, where Z and b are entry ``places[g]`` of ``vectors`` (A, P,
    s) and ``sizes`` (A, s); for a place of -1 it is M^-1 r alone."""

    inverse: Preconditioner
    vectors: np.ndarray
    sizes: np.ndarray
    places: np.ndarray

    def take(self, columns: np.ndarray) -> Along:
        """The preconditioner of the columns (A,) of the block."""
        return Along(for_columns(self.inverse, columns), self.vectors, self.sizes, self.places[columns])

    def __call__(self, r: np.ndarray) -> np.ndarray:
        out, has = self.inverse(r), self.places >= 0
        Z, b = self.vectors[self.places[has]], self.sizes[self.places[has]]
        out[:, has] += (Z @ (b[:, :, None] * (Z.transpose(0, 2, 1) @ r[:, has].T[:, :, None])))[:, :, 0].T
        return out


@dataclass(frozen=True)
class WithTerms:
    """Maps column g of r (P, G) to (M + sum_n s_n I_K (x) d_ng d_ng')^-1 r: M with rank-one terms on the coefficients
    of every output, by the formula of Sherman, Morrison and Woodbury.

    ``inverse`` is r -> M^-1 r, ``along`` (n, D, G) are the d_ng, and ``solved`` (n K, P, G) is M^-1 times each d_ng on
    each output; ``inner`` (G, n K, n K) is the inverse of diag(1 / s) + d' M^-1 d.
    """

    inverse: Preconditioner
    along: np.ndarray
    solved: np.ndarray
    inner: np.ndarray

    def take(self, columns: np.ndarray) -> WithTerms:
        """The preconditioner of the columns (A,) of the block."""
        inverse = for_columns(self.inverse, columns)
        return WithTerms(inverse, self.along[:, :, columns], self.solved[:, :, columns], self.inner[columns])

    def __call__(self, r: np.ndarray) -> np.ndarray:
        z = self.inverse(r)
        shares = np.einsum("gkl,lg->kg", self.inner, _on_outputs(self.along, z))
        return np.asfortranarray(z - np.einsum("kpg,kg->pg", self.solved, shares))


def with_terms(inverse: Preconditioner, along: np.ndarray, signs: np.ndarray, outputs: int) -> WithTerms:
    """``WithTerms`` from r -> M^-1 r, d_ng (n, D, G) and s_n (n,), which are -1 or 1, for K = ``outputs``."""
    _, columns, groups = along.shape
    solved = np.empty((len(along) * outputs, outputs * columns, groups))
    for number, one in enumerate(solved):
        placed = np.zeros((outputs, columns, groups))
        placed[number % outputs] = along[number // outputs]
        one[:] = inverse(np.asfortranarray(placed.reshape(-1, groups)))
    between = np.stack([_on_outputs(along, one) for one in solved], axis=1).transpose(2, 0, 1)
    return WithTerms(inverse, along, solved, np.linalg.inv(np.diag(np.repeat(signs, outputs)) + between))


def _on_outputs(along: np.ndarray, z: np.ndarray) -> np.ndarray:
    """d_ng' z for the coefficients of every output, (n K, G), where z is (P, G)."""
    _, columns, groups = along.shape
    return np.asarray(np.einsum("ndg,kdg->nkg", along, z.reshape(-1, columns, groups)).reshape(-1, groups))


def for_columns(preconditioner: Preconditioner, columns: np.ndarray) -> Preconditioner:
    """The part of ``preconditioner`` for the columns (A,) of its block; the whole where it is the same for all
    columns."""
    take = getattr(preconditioner, "take", None)
    return preconditioner if take is None else take(columns)
