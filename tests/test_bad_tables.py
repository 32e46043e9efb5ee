"""influence_cli/data/BAD_TABLES.md: the sentence that the user of a bad table gets, as `ginf train` prints it.

The file is made here: ``python tests/test_bad_tables.py`` writes it again.
"""

from __future__ import annotations

import contextlib
import io
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from influence_cli.cli import run

DOCUMENT = Path(__file__).parent.parent / "influence_cli" / "data" / "BAD_TABLES.md"
HEAD = "age,site,died\n"
ROWS = [f"{40 + number},{'NSW'[number % 3]},{'yes' if number % 4 else 'no'}\n" for number in range(12)]
GOOD = HEAD + "".join(ROWS)
LABEL = ("--label", "died")
INTRODUCTION = """# Bad tables

What `ginf train --data stays.csv --label died` says to a table that it cannot use; the exit code stands behind. The
good table has the columns `age,site,died` and 12 rows. `tests/test_bad_tables.py` makes this page and holds it true.

| the table | the answer | code |
|---|---|---|
"""

CASES: dict[str, tuple[str | bytes, tuple[str, ...]]] = {
    "ragged: a row with too few fields": (GOOD + "52,N\n", LABEL),
    "ragged: a row with too many fields": (GOOD + "52,N,yes,7\n", LABEL),
    "a quote that is never closed": (GOOD + '52,"N,yes\n', LABEL),
    "separated by semicolons": (GOOD.replace(",", ";"), LABEL),
    "separated by tabs": (GOOD.replace(",", "\t"), LABEL),
    "no --label": (GOOD, ()),
    "a label that is no column": (GOOD, ("--label", "Died")),
    "a label that is missing in some rows": (GOOD.replace("yes", "", 2), LABEL),
    "a constant label": (GOOD.replace("no", "yes"), LABEL),
    "a class with a single row": (GOOD + "52,N,maybe\n", LABEL),
    "a class that only the test rows have": (GOOD, (*LABEL, "--test-data", "later.csv")),
    "a column name twice": (GOOD.replace("site", "age", 1), LABEL),
    "a column without a name": (GOOD.replace("age", "", 1), LABEL),
    "no line of names": ("40,1,0\n41,2,1\n", LABEL),
    "not UTF-8": (GOOD.encode() + b"52,Orl\xe9ans,yes\n", LABEL),
    "UTF-16": (GOOD.encode("utf-16"), LABEL),
    "binary": (b"\0\1\2\3" * 9, LABEL),
    "empty": ("", LABEL),
    "names and no rows": (HEAD, LABEL),
    "one row": (HEAD + ROWS[0], LABEL),
    "a million categories": (
        "patient,died\n" + "".join(f"P{number},{number % 2}\n" for number in range(1_000_000)),
        LABEL,
    ),
    "missing values": (GOOD.replace("40,", ",").replace("41,", "NA,"), LABEL),
    "dates as a feature": (
        "day,died\n" + "".join(f"2024-01-{number:02},{number % 2}\n" for number in range(1, 13)),
        LABEL,
    ),
    "a number that is none": (
        "age,died\n" + "".join(f"{number},{number % 2}\n" for number in range(50)) + "old,1\n",
        LABEL,
    ),
    "an infinite number": (GOOD.replace("41,", "1e999,"), LABEL),
    "text in the test rows where the training rows have numbers": (
        GOOD.replace("N,", "1,").replace("S,", "2,").replace("W,", "3,"),
        (*LABEL, "--test-data", "other.csv"),
    ),
    "no feature left": (GOOD, (*LABEL, "--drop", "age,site")),
}


@contextlib.contextmanager
def within(folder: str) -> Iterator[None]:
    before = Path.cwd()
    os.chdir(folder)
    try:
        yield
    finally:
        os.chdir(before)


def answer(case: str) -> tuple[str, str, int]:
    """What is printed, in one line of its own words, the hint likewise, and the exit code."""
    content, options = CASES[case]
    with tempfile.TemporaryDirectory() as folder, within(folder):
        Path("stays.csv").write_bytes(content if isinstance(content, bytes) else content.encode())
        Path("later.csv").write_text(HEAD + "60,N,perhaps\n", encoding="utf-8")
        Path("other.csv").write_text(HEAD + "60,N,yes\n", encoding="utf-8")
        said = io.StringIO()
        with contextlib.redirect_stderr(said), contextlib.redirect_stdout(io.StringIO()):
            code = run(["train", "--data", "stays.csv", *options, "-o", "m.h5"])
        assert not Path("m.h5").exists()
    lines = said.getvalue().splitlines()
    assert lines[0].startswith("ginf: error: stays.csv: ") or "--test-data" in CASES[case][1], lines
    assert len(lines) <= 2, lines
    error = lines[0].removeprefix("ginf: error: ")
    return error, lines[1].strip().removeprefix("hint: ") if len(lines) > 1 else "", code


def line(case: str) -> str:
    error, hint, code = (str(part).replace("|", "\\|") for part in answer(case))
    return f"| {case} | {error}{f'<br>*{hint}*' if hint else ''} | {code} |\n"


@pytest.mark.parametrize("case", CASES)
def test_the_page_has_the_sentence(case):
    pytest.importorskip("polars")
    assert line(case) in DOCUMENT.read_text(encoding="utf-8")


def test_the_page_has_nothing_else():
    text = DOCUMENT.read_text(encoding="utf-8")
    assert text.startswith(INTRODUCTION)
    assert [row.split(" | ")[0].removeprefix("| ") for row in text[len(INTRODUCTION) :].splitlines()] == list(CASES)


if __name__ == "__main__":
    DOCUMENT.write_text(INTRODUCTION + "".join(map(line, CASES)), encoding="utf-8")
