"""Recompute the imputed cells of ginf's own tables without some rows, in the features that the model was trained on.

The result is that of ``remade.remake``, which fits the whole preparation again and so takes many passes over a table.
Here only the columns with missing cells are read, and of their numbers only those cells change.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from influence_cli.core.rescaling import Restandardising, Standardised
from influence_cli.data.table import Column, Table
from influence_cli.errors import FileError
from influence_cli.models.remade import Made, Remade

State = Mapping[str, Any]
"""What a model's file says about one column; ``data.features`` describes its form."""


@dataclass(frozen=True, eq=False)
class OwnTable:
    """The features ``old`` that ``states`` made of the columns of ``train`` and ``test``.

    ``scales`` are those of the standardised features, and ``strategy`` (mean, median or most-frequent) imputes numbers.
    """

    old: Made
    states: Sequence[State]
    train: Table
    test: Table
    scales: Standardised | None
    strategy: str

    def without(self, rows: np.ndarray, *, centred: bool) -> Remade:
        """The features without ``rows``; ``centred`` as in ``remade.remake``.  Raises FileError."""
        m = self.old.X.shape[0]
        kept = np.ones(m, dtype=bool)
        kept[rows] = False
        X, X_test = np.array(self.old.X), np.array(self.old.X_test)
        place = {name: at for at, name in enumerate(self.old.names)}
        for state in self.states:
            key = state["column"]
            columns = self.train.columns[key], self.test.columns[key]
            if state["kind"] == "categorical":
                names = [f"{key}={one}" for one in state["categories"]]
                _impute_text(state, columns, kept, X, X_test, [place.get(name, -1) for name in names])
                for at in (place[name] for name in names if name in place):
                    if not X[kept, at].any():  # a category that no kept row has
                        X_test[:, at] = 0.0
            elif state.get("impute") is not None and key in place:
                strategy = "most-frequent" if state["kind"] == "boolean" else self.strategy
                _impute_number(state, strategy, columns, kept, X, X_test, place[key])
        d = X.shape[1]
        ratio, shift = np.ones(d), np.zeros(d)
        if self.scales is not None:
            standardised = Restandardising(X, self.scales).without([rows])
            ratio, shift = standardised[0][:, 0], standardised[1][:, 0]
        if not centred:
            X, X_test, shift = X - shift, X_test - shift, np.zeros(d)
        return Remade(X, X_test, self.old.names, ratio, shift, True)


def is_simple(states: Sequence[State]) -> bool:
    """Whether a preparation leaves out no level and no column; without some rows it might leave out others."""
    return all(state["kind"] != "constant" and "reference" not in state for state in states)


def _impute_number(
    state: State,
    strategy: str,
    columns: tuple[Column, Column],
    kept: np.ndarray,
    X: np.ndarray,
    X_test: np.ndarray,
    at: int,
) -> None:
    """Fill the missing cells of a column of numbers or truth values, feature ``at``, by the kept rows."""
    train, other = columns
    values = _as_numbers(train)
    present = values[kept & ~train.missing]
    if not len(present):
        raise FileError(f"column {state['column']} has no value in any row that is left")
    if strategy == "most-frequent":
        different, counts = np.unique(present, return_counts=True)
        fill = different[np.argmax(counts)]  # among ties the smallest, as in SimpleImputer
    else:
        fill = np.median(present) if strategy == "median" else present.mean()
    cell = (fill - state.get("mean", 0.0)) / state.get("scale", 1.0)
    X[train.missing, at], X_test[other.missing, at] = cell, cell


def _impute_text(
    state: State,
    columns: tuple[Column, Column],
    kept: np.ndarray,
    X: np.ndarray,
    X_test: np.ndarray,
    places: Sequence[int],
) -> None:
    """Fill the missing cells of a column of text, whose categories have features at ``places`` (-1: none), by the kept
    rows."""
    if state.get("impute") is None:
        return
    train, other = columns
    code = {category: number for number, category in enumerate(state["categories"])}
    codes = np.array([code.get(value, -1) for value in train.values[kept & ~train.missing].tolist()])
    if not len(codes):
        raise FileError(f"column {state['column']} has no value in any row that is left")
    new = places[int(np.argmax(np.bincount(codes)))]
    there = np.array([place for place in places if place >= 0])
    for features, missing in ((X, train.missing), (X_test, other.missing)):
        features[np.ix_(missing, there)] = 0.0
        if new >= 0:
            features[missing, new] = 1.0


def _as_numbers(column: Column) -> np.ndarray:
    """Numbers as they are, truth values as 0 and 1; NaN or 0 where missing."""
    if column.values.dtype.kind != "O":
        return column.values
    return np.array([value is not None and value.casefold() == "true" for value in column.values.tolist()], dtype=float)
