"""Quantities of all test rows together: scores against scikit-learn's on refits, gaps against means and differences."""

from __future__ import annotations

from functools import partial

import numpy as np
import pandas as pd
import pytest
from cli_tools import save_blobs, save_regression, train, values_of
from sklearn.compose import ColumnTransformer
from sklearn.linear_model import LogisticRegression, Ridge, RidgeClassifier
from sklearn.metrics import get_scorer
from sklearn.pipeline import make_pipeline

from influence_cli import GroupInfluence
from influence_cli.cli import run
from influence_cli.errors import GinfError, UsageError

M, T = 90, 40
GROUP, KEPT = np.arange(12), np.arange(12, M)


def rows(classes: int, seed: int = 0):
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(M + T, 3))
    X[:, 2] = rng.random(M + T) < 0.4
    score = X @ [1.0, -0.5, 0.8] + 0.8 * rng.normal(size=M + T)
    y = score if not classes else np.digitize(score, [0.2] if classes == 2 else [-0.3, 0.7])
    return X[:M], y[:M], X[M:], y[M:]


def logistic():
    return LogisticRegression(C=0.5, solver="newton-cg", tol=1e-12, max_iter=10_000)


SCORES = [
    (logistic, 2, "accuracy"),
    (logistic, 2, "roc_auc"),
    (logistic, 2, "neg_log_loss"),
    (logistic, 2, "f1"),
    (logistic, 2, "average_precision"),
    (logistic, 2, "neg_brier_score"),
    (logistic, 3, "roc_auc_ovr"),
    (logistic, 3, "f1_macro"),
    (logistic, 3, "neg_log_loss"),
    (lambda: RidgeClassifier(alpha=2.0), 2, "roc_auc"),
    (lambda: RidgeClassifier(alpha=2.0), 3, "balanced_accuracy"),
    (lambda: Ridge(alpha=2.0), 0, "r2"),
    (lambda: Ridge(alpha=2.0), 0, "neg_mean_absolute_error"),
]


@pytest.mark.parametrize(("make", "classes", "name"), SCORES)
def test_scores_are_scikit_learns_before_and_after_refits(make, classes, name):
    X, y, X_test, y_test = rows(classes)
    before, after = make().fit(X, y), make().fit(X[KEPT], y[KEPT])
    scorer = get_scorer(name)
    model = GroupInfluence.from_sklearn(before, X, y)
    truth = model.groundtruth(GROUP, X_test, y_test, quantity=f"score:{name}")
    record = truth.records()[0]
    assert (record["test"], record["quantity"]) == ("mean", f"score:{name}")
    assert record["base"] == pytest.approx(scorer(before, X_test, y_test), abs=1e-7)
    assert record["actual"] == pytest.approx(scorer(after, X_test, y_test) - record["base"], abs=1e-6)
    if classes == 0 or make is not logistic:  # a Newton step of a squared loss is the refit
        found = model.influence(GROUP, X_test, y_test, quantity=f"score:{name}", evaluate="exact", methods=["newton"])
        assert found.values["newton"][0, 0] == pytest.approx(record["actual"], abs=1e-7)


@pytest.mark.parametrize(("classes", "make"), [(0, lambda: Ridge(alpha=2.0)), (2, logistic), (3, logistic)])
def test_a_gap_is_a_difference_of_mean_predictions(classes, make):
    X, y, X_test, _ = rows(classes)
    before, after = make().fit(X, y), make().fit(X[KEPT], y[KEPT])
    second = X_test[:, 2] == 1

    def gap(model):
        own = model.predict(X_test) if not classes else model.predict_proba(X_test)[:, 1]
        return own[second].mean() - own[~second].mean()

    model = GroupInfluence.from_sklearn(before, X, y)
    quantity = "gap:x2:1" if classes == 3 else "gap:x2"
    truth = model.groundtruth(GROUP, X_test, quantity=quantity).records()[0]
    assert truth["base"] == pytest.approx(gap(before), abs=1e-7)
    assert truth["actual"] == pytest.approx(gap(after) - gap(before), abs=1e-6)
    methods = ["first", "newton"]
    linear = model.influence(GROUP, X_test, quantity=quantity, methods=methods).records()[0]
    assert linear["newton"] == pytest.approx(truth["actual"], abs=0.35 * abs(truth["actual"]) + 0.005)
    each = model.influence(GROUP, X_test, np.ones(T), quantity="prediction" if not classes else "prob", methods=methods)
    for method in methods:
        values = each.values[method][0]
        assert linear[method] == pytest.approx(values[second].mean() - values[~second].mean(), rel=1e-8)


def test_a_gap_in_blocks_is_the_same(monkeypatch):
    X, y, X_test, _ = rows(2)
    model = GroupInfluence.fit(X, y)
    whole = model.influence(GROUP, X_test, quantity="gap:x2").values["second"]
    monkeypatch.setattr("influence_cli.core.quantities.GRADIENT_ELEMENTS", 50)
    assert model.influence(GROUP, X_test, quantity="gap:x2").values["second"] == pytest.approx(whole, rel=1e-12)


def test_a_gap_of_a_text_column_goes_by_the_alphabet_and_selects_groups():
    polars = pytest.importorskip("polars")
    X, y, X_test, _ = rows(2)
    frames = [
        polars.DataFrame(part, schema=["a", "b", "c"]).with_columns(sex=np.where(part[:, 2] == 1, "female", "male"))
        for part in (X, X_test)
    ]
    pipeline = make_pipeline(ColumnTransformer([("own", "passthrough", ["a", "b", "c"])]), logistic())
    model = GroupInfluence.from_sklearn(pipeline.fit(frames[0], y), frames[0], y)
    p, female = pipeline.predict_proba(frames[1])[:, 1], X_test[:, 2] == 1
    found = model.influence("column:sex=male", frames[1], quantity="gap:sex").records()[0]["base"]
    assert found == pytest.approx(p[~female].mean() - p[female].mean())
    best = model.select(5, frames[1], quantity="gap:sex", strategies="greedy", verify=True).records()
    assert len(best) == 1
    assert best[0]["actual"] > 0


def fairness(p: np.ndarray, y: np.ndarray, second: np.ndarray, loss: np.ndarray) -> dict[str, float]:
    """Every quantity by hand, from the classes p that are predicted; class 1 is the one that is meant."""

    def rate(of: np.ndarray) -> float:
        return (p[second & of] == 1).mean() - (p[~second & of] == 1).mean()

    means = loss[second].mean(), loss[~second].mean()
    gap = means[0] - means[1]
    own = {"gap-tpr:x2": rate(y == 1), "gap-fpr:x2": rate(y != 1), "gap-loss:x2": gap, "worst:x2": max(means)}
    return own | {f"abs:{name}": abs(value) for name, value in own.items()}


@pytest.mark.parametrize("classes", [2, 3])
def test_fairness_is_what_refits_and_hand_computed_rates_say(classes):
    X, y, X_test, y_test = rows(classes)
    second, found = X_test[:, 2] == 1, []
    group = np.flatnonzero(y == 1)[:20]
    for own in (slice(None), np.setdiff1d(np.arange(M), group)):
        fitted = logistic().fit(X[own], y[own])
        loss = -np.log(fitted.predict_proba(X_test)[np.arange(T), y_test])
        found.append(fairness(fitted.predict(X_test), y_test, second, loss))
    model = GroupInfluence.from_sklearn(logistic().fit(X, y), X, y)
    moved = 0
    for quantity, before in found[0].items():
        named = quantity + (":1" if "pr" in quantity and classes == 3 else "")
        result = model.influence([group], X_test, y_test, quantity=named, methods=["newton", "refined"], verify=True)
        record = result.records()[0]
        change = found[1][quantity] - before
        assert (record["test"], record["quantity"], record["status"]) == ("mean", named, "ok")
        assert (record["base"], record["actual"]) == pytest.approx((before, change), abs=1e-7)
        assert record["refined"] == pytest.approx(change, abs=(0.0 if "pr" in quantity else 0.05) * abs(change) + 1e-9)
        moved += "pr" in quantity and change != 0
    assert moved  # the rates have to move, or nothing is tested


def test_a_gap_of_losses_and_a_worst_one_are_linear_in_the_losses():
    X, y, X_test, y_test = rows(2)
    second = X_test[:, 2] == 1
    model = GroupInfluence.fit(X, y)

    def linear(quantity: str) -> dict:
        return model.influence(GROUP, X_test, y_test, quantity=quantity, methods=["first"], evaluate="linear")

    each = linear("loss")
    means = [each.values["first"][0][part].mean() for part in (second, ~second)]
    worst = int(np.argmax([each.base[part].mean() for part in (second, ~second)]))
    assert linear("gap-loss:x2").values["first"][0, 0] == pytest.approx(means[0] - means[1], rel=1e-10)
    assert linear("worst:x2").values["first"][0, 0] == pytest.approx(means[worst], rel=1e-10)
    sign = 1.0 if linear("gap-loss:x2").base[0] > 0 else -1.0
    assert linear("abs:gap-loss:x2").values["first"][0, 0] == pytest.approx(sign * (means[0] - means[1]), rel=1e-10)


def test_a_kink_is_said_of_linear_figures():
    polars = pytest.importorskip("polars")
    X, y, X_test, y_test = rows(2)
    twice = np.vstack([X_test] * 2)
    frames = [
        polars.DataFrame(part, schema=["a", "b", "c"]).with_columns(half=np.arange(len(part)) // T > 0)
        for part in (X, twice)
    ]
    pipeline = make_pipeline(ColumnTransformer([("own", "passthrough", ["a", "b", "c"])]), logistic())
    model = GroupInfluence.from_sklearn(pipeline.fit(frames[0], y), frames[0], y)
    labels = np.concatenate([y_test, y_test])

    for quantity in ("worst:half", "abs:gap-loss:half", "abs:gap:half"):
        found = model.influence([GROUP], frames[1], labels, quantity=quantity, methods=["first"], evaluate="linear")
        assert found.records()[0]["status"].startswith("uncertain: the figure has a kink here")
    assert model.influence([GROUP], frames[1], labels, quantity="worst:half").records()[0]["status"] == "ok"
    near = twice.copy()
    near[0, 0] += 1e-3  # a gap that is not 0, and that every group moves by more
    nearly = polars.DataFrame(near, schema=["a", "b", "c"]).with_columns(half=np.arange(2 * T) // T > 0)
    found = model.influence(
        "random:30%x8", nearly, labels, quantity="abs:gap:half", methods=["first"], evaluate="linear"
    )
    crossing = found.values["first"][:, 0] < -found.base[0]
    said = [status.startswith("uncertain: first: the linear change crosses 0") for status in found.status]
    assert said == crossing.tolist()


def test_the_worst_is_selected_and_a_flip_of_what_has_one_sign_is_refused():
    X, y, X_test, y_test = rows(2)
    model = GroupInfluence.fit(X, y)
    for quantity in ("worst:x2", "abs:gap:x2", "gap-loss:x2"):
        best = model.select(5, X_test, y_test, quantity=quantity, strategies="greedy", verify=True).records()[0]
        assert best["actual"] > 0
    for quantity in ("worst:x2", "abs:gap:x2", "prob:1"):
        with pytest.raises(UsageError, match="is never negative, so its sign cannot change"):
            model.select(None, X_test, y_test, quantity=quantity, flip=True)
    with pytest.raises(UsageError) as caught:
        model.select(None, X_test, y_test, quantity="abs:gap:x2", flip=True)
    assert caught.value.hint == "use quantity gap:x2"
    with pytest.raises(UsageError, match="has no derivative"):
        model.select(3, X_test, y_test, quantity="gap-tpr:x2")
    for find in (partial(model.select, None, flip=True), partial(model.describe, 1), partial(model.curve, [2, 3])):
        with pytest.raises(UsageError, match="gap-tpr:x2 has no derivative to rank rows by") as caught:
            find(X_test=X_test, y_test=y_test, quantity="gap-tpr:x2")
        assert "ask for gap: or gap-loss: here" in (caught.value.hint or "")


@pytest.mark.parametrize(
    ("quantity", "sentence"),
    [
        ("score:acuracy", "no score of that name"),
        ("score:r2", "is for regressions"),
        ("gap:x9", "is no column of the test rows"),
        ("gap:x0", "a column with two values is expected, but x0 has 40"),
        ("gap:x2:9", "no class is named '9'"),
        ("gap-tpr:x2:9", "no class is named '9'"),
        ("gap-loss:x2:1", "is no column of the test rows"),
        ("worst:", "is no column of the test rows"),
        ("abs:loss", "abs: stands before a figure of all test rows together, found 'loss'"),
        ("abs:gap:x0", "a column with two values is expected"),
    ],
)
def test_quantities_that_do_not_suit_are_refused(quantity, sentence):
    X, y, X_test, y_test = rows(2)
    with pytest.raises(UsageError, match=sentence):
        GroupInfluence.fit(X, y).influence(GROUP, X_test, y_test, quantity=quantity, evaluate="exact")


@pytest.mark.parametrize("label", ["ill: no", "ill: yes", ":", "a:b:c"])
def test_classes_and_columns_whose_names_hold_colons_are_found(label):
    X, y, X_test, y_test = rows(2)
    names = np.array(["no", label])[y]
    columns = ["x0", "x1", "dose: mg"]
    model = GroupInfluence.fit(pd.DataFrame(X, columns=columns), names)
    frame = pd.DataFrame(X_test, columns=columns)
    peer = model.predict(frame)
    here, there = X_test[:, 2] == 1, X_test[:, 2] == 0
    test_names = np.array(["no", label])[y_test]
    for kind, of in (("gap-tpr", test_names == label), ("gap-fpr", test_names != label)):
        found = model.influence(GROUP, frame, test_names, quantity=f"{kind}:dose: mg:{label}").records()[0]
        shares = [(peer[at & of] == label).mean() for at in (here, there)]
        assert found["base"] == pytest.approx(shares[0] - shares[1], abs=1e-12)
    with pytest.raises(UsageError, match="no class is named 'ill: maybe'"):
        model.influence(GROUP, frame, test_names, quantity="gap:dose: mg:ill: maybe")


def test_a_column_of_one_value_is_met_with_another_column():
    X, y, X_test, y_test = rows(2)
    model = GroupInfluence.fit(X, y)
    for quantity, hint in (("gap:x2", "a column with two values"), ("worst:x2", "a column with several values")):
        with pytest.raises(UsageError, match="column with") as caught:
            model.influence(GROUP, X_test[X_test[:, 2] == 1], y_test[X_test[:, 2] == 1], quantity=quantity)
        assert (caught.value.hint or "").endswith(f"or {hint}")


def test_what_the_test_rows_cannot_answer_is_said():
    X, y, X_test, y_test = rows(3)
    model = GroupInfluence.fit(X, y)
    with pytest.raises(UsageError, match="of which class"):
        model.influence(GROUP, X_test, quantity="gap:x2")
    with pytest.raises(UsageError, match="needs the labels of all test rows, and 40 have none"):
        model.groundtruth(GROUP, X_test, quantity="score:accuracy")
    with pytest.raises(UsageError, match="cannot be had of these test rows: multi_class"):
        model.groundtruth(GROUP, X_test, y_test, quantity="score:roc_auc")
    with pytest.raises(UsageError, match="has no derivative, so that it is evaluated exactly"):
        model.influence(GROUP, X_test, y_test, quantity="score:accuracy", evaluate="linear")
    with pytest.raises(UsageError, match="has no derivative"):
        model.select(3, X_test, y_test, quantity="score:accuracy")
    two = GroupInfluence.fit(*rows(2)[:2])
    one = rows(2)[3] == 1
    with pytest.raises(GinfError, match=r"undefined for these|cannot be had"):
        two.groundtruth(GROUP, X_test[one], rows(2)[3][one], quantity="score:roc_auc")
    ridge = GroupInfluence.from_sklearn(RidgeClassifier().fit(*rows(2)[:2]), *rows(2)[:2])
    with pytest.raises(UsageError, match="cannot be had"):
        ridge.groundtruth(GROUP, X_test, rows(2)[3], quantity="score:neg_log_loss")


def test_the_commands_have_them_too(tmp_path, capsys):
    model = train(save_blobs(tmp_path / "b.npz", classes=2), tmp_path / "m.h5")
    capsys.readouterr()
    ask = ["--model", model, "--group", "random:9x3", "--test", "all", "--quantity", "score:neg_log_loss", "--quiet"]
    assert run(["influence", *ask, "--evaluate", "exact", "--method", "newton", "-o", str(tmp_path / "i.h5")]) == 0
    estimated = values_of(capsys.readouterr().out, "newton")
    assert run(["groundtruth", *ask, "-o", str(tmp_path / "t.h5")]) == 0
    assert estimated == pytest.approx(values_of(capsys.readouterr().out, "actual"), abs=0.02)
    assert run(["compare", str(tmp_path / "i.h5"), str(tmp_path / "t.h5")]) == 0
    capsys.readouterr()
    assert run(["influence", *ask, "--evaluate", "linear"]) == 2
    assert "add --evaluate exact" in capsys.readouterr().err
    regression = train(save_regression(tmp_path / "r.npz"), tmp_path / "r.h5", "--estimator", "linear")
    assert run(["influence", "--model", model, "--group", "rows:each", "--test", "all", "--quantity", "score:f1"]) == 0
    assert "--evaluate exact, as the quantity has no derivative" in capsys.readouterr().err
    ask = ["--model", regression, "--group", "random:9", "--test", "all", "--quantity", "score:r2", "--quiet"]
    assert run(["influence", *ask, "--evaluate", "exact"]) == 0


def test_rates_need_rows_of_their_class_and_a_classifier():
    X, y, X_test, y_test = rows(2)
    model = GroupInfluence.fit(X, y)
    second = X_test[:, 2] == 1
    labels = np.where(second, 0, y_test)
    with pytest.raises(UsageError, match=r"where x2 is 1\.0 the chosen test rows have no rows of class 1"):
        model.groundtruth(GROUP, X_test, labels, quantity="gap-tpr:x2")
    with pytest.raises(UsageError, match=r"where x2 is 1\.0 the chosen test rows have no rows of another class than 1"):
        model.groundtruth(GROUP, X_test, np.where(second, 1, y_test), quantity="gap-fpr:x2")
    with pytest.raises(UsageError, match=r"x2 is 1\.0 in all of the chosen test rows"):
        model.groundtruth(GROUP, X_test[second], y_test[second], quantity="worst:x2")
    with pytest.raises(UsageError, match="is for classifiers; this model is a regression"):
        GroupInfluence.fit(*rows(0)[:2], estimator="linear").groundtruth(
            GROUP, X_test, rows(0)[3], quantity="gap-tpr:x2"
        )
    with pytest.raises(UsageError, match="of which class"):
        GroupInfluence.fit(*rows(3)[:2]).groundtruth(GROUP, X_test, rows(3)[3], quantity="gap-fpr:x2")
    with pytest.raises(UsageError, match="needs the labels of all test rows"):
        model.groundtruth(GROUP, X_test, quantity="worst:x2")
