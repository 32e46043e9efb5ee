"""How much a table holds, estimated before it is read."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from influence_cli.data.readers.parquet_footer import footer_of
from influence_cli.data.readers.text_bytes import GZIP_MAGIC, opened
from influence_cli.data.readers.text_polars import polars_for

SAMPLE_BYTES = 2**16
"""Read at the beginning and in the middle of a text table, to learn the length of its lines and how texts repeat."""
GZIP_TIMES = 4
"""Text is at least this many times as long as when it is packed."""


@dataclass(frozen=True)
class Contents:
    """About how many ``cells`` (rows times columns) a table has, how many different ``texts`` its columns hold, and
    their ``length`` in bytes."""

    cells: float = 0.0
    texts: float = 0.0
    length: float = 0.0

    def __add__(self, other: Contents) -> Contents:
        return Contents(self.cells + other.cells, self.texts + other.texts, self.length + other.length)


def contents_of(paths: Sequence[Path], *, parquet: bool) -> Contents:
    """What tables hold, estimated from their beginnings, or as their footers say."""
    return sum(map(_of_parquet if parquet else _of_text, paths), Contents())


def _of_parquet(path: Path) -> Contents:
    cells = 0.0
    with suppress(Exception):  # the reader will report what is wrong with the file
        polars = polars_for()
        rows = polars.scan_parquet(path).select(polars.len()).collect().item()
        cells = rows * len(polars.read_parquet_schema(path))
    sizes = footer_of([path]).sizes.values()
    return Contents(cells, sum(one.texts for one in sizes), sum(one.text_bytes for one in sizes))


def _of_text(path: Path) -> Contents:
    with path.open("rb") as raw:
        zipped = raw.read(2) == GZIP_MAGIC
    size = path.stat().st_size
    samples = []
    with opened(path) as file:
        for place in (0,) if zipped or size < 4 * SAMPLE_BYTES else (0, size // 2):
            file.seek(place)
            content = file.read(SAMPLE_BYTES)
            samples.append(content.split(b"\n")[1:-1] or [content])
    lines = [line for sample in samples for line in sample]
    counts = {mark: max(line.count(mark) for line in lines[:10]) for mark in (b",", b";", b"\t", b"|")}
    separator = max(counts, key=lambda mark: counts[mark])
    rows = (size * GZIP_TIMES if zipped else size) / (1 + sum(map(len, lines)) / len(lines))
    columns = counts[separator] + 1
    split = [[line.split(separator) for line in sample] for sample in samples]
    contents = Contents(columns * rows)
    for at in range(columns):
        contents += _texts_in([_texts(sample, at) for sample in split], rows, len(lines))
    return contents


def _texts(sample: Sequence[Sequence[bytes]], at: int) -> set[bytes]:
    """The different texts in a column of the sample that are no numbers."""
    return {fields[at] for fields in sample if at < len(fields) and not _is_number(fields[at])}


def _is_number(field: bytes) -> bool:
    with suppress(ValueError):
        float(field)
        return True
    return not field.strip()


def _texts_in(samples: Sequence[set[bytes]], rows: float, sampled: int) -> Contents:
    """The texts of a column in a table of so many ``rows``, from those in samples of it (``sampled`` rows in all).

    Where the samples have some in common, the number of all is estimated by capture and recapture, else by their rate.
    """
    found = set().union(*samples)
    if not found:
        return Contents()
    count = rows * len(found) / sampled
    shared = len(set.intersection(*samples)) if len(samples) > 1 else 0
    if shared:
        count = min(count, len(samples[0]) * len(samples[1]) / shared)
    return Contents(0.0, count, count * sum(map(len, found)) / len(found))
