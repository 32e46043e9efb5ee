"""A model from a .skops file with its training data, as ``ginf train --from`` brings it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from influence_cli.data.dataset import Dataset
from influence_cli.data.features import Features
from influence_cli.data.frames import frame_of, matrix_of
from influence_cli.data.from_table import TableOptions
from influence_cli.data.labels import printed
from influence_cli.data.load import load
from influence_cli.data.python_objects import feature_array
from influence_cli.data.sparse import Rows, same_rows
from influence_cli.data.table import Table
from influence_cli.errors import FileError, did_you_mean
from influence_cli.models.sample_weights import column_weights, with_weights
from influence_cli.models.settings import ESTIMATORS
from influence_cli.models.sklearn import (
    Adoption,
    Recipe,
    adopt,
    describe_steps,
    output_names,
    read_estimator,
    read_skops,
    split_pipeline,
    transform_with,
)
from influence_cli.models.trained import TrainedModel

TRAIN, TEST = "training rows", "test rows"


@dataclass(frozen=True)
class Brought:
    """The model, how well its parameters suited its rows, and what the file held, in a line."""

    model: TrainedModel
    adoption: Adoption
    described: str

    @property
    def tests_itself(self) -> bool:
        """Whether the test rows are the training rows."""
        return same_rows(self.model.dataset.X_train, self.model.dataset.X_test)


@dataclass(frozen=True)
class Read:
    """What the file's estimator says, its training and test rows, the sum of the weights as they were given, and what
    the file held, in a line."""

    recipe: Recipe
    dataset: Dataset
    total: float
    described: str


@dataclass(frozen=True)
class Transformers:
    """A pipeline's fitted transformers as a ``FeatureMaker``; ``names`` are the columns that it was fitted on, if it
    knows them, and ``count`` their number."""

    steps: list[tuple[str, Any]]
    names: tuple[str, ...]
    count: int | None

    def wanted(self, table: Table, features: list[str], name: str) -> list[str]:
        missing = [key for key in self.names if key not in table.columns]
        if missing:
            raise FileError(
                f"{name}: the model was fitted on the columns {', '.join(self.names)}, but the table has no"
                f" {', '.join(missing)}",
                did_you_mean(missing[0], table.names, "give the table that it was fitted on"),
            )
        found = list(self.names) or features
        for key in found:
            if table.columns[key].kind == "other":
                raise FileError(f"{name}: column {key} holds {table.columns[key].described}, which are no features")
        if self.count is not None and len(found) != self.count:
            raise FileError(
                f"{name}: the model was fitted on {self.count} columns, but {len(found)} are left:"
                f" {', '.join(found[:20])}",
                "--drop the columns that it was not fitted on",
            )
        return found

    def of_tables(self, columns: list[str], train: Table, test: Table, name: str) -> Features:
        # Transformers that were fitted without names warn of names, those fitted with names need them.
        form = frame_of if self.names or not self.steps else matrix_of
        rows = [form(train, columns), form(test, columns) if test is not train else None]
        return self._made(rows[0], rows[1], tuple(columns), name)

    def of_arrays(self, X_train: Rows, X_test: Rows, names: tuple[str, ...], name: str) -> Features:
        if self.names and self.steps:
            known = all(key in names for key in self.names)
            if not known and len(self.names) != len(names):
                raise FileError(f"{name}: the model was fitted on {len(self.names)} columns, found {len(names)}")
        return self._made(X_train, X_test, names, name)

    def _made(self, X_train: Any, X_test: Any, names: tuple[str, ...], name: str) -> Features:
        """``X_test`` None are the training rows."""
        made = feature_array(transform_with(self.steps, X_train, name), name, TRAIN, None if self.steps else names)
        out = output_names(self.steps, names, made.shape[1]) if self.steps else names
        if X_test is None:
            return Features(made, made, out, list(describe_steps(self.steps)), ())
        own = f"{name} (test rows)"
        test = feature_array(transform_with(self.steps, X_test, own), name, TEST, None if self.steps else names)
        return Features(made, test, out, list(describe_steps(self.steps)), ())


def bring(
    path: str,
    data: str,
    table: TableOptions,
    *,
    scaling: str | None,
    tol: float,
    polish: bool,
    max_iterations: int,
    seed: int,
) -> Brought:
    """The model of the file on the rows that it was fitted on: all rows of ``data``.

    Raises FileError, UsageError and NotConvergedError as ``sklearn_models`` says.
    """
    read = read_rows(path, data, table, seed=seed)
    trained, adoption = adopt(
        read.recipe, read.dataset, read.total, scaling=scaling, tol=tol, polish=polish, max_iterations=max_iterations
    )
    return Brought(trained, adoption, read.described)


def read_rows(path: str, data: str, table: TableOptions, *, seed: int) -> Read:
    """The file's estimator, and all rows of ``data`` as its pipeline makes them.  Raises FileError or UsageError."""
    model = read_skops(path)
    steps, last = split_pipeline(model)
    recipe = read_estimator(last)
    names = tuple(str(key) for key in getattr(model, "feature_names_in_", ()))
    maker = Transformers(steps, names, getattr(model, "n_features_in_", None))
    dataset = load(data, task=ESTIMATORS[recipe.estimator], seed=seed, table=table, maker=maker)
    if recipe.classes is not None:
        dataset = in_class_order(dataset, recipe.classes)
    raw = None if table.sample_weight is None else column_weights(dataset, table.sample_weight)
    dataset, total = with_weights(dataset, recipe.weights(dataset.y_train, len(dataset.classes), raw))
    parts = [type(step).__name__ for _, step in steps]
    return Read(recipe, dataset, total, " -> ".join([*parts, recipe.name]))


def in_class_order(dataset: Dataset, classes: np.ndarray) -> Dataset:
    """The data set with the estimator's classes, in its order.  Raises FileError where they are not the same."""
    wanted, found = printed(classes), dataset.classes
    if classes.dtype.kind == "b":
        found = tuple(label.capitalize() for label in found)  # a table's true and false
    if set(wanted) != set(found):
        raise FileError(
            f"{dataset.name}: the model was fitted on the classes {', '.join(wanted[:20])}, but the labels of the rows"
            f" are {', '.join(dataset.classes[:20])}",
            "give the rows that it was fitted on, and their labels",
        )
    if wanted == found:
        return replace(dataset, classes=wanted)
    code = np.array([wanted.index(label) for label in found] + [-1])  # the last for test rows without a label
    return replace(dataset, classes=wanted, y_train=code[dataset.y_train], y_test=code[dataset.y_test])
