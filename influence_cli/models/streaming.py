"""Forecasts for work on rows that are read in every pass: peak memory and the number of passes."""

from __future__ import annotations

from influence_cli.core.objectives.fused import FUSED_UP_TO
from influence_cli.core.objectives.hessian import CHUNK_ROWS
from influence_cli.core.parallel import thread_count
from influence_cli.core.solvers.cholesky import DOUBLE_UP_TO
from influence_cli.data.stored import StoredRows
from influence_cli.memory import resident

BLOCK_BYTES, GROUPS_BYTES = 9e6, 21e6
"""Bytes of a thread for a block of rows and its products, and the same if groups of many rows share a pass."""
PICKED_BYTES = 8e6
"""Bytes of a thread in training for the rows of a block as they are read, if only some of them are training rows."""
TRAINED_BYTES, ASKED_BYTES = 16, 8
"""Bytes of a row, without its features and label, which are already counted: in training, and later (measured)."""
RANKED_BYTES, ASCENT_BYTES = 96, 80
"""Bytes of a row in a search that ranks all rows, and those that ``pgd`` takes in addition."""
UNNOTICED_BYTES = 16e6
"""Bytes that a search may take without a check of the memory, because the buffers of threads take as much."""
TRAINING_PASSES = 10
"""Passes of ``train`` over a narrow model's rows, including checks, scores and digests (measured, docs/scale.md)."""


def forecast(rows: StoredRows, size: int, *, groups: bool, beside: float = 0.0) -> float:
    """Peak bytes of memory for work on a model of ``size`` parameters, including ``beside`` bytes of results.

    ``groups`` says that the work is about groups, not training.
    """
    buffers = thread_count() * (GROUPS_BYTES if groups else BLOCK_BYTES)
    buffers += 0.0 if groups or rows.is_whole else thread_count() * PICKED_BYTES
    matrices = 4 * 8.0 * size**2 if size <= DOUBLE_UP_TO else 0.0
    if FUSED_UP_TO < size <= DOUBLE_UP_TO:  # the Hessian is formed from dense rows and their weighted copies
        chunks = thread_count() * (1 if groups else 2) + 1  # in training each thread holds both (measured)
        buffers += chunks * 8.0 * CHUNK_ROWS * rows.shape[1]
        matrices += 0.0 if groups else thread_count() * 2 * 8.0 * size**2  # sums of threads, freed with a delay
    return resident() + buffers + matrices + (ASKED_BYTES if groups else TRAINED_BYTES) * len(rows) + beside


def passes(size: int) -> str:
    """How many passes ``train`` makes over the rows of a model of ``size`` parameters, in words."""
    return f"about {TRAINING_PASSES} passes" if size <= FUSED_UP_TO else "some tens of passes (conjugate gradients)"
