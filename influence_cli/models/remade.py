"""Features computed again without some rows, in the units of the features that the model was trained on.

If all that a pipeline learns from the rows (means, scales, ranges, imputed values, categories) acts on single columns,
each new column is an affine function of the old one, x_new = (x - shift) / ratio, except in imputed cells.  A model of
the new features is then a model of the old ones with the penalty lambda ratio^2 (``core.rescaling``), and only rows
with imputed cells change.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from scipy.sparse import issparse

from influence_cli.core.rescaling import Standardised
from influence_cli.data.features import fit_features
from influence_cli.data.options import TableOptions
from influence_cli.data.python_objects import feature_array
from influence_cli.data.sparse import Rows
from influence_cli.data.table import Table
from influence_cli.models.transformers import Steps, output_names

AFFINE = ("StandardScaler", "MinMaxScaler", "MaxAbsScaler", "RobustScaler", "SimpleImputer", "OneHotEncoder")
"""Transformers that are affine in every single column, except for imputed cells and categories."""
ROUNDING = 1e-8
"""Relative difference up to which two computations of one feature agree."""
DENSE = 0.5
"""Share of nonzero rows above which a compressed column may have a shift: its zeros are stored as numbers then."""
OPEN = "(what no row has)"
"""The name of an additional feature that is 1 in open test rows, and 0 in all others."""


@dataclass(frozen=True)
class Made:
    """Features of the kept training rows X (k, d), of all test rows (n, d), and their names.

    ``open`` (n,) bool marks the test rows whose prediction the kept rows do not determine (``models.narrowed``); None
    if there is none.
    """

    X: Rows
    X_test: Rows
    names: tuple[str, ...]
    open: np.ndarray | None = None

    @property
    def is_open(self) -> bool:
        """Whether the prediction of some test row is not determined."""
        return self.open is not None and bool(self.open.any())


Source = Callable[[np.ndarray], Made]
"""Maps the numbers of the kept training rows to the features of a preparation that is fitted on these rows alone."""


@dataclass(frozen=True)
class Remade:
    """All training rows (m, d) and test rows (n, d) as they are without a group, whose own rows have no meaning.

    ``aligned`` says whether they are in the units of the old features, with ``ratio`` and ``shift`` (d,) as above;
    otherwise these are other features, and perhaps more or fewer.
    """

    X_train: Rows
    X_test: Rows
    names: tuple[str, ...]
    ratio: np.ndarray
    shift: np.ndarray
    aligned: bool


def table_source(columns: Sequence[str], train: Table, test: Table, options: TableOptions) -> Source:
    """The source of ginf's own tables: their preparation, fitted on the kept rows."""

    def make(kept: np.ndarray) -> Made:
        made = fit_features(list(columns), train.take(kept), test, options)
        return Made(made.X_train, made.X_test, made.names)

    return make


def array_source(X: np.ndarray, X_test: np.ndarray, names: tuple[str, ...], how: Standardised) -> Source:
    """The source of standardised arrays: their original numbers, standardised by the kept rows."""
    from sklearn.preprocessing import StandardScaler

    raw, raw_test = (rows * how.scale + how.mean for rows in (X, X_test))

    def make(kept: np.ndarray) -> Made:
        scaler = StandardScaler().fit(raw[kept])
        return Made(scaler.transform(raw[kept]), scaler.transform(raw_test) if len(raw_test) else raw_test, names)

    return make


def pipeline_source(steps: Steps, train: Any, test: Any, y: np.ndarray, names: tuple[str, ...]) -> Source:
    """The source of a pipeline: a clone of its transformers, which ignores categories that no kept row has."""
    from sklearn.base import clone

    fresh = [(key, _ignoring_unknown(clone(step))) for key, step in steps]

    def make(kept: np.ndarray) -> Made:
        train_rows, other = _take(train, kept), test
        fitted = []
        for key, step in fresh:
            step = clone(step)
            train_rows = step.fit_transform(train_rows, y[kept])
            other = None if other is None else _quietly(step, other)
            fitted.append((key, step))
        X = feature_array(train_rows, "training rows")
        X_test = X[:0] if other is None else feature_array(other, "test rows")
        return Made(X, X_test, output_names(fitted, names, X.shape[1]))

    return make


def _quietly(step: Any, rows: Any) -> Any:
    """The transformed rows, without the warning that unknown categories are ignored."""
    import warnings

    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Found unknown categories", category=UserWarning)
        return step.transform(rows)


def is_affine(transformer: Any) -> bool:
    """Whether all that a transformer learns acts on single columns."""
    from sklearn.compose import ColumnTransformer
    from sklearn.pipeline import Pipeline

    if transformer is None or isinstance(transformer, str):
        return True
    if isinstance(transformer, Pipeline):
        return all(is_affine(step) for _, step in transformer.steps)
    if isinstance(transformer, ColumnTransformer):
        return all(is_affine(one) for _, one, _ in transformer.transformers)
    return type(transformer).__name__ in AFFINE


def remake(
    source: Source,
    rows: np.ndarray,
    old: Made,
    complete: np.ndarray,
    *,
    align: bool,
    centred: bool,
) -> Remade:
    """The features without ``rows``; ``old`` are those of all rows.

    ``complete`` (m,) bool marks the training rows without imputed cells.  ``align`` asks for the units of the old
    features; ``centred`` allows a ``shift``, which needs an intercept in the model.
    """
    m = old.X.shape[0]
    kept = np.setdiff1d(np.arange(m), rows)
    made = _stored_as(old, source(kept))
    if align and _columns_of(made.names, old.names):
        aligned = (_aligned_sparse if issparse(old.X) else _aligned)(made, old, kept, complete, centred)
        if aligned is not None:
            return aligned
    made = _with_open_column(made)
    whole = _spread(made.X, kept, m)
    d = whole.shape[1]
    return Remade(whole, made.X_test, made.names, np.ones(d), np.zeros(d), False)


def _with_open_column(made: Made) -> Made:
    """The same with one more feature, which only open test rows have: their outputs then depend on a parameter that no
    kept row determines."""
    if not made.is_open:
        return made
    column = np.asarray(made.open, dtype=np.float64)[:, None]
    nothing = np.zeros((made.X.shape[0], 1))
    if issparse(made.X):
        from scipy.sparse import csr_array, hstack

        X, X_test = (csr_array(hstack(pair)) for pair in ((made.X, nothing), (made.X_test, column)))
    else:
        X, X_test = np.hstack([made.X, nothing]), np.hstack([made.X_test, column])
    return Made(X, X_test, (*made.names, OPEN))


def _stored_as(old: Made, made: Made) -> Made:
    """The same features stored as the old ones are: a ColumnTransformer decides by the share of zeros."""
    if issparse(made.X) == issparse(old.X):
        return made
    from scipy.sparse import csr_array

    change = csr_array if issparse(old.X) else lambda X: X.toarray()
    return replace(made, X=change(made.X), X_test=change(made.X_test))


def _aligned(made: Made, old: Made, kept: np.ndarray, complete: np.ndarray, centred: bool) -> Remade | None:
    """The new features in the units of the old ones; None if they are not affine functions of them, or if test rows are
    open and no old feature has lost all its values, which could mark them.

    Test rows go through the new transformers, because these may differ from the old ones outside the values of the
    kept rows: they clip, or count a category that they have not seen as infrequent.
    """
    place = {name: at for at, name in enumerate(made.names)}
    whole = complete[kept]
    X_train, X_test = np.array(old.X), np.array(old.X_test)
    ratio, shift = np.ones(len(old.names)), np.zeros(len(old.names))
    if made.is_open and len(place) == len(old.names):
        return None
    for column, name in enumerate(old.names):
        if name not in place:  # a category that no kept row has, or the one that the encoder drops now
            X_train[kept, column] = 0.0
            X_test[:, column] = 0.0 if made.open is None else made.open
            continue
        new, new_test = made.X[:, place[name]], made.X_test[:, place[name]]
        x, y = old.X[kept, column][whole], new[whole]
        if not len(x):
            return None
        ratio[column], shift[column] = _line(x, y)
        if not np.allclose((x - shift[column]) / ratio[column], y, rtol=ROUNDING, atol=ROUNDING):
            return None
        X_train[kept[~whole], column] = ratio[column] * new[~whole] + shift[column]
        X_test[:, column] = ratio[column] * new_test + shift[column]
    if not centred:
        X_train, X_test, shift = X_train - shift, X_test - shift, np.zeros_like(shift)
    return Remade(X_train, X_test, old.names, ratio, shift, True)


def _aligned_sparse(made: Made, old: Made, kept: np.ndarray, complete: np.ndarray, centred: bool) -> Remade | None:
    """The same for compressed rows, in which a column with many zeros must be a multiple of the old one."""
    from scipy.sparse import coo_array, csc_array, csr_array

    at = {name: column for column, name in enumerate(old.names)}
    there = np.array([at[name] for name in made.names])
    lost = np.setdiff1d(np.arange(len(old.names)), there)
    if made.is_open and not len(lost):
        return None
    named = coo_array((np.ones(len(there)), (np.arange(len(there)), there)), shape=(len(there), len(old.names)))
    whole = complete[kept]
    rest = csr_array(old.X)
    stays = np.isin(np.arange(rest.shape[0]), kept)
    dropped = np.isin(rest.indices, lost) & np.repeat(stays, np.diff(rest.indptr))
    if dropped.any():  # the category that the encoder drops now; the group's rows keep those that they alone have
        rest = csr_array((np.where(dropped, 0.0, rest.data), rest.indices, rest.indptr), shape=rest.shape)
    before, new = csc_array(rest[kept[whole]]), csc_array(csr_array(made.X)[whole] @ named)
    dense = np.flatnonzero(np.maximum(np.diff(before.indptr), np.diff(new.indptr)) > DENSE * before.shape[0])
    ratio, shift = np.ones(len(old.names)), np.zeros(len(old.names))
    for column in dense:
        x, y = (one[:, [column]].toarray().ravel() for one in (before, new))
        ratio[column], shift[column] = _line(x, y)
        if not np.allclose((x - shift[column]) / ratio[column], y, rtol=ROUNDING, atol=ROUNDING):
            return None
    others = np.setdiff1d(np.arange(len(old.names)), dense)
    before, new = before[:, others], new[:, others]
    for one in (before, new):
        one.eliminate_zeros()
        one.sort_indices()
    if not (np.array_equal(new.indptr, before.indptr) and np.array_equal(new.indices, before.indices)):
        return None
    columns = others[np.repeat(np.arange(len(others)), np.diff(before.indptr))]
    ratio[columns] = before.data / new.data
    if not np.allclose(ratio[columns] * new.data, before.data, rtol=ROUNDING, atol=0.0):
        return None
    to_old = csr_array(named.multiply(ratio))

    def in_old_units(X: Rows) -> Rows:
        return csr_array(X @ to_old + _shifts(shift, X.shape[0]))

    X_train, X_test = rest, in_old_units(made.X_test)
    if not whole.all():
        imputed, others = kept[~whole], np.ones(rest.shape[0])
        others[imputed] = 0.0
        new_rows = _spread(in_old_units(csr_array(made.X)[~whole]), imputed, len(others))
        X_train = csr_array(csr_array(rest.multiply(others[:, None])) + new_rows)
    if made.open is not None and made.is_open:
        rows = np.flatnonzero(made.open)
        X_test = csr_array(X_test + coo_array((np.ones(len(rows)), (rows, np.full(len(rows), lost[0]))), X_test.shape))
    if not centred:
        X_train, X_test = (csr_array(X - _shifts(shift, X.shape[0])) for X in (X_train, X_test))
        shift = np.zeros_like(shift)
    return Remade(X_train, X_test, old.names, ratio, shift, True)


def _shifts(shift: np.ndarray, rows: int) -> Any:
    """The ``shift`` (d,) of every row, a sparse matrix (rows, d)."""
    from scipy.sparse import coo_array

    columns = np.flatnonzero(shift)
    places = np.repeat(np.arange(rows), len(columns)), np.tile(columns, rows)
    return coo_array((np.tile(shift[columns], rows), places), (rows, len(shift)))


def _line(x: np.ndarray, y: np.ndarray) -> tuple[float, float]:
    """The ratio and shift of x = ratio y + shift, from the rows with the least and the largest x."""
    low, high = int(np.argmin(x)), int(np.argmax(x))
    varies = x[high] > x[low] and y[high] != y[low]
    ratio = (x[high] - x[low]) / (y[high] - y[low]) if varies else 1.0
    return ratio, x[low] - ratio * y[low]


def _columns_of(names: Sequence[str], among: Sequence[str]) -> bool:
    """Whether all names of both lists are different, and ``among`` contains all of ``names``."""
    return len(set(names)) == len(names) and len(set(among)) == len(among) and set(names) <= set(among)


def _spread(X: Rows, kept: np.ndarray, m: int) -> Rows:
    """The kept rows at their places among m rows; all other rows are 0."""
    if issparse(X):
        from scipy.sparse import csr_array

        ones = csr_array((np.ones(len(kept)), (kept, np.arange(len(kept)))), shape=(m, len(kept)))
        return csr_array(ones @ X)
    out = np.zeros((m, X.shape[1]))
    out[kept] = X
    return out


def _take(X: Any, rows: np.ndarray) -> Any:
    """Some rows of a frame, an array, a sparse matrix, or a sequence of texts."""
    from sklearn.utils import _safe_indexing

    return _safe_indexing(X, rows)


def _ignoring_unknown(transformer: Any) -> Any:
    """The transformer, in which encoders ignore unknown categories."""
    settings = {
        key: "ignore"
        for key, value in transformer.get_params(deep=True).items()
        if key.rpartition("__")[2] == "handle_unknown" and value == "error" and _encodes(transformer, key)
    }
    return transformer.set_params(**settings) if settings else transformer


def _encodes(transformer: Any, key: str) -> bool:
    """Whether the parameter belongs to a OneHotEncoder; an OrdinalEncoder cannot ignore categories."""
    path = key.rpartition("__")[0]
    owner = transformer.get_params(deep=True)[path] if path else transformer
    return type(owner).__name__ == "OneHotEncoder"
