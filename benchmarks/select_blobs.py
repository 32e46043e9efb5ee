"""The paper's selection experiment: predicted and realised influence of every strategy's group against its size.

    python benchmarks/select_blobs.py RESULTS [--tests 10]

20,000 rows of 4 isotropic Gaussian blobs in 5 features, groups of 10% to 30%, the loss of misclassified test rows;
every group is retrained.  RESULTS gets the table (select-blobs.md: medians over the test rows), every record behind it
(select-blobs.json) and the picture (select-blobs.svg: the paper's Figure 3).  Ends with 1 if a target is missed.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
from harness import environment, options

from influence_cli.analysis.question import TestRows, ask
from influence_cli.analysis.searches import RowSearch, check_strategies
from influence_cli.analysis.select import Choice, select
from influence_cli.core.solvers.choice import make_solver
from influence_cli.data.load import load
from influence_cli.models.settings import ModelSettings
from influence_cli.models.trained import fit
from influence_cli.present.plots_select import Curve, sizes
from influence_cli.results import Provenance
from influence_cli.specs.groups import parse_size

PANELS = 3
"""Test rows in the picture."""
DRAWN = ("random", "greedy", "pgd", "relinearize")
REALISED = {10.0: 1.08, 30.0: 1.3}
"""Least realised effect of relinearize over greedy's, median over the test rows, at these per cent."""
LONGEST = 3.0
"""Seconds a test row and size."""
SAME = 1e-9
"""Relative error of two sums of the same terms."""


def main() -> int:
    parser = options(__doc__)
    parser.set_defaults(data="blobs")
    parser.add_argument("results", type=Path, help="folder for the table and the picture")
    parser.add_argument("--sizes", default="10%,15%,20%,25%,30%")
    parser.add_argument("--tests", type=int, default=10, help="misclassified test rows, the first ones")
    parser.add_argument("--strategies", default="random,greedy,pgd,relinearize,swap")
    parser.add_argument("--constraint", default="l1")
    parser.add_argument("--rounds", type=int, default=50)
    chosen = parser.parse_args()
    chosen.results.mkdir(parents=True, exist_ok=True)
    dataset = load(chosen.data, task="classification")
    model = fit(dataset, ModelSettings("logistic", chosen.l2, "per-mean", True, False, 1e-8))
    solver = make_solver(model.objective, model.theta, "cholesky")
    m = len(dataset.X_train)
    tests = TestRows(np.flatnonzero(model.misclassified())[: chosen.tests])
    counts = [parse_size(text)[0].of(m) for text in chosen.sizes.split(",")]
    strategies = check_strategies(chosen.strategies.split(","))
    choice = Choice(strategies, np.arange(m), constraint=chosen.constraint, rounds=chosen.rounds, verify=True)
    records = select(
        ask(model, tests, "loss"), solver, RowSearch(choice, counts), provenance=Provenance(dataset.digest, "", {})
    ).entries
    missed = [sentence for sentence, holds in targets(records) if not holds]
    text = "\n".join(
        [heading(chosen, m, model.objective.size, len(tests.rows)), "", *table(records), "", *judged(records)]
    )
    print(text)
    (chosen.results / "select-blobs.md").write_text(text + "\n", encoding="utf-8")
    kept = [{key: value for key, value in record.items() if key != "rows"} for record in records]
    (chosen.results / "select-blobs.json").write_text(json.dumps(kept) + "\n", encoding="utf-8")
    picture = sizes(curves(records), "svg", change="change of the loss on removal")
    (chosen.results / "select-blobs.svg").write_bytes(picture)
    if chosen.json:
        with Path(chosen.json).open("a", encoding="utf-8") as file:
            file.write(json.dumps({"environment": environment(), "arguments": str(vars(chosen)), "rows": kept}) + "\n")
    return 1 if missed else 0


def heading(chosen, rows: int, parameters: int, tests: int) -> str:
    return (
        f"{chosen.data}: {rows:,} rows, {parameters} parameters, lambda {chosen.l2:g}; change of the loss of"
        f" {tests} misclassified test rows, medians over them. {environment()}"
    )


def table(records: tuple[dict, ...]) -> list[str]:
    """A line a size and strategy."""
    lines = ["| removed | strategy | predicted | realised | predicted / greedy | realised / greedy | least | seconds |"]
    lines.append("|---|---|---|---|---|---|---|---|")
    for percent in dict.fromkeys(100 * record["fraction"] for record in records):
        for strategy in dict.fromkeys(record["strategy"] for record in records):
            own = chosen_of(records, percent, strategy)
            predicted, actual = values(own, "predicted_second"), values(own, "actual")
            line = f"| {percent:.0f}% | `{strategy}` | {np.median(predicted):.3f} | {np.nanmedian(actual):.3f} |"
            base = chosen_of(records, percent, "greedy")
            if strategy in ("greedy", "random") or not base:
                line += " | | |"
            else:
                realised = actual / values(base, "actual")
                line += f" {np.median(predicted / values(base, 'predicted_second')):.4f} |"
                line += f" {np.nanmedian(realised):.3f} | {np.nanmin(realised):.3f} |"
            lines.append(line + f" {np.median(values(own, 'seconds')):.2f} |")
    return lines


def targets(records: tuple[dict, ...]) -> list[tuple[str, bool]]:
    """What was asked for, what was found, and whether it holds."""
    found = []
    names = {record["strategy"] for record in records}
    percents = list(dict.fromkeys(100 * record["fraction"] for record in records))
    if {"greedy", "pgd"} <= names:
        gains = [
            values(chosen_of(records, percent, "pgd"), "predicted_second")
            / values(chosen_of(records, percent, "greedy"), "predicted_second")
            for percent in percents
        ]
        least = float(np.min(gains))
        found.append(
            (f"pgd predicts at least what greedy does, everywhere: least ratio {least:.4f}", least >= 1 - SAME)
        )
    for percent, wanted in REALISED.items():
        own, base = (chosen_of(records, percent, name) for name in ("relinearize", "greedy"))
        if own and base:
            ratio = float(np.nanmedian(values(own, "actual") / values(base, "actual")))
            found.append(
                (
                    f"relinearize realises >= {wanted} times greedy's effect at {percent:.0f}%: {ratio:.3f}",
                    ratio >= wanted,
                )
            )
    longest = max((record["seconds"] for record in records if record["strategy"] == "relinearize"), default=0.0)
    found.append(
        (f"relinearize takes under {LONGEST:g} s a test row and size: longest {longest:.2f} s", longest < LONGEST)
    )
    return found


def judged(records: tuple[dict, ...]) -> list[str]:
    return [f"- {'met' if holds else 'MISSED'}: {sentence}" for sentence, holds in targets(records)]


def chosen_of(records: tuple[dict, ...], percent: float, strategy: str) -> list[dict]:
    return [r for r in records if r["strategy"] == strategy and abs(100 * r["fraction"] - percent) < 1e-9]


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
            if strategy in DRAWN
        }
    return panels


def curve(records: list[dict]) -> Curve:
    columns = (values(records, key) for key in ("fraction", "predicted_second", "actual", "predicted_second_spread"))
    percent, predicted, actual, spread = columns
    return Curve(100 * percent, predicted, actual, spread)


if __name__ == "__main__":
    sys.exit(main())
