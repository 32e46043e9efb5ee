"""How the commands of a narrow table grow with its rows: seconds at each size, and the exponent of a power law.

python benchmarks/scale.py --rows 100000,300000,1000000

Binary logistic regression, 50 features.  Groups of 10 rows should cost the same whatever the rows (0), beside one group
alone, whose time goes into the data's digest; all else is linear (1).  Processor seconds of one thread, which other
programs disturb least.
"""

from time import process_time

import numpy as np
from harness import Report, options
from threadpoolctl import threadpool_limits

from influence_cli import GroupInfluence

FEATURES, TESTS = 50, 100
LINEAR, CONSTANT = "<= 1.05", "<= 0.1"


def cost(work) -> float:
    """Processor seconds of the quicker of two runs."""
    times = []
    for _ in range(2):
        start = process_time()
        work()
        times.append(process_time() - start)
    return min(times)


def measure(rows: int, count: int) -> dict[str, float]:
    rng = np.random.default_rng(0)
    X = rng.normal(size=(rows + TESTS, FEATURES))
    y = (X @ rng.normal(size=FEATURES) + rng.logistic(size=len(X)) > 0).astype(np.int64)
    train, tests, first = (X[:rows], y[:rows]), (X[rows:], y[rows:]), (X[rows:][:1], y[rows:][:1])
    model = GroupInfluence.fit(*train)
    few = [rng.choice(rows, 10, replace=False) for _ in range(count)]
    own = {"methods": ["first", "second"], "evaluate": "linear"}
    model.influence(few[:2], *tests, **own)  # H and the gradient of all rows, once a model
    hashing = cost(lambda: model.influence(few[:1], *tests, **own))  # of the data, for the result's provenance
    return {
        "train": cost(lambda: GroupInfluence.fit(*train)),
        f"influence, {count:,} groups of 10 rows x {TESTS} tests": cost(lambda: model.influence(few, *tests, **own))
        - hashing,
        "influence, 20 groups of 1%": cost(lambda: model.influence("random:1%x20", *tests, **own)),
        "influence, every row, first and rif": cost(
            lambda: model.influence("rows:each", *first, methods=["first", "rif"], evaluate="linear")
        ),
        "groundtruth, 8 groups of 1%": cost(lambda: model.groundtruth("random:1%x8", *tests)),
        "select, 1%": cost(lambda: model.select(0.01, *first, strategies="greedy")),
    }


if __name__ == "__main__":
    parser = options(__doc__)
    parser.add_argument("--rows", default="100000,300000,1000000")
    parser.add_argument("--groups", type=int, default=1000)
    chosen = parser.parse_args()
    sizes = [int(text) for text in chosen.rows.split(",")]
    report = Report(f"Growth with rows, {FEATURES} features, binary, one thread", chosen)
    with threadpool_limits(1):
        found = [measure(rows, chosen.groups) for rows in sizes]
    for what in found[0]:
        times = [one[what] for one in found]
        slope = float(np.polyfit(np.log(sizes), np.log(times), 1)[0])
        target = CONSTANT if "of 10 rows" in what else LINEAR
        report.add(f"{what}: exponent", slope, slope, "itself", target, unit="")
        for rows, seconds in zip(sizes, times, strict=True):
            report.add(f"{what}, {rows:,} rows", seconds, times[0], f"{sizes[0]:,} rows", "-")
    report.finish()
