"""Linked models, whole processes: 100 groups of 10 rows by first,second, and what a further group takes, as rows grow.

Of whole processes the wall counts, of a further group the processor time, which other programs disturb less.

python benchmarks/linked.py --rows 100000,1000000 --folder /tmp/linked
"""

import resource
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from time import sleep

import numpy as np
from harness import Report, options, seconds

FEATURES, GROUPS, MORE = 50, 100, 5000
ASKED = ("--test", "0:10", "--method", "first,second")


def save(path: Path, rows: int) -> None:
    rng = np.random.default_rng(0)
    X, Xt = (rng.standard_normal((count, FEATURES)) for count in (rows, 1000))
    slopes = rng.standard_normal(FEATURES) / 7
    y, yt = (one @ slopes + rng.logistic(size=len(one)) > 0 for one in (X, Xt))
    np.savez(path, X_train=X, y_train=y.astype(np.int64), X_test=Xt, y_test=yt.astype(np.int64))


def processor() -> float:
    """Processor seconds of the processes that were started and have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def measure(folder: Path, rows: int, repeats: int) -> tuple[float, float]:
    """Least seconds of a process about ``GROUPS`` groups, and processor seconds of a further group."""
    data, model = folder / f"{rows}.npz", folder / f"{rows}.h5"
    save(data, rows)
    sleep(1)  # a file of this very moment is not taken for one that nobody touches

    def ginf(*arguments: str) -> None:
        subprocess.run([sys.executable, "-m", "influence_cli", *arguments], check=True, capture_output=True)

    ginf("train", "--data", str(data), "--link-data", "-o", str(model))

    def took(groups: int) -> tuple[float, float]:
        asked = ("--group", f"random:10x{groups}", *ASKED, "-o", str(folder / "out.csv"), "--force")
        before = processor()
        wall = seconds(lambda: ginf("influence", "--model", str(model), *asked))
        return wall, processor() - before

    few, more = (np.min([took(groups) for _ in range(repeats)], axis=0) for groups in (GROUPS, GROUPS + MORE))
    data.unlink()
    return float(few[0]), float(more[1] - few[1]) / MORE


if __name__ == "__main__":
    parser = options(__doc__)
    parser.add_argument("--rows", default="100000,1000000,10000000")
    parser.add_argument("--folder", help="where the rows lie meanwhile: 400 bytes each")
    chosen = parser.parse_args()
    sizes = [int(text) for text in chosen.rows.split(",")]
    with TemporaryDirectory(dir=chosen.folder) as folder:
        found = [measure(Path(folder), rows, chosen.repeats) for rows in sizes]
    report = Report(f"Linked models of {FEATURES} features, {GROUPS} groups of 10 rows, first,second", chosen)
    for rows, (whole, each) in zip(sizes, found, strict=True):
        report.add(f"{rows:,} rows, whole process", whole, found[0][0], f"{sizes[0]:,} rows", "<= 5 s at 10,000,000")
        report.add(f"{rows:,} rows, a further group, processor", each, found[0][1], f"{sizes[0]:,} rows", "-")
    slope = float(np.polyfit(np.log(sizes), np.log([each for _, each in found]), 1)[0])
    report.add("slope of log time of a group on log rows", slope, slope, "itself", "<= .1", unit="")
    report.finish()
