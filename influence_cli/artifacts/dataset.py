"""Conversion of a data set to entries of a model's file and back: features, and the columns of a table that name
groups.

Features are dense arrays, or the three arrays of compressed rows.  Text is stored as indices into one vocabulary: a
column of a million rows and fifty clinics takes four megabytes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from scipy.sparse import csr_array, issparse

from influence_cli.artifacts import storage
from influence_cli.artifacts.storage import PathLike
from influence_cli.data.dataset import Dataset
from influence_cli.data.sparse import Rows, parts

_PARTS = ("data", "indices", "indptr")
_NAMES, _VOCABULARY = "/columns/names", "/columns/vocabulary"
_TRAIN, _TEST = "/columns/train/", "/columns/test/"
_MISSING = -1
_MANY, _KINDS = "/columns/many/", ("float64", "int64")
MANY_COLUMNS = 60
"""Number of columns of one type from which they share an array: each dataset takes HDF5 a millisecond."""
SHORT_BYTES = 256 * 1024
"""Bytes of a column up to which it is put there, because the shared array is a copy."""


def entries(data: Dataset) -> dict[str, Any]:
    """The schema's entries for a data set that is stored in the file."""
    records = {"train": data.records_train, "test": data.records_test}
    numbers = {f"/data/records_{split}": rows for split, rows in records.items() if rows is not None}
    return feature_entries(data) | column_entries(data) | numbers


def dataset_of(path: PathLike, arrays: Mapping[str, Any]) -> Dataset:
    """The data set stored in the file.  Raises FileError for entries that contradict each other."""
    image_shape = arrays.get("/data/image_shape")
    X_train, X_test = features_of(path, arrays)
    columns_train, columns_test = columns_of(path, arrays)
    return Dataset(
        name=arrays["@data_name"],
        X_train=X_train,
        y_train=arrays["/data/y_train"],
        X_test=X_test,
        y_test=arrays["/data/y_test"],
        feature_names=tuple(arrays["/data/feature_names"]),
        classes=tuple(arrays["/data/classes"]),
        image_shape=None if image_shape is None else (int(image_shape[0]), int(image_shape[1])),
        columns_train=columns_train,
        columns_test=columns_test,
        id_column=arrays.get("@id_column"),
        preparation=arrays.get("@preparation"),
        weights=arrays.get("/data/weights"),
        records_train=arrays.get("/data/records_train"),
        records_test=arrays.get("/data/records_test"),
    )


def feature_entries(data: Dataset) -> dict[str, Any]:
    """The schema's entries for the features of both splits."""
    entries: dict[str, Any] = {}
    for split, X in (("X_train", data.X_train), ("X_test", data.X_test)):
        if issparse(X):
            entries |= {f"/data/{split}_csr/{part}": array for part, array in zip(_PARTS, parts(X), strict=True)}
        else:
            entries[f"/data/{split}"] = X
    return entries


def features_of(path: PathLike, arrays: Mapping[str, Any]) -> tuple[Rows, Rows]:
    """The features of both splits.  Raises FileError for invalid compressed rows."""
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
        wrong = _row_problems(indices, indptr, *shape)
        problems |= {f"{folder}/{part}": problem for part, problem in wrong.items()}
        if not wrong:
            made.append(csr_array((data, indices, indptr), shape=shape))
    if len({issparse(X) for X in made}) > 1:
        problems["/data"] = "expected both splits dense or both in compressed rows, found one of each"
    if problems:
        raise storage.invalid(path, "model", problems)
    return made[0], made[1]


def _row_problems(indices: np.ndarray, indptr: np.ndarray, rows: int, columns: int) -> dict[str, str]:
    """Problems, by the name of the array, because of which reading a row would read elsewhere."""
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


def column_entries(data: Dataset) -> dict[str, Any]:
    """The schema's entries for a data set's columns; none for arrays without names."""
    entries: dict[str, Any] = {}
    if data.columns_train:
        names = tuple(data.columns_train)
        index: dict[str, int] = {}
        together = _together(data, names)
        entries |= together
        done = {number for kind in _KINDS for number in together.get(f"{_MANY}{kind}", np.empty(0)).tolist()}
        for folder, columns in ((_TRAIN, data.columns_train), (_TEST, data.columns_test)):
            for number, name in enumerate(names):
                if name in columns and number not in done:
                    entries[f"{folder}{number}"] = _packed(columns[name], index)
        entries[_NAMES], entries[_VOCABULARY] = names, tuple(index)
    return entries


def columns_of(path: PathLike, arrays: Mapping[str, Any]) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """The training and test columns by name; two empty mappings if the file has none.  Raises FileError."""
    names = arrays.get(_NAMES, [])
    vocabulary = np.array([*arrays.get(_VOCABULARY, []), None], dtype=object)  # the last one is for -1
    problems: dict[str, str] = {}
    parts: list[dict[str, np.ndarray]] = []
    for folder, split in ((_TRAIN, "train"), (_TEST, "test")):
        columns = {}
        together = {
            number: values
            for kind in _KINDS
            for number, values in zip(
                arrays.get(f"{_MANY}{kind}", np.empty(0)).tolist(),
                arrays.get(f"{_MANY}{kind}_{split}", ()),
                strict=True,
            )
        }
        for number, name in enumerate(names):
            values = together.get(number, arrays.get(f"{folder}{number}"))
            if values is None:
                if folder == _TRAIN:
                    problems[f"{folder}{number}"] = f"missing, expected the values of column {name}"
                continue
            if values.dtype == np.int32:
                if values.size and not _MISSING <= values.min() <= values.max() < len(vocabulary) - 1:
                    problems[f"{folder}{number}"] = f"expected indices from -1 to {len(vocabulary) - 2}"
                    continue
                values = vocabulary[values]
            columns[name] = values
        parts.append(columns)
    identity = arrays.get("@id_column")
    if identity is not None and any(identity not in part for part in parts):
        problems["@id_column"] = f"expected one of /columns/names, found {identity!r}"
    if problems:
        raise storage.invalid(path, "model", problems)
    return parts[0], parts[1]


def _together(data: Dataset, names: Sequence[str]) -> dict[str, np.ndarray]:
    """The shared arrays of short numeric columns, if there are many of these."""
    entries: dict[str, np.ndarray] = {}
    for kind in _KINDS:
        here = [
            number
            for number, name in enumerate(names)
            if data.columns_train[name].dtype == kind
            and name in data.columns_test
            and data.columns_test[name].dtype == kind
            and max(data.columns_train[name].nbytes, data.columns_test[name].nbytes) <= SHORT_BYTES
        ]
        if len(here) >= MANY_COLUMNS:
            entries[f"{_MANY}{kind}"] = np.array(here, dtype=np.int64)
            for split, columns in (("train", data.columns_train), ("test", data.columns_test)):
                entries[f"{_MANY}{kind}_{split}"] = np.stack([columns[names[number]] for number in here])
    return entries


def _packed(values: np.ndarray, index: dict[str, int]) -> np.ndarray:
    """Numbers as they are, text as indices into ``index``, which grows."""
    if values.dtype.kind != "O":
        return values
    texts = values.tolist()
    places = {text: _MISSING if text is None else index.setdefault(text, len(index)) for text in dict.fromkeys(texts)}
    return np.fromiter(map(places.__getitem__, texts), dtype=np.int32, count=len(texts))
