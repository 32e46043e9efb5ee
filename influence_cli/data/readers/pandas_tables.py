"""Tables as pandas reads them, because a scikit-learn pipeline was most probably fitted on such a frame.

Here blanks belong to a value, and pandas' words (None, n/a, <NA>, ...) mean a missing value.  An encoder that was
fitted on such a frame knows no other values.
"""

from __future__ import annotations

import zlib
from pathlib import Path
from typing import Any

import numpy as np

from influence_cli.data.table import Column, Table
from influence_cli.errors import FileError

SEPARATORS = ",\t;|"


def read_as_pandas(path: Path, texts: frozenset[str] = frozenset()) -> Table:
    """The table of a ``.csv`` or ``.tsv``, gzipped or not, read by ``pandas.read_csv``, with ``texts`` as text columns.

    Raises FileError.
    """
    import pandas

    how: dict[str, Any] = {"compression": "infer", "encoding": "utf-8"}
    try:
        header = pandas.read_csv(path, sep="\x00", header=None, nrows=1, dtype=str, engine="python", quoting=3, **how)
        line = str(header.iloc[0, 0])
        frame = pandas.read_csv(
            path, sep=max(SEPARATORS, key=line.count), dtype=dict.fromkeys(texts, str), low_memory=False, **how
        )
    except UnicodeDecodeError as error:
        raise FileError(
            f"a table must be UTF-8 text, but it holds the byte 0x{error.object[error.start]:02x}",
            f"if it is LATIN1: iconv -f LATIN1 -t UTF-8 {path.name} > utf8{path.suffix}",
        ) from None
    except (ValueError, OSError, EOFError, zlib.error) as error:  # pandas' own errors are ValueErrors
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise FileError(f"pandas cannot read the table: {reason}", "write it again with to_csv") from None
    if not isinstance(frame.index, pandas.RangeIndex):
        raise FileError(
            "the rows have more fields than the first line has names",
            "give every column a name in the first line",
        )
    return Table({str(key): _column(frame.iloc[:, at]) for at, key in enumerate(frame.columns)}, len(frame))


def _column(series: Any) -> Column:
    """A column of a frame as a ``Column``."""
    kind = series.dtype.kind if isinstance(series.dtype, np.dtype) else "O"
    if kind in "iu" and (kind == "i" or not len(series) or series.max() <= np.iinfo(np.int64).max):
        return Column("numeric", series.to_numpy(dtype=np.int64), "whole numbers")
    if kind in "iuf":
        return Column("numeric", series.to_numpy(dtype=np.float64), "numbers")
    values = [None if missing else value for value, missing in zip(series.tolist(), series.isna(), strict=True)]
    out = np.empty(len(values), dtype=object)
    if all(value is None or isinstance(value, bool) for value in values) and any(value is not None for value in values):
        out[:] = [None if value is None else str(value) for value in values]
        return Column("boolean", out, "true and false")
    out[:] = [None if value is None else str(value) for value in values]
    return Column("text", out, "text")
