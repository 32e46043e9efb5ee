"""Rows read again in every pass beside rows in memory: processor time, peak memory and passes of each command.

    python benchmarks/scale.py --rows 2000000 --memory 400MB --results benchmarks/results

Each command runs twice as a process of its own, on one thread, first with ``--memory`` and then without; both models
are linked to one ``.npz`` of that many rows of 50 features, and the figures that they print are held to each other.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

import h5py
import numpy as np

FEATURES, TESTS = 50, 1000
RUN = """
import sys, resource
from influence_cli.cli import run
from influence_cli.data.stored import ReadSoFar
total = [0, 0.0]
add = ReadSoFar.add
def counted(self, count, seconds):
    total[0] += count; total[1] += seconds
    add(self, count, seconds)
ReadSoFar.add = counted
code = run(sys.argv[1:])
used = resource.getrusage(resource.RUSAGE_SELF)
peak = next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith("VmHWM"))
print(used.ru_utime + used.ru_stime, peak * 1024, total[0], total[1], file=sys.stderr)
sys.exit(code)
"""
COMMANDS = {
    "train": [],
    "influence, 100 groups of 1%, first,second": ["--group", "random:1%x100", "--method", "first,second"],
    "influence, 20 groups of 10 rows, refined": ["--group", "random:10x20"],
    "groundtruth, 16 groups of 1%": ["--group", "random:1%x16"],
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--memory", default="300MB")
    parser.add_argument("--results", type=Path)
    asked = parser.parse_args()
    with TemporaryDirectory() as folder:
        os.chdir(folder)
        _make(asked.rows)
        rows = [_measure(name, options, asked.rows, asked.memory) for name, options in COMMANDS.items()]
    lines = [
        f"{asked.rows:,} rows of {FEATURES} features, {8e-6 * FEATURES * asked.rows:,.0f} MB; --memory {asked.memory};"
        " one thread; peak memory with Python's 100 MB.",
        "",
        "| command | passes | GB/s read | processor s, streamed | in memory | ratio | peak MB, streamed | in memory"
        " | differ |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        lines.append(
            f"| {row['command']} | {row['passes']:.1f} | {row['rate']:.1f} | {row['cpu']:.2f} | {row['memory_cpu']:.2f}"
            f" | {row['cpu'] / row['memory_cpu']:.2f} | {row['peak'] / 1e6:.0f} | {row['memory_peak'] / 1e6:.0f}"
            f" | {row['differ']:.0e} |"
        )
    print("\n".join(lines))
    if asked.results is not None:
        (asked.results / "scale.md").write_text("\n".join(["# Streaming beside memory", "", *lines, ""]))
        (asked.results / "scale.json").write_text(json.dumps(rows, indent=1) + "\n")


def _make(rows: int) -> None:
    rng = np.random.default_rng(0)
    X = rng.normal(size=(rows + TESTS, FEATURES))
    y = (X @ rng.normal(size=FEATURES) * 0.3 + rng.logistic(size=rows + TESTS) > 0).astype(np.int64)
    np.savez("data.npz", X_train=X[:rows], y_train=y[:rows], X_test=X[rows:], y_test=y[rows:])


def _measure(command: str, options: list[str], rows: int, memory: str) -> dict[str, float | str]:
    name = command.split(",")[0]
    found: dict[str, float | str] = {"command": command}
    for way, limit in (("", ["--memory", memory]), ("memory_", [])):
        arguments = ["--data", "data.npz", "--link-data"] if name == "train" else ["--model", f"{way}m.h5", *options]
        output = f"{way}m.h5" if name == "train" else f"{way}out.csv"
        asked = [
            *arguments,
            *([] if name == "train" else ["--test", "0:10"]),
            *limit,
            "-o",
            output,
            "--force",
            "--quiet",
        ]
        done = subprocess.run(
            [sys.executable, "-c", RUN, name, *asked],
            env=os.environ | {"OPENBLAS_NUM_THREADS": "1"},
            capture_output=True,
            text=True,
            check=True,
        )
        cpu, peak, read, seconds = (float(number) for number in done.stderr.split()[-4:])
        found |= {f"{way}cpu": cpu, f"{way}peak": peak}
        if not way:
            found |= {"passes": read / (8.0 * FEATURES * rows), "rate": read / 1e9 / max(seconds, 1e-9)}
    found["differ"] = _parameters_differ() if name == "train" else _differ()
    return found


def _parameters_differ() -> float:
    """The largest difference of a parameter of the two models, relative to the largest parameter."""
    one, other = (h5py.File(name)["params/theta"][()] for name in ("m.h5", "memory_m.h5"))
    return float(np.abs(one - other).max() / np.abs(other).max())


def _differ() -> float:
    """The largest difference of a figure, relative to the largest of its column."""
    tables = [list(csv.DictReader(Path(name).read_text().splitlines())) for name in ("out.csv", "memory_out.csv")]
    worst = 0.0
    for key in ("first", "second", "refined", "actual"):
        if key in tables[0][0]:
            one, other = (np.array([float(row[key]) for row in table]) for table in tables)
            worst = max(worst, float(np.abs(one - other).max() / np.abs(other).max()))
    return worst


if __name__ == "__main__":
    main()
