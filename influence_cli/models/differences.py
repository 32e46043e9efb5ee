"""Why a fitted model does not suit its rows: its transformers are compared with the same ones fitted on these rows."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from typing import Any

import numpy as np

from influence_cli.models.transformers import FittedPart, Steps, fitted_parts

SHOWN = 3
"""Number of differences that are reported."""
RELATIVE = 1e-6
"""Relative difference of two fitted numbers of a column, such as means, above which the rows must differ."""
FITTED = 1e-6
"""Relative difference allowed between two computations of the same features, as iterative decompositions need it."""


def differences(steps: Steps, X: Any, y: np.ndarray) -> list[str]:
    """What the transformers say about training rows X that are not those they were fitted on; at most SHOWN.

    A clone of each transformer is fitted on these rows, and its fitted attributes are compared column by column.
    """
    sentences: list[str] = []
    try:
        for part in fitted_parts(steps, X):
            sentences += islice(_of_part(part, y), SHOWN)
    except Exception:  # third-party transformers may raise anything on rows that are not theirs
        pass
    return sentences[:SHOWN]


def _of_part(part: FittedPart, y: np.ndarray) -> Iterator[str]:
    from sklearn.base import clone

    name = type(part.transformer).__name__
    if _fits_differently(part, y):
        yield (
            f"the step {part.step} ({name}) gives its own training rows other features while it is fitted"
            " (fit_transform) than afterwards (transform), so that the model is not the minimum of what can be"
            " computed from the table"
        )
        return
    yield from _unknown_categories(part, name)
    again = clone(part.transformer).fit(part.X, y)
    before, after = (getattr(one, "n_samples_seen_", None) for one in (part.transformer, again))
    if isinstance(before, int | float | np.number) and isinstance(after, int | float | np.number) and before != after:
        yield f"the {name} was fitted on {int(before):,} rows, and these are {int(after):,}"
    for key, fitted in vars(part.transformer).items():
        other: Any = getattr(again, key, None)
        if not _a_number_a_column(fitted, part) or not _a_number_a_column(other, part) or key.startswith("_"):
            continue
        for column in np.flatnonzero(~np.isclose(fitted, other, rtol=RELATIVE, atol=0.0, equal_nan=True)):
            yield (
                f"the {name} knows column {part.columns[column]} with {key} {fitted[column]:.6g}, and of these rows it"
                f" is {other[column]:.6g}"
            )


def _a_number_a_column(fitted: Any, part: FittedPart) -> bool:
    return isinstance(fitted, np.ndarray) and fitted.dtype.kind == "f" and fitted.shape == (len(part.columns),)


def _fits_differently(part: FittedPart, y: np.ndarray) -> bool:
    """Whether ``fit_transform`` differs from ``fit`` and ``transform``: by cross-fitting (TargetEncoder) or noise."""
    from scipy.sparse import issparse
    from sklearn.base import clone

    if not hasattr(part.transformer, "fit_transform"):
        return False
    whole = clone(part.transformer).fit_transform(part.X, y)
    after = clone(part.transformer).fit(part.X, y).transform(part.X)
    one, other = (np.asarray(made.toarray() if issparse(made) else made) for made in (whole, after))
    if one.shape != other.shape or one.dtype.kind not in "biuf":
        return False
    return not np.allclose(one, other, rtol=FITTED, atol=FITTED * float(np.abs(other).max(initial=0.0)), equal_nan=True)


def _unknown_categories(part: FittedPart, name: str) -> Iterator[str]:
    """Columns with values that the encoder never saw."""
    known = getattr(part.transformer, "categories_", None)
    if known is None or len(known) != len(part.columns):
        return
    for column, categories in enumerate(known):
        values = part.values(column)
        there = set(np.asarray(categories).tolist())
        missing_known = any(one is None or one != one for one in there)
        unknown = [
            value for value in values.tolist() if value not in there and not (missing_known and _is_missing(value))
        ]
        if unknown:
            shown = ", ".join(repr(value) for value in sorted(set(unknown), key=str)[:SHOWN])
            yield (
                f"column {part.columns[column]} has {len(unknown):,} values of {len(values):,} that the {name} does not"
                f" know ({shown})"
            )


def _is_missing(value: Any) -> bool:
    return value is None or value != value
