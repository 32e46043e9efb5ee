"""The fitted transformers of a pipeline: their input rows, their features, and the rows of their fit."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from influence_cli.data.features import Features
from influence_cli.data.frames import frame_of, matrix_of, texts_of
from influence_cli.data.python_objects import feature_array
from influence_cli.data.sparse import Rows
from influence_cli.data.table import Table
from influence_cli.errors import FileError

TRAIN, TEST = "training rows", "test rows"
Steps = Sequence[tuple[str, Any]]
"""Transformers in order, each by the name of its step."""


def transform_with(steps: Steps, X: Any) -> Any:
    """X through the fitted transformers, in order.  Raises FileError with what they object to.

    BLAS runs on one thread, because the last bits of a product depend on the number of threads, and the digest on them.
    """
    from threadpoolctl import threadpool_limits

    for step, transformer in steps:
        try:
            with threadpool_limits(limits=1):
                X = transformer.transform(X)
        except (ValueError, TypeError, KeyError, AttributeError, ImportError, IndexError) as error:
            raise FileError(
                f"the pipeline's step {step} ({type(transformer).__name__}) refuses these rows: {error}",
                "give the columns that the pipeline was fitted on, in the same form",
            ) from None
    return X


def output_names(steps: Steps, names: tuple[str, ...], count: int) -> tuple[str, ...]:
    """Names of the ``count`` features that the transformers make of columns ``names``."""
    current: Any = np.array(names, dtype=object) if names else None
    for _, transformer in steps:
        try:
            current = transformer.get_feature_names_out(current)
        except (AttributeError, ValueError, TypeError):
            current = None
    if current is None or len(current) != count:
        return tuple(f"x{column}" for column in range(count))
    return tuple(str(name) for name in current)


def describe_steps(steps: Steps) -> list[dict[str, str]]:
    """The transformers as plain data, for the model's file."""
    return [{"step": name, "transformer": " ".join(repr(step).split())} for name, step in steps]


@dataclass(frozen=True)
class FittedPart:
    """One transformer inside a pipeline with the training rows ``X`` that reach it: a frame or array (m, d)."""

    step: str
    transformer: Any
    X: Any

    @property
    def columns(self) -> list[str]:
        """Names of the columns of ``X``."""
        if hasattr(self.X, "columns"):
            return [str(key) for key in self.X.columns]
        return [f"x{column}" for column in range(self.X.shape[1])] if np.ndim(self.X) == 2 else []

    def values(self, column: int) -> np.ndarray:
        """One column of ``X``, (m,)."""
        return np.asarray(self.X)[:, column] if not hasattr(self.X, "iloc") else self.X.iloc[:, column].to_numpy()


def fitted_parts(steps: Steps, X: Any) -> Iterator[FittedPart]:
    """The transformers inside, one level under pipelines and column transformers, in order.

    If a transformer refuses the rows, its exception follows after the transformers before it.
    """
    for step, transformer in steps:
        yield from _parts(step, transformer, X)
        X = transformer.transform(X)


def _parts(step: str, transformer: Any, X: Any) -> Iterator[FittedPart]:
    from sklearn.pipeline import Pipeline

    inside = _inside(transformer)
    if inside is None:
        yield FittedPart(step, transformer, X)
    elif isinstance(transformer, Pipeline):
        yield from fitted_parts([(name, one) for name, one, _ in inside], X)
    else:
        for name, one, columns in inside:
            yield from _parts(name, one, X if columns is None else _columns(X, columns))


def _inside(transformer: Any) -> list[tuple[str, Any, Any]] | None:
    """The names, transformers and columns (None: all) of what is fitted inside; None of a transformer by itself."""
    from sklearn.compose import ColumnTransformer
    from sklearn.pipeline import FeatureUnion, Pipeline

    if isinstance(transformer, ColumnTransformer):
        steps_inside = list(transformer.transformers_)
    elif isinstance(transformer, FeatureUnion | Pipeline):
        steps = transformer.steps if isinstance(transformer, Pipeline) else transformer.transformer_list
        steps_inside = [(name, one, None) for name, one in steps]
    else:
        return None
    return [part for part in steps_inside if not is_idle(part[1])]


def is_idle(transformer: Any) -> bool:
    """Whether a step lets its columns through, or drops them."""
    return transformer is None or isinstance(transformer, str)


def _columns(X: Any, columns: Any) -> Any:
    """Columns by name, number, slice or mask, as a ColumnTransformer picks them."""
    from sklearn.utils import _safe_indexing

    return _safe_indexing(X, columns, axis=1)


def text_columns(steps: Steps) -> frozenset[str]:
    """Columns of which a fitted encoder knows texts as categories, such as ZIP codes: they are to be read as text."""
    columns: set[str] = set()
    for _, transformer in steps:
        columns |= _text_columns(transformer, getattr(transformer, "feature_names_in_", None))
    return frozenset(columns)


def _text_columns(transformer: Any, names: Any) -> set[str]:
    inside = _inside(transformer)
    if inside is not None:
        return set().union(*(_text_columns(one, getattr(one, "feature_names_in_", names)) for _, one, _ in inside))
    names_fitted = getattr(transformer, "feature_names_in_", names)
    categories = getattr(transformer, "categories_", None)
    if names_fitted is None or categories is None or len(categories) != len(names_fitted):
        return set()
    return {str(key) for key, known in zip(names_fitted, categories, strict=True) if _are_texts(known)}


def _are_texts(categories: np.ndarray) -> bool:
    present = [value for value in np.asarray(categories).tolist() if value is not None and value == value]
    return bool(present) and all(isinstance(value, str) for value in present)


@dataclass
class Transformers:
    """A pipeline's fitted transformers as a ``FeatureMaker``; ``names`` are the columns that it was fitted on, if it
    knows them, and ``width`` their number.

    ``given`` are the training rows as the first transformer got them, and ``columns`` those of the table that they
    consist of, once features have been made.
    """

    steps: Steps
    names: tuple[str, ...]
    width: int | None
    label_is_text: bool = False
    given: Any = field(default=None, init=False)
    columns: tuple[str, ...] = field(default=(), init=False)

    @property
    def texts(self) -> frozenset[str]:
        return text_columns(self.steps)

    def wanted(self, table: Table, features: list[str]) -> list[str]:
        missing = [key for key in self.names if key not in table.columns]
        if missing:
            near = difflib.get_close_matches(missing[0], table.names, n=1)
            raise FileError(
                f"the model was fitted on the columns {', '.join(self.names)}, but the table has no"
                f" {', '.join(missing)}",
                f"did you mean {near[0]}?" if near else "give the table that it was fitted on",
            )
        columns = list(self.names) or features
        for key in columns:
            if table.columns[key].kind == "other":
                raise FileError(f"column {key} holds {table.columns[key].described}, which are no features")
        if self._takes_texts and len(columns) != 1:
            raise FileError(
                f"the pipeline begins with {type(self.steps[0][1]).__name__}, which takes one column of texts,"
                f" but {len(columns)} are left: {', '.join(columns[:20])}",
                "--drop the columns that it was not fitted on",
            )
        if self.width is not None and len(columns) != self.width:
            raise FileError(
                f"the model was fitted on {self.width} columns, but {len(columns)} are left: {', '.join(columns[:20])}",
                "--drop the columns that it was not fitted on",
            )
        return columns

    @property
    def _takes_texts(self) -> bool:
        """Whether the first transformer takes a sequence of texts instead of rows and columns."""
        return bool(self.steps) and hasattr(self.steps[0][1], "build_analyzer")

    def rows_of(self, table: Table, columns: Sequence[str]) -> Any:
        """The rows of a table as the first transformer takes them."""
        if self._takes_texts:
            return texts_of(table, columns[0])
        # Transformers that were fitted without names warn of names, those fitted with names need them.
        return (frame_of if self.names or not self.steps else matrix_of)(table, columns)

    def of_tables(self, columns: list[str], train: Table, test: Table) -> Features:
        rows = None if test is train else self.rows_of(test, columns)
        self.columns = tuple(columns)
        return self._made(self.rows_of(train, columns), rows, tuple(columns))

    def of_arrays(self, X_train: Rows, X_test: Rows, names: tuple[str, ...]) -> Features:
        if self.names and self.steps:
            known = all(key in names for key in self.names)
            if not known and len(self.names) != len(names):
                raise FileError(f"the model was fitted on {len(self.names)} columns, found {len(names)}")
        return self._made(X_train, X_test, names)

    def _made(self, X_train: Any, X_test: Any, names: tuple[str, ...]) -> Features:
        """``X_test`` None are the training rows."""
        self.given = X_train
        made = feature_array(transform_with(self.steps, X_train), TRAIN, None if self.steps else names)
        out = output_names(self.steps, names, made.shape[1]) if self.steps else names
        if X_test is None:
            return Features(made, made, out, list(describe_steps(self.steps)), ())
        test = feature_array(transform_with(self.steps, X_test), TEST, None if self.steps else names)
        return Features(made, test, out, list(describe_steps(self.steps)), ())
