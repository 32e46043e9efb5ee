"""Tables as files: what is read from them, and the sentence that each kind of bad table gets."""

from __future__ import annotations

import datetime
import decimal
import gzip

import numpy as np
import polars as pl
import pytest

from influence_cli.data.load import load
from influence_cli.data.options import TableOptions
from influence_cli.errors import ExitCode, FileError, UsageError

HEAD = "age,site,flag,y\n"
ROWS = [f"{40 + i},{'NSW'[i % 3]},{'true' if i % 2 else 'false'},{'yes' if i % 4 else 'no'}" for i in range(12)]
GOOD = HEAD + "\n".join(ROWS) + "\n"


@pytest.fixture
def read(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    def read(content, name="a.csv", task="classification", label="y", **options):
        data = content if isinstance(content, bytes) else content.encode()
        (tmp_path / name).write_bytes(data)
        return load(name, task=task, table=TableOptions(label=label, **options))

    return read


@pytest.fixture
def refused(read):
    def refused(content, *pieces, error=FileError, **options):
        with pytest.raises(error) as caught:
            read(content, **options)
        said = f"{caught.value.message} | {caught.value.hint}"
        assert said.startswith(options.get("name", "a.csv"))
        assert "\n" not in said, "one sentence"
        for piece in pieces:
            assert piece in said
        assert caught.value.code == (ExitCode.FILE if error is FileError else ExitCode.USAGE)

    return refused


def rows_of(data):
    """Every row of a data set as it stood in the table, in the order of train and test."""
    return [
        list(zip(*(column.tolist() for column in part.values()), strict=True))
        for part in (data.columns_train, data.columns_test)
    ]


def expected_rows():
    """The oracle: splitting on commas."""
    fields = (row.split(",") for row in ROWS)
    return [(int(age), site, flag, y) for age, site, flag, y in fields]


def test_every_column_is_kept_with_its_rows_in_the_order_of_the_file(read):
    train, test = rows_of(read(GOOD))
    assert len(test) == 2
    assert [row for row in expected_rows() if row in train] == train
    assert [row for row in expected_rows() if row in test] == test
    assert sorted(train + test) == sorted(expected_rows())


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("b.csv", GOOD.replace("\n", "\r\n").encode()),
        ("b.csv", GOOD.encode("utf-8-sig")),
        ("b.csv", ("\n\n" + GOOD).encode()),
        ("b.CSV", GOOD.rstrip("\n").encode()),
        ("b.csv.gz", gzip.compress(GOOD.encode())),
        ("b.csv", gzip.compress(GOOD.encode())),
        ("b.tsv", GOOD.replace(",", "\t").encode()),
        ("b.tsv.gz", gzip.compress(GOOD.replace(",", "\t").encode())),
        ("b.csv", GOOD.replace(",", " , ").encode()),
        ("b.csv", GOOD.replace("S", '"S"').replace("site", '"site"').encode()),
    ],
)
def test_other_spellings_of_the_same_table(read, name, content):
    assert read(content, name=name).digest == read(GOOD).digest


def test_quoted_fields_hold_separators_quotes_and_line_breaks(read):
    data = read('"the ""site""",y\n"a, b",0\n"c\nd",1\n"a, b",1\n"c\nd",0\n')
    assert data.feature_names == ('the "site"=a, b', 'the "site"=c\nd')


@pytest.mark.parametrize("first", ["x^2", "x^", "x\x01"])
def test_a_name_that_looks_packed_is_read(read, first):
    rows = "".join(f"{at % 7},{at % 3 + 0.5},{'ny'[at % 2]}\n" for at in range(30))
    data = read(f"{first},z,y\n{rows}", name="p.csv")
    assert data.rows + len(data.X_test) == 30
    assert len(data.feature_names) == 2


def test_empty_lines_are_passed_over_and_counted(read):
    data = read(GOOD.replace("\n41", "\n\n41") + "\n\n")
    assert data.notes[0] == "a.csv: 3 empty lines were passed over"
    assert data.digest == read(GOOD).digest


def test_types_are_read_from_every_row_and_not_from_the_first_ones(read):
    count = 10_500
    lines = [f"{i},{'' if i < count - 5 else i / 2},{i % 2}" for i in range(count - 1)] + ["0.5,1,1"]
    data = read("a,b,y\n" + "\n".join(lines), drop=("b",))
    assert data.feature_names == ("a",)
    assert data.columns_train["a"].dtype == data.columns_train["b"].dtype == np.float64


def test_parquet(read, tmp_path):
    table = pl.DataFrame(
        {
            "small": pl.Series([1, 2, 3, 4] * 3, dtype=pl.Int8),
            "large": pl.Series([2**53 + 1] * 12, dtype=pl.UInt64),
            "exact": [decimal.Decimal("1.25")] * 12,
            "holes": [1.0, None, float("nan"), 2.0] * 3,
            "word": pl.Series(["x", "y", "", None] * 3, dtype=pl.Categorical),
            "level": pl.Series(["lo", "hi"] * 6, dtype=pl.Enum(["lo", "hi"])),
            "day": [datetime.date(2024, 1, 1 + i) for i in range(12)],
            "list": [[1]] * 12,
            "y": [True, False] * 6,
        }
    )
    table.write_parquet(tmp_path / "t.parquet")
    content = (tmp_path / "t.parquet").read_bytes()
    data = read(content, name="t.parquet", drop=("day,list", "holes,word"))
    assert data.feature_names == ("small", "large", "exact", "level=hi", "level=lo")
    assert data.classes == ("false", "true")
    assert "list" not in data.columns_train
    assert data.columns_train["large"].tolist() == [2**53 + 1] * 10
    both = [*data.columns_train["word"].tolist(), *data.columns_test["word"].tolist()]
    assert sorted(map(str, both)) == ["None"] * 6 + ["x"] * 3 + ["y"] * 3
    assert np.isnan(data.columns_train["holes"]).sum() + np.isnan(data.columns_test["holes"]).sum() == 6
    assert data.columns_train["day"][0].startswith("2024-01-")
    for column, what in (("list", "values of the type List"), ("day", "holds dates")):
        with pytest.raises(FileError, match=f"column {column} holds.*" + what.removeprefix("holds ")):
            load("t.parquet", task="classification", table=TableOptions(label="y", features=(column,)))


@pytest.mark.parametrize("content", [b"", b"PAR1", b"a,y\n1,2\n", b"PAR1" + b"\0" * 60 + b"PAR1"])
def test_a_damaged_parquet(refused, content):
    refused(content, "a whole .parquet file was expected, but it is damaged or of another kind", name="t.parquet")


# --- what is wrong with a table ---


@pytest.mark.parametrize(
    ("content", "pieces"),
    [
        (GOOD + "1,N\n", ["every row must have 4 fields as the first line has, but line 14 has 2", "double quotes"]),
        (GOOD + "1,N,true,yes,7\n", ["every row must have 4 fields", "line 14 has 5"]),
        (HEAD + "1,N,true,yes,7\n" + GOOD[len(HEAD) :], ["line 2 has 5"]),
        ("a,y,b,y\n1,2,0,3\n", ["the label y is the name of 2 columns"]),
        ("1,2,0\n3,4,1\n", ["the first line must name the columns, but it holds only numbers (1, 2, 0, ...)"]),
        ("", ["the table is empty"]),
        ("\n\n", ["the table is empty"]),
        (HEAD, ["the table has columns but no rows"]),
        (HEAD + ROWS[0], ["at least 2 rows are needed, but found 1"]),
        (GOOD.replace("no", "yes"), ["at least two classes are needed, but every label of the rows is yes"]),
        (
            GOOD.replace("yes", "", 2),
            ["every training row needs a label, but y is missing in 2 of 12 rows", "record 2", "--drop-missing"],
        ),
        (GOOD.replace("40,", "NA,").replace("N,", ","), ["values are missing: age in 1 row, site in 4 rows (of 12"]),
        (GOOD.replace("41,", "1e999,"), ["every number must be finite, but column age holds inf in 1 row"]),
        (gzip.compress(GOOD.encode())[:-9], ["a whole file was expected, but it is cut short or damaged"]),
        (b"\0\0\0\1", ["this file is binary"]),
        (GOOD + '50,"N,true,yes\n', ["line 14 has 2", "every quote must be closed"]),
        (
            "d,y\n" + "".join(f"2024-01-{i:02},{i % 2}\n" for i in range(1, 13)),
            ["column d holds dates", "--drop d", "--date ordinal"],
        ),
        ("d,y\n" + "".join(f"{i:02}.01.2024,{i % 2}\n" for i in range(1, 13)), ["column d holds dates"]),
        (
            "d,y\n" + "".join(f'"{i},5",{i % 2}\n' for i in range(12)),
            ["column d holds numbers such as '0,5', which can be read in two ways", "--decimal ,"],
        ),
        (
            "d,y\n" + "".join(f"{i},{i % 2}\n" for i in range(50)) + "old,1\n",
            ["column d holds numbers, but also 'old' in 1 row", "--missing old", "--categorical d"],
        ),
    ],
)
def test_a_bad_table_gets_one_sentence(refused, content, pieces):
    refused(content, *pieces)


def test_any_damage_to_a_file_ends_in_a_table_or_in_one_sentence(read):
    rng = np.random.default_rng(1)
    for name, whole in (("a.csv", GOOD.encode()), ("a.csv.gz", gzip.compress(GOOD.encode(), mtime=0))):
        for _ in range(150):
            content = bytearray(whole)
            for place in rng.integers(0, len(content), 2):
                content[place] = rng.choice(np.frombuffer(b',"\n\r\t;\0\xff 0a', dtype=np.uint8))
            try:
                read(bytes(content[: rng.integers(1, 2 * len(content))]), name=name, impute="median")
            except (FileError, UsageError) as error:
                assert error.message.startswith(name) and "\n" not in error.message


def test_too_many_categories(refused):
    content = "p,a,y\n" + "".join(f"P{i // 2},{i % 7},{i % 2}\n" for i in range(3000))
    refused(content, "column p has 1,", " different texts, more than the 1,000", "--drop p leaves it out")


def test_a_million_different_texts_are_no_category_and_that_is_seen_quickly(refused):
    content = "p,y\n" + "".join(f"P{i},{i % 2}\n" for i in range(1_000_000))
    refused(content, "no feature is left", "p is left out: every row has another text", "--keep p", error=UsageError)


def test_row_numbers_are_a_feature_where_there_is_no_other(read):
    data = read(b"x,y\n" + b"".join(f"{i + 1},{i * 1.5 + i % 3}\n".encode() for i in range(12)), task="regression")
    assert data.feature_names == ("x",)
    assert any("column x: it numbers the rows, but there is no other feature" in note for note in data.notes)


def test_more_features_than_memory_should_take(refused, monkeypatch):
    monkeypatch.setattr("influence_cli.data.features.MOST_DENSE_BYTES", 2**8)
    refused(GOOD, "12 rows of 5 features would take", "as a dense table")


@pytest.mark.parametrize(
    ("options", "pieces"),
    [
        ({"label": None}, ["a table needs --label COLUMN", "its columns are age, site, flag, y", "--label y"]),
        ({"label": "Y"}, ["--label 'Y' is no column of the table; its columns are age, site", "did you mean y?"]),
        ({"drop": ("sit",)}, ["--drop 'sit' is no column", "did you mean site?"]),
        ({"features": ("age,sex",)}, ["--features 'sex' is no column"]),
        ({"id_column": "id"}, ["--id 'id' is no column"]),
        ({"drop": ("age", "site,flag")}, ["no feature is left: the columns are age, site, flag, y"]),
    ],
)
def test_wrong_columns(refused, options, pieces):
    refused(GOOD, *pieces, error=UsageError, **options)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"drop": ("y",)}, "y is the --label and stands in --drop too"),
        ({"features": ("y",)}, "y is the --label and stands in --features too"),
        ({"features": ("age",), "drop": ("age",)}, "age stands both in --features and in --drop"),
        ({"impute": "modus"}, "--impute must be one of median, mean, most-frequent; found 'modus'"),
    ],
)
def test_options_that_contradict_each_other(read, options, message):
    with pytest.raises(UsageError, match=message):
        read(GOOD, **options)


def test_a_regression_needs_numbers_that_differ(read, refused):
    refused(GOOD, "regression needs numeric responses, but those of the rows are strings such as", task="regression")
    refused("a,y\n4,5\n2,5\n3,5\n", "the label y is 5 in every row: there is nothing to explain", task="regression")
    assert read("a,y\n4,5\n2,6\n3,7\n", task="regression").y_train.dtype == np.float64


def test_columns_whose_names_hold_commas(read):
    data = read('"a,b",c,y\n1,2,0\n3,4,1\n5,6,0\n7,8,1\n', drop=("a,b",))
    assert data.feature_names == ("c",)


def test_options_of_tables_are_refused_for_arrays():
    for options in ({"label": "y"}, {"drop": ("a",)}, {"impute": "mean"}, {"id_column": "id"}, {"features": ("a",)}):
        with pytest.raises(UsageError, match=r"is for tables, and digits holds arrays without column names"):
            load("digits", task="classification", table=TableOptions(**options))
    with pytest.raises(UsageError, match="--test-data goes with a file, and digits is built in"):
        load("digits", task="classification", table=TableOptions(test_data="x.npz"))


def test_records_read_one_by_one_are_those_that_polars_reads(read, monkeypatch):
    rng = np.random.default_rng(3)
    words = ['"a, b"', '"say ""no"""', "plain", "", "7", "0.5", "-3", "NA", '"two\nlines"', "1e3", " blank ", "é"]
    for _ in range(20):
        lines = [",".join([*rng.choice(words, 3), str(at % 7), "ny"[at % 2]]) for at in range(30)]
        content = "a,b,c,x,y\n" + "\n".join(lines) + "\n"
        options = {"drop": ("a,b,c",), "name": "r.csv"}
        quickly = read(content, **options)
        with monkeypatch.context() as patch:
            patch.setattr("influence_cli.data.readers.delimited.by_polars", lambda *given: None)
            slowly = read(content, **options)
        assert quickly.digest == slowly.digest


@pytest.mark.parametrize("written", ["kr {}", "Rs. {}", "{},-", "{}-", "'{}", '=""{}""'])
def test_amounts_in_other_notations_are_no_categories(read, written):
    rows = "".join(f'"{written.format(1000 + 37 * at)}",{at % 3 + 0.5},{"ny"[at % 2]}\n' for at in range(30))
    with pytest.raises(FileError, match="column paid holds 30 different numbers with a unit"):
        read(f"paid,z,y\n{rows}")


@pytest.mark.parametrize("name", ["Total", "grand total", "Average"])
def test_a_last_line_that_adds_the_others_up_is_no_row(read, refused, name):
    ages = np.arange(40, 52)
    figure = ages.mean() if name == "Average" else ages.sum()
    refused(GOOD + f"{figure},{name},true,yes\n", "record 13", f"its site is '{name}'", "its age")
    assert len(read(GOOD + f"{figure + 1},{name},true,yes\n").columns_train["age"]) > 9
    assert read(GOOD + f"{figure},{name},,\n", drop_missing=True).y_train.size == 10


def test_the_names_of_the_columns_again_are_no_row(refused):
    words = "".join(f"{'uv'[row % 2]},{'no' if row % 3 else 'yes'}\n" for row in range(9))
    refused("site,y\n" + words + "site,y\n" + words, "record 10 holds the names of the columns again")
    refused(GOOD + GOOD, "record 13 holds")


def test_titles_that_are_filled_up_with_empty_fields_are_passed_over(read):
    whole = read(GOOD)
    data = read("Stays,,,\n,,,\n" + GOOD)
    assert np.array_equal(data.X_train, whole.X_train) and data.feature_names == whole.feature_names
    assert any("2 lines above the header were passed over: 'Stays,,,'" in note for note in data.notes)


@pytest.mark.parametrize("field", ['"5 \\" pipe, %s"', '"say \\"%s\\", then"'])
def test_a_single_quote_sign_in_quotes_joins_no_rows(read, field):
    rows = [f"{field % 'NSW'[row % 3]},{row},{'no' if row % 3 else 'yes'}" for row in range(12)]
    try:
        data = read("site,age,y\n" + "\n".join(rows) + "\n")
    except FileError as error:
        assert "every row must have 3 fields" in error.message
    else:
        assert len(data.y_train) + len(data.y_test) == 12


def test_rows_without_a_weight_are_left_out_where_missing_values_are(read):
    rows = "".join(f"{row},{'' if row == 3 else 1 + row % 2},{'no' if row % 3 else 'yes'}\n" for row in range(12))
    data = read("age,w,y\n" + rows, sample_weight="w", drop_missing=True)
    assert len(data.y_train) + len(data.y_test) == 11
    assert any("1 of 12 rows are left out because values are missing: w in 1" in note for note in data.notes)
