"""``ginf influence --explain``: terms that add up, rows against the dense oracle, and what cannot be explained."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest
from cli_tools import rows_of, save_blobs, save_regression, train
from oracle import SOFTMAX, Oracle

from influence_cli.cli import run

REMOVED = list(range(0, 60, 4))
REMOVE = "rows:" + ",".join(map(str, REMOVED))


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("explain")


@pytest.fixture(scope="module")
def model(folder) -> str:
    return train(save_blobs(folder / "b.npz"), folder / "b.h5", "--l2", "0.05", "--tol", "1e-11")


def ask(capsys, *arguments: str, code: int = 0) -> tuple[str, str]:
    assert run(["influence", *arguments]) == code
    found = capsys.readouterr()
    return found.out, found.err


def test_the_terms_are_the_oracles_and_add_up(model, folder, capsys):
    data = np.load(folder / "b.npz")
    oracle = Oracle(SOFTMAX, data["X_train"], data["y_train"], 3, l2=0.05)
    theta = oracle.minimise(oracle.uniform())
    X, y = data["X_test"][3:4], data["y_test"][3:4]
    slope = oracle.quantity_gradient("loss", theta, X, y)[0]
    changes = oracle.changes(theta, np.array(REMOVED), "per-mean")
    text, _ = ask(capsys, "--model", model, "--group", REMOVE, "--test", "3", "--explain", "--format", "json")
    records = json.loads(text)
    found = {record["part"]: record["change"] for record in records if record["part"] != "row"}
    assert list(found) == ["rows", "weights", "curvature", "beyond", "refined", "interplay"]
    koh, first, second = (slope @ changes[name] for name in ("first-koh", "first", "second"))
    assert found["rows"] == pytest.approx(koh, rel=1e-6)
    assert found["weights"] == pytest.approx(first - koh, rel=1e-6)
    assert found["curvature"] == pytest.approx(second - first, rel=1e-6)
    assert sum(list(found.values())[:4]) == pytest.approx(found["refined"], rel=1e-12)
    after = oracle.minimise(oracle.weights_without(np.array(REMOVED), "per-mean"), start=theta)
    truth = oracle.quantity("loss", after, X, y)[0] - oracle.quantity("loss", theta, X, y)[0]
    assert found["refined"] == pytest.approx(truth, rel=0.05)
    # Every row of the group by its own Newton step.
    own = {row: slope @ oracle.changes(theta, np.array([row]), "per-mean")["rif"] for row in REMOVED}
    assert found["interplay"] == pytest.approx(found["refined"] - sum(own.values()), rel=1e-5)
    largest = sorted(own, key=lambda row: -abs(own[row]))[:10]
    listed = [record for record in records if record["part"] == "row"]
    assert [record["row"] for record in listed] == largest
    total = sum(map(abs, own.values()))
    for record in listed:
        assert record["change"] == pytest.approx(own[record["row"]], rel=1e-6)
        assert record["share"] == pytest.approx(abs(own[record["row"]]) / total, rel=1e-6)
        assert record["true"] == str(data["y_train"][record["row"]])


def test_a_table_says_it_in_words(model, capsys):
    text, _ = ask(capsys, "--model", model, "--group", "rows:1,2", "--test", "3", "--explain", "--format", "table")
    heading = " ".join(text.split("part")[0].split())
    assert heading.startswith("Without rows:1,2 (2 rows) the loss of test row 3 (true ")
    assert " would fall by " in heading or " would rise by " in heading
    assert "; this may be off by " in heading
    assert "the group takes its curvature with it" in text
    assert max(map(len, text.splitlines())) < 110


def test_machine_formats_have_the_same_records(model, capsys):
    text, _ = ask(capsys, "--model", model, "--group", "random:5", "--test", "mean", "--explain")
    rows = rows_of(text)
    assert list(rows[0]) == ["part", "row", "record", "id", "true", "change", "share"]
    assert [row["part"] for row in rows] == [
        *["rows", "weights", "curvature", "beyond", "refined", "interplay"],
        *["row"] * 5,
    ]


def test_networks_are_explained_without_rif(folder, capsys):
    path = train(save_regression(folder / "r.npz"), folder / "n.h5", "--estimator", "mlp-regressor", "--hidden", "4")
    capsys.readouterr()
    asked = ("--model", path, "--group", "random:5", "--test", "0", "--quantity", "prediction", "--explain")
    text, _ = ask(capsys, *asked, "--format", "json")
    found = {record["part"]: record["change"] for record in json.loads(text) if record["part"] != "row"}
    own = sum(record["change"] for record in json.loads(text) if record["part"] == "row")
    assert own == pytest.approx(found["rows"], rel=1e-6)
    assert sum(list(found.values())[:4]) == pytest.approx(found["refined"], rel=1e-12)


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (("--group", "random:3x2", "--test", "0"), "is about one group and one test row, found 2 and 1"),
        (("--group", "random:3", "--test", "0:4"), "is about one group and one test row, found 1 and 4"),
        (("--group", "random:3", "--test", "0", "--method", "first"), "--method does not go with --explain"),
        (("--group", "random:3", "--test", "0", "--errors"), "--errors does not go with --explain"),
        (("--group", "random:3", "--test", "0", "-o", "x.h5"), "expected the ending one of .csv"),
        (("--group", "random:3", "--test", "0:9", "--quantity", "score:accuracy"), "has no derivative"),
    ],
)
def test_what_cannot_be_explained_is_said(model, capsys, more, said):
    _, err = ask(capsys, "--model", model, *more, "--explain", code=2)
    assert said in err


def test_a_figure_without_a_finite_value_is_not_explained(model, folder, capsys):
    data = np.load(folder / "b.npz")
    own = int(np.flatnonzero(data["y_test"] == 1)[0])
    _, err = ask(capsys, "--model", model, "--group", "coherent:1", "--test", str(own), "--explain", code=4)
    assert "there is nothing to explain: without the group the figure has no finite value" in err


def test_a_response_is_rounded_to_be_read(folder, capsys):
    line = train(save_regression(folder / "l.npz"), folder / "l.h5", "--estimator", "linear")
    text, _ = ask(capsys, "--model", line, "--group", "rows:1,2", "--test", "3", "--explain", "--format", "table")
    true, guess = re.search(r"\(true (\S+), predicted (\S+)\)", " ".join(text.split())).groups()
    assert float(true) == float(f"{np.load(folder / 'l.npz')['y_test'][3]:.4g}")
    assert max(len(number.lstrip("-")) for number in (true, guess)) <= 8
