"""Features recomputed for a model without a penalty: linearly dependent ones are left out.

The prediction of a test row is estimable from the kept rows if its new features, including those left out, are a linear
combination of the rows' features.  If no kept row has its category, this may fail: the encoder gives it no 1.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from scipy.sparse import csr_array, hstack

from influence_cli.data.sparse import Rows
from influence_cli.models.rank import independent_columns
from influence_cli.models.remade import Made, Source
from influence_cli.models.settings import ModelSettings

HELD = 1e-6
"""Difference, relative to a column's largest number, up to which a test row satisfies a linear dependence that
holds in the kept rows."""


def narrowed(source: Source, names: Sequence[str], settings: ModelSettings) -> Source:
    """The source without the features that are not among ``names`` (those used for all rows), if they are combinations
    of the rest.  Otherwise an independent set is chosen anew: an encoder may drop or merge other categories now.

    With a penalty every feature counts, and the source is returned unchanged.
    """
    if settings.l2 > 0:
        return source

    def make(kept: np.ndarray) -> Made:
        made = source(kept)
        columns = np.array([column for column, name in enumerate(made.names) if name in set(names)], dtype=np.int64)
        independent = independent_columns(made.X, settings.fit_intercept)
        if len(independent) > len(independent_columns(made.X[:, columns], settings.fit_intercept)):
            columns = independent
        if len(columns) == len(made.names):
            return made
        return replace(
            made,
            X=made.X[:, columns],
            X_test=made.X_test[:, columns],
            names=tuple(made.names[column] for column in columns),
            open=_open(made, columns, settings.fit_intercept),
        )

    return make


def _open(made: Made, columns: np.ndarray, fit_intercept: bool) -> np.ndarray:
    """Which test rows (n,) violate the linear dependences of the other features on ``columns`` that hold in the kept
    rows."""
    others = np.setdiff1d(np.arange(len(made.names)), columns)
    left_out, left_out_test = (_dense(X[:, others]) for X in (made.X, made.X_test))
    size = np.maximum(np.abs(left_out).max(axis=0, initial=0.0), np.abs(left_out_test).max(axis=0, initial=0.0))
    size[size == 0] = 1.0
    design, design_test = (_with_ones(X[:, columns], fit_intercept) for X in (made.X, made.X_test))
    if isinstance(design, csr_array):
        how = np.linalg.lstsq((design.T @ design).toarray(), design.T @ left_out, rcond=None)[0]
    else:
        unit = np.abs(design).max(axis=0, initial=0.0)
        unit[unit == 0] = 1.0
        how = np.linalg.lstsq(design / unit, left_out, rcond=None)[0] / unit[:, None]
    return (np.abs(left_out_test - design_test @ how) > HELD * size).any(axis=1)


def _with_ones(X: Rows, fit_intercept: bool) -> Rows:
    ones = np.ones((X.shape[0], int(fit_intercept)))
    return csr_array(hstack([X, ones])) if isinstance(X, csr_array) else np.hstack([X, ones])


def _dense(X: Rows) -> np.ndarray:
    return X.toarray() if isinstance(X, csr_array) else np.asarray(X)
