"""Searches for flips side by side: the answers are those of each by itself, from far fewer retrainings."""

from dataclasses import replace

import numpy as np
import pytest
from core_cases import family
from oracle import LINEAR, LOGISTIC, SOFTMAX
from selection_cases import make_case

from influence_cli.core.quantities import Margin, Prediction, RowTarget
from influence_cli.core.selection import evaluate, together
from influence_cli.core.selection.flip import _Search, flip, flipping
from influence_cli.core.selection.problem import Problem, Selection
from influence_cli.core.selection.together import alone, ranked, side_by_side
from influence_cli.memory import limited


def problems(kind: str, count: int, scaling: str) -> list[Problem]:
    """The same model asked about several test rows."""
    case = make_case(kind, m=40, size=10, scaling=scaling)
    objective, model = case.problem.objective, case.problem
    rows = np.random.default_rng(5).normal(size=(count, 1, case.x.shape[1]))
    if kind == LINEAR:
        targets = [RowTarget(objective, Prediction(family(case.oracle)), x, np.zeros(1)) for x in rows]
    else:
        labels = [objective.family.predict(objective.predict_outputs(model.theta, x))[0] for x in rows]
        of = Margin(family(case.oracle))
        targets = [RowTarget(objective, of, x, label) for x, label in zip(rows, labels, strict=True)]
    return [replace(model, target=target) for target in targets]


@pytest.mark.parametrize(("kind", "scaling"), [(LINEAR, "per-sum"), (LOGISTIC, "per-mean"), (SOFTMAX, "per-mean")])
def test_side_by_side_finds_what_each_search_finds(kind, scaling, monkeypatch):
    calls = []
    for module in (evaluate, together):
        real = module.retrain
        monkeypatch.setattr(module, "retrain", lambda *a, real=real, **k: calls.append(1) or real(*a, **k))
    asked = problems(kind, 5, scaling)
    each, apart = [], []
    for one in asked:
        calls.clear()
        each.append(flip(one))
        apart.append(len(calls))
    calls.clear()
    found = side_by_side([flipping(one, lambda note: None) for one in asked])
    assert sum(one.selection is not None for one in each) >= 2
    for one, other in zip(found, each, strict=True):
        assert (one.selection is None, one.minimal, one.status) == (
            other.selection is None,
            other.minimal,
            other.status,
        )
        assert one.after == pytest.approx(other.after, rel=1e-9, abs=1e-12, nan_ok=True)
        if one.selection is not None:
            assert one.selection.rows.tolist() == other.selection.rows.tolist()
            assert one.selection.predicted_second == pytest.approx(other.selection.predicted_second, rel=1e-9)
    assert len(calls) <= 1.5 * max(apart)  # a block holds 256 groups or more: the longest search sets the count
    assert len(calls) < sum(apart) / 2


@pytest.mark.parametrize("checked", [1000, 40])
def test_many_rows_go_back_in_few_retrainings(checked, monkeypatch):
    """A group far larger than a flip takes: one row back at a time was a retraining of every row for each."""
    case = make_case(LOGISTIC, m=400, size=200)
    x, at = case.x, case.problem
    label = at.objective.family.predict(at.objective.predict_outputs(at.theta, x))[0]
    problem = replace(at, target=RowTarget(at.objective, Margin(family(case.oracle)), x, label), direction="decrease")
    monkeypatch.setattr("influence_cli.core.selection.flip.CHECKED", checked)
    search = _Search(problem, lambda note: None)
    order = alone(ranked(problem, np.empty(0, dtype=np.int64), problem.theta))
    rows = np.sort(np.argsort(-order)[:200])
    (change,) = evaluate.evaluate(problem, evaluate.RETRAINED, [rows]).change
    assert search.flips(change)
    blocks = []
    real = search._evaluate
    monkeypatch.setattr(search, "_evaluate", lambda groups: blocks.append(len(groups)) or real(groups))
    best, shown = alone(search.prune(Selection("greedy", rows, np.nan, np.nan, float(change))))
    back = len(rows) - len(best.rows)
    assert back > 60 and len(blocks) < back / 2
    assert shown == min(checked, len(best.rows))
    ends = evaluate.evaluate(problem, evaluate.RETRAINED, [best.rows, *(np.delete(best.rows, i) for i in range(shown))])
    assert search.flips(ends.change[0]) and best.realised == pytest.approx(ends.change[0], rel=1e-9)
    if checked == 1000:
        assert not any(search.flips(one) for one in ends.change[1:])


def test_searches_side_by_side_take_a_share_of_the_memory():
    (problem,) = problems(LOGISTIC, 1, "per-mean")
    assert together.at_once(problem) == 128
    with limited(8 * 64 * 40 * 5):
        assert together.at_once(problem) == 5
    with limited(1):
        assert together.at_once(problem) == 1


def test_few_groups_of_many_rows_are_held_at_once(monkeypatch):
    case = make_case(LOGISTIC, m=400, size=200)
    x, at = case.x, case.problem
    label = at.objective.family.predict(at.objective.predict_outputs(at.theta, x))[0]
    problem = replace(at, target=RowTarget(at.objective, Margin(family(case.oracle)), x, label), direction="decrease")
    ends, held = [], []
    for allowed in (16e6, 7 * 8 * 60):
        monkeypatch.setattr("influence_cli.core.selection.flip.HELD_BYTES", allowed)
        search, largest = _Search(problem, lambda note: None), [0]
        real = search._evaluate

        def watched(groups, real=real, largest=largest):
            largest[0] = max(largest[0], sum(len(rows) for rows in groups) if len(groups) > 8 else 0)
            return real(groups)

        monkeypatch.setattr(search, "_evaluate", watched)
        order = alone(ranked(problem, np.empty(0, dtype=np.int64), problem.theta))
        rows = np.sort(np.argsort(-order)[:100])
        (change,) = evaluate.evaluate(problem, evaluate.RETRAINED, [rows]).change
        ends.append(alone(search.prune(Selection("greedy", rows, np.nan, np.nan, float(change)))))
        held.append(8 * largest[0])
    (one, count), (other, same) = ends
    assert one.rows.tolist() == other.rows.tolist() and count == same == len(one.rows)
    assert one.realised == pytest.approx(other.realised, rel=1e-9)
    assert held[1] < 7 * 8 * 60 * 2 < held[0]
