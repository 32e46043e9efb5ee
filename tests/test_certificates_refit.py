"""Certificates where features are standardised again, of shares of trials, and of figures of many rows: random problems
against dense refits."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from core_cases import KINDS, family, make_objective, make_oracle
from oracle import LINEAR, LOGISTIC, SOFTMAX, Oracle
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import accuracy_score

from influence_cli import GroupInfluence
from influence_cli.core.certificate import RowGeometry
from influence_cli.core.joint_targets import AbsoluteTarget, OwnTarget, RateTarget, WorstTarget
from influence_cli.core.lost_classes import proven
from influence_cli.core.objectives.families.binomial import Binomial
from influence_cli.core.objectives.glm import Glm
from influence_cli.core.quantities import MeanTarget, RowTarget, WeightedTarget, row_quantity
from influence_cli.core.refined import Goal, refine
from influence_cli.core.removal import PENALTY_SCALINGS, removal
from influence_cli.core.rescaling import Restandardising, Standardised, group_penalty
from influence_cli.core.solvers.choice import make_solver
from influence_cli.core.training import train

OFF = 1e-10
"""What the dense refits may be off by, relative to 1 + |f|."""


def held(objective, theta, w, asked, truth):
    """Intervals of the groups at theta, on the way and near the end, that hold the truth (T, G) one and all; those of
    the end."""
    solver, geometry = make_solver(objective, theta, "cholesky"), RowGeometry.of(objective)
    base = [target.value(theta)[:, 0] for target in asked]
    loss = asked[0]
    goal = Goal(loss, base[0], 1e-6, np.ones((len(base[0]), w.groups), dtype=bool))
    starts = [np.repeat(theta, w.groups, axis=1)]
    for limit in (2, 4, None):
        starts.append(refine(objective, theta, w, solver.preconditioner, replace(goal, steps=limit)).theta)
    for start in starts:
        low, high = proven(objective, start, w, solver.preconditioner, geometry, list(zip(asked, base, strict=True)))
        slack = OFF * (1 + np.abs(truth))
        assert (low <= truth + slack).all()
        assert (truth - slack <= high).all()
    return low, high


def group_rows(rng, m):
    order = rng.permutation(m)
    return [order[:1], order[1:9], order[9 : 9 + m // 3]]


@pytest.mark.parametrize("scaling", PENALTY_SCALINGS)
@pytest.mark.parametrize("intercept", ["free", "penalised"])
@pytest.mark.parametrize("kind", KINDS)
def test_standardised_again(kind, intercept, scaling):
    """The truth is fitted to features that are standardised over the kept rows, with a penalty of 1 a feature."""
    for seed in range(2):
        rng = np.random.default_rng(seed)
        oracle = make_oracle(kind, intercept, m=60, d=4, l2=float(rng.choice([0.3, 0.01, 0.002])), seed=seed)
        Z = (oracle.X - oracle.X.mean(axis=0)) / oracle.X.std(axis=0)
        oracle = replace(oracle, X=Z)
        objective = make_objective(oracle)
        theta = train(objective, tol=1e-10).theta
        groups = group_rows(rng, len(Z))
        groups.append(np.argsort(Z[:, 0])[-17:])  # moves mean and scale
        every = np.ones(4, dtype=bool)
        how = Standardised(every, np.zeros(4), np.ones(4), every)
        ratio, shift = Restandardising(Z, how).without(groups)
        penalty = group_penalty(
            ratio,
            shift,
            size=objective.size,
            units=objective.outputs,
            intercept=True,
            penalized=oracle.l2 if oracle.penalize_intercept else None,
        )
        w = removal(objective.weights, groups, scaling, penalty).removed
        X, y = rng.normal(size=(6, 4)), rng.choice(oracle.y, 6)
        names = ("loss", "prediction") if kind == LINEAR else ("loss", "prob", "margin")
        asked = [RowTarget(objective, row_quantity(name, objective.family, ("0", "1", "2")), X, y) for name in names]
        truth = np.empty((len(names) * 6, len(groups)))
        for g, rows in enumerate(groups):
            kept = np.setdiff1d(np.arange(len(Z)), rows)
            mean, scale = Z[kept].mean(axis=0), Z[kept].std(axis=0)
            refit = replace(oracle, X=(Z[kept] - mean) / scale, y=oracle.y[kept])
            after = refit.minimise(np.full(len(kept), 1.0 / (len(kept) if scaling == "per-mean" else len(Z))))
            found = [refit.quantity(name, after, (X - mean) / scale, y) for name in names]
            truth[:, g] = np.concatenate(found) - np.concatenate([target.value(theta)[:, 0] for target in asked])
        low, high = held(objective, theta, w, asked, truth)
        assert (high - low < 1e-3 * np.abs(truth) + 1e-7).all()


def test_a_class_that_is_gone_with_features_standardised_again():
    oracle = make_oracle(SOFTMAX, "free", m=150, d=4, l2=1e-2)
    Z = (oracle.X - oracle.X.mean(axis=0)) / oracle.X.std(axis=0)
    objective = make_objective(replace(oracle, X=Z))
    theta = train(objective, tol=1e-10).theta
    rows = np.flatnonzero(oracle.y == 2)
    every = np.ones(4, dtype=bool)
    ratio, shift = Restandardising(Z, Standardised(every, np.zeros(4), np.ones(4), every)).without([rows])
    penalty = group_penalty(ratio, shift, size=objective.size, units=3, intercept=True, penalized=None)
    w = removal(objective.weights, [rows], "per-mean", penalty).removed
    kept = oracle.y != 2
    mean, scale = Z[kept].mean(axis=0), Z[kept].std(axis=0)
    two = Oracle(SOFTMAX, (Z[kept] - mean) / scale, oracle.y[kept], 2, oracle.l2)
    X, y = np.random.default_rng(5).normal(size=(4, 4)), np.array([0, 1, 1, 0])
    target = RowTarget(objective, row_quantity("loss", objective.family, ("0", "1", "2")), X, y)
    truth = two.losses(two.minimise(two.uniform()), (X - mean) / scale, y) - target.value(theta)[:, 0]
    low, high = held(objective, theta, w, [target], truth[:, None])
    assert (high - low < 0.02 * np.abs(truth[:, None])).all()


@pytest.mark.parametrize("kind", [LOGISTIC, SOFTMAX, LINEAR])
def test_figures_of_many_rows(kind):
    """Gaps, the worst part, sizes, rates and the removed rows' own mean."""
    for seed in range(2):
        rng = np.random.default_rng(seed)
        oracle = make_oracle(kind, "free", m=60, d=3, l2=0.02, seed=seed)
        objective = make_objective(oracle)
        theta = train(objective, tol=1e-10).theta
        groups = group_rows(rng, 60)
        w = removal(objective.weights, groups, "per-mean").removed
        X, y = rng.normal(size=(40, 3)), rng.choice(oracle.y, 40)
        second, code = np.arange(40) % 3 == 0, 1
        c, part = second / second.sum() - ~second / (~second).sum(), np.arange(40) % 4
        names = ("0", "1", "2")
        loss = RowTarget(objective, row_quantity("loss", objective.family, names), X, y)
        name = "prediction" if kind == LINEAR else "prob"
        other = RowTarget(objective, row_quantity(name, objective.family, names), X, np.full(40, code))
        own = RowTarget(objective, row_quantity("loss", objective.family, names), oracle.X, oracle.y)
        means = [MeanTarget(replace(own, X=oracle.X[rows], y=oracle.y[rows])) for rows in groups]
        asked = [MeanTarget(loss), WeightedTarget(loss, c), WeightedTarget(other, c), WorstTarget(loss, part)]
        asked += [AbsoluteTarget(asked[1]), AbsoluteTarget(WeightedTarget(other, -c)), AbsoluteTarget(asked[3])]
        asked += [] if kind == LINEAR else [RateTarget(objective, family(oracle), code, X, second)]

        def figures(
            at: np.ndarray, oracle=oracle, X=X, y=y, c=c, part=part, second=second, kind=kind, name=name
        ) -> list[float]:
            losses, others = oracle.losses(at, X, y), oracle.quantity(name, at, X, np.full(40, 1))
            worst = max(losses[part == k].mean() for k in range(4))
            found = [losses.mean(), c @ losses, c @ others, worst, abs(c @ losses), abs(c @ others), worst]
            if kind == LINEAR:
                return found
            codes = oracle._laws(oracle.eta(at, X)).argmax(axis=1)
            return [*found, (codes[second] == 1).mean() - (codes[~second] == 1).mean()]

        ends = [oracle.minimise(oracle.weights_without(rows, "per-mean")) for rows in groups]
        truth = np.array([figures(end) for end in ends]).T - np.array(figures(theta[:, 0]))[:, None]
        low, high = held(objective, theta, w, asked, truth)
        assert (high - low < 1e-3 * np.abs(truth) + 1e-6).all()
        solver = make_solver(objective, theta, "cholesky")
        each, base = OwnTarget(means), OwnTarget(means).value(theta)
        near = np.array(ends).T
        low, high = proven(objective, near, w, solver.preconditioner, RowGeometry.of(objective), [(each, base)])
        truth = np.array(
            [oracle.losses(end, oracle.X[g], oracle.y[g]).mean() for end, g in zip(ends, groups, strict=True)]
        )
        assert (low[0] <= truth - base[0] + OFF).all() and (truth - base[0] - OFF <= high[0]).all()
        assert (high - low < 1e-6).all()


@pytest.mark.parametrize("intercept", ["none", "free", "penalised"])
def test_shares_of_trials(intercept):
    """Binomial regression is logistic regression of successes and failures, each with its weight."""
    for seed in range(2):
        rng = np.random.default_rng(seed)
        X, trials = rng.normal(size=(50, 3)), rng.integers(1, 9, 50)
        y = rng.binomial(trials, 1 / (1 + np.exp(-X[:, 0] + 0.4))) / trials
        free, penalised = {"none": (False, False), "free": (True, False), "penalised": (True, True)}[intercept]
        weights = trials / trials.sum()
        own = {"intercept": free, "penalize_intercept": penalised}
        objective = Glm(X, y, Binomial(), l2=0.01, weights=weights, **own)
        theta = train(objective, tol=1e-10).theta
        groups = group_rows(rng, 50)
        w = removal(objective.weights, groups, "per-mean").removed
        each = np.repeat([1.0, 0.0], 50)
        dense = Oracle(LOGISTIC, np.vstack([X, X]), each.astype(int), 2, 0.01, free, penalised)
        at, labels = rng.normal(size=(5, 3)), np.array([0.0, 0.2, 0.5, 0.9, 1.0])
        asked = [
            RowTarget(objective, row_quantity(name, objective.family, ()), at, labels)
            for name in ("loss", "prediction")
        ]
        truth = np.empty((10, len(groups)))
        for g, rows in enumerate(groups):
            kept = weights.copy()
            kept[rows] = 0
            kept /= kept.sum()
            after = dense.minimise(np.concatenate([kept * y, kept * (1 - y)]))
            share = dense.quantity("prob", after, at, np.ones(5, dtype=int))
            entropy = [-sum(q * np.log(q) for q in (p, 1 - p) if q > 0) for p in labels]
            truth[:5, g] = -labels * np.log(share) - (1 - labels) * np.log(1 - share) - entropy
            truth[5:, g] = share
        truth -= np.concatenate([target.value(theta)[:, 0] for target in asked])[:, None]
        low, high = held(objective, theta, w, asked, truth)
        assert (high - low < 1e-3 * np.abs(truth) + 1e-7).all()


def test_scores_of_classes_are_known_where_every_class_is_certain():
    rng = np.random.default_rng(3)
    X, at = rng.normal(size=(80, 3)), rng.normal(size=(30, 3))
    y, labels = (X[:, 0] + rng.normal(size=80) > 0).astype(int), rng.integers(0, 2, 30)
    model = GroupInfluence.fit(X, y, estimator="logistic", C=1.0)
    groups = [np.arange(8 * k, 8 * k + 8) for k in range(4)]
    found = model.influence(groups, at, labels, quantity="score:accuracy", certify=0.05, methods="refined").records()
    before = accuracy_score(labels, LogisticRegression(C=1.0, tol=1e-10).fit(X, y).predict(at))
    for rows, record in zip(groups, found, strict=True):
        kept = np.setdiff1d(np.arange(80), rows)
        fit = LogisticRegression(C=1.0, tol=1e-10).fit(X[kept], y[kept])
        change = accuracy_score(labels, fit.predict(at)) - before
        assert record["low"] <= change + 1e-12 and change - 1e-12 <= record["high"]
        assert record["high"] - record["low"] < 1e-12
    unknown = model.influence(groups, at, labels, quantity="score:roc_auc", certify=0.05, methods="refined")
    assert unknown.records()[0]["low"] is None
    assert "of scores those have one that are made of predicted classes" in unknown.notes[-1]
