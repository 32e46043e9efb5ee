"""Features made again where there is no penalty: without combinations of others, and knowing what these determined.

A test row is determined by the kept rows where all its new features, those left out among them, are a combination of
theirs.  An encoder gives a row of a category that no kept row has features that need not be: none of its columns is 1.
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
"""Difference, relative to a column's largest number, of a test row from the combination that the kept rows follow,
up to which it follows it too."""


def narrowed(source: Source, names: Sequence[str], settings: ModelSettings) -> Source:
    """The source without features of other names than ``names``, those of all rows, where these are combinations of the
    others; else without whatever is a combination now: an encoder drops another category, or finds others infrequent.

    With a penalty every feature counts, and the source stays as it is.
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
    """Which test rows (n,) do not follow the combinations of ``columns`` that the other features of the kept rows
    are."""
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
