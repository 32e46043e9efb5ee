"""Rates and shares: claims per insured year (``--exposure``), successes among trials (``--trials``).

The response of row i is the quotient y_i = c_i / e_i, and its weight is the denominator e_i:

    sum_i e_i (exp(eta_i) - y_i eta_i)  =  sum_i (exp(eta_i + log e_i) - c_i (eta_i + log e_i)) + constants

which is the Poisson model of the counts c_i with the offset log e_i.  Shares give the binomial likelihood in the same
way.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from influence_cli.data.options import TableOptions
from influence_cli.data.table import Column
from influence_cli.errors import FileError


def said(options: TableOptions) -> tuple[str, ...]:
    """A note that says what the response is; none without ``--exposure`` and ``--trials``."""
    count = options.label
    if options.exposure is not None:
        return (
            f"the response is {count} / {options.exposure}, a rate, and rows weigh by {options.exposure}: this is the"
            f" model of {count} with the offset log({options.exposure}); removing a row removes its whole exposure",
        )
    if options.trials is not None:
        return (
            f"the response is {count} / {options.trials}, a share, and rows weigh by {options.trials}: this is the"
            f" binomial model of {count} among {options.trials}; removing a row removes all of its trials",
        )
    return ()


def quotient(counts: np.ndarray, column: Column, records: np.ndarray, options: TableOptions) -> np.ndarray:
    """Counts (r,) divided by ``column``, the ``--exposure`` or ``--trials`` of the same rows; ``records`` number them.

    Raises FileError for a denominator that is not positive and for more successes than trials.
    """
    option = "--exposure" if options.exposure is not None else "--trials"
    if column.kind != "numeric":
        raise FileError(f"{option} {options.per} must be numbers over 0, but it holds {column.described}")
    if counts.dtype.kind in "OSU":
        raise FileError(f"{options.label} must be counts, but it holds text such as {str(counts[0])!r}")
    names = str(options.label), f"{option} {options.per}"
    return _over(counts, column.values, names, "record {:,}", records)


def divided(counts: Any, per: np.ndarray, name: str) -> np.ndarray:
    """The same quotient for arrays (m,); ``name`` is exposure or trials.  Raises FileError."""
    numbers = np.asarray(counts, dtype=np.float64)
    if numbers.shape != per.shape:
        raise FileError(f"{name}: expected {len(numbers):,} numbers, one a row of X, found the shape {per.shape}")
    return _over(numbers, per, ("y", name), "row {:,}", np.arange(len(numbers)))


def _over(counts: np.ndarray, per: np.ndarray, names: tuple[str, str], place: str, numbers: np.ndarray) -> np.ndarray:
    """counts / per.  Raises FileError, which names the first wrong row by ``place`` and its number."""
    each, hint = per.astype(np.float64), "leave these rows out, or correct them"

    def check(wrong: np.ndarray, expected: str, message: Callable[[int], str]) -> None:
        if wrong.any():
            first, more = int(np.argmax(wrong)), int(wrong.sum())
            where = place.format(numbers[first])
            raise FileError(f"{expected}, found {message(first)} in {where} and {more:,} such rows in all", hint)

    def shown(values: np.ndarray) -> Callable[[int], str]:
        return lambda row: "none" if np.isnan(values[row]) else f"{values[row]:g}"

    check(~(each > 0) | np.isinf(each), f"{names[1]} must be a number over 0 in every row", shown(each))
    check(~(counts >= 0), f"{names[0]} must be a count of at least 0 in every row", shown(counts))
    if "trials" in names[1].split()[0]:
        over = counts > each
        expected = f"{names[0]} counts successes and cannot be more than {names[1]}"
        check(over, expected, lambda row: f"{counts[row]:g} of {each[row]:g}")
    return np.asarray(counts / each)
