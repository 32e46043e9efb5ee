"""The format of svmlight and libsvm, parsed by scikit-learn into compressed rows."""

from __future__ import annotations

import re
import zlib
from collections.abc import Sequence
from dataclasses import replace
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np

from influence_cli.data.compressed import ENDS, INDICES, NUMBERS, CompressedRows, parts_of
from influence_cli.data.from_arrays import RawData
from influence_cli.data.keeping import Keeper, Part, joined_numbers
from influence_cli.data.readers.text_bytes import HEAD_BYTES, opened
from influence_cli.data.sparse import refuse_wide
from influence_cli.data.stored import made_of
from influence_cli.data.table import Column, Table
from influence_cli.errors import FileError

HINT = "each line must be LABEL INDEX:VALUE INDEX:VALUE ..."
PIECE_BYTES = 4 * 2**20
"""Bytes of text that are parsed at a time; as numbers they take a few times as much."""
_LONE_RETURN = re.compile(rb"\r(?!\n)")
NO_INDEX = np.iinfo(np.int64).max
"""The smallest index of a piece that has none."""


def read_svmlight(path: Path, test: Path | None = None, test_name: str = "", width: int | None = None) -> RawData:
    """The rows of one file, or of a training and a ``test`` file, with ``label index:value ...`` on each line.

    The format omits zeros, so that a file does not say how many features there are: both files get as many as the wider
    one has, or ``width``, the number that a model was fitted on.  Further features of test rows are then left out, with
    a note.  As in scikit-learn, indices begin at 1 unless one of the files has the index 0.  Raises FileError.
    """
    paths = [path] if test is None else [path, test]
    parts = _parsed([_lines_of(one) for one in paths], "auto", "" if test is None else f"here or in {test_name} ")
    if not parts[0].shape[0]:
        raise FileError("the file holds no rows", HINT)
    if not parts[0].shape[1]:
        raise FileError("no row has a feature", HINT)
    refuse_wide(parts[0].shape[1])
    if width is None:
        return RawData.of(parts)
    widths = [_width(X) for X in parts[::2]]
    if widths[0] > width:
        raise FileError(
            f"the model was fitted on {width:,} features, but the rows have {widths[0]:,}",
            "give the rows that it was fitted on",
        )
    notes: tuple[str, ...] = ()
    if widths[-1] > width:
        notes = (
            f"{test_name}: the model knows {width:,} features and the file has {widths[-1]:,}: those beyond were left"
            " out",
        )
    return replace(RawData.of([_with_width(one, width) for one in parts]), notes=notes)


def _parsed(files: list[Any], zero_based: bool | str, which: str = "") -> list[Any]:
    """X and y of each file in turn.  Raises FileError."""
    from sklearn.datasets import load_svmlight_files

    try:
        return list(load_svmlight_files(files, zero_based=zero_based))
    except (ValueError, OverflowError, MemoryError, EOFError, OSError, zlib.error, UnicodeDecodeError) as error:
        raise FileError(f"the svmlight format was expected, but {which}found something else ({error})", HINT) from None


def _lines_of(path: Path) -> str | BytesIO:
    """The path, or the file's content with LF if lines end in CR alone, which scikit-learn does not accept."""
    with opened(path) as file:
        head = file.read(HEAD_BYTES)
        return BytesIO(_LONE_RETURN.sub(b"\n", head + file.read())) if _LONE_RETURN.search(head) else str(path)


def in_pieces(path: Path, keeper: Keeper) -> Table:
    """Labels and compressed rows of a file as columns in the ``keeper``, PIECE_BYTES of text at a time.

    Each piece of n rows has the labels ``y`` (n,), the CSR row pointers ``ends`` (n + 1,), ``indices`` and ``numbers``,
    none of which is 0, and the ``range`` (2,) of the indices as they were written.  Raises FileError.
    """
    keeper.start(set())
    parts, begin = keeper.known(path)
    with opened(path) as file:
        file.seek(begin)
        while content := file.read(PIECE_BYTES) + file.readline():
            begin += len(content)
            X, y = _parsed([BytesIO(_LONE_RETURN.sub(b"\n", content))], True)
            indices = X.indices
            refuse_wide(int(indices.max(initial=0)))
            written = np.array([indices.min(), indices.max()] if len(indices) else [NO_INDEX, -1], dtype=np.int64)
            X.eliminate_zeros()
            columns = {
                "y": y,
                "ends": X.indptr.astype(ENDS),
                "indices": X.indices.astype(INDICES),
                "numbers": X.data,
                "range": written,
            }
            parts.append(keeper.part(path, Part(columns, len(y), 0), begin))
    if not sum(part.rows for part in parts):
        raise FileError("the file holds no rows", HINT)
    joined = {key: joined_numbers([part.columns[key] for part in parts]) for key in parts[0].columns}  # type: ignore[misc]
    columns = {key: Column("numeric", values, "numbers") for key, values in joined.items()}
    return Table(columns, sum(part.rows for part in parts))


def stored_svmlight(tables: Sequence[Table]) -> RawData:
    """As ``read_svmlight``, from the tables that ``in_pieces`` made of the training file and, if any, the test file."""
    ranges = [table.columns["range"].values.reshape(-1, 2) for table in tables]
    least, most = [one[:, 0].min() for one in ranges], max(int(one[:, 1].max()) for one in ranges)
    base = int(all(0 < one < NO_INDEX for one in least))
    if most < base:
        raise FileError("no row has a feature", HINT)
    refuse_wide(most + 1 - base)
    arrays: list[Any] = []
    for table in tables:
        ends, indices, numbers = (table.columns[key].stored for key in ("ends", "indices", "numbers"))
        shape = (table.rows, most + 1 - base)
        rows = made_of(parts_of(ends, indices, numbers, base), shape[1], NUMBERS, shape, CompressedRows)
        rows.check_reachable()
        arrays += [rows, table.columns["y"].values]
    return RawData.of(arrays)


def _width(X: Any) -> int:
    """The number of features up to the last one that some row has."""
    return int(X.indices.max()) + 1 if X.nnz else 0


def _with_width(part: Any, width: int) -> Any:
    """Compressed rows with ``width`` features; labels unchanged."""
    if part.ndim == 1:
        return part
    if part.shape[1] >= width:
        return part[:, :width]
    part.resize(part.shape[0], width)
    return part
