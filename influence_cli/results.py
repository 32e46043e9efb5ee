"""The results of the analyses, as columns instead of lists of dictionaries.

Ten thousand groups times a hundred test rows are a million records; they stay (G, T) arrays from the core to the
artifact and become records only when text is written.  ``columns()`` returns the records of docs/format.md, with one
list or array per key; the records of one group are consecutive.
"""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from influence_cli.errors import UNBOUNDED
from influence_cli.tabular import Tabular

OK = "ok"
PENDING = "pending"
EXTRAPOLATED = UNBOUNDED + "retraining has no finite value, which the estimate does not know"
"""Status of estimates of an infinite change, for which ``groundtruth`` has null."""
LIMIT = UNBOUNDED + "retraining has no minimum but a limit: refined is that and the others do not know it"
"""Status of estimates of a figure that only tends to a limit."""
UNCERTAIN = "uncertain: "
"""Prefix of the status of groups whose estimates are numbers that, for a known reason, may be far off."""
UNKNOWN = UNCERTAIN + "it could not be shown whether there is a minimum without the group; train with --l2 over 0"
"""Status of estimates without a penalty if it is unknown whether there is a minimum."""
UNMET = "not within --rel-error"
"""Status of a pair whose refined estimate has an ``error`` above the requested tolerance."""
TRUTHS = (OK, EXTRAPOLATED, LIMIT, UNKNOWN, UNMET)
"""The statuses of a pair; the first four by the kind of its truth, in the order of ``core.recession``."""
REFINED = "refined"
"""The method that has an error even without ``--errors``."""
CREDITED = (
    OK,
    UNBOUNDED + "some coalitions leave no minimum (a class without rows, separable rows): the value is made of their"
    " limits, null where one is infinite; ginf train --penalize-intercept gives each a minimum",
    "a coalition has no figure: it could not be retrained, or f is undefined there",
)
"""The statuses of a group's credit, in the order of ``core.credit``."""
MEAN_TEST, NO_TEST, REMOVED_TEST = -1, -2, -3
"""Codes in ``tests`` for the mean over all test rows, for a quantity that needs no test row (``param:NAME``), and for
the rows that each group removes."""
SEVERAL = -4
"""Code in ``tests`` of the first of several quantities of the model (``param:A,B``); the next ones are -5, -6, ..."""
REMOVED = "removed"


def name_of_test(code: int) -> int | str | None:
    """The name of a test row in records: its number, ``mean``, ``removed``, or None if the quantity needs none."""
    return None if code <= SEVERAL else {MEAN_TEST: "mean", NO_TEST: None, REMOVED_TEST: REMOVED}.get(code, code)


def names_in(text: str) -> list[str]:
    """The names in a list separated by commas; a name that contains a comma is in double quotes."""
    return next(csv.reader([text], skipinitialspace=True), [])


def quantity_of(quantity: str, code: int) -> str:
    """The quantity of the figures with the code ``code`` in ``tests``: ``param:B`` for the second of ``param:A,B``."""
    if code > SEVERAL:
        return quantity
    kind, _, names = quantity.partition(":")
    return f"{kind}:{names_in(names)[SEVERAL - code]}"


def code_of_test(name: int | str | None) -> int:
    """The code in ``tests`` for a test row's name in records: the inverse of ``name_of_test``."""
    if isinstance(name, int):
        return name
    return NO_TEST if name is None else REMOVED_TEST if name == REMOVED else MEAN_TEST


@dataclass(frozen=True, eq=False)
class GroupTable:
    """G groups, without their rows, which the ``digest`` identifies.

    ``fraction`` is size / m.  ``digest`` is the SHA-256 of the sorted row numbers as little-endian int64.
    """

    label: tuple[str, ...]
    kind: tuple[str, ...]
    size: np.ndarray
    fraction: np.ndarray
    digest: Sequence[str]
    cell: tuple[str, ...] = ()
    """The text shared by the groups of one kind that are judged together; empty if an older file has none."""

    def __len__(self) -> int:
        return len(self.label)


@dataclass(frozen=True)
class RowNames:
    """Names of T test rows for readers: true and predicted class or response, record of the file, identifier."""

    true: tuple[Any, ...]
    predicted: tuple[Any, ...]
    record: tuple[int | None, ...]
    id: tuple[Any, ...]

    @classmethod
    def unknown(cls, count: int) -> RowNames:
        """``count`` empty names, for figures that do not belong to a single row and for files without names."""
        nothing = (None,) * count
        return cls(nothing, nothing, nothing, nothing)

    def columns(self, pairs: int) -> dict[str, Any]:
        """The last keys of every (group, test row) record: names of the T test rows, or of the groups' single rows."""
        times = pairs // max(len(self.true), 1)
        return {key: list(getattr(self, key)) * times for key in ("true", "predicted", "record", "id")}


@dataclass(frozen=True)
class Provenance:
    """The data, model and options from which a result was computed; results of other models are never compared."""

    data_digest: str
    model_digest: str
    config: dict[str, Any]


def cluster_jackknife(groups: GroupTable, quantity: str, changes: np.ndarray | None) -> tuple[float | None, ...]:
    """The cluster-jackknife standard errors (CRV3) of coefficients (T,) from their ``changes`` (G, T) without each
    cluster: sqrt((G - 1) / G * sum_g change_g^2), about the estimate on all rows (MacKinnon, Nielsen and Webb 2023).

    The result is empty for other quantities, and unless the groups are the values of a column and partition the rows.
    An error is None if a change is missing.
    """
    if not quantity.startswith("param:") or changes is None or len(groups) < 2:
        return ()
    alike = set(groups.kind) == {"column"} and len(set(groups.cell)) == 1 and len(set(groups.label)) == len(groups)
    if not alike or abs(float(groups.fraction.sum()) - 1.0) > 1e-9:
        return ()
    count, sums = len(groups), (changes**2).sum(axis=0).tolist()
    return tuple(float(np.sqrt((count - 1) / count * total)) if np.isfinite(total) else None for total in sums)


def _with_jackknife(columns: dict[str, Any], result: InfluenceResult | TruthResult) -> dict[str, Any]:
    """The columns, followed by the standard errors if there are any."""
    error = result.crv3
    return columns if not error or None in error else columns | {"crv3": list(error) * len(result.groups)}


@dataclass(frozen=True, eq=False, repr=False)
class InfluenceResult(Tabular):
    """Estimated changes on removal, ``f(after) - f(before)``: ``values[method]`` is (G, T).

    ``base`` is f before removal, (T,), or (G, T) if the test rows are the rows of each group itself.  A missing value
    is NaN here and null in the records, and ``status`` (G,) says why.  ``ends`` (G, T) marks pairs for which retraining
    has no minimum, as indices into ``TRUTHS``.  ``errors[method]`` (G, T) says how far the figures of a method may be
    off; for ``refined``, ``unmet`` (G, T) is true if that exceeds the requested tolerance after ``steps`` (G,).  The
    change is proven to lie between ``low`` and ``high`` (G, T), which are NaN without a proof, and None if no proof was
    requested.  ``actual`` (G, T) is the change by retraining, if requested.  ``notes`` are sentences about the whole
    result, which no file stores.  ``objective`` is "proximal" if ``refined`` and the errors refer to the proximal
    objective of a network, else None.
    """

    provenance: Provenance
    groups: GroupTable
    tests: np.ndarray
    quantity: str
    evaluate: str
    base: np.ndarray
    values: dict[str, np.ndarray]
    status: tuple[str, ...]
    ends: np.ndarray | None = None
    errors: dict[str, np.ndarray] = field(default_factory=dict)
    steps: np.ndarray | None = None
    unmet: np.ndarray | None = None
    low: np.ndarray | None = None
    high: np.ndarray | None = None
    actual: np.ndarray | None = None
    notes: tuple[str, ...] = ()
    names: RowNames | None = None

    def columns(self) -> dict[str, Any]:
        """The records, one column per key."""
        columns = _pair_columns(self.groups, self.tests, self.quantity, self.base)
        for method, values in self.values.items():
            columns[method] = values.ravel()
        columns["evaluate"] = [self.evaluate] * (len(self.groups) * len(self.tests))
        columns["status"] = self.statuses()
        if REFINED in self.errors:
            columns["error"] = self.errors[REFINED].ravel()
        if self.steps is not None:
            columns["steps"] = np.repeat(self.steps, len(self.tests))
        columns |= {f"{method}_error": errors.ravel() for method, errors in self.errors.items() if method != REFINED}
        if self.low is not None and self.high is not None:
            columns |= {"low": self.low.ravel(), "high": self.high.ravel()}
        if self.actual is not None:
            columns["actual"] = self.actual.ravel()
        columns |= (self.names or RowNames.unknown(len(self.tests))).columns(len(self.groups) * len(self.tests))
        columns = _with_jackknife(columns, self)
        return columns if self.objective is None else columns | {"objective": [self.objective] * len(columns["status"])}

    @property
    def crv3(self) -> tuple[float | None, ...]:
        """The ``cluster_jackknife`` of coefficients, from the changes by retraining if known, else from estimates."""
        best = next((self.values[name] for name in (REFINED, "newton") if name in self.values), None)
        return cluster_jackknife(self.groups, self.quantity, best if self.actual is None else self.actual)

    @property
    def objective(self) -> str | None:
        """The objective of ``refined`` and the errors, if there is a choice; it is a key of the records."""
        return self.provenance.config.get("objective")

    @property
    def truth(self) -> TruthResult | None:
        """The changes by ``--verify``, as from ``groundtruth`` but without details of each retraining, or None."""
        if self.actual is None:
            return None
        count = len(self.groups)
        nothing = np.full(count, np.nan)
        return TruthResult(
            self.provenance,
            self.groups,
            self.tests,
            self.quantity,
            self.base,
            self.actual,
            nothing,
            np.zeros(count, dtype=np.int64),
            nothing,
            self.status,
            names=self.names,
        )

    def statuses(self) -> list[str]:
        """The status of each (group, test row) pair, groups outermost."""
        by_pair = _repeat(self.status, len(self.tests))
        free = (OK, *(status for status in set(self.status) if status.startswith(UNCERTAIN)))
        for code, flags in ((0, self.ends), (TRUTHS.index(UNMET), self.unmet)):
            if flags is not None:
                pairs = zip(by_pair, flags.ravel().tolist(), strict=True)
                by_pair = [TRUTHS[code or int(flag)] if flag and status in free else status for status, flag in pairs]
        return by_pair


@dataclass(frozen=True, eq=False, repr=False)
class TruthResult(Tabular):
    """Changes measured by retraining: ``actual`` (G, T) is ``f(after) - f(before)``.

    ``grad_norm`` at the last pass, ``iterations`` and ``seconds`` (G,) describe how each retraining ended; ``seconds``
    is the group's share of its block's time.  With ``repeats`` (R, G, T), the changes from R seeds, ``actual`` is their
    mean.  ``actual_error`` (G, T) estimates how far ``actual`` may be off; None if an earlier version retrained.
    ``low`` and ``high`` (G, T) are proven, NaN where nothing is, and None where no proof was requested.  ``unbounded``
    (G, T) marks the pairs to which a group's status of that name applies; None, from earlier versions, means all.
    ``credit`` has (G, T) arrays by key, such as ``shapley`` and ``shapley_error``; ``credit_state`` has indices into
    ``CREDITED``.
    """

    provenance: Provenance
    groups: GroupTable
    tests: np.ndarray
    quantity: str
    base: np.ndarray
    actual: np.ndarray
    grad_norm: np.ndarray
    iterations: np.ndarray
    seconds: np.ndarray
    status: tuple[str, ...]
    repeats: np.ndarray | None = None
    names: RowNames | None = None
    actual_error: np.ndarray | None = None
    low: np.ndarray | None = None
    high: np.ndarray | None = None
    unbounded: np.ndarray | None = None
    credit: Mapping[str, np.ndarray] = field(default_factory=dict)
    credit_state: np.ndarray | None = None

    def statuses(self) -> list[str]:
        """The status of each (group, test row) pair, groups outermost."""
        by_pair = _repeat(self.status, len(self.tests))
        if self.unbounded is not None:
            pairs = zip(by_pair, self.unbounded.ravel().tolist(), strict=True)
            by_pair = [status if along or not status.startswith(UNBOUNDED) else OK for status, along in pairs]
        if self.credit_state is not None:
            states = zip(by_pair, self.credit_state.ravel().tolist(), strict=True)
            by_pair = [CREDITED[state] if status == OK else status for status, state in states]
        return by_pair

    def columns(self) -> dict[str, Any]:
        """The records, one column per key."""
        columns = _pair_columns(self.groups, self.tests, self.quantity, self.base)
        columns["actual"] = self.actual.ravel()
        for key in ("grad_norm", "iterations", "seconds"):
            columns[key] = np.repeat(getattr(self, key), len(self.tests))
        if self.repeats is not None:
            columns["spread"] = self.repeats.std(axis=0, ddof=1).ravel()
        columns["status"] = self.statuses()
        error = np.full(self.actual.shape, np.nan) if self.actual_error is None else self.actual_error
        columns["actual_error"] = error.ravel()
        if self.low is not None and self.high is not None:
            columns |= {"low": self.low.ravel(), "high": self.high.ravel()}
        columns |= (self.names or RowNames.unknown(len(self.tests))).columns(len(self.groups) * len(self.tests))
        return _with_jackknife(columns | {key: values.ravel() for key, values in self.credit.items()}, self)

    @property
    def crv3(self) -> tuple[float | None, ...]:
        """The ``cluster_jackknife`` of coefficients."""
        return cluster_jackknife(self.groups, self.quantity, self.actual)


def _repeat(items: tuple[str, ...], times: int) -> list[str]:
    return [item for item in items for _ in range(times)]


def _pair_columns(groups: GroupTable, tests: np.ndarray, quantity: str, base: np.ndarray) -> dict[str, Any]:
    """The first keys of every (group, test row) record."""
    times, count = len(tests), len(groups)
    return {
        "group": _repeat(groups.label, times),
        "kind": _repeat(groups.kind, times),
        "size": np.repeat(groups.size, times),
        "fraction": np.repeat(groups.fraction, times),
        "test": [name_of_test(int(row)) for row in tests] * count,
        "quantity": [quantity_of(quantity, int(row)) for row in tests] * count,
        "base": base.ravel() if base.ndim == 2 else np.tile(base, count),
    }


@dataclass(frozen=True, eq=False, repr=False)
class SelectionResult(Tabular):
    """Selected groups, with one record each: the sorted ``rows`` (n,) or None, and NaN for unknown values.

    ``actual`` is always the change by retraining.
    """

    provenance: Provenance
    quantity: str
    entries: tuple[dict[str, Any], ...]

    def columns(self) -> dict[str, Any]:
        """The records, one column per key."""
        keys = list(dict.fromkeys(key for record in self.entries for key in record))
        columns = {key: [record.get(key) for record in self.entries] for key in keys}
        columns["rows"] = [None if rows is None else rows.tolist() for rows in columns["rows"]]
        return columns
