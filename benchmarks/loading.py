"""Loading 1,000,000 rows x 50 columns: a CSV beside polars reading it alone, and an .npz beside NumPy reading it.

    python benchmarks/loading.py [--rows 1000000] [--columns 50] [--repeats 3] [--results FILE.md]

Each side is a process of its own, in turn; times are those of the reading alone, without imports, and peak memory is
the whole process's, in X: the numbers of all rows as float64.  Memory that the machine has never handed out is slow at
first use, so 2.4 GB are touched before each side.
"""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path
from statistics import median

from harness import environment, options
from processes import process

WRITE = """
import sys, numpy as np, polars as pl
rng, rows, columns = np.random.default_rng(0), int(sys.argv[2]), int(sys.argv[3])
X = rng.normal(size=(rows, columns))
y = (X[:, 0] + rng.normal(size=rows) > 0).astype(int)
pl.DataFrame({**{f"x{j}": X[:, j] for j in range(columns)}, "y": y}).write_csv(sys.argv[1] + ".csv")
np.savez(sys.argv[1] + ".npz", X=X, y=y)
"""
TIMED = """
import json, sys, time
{imports}
wall, processor = time.perf_counter(), time.process_time()
{read}
print(json.dumps([time.perf_counter() - wall, time.process_time() - processor]))
"""
TOUCH = "import numpy; numpy.empty(300_000_000).fill(1)"
GINF = "from influence_cli.data.load import load\nfrom influence_cli.data.options import TableOptions\nimport polars"
SIDES = {
    "CSV, polars alone": ("import polars", "polars.read_csv(sys.argv[1] + '.csv')"),
    "CSV, ginf": (GINF, "load(sys.argv[1] + '.csv', task='classification', table=TableOptions(label='y'))"),
    "npz, NumPy alone": ("import numpy", "found = numpy.load(sys.argv[1] + '.npz'); X, y = found['X'], found['y']"),
    "npz, ginf": (GINF, "load(sys.argv[1] + '.npz', task='classification')"),
}
TARGETS = {"CSV, ginf": (1.4, 1.6)}
"""Of the time beside the side above, and of the peak in X."""


def main() -> int:
    parser = options(__doc__)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--columns", type=int, default=50)
    parser.add_argument("--results", type=Path, help="Markdown file to write")
    chosen = parser.parse_args()
    found: dict[str, list[tuple[float, float, int]]] = {name: [] for name in SIDES}
    with tempfile.TemporaryDirectory() as folder:
        stem = str(Path(folder) / "table")
        process(sys.executable, "-c", WRITE, stem, str(chosen.rows), str(chosen.columns))
        for _ in range(chosen.repeats):
            for name, (imports, read) in SIDES.items():
                process(sys.executable, "-c", TOUCH)
                done = process(sys.executable, "-c", TIMED.format(imports=imports, read=read), stem)
                wall, processor = json.loads(done.output)
                found[name].append((wall, processor, done.peak))
    lines = shown(found, 8.0 * chosen.rows * chosen.columns)
    print("\n".join([environment(), "", *lines]))
    if chosen.results:
        title = f"# Loading {chosen.rows:,} rows x {chosen.columns} columns"
        text = [title, "", "Made by `python benchmarks/loading.py --results FILE`.", "", environment(), "", *lines]
        chosen.results.write_text("\n".join(text) + "\n", encoding="utf-8")
    return 0


def shown(found: dict[str, list[tuple[float, float, int]]], size: float) -> list[str]:
    """A Markdown table; ratios are medians over the runs, each beside the side above in the same run."""
    lines = [
        "| what | wall, s | processor, s | wall ratio | processor ratio | peak, X = 1 | target |",
        "|---|---|---|---|---|---|---|",
    ]
    before: list[tuple[float, float, int]] = []
    for name, runs in found.items():
        wall, processor, peak = (median(run[place] for run in runs) for place in range(3))
        ratios = "| - | - "
        if name.endswith("ginf"):
            pairs = list(zip(runs, before, strict=True))
            ratios = "".join(f"| {median(own[at] / other[at] for own, other in pairs):.2f} " for at in (0, 1))
        target = "{} and {} X".format(*TARGETS[name]) if name in TARGETS else "-"
        lines.append(f"| {name} | {wall:.2f} | {processor:.2f} {ratios}| {peak / size:.2f} | {target} |")
        before = runs
    return lines


if __name__ == "__main__":
    sys.exit(main())
