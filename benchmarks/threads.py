"""Whole commands with the default number of threads over the same with one thread, on a quiet and on a busy machine.

python benchmarks/threads.py --rows 100000,300000 --busy 4
"""

import os
import subprocess
import sys
import tempfile
from contextlib import contextmanager
from statistics import median

import numpy as np
from harness import Report, options, seconds

FEATURES = 50
COMMANDS = {
    "train": ("train", "--data", "{data}", "-o", "{out}", "--force"),
    "influence": ("influence", "--group", "random:1%x50", "--test", "0:100", "--method", "first,second"),
    "groundtruth": ("groundtruth", "--group", "random:1%x32", "--test", "0:10"),
    "select": ("select", "--test", "0", "--size", "1%"),
}


@contextmanager
def load(processes: int):
    """That many processes beside that do nothing but compute."""
    busy = [subprocess.Popen([sys.executable, "-c", "while True: sum(range(10**6))"]) for _ in range(processes)]
    try:
        yield
    finally:
        for process in busy:
            process.kill()
            process.wait()


def make(folder: str, rows: int) -> str:
    rng = np.random.default_rng(0)
    X = rng.normal(size=(rows + 1000, FEATURES))
    y = (X @ rng.normal(size=FEATURES) + rng.logistic(size=len(X)) > 0).astype(np.int64)
    path = f"{folder}/data{rows}.npz"
    np.savez(path, X_train=X[:rows], y_train=y[:rows], X_test=X[rows:], y_test=y[rows:])
    return path


def run(words: tuple[str, ...], threads: tuple[str, ...]) -> float:
    command = [sys.executable, "-m", "influence_cli", *words, "--quiet", *threads]
    return seconds(lambda: subprocess.run(command, check=True, stdout=subprocess.DEVNULL))


if __name__ == "__main__":
    parser = options(__doc__)
    parser.add_argument("--rows", default="100000,300000")
    parser.add_argument("--busy", type=int, default=2 * (os.cpu_count() or 1), help="processes that compute beside")
    chosen = parser.parse_args()
    report = Report("Default threads over one thread, whole commands", chosen)
    with tempfile.TemporaryDirectory() as folder:
        for rows in map(int, chosen.rows.split(",")):
            places = {"data": make(folder, rows), "out": f"{folder}/model{rows}.h5"}
            for name, words in COMMANDS.items():
                whole = tuple(word.format(**places) for word in words)
                if name != "train":
                    whole += ("--model", places["out"])
                for beside in dict.fromkeys((0, chosen.busy)):
                    times: dict[str, list[float]] = {"default": [], "one": []}
                    with load(beside):
                        for _ in range(chosen.repeats):
                            times["default"].append(run(whole, ()))
                            times["one"].append(run(whole, ("--threads", "1")))
                    ours, one = median(times["default"]), median(times["one"])
                    target = "0.7" if beside == 0 else "1.2"
                    what = f"ginf {name}, {rows:,} x {FEATURES}, {beside} processes beside"
                    print(f"{what}: {ours:.2f} s, one thread {one:.2f} s, ratio {ours / one:.2f}", flush=True)
                    what += f" (load {os.getloadavg()[0]:.1f})"
                    report.add(what, ours, one, "--threads 1", f"ours / one <= {target}", over_one=ours / one)
    report.finish()
