"""Compressed rows beside dense ones: products alone and in blocks, the Hessian, training and estimates of one model.

    python benchmarks/sparse.py --data PATH_TO_MNIST
    python benchmarks/sparse.py --large

``--large`` has nothing to stand beside: 1e6 rows x 1e5 features with 50 numbers a row, binary, 0.6 GB as CSR and 800 GB
dense.  It trains in one process and asks `ginf influence` in another, and reports seconds and peak memory.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from pathlib import Path
from time import perf_counter

import numpy as np
from harness import Report, in_turn, options, problem
from processes import ginf, process
from scipy.sparse import csr_array

from influence_cli.core.estimators import estimate
from influence_cli.core.objectives.glm import Glm
from influence_cli.core.removal import removal
from influence_cli.core.solvers.choice import make_solver
from influence_cli.core.training import train

BLOCKS = (1, 8, 64)
GROUPS = 20
NUMBERS = 50
"""In each row of the large problem."""


def beside_dense(chosen: argparse.Namespace) -> None:
    dataset, dense = problem(chosen)
    X = csr_array(dataset.X_train)
    sparse = Glm(X, dataset.y_train, dense.family, l2=chosen.l2)
    share = X.nnz / dataset.X_train.size
    report = Report(f"Compressed rows beside dense ones, {share:.0%} of the numbers not 0", chosen)
    theta = train(dense).theta
    products = [model.curvature(theta, model.weights) for model in (sparse, dense)]
    rng = np.random.default_rng(0)
    for width in BLOCKS:
        V = np.asfortranarray(rng.normal(size=(dense.size, width)))
        own, other = (product(V) for product in products)
        assert np.abs(own - other).max() <= 1e-6 * np.abs(other).max()
        times = in_turn(chosen.repeats, sparse=lambda V=V: products[0](V), dense=lambda V=V: products[1](V))
        what = "one product alone" if width == 1 else f"a product, block of {width}"
        report.add(what, times["sparse"] / width, times["dense"] / width, "dense", ">= 1")
    few = min(chosen.repeats, 2)
    times = in_turn(few, sparse=lambda: train(sparse), dense=lambda: train(dense))
    report.add("training", times["sparse"], times["dense"], "dense", ">= 1")
    solvers = {}

    def factor(name: str, model: Glm) -> None:
        solvers[name] = make_solver(model, theta, "cholesky")

    times = in_turn(1, sparse=lambda: factor("sparse", sparse), dense=lambda: factor("dense", dense))
    report.add("Hessian and factor", times["sparse"], times["dense"], "dense", ">= 1")
    members = [rng.choice(X.shape[0], X.shape[0] // 10, replace=False) for _ in range(GROUPS)]
    groups = removal(dense.weights, members, "per-mean")

    def estimates(name: str, model: Glm) -> None:
        estimate(model, theta, solvers[name], groups, ("first", "second", "newton"))

    times = in_turn(few, sparse=lambda: estimates("sparse", sparse), dense=lambda: estimates("dense", dense))
    report.add(f"first, second, newton of {GROUPS} groups", times["sparse"], times["dense"], "dense", ">= 1")
    report.finish()


def large(chosen: argparse.Namespace) -> None:
    """This process stays small: see ``processes``."""
    report = Report(f"{chosen.rows:,} rows x {chosen.features:,} features, {NUMBERS} numbers a row", chosen)
    size = 12.0 * chosen.rows * NUMBERS
    with tempfile.TemporaryDirectory() as folder:
        model = f"{folder}/model.h5"
        sizes = ("--rows", str(chosen.rows), "--features", str(chosen.features), "--l2", str(chosen.l2))
        trained = process(sys.executable, __file__, "--train", model, *sizes)
        told = json.loads(trained.output)
        asked = ginf("influence", "--model", model, "--group", "random:1%", "--test", "0", "--format", "json")
        (record,) = json.loads(asked.output)
    assert record["status"] == "ok" and np.isfinite(record["second"])
    for what, seconds in (("training to 1e-8", told["seconds"]), ("ginf influence, the whole process", asked.seconds)):
        report.add(what, seconds, told["product"], "one Hessian-vector product", "-", solver=told["solver"])
    for what, done in (("training", trained), ("ginf influence", asked)):
        report.rows.append(
            {"what": f"peak memory of {what}", "ours": done.peak / 1e6, "beside": "X in CSR", "peer": size / 1e6}
            | {"unit": "MB", "ratio": done.peak / size, "target": "<= 3.5"}
        )
    report.finish()


def train_large(chosen: argparse.Namespace) -> None:
    """Make the rows, train, save; says how long the training took."""
    from influence_cli.commands.session import store
    from influence_cli.core.solvers.choice import choose_solver
    from influence_cli.data.dataset import Dataset
    from influence_cli.models.settings import ModelSettings
    from influence_cli.models.trained import fit

    m, d = chosen.rows, chosen.features
    rng = np.random.default_rng(0)
    stride = d // NUMBERS  # one column of each stretch: in order, and none twice
    columns = rng.integers(0, stride, size=(m, NUMBERS), dtype=np.int32)
    columns += np.arange(0, stride * NUMBERS, stride, dtype=np.int32)
    ends = np.arange(0, m * NUMBERS + 1, NUMBERS, dtype=np.int32)
    X = csr_array((rng.normal(size=m * NUMBERS), columns.ravel(), ends), shape=(m, d))
    y = (X @ rng.normal(size=d) / NUMBERS**0.5 + rng.logistic(size=m) > 0).astype(np.int64)
    names = tuple(f"x{column}" for column in range(d))
    dataset = Dataset("large", X, y, X[:10], y[:10], names, ("0", "1"))
    model = fit(dataset, ModelSettings("logistic", chosen.l2, "per-mean", True, False, 1e-8))
    solver = choose_solver("auto", size=d + 1, outputs=1, rows=m, cached=False)
    product = model.objective.curvature(model.theta, model.objective.weights)
    begun = perf_counter()
    product(model.theta)
    once = perf_counter() - begun
    store(chosen.train, model, {"data": "large"}, force=True)
    print(json.dumps({"seconds": model.seconds, "product": once, "solver": solver.kind}))


if __name__ == "__main__":
    parser = options(__doc__)
    parser.add_argument("--large", action="store_true", help="the large problem instead")
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--features", type=int, default=100_000)
    parser.add_argument("--train", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.train is not None:
        train_large(arguments)
    elif arguments.large:
        large(arguments)
    else:
        beside_dense(arguments)
