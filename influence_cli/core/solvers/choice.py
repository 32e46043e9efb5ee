"""Which way H x = b is solved, and why.

A dense factor costs P^2 numbers of memory and about m P D operations once; each solve is then a few products.  Without
it every solve takes tens to hundreds of products.  So: the factor wherever it fits and does not take too long.  Where
there are far fewer rows than columns the dual form, a matrix of the rows' size, does the same for a small part of that.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from time import perf_counter

import numpy as np

from influence_cli.core.arrays import symmetric
from influence_cli.core.objectives.glm import Glm
from influence_cli.core.objectives.objective import Objective, Product
from influence_cli.core.parallel import alone_where_narrow
from influence_cli.core.solvers.cg import Solution, conjugate_gradient, joined
from influence_cli.core.solvers.cholesky import CholeskyFactor, factor_dtype, factorize
from influence_cli.core.solvers.dual import Dual
from influence_cli.core.solvers.factor import WORTH_MEASURING, contraction, solve_by_factor
from influence_cli.errors import UsageError
from influence_cli.memory import at_hand as available_memory
from influence_cli.memory import shown

MEMORY_SHARE = 0.4
"""Share of the available memory that the factor and its making may take under ``auto``."""
SECONDS = 300.0
"""Longest making of a factor under ``auto``."""
HESSIAN_UP_TO = 128
"""Parameters up to which H itself is made for products: it takes as long as a pass for half as many columns."""
SOLVERS = ("auto", "cholesky", "dual", "cg")
EXACT = 1e-6
"""Relative error of products with the dual form's inverse up to which it counts as exact: where the penalty is all but
0 beside the curvature, it loses its digits."""
SOLVED = 1e-10
"""Relative residual of a solution."""
SIDE_BY_SIDE = 256
"""Right-hand sides in one block: more gain nothing from sharing a pass, and each takes six vectors of memory."""


@dataclass(frozen=True)
class SolverChoice:
    """``kind`` is cholesky, dual or cg; ``reason`` says why, with the predicted memory (bytes) and time (seconds)."""

    kind: str
    reason: str
    memory: float
    seconds: float


@dataclass(frozen=True)
class HessianSolver:
    """Solves H x = b at the trained parameters, by ``factor``, ``dual``, or, without either, preconditioned CG."""

    product: Product
    preconditioner: Callable[[np.ndarray], np.ndarray]
    factor: CholeskyFactor | None
    tol: float
    size: int
    units: np.ndarray | float = 1.0
    """As ``Objective.units``: what the lengths of residuals are measured in."""
    dual: Dual | None = None

    @property
    def kind(self) -> str:
        """cholesky, dual or cg."""
        return "cg" if self.factor is None and self.dual is None else "dual" if self.factor is None else "cholesky"

    @cached_property
    def exact(self) -> bool:
        """Whether the preconditioner solves with H itself, up to rounding in float64."""
        if self.dual is not None:
            return self.factor_error() < EXACT
        return self.factor is not None and self.factor.lower.dtype == np.float64

    @cached_property
    def contraction(self) -> float:
        """By which a correction of ``solve_by_factor`` shortens a residual."""
        return 1.0 if self.factor is None else contraction(self.product, self.factor, self.units)

    def factor_error(self) -> float:
        """|H L^-T L^-1 b - b| / |b| of the factor for b = H u, u random: rounding where L L' is H, else about 1.

        b lies along the large eigenvalues, so that what was added to the diagonal of a float32 factor hardly counts.
        """
        b = self.product(np.random.default_rng(2).normal(size=(self.size, 1)))
        with np.errstate(all="ignore"):
            error = np.linalg.norm(self.product(self.preconditioner(b)) - b) / np.linalg.norm(b)
        return float(error) if np.isfinite(error) else float("inf")

    def solve(self, rhs: np.ndarray) -> Solution:
        """x (P, A) for rhs (P, A), each to a relative residual of ``tol``; SIDE_BY_SIDE columns at a time."""
        starts = range(0, max(rhs.shape[1], 1), SIDE_BY_SIDE)
        return joined([self._solve(rhs[:, start : start + SIDE_BY_SIDE]) for start in starts])

    def _solve(self, rhs: np.ndarray) -> Solution:
        if self.dual is not None:
            return solve_by_factor(self.product, self.dual, rhs, tol=self.tol, units=self.units)
        if self.factor is None:
            return conjugate_gradient(
                self.product, rhs, preconditioner=self.preconditioner, tol=self.tol, units=self.units
            )
        many = not self.exact and rhs.shape[1] >= WORTH_MEASURING
        ratio = self.contraction if many else 1.0
        return solve_by_factor(self.product, self.factor, rhs, tol=self.tol, ratio=ratio, units=self.units)


@alone_where_narrow(lambda objective, *arguments, **options: objective.size)
def make_solver(
    objective: Objective, theta: np.ndarray, kind: str, *, factor: CholeskyFactor | None = None
) -> HessianSolver:
    """The solver of that kind (cholesky, dual or cg) at theta (P, 1), with a factor that was cached, if any."""
    product = _narrow_product(objective, theta) or objective.curvature(theta, objective.weights)
    size, units = objective.size, objective.units
    if kind == "cg":
        return HessianSolver(product, objective.preconditioner(theta, objective.weights), None, SOLVED, size, units)
    if kind == "dual":
        dual = _dual(objective, theta)
        return HessianSolver(product, dual, None, SOLVED, size, units, dual)
    factor = factorize(objective, theta) if factor is None else factor
    return HessianSolver(product, factor, factor, SOLVED, size, units)


def _dual(objective: Objective, theta: np.ndarray) -> Dual:
    """Raises UsageError where the dual form is not for this model."""
    if isinstance(objective, Glm) and objective.bounded:
        return objective.dual(theta, objective.weights)
    raise UsageError(
        "--solver dual is for generalised linear models with a penalty on every slope",
        hint="use --solver cholesky or cg",
    )


def _narrow_product(objective: Objective, theta: np.ndarray) -> Product | None:
    """The product V -> H V by H itself, made when it is first used, for few parameters or where it is kept: no solve
    reads the rows.

    None for more parameters, and where the dense matrix may be another one than that of products (a network's).
    """
    has_hessian = isinstance(objective, Glm) and objective.kept is not None and objective.kept.hessian is not None
    if not objective.convex or (objective.size > HESSIAN_UP_TO and not has_hessian):
        return None
    kept: list[np.ndarray] = []

    def product(V: np.ndarray, columns: np.ndarray | None = None) -> np.ndarray:
        if not kept:
            whole = symmetric(objective.dense_curvature(theta, objective.weights, np.dtype(np.float64)))
            whole[np.diag_indices(objective.size)] += objective.damping
            kept.append(whole)
        return np.asfortranarray(kept[0] @ V)

    return product


def choose_solver(
    requested: str, *, size: int, outputs: int, rows: int, cached: bool, wide: bool = False, beside: float = 0.0
) -> SolverChoice:
    """Weigh memory and time of a dense factor of P = ``size`` parameters on m = ``rows`` rows.

    ``wide`` says that the dual form costs far less; ``beside`` is the memory (bytes) that the work itself takes,
    whatever the solver.  Raises UsageError where that does not fit, or where a factor was asked for and does not fit
    beside it.
    """
    dtype = factor_dtype(size)
    blocks = (outputs + 1) / (2 * outputs)
    memory = size**2 * dtype.itemsize * (1.0 + blocks)
    if cached:
        memory = size**2 * dtype.itemsize
    columns = size / outputs
    operations = outputs * (outputs + 1) / 2 * rows * columns**2 + size**3 / 3
    seconds = 0.0 if cached else operations / _rate(dtype)
    total = available_memory()
    available = total - beside
    if available < 0:
        raise UsageError(
            f"this needs about {shown(beside)} of memory beside the model, and {shown(total)} are available",
            hint="ask about fewer groups or fewer test rows at a time, or about --test mean; or raise --memory",
        )
    cost = f"{size:,} parameters, {shown(memory)}, about {seconds:.2g} s once"
    if requested in ("cg", "dual"):
        return SolverChoice(requested, "asked for", 0.0, 0.0)
    if requested == "cholesky" and memory > available:
        raise UsageError(
            f"the Cholesky factor of {size:,} parameters needs {shown(memory)} of memory and"
            f" {shown(available)} are available",
            hint="use --solver cg",
        )
    if requested == "cholesky":
        return SolverChoice("cholesky", "asked for", memory, seconds)
    if cached:
        return SolverChoice("cholesky", "the factor is cached in the model", memory, 0.0)
    if wide:
        matrix = 8.0 * (rows * outputs) ** 2
        reason = f"far fewer rows than columns: their matrix takes {shown(matrix)}, a dense factor {cost}"
        return SolverChoice("dual", reason, matrix, 0.0)
    if memory > MEMORY_SHARE * available:
        reason = f"a dense factor does not fit: {cost}; available {shown(available)}"
        return SolverChoice("cg", reason, memory, seconds)
    if seconds > SECONDS:
        return SolverChoice("cg", f"a dense factor takes too long: {cost}", memory, seconds)
    return SolverChoice("cholesky", f"a dense factor is cheap: {cost}", memory, seconds)


def _rate(dtype: np.dtype) -> float:
    """Multiply-adds a second of a matrix product of this type here and now."""
    n = 384
    a = np.ones((n, n), dtype=dtype)
    a @ a
    start = perf_counter()
    a @ a
    return n**3 / max(perf_counter() - start, 1e-6)
