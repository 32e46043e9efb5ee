"""What the rows took part in beside the loss: means and scales, imputed values, categories, balanced class weights.

"As if the rows had not been there" makes these again without the group (docs/design.md, "What else the rows took part
in").  Standardising again is a penalty of the group's own, so that blocks of groups share every pass; what changes
features or weights otherwise goes group by group.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
from scipy.sparse import issparse

from influence_cli.core.rescaling import Restandardising, Standardised, group_penalty
from influence_cli.core.weights import GroupPenalty
from influence_cli.data.dataset import Dataset
from influence_cli.data.features import in_days
from influence_cli.data.options import TableOptions
from influence_cli.data.table import Column, Table
from influence_cli.errors import FileError
from influence_cli.models.remade import (
    ROUNDING,
    Made,
    Source,
    array_source,
    is_affine,
    pipeline_source,
    remake,
    table_source,
)
from influence_cli.models.sample_weights import BALANCED, balance
from influence_cli.models.scales import own_scales, pipeline_scales
from influence_cli.models.settings import ModelSettings
from influence_cli.models.transformers import Steps

REFIT, FROZEN = "refit", "frozen"
PREPROCESSINGS = (REFIT, FROZEN)
NOT_ESTIMATED = (
    "estimates keep the preprocessing as it was fitted, because it acts on more than single columns; the ground truth"
    " fits it again without each group"
)
MOVED = 0.1
"""Change of a column's mean, in standard deviations, or of its scale, from which on frozen preprocessing is told."""


@dataclass(frozen=True)
class Balancing:
    """Class weights ``balanced``: the rows' own weights ``raw`` (m,), and whether classes are counted ``by_rows``."""

    raw: np.ndarray
    by_rows: bool = False

    def without(self, y: np.ndarray, rows: np.ndarray, classes: int, total: float) -> np.ndarray:
        """Weights (m,) that sum to 1, in which the kept rows have those of balancing without ``rows``.

        ``total`` is the sum of the weights before removal, which they are divided by.
        """
        kept = np.ones(len(y), dtype=bool)
        kept[rows] = False
        present = np.unique(y[kept])
        code = np.searchsorted(present, y[kept])
        out = np.empty(len(y))
        out[kept] = balance(code, len(present), self.raw[kept], by_rows=self.by_rows) / total
        out[rows] = (1.0 - out[kept].sum()) / len(rows)
        return out


@dataclass(frozen=True)
class Changed:
    """The data without a group: its own rows count for nothing, and the kept rows' weights stand in ``dataset``.

    ``penalty`` is that of the group where the features are in the trained model's units (``aligned``).
    """

    dataset: Dataset
    penalty: GroupPenalty | None
    aligned: bool


@dataclass(frozen=True, eq=False)
class Refit:
    """How a model's preprocessing is made again without groups.

    ``standardised``: features that are standardised again by a penalty.  ``source``: features that are made again as a
    whole, group by group, from rows of which ``complete`` (m,) and ``complete_test`` (n,) had no imputed cell; where
    they are not ``affine`` functions of the old features nothing can be estimated.  ``balancing``: class weights.
    """

    dataset: Dataset
    settings: ModelSettings
    standardised: Standardised | None = None
    source: Source | None = None
    complete: np.ndarray | None = None
    complete_test: np.ndarray | None = None
    affine: bool = True
    balancing: Balancing | None = None

    @property
    def shared(self) -> bool:
        """Whether groups share passes: nothing changes but the penalty."""
        return self.source is None and self.balancing is None

    @property
    def estimates(self) -> bool:
        """Whether estimates take it into account."""
        return self.source is None or self.affine

    def penalty(self, groups: Sequence[np.ndarray]) -> GroupPenalty | None:
        """The penalties of standardising again without each group; None where nothing was standardised."""
        if self.standardised is None:
            return None
        return self._penalty(*self._again.without(groups), self.dataset.X_train.shape[1])

    def changed(self, rows: np.ndarray) -> Changed:
        """The data without ``rows``, for what does not go by the penalty alone."""
        data = self.dataset
        if self.source is None:
            return Changed(self._rebalanced(data, rows), self.penalty([rows]), True)
        assert self.complete is not None and self.complete_test is not None
        old = Made(data.X_train, data.X_test, data.feature_names)
        try:
            made = remake(
                self.source,
                rows,
                old,
                self.complete,
                self.complete_test,
                align=self.affine,
                centred=self.settings.fit_intercept,
            )
        except Exception as error:  # whatever other people's transformers raise when they are fitted
            raise FileError(f"the preprocessing cannot be fitted without the group: {error}") from error
        new = replace(data, X_train=made.X_train, X_test=made.X_test, feature_names=made.names, image_shape=None)
        penalty = None
        if made.aligned:
            penalty = self._penalty(made.ratio[:, None], made.shift[:, None], len(made.names))
        return Changed(self._rebalanced(new, rows), penalty, made.aligned)

    @cached_property
    def _again(self) -> Restandardising:
        assert self.standardised is not None
        return Restandardising(self.dataset.X_train, self.standardised)

    def _penalty(self, ratio: np.ndarray, shift: np.ndarray, features: int) -> GroupPenalty:
        settings, outputs = self.settings, max(1, self._outputs)
        columns = features + settings.fit_intercept
        units = settings.hidden[0] if settings.hidden else outputs
        size = _parameters(settings, columns, outputs)
        held = settings.l2 if settings.penalize_intercept else None
        return group_penalty(ratio, shift, size=size, units=units, intercept=settings.fit_intercept, penalized=held)

    @property
    def _outputs(self) -> int:
        classes = len(self.dataset.classes)
        return classes if classes > 2 else 1

    def _rebalanced(self, data: Dataset, rows: np.ndarray) -> Dataset:
        if self.balancing is None:
            return data
        own = self.balancing
        total = float(balance(data.y_train, len(data.classes), own.raw, by_rows=own.by_rows).sum())
        return replace(data, weights=own.without(data.y_train, rows, len(data.classes), total))


def _parameters(settings: ModelSettings, columns: int, outputs: int) -> int:
    """P of a model whose first layer multiplies so many columns, the intercept's among them."""
    count, width = 0, columns
    for units in settings.hidden:
        count, width = count + units * width, units + settings.fit_intercept
    return count + outputs * width


def own_refit(dataset: Dataset, settings: ModelSettings, origin: Mapping[str, Any]) -> Refit | None:
    """Of a model that ginf trained itself, from what its file keeps; None where no row took part in anything else."""
    balancing = None
    if origin.get("class_weight") == BALANCED:
        column = origin.get("sample_weight")
        raw = np.ones(dataset.rows) if column is None else np.asarray(dataset.columns_train[column], dtype=np.float64)
        balancing = Balancing(raw)
    preparation = dataset.preparation or {}
    states = preparation.get("features", ())
    scales = own_scales(preparation, dataset.feature_names, sparse=issparse(dataset.X_train))
    imputed = any(state.get("impute") is not None for state in states)
    shifted = scales is not None and _needs_shift(scales, settings)
    if scales is not None and shifted and not dataset.columns_train:
        source = array_source(dataset.X_train, dataset.X_test, dataset.feature_names, scales)
        whole = [np.ones(len(rows), dtype=bool) for rows in (dataset.X_train, dataset.X_test)]
        return Refit(dataset, settings, None, source, whole[0], whole[1], balancing=balancing)
    if imputed or shifted:
        columns = [state["column"] for state in states]
        train, test = (_as_table(own, states) for own in (dataset.columns_train, dataset.columns_test))
        options = TableOptions(
            impute=preparation.get("impute"),
            standardize=bool(preparation.get("standardize")),
            coding=preparation.get("coding"),
        )
        source = table_source(columns, train, test, options)
        complete, complete_test = (_complete_rows(one, columns) for one in (train, test))
        return Refit(dataset, settings, None, source, complete, complete_test, balancing=balancing)
    if scales is None and balancing is None:
        return None
    return Refit(dataset, settings, scales, balancing=balancing)


def _needs_shift(scales: Standardised, settings: ModelSettings) -> bool:
    """Whether centring again would have to be taken up by an intercept that there is not."""
    return bool(scales.centred.any()) and not settings.fit_intercept


def _complete_rows(table: Table, columns: Sequence[str]) -> np.ndarray:
    """Which rows have a value in all of these columns, (r,) bool."""
    return ~np.any([table.columns[key].missing for key in columns], axis=0)


def _as_table(columns: Mapping[str, np.ndarray], states: Sequence[Mapping[str, Any]]) -> Table:
    """Columns as a model's file keeps them, as the table that they were read from; dates are days already."""
    named = {"numeric": "numeric", "boolean": "boolean", "categorical": "text"}
    known = {state["column"]: state for state in states}
    made = {}
    for key, values in columns.items():
        state = known.get(key, {})
        kind = named.get(state.get("kind", ""), "text" if values.dtype.kind == "O" else "numeric")
        made[key] = Column(kind, values, kind)  # type: ignore[arg-type]
        if "date" in state:
            made[key] = in_days(key, made[key], state["date"])
    return Table(made, len(next(iter(columns.values()))))


@dataclass(frozen=True)
class Unfitted:
    """Why a preprocessing cannot be made again."""

    reason: str


def pipeline_refit(
    dataset: Dataset,
    settings: ModelSettings,
    steps: Steps,
    rows: tuple[Any, Any],
    balancing: Balancing | None,
    names: tuple[str, ...],
) -> Refit | Unfitted | None:
    """Of a brought pipeline: ``rows`` are training and test rows as its first transformer takes them, of columns
    ``names``.

    None where no row took part in anything but the loss.  Unfitted where the transformers were fitted on other rows.
    """
    d = dataset.X_train.shape[1]
    given, given_test = rows
    complete, complete_test = (_complete(one) for one in rows)
    scales = pipeline_scales(steps, d, complete=bool(complete.all() and complete_test.all()))
    if scales is not None and not _needs_shift(scales, settings):
        idle = not scales.columns.any() and not scales.centred.any()
        if not idle and not _suits(scales, dataset):
            return Unfitted("its transformers were fitted on other rows")
        if idle and balancing is None:
            return None
        return Refit(dataset, settings, None if idle else scales, balancing=balancing)
    source = pipeline_source(steps, given, given_test, dataset.y_train, names)
    affine = all(is_affine(step) for _, step in steps)
    try:
        whole = source(np.arange(dataset.rows))
    except Exception as error:  # whatever other people's transformers raise when they are fitted
        return Unfitted(f"its transformers cannot be fitted again ({type(error).__name__}: {error})")
    if not _same(whole.X, dataset.X_train):
        return Unfitted("its transformers were fitted on other rows, or fit otherwise every time")
    return Refit(dataset, settings, None, source, complete, complete_test, affine, balancing)


def _suits(scales: Standardised, dataset: Dataset) -> bool:
    """Whether the scaled features have mean 0 and deviation 1 over the rows, as they have where they were fitted."""
    X = dataset.X_train
    mean = np.asarray(X.mean(axis=0)).ravel()
    deviation = _deviation(X, mean)
    centred = np.abs(mean) <= ROUNDING**0.5 * np.maximum(deviation, 1e-300) + ROUNDING
    scaled = (np.abs(deviation - 1.0) <= 1e-6) | (deviation <= 1e-6)
    return bool((centred | ~scales.centred).all() and (scaled | ~scales.columns).all())


def _deviation(X: Any, mean: np.ndarray) -> np.ndarray:
    """Standard deviation of every column, (d,)."""
    square = np.asarray(X.multiply(X).mean(axis=0)).ravel() if issparse(X) else np.einsum("ij,ij->j", X, X) / len(X)
    return np.sqrt(np.maximum(square - mean**2, 0.0))


def _same(X: Any, other: Any) -> bool:
    if X.shape != other.shape:
        return False
    one, two = (np.asarray(made.toarray() if issparse(made) else made) for made in (X, other))
    return bool(np.allclose(one, two, rtol=1e-6, atol=1e-6 * max(1.0, float(np.abs(two).max(initial=0.0)))))


def _complete(rows: Any) -> np.ndarray:
    """Which rows have no missing cell, (m,) bool; all of them where there are none."""
    if rows is None:
        return np.ones(0, dtype=bool)
    if hasattr(rows, "isna"):
        missing = rows.isna().to_numpy()
        return ~(missing.any(axis=1) if missing.ndim == 2 else missing)
    if issparse(rows) or not hasattr(rows, "dtype"):
        return np.ones(rows.shape[0] if hasattr(rows, "shape") else len(rows), dtype=bool)
    values = np.asarray(rows)
    if values.dtype.kind == "f":
        return ~np.isnan(values).any(axis=tuple(range(1, values.ndim)))
    if values.dtype.kind == "O":
        return np.array([not any(one is None or one != one for one in np.atleast_1d(row)) for row in values])
    return np.ones(len(values), dtype=bool)


def moved_most(
    X: Any, names: Sequence[str], rows: Callable[[int], np.ndarray], labels: Sequence[str]
) -> tuple[str, str, float] | None:
    """The group and feature whose mean or scale removal moves most, and by how much, where that is over ``MOVED``."""
    d = X.shape[1]
    every, none = np.ones(d, dtype=bool), np.zeros(d)
    mean = np.asarray(X.mean(axis=0)).ravel()
    deviation = _deviation(X, mean)
    varies = deviation > 0
    again = Restandardising(X, Standardised(every, none, np.ones(d), every))
    most: tuple[str, str, float] | None = None
    for group, label in enumerate(labels):
        ratio, shift = again.without([rows(group)])
        with np.errstate(invalid="ignore", divide="ignore"):
            moved = np.maximum(np.abs(shift[:, 0] - mean) / deviation, np.abs(ratio[:, 0] / deviation - 1.0))
        moved = np.where(varies, moved, 0.0)
        column = int(np.argmax(moved))
        if moved[column] > (MOVED if most is None else most[2]):
            most = (label, names[column], float(moved[column]))
    return most
