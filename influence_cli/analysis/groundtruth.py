"""The truth: the same changes of f (G, T) by retraining without each group, block by block.

The division into blocks depends on sizes alone, and blocks are independent of each other, so that a resumed run gives
the same bits as an uninterrupted one.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass, replace
from threading import Event
from time import perf_counter

import numpy as np

from influence_cli.analysis.certification import prove_truth
from influence_cli.analysis.question import Question
from influence_cli.analysis.remade import without
from influence_cli.analysis.truth_block import Block, with_block
from influence_cli.core.optimise.minimum import Minimum
from influence_cli.core.outcome import Outcome, Trained, after_removal, before_removal
from influence_cli.core.parallel import alone_where_narrow, divided
from influence_cli.core.removal import Removal
from influence_cli.core.retraining import COLD, PROXIMAL, WARM, retrain, retrain_cold
from influence_cli.core.small_groups import hessians_after
from influence_cli.core.solvers.choice import HessianSolver
from influence_cli.core.training import train
from influence_cli.errors import UNBOUNDED, UNDEFINED, FileError, UsageError
from influence_cli.memory import at_most
from influence_cli.models.trained import TrainedModel
from influence_cli.results import OK, PENDING, UNCERTAIN, Provenance, TruthResult
from influence_cli.specs.planned import GroupPlan

BLOCK_BYTES, BLOCK_SHARE, STREAMED_VECTORS = 256e6, 0.1, 64
"""Bytes that the outputs (m rows, K outputs, G groups) and weights of one block may take, also as a share of the
memory, and vectors per group if the data are streamed."""
WIDEST, OUTPUTS_TOGETHER, HESSIANS_TOGETHER = 64, 600_000, 1 << 20
"""Groups in a block, or more if together they have no more outputs of all rows, and no more numbers in their Hessians,
than that: for a short table Python's overhead of a pass exceeds the work on a group."""
NARROW = 8
"""Groups in a block if J is not convex: different parameters share little work, and more blocks keep all jobs busy."""
PAIRS = 50
"""Parameter vectors that L-BFGS holds for each group."""
CURVATURE_BYTES = 512e6
"""Bytes of the Hessian approximations used for the descent of a block's groups, each with at least d x d numbers."""


@dataclass(frozen=True)
class Retraining:
    """How to retrain: to which relative tolerance, by which strategy (``core.retraining``), and how many blocks
    (``jobs``) at a time.

    ``repeats`` over 1 retrains cold from as many seeds; each change is then taken from the model of the same seed.
    ``certify`` is the requested width of a change's proven interval as a share of the change, if any.
    """

    tol: float
    strategy: str = WARM
    jobs: int = 1
    repeats: int = 1
    certify: float | None = None


@dataclass(frozen=True)
class _Seed:
    """A model trained from one seed, from which the changes after retraining from that seed are taken."""

    seed: int
    before: Trained

    def of(self, groups: slice) -> _Seed:
        """The same for some of the groups, where f differs by group."""
        before = replace(self.before, base=self.before.base[:, groups], off=self.before.off[:, groups])
        return replace(self, before=before)


class _StoppedError(Exception):
    """Ends a running block once its result is no longer needed."""


def check_strategy(model: TrainedModel, strategy: str, repeats: int) -> None:
    """Raises UsageError for repeats that would all give the same result."""
    if repeats > 1 and (strategy != COLD or model.objective.convex):
        why = "this model has one minimum" if model.objective.convex else f"--retrain {strategy} knows no seed"
        raise UsageError(
            f"--repeats {repeats} would measure the same {repeats} times: {why}",
            hint="repeat --retrain cold of a network",
        )


def start_truth(
    question: Question,
    plan: GroupPlan,
    provenance: Provenance,
    *,
    repeats: int = 1,
    certify: float | None = None,
) -> TruthResult:
    """The result of a run in which nothing has been retrained yet: every group is pending."""
    codes, count = question.codes, len(plan)
    digests = tuple(plan.group(index).digest for index in range(count))
    return TruthResult(
        question.named(provenance),
        plan.table(digests),
        codes,
        question.quantity,
        question.base().T if question.of_removed else question.base(),
        np.full((count, len(codes)), np.nan),
        np.full(count, np.nan),
        np.zeros(count, dtype=np.int64),
        np.full(count, np.nan),
        (PENDING,) * count,
        np.full((repeats, count, len(codes)), np.nan) if repeats > 1 else None,
        names=question.names,
        low=None if certify is None else np.full((count, len(codes)), np.nan),
        high=None if certify is None else np.full((count, len(codes)), np.nan),
    )


@alone_where_narrow(lambda question, *arguments, **options: question.model.objective.size)
def groundtruth(
    question: Question,
    solver: HessianSolver,
    plan: GroupPlan,
    partial: TruthResult,
    how: Retraining,
    *,
    keep: Callable[[TruthResult], None] = lambda result: None,
    advance: Callable[[int], None] = lambda groups: None,
) -> TruthResult:
    """Retrain without each group that is pending in ``partial``; ``actual`` is ``f(after removal) - f(before)``.

    A group whose retraining stalled has NaN for its changes and a ``status`` that says why; so has a test row whose f
    has no finite limit without the group.  ``keep`` is called with the result so far whenever a block is done.  Ctrl-C
    ends each running block after its current pass over the rows.
    """
    result = partial
    todo = [block for block in truth_blocks(question.model, len(plan)) if PENDING in partial.status[block]]
    stop = Event()

    def precondition(r: np.ndarray) -> np.ndarray:
        # Every iteration of every solver calls this function.
        if stop.is_set():
            raise _StoppedError
        return solver.preconditioner(r)

    stoppable = replace(solver, preconditioner=precondition)
    base = partial.base.T if question.of_removed else partial.base
    seeds = _seeds(question, base, solver, how) if todo else []

    def work(block: slice) -> Block:
        def watch(iteration: int, norm: float) -> None:
            if stop.is_set():
                raise _StoppedError

        return _retrain_block(question, stoppable, plan, block, seeds, how, watch)

    def account(done: Block) -> None:
        nonlocal result
        result = with_block(result, done)
        keep(result)
        advance(done.where.stop - done.where.start)

    if how.jobs == 1:
        for block in todo:
            account(work(block))
        return result
    with divided(how.jobs) as begin_job, ThreadPoolExecutor(how.jobs, initializer=begin_job) as pool:
        futures = [pool.submit(work, block) for block in todo]
        try:
            for future in as_completed(futures):
                account(future.result())
        except BaseException:
            stop.set()
            pool.shutdown(wait=False, cancel_futures=True)
            raise
    return result


def truth_blocks(model: TrainedModel, count: int) -> list[slice]:
    """Slices over the groups, about equally long; the same for the same model, on every machine."""
    each = 8.0 * model.dataset.rows * (model.objective.outputs + 3)
    if model.dataset.streamed is not None:  # no array as long as the rows is kept
        each = 8.0 * STREAMED_VECTORS * model.objective.size
    numbers = model.dataset.rows * model.objective.outputs
    widest: float = max(WIDEST, min(OUTPUTS_TOGETHER / numbers, HESSIANS_TOGETHER / model.objective.size**2))
    if not model.objective.convex:
        each += 8.0 * PAIRS * model.objective.size
        widest = min(NARROW, max(1.0, CURVATURE_BYTES / (8.0 * model.dataset.X_train.shape[1] ** 2)))
    step = int(min(widest, max(1, at_most(BLOCK_BYTES, BLOCK_SHARE) / each)))
    parts = -(-count // step)
    return [slice(count * part // parts, count * (part + 1) // parts) for part in range(parts)]


def is_an_answer(status: str) -> bool:
    """Whether there are figures: of a minimum, of the limits where there is none, or of an uncertain estimate."""
    return status == OK or status.startswith((UNBOUNDED, UNCERTAIN, UNDEFINED))


def count_stalled(result: TruthResult) -> int:
    """Number of groups without figures because retraining did not end."""
    return sum(not is_an_answer(status) for status in result.status)


def _retrain_block(
    question: Question,
    solver: HessianSolver,
    plan: GroupPlan,
    block: slice,
    seeds: Sequence[_Seed],
    how: Retraining,
    watch: Callable[[int, float], None],
) -> Block:
    start = perf_counter()
    model = question.model
    rows = [plan.rows(index) for index in range(block.start, block.stop)]
    proven = None
    if question.of_removed:
        question = question.of(np.arange(block.start, block.stop))
        seeds = [seed.of(block) for seed in seeds]
    if model.refit is None or model.refit.shared:
        gone = model.removal(rows)
        question = question.of(np.arange(len(rows)), gone.removed)
        runs = [_retrain_from(question, solver, gone, seed.before, seed.seed, how, watch) for seed in seeds]
        if how.certify is not None:
            proven = prove_truth(question, solver, gone.removed, seeds[0].before, runs[0], how.certify)
    else:
        outcomes = [_retrain_one_by_one(question, solver, rows, seed, how, watch) for seed in seeds]
        runs, (proven, *_) = [one for one, _ in outcomes], [ends for _, ends in outcomes]
    every = zip(*(run.status for run in runs), strict=True)
    statuses = [next((status for status in states if status != OK), OK) for states in every]
    if question.of_removed:
        unknown = np.isnan(seeds[0].before.base[0])
        statuses = [UNDEFINED if lost else status for status, lost in zip(statuses, unknown, strict=True)]
    return Block(
        block,
        np.stack([run.change.T for run in runs]),
        np.mean([run.error.T for run in runs], axis=0),
        np.max([run.minimum.grad_norm for run in runs], axis=0),
        np.sum([run.minimum.iterations for run in runs], axis=0),
        (perf_counter() - start) / len(rows),
        tuple(statuses),
        np.any([run.unbounded.T for run in runs], axis=0),
        proven,
    )


def _retrain_one_by_one(
    question: Question,
    solver: HessianSolver,
    rows: Sequence[np.ndarray],
    seed: _Seed,
    how: Retraining,
    watch: Callable[[int, float], None],
) -> tuple[Outcome, np.ndarray | None]:
    """As ``_retrain_from``, with the proven intervals (2, G, T), for groups whose removal changes the remaining rows;
    the parameters after removal are not returned, because their lengths may differ."""
    both = []
    for at, group in enumerate(rows):
        asked, seed_of_group = question, seed
        if question.of_removed:
            asked, seed_of_group = question.of(np.array([at])), seed.of(slice(at, at + 1))
        both.append(_retrain_one(asked, solver, group, seed_of_group, how, watch))
    outcomes = [outcome for outcome, _ in both]
    nothing = np.full((2, 1, len(question)), np.nan)
    ends = np.concatenate([nothing if group is None else group for _, group in both], axis=1)
    ended = [one.minimum for one in outcomes]
    names = ("grad_norm", "iterations", "converged", "decrement")
    none = np.empty((0, len(rows)))
    minimum = Minimum(
        theta=none, left=none, **{name: np.concatenate([getattr(one, name) for one in ended]) for name in names}
    )
    parts = {name: np.hstack([getattr(one, name) for one in outcomes]) for name in ("change", "error", "unbounded")}
    return Outcome(status=tuple(one.status[0] for one in outcomes), minimum=minimum, **parts), ends


def _retrain_one(
    question: Question,
    solver: HessianSolver,
    rows: np.ndarray,
    seed: _Seed,
    how: Retraining,
    watch: Callable[[int, float], None],
) -> tuple[Outcome, np.ndarray | None]:
    try:
        other = without(question, rows)
    except FileError as error:
        unknown, none = np.full((len(question), 1), np.nan), np.full(1, np.nan)
        ended = Minimum(none[None], none, np.zeros(1, dtype=np.int64), np.zeros(1, dtype=bool), none, none[None])
        return Outcome(unknown, unknown, (error.message,), ended, np.zeros(unknown.shape, dtype=bool)), None
    before = seed.before
    if not other.aligned:
        objective, how = other.question.model.objective, replace(how, strategy=COLD)
        before = replace(before, theta=objective.initial(seed.seed))
        inverse = objective.preconditioner(before.theta, other.removal.removed)
        solver = replace(solver, preconditioner=inverse, factor=None, dual=None)
    outcome = _retrain_from(other.question, solver, other.removal, before, seed.seed, how, watch)
    if how.certify is None:
        return outcome, None
    return outcome, prove_truth(other.question, solver, other.removal.removed, before, outcome, how.certify)


def _seeds(question: Question, base: np.ndarray, solver: HessianSolver, how: Retraining) -> list[_Seed]:
    """The model itself and, for further repeats, models trained from the seeds that follow its own."""
    model = question.model
    objective, targets = model.objective, question.targets
    first = before_removal(objective, targets, model.theta, base, solver.preconditioner)
    seeds = [_Seed(model.settings.seed, first)]
    for seed in range(model.settings.seed + 1, model.settings.seed + how.repeats):
        theta = train(objective, tol=how.tol, seed=seed).theta
        inverse = objective.preconditioner(theta, objective.weights)
        base = replace(question, model=replace(model, theta=theta)).base()
        seeds.append(_Seed(seed, before_removal(objective, targets, theta, base, inverse)))
    return seeds


def _retrain_from(
    question: Question,
    solver: HessianSolver,
    gone: Removal,
    before: Trained,
    seed: int,
    how: Retraining,
    watch: Callable[[int, float], None],
) -> Outcome:
    """Changes of f and how retraining ended; infinite changes, and those of groups that did not end, are NaN."""
    objective, theta, M = question.model.objective, before.theta, solver.preconditioner
    minimised = objective.proximal(theta) if how.strategy == PROXIMAL else objective
    if how.strategy == COLD:
        minimum = retrain_cold(objective, theta, gone.removed, preconditioner=M, tol=how.tol, seed=seed, watch=watch)
    else:
        near = hessians_after(objective, theta, solver, gone) if how.strategy == WARM else None
        minimum = retrain(minimised, theta, gone.removed, preconditioner=M, nearer=near, tol=how.tol, watch=watch)
    outcome = after_removal(minimised, question.targets, before, minimum, gone.removed, how.tol)
    known = np.array([is_an_answer(status) for status in outcome.status]) & np.isfinite(outcome.change)
    return replace(
        outcome, change=np.where(known, outcome.change, np.nan), error=np.where(known, outcome.error, np.nan)
    )
