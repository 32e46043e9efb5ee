"""Columns to features: every number recomputed with plain NumPy or Python from the file's own text."""

from __future__ import annotations

import csv
import json
import re
import statistics
from dataclasses import replace

import h5py
import numpy as np
import pytest
from artifact_examples import sign_again

from influence_cli.artifacts.model import ModelArtifact, load_model, save_model
from influence_cli.data.features import fit_features
from influence_cli.data.load import load
from influence_cli.data.options import TableOptions
from influence_cli.data.table import Column, Table
from influence_cli.errors import FileError, UsageError

M = 40
RNG = np.random.default_rng(8)
AGE = RNG.integers(20, 90, M)
DOSE = RNG.normal(5, 2, M).round(3)
SITE = RNG.choice(["North", "South", "Ost/West", "Été"], M)
FLAG = RNG.choice(["true", "false"], M)
LABEL = np.where(AGE + 10 * RNG.normal(size=M) > 55, "ill", "well")
NAMES = ["id", "age", "dose", "site", "flag", "y"]


def lines(blank=()):
    """The table as lists of text; ``blank`` are (row, column) whose value is missing."""
    table = [[f"P{row:02}", str(AGE[row]), str(DOSE[row]), SITE[row], FLAG[row], LABEL[row]] for row in range(M)]
    for row, column in blank:
        table[row][column] = ""
    return table


def write(path, table, names=NAMES):
    with path.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([names, *table])
    return str(path)


def make(tmp_path, table, *, test=None, task="classification", names=NAMES, test_names=None, label="y", **options):
    """The data set of a table whose first column identifies rows."""
    source = write(tmp_path / "a.csv", table, names)
    if test is not None:
        options["test_data"] = write(tmp_path / "b.csv", test, test_names or names)
    return load(source, task=task, seed=3, table=TableOptions(label=label, id_column="id", **options))


def by_id(data, table):
    """The rows of the table that are the training and the test rows."""
    rows = {row[0]: row for row in table}
    return [[rows[key] for key in ids] for ids in (data.ids_train, data.ids_test)]


def oracle(train, test, impute=statistics.median):
    """Features of [id, age, dose, site, flag, y] rows, one value at a time."""
    columns = []
    for place in (1, 2):
        known = [float(row[place]) for row in train if row[place]]
        fill = impute(known)
        filled = [float(row[place]) if row[place] else fill for row in train]
        mean = sum(filled) / len(filled)
        scale = (sum((value - mean) ** 2 for value in filled) / len(filled)) ** 0.5
        columns.append([((float(row[place]) if row[place] else fill) - mean) / scale for row in [*train, *test]])
    common = statistics.mode(sorted(row[3] for row in train if row[3]))
    for site in sorted({row[3] for row in train if row[3]}):
        columns.append([float((row[3] or common) == site) for row in [*train, *test]])
    common = statistics.mode(sorted(row[4] for row in train if row[4]))
    columns.append([float((row[4] or common) == "true") for row in [*train, *test]])
    both = np.array(columns).T
    return both[: len(train)], both[len(train) :]


def test_features_against_plain_arithmetic(tmp_path):
    data = make(tmp_path, lines())
    X_train, X_test = oracle(*by_id(data, lines()))
    np.testing.assert_allclose(data.X_train, X_train, rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(data.X_test, X_test, rtol=1e-12, atol=1e-12)
    assert data.feature_names == ("age", "dose", "site=North", "site=Ost/West", "site=South", "site=Été", "flag")
    assert data.classes == ("ill", "well")
    assert [data.classes[code] for code in data.y_train] == [row[5] for row in by_id(data, lines())[0]]
    assert data.X_train.flags.c_contiguous and data.X_test.flags.c_contiguous
    assert data.notes == ()


@pytest.mark.parametrize(
    ("impute", "by_hand"),
    [
        ("median", statistics.median),
        ("mean", statistics.fmean),
        ("most-frequent", lambda values: min(statistics.multimode(values))),
    ],
)
def test_imputed_features_against_plain_arithmetic(tmp_path, impute, by_hand):
    table = lines([(row, 1 + row % 4) for row in range(0, M, 3)])
    data = make(tmp_path, table, impute=impute)
    train, test = by_id(data, table)
    assert any("" in row for row in train) and any("" in row for row in test)
    X_train, X_test = oracle(train, test, by_hand)
    np.testing.assert_allclose(data.X_train, X_train, rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(data.X_test, X_test, rtol=1e-12, atol=1e-12)
    assert np.isnan(data.columns_train["age"]).sum() == sum(not row[1] for row in train), "columns stay as read"


def test_the_stored_preparation_is_enough_to_make_the_features_again(tmp_path):
    table = lines([(0, 1), (5, 3), (6, 4), (30, 2)])
    data = make(tmp_path, table, impute="median", drop=("dose",))
    kept = json.loads(json.dumps(data.preparation))
    assert [one["column"] for one in kept["features"]] == ["age", "site", "flag"]
    assert kept["label"] == "y" and kept["impute"] == "median" and kept["standardize"] is True
    for rows, X in zip(by_id(data, table), (data.X_train, data.X_test), strict=True):
        for row, features in zip(rows, X, strict=True):
            again = []
            for one in kept["features"]:
                value = row[NAMES.index(one["column"])]
                if one["kind"] == "numeric":
                    value = float(value) if value else one["impute"]
                    again.append((value - one["mean"]) / one["scale"])
                elif one["kind"] == "boolean":
                    again.append(float(value == "true") if value else one["impute"])
                else:
                    again += [float((value or one["impute"]) == category) for category in one["categories"]]
            np.testing.assert_allclose(features, again, rtol=1e-12, atol=1e-12)


def test_without_standardising_numbers_stay(tmp_path):
    data = make(tmp_path, lines(), standardize=False, features=("age,dose",))
    np.testing.assert_array_equal(data.X_train[:, 0], [float(row[1]) for row in by_id(data, lines())[0]])
    assert data.preparation["features"][0] | {"impute": 0} == {
        "column": "age", "kind": "numeric", "impute": 0, "mean": 0.0, "scale": 1.0,
    }  # fmt: skip


def test_a_constant_column_becomes_zeros(tmp_path):
    table = [[*row[:2], "7", *row[3:]] for row in lines()]
    assert not make(tmp_path, table).X_train[:, 1].any()


def test_arrays_are_standardised_on_request_only(tmp_path):
    X = RNG.normal(3, 2, (30, 4))
    np.savez(tmp_path / "a.npz", X_train=X[:20], y_train=np.arange(20) % 2, X_test=X[20:], y_test=np.arange(10) % 2)
    plain = load(str(tmp_path / "a.npz"), task="classification")
    scaled = load(str(tmp_path / "a.npz"), task="classification", table=TableOptions(standardize=True))
    assert plain.preparation is None and np.array_equal(plain.X_train, X[:20])
    np.testing.assert_allclose(scaled.X_test, (X[20:] - X[:20].mean(0)) / X[:20].std(0), rtol=1e-12)
    assert scaled.preparation["features"][3]["scale"] == pytest.approx(X[:20, 3].std())
    assert scaled.digest != plain.digest


# --- a file of test rows ---


def test_test_rows_from_their_own_file(tmp_path):
    table = lines()
    data = make(tmp_path, table[:30], test=table[30:])
    X_train, X_test = oracle(table[:30], table[30:])
    np.testing.assert_allclose(data.X_train, X_train, rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(data.X_test, X_test, rtol=1e-12, atol=1e-12)
    assert data.ids_test.tolist() == [row[0] for row in table[30:]]


def test_categories_that_only_test_rows_have_are_zeros_and_noted(tmp_path):
    table, test = lines()[:30], lines()[30:]
    test[0][3], test[4][3] = "Mars", "Venus"
    data = make(tmp_path, table, test=test)
    sites = [place for place, name in enumerate(data.feature_names) if name.startswith("site=")]
    assert not data.X_test[0, sites].any() and data.X_test[1, sites].sum() == 1
    assert data.notes == (
        f"{tmp_path / 'a.csv'}: column site of 2 test rows holds 'Mars', 'Venus', which no training row has: "
        "all its features are 0 there",
    )


def test_the_types_of_the_training_rows_hold_for_the_test_rows(tmp_path):
    table = [[*row[:3], "123"[place % 3] + "+" * (place % 3 == 2), *row[4:]] for place, row in enumerate(lines())]
    test = [row for row in table[30:] if row[3] != "3+"]
    data = make(tmp_path, table[:30], test=test)
    place = data.feature_names.index("site=1")
    assert data.X_test[:, place].tolist() == [float(row[3] == "1") for row in test]
    numbers = [[row[0], "old", *row[2:]] for row in table[30:]]
    with pytest.raises(FileError, match="column age holds numbers in the training rows, but text in the test rows"):
        make(tmp_path, table[:30], test=numbers)


def test_a_column_that_is_empty_in_the_test_rows_takes_the_imputed_value():
    text = Column("text", np.array(["b", "a", "b"], dtype=object), "text")
    train = Table({"word": text}, 3)
    for kind, values in (("numeric", np.full(2, np.nan)), ("text", np.array([None, None], dtype=object))):
        test = Table({"word": Column(kind, values, "")}, 2)
        made = fit_features(["word"], train, test, TableOptions(impute="median"))
        assert made.X_test.tolist() == [[0.0, 1.0]] * 2 and made.state[0]["impute"] == "b"
    with pytest.raises(FileError, match="column word holds text in the training rows, but numbers in the test rows"):
        other = Table({"word": Column("numeric", np.zeros(2), "numbers")}, 2)
        fit_features(["word"], train, other, TableOptions())


def test_test_rows_may_come_without_labels(tmp_path):
    table = lines()
    bare = make(tmp_path, table[:30], test=[row[:5] for row in table[30:]], test_names=NAMES[:5])
    assert not bare.labelled.any() and (bare.y_test == -1).all()
    some = [[*row[:5], row[5] if place % 2 else ""] for place, row in enumerate(table[30:])]
    data = make(tmp_path, table[:30], test=some)
    assert data.labelled.tolist() == [False, True] * 5
    options = {"label": "dose", "task": "regression", "drop": ("y",)}
    assert make(tmp_path, table[:30], test=some, **options).labelled.all()
    response = make(tmp_path, table[:30], test=[[*row[:2], "", *row[3:]] for row in some], **options)
    assert np.isnan(response.y_test).all() and not response.labelled.any()


def test_what_is_wrong_with_a_file_of_test_rows(tmp_path):
    table = lines()
    new = [*table[30:], [*table[30][:5], "dead"]]
    with pytest.raises(FileError, match=r"every test label must occur among the training .*, but dead is new in 1 of"):
        make(tmp_path, table[:30], test=new)
    with pytest.raises(FileError, match=r"b\.csv: the test rows need the columns .*, but site is not among id, age"):
        narrow = [[*row[:3], *row[4:]] for row in table[30:]]
        make(tmp_path, table[:30], test=narrow, test_names=[*NAMES[:3], "flag", "y"])
    with pytest.raises(UsageError, match="--label 'y' is no column of the table"):
        make(tmp_path, [row[:5] for row in table[:30]], names=NAMES[:5], test=table[30:], test_names=NAMES)
    with pytest.raises(FileError, match=r"b\.csv: at least 1 test row is needed, but found none"):
        make(tmp_path, table[:30], test=[])
    with pytest.raises(UsageError, match=r"--test-data .*\.npz must be of the kind \.csv"):
        (tmp_path / "c.npz").write_bytes(b"")
        options = TableOptions(label="y", test_data=str(tmp_path / "c.npz"))
        load(str(tmp_path / "a.csv"), task="classification", table=options)
    with pytest.raises(FileError, match="values are missing: age in 1 row, dose in 1 row"):
        make(tmp_path, lines([(3, 1)])[:30], test=lines([(35, 2)])[30:])


# --- in the model's file ---


TRAINING = {"grad_norm": 0.0, "iterations": 1, "seconds": 0.0}


def model_of(data):
    return ModelArtifact(data, np.zeros(8), np.zeros((len(data.X_train), 1)), None, {"l2": 1.0}, TRAINING)


def test_columns_identifiers_and_preparation_come_back_from_the_file(tmp_path):
    data = make(tmp_path, lines([(2, 1), (4, 3), (7, 4)]), impute="mean")
    save_model(tmp_path / "m.h5", model_of(data))
    found = load_model(tmp_path / "m.h5").dataset
    assert found.digest == data.digest
    assert list(found.columns_train) == list(data.columns_train) == NAMES
    for part in ("columns_train", "columns_test"):
        for name, values in getattr(data, part).items():
            again = getattr(found, part)[name]
            assert again.dtype == values.dtype
            np.testing.assert_array_equal(again, values)
    assert found.preparation == data.preparation and found.id_column == "id"
    assert found.ids_train.tolist() == data.ids_train.tolist()
    save_model(tmp_path / "n.h5", load_model(tmp_path / "m.h5"))
    assert (tmp_path / "n.h5").read_bytes() == (tmp_path / "m.h5").read_bytes()


def test_test_rows_without_labels_come_back_from_the_file(tmp_path):
    table = lines()
    for label, task in (("y", "classification"), ("dose", "regression")):
        names = [name for name in NAMES if name != label]
        place = NAMES.index(label)
        test = [[*row[:place], *row[place + 1 :]] for row in table[30:]]
        data = make(tmp_path, table[:30], test=test, test_names=names, label=label, task=task)
        save_model(tmp_path / f"{task}.h5", model_of(data))
        assert not load_model(tmp_path / f"{task}.h5").dataset.labelled.any()


def test_the_digest_covers_columns_identifiers_and_preparation(tmp_path):
    data = make(tmp_path, lines())
    changed = data.columns_train["site"].copy()
    changed[0] = "elsewhere"
    missing = data.columns_train["site"].copy()
    missing[0] = None
    others = [
        replace(data, columns_train={**data.columns_train, "site": changed}),
        replace(data, columns_train={**data.columns_train, "site": missing}),
        replace(data, columns_test={}),
        replace(data, id_column="age"),
        replace(data, preparation={**data.preparation, "impute": "mean"}),
        replace(data, preparation=None),
    ]
    assert len({data.digest, *(other.digest for other in others)}) == 7
    assert replace(data, notes=("x",)).digest == data.digest


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        ("/columns/train/3", np.full(32, 9999, np.int32), r"/columns/train/3: expected indices from -1 to"),
        ("/columns/train/1", np.zeros(3), r"/columns/train/1: expected .* found float64 \(3,\), but m is 32"),
        ("/columns/train/1", None, r"/columns/train/1: missing, expected the values of column age"),
        ("/columns/test/0", None, r"@id_column: expected one of /columns/names, found 'id'"),
    ],
)
def test_a_damaged_column_is_named(tmp_path, path, value, message):
    save_model(tmp_path / "m.h5", model_of(make(tmp_path, lines())))
    with h5py.File(tmp_path / "m.h5", "r+") as file:
        del file[path]
        if value is not None:
            file[path] = value
    sign_again(tmp_path / "m.h5")
    with pytest.raises(FileError, match=message):
        load_model(tmp_path / "m.h5")


def test_a_text_column_that_rather_names_something_is_pointed_out(tmp_path, capsys):
    from influence_cli.cli import run

    lines = [f"p{at // 2},{'ab'[at % 2]},{at % 7},{at % 3 == 0:d}" for at in range(200)]
    (tmp_path / "d.csv").write_text("\n".join(["patient no,kind,x,y", *lines]) + "\n")
    assert run(["train", "--data", str(tmp_path / "d.csv"), "--label", "y", "-o", str(tmp_path / "m.h5")]) == 0
    said = capsys.readouterr().err
    assert re.search(
        r"column patient no has \d+ values in 160 training rows, a feature each: .*--drop 'patient no'", said
    )
    assert "column kind has" not in said
