"""Arrays or a table -> a checked, encoded ``Dataset``.

All readers end here, so that whatever a source contains, the core only sees finite float64 features, class codes that
start at 0, and row numbers that mean the same in every command.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

import numpy as np

from influence_cli.data.dataset import Dataset
from influence_cli.data.features import Features
from influence_cli.data.labels import class_names, encode, responses
from influence_cli.data.split import random_split, stratified_split
from influence_cli.errors import about

Task = Literal["classification", "regression"]

TRAIN, TEST, UNSPLIT = "training rows", "test rows", "rows"


@dataclass(frozen=True)
class Parts:
    """The training and the test part of a source, after the split.

    ``columns`` and ``records`` are those of the training and of the test rows, as in ``Dataset``.
    """

    features: Features
    columns: tuple[Mapping[str, np.ndarray], Mapping[str, np.ndarray]] = field(default=({}, {}))
    records: tuple[np.ndarray | None, np.ndarray | None] = (None, None)
    image_shape: tuple[int, int] | None = None
    id_column: str | None = None
    preparation: Mapping[str, Any] | None = None


class Source(Protocol):
    """Rows as a reader returned them, with the options about them.  Every method raises FileError or UsageError."""

    has_tests: bool
    """Whether the source brings test rows, so that nothing is split."""
    notes: tuple[str, ...]

    def labels(self, where: str) -> np.ndarray:
        """The labels, numbers or text, of the training rows or of all rows to split; ``where`` names them in errors."""

    def test_labels(self, values: np.ndarray | None) -> np.ndarray:
        """Labels of the test rows that the source brings: codes into ``values`` (or -1), or responses (or NaN)."""

    def parts(self, train: np.ndarray, test: np.ndarray | None) -> Parts:
        """Both parts, given the numbers of their rows; ``test`` None means the test rows that the source brings."""


def prepare(source: Source, name: str, *, task: Task, test_fraction: float, seed: int) -> Dataset:
    """Check the source, split it unless it brings test rows, and encode it.

    Both parts of a split keep the order of the source.  With a ``test_fraction`` of 0 all rows are both training and
    test rows.  Raises FileError or UsageError about ``name``.
    """
    with about(name):
        where = TRAIN if source.has_tests else UNSPLIT
        y = source.labels(where)
        classes, values = class_names(y, where) if task == "classification" else ((), None)
        codes = coded(y, values, where)
        every = np.arange(len(codes), dtype=np.int32 if len(codes) < 2**31 else np.int64)
        if source.has_tests:
            train, test, y_test = every, None, source.test_labels(values)
        else:
            if test_fraction == 0:
                train = test = every
            elif values is None:
                train, test = random_split(len(codes), test_fraction, seed)
            else:
                train, test = stratified_split(codes, classes, test_fraction, seed)
            y_test = codes[test]
        made = source.parts(train, test)
    return Dataset(
        name,
        made.features.X_train,
        codes if train is every else codes[train],
        made.features.X_test,
        y_test,
        feature_names=made.features.names,
        classes=classes,
        image_shape=made.image_shape,
        columns_train=made.columns[0],
        columns_test=made.columns[1],
        id_column=made.id_column,
        preparation=made.preparation,
        records_train=made.records[0],
        records_test=made.records[1],
        notes=(*(f"{name}: {note}" for note in (*source.notes, *made.features.notes)),),
    )


def coded(y: np.ndarray, values: np.ndarray | None, where: str) -> np.ndarray:
    """Class codes into ``values``, or responses if ``values`` is None.  Raises FileError."""
    return responses(y, where) if values is None else encode(y, values, where)
