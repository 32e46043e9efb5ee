"""docs/tables.md: what ``ginf train`` says of each kind of table, as it prints it.

The page is made here: ``python tests/test_tables_page.py`` writes it again.
"""

from __future__ import annotations

import contextlib
import io
import shlex
import tempfile
from pathlib import Path

import polars as pl
import pytest
from published import published_tables

from influence_cli.cli import run

DOCUMENT = Path(__file__).parent.parent / "docs" / "tables.md"
HEAD = "age,site,died\n"
AGES = (40, 41, 40, 52, 63, 41, 74, 52, 63, 63, 49, 77)
ROWS = [f"{age},{'NSW'[at % 3]},{'yes' if at % 4 else 'no'}\n" for at, age in enumerate(AGES)]
GOOD = HEAD + "".join(ROWS)
LABEL = ("--label", "died")


def column(name, values, *, separator=",", head="age,died"):
    """The good table's ages and labels with one more column in front of them."""
    lines = [f"{value}{separator}{row.split(',')[0]}{separator}{row.rstrip().split(',')[2]}\n" for value, row in zip(
        values, ROWS, strict=True
    )]  # fmt: skip
    return f"{name}{separator}{head.replace(',', separator)}\n" + "".join(lines)


def parquet():
    frame = pl.read_csv(io.StringIO(GOOD)).with_columns(patient=pl.Series([f"P{at:02}" for at in range(12)]))
    file = io.BytesIO()
    frame.write_parquet(file, metadata={"pandas": '{"index_columns": ["patient"]}'})
    return file.getvalue()


INTRODUCTION = """# Tables

A table is a file of the kind `.csv`, `.tsv`, `.txt` (or `.gz` of these) or `.parquet`, or several of them as one
(`--data 'part-*.csv'`, in the order of their names). `--label COLUMN` says what to predict; every other column is a
feature, unless `--drop` or `--id` names it, or it names or numbers the rows. Numbers are standardised, true and false
are 1 and 0, text gives a 0/1 column for each of its values. Where something was guessed, `ginf train` says it in one
line a column on stderr; an option decides otherwise.

Counts: `--label claims --exposure years --estimator poisson` makes the response claims / years, a rate, and lets rows
weigh by their years: the same model as that of the claims with the offset log(years). `--successes won --trials
played` is binomial regression: the response is won / played, a share, and rows weigh by what was played. Removing a
row removes its whole exposure, or all of its trials; losses and predictions are those of one year, or one trial, and a
mean over rows (`--test mean`) counts each row once, while training and D squared weigh it. An exposure of 0 or less,
and more successes than trials, are refused by record. Neither column is a feature; both can name groups. In Python:
`GroupInfluence.fit(X, claims, exposure=years, estimator="poisson")`, `fit(X, won, trials=played,
estimator="binomial")`.

What stands here is what `ginf train --data stays.csv --label died` prints, and its exit code. The good table has the
columns `age,site,died` and 12 rows. `tests/test_tables_page.py` makes this page and holds it true.

"""
READ = "## What is read, and what is said about it\n\n| the table | what is said | code |\n|---|---|---|\n"
REFUSED = "\n## What is refused, and what to do\n\n| the table | the answer | code |\n|---|---|---|\n"

PUBLISHED = """
## Ten published tables

`python benchmarks/published_tables.py FOLDER` trains on each of these that lies in FOLDER, looks for what must be
said, and holds one `by:` audit against retraining; what came out of the files as they are published is in
[benchmarks/results/published-tables.md](../benchmarks/results/published-tables.md). Below are where a table is
published, the names that its file may have, lines made up in the shape of its first ones, and how it is trained. Files
of the UCI repository have no line of names: the script writes it above them, in a copy.
"""

ACCEPTED: dict[str, tuple[str | bytes, tuple[str, ...]]] = {
    "as it should be": (GOOD, LABEL),
    "separated by semicolons, with decimal commas": (
        column("dose", [f"{at % 5},{at % 7}" for at in range(12)], separator=";"),
        LABEL,
    ),
    "separated by tabs, named .csv": (GOOD.replace(",", "\t"), LABEL),
    "lines that end in CR": (GOOD.replace("\n", "\r"), LABEL),
    "a title above the header": ("Stays of 2024\n\n" + GOOD, LABEL),
    "a title above the header, as spreadsheets write it": ("Stays of 2024,,\n,,\n" + GOOD, LABEL),
    "a comment above the header": ("# exported by hand\n# twice\n" + GOOD, LABEL),
    "Excel's `sep=;`": ("sep=;\n" + GOOD.replace(",", ";"), LABEL),
    "Latin-1": (GOOD.replace("W", "Orl\xe9ans").encode("latin-1"), LABEL),
    "UTF-16": (GOOD.encode("utf-16"), LABEL),
    "a quote in quotes that is not doubled": (GOOD.replace("W", '"5 \\" pipe"'), LABEL),
    "an inch sign in a plain field": (GOOD.replace("W", '5" pipe'), LABEL),
    "empty lines": (GOOD.replace("\n41", "\n\n41"), LABEL),
    "a header of numbers": (GOOD.replace("age,site,died", "0,1,2"), ("--label", "2")),
    "row names without a header": (
        HEAD + "".join(f'"{at}",{row}' for at, row in enumerate(ROWS, 1)),
        LABEL,
    ),
    "a column without a name": (column("", range(100, 112)), LABEL),
    "a column that counts the rows": (column("rownames", range(1, 13)), LABEL),
    "an index that pandas stored (.parquet)": (parquet(), LABEL),
    "a column name twice": (GOOD.replace("site", "age", 1), LABEL),
    "text that differs in every row": (column("name", [f"Person {at * 7 % 12}" for at in range(12)]), LABEL),
    "whole numbers that differ in every row": (column("insured", [at * 31 % 97 + 5 for at in range(12)]), LABEL),
    "numbers with thousands": (column("income", [f'"{1000 + 371 * (at % 7):,}"' for at in range(12)]), LABEL),
    "amounts of money": (column("income", [f'"${1000 + 371 * (at % 7):,}"' for at in range(12)]), LABEL),
    "a comma in doubt, and --decimal": (
        column("dose", [f'"{at % 5},{at % 7}"' for at in range(12)]),
        (*LABEL, "--decimal", ","),
    ),
    "percentages": (column("share", [f"{at % 7}%" for at in range(12)]), LABEL),
    "numbers and signs for a missing value": (
        column("score", ["?" if at == 3 else at % 7 for at in range(12)]),
        (*LABEL, "--impute", "median"),
    ),
    "rows with a missing value, and --drop-missing": (GOOD.replace("40,", ","), (*LABEL, "--drop-missing")),
    "text with signs for a missing value": (
        column("work", ["?" if at == 3 else "abc"[at % 3] for at in range(12)]),
        LABEL,
    ),
    "a word of one's own for a missing value": (
        column("score", ["lost" if at == 3 else at % 7 for at in range(12)]),
        (*LABEL, "--missing", "lost", "--impute", "median"),
    ),
    "-999 for a missing value, written -999.0": (
        column("score", ["-999.0" if at == 3 else at % 7 + 0.5 for at in range(12)]),
        (*LABEL, "--missing", "-999", "--impute", "median"),
    ),
    "true and false, some as 1 and 0": (column("smoker", ["TRUE", "FALSE", "1", "0"] * 3), LABEL),
    "whole numbers longer than a number holds": (
        column("account", [10**19 + at % 3 for at in range(12)]),
        LABEL,
    ),
    "dates and words for none": (
        column("day", ["NaT" if at == 3 else f"{at + 10}/01/2024" for at in range(12)]),
        (*LABEL, "--date", "ordinal", "--impute", "median"),
    ),
    "codes with leading zeros": (column("zip", [("01234", "02139", "90210")[at % 3] for at in range(12)]), LABEL),
    "categories in capitals and not": (column("smoker", ["yes", "no", "Yes", "no"] * 3), LABEL),
    "codes that are categories": (
        column("region", [at % 3 for at in range(12)]),
        (*LABEL, "--categorical", "region"),
    ),
    "few sorts of numbers, and one with a sign": (
        column("rooms", [("1", "2", "3+")[at % 3] for at in range(12)]),
        LABEL,
    ),
    "dates, and --date ordinal": (
        column("day", [f"{at + 10}/01/2024" for at in range(12)]),
        (*LABEL, "--date", "ordinal"),
    ),
    "categories without a penalty": (GOOD, (*LABEL, "--l2", "0", "--test-fraction", "0")),
    "a category that only test rows have": (GOOD, (*LABEL, "--test-data", "other.csv")),
}

CASES: dict[str, tuple[str | bytes, tuple[str, ...]]] = {
    "a row with too few fields": (GOOD + "52,N\n", LABEL),
    "a row with too many fields": (GOOD + "52,N,yes,7\n", LABEL),
    "a quote that is never closed": (GOOD + '52,"N,yes\n', LABEL),
    "no --label": (GOOD, ()),
    "a label that is no column": (GOOD, ("--label", "Died")),
    "a label that is missing in some rows": (GOOD.replace("yes", "", 2), LABEL),
    "a constant label": (GOOD.replace("no", "yes"), LABEL),
    "a class with a single row": (GOOD + "52,N,maybe\n", LABEL),
    "a class that only the test rows have": (GOOD, (*LABEL, "--test-data", "later.csv")),
    "a label name twice": (GOOD.replace("site", "died", 1), LABEL),
    "no line of names": ("40,1,0\n41,2,1\n", LABEL),
    "binary": (b"\0\1\2\3" * 9, LABEL),
    "a workbook": (b"PK\3\4" + b"\0" * 99, LABEL),
    "empty": ("", LABEL),
    "names and no rows": (HEAD, LABEL),
    "one row": (HEAD + ROWS[0], LABEL),
    "the names again between the rows": (GOOD + GOOD, LABEL),
    "a line of totals": (
        column("ward", [*(f"A{at % 3}" for at in range(11)), "Total"]).replace("Total,77", "Total,578"),
        LABEL,
    ),
    "identifiers that occur twice": (
        column("id", ["P1", "P2", *(f"Q{at}" for at in range(9)), "P1"]),
        (*LABEL, "--id", "id"),
    ),
    "too many categories": (
        "patient,died\n" + "".join(f"P{at // 2},{at % 2}\n" for at in range(8_000)),
        LABEL,
    ),
    "missing values": (GOOD.replace("40,", ",").replace("41,", "NA,"), LABEL),
    "dates as a feature": (column("day", [f"2024-01-{at:02}" for at in range(1, 13)]), LABEL),
    "dates in which day and month look alike": (
        column("day", [f"{at % 12 + 1}/{at % 5 + 1}/2024" for at in range(12)]),
        (*LABEL, "--date", "ordinal"),
    ),
    "a number that is none": (column("score", ["old" if at == 3 else at % 7 for at in range(12)]), LABEL),
    "a comma in doubt": (column("dose", [f'"{at % 5},{at % 7}"' for at in range(12)]), LABEL),
    "percentages among shares": (
        column("share", [f"{at % 7}%" if at % 2 else f"0.{at}" for at in range(12)]),
        LABEL,
    ),
    "dates and other words": (
        "day,died\n"
        + "".join(f"{'see note' if at == 3 else f'2024-01-{at + 1:02}'},{'ny'[at % 2]}\n" for at in range(24)),
        LABEL,
    ),
    "an infinite number": (GOOD.replace("41,", "1e999,"), LABEL),
    "text in the test rows where the training rows have numbers": (
        GOOD.replace("N,", "1,").replace("S,", "2,").replace("W,", "3,"),
        (*LABEL, "--test-data", "other.csv"),
    ),
    "no feature left": (GOOD, (*LABEL, "--drop", "age,site")),
    "only features that name rows": (column("name", [f"Person {at}" for at in range(12)]), (*LABEL, "--drop", "age")),
}


def printed(content: str | bytes, options: tuple[str, ...]) -> tuple[list[str], int, bool]:
    """The lines on stderr about the table, the exit code, and whether there is a model."""
    name = "stays.parquet" if isinstance(content, bytes) and content[:4] == b"PAR1" else "stays.csv"
    with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):
        Path(name).write_bytes(content if isinstance(content, bytes) else content.encode())
        Path("later.csv").write_text(HEAD + "60,N,perhaps\n", encoding="utf-8")
        Path("other.csv").write_text(HEAD + "60,Mars,yes\n", encoding="utf-8")
        said = io.StringIO()
        with contextlib.redirect_stderr(said), contextlib.redirect_stdout(io.StringIO()):
            code = run(["train", "--data", name, *options, "-o", "m.h5"])
        return said.getvalue().splitlines(), code, Path("m.h5").exists()


def accepted(case: str) -> str:
    lines, code, made = printed(*ACCEPTED[case])
    assert code == 0 and made, lines
    prefixes = ("ginf: stays.csv: ", "ginf: stays.parquet: ")
    said = [line.removeprefix(prefixes[0]).removeprefix(prefixes[1]) for line in lines if line.startswith(prefixes)]
    return "<br>".join(said) if said else "nothing"


def refused(case: str) -> tuple[str, int]:
    lines, code, made = printed(*CASES[case])
    assert not made
    errors = [at for at, line in enumerate(lines) if line.startswith("ginf: error: ")]
    assert len(errors) == 1 and len(lines) <= errors[0] + 2, lines
    error, *hint = lines[errors[0] :]
    assert error.startswith("ginf: error: stays.csv: ") or "--test-data" in CASES[case][1], lines
    answer = error.removeprefix("ginf: error: ").removeprefix("stays.csv: ")
    return answer + (f"<br>*{hint[0].strip().removeprefix('hint: ')}*" if hint else ""), code


def line(case: str, answer: str, code: int) -> str:
    cells = (case, answer.replace("\\", "\\\\"), str(code))
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |\n"


@pytest.mark.parametrize("case", ACCEPTED)
def test_the_page_says_what_is_said_of_a_table_that_is_read(case):
    assert line(case, accepted(case), 0) in DOCUMENT.read_text(encoding="utf-8")


@pytest.mark.parametrize("case", CASES)
def test_the_page_has_the_sentence_for_a_table_that_is_refused(case):
    assert line(case, *refused(case)) in DOCUMENT.read_text(encoding="utf-8")


def test_the_page_has_nothing_else():
    text = DOCUMENT.read_text(encoding="utf-8")
    assert text.startswith(INTRODUCTION + READ) and REFUSED in text
    rows = [row.split(" | ")[0].removeprefix("| ") for row in text.splitlines() if row.startswith("| ")]
    assert rows == ["the table", *ACCEPTED, "the table", *CASES]
    assert text.endswith(published())


def published() -> str:
    """The section about the tables of benchmarks/published_tables.py."""
    parts = [PUBLISHED]
    for table in published_tables.TABLES:
        shape = (table.header, *table.lines) if table.header else table.lines
        lines = [line.replace("{row}", str(row)) for row, line in enumerate(shape)]
        train = f"ginf train --data {table.files[0]} {shlex.join(table.options)}"
        names = ", ".join(f"`{name}`" for name in table.files)
        above = ", the names written above" if table.header else ""
        parts.append(f"\n**{table.name}** ({table.source}; {names}{above})\n\n")
        parts += [f"    {line}\n" for line in lines]
        parts.append(f"\n    {train}\n    ginf influence --group {shlex.quote(table.group)} --test mean --verify\n")
    return "".join(parts)


if __name__ == "__main__":
    read = "".join(line(case, accepted(case), 0) for case in ACCEPTED)
    not_read = "".join(line(case, *refused(case)) for case in CASES)
    DOCUMENT.write_text(INTRODUCTION + READ + read + REFUSED + not_read + published(), encoding="utf-8")


def test_a_missing_value_is_named_and_the_common_part_still_stands_once():
    from influence_cli.present.words import common_part

    assert common_part(["column:sex=f", "column:sex=m", "column:sex="]) == ("column:sex=", ["f", "m", "(missing)"])
    assert common_part(["coherent:ill: no", "coherent:ill: yes"]) == ("coherent:", ["ill: no", "ill: yes"])


def test_long_words_are_broken_behind_a_mark(monkeypatch):
    """They were cut where the column ended: Nord-Pas-de-Calai, and s in the next line."""
    from influence_cli.present.tables import _folded

    assert _folded("Region=Nord-Pas-de-Calais", 24) == "Region=Nord-Pas-de-\nCalais"
    assert _folded("medical_specialty=Surgery-General", 24) == "medical_specialty=\nSurgery-General"
    assert _folded("a short name", 24) == "a short name"
    assert _folded("x" * 30, 24) == "x" * 30
    assert _folded("all paid back,region=Nord,plan=Premium", 24) == "all paid back,\nregion=Nord,\nplan=Premium"
    assert _folded("none, or all paid,service_region=North", 24) == "none, or all paid,\nservice_region=North"


def test_what_is_meant_to_be_pasted_stays_in_one_line(monkeypatch, capsys):
    import sys

    from influence_cli.present.tables import Block, Page, write_page

    monkeypatch.setenv("COLUMNS", "40")
    command = "to ask about the first: --group 'column:hospital=Hospital 08,days=8..13'"
    write_page(Page("t", (Block("", ("a",), [("b",)], below=(command,)),)), "table", sys.stdout, color=False)
    assert command in capsys.readouterr().out.splitlines()
