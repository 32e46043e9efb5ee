"""Features in compressed rows (CSR), which stay sparse from the file to the model: no dense copy is made."""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np
from scipy.sparse import csr_array, issparse

from influence_cli.data.compressed import CompressedRows, scaled
from influence_cli.errors import FileError

Rows: TypeAlias = np.ndarray | csr_array
"""Features of a data set: a dense array or compressed rows."""

MOST_FEATURES = 10_000_000
"""Most features: each takes a name and a dozen numbers, even if no row has it."""

CENTRED = (
    "the features are sparse: scaled to deviation 1 but not centred, because subtracting means would fill in every zero"
)


def is_compressed(X: Any) -> bool:
    """Whether the rows, in memory or stored, are CSR."""
    return getattr(X, "format", None) == "csr"


def checked_rows(X: Any, columns: tuple[str, ...], where: str) -> csr_array:
    """SciPy's sparse X as finite float64 CSR in canonical form, without stored zeros and with the shortest index type.

    If X has that form already, its memory is shared and never changed.  Raises FileError.
    """
    if X.dtype.kind not in "biuf":
        raise FileError(f"features must be numbers, but those of the {where} have the type {X.dtype}")
    made = csr_array(X)  # shares memory if it can
    with np.errstate(over="ignore"):
        data = made.data.astype(np.float64, copy=False)
    index = np.int32 if max(len(data), *made.shape) <= np.iinfo(np.int32).max else np.int64
    made = csr_array((data, made.indices, made.indptr), shape=made.shape)
    if not made.has_canonical_format or not np.all(data):
        made = made.copy()
        made.sum_duplicates()
        made.eliminate_zeros()
    if not np.isfinite(made.data.sum()) and not np.isfinite(made.data).all():
        at = int(np.argmin(np.isfinite(made.data)))
        count = int((~np.isfinite(made.data)).sum())
        row = int(np.searchsorted(made.indptr, at, side="right")) - 1
        raise FileError(
            f"every feature must be finite, but {count} of the {made.nnz} numbers in the {where} "
            f"{'is' if count == 1 else 'are'} not: "
            f"the first is {made.data[at]} in column {columns[made.indices[at]]}, row {row} (counted from 0)",
            "remove these rows or fill in the values: ginf does not guess",
        )
    made.indices, made.indptr = made.indices.astype(index, copy=False), made.indptr.astype(index, copy=False)
    return made


def refuse_wide(features: int) -> None:
    """Raises FileError for more than ``MOST_FEATURES`` features."""
    if features > MOST_FEATURES:
        raise FileError(
            f"{features:,} features were found, more than the {MOST_FEATURES:,} that ginf holds",
            "number the features without gaps, or hash them into fewer",
        )


def scaled_rows(X_train: Any, X_test: Any) -> tuple[Any, Any, np.ndarray]:
    """Both parts divided by the standard deviations (d,) of the training rows, without centring, and these deviations.

    The zeros that CSR does not store count as values.
    """
    if isinstance(X_train, CompressedRows):
        scale = _deviations(X_train)
        test = X_test.scaled(scale) if isinstance(X_test, CompressedRows) else scaled(X_test, 1.0 / scale)
        return X_train.scaled(scale), test, scale
    from sklearn.preprocessing import StandardScaler

    scaler = StandardScaler(with_mean=False).fit(X_train)
    test = csr_array(scaler.transform(X_test)) if X_test.shape[0] else X_test
    return csr_array(scaler.transform(X_train)), test, scaler.scale_


def _deviations(X: CompressedRows) -> np.ndarray:
    """The standard deviations (d,), bit for bit those of scikit-learn's ``StandardScaler``, which adds one by one."""
    (m, d), mean, left, squares, count = X.shape, *(np.zeros(X.shape[1]) for _ in range(4))
    for block in X.pieces():
        np.add.at(mean, block.indices, block.data)
        count += np.bincount(block.indices, minlength=d)
    mean /= m
    for block in X.pieces():
        centred = block.data - mean[block.indices]
        np.add.at(left, block.indices, centred)
        np.add.at(squares, block.indices, centred * centred)
    gaps = count < m
    left[gaps] -= (m - count[gaps]) * mean[gaps]
    squares[gaps] += (m - count[gaps]) * mean[gaps] ** 2
    variance, eps = (squares - left**2 / m) / m, np.finfo(np.float64).eps
    constant = variance <= m * eps * variance + (m * mean * eps) ** 2
    return np.where(constant, 1.0, np.sqrt(variance))


def no_rows(X: Rows) -> Rows:
    """Zero rows with the features of X."""
    return csr_array((0, X.shape[1])) if issparse(X) else np.empty((0, X.shape[1]))


def same_rows(X: Rows, other: Rows) -> bool:
    """Whether both hold the same numbers in the same form."""
    if not issparse(X) or not issparse(other):
        return not issparse(X) and not issparse(other) and np.array_equal(X, other)
    return X.shape == other.shape and all(
        np.array_equal(getattr(X, part), getattr(other, part)) for part in ("indptr", "indices", "data")
    )


def parts(X: Any) -> tuple[Any, Any, Any]:
    """The three arrays of CSR (data, indices, indptr); for stored rows, ``Strip`` objects that read them in pieces."""
    return X.strips if isinstance(X, CompressedRows) else (X.data, X.indices, X.indptr)
