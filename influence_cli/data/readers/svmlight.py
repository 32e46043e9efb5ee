"""The format of svmlight and libsvm, by scikit-learn, in compressed rows."""

from __future__ import annotations

import zlib
from dataclasses import replace
from pathlib import Path
from typing import Any

from influence_cli.data.from_arrays import RawData
from influence_cli.data.sparse import refuse_wide
from influence_cli.errors import FileError

HINT = "each line must be LABEL INDEX:VALUE INDEX:VALUE ..."


def read_svmlight(path: Path, test: Path | None = None, test_name: str = "", width: int | None = None) -> RawData:
    """``label index:value ...`` a line; both files get the features of the wider one.

    The format leaves zeros out, so that a file does not say how many features there are: a model that was fitted
    elsewhere does (``width``).  Features of test rows beyond those are left out, with a note.

    Whether indices begin at 0 or 1 is read from the files together, as scikit-learn does.
    """
    from sklearn.datasets import load_svmlight_files

    paths = [path] if test is None else [path, test]
    try:
        parts = load_svmlight_files([str(one) for one in paths], zero_based="auto")
    except (ValueError, OverflowError, MemoryError, EOFError, OSError, zlib.error, UnicodeDecodeError) as error:
        which = "" if test is None else f"here or in {test_name} "
        raise FileError(f"the svmlight format was expected, but {which}found something else ({error})", HINT) from None
    if not parts[0].shape[0]:
        raise FileError("the file holds no rows", HINT)
    if not parts[0].shape[1]:
        raise FileError("no row has a feature", HINT)
    refuse_wide(parts[0].shape[1])
    if width is None:
        return RawData.of(parts)
    found = [_width(X) for X in parts[::2]]
    if found[0] > width:
        raise FileError(
            f"the model was fitted on {width:,} features, but the rows have {found[0]:,}",
            "give the rows that it was fitted on",
        )
    notes: tuple[str, ...] = ()
    if found[-1] > width:
        notes = (
            f"{test_name}: the model knows {width:,} features and the file has {found[-1]:,}: those beyond were left"
            " out",
        )
    return replace(RawData.of([_with_width(one, width) for one in parts]), notes=notes)


def _width(X: Any) -> int:
    """Features up to the last that some row has."""
    return int(X.indices.max()) + 1 if X.nnz else 0


def _with_width(part: Any, width: int) -> Any:
    """Compressed rows with that many features; labels as they are."""
    if part.ndim == 1:
        return part
    if part.shape[1] >= width:
        return part[:, :width]
    part.resize(part.shape[0], width)
    return part
