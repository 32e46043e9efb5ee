"""Rows by pandas labels: an Index or a Series names rows by label, an array names them by position.

``labels`` below is the pandas Index of the rows that the model was made of, or None if they had none (an array, a list,
a polars frame).  Ambiguous input is refused, because the wrong reading would give another group of the same size.
pandas is not imported to recognise its objects: they only exist if the caller has imported it.
"""

from __future__ import annotations

import sys
from typing import Any

import numpy as np

from influence_cli.errors import UsageError

POSITIONS = "for positions, counted from 0, give a NumPy array, for example SERIES.to_numpy()"
ONE_INDEX = "give both the same index, or go by position with .to_numpy()"


def is_pandas(one: Any, kind: str) -> bool:
    """Whether ``one`` is a pandas object of the given kind (``Index``, ``Series``, ``DataFrame``)."""
    pandas = sys.modules.get("pandas")
    return pandas is not None and isinstance(one, getattr(pandas, kind))


def row_labels(*sources: Any) -> Any:
    """The Index of the first of ``sources`` (features, then responses) that has one, or None."""
    for one in sources:
        if is_pandas(one, "DataFrame") or is_pandas(one, "Series"):
            return one.index
    return None


def is_labelled(one: Any) -> bool:
    """Whether ``one`` is a Series or an Index."""
    return is_pandas(one, "Series") or is_pandas(one, "Index")


def in_row_order(values: Any, labels: Any, name: str, of: str) -> Any:
    """``values`` in the order of the rows with these ``labels``; arrays are returned unchanged.

    A Series or DataFrame with the same labels in another order is reordered.  It may contain further rows, unless
    ``labels`` are the default 0, 1, 2, ..., which do not identify the original rows.  ``name`` and ``of`` name the
    values and the rows in errors.  Raises UsageError.
    """
    if labels is None or not (is_pandas(values, "Series") or is_pandas(values, "DataFrame")):
        return values
    index = values.index
    if index.equals(labels):
        return values
    if not (index.is_unique and labels.is_unique):
        raise UsageError(
            f"{name}: its labels and those of {of} are not the same, and one label stands for several rows",
            hint=ONE_INDEX,
        )
    places = index.get_indexer(labels)
    absent = np.flatnonzero(places < 0)
    if len(absent):
        raise UsageError(
            f"{name}: a pandas object goes by its labels, but it has no row {_shown(labels[absent[0]])}, as {of} has"
            f" ({len(absent):,} of {len(labels):,} rows of {of} are missing)",
            hint=ONE_INDEX,
        )
    if len(index) != len(labels) and _is_default(labels):
        raise UsageError(
            f"{name}: it has {len(index):,} rows and {of} {len(labels):,} with the default labels 0, 1, 2, ..., so that"
            " it cannot be told which of them are meant",
            hint=ONE_INDEX,
        )
    return values.iloc[places]


def labelled_rows(one: Any, labels: Any, where: str, of: str) -> np.ndarray:
    """The rows that an Index, or a Series of truth values or labels, names: positions, or a mask in the rows' order.

    Errors begin with ``where``, and ``of`` names what the rows belong to.  Raises UsageError for unknown labels, and
    for labels that other rows have as well.
    """
    if is_pandas(one, "Series"):
        import pandas

        if pandas.api.types.is_bool_dtype(one.dtype):
            return _mask_rows(one, labels, where, of)
        return _series_rows(one, labels, where, of)
    if labels is None:
        raise _without_labels(one, where, of)
    return _label_rows(one, labels, where, of)


def _mask_rows(mask: Any, labels: Any, where: str, of: str) -> np.ndarray:
    """A Series of truth values as a mask in the order of the rows."""
    if mask.isna().any():
        raise UsageError(f"{where}: expected true or false for every row, but values are missing")
    if labels is not None:
        mask = in_row_order(mask, labels, where, of)
    elif not _is_default(mask.index):
        raise _without_labels(mask, where, of)
    return mask.to_numpy(dtype=bool)


def _series_rows(one: Any, labels: Any, where: str, of: str) -> np.ndarray:
    """Positions from a Series of row numbers or labels.  Raises UsageError if it could be either."""
    import pandas

    numbers = pandas.api.types.is_integer_dtype(one.dtype)
    named_by_numbers = labels is not None and labels.nlevels == 1 and pandas.api.types.is_numeric_dtype(labels.dtype)
    if numbers and (labels is None or _is_default(labels) or not named_by_numbers):
        return np.asarray(one.to_numpy(), dtype=np.int64)
    if not numbers and labels is not None and not named_by_numbers:
        return _label_rows(pandas.Index(one), labels, where, of)
    if numbers:
        raise UsageError(
            f"{where}: a Series of whole numbers can mean positions or labels of {of}",
            hint="for labels give pandas.Index(SERIES); " + POSITIONS,
        )
    raise UsageError(
        f"{where}: expected row numbers, labels or truth values, found a Series of the type {one.dtype}",
        hint="for example DATA['site'] == 'north'",
    )


def _label_rows(index: Any, labels: Any, where: str, of: str) -> np.ndarray:
    """The positions in ``labels`` of every label of ``index``, ascending.  Raises UsageError."""
    if index.nlevels != labels.nlevels:
        raise UsageError(
            f"{where}: its labels have {index.nlevels} {'level' if index.nlevels == 1 else 'levels'}, but the index of"
            f" {of} has {labels.nlevels}",
            hint=f"take labels from the index of {of}",
        )
    members = labels.isin(index)
    known = index.isin(labels)
    if not known.all():
        raise UsageError(
            f"{where}: {of} has no row with the label {_shown(index[~known][0])}"
            f" ({(~known).sum():,} of {len(index):,} labels are none of its)",
            hint=POSITIONS,
        )
    if not labels.is_unique:
        there, asked = labels[members].value_counts(), index.value_counts()
        other = there[there != asked.reindex(there.index)]
        if len(other):
            label = other.index[0]
            raise UsageError(
                f"{where}: the label {_shown(label)} stands for {there[label]:,} rows of {of}, but the group lists it"
                f" {'once' if asked[label] == 1 else f'{asked[label]:,} times'}",
                hint="give truth values, one a row, or an index with a label a row (DATA.reset_index(drop=True))",
            )
    elif not index.is_unique:
        raise UsageError(f"{where}: row {_shown(index[index.duplicated()][0])} is listed twice; expected each row once")
    return np.flatnonzero(members)


def _without_labels(one: Any, where: str, of: str) -> UsageError:
    return UsageError(
        f"{where}: a pandas {type(one).__name__} goes by labels, but {of} has none (it is an array or a list)",
        hint=f"make the model of a DataFrame; {POSITIONS}",
    )


def _is_default(labels: Any) -> bool:
    """Whether the labels are 0, 1, 2, ..., so that they are positions as well."""
    return labels.nlevels == 1 and labels.dtype.kind in "iu" and bool((labels == np.arange(len(labels))).all())


def _shown(label: Any) -> str:
    return repr(label.item() if isinstance(label, np.generic) else label)
