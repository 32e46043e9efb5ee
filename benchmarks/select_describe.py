"""How long causes in words take: groups of up to two conditions on 20 columns of 100,000 rows.

    python benchmarks/select_describe.py [--rows 100000]

Twelve columns hold numbers and eight text of eight values; labels of training rows are turned about where two
conditions hold (t2=c, n0 over 1.15).  The question is the mean loss of 500 rows with right labels.  Printed: the
groups looked at, the seconds of the whole search with estimates and retraining of the best, and what is found.  Ends
with 1 where the planted cause is not first, or the search took 10 seconds.
"""

from __future__ import annotations

import argparse
import re
import sys
from time import perf_counter

import numpy as np
import pandas as pd

from influence_cli.api import GroupInfluence

TESTS = 500


def problem(rows: int) -> tuple[pd.DataFrame, np.ndarray]:
    """A table and its labels."""
    rng = np.random.default_rng(0)
    frame = pd.DataFrame({f"n{at}": rng.normal(size=rows).round(3) for at in range(12)})
    for at in range(8):
        frame[f"t{at}"] = rng.choice(list("abcdefgh"), rows)
    labels = (frame["n0"] - frame["n1"] + (frame["t0"] == "a") + rng.logistic(size=rows) > 0).to_numpy()
    turned = ((frame["t2"] == "c") & (frame["n0"] > 1.15)).to_numpy() & (rng.random(rows) < 0.8)
    turned[rows - TESTS :] = False
    return frame, np.where(turned, ~labels, labels).astype(int)


def main() -> int:
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--rows", type=int, default=100_000)
    chosen = options.parse_args()
    frame, labels = problem(chosen.rows + TESTS)
    train, test = slice(0, chosen.rows), slice(chosen.rows, None)
    model = GroupInfluence.fit(frame[train], labels[train], l2=1e-3)
    model.solver  # noqa: B018  the factor that every command shares
    begun = perf_counter()
    found = model.describe(
        2, frame[test], labels[test], mean=True, support=0.01, direction="decrease", verify=True
    ).records()
    seconds = perf_counter() - begun
    print(f"{found[0]['tried']:,} groups of up to two conditions, {chosen.rows:,} rows, {model.model.objective.size}")
    print(f"parameters: {seconds:.1f} s with the {len(found)} best retrained\n")
    print("| group | rows | change | estimated | error |\n|---|---:|---:|---:|---:|")
    for record in found:
        figures = f"{record['actual']:.3e} | {record['estimate']:.3e} | {record['error']:.0e}"
        print(f"| `{record['group']}` | {record['size']:,} | {figures} |")
    return int(not {"n0", "t2"} < set(re.split("[:=,]", found[0]["group"])) or seconds >= 10.0)


if __name__ == "__main__":
    sys.exit(main())
