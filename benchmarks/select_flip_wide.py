"""How few rows flip a coefficient's sign, on tables of 3,895 rows and 208 features, against greedy search with refits.

    python benchmarks/select_flip_wide.py [--seeds 2] [--effect 0.06]

Least squares on made tables of three kinds: normal features; 8 numbers and 200 columns of 0 and 1 (shops and weeks);
and heavy tails (Student's t with 3 degrees of freedom).  The greedy search drops, one after the other, the row whose
own removal moves the coefficient most towards the flip, exactly (leverage included), and refits after each; it is
written out here on dense algebra.  Every group of ginf's is refitted by NumPy.  Ends with 1 where one is larger than
the peer's, or does not flip.
"""

from __future__ import annotations

import argparse
import sys
from time import perf_counter

import numpy as np

from influence_cli.api import GroupInfluence

ROWS, FEATURES = 3895, 208
KINDS = ("normal", "indicators", "heavy tails")


def table(kind: str, seed: int, effect: float) -> tuple[np.ndarray, np.ndarray]:
    """Features, of which the first has the coefficient that is asked about, and responses."""
    rng = np.random.default_rng(seed)
    if kind == "indicators":
        numbers = rng.normal(size=(ROWS, 8)) * rng.lognormal(0.0, 0.7, size=(ROWS, 8))
        X = np.hstack([numbers, np.eye(150)[rng.integers(0, 151, ROWS) % 150], np.eye(50)[rng.integers(0, 50, ROWS)]])
        X = np.delete(X, [8, 158], axis=1)
        X = np.hstack([X, rng.normal(size=(ROWS, 2))])
    else:
        X = rng.normal(size=(ROWS, FEATURES)) if kind == "normal" else rng.standard_t(3, size=(ROWS, FEATURES))
    noise = rng.standard_t(3, size=ROWS) if kind == "heavy tails" else rng.normal(size=ROWS)
    return X, effect * X[:, 0] + X[:, 1:6].sum(axis=1) + noise


def greedy_with_refits(X: np.ndarray, y: np.ndarray, most: int = 2000) -> int:
    """Rows until the first coefficient has the other sign."""
    Z = np.column_stack([X, np.ones(len(X))])
    kept = np.ones(len(Z), dtype=bool)
    inverse = np.linalg.inv(Z.T @ Z)
    first = inverse @ (Z.T @ y)
    theta, sign = first, np.sign(first[0])
    leverage = np.einsum("ij,jk,ik->i", Z, inverse, Z)
    along = Z @ inverse[:, 0]
    for count in range(1, most + 1):
        residual = y - Z @ theta
        effect = np.where(kept, -sign * along * residual / (1.0 - leverage), np.inf)
        row = int(np.argmin(effect))
        kept[row] = False
        own = inverse @ Z[row]
        theta = theta - own * residual[row] / (1.0 - leverage[row])
        moved = Z @ own
        inverse = inverse + np.outer(own, own) / (1.0 - leverage[row])
        along = along + moved * own[0] / (1.0 - leverage[row])
        leverage = leverage + moved**2 / (1.0 - leverage[row])
        if np.sign(theta[0]) != sign:
            return count
    return most


def main() -> int:
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--seeds", type=int, default=2)
    options.add_argument("--effect", type=float, default=0.06)
    chosen = options.parse_args()
    print("| table | coefficient | greedy with refits | `--flip` | seconds | refitted |\n|---|---:|---:|---:|---:|---|")
    missed = False
    for kind in KINDS:
        for seed in range(chosen.seeds):
            X, y = table(kind, seed, chosen.effect)
            peer = greedy_with_refits(X, y)
            model = GroupInfluence.fit(X, y, estimator="linear", l2=0.0)
            begun = perf_counter()
            (found,) = model.select(None, flip=True, quantity="param:x0").records()
            took = perf_counter() - begun
            kept = np.setdiff1d(np.arange(ROWS), found["rows"])
            Z = np.column_stack([X, np.ones(ROWS)])
            after = np.linalg.lstsq(Z[kept], y[kept], rcond=None)[0][0]
            turned = "flips" if after * found["base"] < 0 else "DOES NOT FLIP"
            print(
                f"| {kind}, seed {seed} | {found['base']:.4f} | {peer} | {found['size']} | {took:.1f} | {turned} |",
                flush=True,
            )
            missed |= found["size"] > peer or turned != "flips"
    return int(missed)


if __name__ == "__main__":
    sys.exit(main())
