"""What the rows enter besides the loss: means and scales, imputed values, categories, balanced class weights.

"As if the rows had not been there" means that these are recomputed without the group (docs/design.md, section 2.1).
Standardising again amounts to another penalty for each group, so that blocks of groups share every pass; other changes
of features or weights are made group by group.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from typing import Any

import numpy as np

from influence_cli.core.rescaling import Restandardising, Standardised, group_penalty
from influence_cli.core.weights import GroupPenalty
from influence_cli.data.dataset import Dataset
from influence_cli.data.options import TableOptions
from influence_cli.data.ordinal import in_days
from influence_cli.data.sparse import is_compressed
from influence_cli.data.stored import StoredRows
from influence_cli.data.table import Column, Table
from influence_cli.errors import FileError
from influence_cli.models.imputed import OwnTable, is_simple
from influence_cli.models.narrowed import narrowed
from influence_cli.models.remade import (
    Made,
    Remade,
    Source,
    array_source,
    remake,
    table_source,
)
from influence_cli.models.sample_weights import BALANCED, balance
from influence_cli.models.scales import own_scales
from influence_cli.models.settings import ModelSettings

REFIT, FROZEN = "refit", "frozen"
PREPROCESSINGS = (REFIT, FROZEN)
NOT_ESTIMATED = (
    "estimates keep the preprocessing as it was fitted, because it is no affine function of single columns; the"
    " ground truth fits it again without each group"
)
MOVED = 0.1
"""Change of a column's mean, in standard deviations, or of its scale, above which frozen preprocessing is reported."""


@dataclass(frozen=True)
class Balancing:
    """Class weights ``balanced``: the rows' own weights ``raw`` (m,), and whether classes are counted ``by_rows``."""

    raw: np.ndarray
    by_rows: bool = False

    def without(self, y: np.ndarray, rows: np.ndarray, classes: int, total: float) -> np.ndarray:
        """Weights (m,) that sum to 1, in which the kept rows have the weights of balancing without ``rows``.

        They are divided by ``total``, the sum of the weights before removal.
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
    """The data without a group: only the weights of the kept rows in ``dataset`` have a meaning.

    ``penalty`` is that of the group if the features are in the trained model's units (``aligned``).
    """

    dataset: Dataset
    penalty: GroupPenalty | None
    aligned: bool


@dataclass(frozen=True, eq=False)
class Refit:
    """How a model's preprocessing is fitted again without groups.

    ``standardised`` are the features that a penalty standardises again.  ``remake`` maps row numbers to the features
    fitted without those rows, group by group; unless these are ``affine`` functions of the old features, nothing can be
    estimated.  ``balancing`` describes class weights.
    """

    dataset: Dataset
    settings: ModelSettings
    standardised: Standardised | None = None
    remake: Callable[[np.ndarray], Remade] | None = None
    affine: bool = True
    balancing: Balancing | None = None

    @property
    def shared(self) -> bool:
        """Whether groups share passes, because nothing but the penalty changes."""
        return self.remake is None and self.balancing is None

    @property
    def estimates(self) -> bool:
        """Whether estimates take the refitted preprocessing into account."""
        return self.remake is None or self.affine

    def penalty(self, groups: Sequence[np.ndarray]) -> GroupPenalty | None:
        """The penalties of standardising again without each group; None where nothing was standardised."""
        if self.standardised is None:
            return None
        return self._penalty(*self._again.without(groups), self.dataset.X_train.shape[1])

    def changed(self, rows: np.ndarray) -> Changed:
        """The data without ``rows``, for changes that a penalty alone does not express.  Raises FileError."""
        data = self.dataset
        if self.remake is None:
            return Changed(self._rebalanced(data, rows), self.penalty([rows]), True)
        try:
            made = self.remake(rows)
        except Exception as error:  # third-party transformers may raise anything when they are fitted
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
        balancing = self.balancing
        total = float(balance(data.y_train, len(data.classes), balancing.raw, by_rows=balancing.by_rows).sum())
        return replace(data, weights=balancing.without(data.y_train, rows, len(data.classes), total))


def _parameters(settings: ModelSettings, columns: int, outputs: int) -> int:
    """P of a model whose first layer has ``columns`` inputs, including the intercept."""
    count, width = 0, columns
    for units in settings.hidden:
        count, width = count + units * width, units + settings.fit_intercept
    return count + outputs * width


@dataclass(frozen=True)
class Unfitted:
    """Why a preprocessing cannot be fitted again."""

    reason: str


def own_refit(dataset: Dataset, settings: ModelSettings, origin: Mapping[str, Any]) -> Refit | Unfitted | None:
    """How to fit a ginf model's own preprocessing again; None if rows enter nothing but the loss."""
    states = (dataset.preparation or {}).get("features", ())
    needed = [state["column"] for state in states if state.get("impute") is not None]
    if origin.get("class_weight") == BALANCED and origin.get("sample_weight") is not None:
        needed.append(origin["sample_weight"])
    if any(key not in dataset.columns_train for key in needed):
        return Unfitted("the model's file does not hold the columns that it was made of")
    balancing = None
    if origin.get("class_weight") == BALANCED:
        column = origin.get("sample_weight")
        raw = np.ones(dataset.rows) if column is None else np.asarray(dataset.columns_train[column], dtype=np.float64)
        balancing = Balancing(raw)
    preparation = dataset.preparation or {}
    scales = None
    if matters(settings):
        scales = own_scales(preparation, dataset.feature_names, sparse=is_compressed(dataset.X_train))
    old = Made(dataset.X_train, dataset.X_test, dataset.feature_names)
    imputed = any(state.get("impute") is not None for state in states)
    shifted = scales is not None and needs_shift(scales, settings)
    if scales is not None and shifted and not dataset.columns_train:
        source = array_source(dataset.X_train, dataset.X_test, dataset.feature_names, scales)
        return Refit(dataset, settings, None, remade_by(source, old, None, settings), balancing=balancing)
    if (imputed or shifted) and isinstance(dataset.X_train, StoredRows):
        return Unfitted("making it again takes all rows at once, and they are streamed")
    if imputed or shifted:
        return Refit(dataset, settings, None, _of_table(dataset, settings, old, scales), balancing=balancing)
    if scales is None and balancing is None:
        return None
    return Refit(dataset, settings, scales, balancing=balancing)


def _of_table(
    dataset: Dataset, settings: ModelSettings, old: Made, scales: Standardised | None
) -> Callable[[np.ndarray], Remade]:
    """How the features of ginf's own tables are recomputed: row numbers to the features without them."""
    preparation = dataset.preparation or {}
    states, impute = preparation.get("features", ()), preparation.get("impute")
    columns = [state["column"] for state in states]
    train, test = (as_table(table_columns, states) for table_columns in (dataset.columns_train, dataset.columns_test))
    if is_simple(states):
        return partial(OwnTable(old, states, train, test, scales, impute or "").without, centred=settings.fit_intercept)
    scaled = bool(preparation.get("standardize"))
    options = TableOptions(impute=impute, standardize=scaled, coding=preparation.get("coding"))
    return remade_by(table_source(columns, train, test, options), old, _complete_rows(train, columns), settings)


def remade_by(
    source: Source,
    old: Made,
    complete: np.ndarray | None,
    settings: ModelSettings,
    *,
    align: bool = True,
) -> Callable[[np.ndarray], Remade]:
    """``remade.remake`` as a function of the rows; ``complete`` None says that no cell is ever imputed."""
    if complete is None:
        complete = np.ones(old.X.shape[0], dtype=bool)

    narrow = narrowed(source, old.names, settings) if align else source

    def make(rows: np.ndarray) -> Remade:
        return remake(narrow, rows, old, complete, align=align, centred=settings.fit_intercept)

    return make


def matters(settings: ModelSettings) -> bool:
    """Whether means and scales matter: without a penalty and with an intercept the parameters compensate for them."""
    return settings.l2 > 0 or not settings.fit_intercept


def needs_shift(scales: Standardised, settings: ModelSettings) -> bool:
    """Whether centring again needs an intercept that the model does not have."""
    return bool(scales.centred.any()) and not settings.fit_intercept


def _complete_rows(table: Table, columns: Sequence[str]) -> np.ndarray:
    """Which rows have a value in all of these columns, (r,) bool."""
    return ~np.any([table.columns[key].missing for key in columns], axis=0)


def as_table(columns: Mapping[str, np.ndarray], states: Sequence[Mapping[str, Any]]) -> Table:
    """The table from which columns were read, made from those in a model's file, where dates are days already."""
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


def moved_most(
    X: Any, names: Sequence[str], rows: Callable[[int], np.ndarray], labels: Sequence[str]
) -> tuple[str, str, float] | None:
    """The group and feature whose mean or scale removal moves most, and by how much; None up to ``MOVED``."""
    d = X.shape[1]
    every, none = np.ones(d, dtype=bool), np.zeros(d)
    again = Restandardising(X, Standardised(every, none, np.ones(d), every))
    mean, spread = again.mean_and_deviation
    varies = spread > 0
    most: tuple[str, str, float] | None = None
    for group, label in enumerate(labels):
        ratio, shift = again.without([rows(group)])
        with np.errstate(invalid="ignore", divide="ignore"):
            moved = np.maximum(np.abs(shift[:, 0] - mean) / spread, np.abs(ratio[:, 0] / spread - 1.0))
        moved = np.where(varies, moved, 0.0)
        column = int(np.argmax(moved))
        if moved[column] > (MOVED if most is None else most[2]):
            most = (label, names[column], float(moved[column]))
    return most
