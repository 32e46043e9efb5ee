"""What the rows of a group have in common, in words: labels, values and means that differ from all training rows."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

import numpy as np

from influence_cli.data.dataset import Dataset

MOST_FEATURES = 3
LEAST_Z = 3.0
"""Standard errors that a feature of the group lies away from all training rows at least: fewer arise by chance among
some dozens of features."""
MOST_COLUMNS = 1000
"""Features of arrays up to which each is looked at."""
SAMPLE = 1000
"""Rows by which it is told whether a column has few values."""
MOST_VALUES = 20
"""Different numbers of a column whose values are still counted; of more the mean is told."""


def describe(data: Dataset, rows: np.ndarray) -> str:
    """Sentences about the training rows (k,): their labels, then the features in which they differ most.

    A value's share is held against its share of all training rows (by the binomial's standard error), a mean against
    the mean of all in units of their standard deviation, "3.1 sd under the mean".
    """
    said = [_labels(data, rows), *_features(data, rows)]
    return "; ".join(filter(None, said))


def _labels(data: Dataset, rows: np.ndarray) -> str:
    name = (data.preparation or {}).get("label", "label")
    if not data.classes:
        found = _mean(name, data.y_train, rows)
        return "" if found is None else found[1]
    counts = np.bincount(data.y_train[rows], minlength=len(data.classes))
    code = int(counts.argmax())
    share = float(np.mean(data.y_train == code))
    return f"{_count(int(counts[code]), len(rows))} {name} {data.classes[code]} ({share:.0%} of all rows)"


def _features(data: Dataset, rows: np.ndarray) -> list[str]:
    """The features that differ by the most standard errors."""
    found = sorted(_differences(data, rows), key=lambda one: -one[0])
    return [text for z, text in found if z >= LEAST_Z][:MOST_FEATURES]


def _differences(data: Dataset, rows: np.ndarray) -> Iterator[tuple[float, str]]:
    """Standard errors and sentence of every column; none of images, whose pixels say nothing one by one."""
    columns = dict(data.columns_train)
    if not columns and data.image_shape is None and data.X_train.shape[1] <= MOST_COLUMNS:
        X = data.X_train if isinstance(data.X_train, np.ndarray) else data.X_train.toarray()
        columns = dict(zip(data.feature_names, X.T, strict=True))
    for name, values in columns.items():
        if name in (data.id_column, (data.preparation or {}).get("label")):
            continue
        seen = np.concatenate([values[:SAMPLE], values[rows]])
        few = values.dtype.kind == "O" or len(np.unique(seen)) <= MOST_VALUES
        found = _value(name, values, rows) if few else _mean(name, values, rows)
        if found is not None:
            yield found


def _value(name: str, values: np.ndarray, rows: np.ndarray) -> tuple[float, str] | None:
    """The value that most of the group's rows have, if it is commoner there than elsewhere."""
    own = values[rows].tolist()
    (common, count), k = Counter(own).most_common(1)[0], len(own)
    share = float(np.mean(values == common))
    if common is None or common != common or count * 2 < k or share == 1.0:
        return None
    z = (count - k * share) / np.sqrt(k * share * (1.0 - share))
    text = f"{common:g}" if isinstance(common, float) else common
    return float(z), f"{_count(count, k)} {name} {text} ({share:.0%} of all rows)"


def _mean(name: str, values: np.ndarray, rows: np.ndarray) -> tuple[float, str] | None:
    values = values.astype(np.float64)
    own, deviation = values[rows], float(np.nanstd(values))
    own = own[~np.isnan(own)]
    if not len(own) or deviation == 0.0:
        return None
    away = (float(own.mean()) - float(np.nanmean(values))) / deviation
    side = "over" if away > 0 else "under"
    return abs(away) * float(np.sqrt(len(own))), f"{name} {abs(away):.1f} sd {side} the mean"


def _count(count: int, of: int) -> str:
    return "all" if count == of else f"{count:,} of {of:,}"
