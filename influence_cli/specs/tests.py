"""The mini-language of test rows, ``--test``: text becomes a frozen object, and with the data row numbers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from influence_cli.errors import UsageError, about, did_you_mean
from influence_cli.specs.groups import shown, whole_number
from influence_cli.specs.names import ID, RECORD, SPELLINGS, RowNames, parse_names, written

FORMS = "17, 3,5,17, 0:50, :50, record:12, id:P021, misclassified[:N], all, mean or removed"
_WORDS = ("misclassified", "all", "mean", "removed")


@dataclass(frozen=True)
class TestRowSpec:
    """One parsed spec.

    ``kind`` is ``rows`` (with ``rows``), ``slice`` (``start``, ``stop``; None is the end of the test set), ``record``
    or ``id`` (``names``), ``misclassified`` (``count``; None is all of them), ``all``, ``mean``, or ``removed``: the
    rows that each group removes, which are not test rows.
    """

    __test__ = False  # pytest collects every class named Test...

    text: str
    kind: str
    rows: tuple[int, ...] = ()
    start: int = 0
    stop: int | None = None
    count: int | None = None
    names: tuple[str, ...] = ()


def parse_tests(text: str) -> TestRowSpec:
    """Parse one spec; a UsageError says what was expected and found."""
    spec = text.strip()
    word, colon, count = spec.partition(":")
    if word == "misclassified":
        return _parse_misclassified(spec, count if colon else None)
    if word in SPELLINGS and colon:
        by = SPELLINGS[word]
        with about(f"test rows {shown(spec)}"):
            names = parse_names(by, count)
        return TestRowSpec(f"{by}:{written(names)}", by, names=names)
    if spec in _WORDS:
        return TestRowSpec(spec, spec)
    if ":" in spec:
        return _parse_slice(spec)
    return _parse_rows(spec)


def choose_tests(
    spec: TestRowSpec,
    n: int,
    misclassified: Callable[[], np.ndarray] | None = None,
    names: RowNames | None = None,
) -> tuple[np.ndarray, bool]:
    """The requested test rows (int64, in the order given), and whether their mean is asked for.

    ``n`` is the number of test rows.  ``misclassified`` is called only if it is needed and gives a mask (n,); None
    stands for a regression.  ``names`` are those of the test rows.
    """
    if n == 0:
        raise UsageError(f"test rows {shown(spec.text)}: this data has no test rows")
    if spec.kind in ("all", "mean"):
        return np.arange(n, dtype=np.int64), spec.kind == "mean"
    if spec.kind in (RECORD, ID):
        with about(f"test rows {shown(spec.text)}"):
            return (names or RowNames("test rows")).rows(spec.kind, spec.names), False
    if spec.kind == "misclassified":
        return _choose_misclassified(spec, n, misclassified), False
    if spec.kind == "slice":
        stop = n if spec.stop is None else spec.stop
        if stop > n or spec.start >= n:
            raise _out_of_range(spec, n, stop - 1 if stop > n else spec.start)
        return np.arange(spec.start, stop, dtype=np.int64), False
    for row in spec.rows:
        if not 0 <= row < n:
            raise _out_of_range(spec, n, row)
    return np.array(spec.rows, dtype=np.int64), False


def _parse_misclassified(spec: str, count: str | None) -> TestRowSpec:
    if count is None:
        return TestRowSpec(spec, "misclassified")
    number = whole_number(count.strip())
    if number is None or number < 1:
        raise UsageError(
            f"test rows {shown(spec)}: expected a number of at least 1 behind misclassified:, found {shown(count)}",
            hint="For example: --test misclassified:10",
        )
    return TestRowSpec(f"misclassified:{number}", "misclassified", count=number)


def _parse_slice(spec: str) -> TestRowSpec:
    first, _, last = spec.partition(":")
    start = 0 if not first.strip() else whole_number(first.strip())
    stop = None if not last.strip() else whole_number(last.strip())
    if spec == ":" or start is None or (stop is None and last.strip()):
        named = f"did you mean --test id:{last.strip()}?" if start is None and last.strip() else None
        raise UsageError(
            f"test rows {shown(spec)}: expected START:STOP with row numbers, STOP not included",
            hint=did_you_mean(first, _WORDS, named or "For example: --test 0:50"),
        )
    if start < 0 or (stop is not None and stop < 0):
        raise UsageError(f"test rows {shown(spec)}: expected row numbers from 0 on, found a negative one")
    if stop is not None and stop <= start:
        raise UsageError(
            f"test rows {shown(spec)}: no row lies from {start} to before {stop}", hint="For example: --test 0:50"
        )
    text = f"{start if first.strip() else ''}:{'' if stop is None else stop}"
    return TestRowSpec(text, "slice", start=start, stop=stop)


def _parse_rows(spec: str) -> TestRowSpec:
    rows: dict[int, None] = {}
    for item in spec.split(","):
        row = whole_number(item.strip())
        if row is None:
            raise UsageError(
                f"test rows {shown(spec)}: expected {FORMS}, found {shown(item.strip())}",
                hint=did_you_mean(
                    spec, _WORDS, f"did you mean --test id:{spec}?" if spec else "For example: --test 3,5,17"
                ),
            )
        if row in rows:
            raise UsageError(f"test rows {shown(spec)}: row {row} is listed twice; expected each row once")
        rows[row] = None
    return TestRowSpec(",".join(map(str, rows)), "rows", rows=tuple(rows))


def _choose_misclassified(spec: TestRowSpec, n: int, misclassified: Callable[[], np.ndarray] | None) -> np.ndarray:
    if misclassified is None:
        raise UsageError(
            f"test rows {shown(spec.text)}: a regression classifies nothing", hint=f"Expected here: {FORMS}."
        )
    rows = np.flatnonzero(misclassified()).astype(np.int64, copy=False)
    if not len(rows):
        raise UsageError(
            f"test rows {shown(spec.text)}: none of the {n:,} test rows is misclassified",
            hint="ask for rows by number (--test 0:5) or for all of them (--test all)",
        )
    if spec.count is not None and spec.count > len(rows):
        raise UsageError(
            f"test rows {shown(spec.text)}: only {len(rows):,} of the {n:,} test rows are misclassified",
            hint="For all of them: --test misclassified",
        )
    return rows[: spec.count]


def _out_of_range(spec: TestRowSpec, n: int, row: int) -> UsageError:
    hint = f"rows are numbered within the test part; --test record:{row} is record {row} of the file"
    hint = hint if row > 0 else "rows are numbered from 0; the last ones are --test " + f"{max(n - 5, 0)}:{n}"
    return UsageError(f"test rows {shown(spec.text)}: expected test rows 0..{n - 1}, found {row}", hint)
