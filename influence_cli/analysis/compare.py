"""How well each method does for each kind and size of groups: from matched estimates and truth to records."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np

from influence_cli.analysis.matching import Cell, Matched
from influence_cli.core import agreement
from influence_cli.results import NO_TEST, OK, name_of_test
from influence_cli.tabular import Records

NO_INTERVAL = "no interval, its resamples lie to one side of it or have no correlation"
FEWEST_GROUPS = 8
"""Number of groups from which an interval of their correlation is meaningful."""
TOO_FEW = f"no interval from fewer than {FEWEST_GROUPS} groups"
TOO_FEW_TESTS = f"no interval over test rows from fewer than {FEWEST_GROUPS} of them"
RESAMPLED = (GROUPS, GROUPS_TESTS) = ("groups", "groups-tests")
"""What is drawn with replacement: the groups, or the groups and also the test rows over which figures are pooled."""
TEST_BLOCK = 256
"""Test rows whose resamples are held in memory at a time."""


@dataclass(frozen=True)
class Settings:
    """How to judge: the number of ``resamples``, their ``seed``, the method ``against`` which all others are compared,
    and what is resampled (one of ``RESAMPLED``)."""

    resamples: int = 1000
    seed: int = 0
    against: str | None = None
    resample: str = GROUPS


def compare(matched: Matched, settings: Settings) -> Records:
    """The records: for every kind and size one per test row and method, then those of all test rows pooled (``test``
    null), and at the end those of all groups pooled (``kind`` and ``size`` null as well).

    Pooled over test rows, ``pearson`` and ``spearman`` are means over the test rows, so that differences between test
    rows do not count; ``slope`` lets every test row have its own intercept; the other figures are over all pairs.
    ``n`` counts pairs.  Pooled over kinds and sizes, a test row's correlation is over all of its groups, large and
    small, so that differences between the sizes do count.
    """
    rows: list[dict[str, Any]] = []
    for cell in matched.cells:
        rows += _cell_records(matched, cell.rows, settings, cell)
    rows += _cell_records(matched, np.arange(len(matched.groups)), settings, None)
    config = {"bootstrap": settings.resamples, "seed": settings.seed, "against": settings.against}
    return Records(tuple(rows), config | {"resample": settings.resample})


def compare_each(matched: Sequence[Matched], settings: Settings) -> Records:
    """The records of several quantities, one after the other."""
    agreements = [compare(matched_part, settings) for matched_part in matched]
    return replace(agreements[0], rows=tuple(row for records in agreements for row in records.rows))


def pooled_records(records: Records, method: str) -> list[dict[str, Any]]:
    """The records of a method that pool everything, one per quantity."""
    return [row for row in records.rows if row["kind"] is None and row["test"] is None and row["method"] == method]


@dataclass(frozen=True)
class _Intervals:
    """Bootstrap intervals of a method for each test row and, last, pooled: of its r, and of r minus another's r."""

    low: np.ndarray
    high: np.ndarray
    difference: np.ndarray
    difference_low: np.ndarray
    difference_high: np.ndarray


def _cell_records(matched: Matched, rows: np.ndarray, settings: Settings, cell: Cell | None) -> list[dict[str, Any]]:
    """The records of one cell, the pooled ones last; without a cell only the pooled ones."""
    truth = matched.truth[rows]
    intervals = _intervals(matched, rows, settings)
    lone = cell is None or (len(matched.tests) == 1 and int(matched.tests[0]) == NO_TEST)
    by_test: list[list[dict[str, Any]]] = [[] for _ in matched.tests] if not lone else []
    pooled = []
    ceilings = None if matched.repeats is None else agreement.ceiling(matched.repeats[:, rows])
    for method in matched.methods:
        estimate, asked = matched.estimates[method][rows], matched.asked[method][rows]
        judge = partial(_record, matched, cell, method, intervals[method], settings)
        figures = [] if lone else _per_test(estimate, truth, asked)
        for column, of_column in enumerate(figures):
            by_test[column].append(judge(column, of_column))
        pooled.append(judge(None, _pooled(estimate, truth, asked)))
    if ceilings is not None:
        for column, bound in enumerate((*(() if lone else ceilings), agreement.pooled(ceilings))):
            for record in [*by_test, pooled][column]:
                record["ceiling"] = _null(bound)
    name = cell.name or None if cell else None
    for record in (record for records in (*by_test, pooled) for record in records):
        record["cell"] = name
    if settings.against is not None:
        for at, method in enumerate(matched.methods):
            changes = _changes_of_error(matched, rows, method, settings.against)
            for records, change in zip((*by_test, pooled), changes[-1:] if lone else changes, strict=True):
                records[at]["error_change"] = None if method == settings.against else _null(change)
    return [record for records in (*by_test, pooled) for record in records]


def _record(
    matched: Matched,
    cell: Cell | None,
    method: str,
    intervals: _Intervals,
    settings: Settings,
    column: int | None,
    figures: dict[str, Any],
) -> dict[str, Any]:
    """One record, its keys in the order of the output; new keys are added at the end."""
    at, against, resamples = -1 if column is None else column, settings.against, settings.resamples
    code = NO_TEST if column is None else int(matched.tests[column])
    record = {
        "kind": cell.kind if cell else None,
        "size": cell.size if cell else None,
        "test": name_of_test(code),
        "method": method,
        "n": figures["n"],
        "pearson": _null(figures["pearson"]),
        "pearson_low": _null(intervals.low[at]),
        "pearson_high": _null(intervals.high[at]),
        **{key: _null(figures[key]) for key in ("spearman", "slope", "rmse", "relative_error", "sign_agreement")},
        **{key: figures[key] for key in ("groups", "tests", "dropped")},
        "fraction": cell.fraction if cell else None,
        "size_min": cell.size_min if cell else None,
        "size_max": cell.size_max if cell else None,
        "quantity": matched.quantity,
        "status": _status(figures),
    }
    few = figures["groups"] < FEWEST_GROUPS
    if against is not None:
        record |= _gain(intervals, at, method, against)
    few_tests = settings.resample == GROUPS_TESTS and column is None and figures["tests"] < FEWEST_GROUPS
    if resamples and (few or few_tests):
        record |= dict.fromkeys(("pearson_low", "pearson_high"))
        record |= dict.fromkeys(("difference_low", "difference_high", "gain")) if against is not None else {}
        if record["pearson"] is not None:
            record["status"] = "; ".join([*({record["status"]} - {OK}), TOO_FEW if few else TOO_FEW_TESTS])
    elif resamples:
        unproven = [
            name
            for name, low in (("pearson", "pearson_low"), ("difference", "difference_low"))
            if record.get(name) is not None and record[low] is None
        ]
        reasons = [*({record["status"]} - {OK}), *(f"{name}: {NO_INTERVAL}" for name in unproven)]
        record["status"] = "; ".join(reasons) or OK
    return record


def _per_test(estimate: np.ndarray, truth: np.ndarray, asked: np.ndarray) -> list[dict[str, Any]]:
    """The statistics of every test row."""
    keep = agreement.both_finite(estimate, truth)
    count = keep.sum(0)
    columns = {
        "n": count.tolist(),
        "pearson": agreement.pearson(estimate, truth),
        "spearman": agreement.spearman(estimate, truth),
        "slope": agreement.slope(estimate, truth),
        "rmse": agreement.rmse(estimate, truth),
        "relative_error": agreement.relative_error(estimate, truth),
        "sign_agreement": agreement.sign_agreement(estimate, truth),
        "groups": count.tolist(),
        "tests": (count > 0).astype(int).tolist(),
        "dropped": (asked & ~keep).sum(0).tolist(),
        "reasons": [[reason] for reason in agreement.undefined(estimate, truth)],
    }
    return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]


def _pooled(estimate: np.ndarray, truth: np.ndarray, asked: np.ndarray) -> dict[str, Any]:
    """The statistics of all test rows together."""
    keep = agreement.both_finite(estimate, truth)
    pairs = (estimate[keep][:, None], truth[keep][:, None])
    return {
        "n": int(keep.sum()),
        "pearson": agreement.pooled(agreement.pearson(estimate, truth)),
        "spearman": agreement.pooled(agreement.spearman(estimate, truth)),
        "slope": agreement.common_slope(estimate, truth),
        "rmse": agreement.rmse(*pairs)[0],
        "relative_error": agreement.relative_error(*pairs)[0],
        "sign_agreement": agreement.sign_agreement(*pairs)[0],
        "groups": int(keep.any(1).sum()),
        "tests": int(keep.any(0).sum()),
        "dropped": int((asked & ~keep).sum()),
        "reasons": agreement.undefined(estimate, truth),
    }


def _status(figures: dict[str, Any]) -> str:
    """What a record leaves out and why, or ok."""
    total = len(figures["reasons"])
    status = [
        reason if total == 1 else f"{count} of {total} test rows have no correlation: {reason}"
        for reason, count in Counter(filter(None, figures["reasons"])).items()
    ]
    if figures["n"] and not np.isfinite(figures["relative_error"]):
        status.append("no relative error: the truth is 0 throughout")
    if figures["dropped"]:
        status.append(f"{figures['dropped']} pairs without a value left out")
    return "; ".join(status) or OK


def _intervals(matched: Matched, rows: np.ndarray, settings: Settings) -> dict[str, _Intervals]:
    """One bootstrap for all methods and test rows of a cell, in chunks of test rows."""
    truth, resamples = matched.truth[rows], settings.resamples
    estimates = {method: values[rows] for method, values in matched.estimates.items()}
    shares = (
        agreement.test_row_weights(len(matched.tests), resamples, settings.seed)
        if settings.resample == GROUPS_TESTS
        else None
    )
    samples = {method: _Samples(resamples, len(rows), shares) for method in estimates}
    held = [method for method in estimates if settings.against not in (None, method)]
    gap = {method: _Samples(resamples, len(rows), shares) for method in held}
    for start in range(0, len(matched.tests), TEST_BLOCK):
        part = slice(start, start + TEST_BLOCK)
        y = truth[:, part]
        values = {method: estimate[:, part] for method, estimate in estimates.items()}
        r = {method: agreement.pearson(x, y) for method, x in values.items()}
        stack = agreement.bootstrap_pearson(list(values.values()), y, resamples, settings.seed)
        drawn = dict(zip(values, stack, strict=True))
        left = dict(zip(values, agreement.jackknife_pearson(list(values.values()), y), strict=True))
        for method in values:
            samples[method].add(r[method], drawn[method], left[method])
        for method in gap:
            assert settings.against is not None
            x, z = values[method], values[settings.against]
            common = agreement.both_finite(x, y) & agreement.both_finite(z, y)
            if all((agreement.both_finite(one, y) == common).all() for one in (x, z)):
                other = settings.against
                gap[method].add(r[method] - r[other], drawn[method] - drawn[other], left[method] - left[other])
            else:
                x, z = (np.where(common, one, np.nan) for one in (x, z))
                both = agreement.bootstrap_pearson([x, z], y, resamples, settings.seed)
                without = agreement.jackknife_pearson([x, z], y)
                point = agreement.pearson(x, y) - agreement.pearson(z, y)
                gap[method].add(point, both[0] - both[1], without[0] - without[1])
    nothing = np.full(len(matched.tests) + 1, np.nan)
    by_name = {}
    for method in estimates:
        _, low, high = samples[method].summary()
        difference = gap[method].summary() if method in gap else (nothing, nothing, nothing)
        by_name[method] = _Intervals(low, high, *difference)
    return by_name


class _Samples:
    """Figures of the test rows in the resamples and without each group, chunk by chunk; the pooled figure comes last.

    ``shares`` (B, T) says how often each test row counts in a resample's pooled figure; None means once each.
    """

    def __init__(self, resamples: int, groups: int, shares: np.ndarray | None):
        self._shares, self._seen = shares, 0
        self._point: list[np.ndarray] = []
        self._low: list[np.ndarray] = []
        self._high: list[np.ndarray] = []
        self._drawn, self._left = _Mean(resamples), _Mean(groups)

    def add(self, point: np.ndarray, samples: np.ndarray, jackknife: np.ndarray) -> None:
        low, high = agreement.interval(samples, point, jackknife)
        self._point.append(point)
        self._low.append(low)
        self._high.append(high)
        shares = None if self._shares is None else self._shares[:, self._seen : self._seen + len(point)]
        self._seen += len(point)
        self._drawn.add(np.where(np.isfinite(point), samples, np.nan), shares)
        self._left.add(np.where(np.isfinite(point), jackknife, np.nan))

    def summary(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        point = np.concatenate(self._point)
        pooled = agreement.pooled(point)
        left = self._left.value()
        if self._shares is not None:
            left = agreement.jackknife_of_both(left, point)
        low, high = agreement.interval(self._drawn.value()[:, None], pooled[None], left[:, None])
        return np.append(point, pooled), np.concatenate([*self._low, low]), np.concatenate([*self._high, high])


class _Mean:
    """Means over the defined values of all columns, a chunk of columns at a time: ``agreement.pooled``, or weighted."""

    def __init__(self, length: int):
        self._sum, self._count = np.zeros(length), np.zeros(length)

    def add(self, values: np.ndarray, weights: np.ndarray | None = None) -> None:
        defined = np.isfinite(values)
        counted = defined if weights is None else defined * weights
        self._sum += (np.where(defined, values, 0.0) * counted).sum(axis=1)
        self._count += counted.sum(axis=1)

    def value(self) -> np.ndarray:
        return np.where(self._count > 0, self._sum / np.maximum(self._count, 1), np.nan)


def _gain(intervals: _Intervals, at: int, method: str, against: str) -> dict[str, Any]:
    """``gain`` is true only if the whole interval of the difference lies above 0, and null if there is none."""
    difference, low, high = (
        _null(values[at]) for values in (intervals.difference, intervals.difference_low, intervals.difference_high)
    )
    return {
        "against": None if method == against else against,
        "difference": difference,
        "difference_low": low,
        "difference_high": high,
        "gain": None if low is None else low > agreement.ROUNDING,
    }


def _changes_of_error(matched: Matched, rows: np.ndarray, method: str, against: str) -> np.ndarray:
    """e / e0 - 1 for a cell's test rows and, last, over all pairs; e0 is the relative error of the method ``against``,
    and both use the pairs that both methods have.  Below 0 is better; NaN where e0 is 0."""
    truth, x, z = matched.truth[rows], matched.estimates[method][rows], matched.estimates[against][rows]
    truth = np.where(np.isfinite(x) & np.isfinite(z), truth, np.nan)
    errors = [
        np.append(
            agreement.relative_error(one, truth), agreement.relative_error(one.reshape(-1, 1), truth.reshape(-1, 1))
        )
        for one in (x, z)
    ]
    with np.errstate(all="ignore"):
        return errors[0] / errors[1] - 1.0


def _null(value: Any) -> float | None:
    return float(value) if np.isfinite(value) else None
