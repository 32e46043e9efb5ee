"""Time and peak memory of every selection strategy, each `ginf select` a process of its own, at two numbers of rows.

    python benchmarks/select_mnist.py --data PATH_TO_MNIST

A group of 1% (600 of MNIST's 60,000 rows) for the first misclassified test row, with all rows and with a quarter.
Peak memory stands beside X in float64; `start` selects one row, which is reading the model and little else.  The matrix
B = CD of the paper's Eq. 18 would have m squared entries: its size stands beside as well.
"""

from __future__ import annotations

import json
import sys
import tempfile
from argparse import Namespace
from pathlib import Path

from harness import environment, options
from processes import Finished, ginf, process


def main() -> int:
    parser = options(__doc__)
    parser.add_argument("--share", default="1%")
    parser.add_argument("--strategies", default="random,greedy,pgd,relinearize,swap")
    parser.add_argument("--solver", default="auto")
    chosen = parser.parse_args()
    found: list[dict] = []
    with tempfile.TemporaryDirectory() as folder:
        rows = sys.maxsize
        for _ in range(2):
            found += measured(chosen, rows, folder)
            rows = found[0]["m"] // 4
    print("\n".join(table(found, chosen)))
    if chosen.json:
        with Path(chosen.json).open("a", encoding="utf-8") as file:
            record = {"title": "select_mnist", "environment": environment(), "arguments": vars(chosen), "rows": found}
            file.write(json.dumps(record) + "\n")
    return 0


def measured(chosen: Namespace, rows: int, folder: str) -> list[dict]:
    """A line a strategy, for a model of the first rows.  This process stays small: see ``processes``."""
    data, model = f"{folder}/rows.npz", f"{folder}/model.h5"
    Path(data).unlink(missing_ok=True)
    process(sys.executable, str(Path(__file__).with_name("networks.py")), "rows", chosen.data, str(rows), data)
    train = ("--data", data, "--l2", str(chosen.l2), "--solver", chosen.solver, "-o", model, "--force", "--quiet")
    features = json.loads(ginf("train", *train, "--format", "json").output)[0]["features"]
    ask = ("--model", model, "--test", "misclassified:1", "--format", "json", "--quiet", "--solver", chosen.solver)
    lines = [line("start", features, ginf("select", *ask, "--size", "1", "--strategy", "greedy"))]
    for strategy in chosen.strategies.split(","):
        lines.append(line(strategy, features, ginf("select", *ask, "--size", chosen.share, "--strategy", strategy)))
    return lines


def line(strategy: str, features: int, done: Finished) -> dict:
    (record,) = json.loads(done.output)
    rows = round(record["size"] / record["fraction"])
    X = 8.0 * rows * features
    return {
        "m": rows,
        "strategy": strategy,
        "k": record["size"],
        "process_seconds": done.seconds,
        "processor_seconds": done.processor,
        "search_seconds": record["seconds"],
        "rounds": record["rounds"],
        "predicted_second": record["predicted_second"],
        "peak_bytes": done.peak,
        "X_bytes": X,
        "peak_per_X": done.peak / X,
        "m_squared_bytes": 8.0 * rows * rows,
    }


def table(found: list[dict], chosen: Namespace) -> list[str]:
    lines = [f"{chosen.data}, lambda {chosen.l2:g}; each strategy a process.  {environment()}", ""]
    lines += [
        "| m | k | strategy | process s | processor s | search s | predicted | peak MB | peak / X | m x m in MB |",
        "|" + "---|" * 10,
    ]
    for row in found:
        lines.append(
            f"| {row['m']:,} | {row['k']} | {row['strategy']} | {row['process_seconds']:.1f}"
            f" | {row['processor_seconds']:.1f} | {row['search_seconds']:.2f} | {row['predicted_second']:.4g}"
            f" | {row['peak_bytes'] / 1e6:.0f} | {row['peak_per_X']:.2f} | {row['m_squared_bytes'] / 1e6:,.0f} |"
        )
    lines.append("")
    for strategy in dict.fromkeys(row["strategy"] for row in found):
        own = [row for row in found if row["strategy"] == strategy]
        high, low = own[0], own[-1]
        if low["m"] != high["m"]:
            times, peak = high["m"] / low["m"], high["peak_bytes"] / low["peak_bytes"]
            holds = "linear or less" if peak <= times else "MORE THAN LINEAR"
            lines.append(f"- {strategy}: {times:.3g} times the rows, {peak:.3g} times the peak memory: {holds}")
    return lines


if __name__ == "__main__":
    sys.exit(main())
