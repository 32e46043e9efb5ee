"""The choice of the method that solves H x = b, with its reason, and the solver itself.

A dense factor takes P^2 numbers of memory and about m P (P + D) / 2 + P^3 / 3 multiply-adds once; each solve then takes
a few products.  Without it, every solve takes tens to hundreds of products.  The factor is therefore used wherever it
fits into memory and does not take too long.  Where there are far fewer rows than columns, the dual form, whose matrix
has the size of the rows, does the same at a small part of the cost.
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
"""Share of the available memory that the factor and its computation may take under ``auto``."""
SECONDS = 300.0
"""Seconds that the computation of a factor may take under ``auto``."""
HESSIAN_UP_TO = 128
"""Number of parameters up to which H itself is formed for products; forming it takes as long as a pass with half as
many columns."""
SOLVERS = ("auto", "cholesky", "dual", "cg")
EXACT = 1e-6
"""Relative error of products with the inverse in dual form up to which it counts as exact.  The dual form loses digits
where the penalty is almost 0 compared with the curvature."""
SOLVED = 1e-10
"""Relative residual to which right-hand sides are solved."""
SIDE_BY_SIDE = 256
"""Right-hand sides in a block: a larger block gains nothing from sharing a pass, and each takes six vectors of
memory."""


@dataclass(frozen=True)
class SolverChoice:
    """``kind`` is cholesky, dual or cg; ``reason`` says why.  ``memory`` (bytes) and ``seconds`` are predictions."""

    kind: str
    reason: str
    memory: float
    seconds: float


@dataclass(frozen=True)
class HessianSolver:
    """Solves H x = b at the trained parameters: by ``factor``, by ``dual`` or, without either, by preconditioned CG."""

    product: Product
    preconditioner: Callable[[np.ndarray], np.ndarray]
    factor: CholeskyFactor | None
    tol: float
    size: int
    units: np.ndarray | float = 1.0
    """As ``Objective.units``: the units in which lengths of residuals are measured."""
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
        """The factor by which one correction of ``solve_by_factor`` shortens a residual."""
        return 1.0 if self.factor is None else contraction(self.product, self.factor, self.units)

    def factor_error(self) -> float:
        """|H M^-1 b - b| / |b| of the factor M for b = H u, u random: rounding error if M is H, about 1 otherwise.

        b lies mainly along eigenvectors of large eigenvalues, so that the shift of a float32 factor's diagonal hardly
        counts.
        """
        b = self.product(np.random.default_rng(2).normal(size=(self.size, 1)))
        with np.errstate(all="ignore"):
            error = np.linalg.norm(self.product(self.preconditioner(b)) - b) / np.linalg.norm(b)
        return float(error) if np.isfinite(error) else float("inf")

    def solve(self, rhs: np.ndarray) -> Solution:
        """x (P, A) for rhs (P, A), each to a relative residual of ``tol``, ``SIDE_BY_SIDE`` columns at a time."""
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
    """The solver of that ``kind`` (cholesky, dual or cg) at theta (P, 1), with the cached ``factor``, if any.

    Raises UsageError for the dual form of a model that has none, and NotConvergedError where H has no factor.
    """
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
    """The dual form of H^-1.  Raises UsageError where it does not apply to the model."""
    if isinstance(objective, Glm) and objective.bounded:
        return objective.dual(theta, objective.weights)
    raise UsageError(
        "--solver dual is for generalised linear models with a penalty on every slope",
        hint="use --solver cholesky or cg",
    )


def _narrow_product(objective: Objective, theta: np.ndarray) -> Product | None:
    """The product V -> H V with a dense H, so that no solve reads the rows; H is formed when first used.

    None for a model with more than ``HESSIAN_UP_TO`` parameters whose Hessian is not kept, and where the dense matrix
    may differ from that of products (in a network).
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
    """Choose a solver for P = ``size`` parameters and m = ``rows`` rows by the memory and time that a dense factor
    takes.

    ``requested`` is one of ``SOLVERS``.  ``cached`` says that the model has a factor, ``wide`` that the dual form costs
    far less; ``beside`` is the memory (bytes) that the work takes with any solver.  Raises UsageError where that does
    not fit, or where a factor is requested that does not fit beside it.
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
    """Multiply-adds per second of a matrix product of this type, measured now."""
    n = 384
    a = np.ones((n, n), dtype=dtype)
    a @ a
    start = perf_counter()
    a @ a
    return n**3 / max(perf_counter() - start, 1e-6)
