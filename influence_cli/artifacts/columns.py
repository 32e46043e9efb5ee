"""The columns of a table as entries of a model's file, and back.

Text is stored as indices into one vocabulary: a column of a million rows and fifty clinics is four megabytes.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from influence_cli.artifacts import storage
from influence_cli.artifacts.storage import PathLike
from influence_cli.data.dataset import Dataset

_NAMES, _VOCABULARY = "/columns/names", "/columns/vocabulary"
_TRAIN, _TEST = "/columns/train/", "/columns/test/"
_MISSING = -1


def entries(data: Dataset) -> dict[str, Any]:
    """What the schema has for a data set's columns; nothing for arrays without names."""
    found: dict[str, Any] = {}
    if data.columns_train:
        names = tuple(data.columns_train)
        index: dict[str, int] = {}
        for folder, columns in ((_TRAIN, data.columns_train), (_TEST, data.columns_test)):
            for number, name in enumerate(names):
                if name in columns:
                    found[f"{folder}{number}"] = _packed(columns[name], index)
        found[_NAMES], found[_VOCABULARY] = names, tuple(index)
    return found


def from_entries(path: PathLike, arrays: Mapping[str, Any]) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """The training and test columns by name; two empty mappings of a file that has none.  Raises FileError."""
    names = arrays.get(_NAMES, [])
    vocabulary = np.array([*arrays.get(_VOCABULARY, []), None], dtype=object)  # the last one for -1
    problems: dict[str, str] = {}
    parts: list[dict[str, np.ndarray]] = []
    for folder in (_TRAIN, _TEST):
        columns = {}
        for number, name in enumerate(names):
            values = arrays.get(f"{folder}{number}")
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


def _packed(values: np.ndarray, index: dict[str, int]) -> np.ndarray:
    """Numbers as they are, text as places in the growing index."""
    if values.dtype.kind != "O":
        return values
    texts = values.tolist()
    places = {text: _MISSING if text is None else index.setdefault(text, len(index)) for text in dict.fromkeys(texts)}
    return np.fromiter(map(places.__getitem__, texts), dtype=np.int32, count=len(texts))
