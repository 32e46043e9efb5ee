"""The outcome of retraining without one block of groups, and how it is merged into the whole truth."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from influence_cli.errors import UNBOUNDED
from influence_cli.results import TruthResult


@dataclass(frozen=True)
class Block:
    """The outcome of retraining for the groups of one slice."""

    where: slice
    repeats: np.ndarray
    error: np.ndarray
    grad_norm: np.ndarray
    iterations: np.ndarray
    seconds: float
    status: tuple[str, ...]
    unbounded: np.ndarray
    proven: np.ndarray | None = None


def with_block(result: TruthResult, block: Block) -> TruthResult:
    """A copy of ``result`` with the block's groups filled in."""
    arrays = {name: getattr(result, name).copy() for name in ("actual", "grad_norm", "iterations", "seconds")}
    arrays["actual"][block.where] = block.repeats.mean(axis=0)
    if result.repeats is not None:
        arrays["repeats"] = result.repeats.copy()
        arrays["repeats"][:, block.where] = block.repeats
    error = np.full_like(result.actual, np.nan) if result.actual_error is None else result.actual_error.copy()
    error[block.where] = block.error
    arrays["actual_error"] = error
    # A resumed file of an earlier version does not say which pairs its statuses are about.
    if result.unbounded is not None or not any(status.startswith(UNBOUNDED) for status in result.status):
        arrays["unbounded"] = np.zeros(error.shape, bool) if result.unbounded is None else result.unbounded.copy()
        arrays["unbounded"][block.where] = block.unbounded
    if block.proven is not None and result.low is not None and result.high is not None:
        arrays |= {"low": result.low.copy(), "high": result.high.copy()}
        arrays["low"][block.where], arrays["high"][block.where] = block.proven
    for name in ("grad_norm", "iterations", "seconds"):
        arrays[name][block.where] = getattr(block, name)
    status = list(result.status)
    status[block.where] = block.status
    return replace(result, **arrays, status=tuple(status))
