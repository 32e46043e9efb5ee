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


@pytest.mark.parametrize("dash", ["\u2212", "\u2013", "\u2010", "\uff0d"])
def test_dashes_and_digits_of_other_scripts_are_numbers(read, dash):
    values = [row * 37 % 101 - 50 for row in range(M)]
    arabic = {48 + digit: 0x660 + digit for digit in range(10)}
    for text in (str, lambda value: str(value).translate(arabic)):
        data = read(table([text(value).replace("-", dash) for value in values]))
        assert data.X_train[:, 0] * np.std(values) + np.mean(values) == pytest.approx(np.array(values))


def test_numbers_in_different_units_are_refused(read):
    mixed = [f"{row}%" if row % 2 else f"{row / 100}" for row in range(M)]
    for texts in (mixed, [f"{'$€'[row % 2]}{row}" for row in range(M)]):
        with pytest.raises(FileError, match="column c holds numbers in different units"):
            read(table(texts))
    assert read(table([f"{row}%" if row % 3 else "0" for row in range(M)])).feature_names == ("c", "x")  # 0 is 0%
    assert read(table([f"${row % 9}" if row % 3 else str(row % 9) for row in range(M)])).feature_names == ("c", "x")


@pytest.mark.parametrize("name", ["a.csv", "a.parquet"])
@pytest.mark.parametrize("code", [-999, -999.0])
def test_numbers_that_mean_a_missing_value_are_told_by_their_value(read, tmp_path, name, code):
    values = [code if row % 7 == 0 else row % 5 + 0.5 for row in range(M)]
    if name == "a.parquet":
        pl.DataFrame({"c": map(float, values), "x": X[:, 0], "y": LABEL}).write_parquet(tmp_path / name)
        options = TableOptions(label="y", missing=("-999",), impute="mean", standardize=False)
        data = load(name, task="classification", table=options, test_fraction=0)
    else:
        data = read(table(values), missing=("-999",), impute="mean", standardize=False)
    assert data.X_train[0, 0] == pytest.approx(np.mean([value for value in values if value != code]))


@pytest.mark.parametrize("first", [10**19, 2**63 + 1])
def test_long_whole_numbers_that_would_be_one_number_stay_apart(read, tmp_path, first):
    names = [first + row % 3 for row in range(M)]
    data = read(table(names))
    assert set(data.feature_names) == {*(f"c={first + one}" for one in range(3)), "x"}
    pl.DataFrame({"c": pl.Series(names, dtype=pl.UInt64), "x": X[:, 0], "y": LABEL}).write_parquet(
        tmp_path / "a.parquet"
    )
    again = load("a.parquet", task="classification", table=TableOptions(label="y"), test_fraction=0)
    assert again.feature_names == data.feature_names and np.array_equal(again.X_train, data.X_train)
    gaps = [None if row == 5 else 10**17 + row % 3 for row in range(M)]
    pl.DataFrame({"c": gaps, "x": X[:, 0], "y": LABEL}).write_parquet(tmp_path / "b.parquet")
    table_of = TableOptions(label="y", drop_missing=True)
    assert len(load("b.parquet", task="classification", table=table_of, test_fraction=0).feature_names) == 4


@pytest.mark.parametrize("word", ["NaT", "0000-00-00", "00/00/0000", "unknown"])
def test_dates_with_words_for_none_are_dates(read, word):
    texts = [word if row % 9 == 4 else day.strftime("%d/%m/%Y") for row, day in enumerate(DAYS)]
    with pytest.raises(FileError, match="column c holds dates"):
        read(table(texts))
    data = read(table(texts), date="ordinal", drop_missing=True, standardize=False)
    days = [day.toordinal() - datetime.date(1970, 1, 1).toordinal() for row, day in enumerate(DAYS) if row % 9 != 4]
    assert data.X_train[:, 0].tolist() == days
    assert any(f"column c: dates, and '{word}' in 7 rows read as missing" in note for note in data.notes)


@pytest.mark.parametrize("word", ["see note", "2020-02-30"])
def test_a_word_among_dates_is_told(read, word):
    texts = [word if row == 7 else day.date().isoformat() for row, day in enumerate(DAYS)]
    with pytest.raises(FileError, match=f"column c holds dates, but also '{word}' in 1 row"):
        read(table(texts))


def test_true_and_false_are_1_and_0_however_written(read):
    truth = [row * row % 3 == 0 for row in range(M)]
    texts = [str(int(one)) if row % 4 == 0 else str(one).upper() for row, one in enumerate(truth)]
    data = read(table(texts))
    assert data.feature_names == ("c", "x") and data.X_train[:, 0].tolist() == truth
    assert any("column c: 1 and 0 read as TRUE and FALSE" in note for note in data.notes)


def test_a_point_that_can_separate_no_thousands_is_read_beside_decimal_commas(read):
    data = read(table([f"{row % 7},5" for row in range(M)]), decimal="comma", standardize=False)
    assert data.X_train[:, 0] == pytest.approx(np.arange(M) % 7 + 0.5) and data.X_train[:, 1] == pytest.approx(X[:, 0])
    assert any("is the decimal mark" in note and "column x" in note for note in data.notes)


def test_missing_values_are_counted_once_where_all_rows_are_both(read):
    with pytest.raises(FileError, match=r"values are missing: c in 1 row \(of 60 rows\)"):
        read(table(["" if row == 3 else row % 5 for row in range(M)]))


def test_years_of_two_digits_are_said(read):
    data = read(table([day.strftime("%d.%m.%y") for day in DAYS]), date="ordinal")
    assert any("years of two digits are 1969 to 2068" in note for note in data.notes)
    assert (days_of("31.12.68", "dmy"), days_of("1.1.69", "dmy")) == (36_159, -365)
    assert not any("two digits" in note for note in read(table([day.date() for day in DAYS]), date="ordinal").notes)


def test_test_rows_in_another_unit_are_refused(read, tmp_path):
    def asked(first, second):
        (tmp_path / "later.csv").write_text(table([f"{row}{second}" for row in range(M)]), encoding="utf-8")
        return read(table([f"{row % 9}{first}" for row in range(M)]), test_data="later.csv")

    for units in (("%", ""), ("", "%"), ("$", "\u20ac"), (" USD", "%")):
        with pytest.raises(FileError, match=r"column c has .* beside its numbers in the training rows, but"):
            asked(*units)
    for units in (("%", "%"), ("$", ""), ("", ""), ("$", " USD")):
        assert asked(*units).feature_names == ("c", "x")


def test_categories_that_differ_in_capitals_or_a_full_stop_are_said(read):
    labels = [f"{one}{'.' if row % 5 == 0 else ''}" for row, one in enumerate(LABEL)]
    rows = "".join(f"{'MF'[row % 2]},{x},{y}\n" for row, (x, y) in enumerate(zip(X[:, 0], labels, strict=True)))
    data = read("c,x,y\n" + rows)
    assert [note for note in data.notes if "two categories" in note] == [
        "a.csv: column y: 'no' and 'no.' are two categories, as they are written"
    ]
