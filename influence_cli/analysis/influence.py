"""Estimates: groups -> weights -> changes of theta (P, G) -> changes of f (G, T), a block of groups at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from copy import copy
from dataclasses import dataclass, replace

import numpy as np

from influence_cli.analysis.by_rows import fill_by_rows, serves
from influence_cli.analysis.figures import Figures, Tables
from influence_cli.analysis.one_by_one import influence_one_by_one
from influence_cli.analysis.pooled import check_evaluate
from influence_cli.analysis.question import Question, piece
from influence_cli.analysis.reliability import INFINITE, Estimation, Reliability
from influence_cli.core.estimators import METHODS as ESTIMATORS
from influence_cli.core.estimators import Estimate, estimate, exact_change, linear_change
from influence_cli.core.optimise.anderson import DEPTH
from influence_cli.core.optimise.restarts import chunk_bytes
from influence_cli.core.parallel import alone_where_narrow
from influence_cli.core.quantities import Target
from influence_cli.core.recession import Recession, recession
from influence_cli.core.removal import Removal
from influence_cli.core.rif import SingleRemovals, require_glm, rows_that_hold_the_minimum
from influence_cli.core.solvers.choice import SIDE_BY_SIDE, HessianSolver
from influence_cli.errors import UsageError, unknown_word
from influence_cli.memory import at_most
from influence_cli.models.trained import TrainedModel
from influence_cli.results import MEAN_TEST, NO_TEST, OK, REFINED, InfluenceResult, Provenance
from influence_cli.specs.planned import GroupPlan

METHODS = (*ESTIMATORS, REFINED)
BLOCK_BYTES, BLOCK_SHARE = 256e6, 0.1
"""Bytes that the rows and parameters of one block of groups may take, also as a share of the memory."""
HELD_BYTES = 1e9
"""Bytes of right-hand sides of groups that may wait for the adjoints of further test rows."""
WIDEST = 64
"""Groups in a block: beyond this a pass over the rows gains nothing from more columns."""


@dataclass(frozen=True)
class _Piece:
    """Some of the test rows: their places ``where`` among all, the ``target`` that computes f, and f before removal."""

    where: slice
    target: Target
    base: np.ndarray


@dataclass(frozen=True)
class _Block:
    """What is known about some groups independently of the test rows, and the ``question`` about them; ``without`` is
    None if J has a minimum without each of them."""

    question: Question
    where: slice
    digests: tuple[str, ...]
    weights: Removal
    estimates: dict[str, Estimate]
    without: Recession | None


def check_methods(methods: Sequence[str]) -> tuple[str, ...]:
    """The methods in the order given.  Raises UsageError for an unknown or repeated one."""
    for method in methods:
        if method not in METHODS:
            raise unknown_word("--method", method, METHODS)
    if len(set(methods)) < len(methods) or not methods:
        raise UsageError("--method needs one or more different methods", hint="for example --method first,second")
    return tuple(methods)


def check_possible(model: TrainedModel, methods: Sequence[str]) -> None:
    """Raises UsageError, before a solver is made, for a method that a model of this kind does not have."""
    if "rif" in methods:
        require_glm(model.objective)


@alone_where_narrow(lambda question, *arguments, **options: question.model.objective.size)
def influence(
    question: Question,
    solver: HessianSolver,
    plan: GroupPlan,
    how: Estimation,
    *,
    provenance: Provenance,
    advance: Callable[[int], None] = lambda pairs: None,
) -> InfluenceResult:
    """Estimated changes ``f(after removal) - f(before)`` for every group and test row, without retraining.

    It takes one adjoint solve per test row and one forward solve per group, whatever the number of pairs, while the
    groups' right-hand sides or the test rows' adjoints fit in ``HELD_BYTES``.  Where a solve did not converge the value
    is NaN and ``status`` says why.  Where J has no minimum after removal the estimates stay, and ``ends`` says so.
    ``advance`` is called with the number of (group, test row) pairs done, ``how.rounds`` times for each pair.
    """
    check_methods(how.methods)
    if how.estimators:
        check_evaluate(question.quantity, how.evaluate)
    if question.of_removed and how.evaluate != "exact":
        raise UsageError("--test removed is evaluated exactly", hint="leave --evaluate linear out")
    refit = question.model.refit
    if how.certify is not None and refit is not None and not refit.estimates:
        raise UsageError(
            "a certificate is about what is estimated, and estimates keep this model's preprocessing as it was fitted",
            hint="ask for frozen preprocessing as well, in retraining too: --preprocessing frozen",
        )
    if refit is not None and not refit.shared and refit.estimates:
        return influence_one_by_one(question, solver, plan, how, provenance=provenance, advance=advance)
    model = question.model
    known = Reliability(question, solver, how, len(plan))
    tables = Tables(question, plan, how, known)
    if serves(model, plan, how):
        fill_by_rows(tables, solver, name_test=_at_test, advance=advance)
        return tables.result(provenance)
    blocks = _Blocks(question, solver, plan, how.estimators)
    if how.estimators:
        exact = how.evaluate == "exact"
        pairs = _exact(blocks, known) if exact else _linear(blocks, _pieces(question, known.base), question.codes)
        for block, part, figures in pairs:
            tables.put(block.where, block.digests, figures, part.where)
            tables.know(block.where, [part.target], block.without, part.where)
            tables.doubt(block.where, block.estimates)
            advance(len(block.digests) * len(part.base))
            if how.errors and exact and part.where.stop == len(question):
                known.estimate(
                    block.where, known.after(block.weights, question=block.question), block.estimates, tables.values
                )
        for block in blocks.of() if how.errors and not exact else ():
            solved = {method: estimate.solved(solver) for method, estimate in block.estimates.items()}
            known.estimate(block.where, known.after(block.weights), solved, tables.values)
    if REFINED in how.methods:
        whole = slice(0, len(question))
        for block in blocks.bare().of():
            tables.know(block.where, block.question.targets, block.without)
            after = known.after(block.weights, block.without, block.question)
            figures = {REFINED: known.refine(block.where, after, tables.finite(block.where))}
            tables.put(block.where, block.digests, figures, whole)
            advance(len(block.digests) * len(question))
    return tables.result(provenance)


def working_bytes(model: TrainedModel, plan: GroupPlan, tests: int, methods: Sequence[str]) -> float:
    """Memory that ``influence`` takes at its peak in addition to the model and its factor."""
    objective, groups = model.objective, len(plan)
    results = 16.0 * groups * tests * len(methods)
    curvatures = 20.0 * model.dataset.rows * objective.outputs if model.dataset.streamed is None else 0.0
    adjoints = 16.0 * objective.size * min(tests, piece(objective.size))
    solves = 48.0 * objective.size * min(max(tests, min(groups, WIDEST)), SIDE_BY_SIDE)
    bytes_each = _group_bytes(model, plan) - (0.0 if REFINED in methods else 8.0 * 3 * DEPTH * objective.size)
    blocks = max((bytes_each[block].sum() for block in group_blocks(model, plan)), default=0.0)
    waiting = min(groups, _held(model, methods)) if tests > piece(objective.size) else 0
    held = 8.0 * objective.size * len(methods) * waiting
    stepped = {"newton", REFINED} & set(methods)
    chunks = chunk_bytes(objective, groups) if stepped and objective.tuning.cheap_preconditioner else 0.0
    return results + curvatures + adjoints + solves + blocks + held + chunks


def group_blocks(model: TrainedModel, plan: GroupPlan, groups: slice = slice(None)) -> Iterator[slice]:
    """Slices over these groups, as wide as memory and ``WIDEST`` allow."""
    start, stop, _ = groups.indices(len(plan))
    total = np.concatenate([[0.0], np.cumsum(_group_bytes(model, plan))])
    while start < stop:
        fits = int(np.searchsorted(total, total[start] + at_most(BLOCK_BYTES, BLOCK_SHARE), side="right")) - 1
        end = min(stop, start + WIDEST, max(fits, start + 1))
        yield slice(start, end)
        start = end


def _group_bytes(model: TrainedModel, plan: GroupPlan) -> np.ndarray:
    """Bytes of each group, (G,): its rows with their weights, and the parameters with what solving for them needs,
    above all the three sets of ``DEPTH`` differences that ``refined`` keeps for Anderson mixing."""
    return 8.0 * (4.0 * np.asarray(plan.size) + (3 * DEPTH + 6) * model.objective.size)


def _held(model: TrainedModel, methods: Sequence[str]) -> int:
    """Groups whose right-hand sides may wait."""
    return max(WIDEST, int(HELD_BYTES / (8.0 * model.objective.size * len(methods))))


class _Blocks:
    """The estimates of a plan's groups, block by block."""

    def __init__(self, question: Question, solver: HessianSolver, plan: GroupPlan, methods: Sequence[str]):
        self.question, self.model, self.solver = question, question.model, solver
        self.plan, self.methods, model = plan, methods, question.model
        scaling, singles = model.settings.penalty_scaling, "rif" in methods
        self._loose: np.ndarray | None = None
        self._without: dict[tuple[int, int], Recession | None] = {}
        self._singles = SingleRemovals(model.objective, model.theta, solver, scaling) if singles else None

    def bare(self) -> _Blocks:
        """The same blocks without estimates; the directions of recession that were found are kept."""
        blocks = copy(self)
        blocks.methods = ()
        return blocks

    def _unsure(self, groups: slice) -> bool:
        """Whether J may lack a minimum without one of these groups; of ``rows:each`` one pass answers this for all."""
        if not self.plan.each_row:
            return True
        if self._loose is None:
            self._loose = rows_that_hold_the_minimum(self.model.objective, self.model.theta)
        return bool(np.searchsorted(self._loose, groups.stop) > np.searchsorted(self._loose, groups.start))

    def of(self, groups: slice = slice(None)) -> Iterator[_Block]:
        objective, theta = self.model.objective, self.model.theta
        for where in group_blocks(self.model, self.plan, groups):
            planned = [self.plan.group(index) for index in range(where.start, where.stop)]
            weights = self.model.removal([group.rows for group in planned])
            estimates = {}
            if self.methods:
                estimates = estimate(objective, theta, self.solver, weights, self.methods, self._singles)
            key = where.start, where.stop
            if key not in self._without:
                self._without[key] = recession(objective, theta, weights.removed) if self._unsure(where) else None
            digests = tuple(group.digest for group in planned)
            question = self.question.of(np.arange(where.start, where.stop), weights.removed)
            yield _Block(question, where, digests, weights, estimates, self._without[key])


def _pieces(question: Question, base: np.ndarray) -> list[_Piece]:
    """The test rows in parts; ``base`` is f before removal, (T,), or (1, G) of the groups that are asked about."""
    out, start = [], 0
    for target in question.targets:
        count = 1 if question.by_group else target.value(question.model.theta).shape[0]
        out.append(_Piece(slice(start, start + count), target, base[start : start + count]))
        start += count
    return out


def _exact(blocks: _Blocks, known: Reliability) -> Iterator[tuple[_Block, _Piece, dict[str, Figures]]]:
    """f after the estimated change minus f before."""
    pieces = _pieces(blocks.question, known.base)
    for block in blocks.of():
        if blocks.question.by_group:
            pieces = _pieces(block.question, known.base_of(block.where))
        solved = {method: solution.solved(blocks.solver) for method, solution in block.estimates.items()}
        block = replace(block, estimates=solved)
        for part in pieces:
            figures = {}
            for method, solution in solved.items():
                change = exact_change(solution, part.target, blocks.model.theta, part.base)
                figures[method] = _only_valid(change, solution.problems)
            yield block, part, figures


def _linear(
    blocks: _Blocks, pieces: Sequence[_Piece], codes: np.ndarray
) -> Iterator[tuple[_Block, _Piece, dict[str, Figures]]]:
    """grad f' change.  H^-1 grad f is computed once and serves every group; a Newton step alone does not need it.

    The right-hand sides of groups are held while the adjoints are computed, or the reverse: the side that needs fewer
    parts is held, so that the other one is computed once per part.
    """
    groups, step = len(blocks.plan), _held(blocks.model, blocks.methods)
    if -(-groups // step) >= len(pieces):
        for part in pieces:
            evaluate = _by_adjoints(blocks, part, codes)
            for block in blocks.of():
                yield block, part, evaluate(block)
        return
    for start in range(0, groups, step):
        held = [_without_needless(block) for block in blocks.of(slice(start, min(start + step, groups)))]
        for part in pieces:
            evaluate = _by_adjoints(blocks, part, codes)
            for block in held:
                yield block, part, evaluate(block)


def _without_needless(block: _Block) -> _Block:
    """The block with one array per estimate: the right-hand side if there is one."""
    lighter = {method: one if one.rhs is None else replace(one, change=None) for method, one in block.estimates.items()}
    return replace(block, estimates=lighter)


def _by_adjoints(blocks: _Blocks, part: _Piece, codes: np.ndarray) -> Callable[[_Block], dict[str, Figures]]:
    """The figures of a block of groups for these test rows."""
    gradients = part.target.gradient(blocks.model.theta)
    if set(blocks.methods) == {"newton"}:
        return lambda block: {"newton": _linear_figures(block.estimates["newton"], gradients, gradients)}
    adjoints = blocks.solver.solve(gradients)
    unsolved = {
        column: _at_test(int(codes[part.where][column])) + adjoints.why(column)
        for column in np.flatnonzero(~adjoints.converged).tolist()
    }

    def evaluate(block: _Block) -> dict[str, Figures]:
        figures = {}
        for method, linear in block.estimates.items():
            change, problems = _linear_figures(linear, gradients, adjoints.x)
            if unsolved and linear.rhs is not None:
                change[:, list(unsolved)] = np.nan
                first = next(iter(unsolved.values()))
                problems = [first if problem == OK else problem for problem in problems]
            figures[method] = change, problems
        return figures

    return evaluate


def _linear_figures(estimate: Estimate, gradients: np.ndarray, adjoints: np.ndarray) -> Figures:
    return _only_valid(linear_change(estimate, gradients, adjoints), estimate.problems)


def _only_valid(change: np.ndarray, problems: Sequence[str]) -> Figures:
    """The changes (G, T) without those of groups that have a problem; a value that is not finite is one as well."""
    finite = np.isfinite(change)
    named = [
        INFINITE if problem == OK and not row.all() else problem for problem, row in zip(problems, finite, strict=True)
    ]
    valid = finite & (np.array(problems) == OK)[:, None]
    return np.where(valid, change, np.nan), named


def _at_test(code: int) -> str:
    return {MEAN_TEST: "mean of the test rows, ", NO_TEST: ""}.get(code, f"test row {code}, ")
