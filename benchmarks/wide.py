"""Fewer rows than columns: the four commands on 72 rows x 7,129 columns as processes, beside a dense factor.

    python benchmarks/wide.py [--rows 72] [--columns 7129] [--results FILE.md]

Binary and multinomial logistic and linear regression on a CSV.  The dense factor (`--solver cholesky`) is measured for
the binary model alone: of three classes it would have 21,390 rows.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import numpy as np
from harness import environment, options
from processes import Finished, ginf

MODELS = {
    "binary": ("--label", "two"),
    "three classes": ("--label", "three"),
    "linear": ("--label", "number", "--estimator", "linear"),
}
ASK = {
    "influence": ("--group", "random:5x5", "--test", "1,2"),
    "groundtruth": ("--group", "random:5x5", "--test", "1,2"),
    "select": ("--size", "5", "--test", "1", "--verify"),
}


def main() -> int:
    parser = options(__doc__)
    parser.add_argument("--rows", type=int, default=72)
    parser.add_argument("--columns", type=int, default=7129)
    parser.add_argument("--results", type=Path, help="Markdown file to write")
    chosen = parser.parse_args()
    lines = ["| model | solver | train | influence | groundtruth | select |", "|---|---|---|---|---|---|"]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "wide.csv"
        write(path, chosen.rows, chosen.columns)
        for name, label in MODELS.items():
            for solver in ("auto", "cholesky") if name == "binary" else ("auto",):
                cells = [cell(one) for one in commands(path, label, solver)]
                lines.append(f"| {name} | {solver} | {' | '.join(cells)} |")
    head = [f"# {chosen.rows} rows x {chosen.columns:,} columns: wall s (processor s), peak", "", environment(), ""]
    print("\n".join([*head, *lines]))
    if chosen.results:
        chosen.results.write_text("\n".join([*head, *lines]) + "\n", encoding="utf-8")
    return 0


def write(path: Path, rows: int, columns: int) -> None:
    """A table like a microarray's: one column in twenty tells the three classes apart."""
    rng = np.random.default_rng(0)
    three = rng.integers(3, size=rows)
    shift = rng.normal(size=(3, columns)) * (rng.random(columns) < 0.05)
    X = ((rng.normal(size=(rows, columns)) + shift[three]) * rng.lognormal(3, 1, size=columns)).round(1)
    number = X[:, :50] @ rng.normal(size=50)
    names = {"two": np.where(three > 0, "yes", "no"), "three": np.char.add("c", three.astype(str)), "number": number}
    for name, values in names.items():
        with path.with_name(f"{name}.csv").open("w", encoding="utf-8") as file:
            file.write(",".join(f"g{column}" for column in range(columns)) + f",{name}\n")
            for row, value in zip(X.tolist(), values.tolist(), strict=True):
                file.write(",".join(map(repr, row)) + f",{value}\n")


def commands(path: Path, label: tuple[str, ...], solver: str) -> list[Finished]:
    """The four commands, one after the other."""
    data, model = str(path.with_name(f"{label[1]}.csv")), str(path.with_suffix(".h5"))
    rest = ("--solver", solver, "--quiet", "--format", "csv")
    done = [ginf("train", "--data", data, *label, "-o", model, "--force", *rest)]
    return done + [ginf(command, "--model", model, *asked, *rest) for command, asked in ASK.items()]


def cell(one: Finished) -> str:
    return f"{one.seconds:.1f} ({one.processor:.1f}), {one.peak / 1e6:.0f} MB"


if __name__ == "__main__":
    sys.exit(main())
