"""The paper's selection experiment: predicted and realised influence of every strategy's group against its size.

    python benchmarks/select_blobs.py [--tests 10] [--plot figure3.png]
    python benchmarks/select_blobs.py --data PATH_TO_MNIST --sizes 600 --tests 1 --strategies relinearize

20,000 rows of 4 isotropic Gaussian blobs in 5 features, sizes of 10% to 30%, misclassified test rows.  Every group is
retrained.  Printed are medians over the test rows, as they are and relative to greedy's; the least ratio of pgd's
prediction to greedy's is over all of them.  Peak memory is the whole process's: name one strategy to see its own.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from harness import environment, options, peak_bytes

from influence_cli.analysis import TestRows
from influence_cli.analysis.select import check_strategies, select
from influence_cli.analysis.selecting import Choice
from influence_cli.core.solvers.choice import make_solver
from influence_cli.data.sources import load
from influence_cli.groups import parse_size
from influence_cli.modeling import ModelSettings, fit
from influence_cli.plots_select import Curve, sizes
from influence_cli.results import Provenance

PANELS = 4
"""Test rows in the picture."""


def main() -> None:
    parser = options(__doc__)
    parser.set_defaults(data="blobs")
    parser.add_argument("--sizes", default="10%,15%,20%,25%,30%")
    parser.add_argument("--tests", type=int, default=10, help="misclassified test rows, the first ones")
    parser.add_argument("--strategies", default="random,greedy,pgd,relinearize")
    parser.add_argument("--constraint", default="l1")
    parser.add_argument("--merit", default="auto")
    parser.add_argument("--rounds", type=int, default=50)
    parser.add_argument("--draws", type=int, default=100)
    parser.add_argument("--plot")
    chosen = parser.parse_args()
    dataset = load(chosen.data, task="classification")
    model = fit(dataset, ModelSettings("logistic", chosen.l2, "per-mean", True, False, 1e-8))
    solver = make_solver(model.objective, model.theta, "cholesky")
    m = len(dataset.X_train)
    ready = peak_bytes()
    tests = TestRows(np.flatnonzero(model.misclassified())[: chosen.tests])
    result = select(
        model,
        solver,
        tests,
        [parse_size(text)[0].of(m) for text in chosen.sizes.split(",")],
        Choice(
            check_strategies(chosen.strategies.split(",")),
            np.arange(m),
            constraint=chosen.constraint,
            merit=chosen.merit,
            rounds=chosen.rounds,
            draws=chosen.draws,
            verify=True,
        ),
        provenance=Provenance(dataset.digest, "", {}),
    )
    print(environment())
    print(
        f"{m:,} rows, P = {model.objective.size:,}, {len(tests.rows)} misclassified test rows, loss, medians over them"
    )
    print(f"peak memory {peak_bytes() / 1e6:.0f} MB, {ready / 1e6:.0f} MB of it before the search")
    show(result.records)
    if chosen.plot:
        picture = sizes(curves(result.records), Path(chosen.plot).suffix[1:], change="Change of the loss on removal")
        Path(chosen.plot).write_bytes(picture)


def show(records: tuple[dict, ...]) -> None:
    """A line a size and strategy."""
    print(f"{'rows':>7} {'strategy':12}{'predicted':>11}{'actual':>9}{'/ greedy':>10}{'/ greedy':>10}{'seconds':>9}")
    keys = list(dict.fromkeys((record["size"], record["strategy"]) for record in records))
    columns = {key: [r for r in records if (r["size"], r["strategy"]) == key] for key in keys}
    for (size, strategy), own in columns.items():
        predicted, actual, seconds = (values(own, key) for key in ("predicted_second", "actual", "seconds"))
        line = f"{size:7,} {strategy:12}{np.median(predicted):11.3f}{np.nanmedian(actual):9.3f}"
        base = columns.get((size, "greedy"))
        if base:
            ratio, realised = predicted / values(base, "predicted_second"), actual / values(base, "actual")
            line += f"{np.median(ratio):10.3f}{np.nanmedian(realised):10.3f}"
        else:
            line += " " * 20
        line += f"{np.median(seconds):9.2f}"
        if base and strategy == "pgd":
            line += f"   least predicted / greedy {ratio.min():.4f}"
        if base and strategy == "relinearize":
            line += f"   least actual / greedy {np.nanmin(realised):.3f}, longest {seconds.max():.2f} s"
        print(line)


def values(records: list[dict], key: str) -> np.ndarray:
    return np.array([record[key] for record in records], dtype=float)


def curves(records: tuple[dict, ...]) -> dict[str, dict[str, Curve]]:
    """The first test rows as panels of Figure 3."""
    panels: dict[str, dict[str, Curve]] = {}
    for test in list(dict.fromkeys(record["test"] for record in records))[:PANELS]:
        own = [record for record in records if record["test"] == test]
        panels[f"test row {test}"] = {
            strategy: curve([record for record in own if record["strategy"] == strategy])
            for strategy in dict.fromkeys(record["strategy"] for record in own)
        }
    return panels


def curve(records: list[dict]) -> Curve:
    columns = (values(records, key) for key in ("fraction", "predicted_second", "actual", "predicted_second_spread"))
    percent, predicted, actual, spread = columns
    return Curve(100 * percent, predicted, actual, spread)


if __name__ == "__main__":
    main()
