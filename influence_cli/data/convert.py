"""Tables that do not fit into memory: how they are recognised and converted to a store of rows beside their files."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, suppress
from contextvars import ContextVar
from dataclasses import asdict
from hashlib import sha256
from pathlib import Path
from typing import Any

from influence_cli.data.inside import inside
from influence_cli.data.keeping import Keeper
from influence_cli.data.kinds import Reading
from influence_cli.data.memory import unpacking_in_pieces
from influence_cli.data.readers.in_place import is_large
from influence_cli.data.readers.text_bytes import GZIP_MAGIC, opened
from influence_cli.data.readers.text_polars import polars_for
from influence_cli.data.row_store import SUFFIX, RowStore
from influence_cli.data.stored import worked_elsewhere
from influence_cli.data.table import Table
from influence_cli.memory import addresses_limited, shown

HEAD_BYTES = 2**16
"""Bytes at the beginning of a text table from which the average length of its lines is estimated."""
READING_BYTES = 4e7
"""Bytes that reading a table takes in addition to its numbers (measured)."""
GZIP_TIMES = 4
"""The least ratio of the length of a text to its gzipped length."""
STORE_TIMES = 1.2
"""Size of a store relative to its float64 numbers: it also has vocabularies, and columns that are written twice."""

_announce: ContextVar[Callable[[str], None]] = ContextVar("announce", default=lambda text: None)


def announcing(say: Callable[[str], None]) -> AbstractContextManager[None]:
    """Within this context, ``say`` announces every store that is written beside the data."""
    return inside(_announce, say)


def numbers_in(paths: Sequence[Path], *, parquet: bool) -> float:
    """About how many cells (rows times columns) the tables have, estimated from their beginnings."""
    count = 0.0
    for path in paths:
        if parquet:
            with suppress(Exception):  # the reader will report what is wrong with the file
                polars = polars_for()
                rows = polars.scan_parquet(path).select(polars.len()).collect().item()
                count += rows * len(polars.read_parquet_schema(path))
            continue
        with opened(path) as file:
            head = file.read(HEAD_BYTES)
        with path.open("rb") as raw:
            size = path.stat().st_size * (GZIP_TIMES if raw.read(2) == GZIP_MAGIC else 1)
        lines = head.split(b"\n")[1:-1] or [head]
        fields = max(max(map(line.count, (b",", b";", b"\t", b"|"))) for line in lines[:10]) + 1
        count += fields * size / (1 + sum(map(len, lines)) / len(lines))
    return count


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
    needed = 8.0 * numbers_in(paths, parquet=parquet)
    # With a limit on addresses, another reader takes less memory and refuses what it cannot hold.
    beside = 0.0 if addresses_limited() else READING_BYTES
    if not is_large(needed + beside, split=True):
        return None
    how = asdict(reading) | {"texts": sorted(reading.texts)}
    size = f"about {shown(STORE_TIMES * needed)}, and as much for its features"
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
