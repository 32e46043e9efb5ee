"""What the rows of a group have in common, in words: labels, values and means that differ from all training rows."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from functools import cached_property

import numpy as np
from scipy.sparse import issparse

from influence_cli.data.dataset import Dataset

MOST_FEATURES = 3
LEAST_Z = 3.0
"""Smallest deviation, in standard errors, of a feature that is mentioned: among some dozens of features a smaller one
may arise by chance."""
MOST_COLUMNS = 1000
"""Number of features of an array up to which each is examined."""
MOST_NUMBERS = 10_000_000
"""Size up to which sparse rows are made dense for that (80 MB)."""
SAMPLE = 1000
"""Rows from which it is decided whether a column has few values."""
MOST_VALUES = 20
"""Distinct numbers of a column up to which its values are counted; beyond that its mean is reported."""


class Description:
    """Sentences about groups of a data set's training rows; each column's reference statistics are computed once."""

    def __init__(self, data: Dataset):
        self._data = data
        made = data.preparation or {}
        self._label = made.get("label", "label")
        self._response = f"{self._label} / {made['per']}" if "per" in made else self._label
        self._moments: dict[str, tuple[float, float]] = {}
        self._shares: dict[tuple[str, object], float] = {}

    def of(self, rows: np.ndarray) -> str:
        """The labels of these rows (k,), then the features in which they differ most.

        The share of a value is compared with its share of all training rows (by the binomial's standard error), a mean
        with the mean of all in units of their standard deviation, "3.1 sd under the mean".
        """
        differences = sorted(self._differences(rows), key=lambda one: -one[0])
        most = [text for z, text in differences if z >= LEAST_Z][:MOST_FEATURES]
        return "; ".join(filter(None, [self._labels(rows), *most]))

    def _labels(self, rows: np.ndarray) -> str:
        data, name = self._data, self._response
        if not data.classes:
            difference = self._mean(name, data.y_train, rows)
            return "" if difference is None else difference[1]
        counts = np.bincount(data.y_train[rows], minlength=len(data.classes))
        code = int(counts.argmax())
        share = self._share(name, data.y_train, code)
        return _counted(int(counts[code]), len(rows), f"{name} {data.classes[code]}", share)

    @cached_property
    def _columns(self) -> Mapping[str, np.ndarray]:
        """The table's columns, else the features of an array; none for images, whose single pixels say nothing."""
        data, X = self._data, self._data.X_train
        too_many = X.shape[1] > MOST_COLUMNS or (issparse(X) and X.shape[0] * X.shape[1] > MOST_NUMBERS)
        if data.columns_train or data.image_shape is not None or data.streamed is not None or too_many:
            said = (data.id_column, self._label)
            return {name: values for name, values in data.columns_train.items() if name not in said}
        dense = X if isinstance(X, np.ndarray) else X.toarray()
        return dict(zip(data.feature_names, dense.T, strict=True))

    def _differences(self, rows: np.ndarray) -> Iterator[tuple[float, str]]:
        """Deviation in standard errors and sentence of every column that can be described."""
        for name, values in self._columns.items():
            seen = np.concatenate([values[:SAMPLE], values[rows]])
            few = values.dtype.kind == "O" or len(np.unique(seen)) <= MOST_VALUES
            difference = (self._value if few else self._mean)(name, values, rows)
            if difference is not None:
                yield difference

    def _value(self, name: str, values: np.ndarray, rows: np.ndarray) -> tuple[float, str] | None:
        """The value of at least half of the group's rows, compared with its share of all rows."""
        chosen = values[rows].tolist()
        (common, count), k = Counter(chosen).most_common(1)[0], len(chosen)
        if common is None or common != common or count * 2 < k:
            return None
        share = self._share(name, values, common)
        if share == 1.0:
            return None
        z = (count - k * share) / np.sqrt(k * share * (1.0 - share))
        text = f"{common:g}" if isinstance(common, float) else common
        return float(z), _counted(count, k, f"{name} {text}", share)

    def _mean(self, name: str, values: np.ndarray, rows: np.ndarray) -> tuple[float, str] | None:
        if name not in self._moments:
            numbers = values.astype(np.float64)
            self._moments[name] = float(np.nanmean(numbers)), float(np.nanstd(numbers))
        mean, deviation = self._moments[name]
        chosen = values[rows].astype(np.float64)
        chosen = chosen[~np.isnan(chosen)]
        if not len(chosen) or deviation == 0.0:
            return None
        distance = (float(chosen.mean()) - mean) / deviation
        side = "over" if distance > 0 else "under"
        where = f"{abs(distance):.1f} sd {side} the mean" if abs(distance) >= 0.05 else "as in all rows in the mean"
        return abs(distance) * float(np.sqrt(len(chosen))), f"{name} {where}"

    def _share(self, name: str, values: np.ndarray, value: object) -> float:
        if (name, value) not in self._shares:
            self._shares[name, value] = float(np.mean(values == value))
        return self._shares[name, value]


def _counted(count: int, of: int, what: str, share: float) -> str:
    many = "" if of == 1 else "all " if count == of else f"{count:,} of {of:,} "
    return f"{many}{what} ({share:.0%} of all rows)"
