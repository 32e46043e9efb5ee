"""The features of a data set in a model's file: dense arrays, or the three arrays of compressed rows."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from scipy.sparse import csr_array, issparse

from influence_cli.artifacts import storage
from influence_cli.artifacts.storage import PathLike
from influence_cli.data.dataset import Dataset
from influence_cli.data.sparse import Rows, parts

_PARTS = ("data", "indices", "indptr")


def entries(data: Dataset) -> dict[str, Any]:
    """What the schema has for the features of both splits."""
    found: dict[str, Any] = {}
    for split, X in (("X_train", data.X_train), ("X_test", data.X_test)):
        if issparse(X):
            found |= {f"/data/{split}_csr/{part}": array for part, array in zip(_PARTS, parts(X), strict=True)}
        else:
            found[f"/data/{split}"] = X
    return found


def from_entries(path: PathLike, arrays: Mapping[str, Any]) -> tuple[Rows, Rows]:
    """The features of both splits.  Raises FileError for compressed rows that are none."""
    columns = len(arrays["/data/feature_names"])
    problems: dict[str, str] = {}
    made = []
    for split, labels in (("X_train", "/data/y_train"), ("X_test", "/data/y_test")):
        if f"/data/{split}" in arrays:
            made.append(arrays[f"/data/{split}"])
            continue
        folder = f"/data/{split}_csr"
        data, indices, indptr = (arrays[f"{folder}/{part}"] for part in _PARTS)
        shape = len(arrays[labels]), columns
        found = _problems(indices, indptr, *shape)
        problems |= {f"{folder}/{part}": problem for part, problem in found.items()}
        if not found:
            made.append(csr_array((data, indices, indptr), shape=shape))
    if len({issparse(X) for X in made}) > 1:
        problems["/data"] = "expected both splits dense or both in compressed rows, found one of each"
    if problems:
        raise storage.invalid(path, "model", problems)
    return made[0], made[1]


def _problems(indices: np.ndarray, indptr: np.ndarray, rows: int, columns: int) -> dict[str, str]:
    """By the array's name, what would make reading a row read elsewhere."""
    if len(indptr) != rows + 1:
        return {"indptr": f"expected {rows + 1} positions, one more than rows, found {len(indptr)}"}
    if indptr[0] != 0 or indptr[-1] != len(indices) or (indptr[1:] < indptr[:-1]).any():
        return {"indptr": f"expected positions that rise from 0 to {len(indices)}, found others"}
    if len(indices) and not 0 <= indices.min() <= indices.max() < columns:
        return {"indices": f"expected columns from 0 to {columns - 1}, found {indices.min()} to {indices.max()}"}
    rising = indices[1:] > indices[:-1]
    rising[indptr[1:-1][(indptr[1:-1] > 0) & (indptr[1:-1] < len(indices))] - 1] = True
    if not rising.all():
        row = int(np.searchsorted(indptr, np.argmin(rising) + 1, side="right")) - 1
        return {"indices": f"expected columns that rise within a row, found others in row {row}"}
    return {}
