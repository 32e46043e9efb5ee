"""Write docs/screens.md, what every command shows: ``python benchmarks/screens.py``.

The data are sample_data/strikes.csv and three tables that are made here: scikit-learn's wine with a cellar for each
bottle, its diabetes data, and loans of four branches of which one treats men and women differently.
"""

from __future__ import annotations

import csv
import io
import os
import random
import shlex
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import chdir, redirect_stderr, redirect_stdout
from pathlib import Path
from tempfile import TemporaryDirectory

from influence_cli.cli import run

ROOT = Path(__file__).parent.parent
PAGE = ROOT / "docs" / "screens.md"
WIDTHS = (80, 100, 160)
TASKS = {
    "A data scientist: which airports drive this prediction?": (
        "ginf train --data strikes.csv --label damaged --drop airport,operator --id report -o site.h5",
        "ginf influence -m site.h5 -g by:airport -t id:7413 --quantity prob:1 --verify --top 5",
    ),
    "A statistician: does the sign of a coefficient hang on one cluster?": (
        "ginf train --data diabetes.csv --label progression --estimator linear --l2 0 -o dia.h5",
        "ginf influence -m dia.h5 -g cluster:6 --quantity param:age --verify",
    ),
    "An auditor: does the gap between men and women hang on one branch? And a page for the board": (
        "ginf train --data loans.csv --label approved --id loan -o loans.h5",
        "ginf influence -m loans.h5 -g by:branch -t all --quantity gap:sex:yes --verify -o gap.h5",
        "ginf report gap.h5 -o board.html",
    ),
}
"""From a table to a verified, sorted answer in two commands; the report is the page."""
EVERY_COMMAND = {
    "strikes": (
        "ginf train --data strikes.csv --label damaged --drop airport,operator --id report -o m.h5",
        "ginf influence -m m.h5 -g by:phase -t 17 --quantity prob:1 --top 4 -o i.h5",
        "ginf influence -m m.h5 -g by:phase -t 17 --quantity prob:1 --certify 1% --verify --top 3",
        "ginf groundtruth -m m.h5 -g by:phase -t 17 --quantity prob:1 --top 4 -o t.h5",
        "ginf select -m m.h5 -t 17 --size 10 --verify",
        "ginf select -m m.h5 -t id:7269 --flip",
        "ginf compare i.h5 t.h5",
        "ginf show i.h5 --top 2",
    ),
    "wine": (
        "ginf train --data wine.csv --label cultivar --drop cellar --id bottle -o m.h5",
        "ginf influence -m m.h5 -g by:cellar -t 3 -o i.h5",
        "ginf influence -m m.h5 -g by:cellar -t 3 --certify 1% --verify",
        "ginf groundtruth -m m.h5 -g by:cellar -t 3 -o t.h5",
        "ginf select -m m.h5 -t 3 --size 5 --verify",
        "ginf select -m m.h5 -t 3 --flip",
        "ginf compare i.h5 t.h5",
        "ginf show m.h5 --top 5",
    ),
}


def page() -> Iterator[str]:
    """The document, line by line."""
    yield from (
        "# Screens",
        "",
        "What the commands show, as `python benchmarks/screens.py` has recorded it: standard output and standard error"
        " of each,",
        "on a terminal of the width that the section names. The third task's page for the board, as a browser shows it"
        " at 1,400 and 500",
        "pixels:",
        "",
        "![the report at 1,400 pixels](pictures/report-1400.png)",
        "![the report at 500 pixels](pictures/report-narrow.png)",
    )
    for title, commands in TASKS.items():
        yield from ("", f"## {title}", "", *block(commands, 80))
    for data, commands in EVERY_COMMAND.items():
        for width in WIDTHS:
            yield from ("", f"## Every command on {data}, {width} columns", "", *block(commands, width))


def block(commands: Iterable[str], width: int) -> Iterator[str]:
    """Commands with what they print, each in a folder with the data."""
    yield "```text"
    with TemporaryDirectory() as folder:
        write_data(Path(folder))
        with chdir(folder):
            for command in commands:
                yield f"$ {command}"
                yield from screen(shlex.split(command)[1:], width)
    yield "```"


def screen(arguments: Sequence[str], width: int) -> list[str]:
    """What a command prints on a terminal of that width."""
    os.environ["COLUMNS"] = str(width)
    shown = io.StringIO()
    table = [] if arguments[0] == "report" else ["--format", "table"]
    with redirect_stdout(shown), redirect_stderr(shown):
        run([*arguments, *table])
    return [line.rstrip() for line in shown.getvalue().splitlines()]


def write_data(folder: Path) -> None:
    """The tables."""
    from sklearn.datasets import load_diabetes, load_wine

    (folder / "strikes.csv").write_bytes((ROOT / "sample_data" / "strikes.csv").read_bytes())
    drawn = random.Random(0)
    wine, diabetes = load_wine(), load_diabetes()
    cellars = [drawn.choice(["Alba", "Barolo", "Neive"]) for _ in wine.target]
    bottles = [f"B{number:03}" for number in range(len(cellars))]
    names = ["bottle", "cellar", "cultivar", *wine.feature_names]
    cultivars = [wine.target_names[code] for code in wine.target]
    _write(folder / "wine.csv", names, zip(bottles, cellars, cultivars, *wine.data.T, strict=True))
    _write(
        folder / "diabetes.csv",
        ["progression", *diabetes.feature_names],
        zip(diabetes.target, *diabetes.data.T, strict=True),
    )
    _write(folder / "loans.csv", ["loan", "branch", "sex", "income", "age", "approved"], _loans(drawn))


def _loans(drawn: random.Random) -> Iterator[tuple[object, ...]]:
    for number in range(600):
        branch, sex = drawn.choice(["North", "South", "East", "West"]), drawn.choice(["male", "female"])
        income = round(drawn.gauss(50, 15), 1)
        score = (income - 50) / 10 + (1.2 if sex == "male" and branch == "North" else 0.0) + drawn.gauss(0, 1)
        yield f"L{number:03}", branch, sex, income, drawn.randint(20, 70), "yes" if score > 0 else "no"


def _write(path: Path, names: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([names, *rows])


if __name__ == "__main__":
    PAGE.write_text("\n".join(page()) + "\n", encoding="utf-8")
    sys.exit(0)
