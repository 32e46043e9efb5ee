"""A summary of a data set in a few lines, which ``ginf train`` shows for a table."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from influence_cli.data.dataset import Dataset
from influence_cli.data.labels import in_a_sentence
from influence_cli.data.sparse import same_rows

SHOWN_CLASSES = 10
SHOWN_COLUMNS = 8
MANY_VALUES, FEW_ROWS = 50, 5
"""A text column probably names things if it has more values than the first, each in fewer rows than the second."""


def summary(data: Dataset) -> list[str]:
    """Lines about a table's label, features, imputed values and constant columns; empty for arrays."""
    if data.preparation is None or "label" not in data.preparation:
        return []
    states = [state for state in data.preparation["features"] if "kind" in state]
    return [_label(data), *_features(states), *_naming(data, states), *_imputed(data, states), *_constant(data)]


def base_rate(data: Dataset) -> float | None:
    """The accuracy on the labelled test rows of always predicting the most frequent class of the training rows.

    None for a regression, or if no test row has a label.
    """
    if not data.classes or not data.labelled.any():
        return None
    frequent = np.bincount(data.y_train, minlength=len(data.classes)).argmax()
    return float(np.mean(data.y_test[data.labelled] == frequent))


def _label(data: Dataset) -> str:
    assert data.preparation is not None
    per = data.preparation.get("per")
    name = data.preparation["label"] + (f" / {per}" if per else "")
    if not data.classes:
        y = data.y_train
        return f"label {name}: a number, {y.min():g} to {y.max():g}, mean {y.mean():g}, in {len(y):,} training rows"
    counts = np.bincount(data.y_train, minlength=len(data.classes))
    order = np.argsort(-counts, kind="stable")[:SHOWN_CLASSES]
    shown = ", ".join(
        f"{in_a_sentence(data.classes[code])}: {counts[code]:,} ({counts[code] / counts.sum():.0%})" for code in order
    )
    more = f" and {len(counts) - SHOWN_CLASSES:,} more classes" if len(counts) > SHOWN_CLASSES else ""
    # Ten digits are classes; more whole numbers from 0 on may be counts.
    whole = "0" in data.classes and len(counts) > SHOWN_CLASSES and all(label.isdigit() for label in data.classes)
    counted = "; if these are counts of events, add --estimator poisson" * whole
    return f"label {name} = {shown}{more}, of {counts.sum():,} training rows{counted}"


def _features(states: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    words = {"numeric": "numbers", "boolean": "true or false", "categorical": "categories"}
    parts = []
    for kind, called in words.items():
        of_kind = [state for state in states if state["kind"] == kind]
        if not of_kind:
            continue
        if kind != "categorical":
            parts.append(f"{called}: {_listed([state['column'] for state in of_kind])}")
            continue
        columns = sum(len(state["categories"]) - ("reference" in state) for state in of_kind)
        names = [f"{state['column']} ({len(state['categories']):,})" for state in of_kind]
        parts.append(f"{called}: {_listed(names)}, as {columns:,} column{'s' * (columns != 1)} of 0 and 1")
    if parts:
        yield f"features: {'; '.join(parts)}"


def _naming(data: Dataset, states: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """Lines about columns whose values repeat so seldom that they probably name people or things."""
    for state in states:
        count = len(state["categories"]) if state["kind"] == "categorical" else 0
        if count > MANY_VALUES and count * FEW_ROWS > data.rows:
            name = state["column"]
            yield (
                f"column {name} has {count:,} values in {data.rows:,} training rows, a feature each: if it names"
                f" something, leave it out with --drop {shlex.quote(name)} (it can still name groups)"
            )


def _imputed(data: Dataset, states: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    filled: list[str] = []
    states = [state for state in states if state.get("impute") is not None]
    X, X_test = data.X_train, data.X_test
    both = bool(states) and X_test is not X and (X_test.shape != X.shape or not same_rows(X, X_test))
    parts = (data.columns_train, data.columns_test) if both else (data.columns_train,)
    for state in states:
        count = sum(_missing(part[state["column"]]) for part in parts)
        value = state["impute"]
        filled.append(f"{state['column']} in {count:,} by {value if isinstance(value, str) else f'{value:g}'}")
    if filled:
        yield f"missing values filled in: {_listed(filled)}"


def _constant(data: Dataset) -> Iterator[str]:
    X = data.X_train
    if not isinstance(X, np.ndarray):
        return
    constant = np.flatnonzero((X[0] == X).all(axis=0))
    if len(constant):
        names = [data.feature_names[column] for column in constant]
        yield f"constant in the training rows, without effect: {_listed(names)}"


def _missing(values: np.ndarray) -> int:
    if values.dtype.kind == "O":
        return sum(value is None for value in values.tolist())
    return int(np.isnan(values).sum())


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - SHOWN_COLUMNS:,} more" if len(names) > SHOWN_COLUMNS else ""
    return ", ".join(names[:SHOWN_COLUMNS]) + more
