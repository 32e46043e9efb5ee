"""Rows read again in every pass beside rows in memory: processor time, peak memory and passes of each command.

    python benchmarks/scale.py --rows 10000000 --memory 1GiB --results benchmarks/results
    python benchmarks/scale.py --kind sparse --rows 1000000 --memory 1GiB --results benchmarks/results
    python benchmarks/scale.py --kind forecast --results benchmarks/results

Each command runs as a process of its own, first with ``--memory`` and then without; the figures of both are held to
each other.  ``dense`` are 50 features in a ``.npz`` on one thread, ``sparse`` 20 to 50 numbers a row
of 100,000 features in a ``.svm``, and ``forecast`` ten runs of different shapes, whose peak is held to what was said.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import h5py
import numpy as np

ROWS, FEATURES, TESTS, WORDS = 1_000_000, 50, 1000, 100_000
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
SPARSE = {
    "train, with the conversion": [],
    "train, from the store": [],
    "influence, 8 groups of 1%, first,second,refined": ["--group", "random:1%x8"],
    "groundtruth, 4 groups of 1%": ["--group", "random:1%x4"],
    "select, 0.1%": ["--size", "0.1%", "--test", "0"],
}
SHAPES = {  # rows, features, classes, --memory, whether as a table
    "narrow": (2_000_000, 7, 2, "260MB", False),
    "table": (1_000_000, 7, 2, "290MB", True),
    "usual": (160_000, 50, 2, "185MB", False),
    "classes": (200_000, 60, 5, "240MB", False),
    "wide": (40_000, 400, 2, "230MB", False),
}
ASKED = {
    "train": [],
    "influence": ["--group", "random:1%x50", "--method", "first,second"],
    "groundtruth": ["--group", "random:1%x16"],
}


@dataclass(frozen=True)
class Ran:
    """What one command took: seconds of the processor, bytes at the peak, what it read, and what it said before."""

    cpu: float
    peak: float
    read: float
    reading: float
    said: float | None


def ran(*arguments: str, threads: int = 1) -> Ran:
    """One command as a process of its own."""
    done = subprocess.run(
        [sys.executable, "-c", RUN, *arguments, "--force"],
        env=os.environ | {"OPENBLAS_NUM_THREADS": str(threads)},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise RuntimeError(f"{arguments}: {done.stderr}")
    said = re.search(r"memory will reach about ([\d.]+) (MB|GB)", done.stderr)
    forecast = None if said is None else float(said[1]) * (1e6 if said[2] == "MB" else 1e9)
    return Ran(*(float(number) for number in done.stderr.split()[-4:]), forecast)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kind", choices=("dense", "sparse", "forecast"), default="dense")
    parser.add_argument("--rows", type=int, default=ROWS)
    parser.add_argument("--memory", default="300MB")
    parser.add_argument("--results", type=Path)
    asked = parser.parse_args()
    results = None if asked.results is None else asked.results.absolute()
    with TemporaryDirectory() as folder:
        os.chdir(folder)
        made = {"dense": _dense, "sparse": _sparse, "forecast": _forecast}[asked.kind]
        rows, lines = made(asked.rows, asked.memory)
    print("\n".join(lines))
    if results is not None:
        dense = "scale" if asked.rows == ROWS else f"scale_{asked.rows // 10**6}m"
        name = dense if asked.kind == "dense" else f"scale_{asked.kind}"
        (results / f"{name}.md").write_text("\n".join(["# Streaming beside memory", "", *lines, ""]))
        (results / f"{name}.json").write_text(json.dumps(rows, indent=1) + "\n")


def _dense(count: int, memory: str) -> tuple[list[dict], list[str]]:
    _save("data.npz", count, FEATURES, 2)
    rows = [_measure(name, options, "data.npz", memory) for name, options in COMMANDS.items()]
    lines = [
        f"{count:,} rows of {FEATURES} features, {8e-6 * FEATURES * count:,.0f} MB; --memory {memory};"
        " one thread; peak memory with Python's 100 MB.",
        "",
        "| command | passes | GB/s read | processor s, streamed | in memory | ratio | peak MB, streamed | in memory"
        " | differ |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        lines.append(
            f"| {row['command']} | {row['read'] / (8.0 * FEATURES * count):.1f} | {row['rate']:.1f} | {row['cpu']:.2f}"
            f" | {row['memory_cpu']:.2f} | {row['cpu'] / row['memory_cpu']:.2f} | {row['peak'] / 1e6:.0f}"
            f" | {row['memory_peak'] / 1e6:.0f} | {row['differ']:.0e} |"
        )
    return rows, lines


def _sparse(count: int, memory: str) -> tuple[list[dict], list[str]]:
    numbers = _save_svmlight("data.svm", count)
    rows = [_measure(name, options, "data.svm", memory) for name, options in SPARSE.items()]
    lines = [
        f"{count:,} rows of {WORDS:,} features with {numbers:,} numbers, a .svm of"
        f" {Path('data.svm').stat().st_size / 1e6:,.0f} MB; --memory {memory}; one thread.",
        "",
        "| command | processor s, streamed | in memory | said MB | peak MB, streamed | in memory | differ |",
        "|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        lines.append(
            f"| {row['command']} | {row['cpu']:.1f} | {row['memory_cpu']:.1f} | {row['said'] / 1e6:.0f}"
            f" | {row['peak'] / 1e6:.0f} | {row['memory_peak'] / 1e6:.0f} | {row['differ']:.0e} |"
        )
    return rows, lines


def _forecast(count: int, memory: str) -> tuple[list[dict], list[str]]:
    rows = []
    for shape, (m, d, classes, allowed, as_table) in SHAPES.items():
        data = f"{shape}.csv" if as_table else f"{shape}.npz"
        _save(data, m, d, classes)
        for command, options in ASKED.items():
            source = ["--data", data, *(["--label", "y"] if as_table else [])]
            given = source if command == "train" else ["--model", "m.h5", "--test", "0:10", *options]
            out = "m.h5" if command == "train" else "out.csv"
            found = ran(command, *given, "--memory", allowed, "-o", out, threads=2)
            rows.append({"rows": m, "features": d, "classes": classes, "kind": data.split(".")[1], "command": command})
            rows[-1] |= {"said": found.said, "peak": found.peak}
        Path(data).unlink()
    lines = [
        "Peak memory beside what was said before, two threads.",
        "",
        "| rows | features | classes | file | command | said MB | reached MB | ratio |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        lines.append(
            f"| {row['rows']:,} | {row['features']} | {row['classes']} | .{row['kind']} | {row['command']}"
            f" | {row['said'] / 1e6:.0f} | {row['peak'] / 1e6:.0f} | {row['peak'] / row['said']:.2f} |"
        )
    return rows, lines


def _save(name: str, rows: int, features: int, classes: int) -> None:
    rng = np.random.default_rng(0)
    X = rng.normal(size=(rows + TESTS, features))
    outputs = 0.3 * X @ rng.normal(size=(features, classes)) + rng.gumbel(size=(rows + TESTS, classes))
    y = outputs.argmax(axis=1)
    if name.endswith(".npz"):
        np.savez(name, X_train=X[:rows], y_train=y[:rows], X_test=X[rows:], y_test=y[rows:])
        return
    import polars as pl

    columns = {f"x{j}": np.round(X[:, j], 4) for j in range(features)}
    pl.DataFrame(columns | {"site": rng.choice(["a", "b"], len(y)), "y": y}).write_csv(name)


def _save_svmlight(name: str, rows: int) -> int:
    """Rows of 20 to 50 numbers in columns that are used as unevenly as words are; how many numbers."""
    rng, count = np.random.default_rng(0), 0
    weights = 0.5 * rng.normal(size=WORDS)
    with Path(name).open("w") as file:
        for length in rng.integers(20, 51, rows).tolist():
            places = np.unique((WORDS ** rng.random(length)).astype(int))
            values = np.round(rng.normal(size=len(places)), 3)
            label = int(values @ weights[places - 1] + rng.logistic() > 0)
            numbers = " ".join(map("%d:%.3f".__mod__, zip(places.tolist(), values.tolist(), strict=True)))
            file.write(f"{label} {numbers}\n")
            count += len(places)
    return count


def _measure(command: str, options: list[str], data: str, memory: str) -> dict:
    name = command.split(",")[0]
    found: dict = {"command": command}
    for way, limit in (("", ["--memory", memory]), ("memory_", [])):
        arguments = ["--data", data, "--link-data"] if name == "train" else ["--model", f"{way}m.h5", *options]
        output = f"{way}m.h5" if name == "train" else f"{way}out.csv"
        tests = [] if name == "train" or "--test" in options else ["--test", "0:10"]
        done = ran(name, *arguments, *tests, *limit, "-o", output)
        found |= {f"{way}cpu": done.cpu, f"{way}peak": done.peak}
        if not way:
            found |= {"read": done.read, "rate": done.read / 1e9 / max(done.reading, 1e-9), "said": done.said}
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
    for key in ("first", "second", "refined", "actual", "predicted_first", "predicted_second"):
        if tables[0][0].get(key):
            one, other = (np.array([float(row[key]) for row in table]) for table in tables)
            worst = max(worst, float(np.abs(one - other).max() / np.abs(other).max()))
    return worst


if __name__ == "__main__":
    main()
