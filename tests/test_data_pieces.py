"""Large text tables, read in pieces that are let go: the same data set as from one reading, to the bit."""

from __future__ import annotations

import numpy as np
import pytest

from influence_cli.data.load import load
from influence_cli.data.options import TableOptions
from influence_cli.data.pieces import Pieces
from influence_cli.data.readers import delimited, dialect, text_bytes, text_polars
from influence_cli.data.table import Column, Table
from influence_cli.errors import FileError

ROWS = 600


@pytest.fixture(scope="module")
def lines() -> list[str]:
    rng = np.random.default_rng(2)
    far = 1e6 + rng.normal(size=ROWS)
    far[:5] = 0.0, -0.0, 1e-300, -3.25e-5, 1e150
    columns = {
        "x": rng.normal(size=ROWS),
        "far": far,
        "count": rng.integers(-40, 10_000, ROWS),
        "large": rng.integers(2**53, 2**62, ROWS),
        "always": np.full(ROWS, 2.5),
        "site": rng.choice(["north", "south", "été"], ROWS),
        "died": rng.choice(["no", "yes"], ROWS),
    }
    body = zip(*(map(repr, c.tolist()) if c.dtype.kind != "U" else c.tolist() for c in columns.values()), strict=True)
    return [",".join(columns), *(",".join(row) for row in body)]


def datasets(path, monkeypatch, options=None, **arguments):
    """As it is read in pieces, with and without address space for polars, and as it is read at once."""
    table = options or TableOptions(label="died")
    found = []
    for least, addresses in ((0, float("inf")), (0, 2**30), (2**40, float("inf"))):
        monkeypatch.setattr(delimited, "PIECES_FROM", least)
        monkeypatch.setattr(delimited, "address_space", lambda addresses=addresses: addresses)
        monkeypatch.setattr(text_polars, "PIECE_BYTES", 5000)
        found.append(load(str(path), task="classification", table=table, **arguments))
    return found


def same(one, *others):
    for other in others:
        alike(one, other)


def alike(one, other):
    for key in ("X_train", "y_train", "X_test", "y_test", "records_train", "records_test"):
        assert np.array_equal(getattr(one, key), getattr(other, key)), key
    for key in ("columns_train", "columns_test"):
        mine, theirs = getattr(one, key), getattr(other, key)
        assert list(mine) == list(theirs)
        for name in mine:
            assert mine[name].dtype == theirs[name].dtype
            if mine[name].dtype == object:
                assert mine[name].tolist() == theirs[name].tolist()
            else:
                assert mine[name].tobytes() == theirs[name].tobytes(), name  # to the bit: -0.0 stays -0.0
    assert (one.notes, one.preparation, one.digest) == (other.notes, other.preparation, other.digest)


@pytest.mark.parametrize("fraction", [0.2, 0.0])
def test_pieces_give_the_same_data_to_the_bit(tmp_path, monkeypatch, lines, fraction):
    path = tmp_path / "t.csv"
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    read = []
    for reader in ("in_pieces", "_by_numpy"):

        def counted(*arguments, whole=getattr(delimited, reader)):
            read.append(whole(*arguments))
            return read[-1]

        monkeypatch.setattr(delimited, reader, counted)
    same(*datasets(path, monkeypatch, test_fraction=fraction))
    assert len(read) == 2 and len(read[0]) == len(read[1]) > 5


@pytest.mark.parametrize(
    ("change", "options"),
    [
        (
            lambda lines: [*lines[:500], "x," + lines[500].split(",", 1)[1], *lines[501:]],
            {"missing": ("x",), "impute": "mean"},
        ),
        (lambda lines: [*lines[:400], "," + lines[400].split(",", 1)[1], *lines[401:]], {"impute": "median"}),
        (lambda lines: [*lines[:400], "," + lines[400].split(",", 1)[1], *lines[401:]], {"drop_missing": True}),
        (lambda lines: [*lines[:300], "", *lines[300:]], {}),
        (lambda lines: ['"x"' + lines[0][1:], *lines[1:]], {}),
        (lambda lines: [line.replace("yes", "true").replace(",no", ",false") for line in lines], {}),
    ],
    ids=["a word of one's own", "a gap", "rows left out", "an empty line", "quotes", "truth values"],
)
def test_what_is_irregular_is_read_as_ever(tmp_path, monkeypatch, lines, change, options):
    path = tmp_path / "t.csv"
    path.write_text("\n".join(change(lines)) + "\n", encoding="utf-8")
    same(*datasets(path, monkeypatch, TableOptions(label="died", **options)))


def test_a_row_that_is_too_short_is_named(tmp_path, monkeypatch, lines):
    path = tmp_path / "t.csv"
    path.write_text("\n".join([*lines[:450], "1,2,3", *lines[450:]]) + "\n", encoding="utf-8")
    with pytest.raises(FileError, match="every row must have 7 fields as the first line has, but line 451 has 3"):
        datasets(path, monkeypatch)


def test_pieces_pick_rows_as_one_array_does():
    parts = [np.arange(5.0), np.arange(5.0, 7.0), np.arange(7.0, 20.0)]
    column, whole = Pieces(parts, np.dtype(float)), np.arange(20.0)
    for key in (slice(3, 9), slice(0, 0), np.array([1, 2]), np.array([0, 6, 19]), np.array([19, 3])):
        assert np.array_equal(column[key], whole[key])
    assert (len(column), column.min(), column.max(), column.is_finite) == (20, 0.0, 19.0, True)
    assert not Pieces([np.array([1.0, np.nan]), np.ones(2)], np.dtype(float)).is_finite


@pytest.mark.parametrize(("word", "missing"), [("", ()), ("NaN", ()), ("NA", ()), ("-9", ("-9",)), ("nil", ("nil",))])
def test_words_for_a_missing_value_among_numbers_alone(word, missing, tmp_path, monkeypatch):
    """Pieces of numbers alone are read without looking each field up among the words, and mean the same."""
    rng = np.random.default_rng(4)
    rows = [[f"{x:.6f}", f"{z:.6f}", str(int(x + z > 0))] for x, z in rng.normal(size=(ROWS, 2))]
    gone = [7, 300, 301, 590]
    for row in gone:
        rows[row][1] = word
    path = tmp_path / "n.csv"
    path.write_text("\n".join(["x,z,y", *map(",".join, rows)]) + "\n")
    options = TableOptions(label="y", missing=missing, impute="mean")
    found = datasets(path, monkeypatch, options)
    same(*found)
    records = np.concatenate([found[0].records_train, found[0].records_test])
    values = np.concatenate([found[0].columns_train["z"], found[0].columns_test["z"]])
    assert sorted(records[np.isnan(values.astype(float))] - 1) == gone


def test_rows_that_are_picked_twice_are_one_array_for_all_columns():
    columns = {f"x{j}": Column("numeric", np.arange(10.0) * j, "numbers") for j in range(3)}
    columns["name"] = Column("text", np.array(list("abcdefghij"), dtype=object), "text")
    once = Table(columns, 10).take(np.array([1, 3, 5, 7]))
    twice = once.take(np.array([0, 2]))
    assert len({id(one.rows) for key, one in twice.columns.items() if key != "name"}) == 1
    assert [one.values.tolist() for one in twice.columns.values()] == [[0, 0], [1, 5], [2, 10], ["b", "f"]]
    assert twice.record_numbers.tolist() == [2, 6]


LATER = {
    "a field in quotes": lambda line: line.replace(",south,", ',"so,uth",').replace(",north,", ',"north",'),
    "an inch sign": lambda line: line.replace(",south,", ',south 3",'),
    "carriage returns": lambda line: line + "\r",
    "a lone carriage return": lambda line: line.replace(",south,", ",so\ruth,"),
    "an accent": lambda line: line.replace(",south,", ",sûd,"),
    "nothing odd": lambda line: line,
}


@pytest.mark.parametrize("encoding", ["utf-8", "latin-1"])
@pytest.mark.parametrize("odd", LATER)
def test_what_the_first_bytes_do_not_show(tmp_path, monkeypatch, lines, odd, encoding):
    """Of a large file the first bytes are taken for the rest: until a piece shows that they were not."""
    plain = [line.replace("été", "east") for line in lines]
    content = "\n".join([*plain[:300], *map(LATER[odd], plain[300:])]) + "\n"
    path = tmp_path / "t.csv"
    path.write_bytes(content.encode(encoding))
    monkeypatch.setattr(text_polars, "PIECE_BYTES", 5000)
    found = []
    for least, head in ((0, 4000), (2**40, 2**18)):
        monkeypatch.setattr(delimited, "PIECES_FROM", least)
        for module in (dialect, text_bytes):
            monkeypatch.setattr(module, "HEAD_BYTES", head)
        try:
            found.append(load(str(path), task="classification", table=TableOptions(label="died")))
        except FileError as refused:
            found.append(str(refused))
    if isinstance(found[0], str):
        assert found[0] == found[1]
    else:
        same(*found)
        assert found[0].notes == found[1].notes
    assert isinstance(found[0], str) == (odd == "a lone carriage return"), found[0]


def test_a_large_plain_file_is_read_once(tmp_path, monkeypatch, lines):
    path = tmp_path / "t.csv"
    path.write_text("\n".join(lines).replace("été", "east") + "\n")
    monkeypatch.setattr(delimited, "PIECES_FROM", 0)
    monkeypatch.setattr(text_bytes, "_from_all", None)
    assert len(load(str(path), task="classification", table=TableOptions(label="died")).y_train) > 400
