"""Results to compare: groups of some kinds and sizes, their truth, and estimates with noise."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from influence_cli.analysis.compare import Settings, compare
from influence_cli.analysis.matching import match
from influence_cli.results import GroupTable, InfluenceResult, Provenance, TruthResult

M = 1000
TESTS = np.array([17, 40, 41])
PROMISED = "kind,size,test,method,n,pearson,pearson_low,pearson_high,spearman,slope,rmse,relative_error,sign_agreement"
ADDED = "groups,tests,dropped,fraction,size_min,size_max,quantity,status"
KEYS = f"{PROMISED},{ADDED}".split(",")
FOUND_AGAINST = ["against", "difference", "difference_low", "difference_high", "gain"]
ADDED_AGAINST = ["error_change"]
ORIGIN = Provenance("d" * 64, "e" * 64, {"seed": 0})


def table(*specs):
    """Groups from (label, size) pairs; different groups have different rows."""
    labels, sizes = zip(*specs, strict=True)
    digests = tuple(f"{hash_of(label):064x}" for label in labels)
    sizes = np.array(sizes, dtype=np.int64)
    return GroupTable(labels, tuple(label.partition(":")[0] for label in labels), sizes, sizes / M, digests)


def hash_of(label):
    return int.from_bytes(label.encode()[:32], "big") * 7919 % 2**251


def drawn(spec, size, times):
    return [(f"{spec}#{number}", size) for number in range(times)]


CLASSES = [(f"coherent:{label}", 90 + label) for label in range(10)]
GROUPS = table(*drawn("random:5%", 50, 12), *drawn("random:360", 360, 12), *CLASSES)


def results(groups=GROUPS, tests=TESTS, noise=None, **changes):
    """Estimates and truth; ``noise`` is that of each method relative to the truth's spread."""
    rng = np.random.default_rng(0)
    shape = (len(groups), len(tests))
    actual = rng.normal(size=shape) + 10.0 * np.arange(len(tests))
    noises = {"first": 0.8, "second": 0.2} if noise is None else noise
    values = {method: actual / 2 + size / 2 * rng.normal(size=shape) for method, size in noises.items()}
    ok = ("ok",) * len(groups)
    estimates = InfluenceResult(ORIGIN, groups, tests, "loss", "linear", np.zeros(len(tests)), values, ok)
    count = len(groups)
    ended = (np.full(count, 1e-9), np.full(count, 5), np.full(count, 0.1))
    truth = TruthResult(ORIGIN, groups, tests, "loss", np.zeros(len(tests)), actual, *ended, ok)
    return replace(estimates, **changes), truth


def records(estimates, truth, *more, **settings):
    files = [("influence.h5", estimates), ("truth.h5", truth), *((f"more{n}.h5", file) for n, file in enumerate(more))]
    return compare(match(files), Settings(**{"resamples": 200, **settings})).rows


def one(rows, **wanted):
    found = [row for row in rows if all(row[key] == value for key, value in wanted.items())]
    assert len(found) == 1
    return found[0]


def part(result, rows):
    """Some groups of a truth."""
    groups = result.groups
    picked = GroupTable(
        tuple(groups.label[row] for row in rows),
        tuple(groups.kind[row] for row in rows),
        groups.size[rows],
        groups.fraction[rows],
        tuple(groups.digest[row] for row in rows),
    )
    fields = {name: getattr(result, name)[rows] for name in ("actual", "grad_norm", "iterations", "seconds")}
    return replace(result, groups=picked, **fields, status=tuple(result.status[row] for row in rows))
