"""Tables that do not fit into memory: what converting one takes, beside polars' own streaming read of the same file.

    python benchmarks/conversion.py --rows 1000000 --memory 500MB --repeats 5 --results benchmarks/results

Each is a process of its own: polars' ``scan_csv`` in batches, which are let go; the conversion (parsing, columns,
features, checksums); and the same command again, which finds the store.  They are run in turn, and the least time of
each is what counts, and the largest memory.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import polars as pl

ROWS, FEATURES, PIECE = 1_000_000, 50, 100_000
WATCHED = """
import sys, resource, time
begun = time.perf_counter()
{work}
used = resource.getrusage(resource.RUSAGE_SELF)
peak = next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith("VmHWM"))
print(used.ru_utime + used.ru_stime, time.perf_counter() - begun, peak * 1024)
"""
SCANNED = """
import polars as pl
assert sum(batch.height for batch in pl.scan_csv("t.csv").collect_batches(maintain_order=True)) > 0
"""
LOADED = """
from influence_cli.data.load import load
from influence_cli.data.options import TableOptions
from influence_cli.memory import limited, parse
with limited(parse(sys.argv[1], "--memory")):
    found = load("t.csv", task="classification", table=TableOptions(label="y"))
assert found.streamed is not None
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=ROWS)
    parser.add_argument("--memory", default="500MB")
    parser.add_argument("--repeats", type=int, default=1)
    parser.add_argument("--results", type=Path)
    asked = parser.parse_args()
    results = None if asked.results is None else asked.results.absolute()
    with TemporaryDirectory(dir=".") as folder:
        os.chdir(folder)
        _make(asked.rows)
        size = Path("t.csv").stat().st_size
        works = {"polars, streaming read": SCANNED, "ginf, conversion": LOADED, "ginf, from the store": LOADED}
        runs: dict[str, list[dict[str, float]]] = {name: [] for name in works}
        for _ in range(asked.repeats):
            shutil.rmtree("t.csv.ginf-rows", ignore_errors=True)
            for name, work in works.items():
                runs[name].append(_measured(work, asked.memory))
        os.chdir("..")
    rows = {
        name: {key: best(run[key] for run in each) for key, best in (("cpu", min), ("wall", min), ("peak", max))}
        for name, each in runs.items()
    }
    base = rows["polars, streaming read"]
    lines = [
        f"{asked.rows:,} rows of {FEATURES} numbers and a column of text, a .csv of {size / 1e9:.2f} GB; --memory"
        f" {asked.memory}; the least of {asked.repeats} run{'s in turn' * (asked.repeats > 1)}.",
        "",
        "| what | processor s | over polars | wall s | over polars | peak MB |",
        "|---|---|---|---|---|---|",
        *(
            f"| {name} | {row['cpu']:.1f} | {row['cpu'] / base['cpu']:.2f} | {row['wall']:.1f}"
            f" | {row['wall'] / base['wall']:.2f} | {row['peak'] / 1e6:.0f} |"
            for name, row in rows.items()
        ),
    ]
    print("\n".join(lines))
    if results is not None:
        name = "conversion" if asked.rows == ROWS else f"conversion_{asked.rows // 10**6}m"
        (results / f"{name}.md").write_text("\n".join(["# Converting a table", "", *lines, ""]))
        (results / f"{name}.json").write_text(json.dumps(rows, indent=1) + "\n")


def _make(rows: int) -> None:
    rng = np.random.default_rng(0)
    slope = 0.3 * rng.normal(size=FEATURES)
    with Path("t.csv").open("wb") as file:
        for begin in range(0, rows, PIECE):
            X = rng.normal(size=(min(PIECE, rows - begin), FEATURES))
            y = (X @ slope + rng.logistic(size=len(X)) > 0).astype(np.int64)
            site = [f"s{one}" for one in rng.integers(0, 20, len(X))]
            table = pl.DataFrame({f"x{at}": column for at, column in enumerate(X.T)} | {"site": site, "y": y})
            table.write_csv(file, include_header=begin == 0)


def _measured(work: str, memory: str) -> dict[str, float]:
    done = subprocess.run(
        [sys.executable, "-c", WATCHED.format(work=work), memory], capture_output=True, text=True, check=True
    )
    cpu, wall, peak = (float(number) for number in done.stdout.split())
    return {"cpu": cpu, "wall": wall, "peak": peak}


if __name__ == "__main__":
    main()
