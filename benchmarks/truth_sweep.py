"""Truth against a dense Newton method, and in other units, over random problems of every kind.

    python benchmarks/truth_sweep.py --problems 640

Every family, weights, both conventions of removal, three kinds of intercept, lambda 0 to 10, groups of one row to 95%
and whole classes.  A figure agrees where it is within 1e-6 of the change, or within its own actual_error, or is marked.
"""

import argparse
import sys
from collections import Counter
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))

from truth_sweep import by_dense_newton, by_the_core, disagreement, draw

UNITS = ((1e-9, 1e9), (1e9, 1e-9), (1e-3, 1e6))

if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--problems", type=int, default=640)
    counts: Counter[str] = Counter()
    worst, worst_units = 0.0, 0.0
    for seed in range(parser.parse_args().problems):
        problem = draw(seed)
        found, right = by_the_core(problem), by_dense_newton(problem)
        if found is None:
            counts["the model has no minimum"] += 1
            continue
        if found.status != "ok":
            counts["marked"] += 1
            if right.status == "ok" and not found.status.startswith("unbounded"):
                print(seed, problem.kind, problem.l2, problem.intercept, "marked", found.status)
            continue
        if right.status != "ok":
            counts["ok, and the dense method finds no minimum"] += 1
            print(seed, problem.kind, problem.l2, problem.intercept, len(problem.group), "ok", found, right)
            continue
        off = disagreement(found, right)
        counts["agrees" if off <= 1e-6 else "differs"] += 1
        worst = max(worst, off)
        plain = abs(found.change - right.change) / max(abs(right.change), 1e-12)
        counts["agrees to 1e-6 whatever its actual_error"] += plain <= 1e-6
        if off > 1e-6:
            print(seed, problem.kind, problem.l2, problem.intercept, len(problem.group), found, right)
        for features, response in UNITS:
            # Only what nothing ties to the number 1, the intercept's column, has the same penalty in other units.
            if problem.intercept == "penalised" and problem.l2 > 0:
                continue
            other = by_the_core(problem.scaled(features, response))
            size = response if problem.kind == "linear" else 1.0
            if other is None or other.status != "ok":
                counts["in other units: not ok"] += 1
                print(seed, "units", features, problem.kind, problem.l2, None if other is None else other.status)
                continue
            off = max(0.0, abs(other.change / size - found.change) - found.error - other.error / size)
            off /= max(abs(found.change), 1e-300)
            counts["in other units: agrees" if off <= 1e-6 else "in other units: differs"] += 1
            worst_units = max(worst_units, off)
            if off > 1e-6:
                print(seed, "units", features, problem.kind, problem.l2, problem.intercept, found, other)
    for name, count in sorted(counts.items()):
        print(f"{count:6d}  {name}")
    print(f"largest disagreement {worst:.1e}, in other units {worst_units:.1e}")
