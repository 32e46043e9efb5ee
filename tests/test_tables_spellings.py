"""Spellings of one table: whatever its dates, line ends and letters look like, it is the same table."""

from __future__ import annotations

import datetime
import unicodedata

import numpy as np
import polars as pl
import pytest

from influence_cli import GroupInfluence
from influence_cli.data.dates import days_of, orders_of
from influence_cli.data.load import load
from influence_cli.data.options import TableOptions
from influence_cli.errors import FileError

M = 60
X = np.random.default_rng(0).normal(size=(M, 2)).round(3)
LABEL = np.where(X[:, 0] > 0, "yes", "no")
DAYS = [datetime.datetime(2010, 1, 1, 8, 30) + datetime.timedelta(days=7 * row, minutes=37 * row) for row in range(M)]


@pytest.fixture
def read(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    def read(content, name="a.csv", task="classification", label="y", **options):
        (tmp_path / name).write_bytes(content.encode())
        return load(name, task=task, table=TableOptions(label=label, **options), test_fraction=0)

    return read


def table(column, name="c"):
    return f"{name},x,y\n" + "".join(f'"{one}",{x},{y}\n' for one, x, y in zip(column, X[:, 0], LABEL, strict=True))


FORMS = ("%d%m%Y", "%Y-%j", "%a %b %d %H:%M:%S %Y", "%d-%m-%Y %H.%M", "%Y %m %d", "%Y年%m月%d日", "%d%b%Y:%H:%M:%S")


@pytest.mark.parametrize("form", FORMS)
def test_dates_in_further_spellings_are_dates(read, form):
    texts = [day.strftime(form) for day in DAYS]
    with pytest.raises(FileError, match="column c holds dates"):
        read(table(texts))
    order = orders_of(texts)[0]
    expected = [day.toordinal() - datetime.date(1970, 1, 1).toordinal() for day in DAYS]
    assert [int(days_of(text, order)) for text in texts] == expected


@pytest.mark.parametrize("word", ["maart", "mrt", "januari", "mei", "maj", "okt"])
def test_months_of_further_languages_are_dates(word):
    assert orders_of([f"3 {word} 2020", f"17 {word} 2021"])


def test_ends_of_lines_in_compressed_rows(tmp_path):
    lines = [f"{row % 2} 1:{a} 2:{b}" for row, (a, b) in enumerate(X)]
    (tmp_path / "a.svm").write_text("\n".join(lines) + "\n")
    (tmp_path / "b.svm").write_text("\r".join(lines), newline="")
    one, other = (load(str(tmp_path / name), task="classification", test_fraction=0) for name in ("a.svm", "b.svm"))
    assert (one.X_train != other.X_train).nnz == 0
    assert np.array_equal(one.y_train, other.y_train)


def test_a_word_among_numbers_is_told_whatever_the_sorts_of_both(read):
    words = ["old", "illegible", "see note", "lost", "n/d", "later"]
    scores = [words[row // 10] if row % 10 == 0 else str(row % 5) for row in range(M)]
    data = read(table(scores))
    assert any("column c: text with 11 categories, because beside numbers" in note for note in data.notes)
    with pytest.raises(FileError, match="column c holds numbers, but also"):
        read(table([f"{words[row % 6]} {row}" if row % 3 == 0 else str(row % 5) for row in range(M)]))


def test_text_that_differs_in_most_rows_is_said(read):
    data = read(table([f"P{row * 2 // 3}" for row in range(M)]))
    (note,) = data.notes
    assert note.endswith("column c: 40 different texts in 60 rows, a feature each (--drop c leaves it out)")
    assert not read(table([f"P{row % 20}" for row in range(M)])).notes


@pytest.mark.parametrize("row", [10, 14_000])
def test_leading_zeros_are_seen_wherever_they_stand(read, row):
    codes = [str(10_000 + one % 7) for one in range(15_000)]
    codes[row] = "01234"
    data = read("c,x,y\n" + "".join(f"{code},{at % 11},{'ab'[at % 2]}\n" for at, code in enumerate(codes)))
    assert "c=01234" in data.feature_names


@pytest.mark.parametrize("form", ["NFC", "NFD"])
def test_letters_that_look_the_same_meet_in_every_format(tmp_path, monkeypatch, form):
    monkeypatch.chdir(tmp_path)
    other = "NFD" if form == "NFC" else "NFC"
    cities = [unicodedata.normalize(form, "Zürich" if x > 0 else "Köln") for x in X[:, 1]]
    labels = [unicodedata.normalize(form, "für" if one == "yes" else "gegen") for one in LABEL]
    name = unicodedata.normalize(form, "Städte")
    pl.DataFrame({name: cities, "x": X[:, 0], "y": labels}).write_parquet("a.parquet")
    table = TableOptions(label="y", drop=(unicodedata.normalize(other, name),))
    assert load("a.parquet", task="classification", table=table, test_fraction=0).feature_names == ("x",)
    np.savez("a.npz", X=X, y=labels)
    model = GroupInfluence.fit(X, labels)
    wanted = unicodedata.normalize(other, "für")
    assert load("a.npz", task="classification", test_fraction=0).classes == ("für", "gegen")
    for quantity in ("loss", f"logit:{wanted}"):
        (record,) = model.influence(f"coherent:{wanted}", X[:1], [wanted], quantity=quantity).records()
        assert record["size"] == labels.count(unicodedata.normalize(form, "für"))


def test_blanks_of_any_width_are_blanks(read):
    towns = ["New York", "New\u00a0York", "New\u2009York", "New\u3000York", "Rome", "Ro\u200eme"]
    data = read(table([towns[row % 6] for row in range(M)]))
    assert data.feature_names == ("c=New York", "c=Rome", "x")
