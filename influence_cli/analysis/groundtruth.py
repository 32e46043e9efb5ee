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

from ..core.minimize import Minimum, newton_cg
from ..core.quantities import Target
from ..core.removal import removal
from ..core.retraining import RUNAWAY, retrain
from ..core.solvers.cholesky import factorize
from ..core.training import REACH, newton_reach
from ..drawing import GroupPlan
from ..errors import NotConvergedError
from ..modeling import TrainedModel
from ..results import OK, PENDING, GroupTable, Provenance, TruthResult
from .targets import TestRows, make_targets

BLOCK_BYTES = 64e6
"""Size of the outputs (m rows, K outputs, G groups) that one block works on."""
WIDEST = 64
ENDLESS = "a class has lost all its rows and its intercept has no penalty: null where f has no finite value"
"""Status of a group whose retraining ended well and some of whose test rows' f runs away all the same."""
UNDETERMINED = "without the group the rows do not determine the parameters and --l2 is 0"
MOVES = 1e-6
"""Change of f, relative to 1 + |f|, along a direction of no finite optimum, from which on f has no value there."""


@dataclass(frozen=True)
class Retraining:
    """How to retrain: ``tol`` is the gradient norm to reach; ``cold`` starts from zero; ``jobs`` blocks at a time."""

    tol: float = 1e-8
    cold: bool = False
    jobs: int = 1


class _StoppedError(Exception):
    """Ends a block in flight once nobody waits for it any more."""


@dataclass(frozen=True)
class _Block:
    """What retraining gave for the groups of one slice."""

    where: slice
    actual: np.ndarray
    minimum: Minimum
    seconds: float
    status: tuple[str, ...]


def start_truth(
    model: TrainedModel, plan: GroupPlan, tests: TestRows | None, quantity: str, provenance: Provenance
) -> TruthResult:
    """The result of a run in which nothing has been retrained yet: every group is pending."""
    codes, targets = make_targets(model, tests, quantity)
    count = len(plan)
    digests = tuple(plan.group(index).digest for index in range(count))
    return TruthResult(
        provenance,
        GroupTable(plan.label, plan.kind, plan.size, plan.fraction, digests),
        codes,
        quantity,
        np.concatenate([target.value(model.theta)[:, 0] for target in targets]),
        np.full((count, len(codes)), np.nan),
        np.full(count, np.nan),
        np.zeros(count, dtype=np.int64),
        np.full(count, np.nan),
        (PENDING,) * count,
    )


def groundtruth(
    model: TrainedModel,
    preconditioner: Callable[[np.ndarray], np.ndarray],
    plan: GroupPlan,
    tests: TestRows | None,
    begun: TruthResult,
    how: Retraining,
    *,
    begin_job: Callable[[], object] = lambda: None,
    keep: Callable[[TruthResult], None] = lambda result: None,
    advance: Callable[[int], None] = lambda groups: None,
) -> TruthResult:
    """Retrain without each group that ``begun`` has pending; ``actual`` is ``f(after removal) - f(before)``.

    A group whose retraining stalled has NaN for its changes and a ``status`` that says why; so has a test row whose f
    has no finite value without the group.  ``begin_job`` is called once in the thread of every job, ``keep`` with the
    result so far whenever a block is done.  Ctrl-C ends each block in flight after its present pass over the rows.
    """
    _, targets = make_targets(model, tests, begun.quantity)
    result = begun
    todo = [block for block in truth_blocks(model, len(plan)) if PENDING in begun.status[block]]
    stop = Event()

    def precondition(r: np.ndarray) -> np.ndarray:
        # Every iteration of every solver comes by here.
        if stop.is_set():
            raise _StoppedError
        return preconditioner(r)

    def work(block: slice) -> _Block:
        return _retrain_block(model, precondition, plan, targets, block, begun.base, how)

    with ThreadPoolExecutor(how.jobs, initializer=begin_job) as pool:
        futures = [pool.submit(work, block) for block in todo]
        try:
            for future in as_completed(futures):
                done = future.result()
                result = _with_block(result, done)
                keep(result)
                advance(done.where.stop - done.where.start)
        except BaseException:
            stop.set()
            pool.shutdown(wait=False, cancel_futures=True)
            raise
    return result


def truth_blocks(model: TrainedModel, count: int) -> list[slice]:
    """Slices over the groups; the same for the same model, on every machine."""
    each = 8.0 * len(model.dataset.X_train) * model.objective.outputs
    step = int(min(WIDEST, max(1, BLOCK_BYTES / each)))
    return [slice(start, min(start + step, count)) for start in range(0, count, step)]


def count_stalled(result: TruthResult) -> int:
    """Groups of which nothing was found out: retraining did not end, or not at one point."""
    return sum(status not in (OK, ENDLESS) for status in result.status)


def _retrain_block(
    model: TrainedModel,
    preconditioner: Callable[[np.ndarray], np.ndarray],
    plan: GroupPlan,
    targets: Sequence[Target],
    block: slice,
    base: np.ndarray,
    how: Retraining,
) -> _Block:
    start = perf_counter()
    objective = model.objective
    rows = [plan.rows(index) for index in range(block.start, block.stop)]
    w = removal(objective.weights, rows, model.settings.penalty_scaling).removed
    runaway = objective.runaway(w)
    if how.cold:
        minimum = newton_cg(objective, RUNAWAY * runaway, w, preconditioner=preconditioner, tol=how.tol)
    else:
        minimum = retrain(objective, model.theta, w, preconditioner=preconditioner, tol=how.tol)
    status = _statuses(model, minimum, w, preconditioner, how.tol)
    value = np.concatenate([target.value(minimum.theta) for target in targets]).T
    endless = np.asarray(runaway.any(axis=0))
    if endless.any():
        further = np.concatenate([target.value(minimum.theta + runaway) for target in targets]).T
        lost = np.abs(further - value) > MOVES * (1.0 + np.abs(value))
        value[lost] = np.nan
        status = [ENDLESS if lost[g].any() and own == OK else own for g, own in enumerate(status)]
    actual = value - base
    actual[[own not in (OK, ENDLESS) for own in status]] = np.nan
    return _Block(block, actual, minimum, (perf_counter() - start) / len(rows), tuple(status))


def _statuses(
    model: TrainedModel,
    minimum: Minimum,
    w: np.ndarray,
    preconditioner: Callable[[np.ndarray], np.ndarray],
    tol: float,
) -> list[str]:
    """Why a column is not the retrained model, or ok."""
    status = [
        OK if converged else f"retraining stopped at gradient norm {norm:.1e}; {tol:.0e} was asked for"
        for converged, norm in zip(minimum.converged, minimum.grad_norm, strict=True)
    ]
    if model.settings.l2 > 0:
        return status
    # Without a penalty nothing promises that what is left of the rows determines the parameters.
    reach = newton_reach(model.objective, minimum.theta, w, preconditioner)
    for g, distance in enumerate(reach):
        try:
            factorize(model.objective, minimum.theta[:, g : g + 1], w[:, g])
            undetermined = distance >= REACH
        except NotConvergedError:
            undetermined = True
        if undetermined and status[g] == OK:
            status[g] = UNDETERMINED
    return status


def _with_block(result: TruthResult, block: _Block) -> TruthResult:
    """A copy with the block's groups filled in."""
    arrays = {name: getattr(result, name).copy() for name in ("actual", "grad_norm", "iterations", "seconds")}
    arrays["actual"][block.where] = block.actual
    arrays["grad_norm"][block.where] = block.minimum.grad_norm
    arrays["iterations"][block.where] = block.minimum.iterations
    arrays["seconds"][block.where] = block.seconds
    status = list(result.status)
    status[block.where] = block.status
    return replace(result, **arrays, status=tuple(status))
