"""How far the figures can be trusted: refined estimates, errors and certificates against retraining.

Eight data sets, lambda 1e-1 to 1e-6, groups from one row to 90%, coherent ones and whole classes, both scalings; the
loss of eight test rows.  The truth is retraining to 1e-11, and of certificates its own proven interval.  A pass is a
forward and a backward product of one parameter vector with every row.  Writes the table of docs/trust.md.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from time import perf_counter

import numpy as np
from scipy.stats import spearmanr

from influence_cli.core.certificate import RowGeometry
from influence_cli.core.error_estimate import ErrorEstimator
from influence_cli.core.estimators import estimate, newton_step, removed_gradient
from influence_cli.core.lost_classes import proven
from influence_cli.core.objectives.families.gaussian import Gaussian
from influence_cli.core.objectives.families.logistic import Logistic
from influence_cli.core.objectives.families.poisson import Poisson
from influence_cli.core.objectives.families.softmax import Softmax
from influence_cli.core.objectives.glm import Glm
from influence_cli.core.quantities import Loss, RowTarget
from influence_cli.core.refined import Goal, first_gradient, refine
from influence_cli.core.removal import PER_MEAN, PER_SUM, Removal, removal
from influence_cli.core.retraining import retrain
from influence_cli.core.rows.design import Design
from influence_cli.core.solvers.choice import HessianSolver, make_solver
from influence_cli.core.training import train
from influence_cli.data.load import load
from influence_cli.data.options import TableOptions

TESTS, REPEATS = 8, 3
RELS = (0.1, 0.05, 0.01)
METHODS = ("first", "second", "newton")
FLOOR = 1e-11
"""Under this share of 1 + |f| the truth itself is uncertain."""
FAR = 1e3


@dataclass
class Problem:
    """A model, its parameters and test rows."""

    name: str
    l2: float
    objective: Glm
    theta: np.ndarray
    solver: HessianSolver
    target: RowTarget

    @property
    def base(self) -> np.ndarray:
        return self.target.value(self.theta)[:, 0]


@dataclass
class Tally:
    """Sums over all problems and groups, by what is measured."""

    refined: dict = field(default_factory=dict)
    errors: dict = field(default_factory=dict)
    sizes: dict = field(default_factory=dict)
    widths: list = field(default_factory=list)
    intervals: list = field(default_factory=list)
    certified: list = field(default_factory=list)
    light: list = field(default_factory=list)
    pairs: int = 0


class Passes:
    """Passes of dense designs, counted while the block runs; over k rows of m, k / m of one, and a dense Hessian of D
    columns and n blocks as the n (D + 1) / (4 F) passes of F outputs whose multiply-adds it has."""

    @classmethod
    @contextmanager
    def counted(cls, objective: Glm) -> Iterator[list[float]]:
        found, outputs, m = [0.0], objective.passes.free, objective.design.rows
        sweep, chosen, hessians = Design.sweep, Design.sweep_chosen, Glm.dense_curvatures
        together = Design.sweep_groups

        def counted_sweep(self, W, rowwise, count):
            found[0] += self.rows / m * (len(W) + count) / (2 * outputs)
            return sweep(self, W, rowwise, count)

        def counted_chosen(self, W, rowwise, rows, width):
            found[0] += sum(map(len, rows)) / m
            return chosen(self, W, rowwise, rows, width)

        def counted_together(self, W, rowwise, rows, width):
            found[0] += sum(map(len, rows)) / m
            return together(self, W, rowwise, rows, width)

        def counted_hessians(self, theta, w):
            blocks = self.outputs * (self.passes.free + 1) // 2
            share = self.design.rows / m * max(theta.shape[1], w.groups)
            found[0] += share * blocks * (self.design.columns + 1) / (4 * outputs)
            return hessians(self, theta, w)

        Design.sweep, Design.sweep_chosen = counted_sweep, counted_chosen  # type: ignore[method-assign,assignment]
        Design.sweep_groups = counted_together  # type: ignore[method-assign]
        Glm.dense_curvatures = counted_hessians  # type: ignore[method-assign]
        try:
            yield found
        finally:
            Design.sweep, Design.sweep_chosen, Glm.dense_curvatures = sweep, chosen, hessians  # type: ignore[method-assign]
            Design.sweep_groups = together  # type: ignore[method-assign]


def data_sets(mnist: str | None) -> Iterator[tuple[str, np.ndarray, np.ndarray, object, tuple[float, ...]]]:
    """Name, features, labels, family and lambdas."""
    from sklearn import datasets
    from sklearn.preprocessing import StandardScaler

    def scaled(X: np.ndarray) -> np.ndarray:
        return StandardScaler().fit_transform(X)

    digits, breast = datasets.load_digits(return_X_y=True), datasets.load_breast_cancer(return_X_y=True)
    wine, diabetes = datasets.load_wine(return_X_y=True), datasets.load_diabetes(return_X_y=True)
    yield "digits", digits[0] / 16, digits[1], Softmax(10), (1e-1, 1e-3, 1e-5)
    yield "breast cancer", scaled(breast[0]), breast[1], Logistic(), (1e-1, 1e-3, 1e-5)
    yield "wine", scaled(wine[0]), wine[1], Softmax(3), (1e-1, 1e-3, 1e-5)
    yield "diabetes", scaled(diabetes[0]), (diabetes[1] - 152) / 77, Gaussian(), (1e-1, 1e-3)
    file = str(Path(__file__).parent.parent / "sample_data" / "strikes.csv")
    strikes = load(file, task="classification", table=TableOptions("damaged", ("airport", "operator", "report")))
    yield "strikes", np.asarray(strikes.X_train), strikes.y_train, Logistic(), (1e-3, 1e-5, 1e-6)
    rng = np.random.default_rng(0)
    X = rng.normal(size=(1500, 8)) * 0.5
    yield "Poisson", X, rng.poisson(np.exp(X[:, :3].sum(axis=1) + 0.5)).astype(float), Poisson(), (1e-1, 1e-3, 1e-5)
    X = rng.normal(size=(1250, 400))
    yield "1,000 x 400", X, (X[:, :10].sum(axis=1) + 2 * rng.normal(size=1250) > 0) * 1, Logistic(), (1e-1, 1e-2, 1e-3)
    if mnist:
        whole = load(mnist, task="classification")
        pick = rng.permutation(whole.rows)[:6250]
        yield "MNIST 5,000", np.asarray(whole.X_train[pick]), whole.y_train[pick], Softmax(10), (1e-3,)


def problems(mnist: str | None) -> Iterator[Problem]:
    for name, X, y, family, lambdas in data_sets(mnist):
        order = np.random.default_rng(1).permutation(len(y))
        cut = int(0.8 * len(y))
        rows, tests = order[:cut], order[cut : cut + TESTS]
        for l2 in lambdas:
            objective = Glm(X[rows], y[rows], family, l2=l2)
            theta = train(objective, tol=1e-10).theta
            solver = make_solver(objective, theta, "cholesky")
            yield Problem(name, l2, objective, theta, solver, RowTarget(objective, Loss(family), X[tests], y[tests]))


def groups_of(y: np.ndarray, classes: int) -> dict[str, list[np.ndarray]]:
    rng, m = np.random.default_rng(2), len(y)
    sizes = {"1 row": 1, "1%": m // 100, "5%": m // 20, "20%": m // 5, "50%": m // 2, "90%": 9 * m // 10}
    found = {
        name: [np.sort(rng.choice(m, max(1, k), replace=False)) for _ in range(REPEATS)] for name, k in sizes.items()
    }
    if classes:
        found["coherent 5%"] = [np.flatnonzero(y == k)[: m // 20] for k in range(min(classes, REPEATS))]
        found["whole class"] = [np.flatnonzero(y == k) for k in range(min(classes, REPEATS))]
    else:
        ordered = np.argsort(y, kind="stable")
        found["coherent 5%"] = [np.sort(ordered[: m // 20]), np.sort(ordered[-(m // 20) :])]
    return found


def finite_pairs(problem: Problem, groups: Removal) -> np.ndarray:
    """(T, G): whether f has a finite value after removal."""
    runaway = problem.objective.recession(groups.removed)
    counts = np.ones((TESTS, groups.removed.groups), dtype=bool)
    if runaway.any():
        far, further = (problem.target.value(problem.theta + step * runaway) for step in (FAR, FAR + 1))
        counts = np.abs(further - far) <= 1e-6 * (1 + np.abs(far))
    return counts


def measure(problem: Problem, size: str, groups: Removal, tally: Tally) -> None:
    objective, theta, w = problem.objective, problem.theta, groups.removed
    M = problem.solver.preconditioner
    counts, base = finite_pairs(problem, groups), problem.base
    with Passes.counted(objective) as retraining:
        retrained = retrain(objective, theta, w, preconditioner=M)
    end = retrain(objective, theta, w, preconditioner=M, tol=1e-11).theta
    truth = problem.target.value(end) - base[:, None]
    floor = FLOOR * (1 + np.abs(base[:, None]))
    tally.pairs += int(counts.sum())
    gradient = first_gradient(objective, theta, groups)
    cell = (problem.name, problem.l2)

    for rel in RELS:
        goal = Goal(problem.target, base, rel, counts)
        with Passes.counted(objective) as used:
            found = refine(objective, theta, w, M, goal, gradient=gradient)
        off, met = np.abs(found.change - truth), found.met & counts
        row = (used[0], retraining[0], met.sum(), counts.sum(), ((off <= rel * np.abs(truth) + floor) & met).sum(),
               ((off <= found.error + floor) & counts).sum())  # fmt: skip
        tally.refined.setdefault(rel, []).append((size, problem.l2, *row))

    goal = Goal(problem.target, base, 0.05, counts)
    with Passes.counted(objective) as used:
        two = refine(objective, theta, w, M, replace(goal, steps=2), gradient=gradient)
    _record(tally, size, "two steps", two.change, truth, counts, floor, used[0] / w.groups)
    errors = ErrorEstimator(objective, theta, w, M, gradient, values=problem.target.value, base=base)
    for method in METHODS:
        with Passes.counted(objective) as used:
            solved = estimate(objective, theta, problem.solver, groups, (method,))[method].solved(problem.solver)
        change = problem.target.value(theta + solved.change) - base[:, None]
        _record(tally, size, method, change, truth, counts, floor, used[0] / w.groups)
        own, _ = errors.of(solved.change, change)
        known = counts & np.isfinite(change)
        off = np.abs(change - truth)
        tally.errors.setdefault(method, []).append(
            (cell, off[known], own[known], np.broadcast_to(floor, off.shape)[known])
        )
    if size in ("1%", "5%") and problem.solver.exact:
        _measure_light(problem, groups, tally)
    _measure_proofs(problem, groups, end, retrained.theta, counts, retraining[0], tally)


def _record(tally, size, method, change, truth, counts, floor, passes) -> None:
    seen = counts & (np.abs(truth) > 100 * floor)
    with np.errstate(invalid="ignore"):
        relative = np.abs(change - truth)[seen] / np.abs(truth)[seen]
    if relative.size:
        tally.sizes.setdefault((size, method), []).append((np.nanmedian(relative), passes))


def _measure_light(problem: Problem, groups: Removal, tally: Tally) -> None:
    """Newton steps by the groups' rows alone beside products over all rows."""
    objective, theta = problem.objective, problem.theta
    g = removed_gradient(objective, theta, groups)
    with Passes.counted(objective) as light:
        ours = newton_step(objective, theta, problem.solver, groups, g)
    with Passes.counted(objective) as full:
        theirs = newton_step(objective, theta, replace(problem.solver, factor=None), groups, g)
    off = np.linalg.norm(ours.x - theirs.x, axis=0) / np.linalg.norm(theirs.x, axis=0)
    tally.light.append((off.max(), light[0] / len(off), full[0] / len(off)))


def _measure_proofs(problem, groups, end, retrained, counts, retraining_passes, tally) -> None:
    """Intervals at several points against the truth's own; widths where retraining ended; what 1% costs."""
    objective, theta, w = problem.objective, problem.theta, groups.removed
    M, base = problem.solver.preconditioner, problem.base
    asked, geometry = [(problem.target, base)], RowGeometry.of(objective)
    true_low, true_high = proven(objective, end, w, M, geometry, asked)
    goal = Goal(problem.target, base, 0.05, counts)
    points = [refine(objective, theta, w, M, replace(goal, steps=k)).theta for k in (2, 4, 8)]
    points += [refine(objective, theta, w, M, goal).theta, retrained]
    for point in points:
        low, high = proven(objective, point, w, M, geometry, asked)
        finite = counts & np.isfinite(low) & np.isfinite(true_high)
        clash = finite & ((low > true_high) | (true_low > high))
        tally.intervals.append((int(counts.sum()), int(finite.sum()), int(clash.sum())))
    value = problem.target.value(end) - base[:, None]
    if problem.l2 >= 1e-3:
        seen = counts & (np.abs(value) > 1e-8 * (1 + np.abs(base[:, None])))
        tally.widths.append(((high - low) / np.abs(value))[seen])
    from influence_cli.analysis.certification import BEGIN, Certifier

    class Asked:
        targets, quantity, by_group = (problem.target,), "loss", False
        value = staticmethod(problem.target.value)

    with Passes.counted(objective) as used:
        first = refine(objective, theta, w, M, Goal(problem.target, base, 0.01 * BEGIN, counts))
        certifier = Certifier(Asked, objective, theta, base, 0.01)
        _, ends = certifier.narrow(first, w, M, counts)
    width = (ends[1] - ends[0])[counts] <= 0.01 * np.abs(first.change[counts]) + 1e-9
    tally.certified.append((used[0], retraining_passes, w.groups, objective.outputs, width.mean(), problem.l2))


def table(tally: Tally) -> Iterator[str]:
    yield f"{tally.pairs:,} pairs of a group and a test row.\n"
    yield "| `refined` to | accepted | of these truly within | `error` covers | passes / retraining's | median |"
    yield "|---|---|---|---|---|---|"
    for rel, rows in tally.refined.items():
        yield _refined_row(f"{rel:.0%}", rows)
        yield _refined_row(f"{rel:.0%}, lambda >= 1e-3", [row for row in rows if row[1] >= 1e-3])
    yield "\n| groups | passes / retraining's to 5%, pooled | accepted | truly within |\n|---|---|---|---|"
    for size in dict.fromkeys(row[0] for row in tally.refined[0.05]):
        rows = np.array([row[2:] for row in tally.refined[0.05] if row[0] == size], dtype=float).sum(axis=0)
        yield f"| {size} | {rows[0] / rows[1]:.2f} | {rows[2] / rows[3]:.1%} | {rows[4] / rows[2]:.2%} |"
    yield "\n| error of | covers, pooled | least of the cells, lambda >= 1e-3 | rank | median error / true |"
    yield "|---|---|---|---|---|"
    for method, rows in tally.errors.items():
        yield _errors_row(method, rows)
    yield "\n| groups | " + " | ".join((*METHODS, "two steps")) + " |\n|---|---|---|---|---|"
    for size in dict.fromkeys(size for size, _ in tally.sizes):
        cells = [
            np.array(tally.sizes[size, method]) for method in (*METHODS, "two steps") if (size, method) in tally.sizes
        ]
        yield f"| {size} | " + " | ".join(f"{np.median(c[:, 0]):.3g} ({c[:, 1].mean():.1f})" for c in cells) + " |"
    asked, finite, clash = np.array(tally.intervals).sum(axis=0)
    yield f"\nCertificates: {finite:,} finite intervals of {asked:,}, {clash} contradictions of the truth's own."
    widths = np.concatenate(tally.widths)
    yield (
        "At the retrained parameters, lambda >= 1e-3: narrower than 1% of the effect for"
        f" {np.mean(widths < 0.01):.1%} of {len(widths):,} pairs; median {np.median(widths):.1e}."
    )
    rows = np.array(tally.certified)
    own = rows[:, 2] * ((rows[:, 3] + 1) / 2 + 2)
    ratio = (rows[:, 0] - own) / rows[:, 1]
    yield (
        f"`--certify 1%`: {np.median(rows[:, 0] / rows[:, 1]):.2f} of retraining's passes in the median of the blocks,"
        f" {np.median(ratio):.2f} without (K + 1)/2 + 2 a group; {np.average(rows[:, 4]):.1%} of the pairs end narrow"
        f" ({np.average(rows[rows[:, 5] >= 1e-3, 4]):.1%} with lambda >= 1e-3)."
    )
    light = np.array(tally.light)
    yield (
        f"Light `newton`, groups of 1% and 5%: off by {light[:, 0].max():.1e} at most;"
        f" {np.median(light[:, 1]):.2f} passes a group in the median instead of {np.median(light[:, 2]):.1f}."
    )


def _refined_row(name: str, rows: list) -> str:
    used = np.array([row[2:] for row in rows], dtype=float)
    total = used.sum(axis=0)
    return (
        f"| {name} | {total[2] / total[3]:.1%} | {total[4] / total[2]:.2%} | {total[5] / total[3]:.1%} |"
        f" {total[0] / total[1]:.2f} | {np.median(used[:, 0] / used[:, 1]):.2f} |"
    )


def _errors_row(method: str, rows: list) -> str:
    off, own, floor = (np.concatenate([row[k] for row in rows]) for k in (1, 2, 3))
    cells: dict = {}
    for cell, one, error, least in rows:
        cells.setdefault(cell, []).append(one <= error + least)
    covered = {cell: np.concatenate(parts).mean() for cell, parts in cells.items() if cell[1] >= 1e-3}
    worst = min(covered, key=covered.__getitem__)
    seen = off > floor
    return (
        f"| `{method}` | {np.mean(off <= own + floor):.1%} | {covered[worst]:.0%} ({worst[0]}, {worst[1]:g}) |"
        f" {spearmanr(off[seen], own[seen]).statistic:.3f} | {np.median(own[seen] / off[seen]):.1f} |"
    )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--mnist", help="folder of MNIST's IDX files; without it seven data sets are measured")
    chosen = parser.parse_args()
    begun, tally = perf_counter(), Tally()
    for problem in problems(chosen.mnist):
        for scaling in (PER_MEAN, PER_SUM) if problem.name in ("breast cancer", "wine", "strikes") else (PER_MEAN,):
            for size, rows in groups_of(problem.objective.y, problem.objective.family.classes).items():
                measure(problem, size, removal(problem.objective.weights, rows, scaling), tally)
        print(f"<!-- {problem.name}, lambda {problem.l2:g}: {perf_counter() - begun:.0f} s -->", flush=True)
    for line in table(tally):
        print(line)
