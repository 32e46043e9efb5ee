"""Tables from the command line: the sample of strikes end to end, and figures against scikit-learn's own refits."""

from __future__ import annotations

import csv
import json
import shlex
from pathlib import Path

import numpy as np
import pytest
from cli_tools import ginf, rows_of
from sklearn.linear_model import LogisticRegression

from influence_cli.artifacts.model import load_model
from influence_cli.cli import run

SAMPLE = Path(__file__).parent.parent / "sample_data" / "strikes.csv"
OPTIONS = ("--label", "damaged", "--drop", "airport,operator", "--id", "report", "--quiet")


@pytest.fixture(scope="module")
def reports():
    with SAMPLE.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    path = tmp_path_factory.mktemp("tables") / "strikes.h5"
    assert run(["train", "--data", str(SAMPLE), *OPTIONS, "--C", "0.5", "-o", str(path)]) == 0
    return path


@pytest.fixture
def said(capsys):
    def said(*arguments, code=0):
        """Output and errors of a command that ends with this code."""
        capsys.readouterr()
        assert run([str(one) for one in arguments]) == code
        return capsys.readouterr()

    return said


def test_the_sample_is_as_its_description_says(reports):
    assert len(reports) == 1856 and SAMPLE.stat().st_size < 200_000
    assert list(reports[0]) == ["report", "airport", "operator", "phase", "size", "light", "speed", "damaged"]
    assert len({row["airport"] for row in reports}) == 50
    assert sum(row["damaged"] == "1" for row in reports) == 199
    assert {row["size"] for row in reports} == {"Small", "Medium", "Large"}


def features_of(reports):
    """Columns of the sample in the order of the model's features, by hand."""
    known = [(name, kind) for name in ("phase", "size", "light") for kind in sorted({row[name] for row in reports})]
    kinds = [[float(row[name] == kind) for name, kind in known] for row in reports]
    return np.hstack([kinds, [[float(row["speed"])] for row in reports]])


def test_removing_an_airport_against_scikit_learn_refitted_without_it(model, reports, said):
    data = load_model(model).dataset
    by_report = {row["report"]: row for row in reports}
    train, test = ([by_report[str(report)] for report in ids] for ids in (data.ids_train, data.ids_test))
    every = features_of([*train, *test])
    X, Z = every[: len(train)], every[len(train) :]
    y = np.array([row["damaged"] == "1" for row in train]).astype(int)
    airport = np.array([row["airport"] for row in train])

    records = json.loads(
        said("groundtruth", "--model", model, "--group", "by:airport", "--test", "17", "--quantity", "prob",
             "--format", "json", "--quiet").out
    )  # fmt: skip
    assert [record["group"] for record in records] == [f"column:airport={name}" for name in sorted(set(airport))]
    own = int(test[17]["damaged"])

    def prob(keep):
        mean, scale = X[keep, -1].mean(), X[keep, -1].std()  # made again without the rows
        parts = [np.column_stack([part[:, :-1], (part[:, -1] - mean) / scale]) for part in (X, Z)]
        fitted = LogisticRegression(C=0.5, tol=1e-10, max_iter=10_000).fit(parts[0][keep], y[keep])
        return fitted.predict_proba(parts[1][17:18])[0, own]

    before = prob(np.ones(len(y), dtype=bool))
    for record in records[::9]:
        keep = airport != record["group"].partition("=")[2]
        assert record["size"] == (~keep).sum()
        assert record["base"] == pytest.approx(before, abs=1e-5)
        assert record["actual"] == pytest.approx(prob(keep) - before, abs=1e-6)


def test_the_estimate_finds_the_airports_that_matter_and_retraining_agrees(model, said):
    asked = ("--model", model, "--group", "by:airport", "--test", "17", "--quantity", "prob", "--quiet")
    estimated = rows_of(said("influence", *asked, "--method", "second").out)
    actual = rows_of(said("groundtruth", *asked).out)

    def first_three(rows, key):
        return [row["group"] for row in sorted(rows, key=lambda row: -abs(float(row[key])))[:3]]

    assert first_three(estimated, "second") == first_three(actual, "actual")
    pairs = [(float(one["second"]), float(other["actual"])) for one, other in zip(estimated, actual, strict=True)]
    assert np.corrcoef(np.array(pairs).T)[0, 1] > 0.999


def test_conditions_name_one_group(model, reports, said):
    spec = "column:airport=DENVER INTL AIRPORT&speed=120..150&phase=Approach"
    (row,) = rows_of(said("influence", "--model", model, "--group", spec, "--test", "0", "--quiet").out)
    assert row["group"] == "column:airport=DENVER INTL AIRPORT,phase=Approach,speed=120..150"
    assert row["kind"] == "column"
    known = {str(report) for report in load_model(model).dataset.ids_train}
    meant = [
        one for one in reports
        if one["report"] in known and one["airport"] == "DENVER INTL AIRPORT" and 120 <= int(one["speed"]) <= 150
        and one["phase"] == "Approach"
    ]  # fmt: skip
    assert int(row["size"]) == len(meant) > 0


def test_data_without_columns_refuses_such_groups(tmp_path, said):
    run(["train", "--data", "synthetic", "-o", str(tmp_path / "m.h5"), "--quiet"])
    shown = said("influence", "--model", tmp_path / "m.h5", "--group", "by:airport", "--test", "0", code=2)
    assert "ginf: error: group 'by:airport': this data has no named columns" in shown.err


@pytest.mark.parametrize(
    ("content", "options", "code", "message"),
    [
        ("a,y\n1,0\n2,1\n3,0\n4,1\n", (), 2, "a table needs --label COLUMN, the column to predict; its col"),
        ("a,y\n1,0\n2,1\n3,0\n4,1\n", ("--label", "Y"), 2, "did you mean y?"),
        ("a,y\n1,0\n2,1\n3,0,1\n4,1\n", ("--label", "y"), 3, "line 4 has 3"),
        ("a,y\n1,0\n,1\n3,0\n4,1\n", ("--label", "y"), 3, "values are missing: a in 1 row"),
        ("a,y\n1,0\n,1\n3,0\n4,1\n", ("--label", "y", "--impute", "modus"), 2, "--impute must be one of median"),
        ("", ("--label", "y"), 3, "the table is empty"),
        ("a,y\n1,0\n2,1\n3,0\n4,1\n", ("--label", "y", "--test-data", "none.csv"), 3, "none.csv: no such file"),
    ],
)
def test_exit_codes_and_sentences(tmp_path, monkeypatch, said, content, options, code, message):
    monkeypatch.chdir(tmp_path)
    Path("a.csv").write_text(content)
    shown = said("train", "--data", "a.csv", *options, code=code)
    assert message in shown.err and "Traceback" not in shown.err and not Path("ginf.h5").exists()


def test_test_rows_without_labels(tmp_path, monkeypatch, reports, said):
    monkeypatch.chdir(tmp_path)
    names = list(reports[0])
    for name, rows, columns in (("train.csv", reports[:1200], names), ("new.csv", reports[1200:], names[:-1])):
        with Path(name).open("w", newline="") as file:
            writer = csv.DictWriter(file, columns, extrasaction="ignore")
            writer.writeheader()
            writer.writerows(rows)
    asked = ("train", "--data", "train.csv", "--test-data", "new.csv", *OPTIONS, "--format", "ndjson")
    record = json.loads(said(*asked).out)
    assert record["test_rows"] == 656 and record["test_score"] is None
    asked = ("influence", "--group", "by:size", "--test", "0:3", "--quiet", "--format", "json")
    for quantity in ("prob", "margin"):
        found = json.loads(said(*asked, "--quantity", quantity).out)
        assert len(found) == 9
        assert all(row["base"] > (0.5 if quantity == "prob" else 0) for row in found), "of the predicted class"
        page = said("influence", *asked[1:3], "--test", "mean", "--quantity", quantity, "--format", "table").out
        assert " of the predicted class" in page.splitlines()[0]
    shown = said(*asked, code=2)
    assert "--quantity loss needs the label of the test row, and test row 0 and 2 more have none" in shown.err
    assert "prob or margin" in shown.err
    shown = said("influence", "--group", "by:size", "--test", "misclassified", code=2)
    assert "no test row has a label, so that none is known to be misclassified" in shown.err


def test_unseen_categories_are_noted_on_stderr(tmp_path):
    (tmp_path / "a.csv").write_text("s,y\n" + "A,0\nB,1\n" * 5)
    (tmp_path / "b.csv").write_text("s,y\nC,1\n")
    done = ginf("train", "--data", "a.csv", "--test-data", "b.csv", "--label", "y", cwd=tmp_path)
    assert done.returncode == 0
    assert "ginf: a.csv: column s of 1 test row holds 'C', which no training row has" in done.stderr


def test_identifiers_stand_beside_row_numbers(model, said):
    data = load_model(model).dataset
    for command in ("influence", "groundtruth"):
        rows = rows_of(said(command, "--model", model, "--group", "by:size", "--test", "5,2", "--quiet").out)
        assert [(row["test"], row["test_id"]) for row in rows[:2]] == [
            ("5", str(data.ids_test[5])),
            ("2", str(data.ids_test[2])),
        ]
    asked = ("--model", model, "--quiet", "--format", "json")
    (row,) = json.loads(said("influence", *asked, "--group", "rows:1", "--test", "mean").out)
    assert row["test"] == "mean" and row["test_id"] is None
    (row,) = json.loads(said("select", *asked, "--test", "5", "--size", "4").out)
    assert row["test_id"] == data.ids_test[5] and len(row["rows"]) == 4
    assert row["ids"] == data.ids_train[row["rows"]].tolist()


def test_without_an_identifier_the_keys_stay_as_they_were(tmp_path, said):
    run(["train", "--data", "synthetic", "-o", str(tmp_path / "m.h5"), "--quiet"])
    out = said("influence", "--model", tmp_path / "m.h5", "--group", "random:5", "--test", "0", "--quiet").out
    assert "test_id" not in out


AWKWARD = "It's a $name"
"""A column that no shell takes as it stands."""


@pytest.mark.parametrize(
    "values",
    [
        pytest.param([f"2024-01-{1 + day % 28:02d}" for day in range(60)], id="dates"),
        pytest.param([f"{day + 0.5} kg" for day in range(60)], id="units"),
        pytest.param([*map(str, range(100, 158)), "x", "x"], id="mixed"),
        pytest.param([""] * 59 + ["7"], id="no value left to train on"),
    ],
)
def test_what_a_hint_names_can_be_pasted(tmp_path, monkeypatch, said, values):
    monkeypatch.chdir(tmp_path)
    with Path("t.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["x", AWKWARD, "label of it"])
        writer.writerows([row * 37 % 11, value, "ab"[row % 2]] for row, value in enumerate(values))
    asked = ["train", "--data", "t.csv", "-o", "m.h5", "--quiet", "--impute", "median", "--test-fraction", "0.8"]
    label = shlex.split(said(*asked, code=2).err.split("hint: ")[1])[-2:]
    assert label == ["--label", "label of it"]
    words = shlex.split(said(*asked, *label, code=3).err.split("hint: ")[1])
    assert words[words.index("--drop") + 1] == AWKWARD
    said(*asked, *label, "--drop", AWKWARD)
