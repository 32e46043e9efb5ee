"""Labels of any type -> class codes with printable names, or float64 responses.

Classes are named on the command line (``coherent:3``), therefore a label is printed as a person would type it: ``3``
for 3, 3.0 and "3"; ``-1``; ``True``; a string unchanged.
"""

from __future__ import annotations

import numpy as np

from influence_cli.errors import FileError, composed

FEW_VALUES = 20
"""Up to this many distinct whole numbers are taken for classes without further checks."""

ROWS_A_CLASS = 5
"""Numbers that on average occur in fewer rows than this repeat as seldom as measurements do."""

PART = 1 << 20
"""Labels that are processed at a time."""

LONGEST_LABEL = 60
"""Characters of a label that a message shows."""

LAST_ASCII = 127

REGRESSION = "for a numeric response use --estimator linear"
COUNTS = ", for counts of events --estimator poisson"
CLASSIFICATION = "for classes use --estimator logistic"


def class_names(y: np.ndarray, where: str) -> tuple[tuple[str, ...], np.ndarray]:
    """The printed names of the classes, and the distinct labels they stand for, sorted by number or alphabetically.

    Raises FileError if there are fewer than two classes, or if the labels look like a numeric response.
    """
    y = _text_or_numbers(y, where)
    _finite(y, where)
    values = np.unique(np.concatenate([np.unique(y[part]) for part in _parts(y)]))
    if y.dtype.kind != "U" and _looks_continuous(values, len(y)):
        raise FileError(
            f"class labels were expected, but the labels look like a numeric response: "
            f"{len(values)} distinct values in {len(y)} rows, such as {_print(values[0])} and {_print(values[1])}",
            f"{REGRESSION}{COUNTS * _are_counts(values)}; if they are classes, store them as strings",
        )
    if len(values) < 2:
        raise FileError(
            f"at least two classes are needed, but every label of the {where} is {in_a_sentence(_print(values[0]))}",
            REGRESSION,
        )
    return printed(values), values


def printed(values: np.ndarray) -> tuple[str, ...]:
    """Labels as a person would type them."""
    return tuple(_print(value) for value in values)


def in_a_sentence(label: str) -> str:
    """A label as an error shows it: on one line and shortened to ``LONGEST_LABEL``."""
    short = label if len(label) <= LONGEST_LABEL else label[: LONGEST_LABEL - 3] + "..."
    return short if short.isprintable() else repr(short)


def encode(y: np.ndarray, values: np.ndarray, where: str) -> np.ndarray:
    """The int64 positions of the labels in ``values``.  Raises FileError for a label that is not among them."""
    y = _text_or_numbers(y, where)
    if (y.dtype.kind == "U") != (values.dtype.kind == "U"):
        kinds = ("numbers", "strings")
        raise FileError(
            f"both splits need labels of one type, but the training labels are "
            f"{kinds[values.dtype.kind == 'U']} and the test labels are {kinds[y.dtype.kind == 'U']}"
        )
    _finite(y, where)
    codes, known = np.empty(len(y), dtype=np.int64), np.empty(len(y), dtype=bool)
    for part in _parts(y):
        codes[part] = np.searchsorted(values, y[part])
        known[part] = values[np.minimum(codes[part], len(values) - 1)] == y[part]
    if not known.all():
        unknown = [in_a_sentence(_print(value)) for value in np.unique(y[~known])]
        more = f" and {len(unknown) - 5} more" if len(unknown) > 5 else ""
        raise FileError(
            f"every test label must occur among the training labels, but {', '.join(unknown[:5])}{more} "
            f"is new in {(~known).sum()} of {len(y)} test rows",
            "remove these test rows, or train on rows of that class too",
        )
    return codes


def responses(y: np.ndarray, where: str) -> np.ndarray:
    """The labels as finite float64 responses.  Raises FileError."""
    y = _text_or_numbers(y, where)
    if y.dtype.kind == "U":
        raise FileError(
            f"regression needs numeric responses, but those of the {where} are strings such as {str(y[0])!r}",
            CLASSIFICATION,
        )
    _finite(y, where)
    return y.astype(np.float64)


def _parts(y: np.ndarray) -> list[slice]:
    """Slices over labels, so that intermediate arrays stay small."""
    return [slice(start, start + PART) for start in range(0, max(len(y), 1), PART)]


def _text_or_numbers(y: np.ndarray, where: str) -> np.ndarray:
    """Labels as text (kind U, Unicode-normalised) or as bool, integer or float; bytes are decoded as UTF-8."""
    if y.dtype.kind == "O":
        kinds = {"text" if isinstance(value, str) else "number" for value in y}
        odd = [value for value in y if not isinstance(value, str | bool | int | float | np.number | np.bool_)]
        if odd or len(kinds) > 1:
            example = repr(odd[0]) if odd else "both"
            raise FileError(f"the labels of the {where} must be all numbers or all strings, but they hold {example}")
        y = np.array(list(y))
    if y.dtype.kind == "S":
        try:
            y = np.char.decode(y, "utf-8")
        except UnicodeDecodeError:
            raise FileError(f"the labels of the {where} must be UTF-8 text, but some are other bytes") from None
    if y.dtype.kind not in "biufU":
        raise FileError(f"labels must be numbers or strings, but those of the {where} have the type {y.dtype}")
    if y.dtype.kind == "U" and (y == "").any():
        row = int(np.argmax(y == ""))
        raise FileError(f"every row needs a label, but row {row} of the {where} (counted from 0) has none")
    if y.dtype.kind == "U" and np.ascontiguousarray(y).view(np.uint32).max(initial=0) > LAST_ASCII:
        different, codes = np.unique(y, return_inverse=True)
        y = np.array([composed(label) for label in different.tolist()])[codes]
    return y


def _finite(y: np.ndarray, where: str) -> None:
    if y.dtype.kind != "f" or np.isfinite(y).all():
        return
    bad = ~np.isfinite(y)
    row, count = int(np.argmax(bad)), int(bad.sum())
    raise FileError(
        f"every label must be finite, but {count} of the {len(y)} labels of the {where} "
        f"{'is' if count == 1 else 'are'} not: the first is {y[row]} in row {row} (counted from 0)",
        "remove the rows without a label",
    )


def _are_counts(values: np.ndarray) -> bool:
    """Whether distinct numbers may be counts: whole numbers from 0."""
    return bool(values.dtype.kind in "iuf" and values[0] == 0 and (values == np.round(values)).all())


def _looks_continuous(values: np.ndarray, rows: int) -> bool:
    """Whether numbers are measurements: fractions that are many or seldom repeat, or whole numbers that are both.

    Half-point grades (1, 1.5, ... 5) and the labels of a 100-class data set are classes; prices are not.
    """
    rare = len(values) * ROWS_A_CLASS > rows
    whole = values.dtype.kind != "f" or (values == np.round(values)).all()
    if whole:
        return len(values) > FEW_VALUES and rare
    return len(values) > FEW_VALUES or rare


def _print(value: np.generic) -> str:
    """The label as a person would type it: floats that are exact whole numbers without ``.0``."""
    if isinstance(value, np.floating) and value == np.round(value) and abs(value) < 2**53:
        return str(int(value))
    return composed(str(value))
