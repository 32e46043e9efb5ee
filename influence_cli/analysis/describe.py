"""What the rows of a group have in common, in words: labels, values and means that differ from all training rows."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from influence_cli.data.dataset import Dataset

MOST_FEATURES = 3
LEAST_Z = 3.0
"""Standard errors that a feature of the group lies away from all training rows at least: fewer arise by chance among
some dozens of features."""
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
    if not columns and data.image_shape is None and isinstance(data.X_train, np.ndarray):
        columns = dict(zip(data.feature_names, data.X_train.T, strict=True))
    for name, values in columns.items():
        if name in (data.id_column, (data.preparation or {}).get("label")):
            continue
        few = values.dtype.kind == "O" or len(np.unique(values)) <= MOST_VALUES
        found = _value(name, values, rows) if few else _mean(name, values, rows)
        if found is not None:
            yield found


def _value(name: str, values: np.ndarray, rows: np.ndarray) -> tuple[float, str] | None:
    """The value that most of the group's rows have, if it is commoner there than elsewhere."""
    texts = [None if value is None or value != value else str(value) for value in values.tolist()]
    own = [texts[row] for row in rows.tolist()]
    common = max(dict.fromkeys(own), key=own.count)
    k, count, share = len(own), own.count(common), texts.count(common) / len(texts)
    if common is None or count * 2 < k or share == 1.0:
        return None
    z = (count - k * share) / np.sqrt(k * share * (1.0 - share))
    return float(z), f"{_count(count, k)} {name} {common} ({share:.0%} of all rows)"


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
