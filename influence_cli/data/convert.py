"""Tables that do not fit into memory: how they are recognised and converted to a store of rows beside their files."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from contextvars import ContextVar
from dataclasses import asdict
from hashlib import sha256
from pathlib import Path
from typing import Any

from influence_cli.data.inside import inside
from influence_cli.data.keeping import TEXT_BYTES, TEXT_TIMES, Keeper
from influence_cli.data.kinds import Reading
from influence_cli.data.memory import unpacking_in_pieces
from influence_cli.data.readers.in_place import SPLIT_COPIES, is_large
from influence_cli.data.readers.table_bytes import contents_of
from influence_cli.data.row_store import SUFFIX, RowStore
from influence_cli.data.stored import worked_elsewhere
from influence_cli.data.table import Table
from influence_cli.memory import addresses_limited, shown

READING_BYTES = 4e7
"""Bytes that reading a table takes in addition to its numbers (measured)."""
STORE_TIMES = 1.2
"""Size of a store relative to its float64 numbers: it also has vocabularies, and columns that are written twice."""

_announce: ContextVar[Callable[[str], None]] = ContextVar("announce", default=lambda text: None)


def announcing(say: Callable[[str], None]) -> AbstractContextManager[None]:
    """Within this context, ``say`` announces every store that is written beside the data."""
    return inside(_announce, say)


def converted(
    paths: Sequence[Path],
    source: str,
    reading: Reading,
    others: Sequence[str | None],
    read: Callable[[Keeper], Table],
) -> Table | None:
    """The table from the store beside its files, which ``read`` fills once.

    None is returned if the table fits into memory and is not for workers in other processes.

    The name of the store's folder depends on ``source``, the files, ``reading`` and ``others``.
    """
    parquet = paths[0].name.lower().endswith((".parquet", ".pq"))
    held = contents_of(paths, parquet=parquet)
    numbers, texts = 8.0 * held.cells, TEXT_BYTES * held.texts + TEXT_TIMES * held.length
    # With a limit on addresses, another reader takes less memory and refuses what it cannot hold.
    beside = 0.0 if addresses_limited() else READING_BYTES
    if not is_large(numbers + texts / SPLIT_COPIES + beside, split=True):
        return None
    how = asdict(reading) | {"texts": sorted(reading.texts)}
    size = f"about {shown(max(STORE_TIMES * numbers, held.length))}, and {shown(numbers)} for its features"
    return in_store(paths, source, [how, list(others)], size, read)


def in_store(
    paths: Sequence[Path], source: str, how: Sequence[Any], size: str, read: Callable[[Keeper], Table]
) -> Table:
    """The table from the store beside its files, which ``read`` fills once.

    ``how`` holds every option that changes the result, as JSON values; ``size`` is the store's size in words.
    """
    key = sha256(json.dumps([[path.name for path in paths], *how]).encode()).hexdigest()[:12]
    name = re.sub(r"[*?\[\]]+", "_", Path(source).name)
    say = _announce.get()
    store = RowStore(paths[0].absolute().parent / f"{name}{SUFFIX}" / key, paths, say)
    with store.locked(), unpacking_in_pieces():
        table = store.table()
        if table is None:
            again = f"again, because {store.outdated}, " if store.outdated else ""
            length = sum(path.stat().st_size for path in paths)
            why = "shall be read by workers" if worked_elsewhere() else "does not fit into memory beside the rest"
            say(f"{source} ({shown(length)}) {why}: it is converted once, {again}to {store.folder}, {size}")
            table = store.made(read)
    return table
