"""What it takes to work on rows that are read in every pass: memory at the peak, and passes to come."""

from __future__ import annotations

from influence_cli.core.objectives.fused import FUSED_UP_TO
from influence_cli.core.objectives.hessian import CHUNK_ROWS
from influence_cli.core.parallel import thread_count
from influence_cli.core.solvers.cholesky import DOUBLE_UP_TO
from influence_cli.data.stored import StoredRows
from influence_cli.memory import resident

BLOCK_BYTES, GROUPS_BYTES = 9e6, 21e6
"""Memory of a thread: a block of rows with what is made of it; the same where groups of many rows share a pass."""
TRAINED_BYTES, ASKED_BYTES = 16, 8
"""Memory of a row, without its features and its label, which is there by then: in training, and later (measured)."""
RANKED_BYTES, ASCENT_BYTES = 96, 80
"""The same of a search that ranks all rows, and what ``pgd`` takes beside."""
UNNOTICED_BYTES = 16e6
"""What a search may take without a look at the memory: the buffers of threads take as much."""
TRAINING_PASSES = 10
"""Passes of ``train`` over a narrow model's rows, with checking, scoring and digesting them (measured, docs/scale.md).
"""


def forecast(rows: StoredRows, size: int, *, groups: bool, beside: float = 0.0) -> float:
    """Bytes of memory at the peak of work on a model of ``size`` parameters, of which ``beside`` are for results."""
    buffers = thread_count() * (GROUPS_BYTES if groups else BLOCK_BYTES)
    matrices = 4 * 8.0 * size**2 if size <= DOUBLE_UP_TO else 0.0
    if FUSED_UP_TO < size <= DOUBLE_UP_TO:  # the Hessian is made of dense rows, and of these weighted
        chunks = thread_count() * (1 if groups else 2) + 1  # in training each thread has both (measured)
        buffers += chunks * 8.0 * CHUNK_ROWS * rows.shape[1]
        matrices += 0.0 if groups else thread_count() * 2 * 8.0 * size**2  # sums of threads, which the system has late
    return resident() + buffers + matrices + (ASKED_BYTES if groups else TRAINED_BYTES) * len(rows) + beside


def passes(size: int) -> str:
    """How many passes ``train`` makes over the rows of a model of ``size`` parameters."""
    return f"about {TRAINING_PASSES} passes" if size <= FUSED_UP_TO else "some tens of passes (conjugate gradients)"
