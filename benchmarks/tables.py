"""A CSV of 1,000,000 rows x 30 columns: `ginf train` and `ginf influence` on it, beside polars reading it alone.

    python benchmarks/tables.py [--rows 1000000] [--folder KEEP]

24 columns of numbers, 5 of text (3 to 40 categories each; one of them, `site`, names groups) and the label.  Each
command is a process of its own, and its time and peak memory are those of the whole process; memory stands beside the
features of all rows as numbers of 8 bytes.
"""

from __future__ import annotations

import json
import sys
import tempfile
from argparse import Namespace
from pathlib import Path

from harness import environment, options
from processes import Finished, ginf, process

NUMBERS = 24
CATEGORIES = (3, 5, 8, 20)
SITES = 40
BLOCK = 100_000
"""Rows written at a time."""


def main() -> int:
    parser = options(__doc__)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--folder", type=Path, help="folder for the table and the model, kept  [a temporary one]")
    parser.add_argument("--write", type=Path, help="only write the table")
    chosen = parser.parse_args()
    if chosen.write:
        write(chosen.write, chosen.rows)
        return 0
    with tempfile.TemporaryDirectory() as temporary:
        found = measure(chosen.folder or Path(temporary), chosen.rows)
    print("\n".join(shown(found, chosen)))
    if chosen.json:
        with Path(chosen.json).open("a", encoding="utf-8") as file:
            arguments = {key: str(value) for key, value in vars(chosen).items()}
            record = {"title": "tables", "environment": environment(), "arguments": arguments, "rows": found}
            file.write(json.dumps(record) + "\n")
    return 0


def write(path: Path, rows: int) -> None:
    """The table, block by block; a logistic model of some columns with noise."""
    import numpy as np
    import polars as pl

    rng = np.random.default_rng(0)
    slopes = rng.normal(size=NUMBERS) / NUMBERS**0.5
    effects = [rng.normal(size=count) for count in (*CATEGORIES, SITES)]
    with path.open("wb") as file:
        for start in range(0, rows, BLOCK):
            count = min(BLOCK, rows - start)
            X = np.round(rng.normal(size=(count, NUMBERS)) * 10.0, 3)
            X[:, ::3] = np.round(X[:, ::3])
            codes = [rng.integers(0, len(effect), count) for effect in effects]
            score = X @ slopes / 10.0 + sum(effect[code] for effect, code in zip(effects, codes, strict=True))
            columns = {f"x{number}": X[:, number] for number in range(NUMBERS)}
            columns |= {f"x{number}": X[:, number].astype(int) for number in range(0, NUMBERS, 3)}
            columns |= {f"c{number}": [f"v{code}" for code in one] for number, one in enumerate(codes[:-1])}
            columns |= {"site": [f"site {code:02}" for code in codes[-1]]}
            columns |= {"y": np.where(score + rng.logistic(size=count) > 0, "yes", "no")}
            pl.DataFrame(columns).write_csv(file, include_header=start == 0)


def measure(folder: Path, rows: int) -> list[dict]:
    """This process stays small: see ``processes``."""
    table, model = folder / "table.csv", folder / "model.h5"
    folder.mkdir(parents=True, exist_ok=True)
    if not table.exists():
        process(sys.executable, __file__, "--write", str(table), "--rows", str(rows))
    read = f"import polars; print(polars.read_csv({str(table)!r}, infer_schema_length=10_000).shape)"
    alone = process(sys.executable, "-c", read)
    train = ("--data", str(table), "--label", "y", "--drop", "site", "-o", str(model), "--force", "--quiet")
    trained = ginf("train", *train, "--format", "json")
    (record,) = json.loads(trained.output)
    ask = ("--model", str(model), "--test", "0:10", "--method", "first,second", "--evaluate", "linear", "--quiet")
    sites = ginf("influence", *ask, "--group", "by:site")
    bytes_of_features = 8.0 * (record["rows"] + record["test_rows"]) * record["features"]
    return [
        line("polars.read_csv alone", alone, alone, bytes_of_features),
        line("ginf train", trained, alone, bytes_of_features) | {"features": record["features"], "model": record},
        line(f"ginf influence, {SITES} sites x 10 test rows", sites, alone, bytes_of_features),
    ]


def line(what: str, done: Finished, alone: Finished, features: float) -> dict:
    return {
        "what": what,
        "seconds": done.seconds,
        "processor_seconds": done.processor,
        "peak_bytes": done.peak,
        "times_polars": done.processor / alone.processor,
        "peak_times_polars": done.peak / alone.peak,
        "peak_per_features": done.peak / features,
    }


def shown(found: list[dict], chosen: Namespace) -> list[str]:
    lines = [f"{chosen.rows:,} rows x {NUMBERS + len(CATEGORIES) + 2} columns.  {environment()}", ""]
    lines += [
        "| process | s | processor s | beside polars | peak MB | beside polars | beside the features |",
        "|" + "---|" * 7,
    ]
    for row in found:
        lines.append(
            f"| {row['what']} | {row['seconds']:.1f} | {row['processor_seconds']:.1f} | {row['times_polars']:.1f}"
            f" | {row['peak_bytes'] / 1e6:,.0f}"
            f" | {row['peak_times_polars']:.1f} | {row['peak_per_features']:.2f} |"
        )
    return lines


if __name__ == "__main__":
    sys.exit(main())
