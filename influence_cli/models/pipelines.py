"""How the preprocessing of a fitted pipeline is fitted again without groups."""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy.sparse import issparse

from influence_cli.core.rescaling import Restandardising, Standardised
from influence_cli.data.dataset import Dataset
from influence_cli.models.narrowed import narrowed
from influence_cli.models.preprocessing import (
    Balancing,
    Refit,
    Unfitted,
    matters,
    needs_shift,
    remade_by,
)
from influence_cli.models.rank import STEP
from influence_cli.models.remade import ROUNDING, Made, is_affine, pipeline_source
from influence_cli.models.scales import pipeline_scales
from influence_cli.models.settings import ModelSettings
from influence_cli.models.transformers import Steps


def pipeline_refit(
    dataset: Dataset,
    settings: ModelSettings,
    steps: Steps,
    rows: tuple[Any, Any],
    balancing: Balancing | None,
    names: tuple[str, ...],
) -> Refit | Unfitted | None:
    """How to fit a pipeline again; ``rows`` are training and test rows in the form that its first transformer takes,
    with columns ``names``.

    None if rows enter nothing but the loss.  Unfitted if the transformers were fitted on other rows, or if they cannot
    be fitted again.
    """
    d = dataset.X_train.shape[1]
    given, given_test = rows
    steps = [(key, step) for key, step in steps if key != STEP]
    complete, complete_test = (_complete(one) for one in rows)
    scales = pipeline_scales(steps, d, complete=bool(complete.all() and complete_test.all()))
    if scales is not None and not needs_shift(scales, settings) and not _unknown_is_zero(steps, settings):
        idle = not matters(settings) or (not scales.columns.any() and not scales.centred.any())
        if not idle and not _suits(scales, dataset):
            return Unfitted("its transformers were fitted on other rows")
        if idle and balancing is None:
            return None
        return Refit(dataset, settings, None if idle else scales, balancing=balancing)
    source = pipeline_source(steps, given, given_test, dataset.y_train, names)
    affine = all(is_affine(step) for _, step in steps)
    try:
        whole = narrowed(source, dataset.feature_names, settings)(np.arange(dataset.rows))
    except Exception as error:  # third-party transformers may raise anything when they are fitted
        return Unfitted(f"its transformers cannot be fitted again ({type(error).__name__}: {error})")
    if not _same(whole.X, dataset.X_train):
        return Unfitted("its transformers were fitted on other rows, or fit otherwise every time")
    old = Made(dataset.X_train, dataset.X_test, dataset.feature_names)
    remaking = remade_by(source, old, complete, settings, align=affine)
    return Refit(dataset, settings, None, remaking, affine, balancing)


def _unknown_is_zero(steps: Steps, settings: ModelSettings) -> bool:
    """Whether rows of a lost category keep a prediction although its parameter is undetermined: without a penalty and
    an intercept, the refitted encoder gives them zeros, and their other features predict."""
    if settings.l2 > 0 or settings.fit_intercept:
        return False
    inside = [one for _, step in steps for one in (step, *step.get_params(deep=True).values())]
    return any(type(one).__name__ == "OneHotEncoder" for one in inside)


def _suits(scales: Standardised, dataset: Dataset) -> bool:
    """Whether the scaled features have mean 0 and deviation 1 over the rows, as over the rows of the fit."""
    mean, spread = Restandardising(dataset.X_train, scales).mean_and_deviation
    centred = np.abs(mean) <= ROUNDING**0.5 * np.maximum(spread, 1e-300) + ROUNDING
    scaled = (np.abs(spread - 1.0) <= 1e-6) | (spread <= 1e-6)
    return bool((centred | ~scales.centred).all() and (scaled | ~scales.columns).all())


def _same(X: Any, other: Any) -> bool:
    if X.shape != other.shape:
        return False
    one, two = (np.asarray(made.toarray() if issparse(made) else made) for made in (X, other))
    return bool(np.allclose(one, two, rtol=1e-6, atol=1e-6 * max(1.0, float(np.abs(two).max(initial=0.0)))))


def _complete(rows: Any) -> np.ndarray:
    """Which rows have no missing cell, (m,) bool; an empty array if there are no rows."""
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
