"""The truth: the same changes of f (G, T) by retraining without each group, block by block.

Blocks depend on sizes alone and are independent of each other, so that a run which was cut off and resumed gives the
same bits as one which was not.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass, replace
from threading import Event
from time import perf_counter

import numpy as np

from influence_cli.analysis.question import Question, runs_away
from influence_cli.analysis.remade import without
from influence_cli.core.optimise.newton_cg import Minimum
from influence_cli.core.parallel import divided
from influence_cli.core.quantities import Target
from influence_cli.core.retraining import COLD, WARM
from influence_cli.core.retraining import retrain_by as retrain
from influence_cli.core.solvers.cholesky import factorize
from influence_cli.core.training import REACH, newton_reach, train
from influence_cli.core.weights import Weights
from influence_cli.errors import FileError, NotConvergedError, UsageError
from influence_cli.models.trained import TrainedModel
from influence_cli.results import OK, PENDING, Provenance, TruthResult
from influence_cli.specs.plan import GroupPlan

BLOCK_BYTES = 256e6
"""Size of the outputs (m rows, K outputs, G groups) and weights that one block works on."""
WIDEST = 64
NARROW = 8
"""Groups in a block where J is not convex: parameters that differ share little work, and jobs are better fed."""
PAIRS = 50
"""Parameter vectors that L-BFGS holds a group."""
CURVATURE_BYTES = 512e6
"""Of the approximations of the Hessian that the groups of a block descend by, each d x d numbers and more."""
ENDLESS = "a class has lost all its rows and its intercept has no penalty: null where f has no finite value"
"""Status of a group whose retraining ended well and some of whose test rows' f runs away all the same."""
UNDETERMINED = "without the group the rows do not determine the parameters and --l2 is 0"


@dataclass(frozen=True)
class Retraining:
    """How to retrain: to which gradient norm, by which strategy (``core.retraining``), and ``jobs`` blocks at a time.

    ``repeats`` over 1 retrains cold from as many seeds; each change is then taken from the model of the same seed.
    """

    tol: float
    strategy: str = WARM
    jobs: int = 1
    repeats: int = 1


@dataclass(frozen=True)
class _Seed:
    """A model trained from one seed: what its retraining without a group is held against."""

    seed: int
    theta: np.ndarray
    base: np.ndarray


class _StoppedError(Exception):
    """Ends a block in flight once nobody waits for it any more."""


@dataclass(frozen=True)
class _Block:
    """What retraining gave for the groups of one slice."""

    where: slice
    repeats: np.ndarray
    grad_norm: np.ndarray
    iterations: np.ndarray
    seconds: float
    status: tuple[str, ...]


def check_strategy(model: TrainedModel, strategy: str, repeats: int) -> None:
    """Raises UsageError for repeats that would all be the same."""
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
) -> TruthResult:
    """The result of a run in which nothing has been retrained yet: every group is pending."""
    codes, count = question.codes, len(plan)
    digests = tuple(plan.group(index).digest for index in range(count))
    return TruthResult(
        provenance,
        plan.table(digests),
        codes,
        question.quantity,
        question.value(question.model.theta)[:, 0],
        np.full((count, len(codes)), np.nan),
        np.full(count, np.nan),
        np.zeros(count, dtype=np.int64),
        np.full(count, np.nan),
        (PENDING,) * count,
        np.full((repeats, count, len(codes)), np.nan) if repeats > 1 else None,
        names=question.names,
    )


def groundtruth(
    question: Question,
    preconditioner: Callable[[np.ndarray], np.ndarray],
    plan: GroupPlan,
    begun: TruthResult,
    how: Retraining,
    *,
    keep: Callable[[TruthResult], None] = lambda result: None,
    advance: Callable[[int], None] = lambda groups: None,
) -> TruthResult:
    """Retrain without each group that ``begun`` has pending; ``actual`` is ``f(after removal) - f(before)``.

    A group whose retraining stalled has NaN for its changes and a ``status`` that says why; so has a test row whose f
    has no finite value without the group.  ``keep`` is called with the result so far whenever a block is done.  Ctrl-C
    ends each block in flight after its present pass over the rows.
    """
    model, targets = question.model, question.targets
    result = begun
    todo = [block for block in truth_blocks(model, len(plan)) if PENDING in begun.status[block]]
    stop = Event()

    def precondition(r: np.ndarray) -> np.ndarray:
        # Every iteration of every solver comes by here.
        if stop.is_set():
            raise _StoppedError
        return preconditioner(r)

    seeds = _seeds(model, targets, begun.base, how) if todo else []

    def work(block: slice) -> _Block:
        def watch(iteration: int, norm: float) -> None:
            if stop.is_set():
                raise _StoppedError

        return _retrain_block(question, precondition, plan, block, seeds, how, watch)

    def account(done: _Block) -> None:
        nonlocal result
        result = _with_block(result, done)
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
    widest: float = WIDEST
    if not model.objective.convex:
        each += 8.0 * PAIRS * model.objective.size
        widest = min(NARROW, max(1.0, CURVATURE_BYTES / (8.0 * model.dataset.X_train.shape[1] ** 2)))
    step = int(min(widest, max(1, BLOCK_BYTES / each)))
    parts = -(-count // step)
    return [slice(count * part // parts, count * (part + 1) // parts) for part in range(parts)]


def count_stalled(result: TruthResult) -> int:
    """Groups of which nothing was found out: retraining did not end, or not at one point."""
    return sum(status not in (OK, ENDLESS) for status in result.status)


def _retrain_block(
    question: Question,
    preconditioner: Callable[[np.ndarray], np.ndarray],
    plan: GroupPlan,
    block: slice,
    seeds: Sequence[_Seed],
    how: Retraining,
    watch: Callable[[int, float], None],
) -> _Block:
    start = perf_counter()
    model = question.model
    rows = [plan.rows(index) for index in range(block.start, block.stop)]
    if model.refit is None or model.refit.shared:
        w = model.removal(rows).removed
        runs = [_retrain_from(model, preconditioner, question.targets, w, seed, how, watch) for seed in seeds]
    else:
        runs = [_retrain_one_by_one(question, preconditioner, rows, seed, how, watch) for seed in seeds]
    repeats = np.stack([changes for changes, _, _ in runs])
    statuses = [next((own for own in states if own != OK), OK) for states in zip(*(s for _, _, s in runs), strict=True)]
    return _Block(
        block,
        repeats,
        np.max([minimum.grad_norm for _, minimum, _ in runs], axis=0),
        np.sum([minimum.iterations for _, minimum, _ in runs], axis=0),
        (perf_counter() - start) / len(rows),
        tuple(statuses),
    )


def _retrain_one_by_one(
    question: Question,
    preconditioner: Callable[[np.ndarray], np.ndarray],
    rows: Sequence[np.ndarray],
    seed: _Seed,
    how: Retraining,
    watch: Callable[[int, float], None],
) -> tuple[np.ndarray, Minimum, list[str]]:
    """As ``_retrain_from`` of groups without which the kept rows change; the parameters of each are its own affair."""
    changes, norms, iterations, status = [], [], [], []
    for own in rows:
        try:
            other = without(question, own)
        except FileError as error:
            changes.append(np.full((1, len(question)), np.nan))
            norms.append(np.nan)
            iterations.append(0)
            status.append(error.message)
            continue
        model, w = other.question.model, other.removal.removed
        inverse, strategy = preconditioner, how.strategy
        if not other.aligned:
            inverse, strategy = model.objective.preconditioner(model.objective.initial(seed.seed), w), COLD
        run = _retrain_from(model, inverse, other.question.targets, w, seed, replace(how, strategy=strategy), watch)
        changes.append(run[0])
        norms.append(float(run[1].grad_norm[0]))
        iterations.append(int(run[1].iterations[0]))
        status += run[2]
    ended = Minimum(
        np.empty((0, len(rows))), np.array(norms), np.array(iterations), np.array([s == OK for s in status])
    )
    return np.concatenate(changes), ended, status


def _seeds(model: TrainedModel, targets: Sequence[Target], base: np.ndarray, how: Retraining) -> list[_Seed]:
    """The model itself, and for further repeats as many trained from the seeds that follow its own."""
    seeds = [_Seed(model.settings.seed, model.theta, base)]
    for seed in range(model.settings.seed + 1, model.settings.seed + how.repeats):
        theta = train(model.objective, tol=how.tol, seed=seed).theta
        seeds.append(_Seed(seed, theta, np.concatenate([target.value(theta)[:, 0] for target in targets])))
    return seeds


def _retrain_from(
    model: TrainedModel,
    preconditioner: Callable[[np.ndarray], np.ndarray],
    targets: Sequence[Target],
    w: Weights,
    seed: _Seed,
    how: Retraining,
    watch: Callable[[int, float], None],
) -> tuple[np.ndarray, Minimum, list[str]]:
    """Changes of f (G, T), how retraining ended, and statuses (G,)."""
    objective, base = model.objective, seed.base
    runaway = objective.runaway(w)
    minimum = retrain(
        how.strategy, objective, seed.theta, w, preconditioner=preconditioner, tol=how.tol, seed=seed.seed, watch=watch
    )
    status = _statuses(model, minimum, w, preconditioner, how.tol)
    value = np.concatenate([target.value(minimum.theta) for target in targets]).T
    if runaway.any():
        lost = np.concatenate([runs_away(target, minimum.theta, runaway) for target in targets], axis=1)
        value[lost] = np.nan
        status = [ENDLESS if lost[g].any() and own == OK else own for g, own in enumerate(status)]
    actual = value - base
    actual[[own not in (OK, ENDLESS) for own in status]] = np.nan
    return actual, minimum, status


def _statuses(
    model: TrainedModel,
    minimum: Minimum,
    w: Weights,
    preconditioner: Callable[[np.ndarray], np.ndarray],
    tol: float,
) -> list[str]:
    """Why a column is not the retrained model, or ok."""
    status = [
        OK if converged else f"retraining stopped at gradient norm {norm:.1e}; {tol:.0e} was asked for"
        for converged, norm in zip(minimum.converged, minimum.grad_norm, strict=True)
    ]
    if model.settings.l2 > 0 or not model.objective.convex:
        return status
    # Without a penalty nothing promises that what is left of the rows determines the parameters.
    reach = newton_reach(model.objective, minimum.theta, w, preconditioner)
    for g, distance in enumerate(reach):
        try:
            factorize(model.objective, minimum.theta[:, g : g + 1], w.take(np.array([g])))
            undetermined = distance >= REACH
        except NotConvergedError:
            undetermined = True
        if undetermined and status[g] == OK:
            status[g] = UNDETERMINED
    return status


def _with_block(result: TruthResult, block: _Block) -> TruthResult:
    """A copy with the block's groups filled in."""
    arrays = {name: getattr(result, name).copy() for name in ("actual", "grad_norm", "iterations", "seconds")}
    arrays["actual"][block.where] = block.repeats.mean(axis=0)
    if result.repeats is not None:
        arrays["repeats"] = result.repeats.copy()
        arrays["repeats"][:, block.where] = block.repeats
    arrays["grad_norm"][block.where] = block.grad_norm
    arrays["iterations"][block.where] = block.iterations
    arrays["seconds"][block.where] = block.seconds
    status = list(result.status)
    status[block.where] = block.status
    return replace(result, **arrays, status=tuple(status))
