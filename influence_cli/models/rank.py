"""Columns that are linear combinations of others, in models without a penalty.

If there are 0/1 columns for all categories and an intercept, a constant column or a repeated column, infinitely many
parameters fit the rows equally well and give the same predictions.  Omitting such columns, as R's ``lm`` does, keeps
every prediction and makes the parameters unique.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from scipy.linalg import pinvh, qr
from scipy.sparse import csr_array, hstack
from scipy.sparse.linalg import lsmr

from influence_cli.core.rows.sparse_design import design_of
from influence_cli.data.dataset import Dataset
from influence_cli.data.readers.in_place import refuse_streamed
from influence_cli.data.sparse import Rows, is_compressed
from influence_cli.data.stored import StoredRows
from influence_cli.errors import NotConvergedError
from influence_cli.models.sklearn import Recipe

DEPENDENT = 1e-10
"""A column is dependent if projecting out those before it leaves at most this fraction of its norm."""
BY_PRODUCTS = 1e-3
"""The same fraction, computed from products of columns with half as many digits, above which a column is certainly
independent; for smaller fractions it is computed from the rows."""
TOGETHER = 10_000_000
"""Numbers of dense columns that are held at once in that computation."""
FAINT = 1e-140
"""Largest number of a column below which its squares underflow; divided by this unit they do not."""
CLEARLY_INDEPENDENT = 1e-6
"""Smallest eigenvalue of the columns' correlations from which no column is examined further."""
MOST_COLUMNS = 3_000
"""Largest number of compressed columns whose products are formed, as a dense matrix."""
SHOWN = 8
STEP = "independent columns"
"""The name of the step that omits columns after the transformers of a pipeline."""


@dataclass(frozen=True)
class Reduced:
    """A data set without dependent columns: the indices of the columns ``kept``, and the names of the others."""

    dataset: Dataset
    kept: np.ndarray
    left_out: tuple[str, ...]

    @property
    def sentence(self) -> str:
        """The message about the columns left out."""
        more = f" and {len(self.left_out) - SHOWN:,} more" if len(self.left_out) > SHOWN else ""
        names = ", ".join(self.left_out[:SHOWN]) + more
        some = "is a combination" if len(self.left_out) == 1 else "are combinations"
        return (
            f"without a penalty the parameters are not unique: {names} {some} of the other columns and left out; every"
            " prediction is the same"
        )

    @property
    def step(self) -> tuple[str, Any]:
        """The selection of columns as a step at the end of a pipeline's transformers."""
        from sklearn.preprocessing import FunctionTransformer

        return STEP, FunctionTransformer(take_columns, kw_args={"columns": self.kept})


def take_columns(X: Any, columns: np.ndarray) -> Any:
    """The columns with these indices of a frame or an array."""
    if hasattr(X, "iloc"):
        return X.iloc[:, columns]
    return X[:, columns] if not hasattr(X, "columns") else X[[X.columns[column] for column in columns]]


def without_dependent(dataset: Dataset, fit_intercept: bool) -> Reduced | None:
    """The data set without columns that are linear combinations of those before them and the intercept.

    None is returned if there are no such columns, and for more than ``MOST_COLUMNS`` compressed columns, which are not
    examined.  Raises NotConvergedError if there are no more training rows than independent columns.
    """
    X = dataset.X_train
    if is_compressed(X) and X.shape[1] > MOST_COLUMNS:
        return None
    if isinstance(X, StoredRows):
        if not _clearly_independent(X, dataset, fit_intercept):
            refuse_streamed(X, "--l2 0 with columns that are, or nearly are, combinations of others")
        return None
    kept = independent_columns(X if dataset.weights is None else X[dataset.weights > 0], fit_intercept)
    if len(kept) == X.shape[1]:
        return None
    names = dataset.feature_names
    left_out = tuple(names[column] for column in np.setdiff1d(np.arange(len(names)), kept))
    rows = dataset.rows if dataset.weights is None else int((dataset.weights > 0).sum())
    if len(kept) + fit_intercept >= rows:
        wide = " (more features than rows)" if X.shape[1] + fit_intercept > rows else ""
        raise NotConvergedError(
            f"the Hessian is singular: {rows:,} training rows do not determine the parameters of {X.shape[1]:,} columns"
            f"{wide}: {', '.join(left_out[:SHOWN])}{', ...' if len(left_out) > SHOWN else ''} are combinations of the"
            " others",
            hint="train with --l2 greater than 0, or with fewer columns",
        )
    reduced = replace(
        dataset,
        X_train=_columns(X, kept),
        X_test=_columns(dataset.X_test, kept),
        feature_names=tuple(names[column] for column in kept),
        image_shape=None,
    )
    return Reduced(reduced, kept, left_out)


def _clearly_independent(X: StoredRows, dataset: Dataset, fit_intercept: bool) -> bool:
    """Whether no column is nearly a combination of others (and of the intercept), determined in one pass."""
    counted = np.ones(dataset.rows) if dataset.weights is None else (dataset.weights > 0).astype(np.float64)
    gram = design_of(X, fit_intercept).gram(counted)
    size = np.sqrt(gram.diagonal())
    return bool(size.all() and np.linalg.eigvalsh(gram / np.outer(size, size))[0] > CLEARLY_INDEPENDENT)


def _columns(X: Rows, kept: np.ndarray) -> Rows:
    return csr_array(X[:, kept]) if isinstance(X, csr_array) else np.ascontiguousarray(X[:, kept])


def independent_columns(X: Rows, fit_intercept: bool) -> np.ndarray:
    """The indices of the columns of X (m, d) that are not combinations of those before them (and the intercept)."""
    if not isinstance(X, csr_array):
        largest = np.maximum(X.max(axis=0, initial=0.0), -X.min(axis=0, initial=0.0))
        faint = (largest > 0) & (largest < FAINT)
        X = X * np.where(faint, 1.0 / FAINT, 1.0) if faint.any() else X
    lengths = np.sqrt(X.power(2).sum(axis=0)) if isinstance(X, csr_array) else np.linalg.norm(X, axis=0)
    lengths_used = np.where(lengths > 0, lengths, 1.0)
    means = np.asarray(X.mean(axis=0)) / lengths_used if fit_intercept else np.zeros(len(lengths_used))
    if isinstance(X, csr_array) or X.shape[0] > X.shape[1]:
        products = np.asarray((X.T @ X).toarray() if isinstance(X, csr_array) else X.T @ X) / np.outer(
            lengths_used, lengths_used
        )
        products -= X.shape[0] * np.outer(means, means)
        variances = np.sqrt(np.maximum(products.diagonal(), 0.0))
        if variances.min() > BY_PRODUCTS:
            values = np.linalg.eigvalsh(products / np.outer(variances, variances))
            if values[0] > CLEARLY_INDEPENDENT:
                return np.arange(X.shape[1])
    if isinstance(X, csr_array):
        values, vectors = np.linalg.eigh(products)
        left = np.abs(np.diag(qr(np.sqrt(np.maximum(values, 0.0))[:, None] * vectors.T, mode="r")[0]))
        left = _by_rows(X / lengths_used, products, left, fit_intercept)
    else:
        left = np.abs(np.diag(qr(X / lengths_used - means, mode="r")[0]))
    independent = np.zeros(X.shape[1], dtype=bool)
    independent[: len(left)] = left > DEPENDENT
    return np.flatnonzero(independent & (lengths > 0))


def _by_rows(X: csr_array, products: np.ndarray, left: np.ndarray, fit_intercept: bool) -> np.ndarray:
    """``left`` (d,) to full precision, which is computed from the rows for columns that are in doubt.

    X (m, d) has columns of norm 1; ``products`` (d, d) is X'X, centred with an intercept; ``left`` are the norms of
    the columns after projecting out those before them, computed from these products.
    """
    sure, doubted = np.flatnonzero(left > BY_PRODUCTS), np.flatnonzero(left <= BY_PRODUCTS)
    X, known = csr_array(X), csr_array(X[:, sure])
    inverse = pinvh(products[np.ix_(sure, sure)]) if sure.size else np.zeros((0, 0))

    def remainder(columns: np.ndarray) -> np.ndarray:
        """The columns (m, c) without their projections on the independent ones, refined iteratively."""
        out = X[:, columns].toarray()
        for _ in range(5):
            out -= out.mean(axis=0) * fit_intercept
            out -= known @ (inverse @ (known.T @ out))
        return out - out.mean(axis=0) * fit_intercept

    left, most = left.copy(), max(1, TOGETHER // X.shape[0])
    for start in range(0, len(doubted), most):
        columns = doubted[start : start + most]
        left[columns] = np.linalg.norm(remainder(columns), axis=0)
    apart = doubted[left[doubted] > DEPENDENT]
    if 1 < len(apart) <= most:  # independent of the others, but perhaps not of each other
        left[apart] = np.abs(np.diag(qr(remainder(apart), mode="r")[0]))
    return left


def reduce_recipe(recipe: Recipe, given: Rows, reduced: Reduced) -> Recipe:
    """The estimator on the kept columns, with parameters that give the same outputs on the training rows ``given``
    (m, d)."""
    features, d = reduced.dataset.X_train, given.shape[1]
    outputs = given @ recipe.parameters[:, :d].T
    if isinstance(features, csr_array):
        ones = csr_array(np.ones((features.shape[0], int(recipe.fit_intercept))))
        outputs += recipe.parameters[:, d:].T if recipe.fit_intercept else 0.0
        design = hstack([features, ones], format="csr")
        solved = [lsmr(design, one, atol=1e-14, btol=1e-14, maxiter=10_000)[0] for one in outputs.T]
        return replace(recipe, parameters=np.array(solved))
    ones = np.ones((len(features), int(recipe.fit_intercept)))
    outputs = outputs + ones @ recipe.parameters[:, d:].T
    return replace(recipe, parameters=np.linalg.lstsq(np.hstack([features, ones]), outputs, rcond=None)[0].T)
