"""Weights of training rows: from a column, from the classes' sizes, or both.

They enter J of docs/design.md, section 2.1, as w_i = s_i / sum s, and scikit-learn's C means
lambda = 1 / (C sum s).  Removal leaves the given s of the kept rows as they are; their ``balanced`` weights are
computed again without the group, or kept (``preprocessing.Balancing``).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from influence_cli.data.dataset import Dataset
from influence_cli.errors import FileError, UsageError, did_you_mean

BALANCED = "balanced"
CLASS_WEIGHTS = ("none", BALANCED)


def weighted(dataset: Dataset, columns: Sequence[str], class_weight: str | None) -> tuple[Dataset, float]:
    """The data set with the product of these columns as its weights, and the sum of the weights as they were given, or
    m without weights.

    Raises UsageError for an unknown column or unsuitable class weight, FileError for unsuitable numbers.
    """
    raw = product_of(dataset, columns)
    if class_weight == BALANCED:
        if not dataset.classes:
            raise UsageError(
                "--class-weight balanced is for classifications; this data has a numeric response",
                hint="weigh rows with --sample-weight COLUMN",
            )
        raw = balance(dataset.y_train, len(dataset.classes), raw)
    return with_weights(dataset, raw)


def product_of(dataset: Dataset, columns: Sequence[str]) -> np.ndarray | None:
    """The product (m,) of these columns of the training rows; None without columns.  Raises UsageError or FileError."""
    raw = [column_weights(dataset, column) for column in columns]
    return np.prod(raw, axis=0) if raw else None


def with_weights(dataset: Dataset, raw: np.ndarray | None) -> tuple[Dataset, float]:
    """The data set with raw weights (m,), normalised, and their sum; equal weights are none.  Raises FileError."""
    if raw is None:
        return dataset, float(dataset.rows)
    raw = np.asarray(raw, dtype=np.float64)
    if raw.shape != (dataset.rows,):
        m = dataset.rows
        raise FileError(f"{dataset.name}: expected {m:,} weights, one a training row; their shape is {raw.shape}")
    wrong = ~(np.isfinite(raw) & (raw >= 0))
    if wrong.any():
        row = int(np.argmax(wrong))
        raise FileError(
            f"{dataset.name}: weights must be finite numbers of at least 0, found {raw[row]:g} in training row {row}"
            f" and {wrong.sum():,} such rows in all",
            "leave these rows out, or give them the weight 0",
        )
    if not (raw > 0).any():
        raise FileError(f"{dataset.name}: a training row with a weight over 0 is needed, but all weights are 0")
    for code, label in enumerate(dataset.classes):
        if not (raw[dataset.y_train == code] > 0).any():
            raise FileError(f"{dataset.name}: all training rows of class {label} have the weight 0", "leave them out")
    total = float(raw.sum())
    if not np.isfinite(total):
        raise FileError(f"{dataset.name}: the sum of the weights is beyond all numbers", "divide them by the largest")
    return replace(dataset, weights=raw / total if np.ptp(raw) > 0 else None), total


def balance(y: np.ndarray, classes: int, raw: np.ndarray | None, *, by_rows: bool = False) -> np.ndarray:
    """Weights (m,) that give every class the same sum and leave the total: s_i sum(s) / (classes sum_own(s)).

    scikit-learn's ``balanced`` in LogisticRegression; ``by_rows``, as in RidgeClassifier, classes are counted in rows
    whatever their weights: s_i m / (classes m_own).
    """
    raw = np.ones(len(y)) if raw is None else np.asarray(raw, dtype=np.float64)
    counted = np.ones(len(y)) if by_rows else raw
    counts = np.bincount(y, weights=counted, minlength=classes)
    with np.errstate(divide="ignore", invalid="ignore"):  # a class without weight is refused by name in with_weights
        share = np.where(counts > 0, counted.sum() / (classes * counts), 0.0)
    return raw * share[y]


def column_weights(dataset: Dataset, column: str) -> np.ndarray:
    """The raw weights (m,) that a column holds.  Raises UsageError or FileError."""
    if column not in dataset.columns_train:
        names = list(dataset.columns_train)
        have = f"its columns are {', '.join(names[:20])}" if names else "it has no columns"
        hint = did_you_mean(column, names, "an .npz file can hold the array sample_weight")
        raise UsageError(f"{dataset.name}: --sample-weight {column!r} is no column of the data; {have}", hint)
    values = dataset.columns_train[column]
    if values.dtype.kind == "O":
        shown = next((value for value in values.tolist() if value is not None), None)
        raise FileError(
            f"{dataset.name}: --sample-weight {column} must be numbers, but the column holds texts such as {shown!r}"
        )
    return np.asarray(values, dtype=np.float64)
