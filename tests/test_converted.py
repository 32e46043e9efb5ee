"""Tables that do not fit into memory: converted once beside their files, to the same data set as in memory."""

from __future__ import annotations

import csv
import ctypes
import errno
import gzip
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from cli_tools import environment
from scipy.sparse import csr_array

from influence_cli import memory
from influence_cli.cli import run
from influence_cli.core.objectives.families.softmax import Softmax
from influence_cli.core.objectives.glm import Glm
from influence_cli.core.removal import removal
from influence_cli.core.rows import streamed_design
from influence_cli.data import compressed, convert, features, row_store, stored
from influence_cli.data import load as load_module
from influence_cli.data.compressed import CompressedRows
from influence_cli.data.kept import KeptByPart
from influence_cli.data.load import load
from influence_cli.data.options import TableOptions
from influence_cli.data.readers import delimited, in_place, parquet, parquet_footer, svmlight, text_polars
from influence_cli.data.row_store import RowStore
from influence_cli.data.stored import StoredRows
from influence_cli.errors import ExitCode, FileError

ROWS = 900


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("GINF_MODEL", raising=False)
    monkeypatch.setattr(text_polars, "PIECE_BYTES", 9000)
    monkeypatch.setattr(delimited, "RECORDS", 130)
    monkeypatch.setattr(parquet, "SLICE_NUMBERS", 130 * 11)
    return tmp_path


@pytest.fixture
def converting(monkeypatch):
    """No table is small enough for memory, and no test rows are few."""
    monkeypatch.setattr(convert, "is_large", lambda needed, split: True)
    monkeypatch.setattr(features, "SMALL_BYTES", 0)
    monkeypatch.setattr(stored, "BLOCK_BYTES", 1000)


def frame(rows: int = ROWS) -> pl.DataFrame:
    """Numbers with gaps, whole numbers, truth values, categories of which some are rare, dates and names."""
    rng = np.random.default_rng(2)
    gaps = rng.normal(size=rows).tolist()
    gaps[3::97] = [None] * len(gaps[3::97])
    sites = rng.choice(["north", "south, east", "été"], rows).tolist()
    sites[5::211] = [None] * len(sites[5::211])
    sites[-1] = "once"
    return pl.DataFrame(
        {
            "x": rng.normal(size=rows) * 1e3,
            "gaps": gaps,
            "count": rng.integers(-40, 10_000, rows),
            "large": rng.integers(2**53, 2**62, rows),
            "late": [*range(rows - 9), *(0.5 + np.arange(9.0)).tolist()],
            "smoker": rng.choice([True, False], rows),
            "site": sites,
            "day": [f"2024-01-{1 + row % 28:02d}" for row in range(rows)],
            "name": [f"row {row}" for row in range(rows)],
            "grade": rng.choice(["1", "2", "3+"], rows),
            "died": rng.choice(["no", "yes"], rows),
        },
        strict=False,
    )


def write(kind: str) -> str:
    """The table as files of that kind; the name or the pattern to read them by."""
    table = frame()
    if kind == "parquet":
        table.write_parquet("t.parquet", row_group_size=200)
    elif kind == "gz":
        Path("t.csv.gz").write_bytes(gzip.compress(table.write_csv().encode()))
        return "t.csv.gz"
    elif kind == "pattern":
        for part, begin in enumerate(range(0, ROWS, 300)):
            table[begin : begin + 300].write_csv(f"part-{part}.csv")
        return "part-*.csv"
    elif kind == "semicolons":
        table.select(pl.exclude("site")).write_csv("t.csv", separator=";", decimal_comma=True)
        return "t.csv"
    elif kind == "plain":  # no comma in a field: then polars reads it
        table.with_columns(pl.col("site").str.replace(",", "")).write_csv("t.csv")
    elif kind == "latin":
        Path("t.csv").write_bytes(table.write_csv().encode("latin-1"))
    elif kind == "empty lines":
        Path("t.csv").write_text("\n\n".join(table.write_csv().split("\n")))
    else:
        table.write_csv("t.csv")
    return f"t.{'parquet' if kind == 'parquet' else 'csv'}"


def same(one, other) -> None:
    for key in ("X_train", "X_test"):
        found = getattr(one, key)
        assert isinstance(found, StoredRows), key
        np.testing.assert_array_equal(found[:], getattr(other, key))
    for key in ("y_train", "y_test", "records_train", "records_test"):
        np.testing.assert_array_equal(getattr(one, key), getattr(other, key))
    for key in ("columns_train", "columns_test"):
        mine, theirs = getattr(one, key), getattr(other, key)
        assert list(mine) == list(theirs)
        for name in mine:
            assert mine[name].dtype == theirs[name].dtype, name
            if mine[name].dtype == object:
                assert mine[name].tolist() == theirs[name].tolist()
            else:
                assert mine[name].tobytes() == theirs[name].tobytes(), name
    for key in ("feature_names", "notes", "preparation", "classes", "digest"):
        assert getattr(one, key) == getattr(other, key), key


OPTIONS = {
    "dates in days": {"impute": "median", "date": "ordinal"},
    "means": {"impute": "mean", "drop": ("day",), "keep": ("name",), "features": (), "standardize": False},
    "rows left out": {"drop_missing": True, "drop": ("day",), "coding": "reference"},
    "texts": {"impute": "most-frequent", "drop": ("day",), "categorical": ("grade",), "id_column": "name"},
}


@pytest.mark.parametrize("kind", ["csv", "plain", "gz", "pattern", "parquet", "semicolons", "latin", "empty lines"])
@pytest.mark.parametrize("asked", OPTIONS)
def test_it_is_the_data_set_of_memory_to_the_bit(folder, monkeypatch, kind, asked):
    source = write(kind)
    options = TableOptions(label="died", **{key: value for key, value in OPTIONS[asked].items() if key != "keep"})
    arguments = {"task": "classification", "table": options, "seed": 3}
    memory = load(source, **arguments)
    monkeypatch.setattr(convert, "is_large", lambda needed, split: True)
    monkeypatch.setattr(features, "SMALL_BYTES", 0)
    for _ in range(2):  # as it is converted, and as it was
        same(load(source, **arguments), memory)


@pytest.mark.parametrize("missing", [(), ("?",), ("-99",)])
def test_words_for_a_missing_value_are_those_of_memory(folder, monkeypatch, missing):
    """They are not looked for in every piece: those of memory are, which are read in another way."""
    write("plain")
    table = pl.read_csv("t.csv").select("x", "gaps", "count", "site", "died")
    lines = table.write_csv().splitlines()
    lines[401:404] = ["nan,NA,3,n/a,yes", "NaN,NULL,,NA,no", "1.5,-nan,3,<NA>,yes"]
    lines[100], lines[500] = "nan,nan,,NA,", "NA,nan,NA,NA,"  # nothing
    lines[700:702] = ["-99,0.5,-99,-99,yes", "1,,2,null,no"]
    if missing == ("?",):
        lines[800] = "1,?,2,?,no"
    Path("t.csv").write_text("\n".join(lines) + "\n")
    options = TableOptions(label="died", impute="mean", missing=missing)
    arguments = {"task": "classification", "table": options, "seed": 3}
    memory = load("t.csv", **arguments)
    monkeypatch.setattr(convert, "is_large", lambda needed, split: True)
    monkeypatch.setattr(features, "SMALL_BYTES", 0)
    found = load("t.csv", **arguments)
    same(found, memory)
    assert len(found.y_train) + len(found.y_test) == 898 and "2 empty lines" in found.notes[0]


@pytest.mark.parametrize("kind", ["csv", "parquet", "gz"])
def test_a_table_of_whole_numbers_alone_is_converted(folder, monkeypatch, kind):
    table = pl.DataFrame({"a": range(ROWS), "died": [row % 3 % 2 for row in range(ROWS)]})
    source = f"w.{'csv.gz' if kind == 'gz' else kind}"
    if kind == "parquet":
        table.write_parquet(source)
    else:
        Path(source).write_bytes((gzip.compress if kind == "gz" else bytes)(table.write_csv().encode()))
    arguments = {"task": "classification", "table": TableOptions(label="died"), "seed": 3}
    memory = load(source, **arguments)
    monkeypatch.setattr(convert, "is_large", lambda needed, split: True)
    monkeypatch.setattr(features, "SMALL_BYTES", 0)
    same(load(source, **arguments), memory)


def said_of(source: str, **options) -> list[str]:
    """What is announced while the table is loaded."""
    said: list[str] = []
    with convert.announcing(said.append):
        load(source, task="classification", table=TableOptions(label="died", impute="mean", drop=("day",), **options))
    return said


def test_it_is_converted_once_and_again_where_its_content_changed(folder, converting):
    write("csv")
    first = said_of("t.csv")
    assert "t.csv (" in first[0] and "it is converted once, to" in first[0] and "about 95.1 kB" in first[0], first
    assert said_of("t.csv") == []
    os.utime("t.csv", ns=(1, 1))  # another time, the same content
    assert said_of("t.csv") == []
    text = Path("t.csv").read_text()
    Path("t.csv").write_text(text.replace("yes", "no ", 1))
    assert "again, because it was changed" in said_of("t.csv")[0]
    assert len(said_of("t.csv", missing=("?",))) > 0  # read in another way


class Killed(BaseException):
    """Stands for SIGKILL: nothing cleans up after it."""


@pytest.mark.parametrize("kind", ["csv", "plain", "gz", "pattern", "parquet", "latin"])
def test_a_killed_conversion_goes_on_where_it_was(folder, converting, monkeypatch, kind):
    monkeypatch.setattr(convert, "is_large", lambda needed, split: False)
    source = write(kind)
    options = {"task": "classification", "table": TableOptions(label="died", impute="mean", drop=("day",))}
    memory = load(source, **options)
    monkeypatch.setattr(convert, "is_large", lambda needed, split: True)
    part, count = RowStore.part, []

    def killed(self, *arguments):
        count.append(1)
        if len(count) == 3:
            part(self, *arguments)
            with self._columns.open("ab") as file:
                file.write(b"half a piece")
            raise Killed
        return part(self, *arguments)

    monkeypatch.setattr(RowStore, "part", killed)
    with pytest.raises(Killed):
        load(source, **options)
    before = len(count)
    same(load(source, **options), memory)
    total = len(count) - before
    whole = count.clear()
    for store in folder.glob("*.ginf-rows/*/table.json"):
        store.unlink()
    monkeypatch.setattr(RowStore, "part", lambda self, *arguments: (count.append(1), part(self, *arguments))[1])
    load(source, **options)
    assert whole is None and total < len(count)


@pytest.mark.parametrize(
    ("own", "how"),
    [
        (["--impute", "median", "--drop", "day,name"], ["--preprocessing", "frozen"]),
        (["--drop", "day,name,gaps,site"], []),
    ],
    ids=["imputed", "standardised again"],
)
def test_commands_say_the_same_of_a_converted_table(folder, monkeypatch, capsys, own, how):
    write("csv")
    told = ["--label", "died", *own, "--estimator", "logistic", "--link-data", "--tol", "1e-12"]
    asked = ["--group", "by:site", "--group", "random:3%x3", "--test", "0:3", "--quiet", *how]
    for way in ("memory", "store"):
        if way == "store":
            monkeypatch.setattr(convert, "is_large", lambda needed, split: True)
        assert run(["train", "--data", "t.csv", *told, "-o", f"{way}.h5", "--quiet"]) == 0
        for command in ("influence", "groundtruth"):
            assert run([command, "--model", f"{way}.h5", *asked, "-o", f"{way}-{command}.csv"]) == 0
    for command, figures in (("influence", ("first", "second")), ("groundtruth", ("actual",))):
        one, other = (
            list(csv.DictReader(Path(f"{way}-{command}.csv").read_text().splitlines())) for way in ("store", "memory")
        )
        assert [row["group"] for row in one] == [row["group"] for row in other]
        for key in figures:
            mine, theirs = (np.array([float(row[key]) for row in rows]) for rows in (one, other))
            np.testing.assert_allclose(mine, theirs, rtol=1e-9, atol=1e-12 * np.abs(theirs).max())
    capsys.readouterr()
    assert run(["train", "--data", "t.csv", *told, "-o", "again.h5"]) == 0
    assert "every pass reads" in capsys.readouterr().err


def test_what_is_wrong_with_a_table_is_said_as_ever(folder, converting):
    write("csv")
    lines = Path("t.csv").read_text().splitlines()
    Path("ragged.csv").write_text("\n".join([*lines[:450], "1,2,3", *lines[450:]]))
    with pytest.raises(FileError, match="every row must have 11 fields as the first line has, but line 451 has 3"):
        load("ragged.csv", task="classification", table=TableOptions(label="died"))
    with pytest.raises(FileError, match="column day holds dates"):
        load("t.csv", task="classification", table=TableOptions(label="died", impute="mean"))
    with pytest.raises(FileError, match="values are missing: gaps in 10 rows"):
        load("t.csv", task="classification", table=TableOptions(label="died", drop=("day",)))
    Path("t.csv.ginf-rows").rename("moved")
    Path("t.csv.ginf-rows").write_text("no folder")
    with pytest.raises(FileError, match="the rows cannot be written beside the data"):
        load("t.csv", task="classification", table=TableOptions(label="died", drop=("day",)))


MEASURED = """
import sys
from influence_cli import memory
from influence_cli.cli import run
code = run(sys.argv[1:])
peak = next(line for line in open("/proc/self/status") if line.startswith("VmHWM"))
print(peak, file=sys.stderr)
sys.exit(code)
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="peak memory is read from /proc")
def test_memory_stays_within_what_is_allowed(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    X = rng.normal(size=(120_000, 50))
    y = (X[:, 0] + rng.normal(size=len(X)) > 0).astype(int)
    pl.DataFrame({f"x{j}": np.round(X[:, j], 6) for j in range(50)} | {"y": y}).write_csv("t.csv")
    arguments = ["train", "--data", "t.csv", "--label", "y", "--memory", "280MB", "-o", "m.h5"]
    done = subprocess.run(
        [sys.executable, "-c", MEASURED, *arguments],
        env=environment(OPENBLAS_NUM_THREADS="1", POLARS_MAX_THREADS="2"),
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == ExitCode.OK, done.stderr
    assert "it is converted once" in done.stderr and "every pass reads" in done.stderr
    assert 1024.0 * float(done.stderr.split()[-2]) <= 280e6, done.stderr
    assert json.loads(next(Path().glob("*.ginf-rows/*/table.json")).read_text())["rows"] == 120_000


def trained_within(source: str, limit: str, *more: str) -> subprocess.CompletedProcess[str]:
    """Train on a table with a label y that is not in the system's cache."""
    with Path(source).open("rb") as file:
        os.fsync(file.fileno())
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
    arguments = ["train", "--data", source, "--label", "y", "--memory", limit, "-o", "m.h5", "--force", *more]
    return subprocess.run(
        [sys.executable, "-c", MEASURED, *arguments],
        env=environment(OPENBLAS_NUM_THREADS="1", POLARS_MAX_THREADS="2"),
        capture_output=True,
        text=True,
        timeout=240,
    )


def written_texts(kind: str, rows: int, length: int) -> str:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(rows, 2))
    letters = rng.integers(97, 123, (rows, length), dtype=np.uint8)
    texts = [line.tobytes().decode() for line in letters]
    table = pl.DataFrame({"a": x[:, 0], "b": x[:, 1], "note": texts, "y": (x[:, 0] > 0).astype(int)})
    if kind == "parquet":
        table.write_parquet("t.parquet")
    elif kind == "gz":
        Path("t.csv.gz").write_bytes(gzip.compress(table.write_csv().encode(), 1))
    else:
        table.write_csv("t.csv")
    return {"gz": "t.csv.gz"}.get(kind, f"t.{kind}")


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="peak memory is read from /proc")
@pytest.mark.parametrize("kind", ["csv", "parquet", "gz"])
def test_long_texts_count_as_memory(tmp_path, monkeypatch, kind):
    """Three numbers a row are nothing, but the text beside them would take 270 MB."""
    monkeypatch.chdir(tmp_path)
    source = written_texts(kind, 30_000, 2000)
    done = trained_within(source, "220MB", "--drop", "note", "--l2", "0.01")
    assert done.returncode == ExitCode.OK, done.stderr
    assert "it is converted once" in done.stderr
    assert 1024.0 * float(done.stderr.split()[-2]) <= 1.2 * 220e6, done.stderr
    monkeypatch.setattr(convert, "is_large", lambda needed, split: False)
    options = TableOptions(label="y", drop=("note",))
    memory = load(source, task="classification", table=options)
    monkeypatch.setattr(convert, "is_large", lambda needed, split: True)
    monkeypatch.setattr(features, "SMALL_BYTES", 0)
    same(load(source, task="classification", table=options), memory)


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="peak memory is read from /proc")
def test_a_large_row_group_is_read_some_columns_at_a_time(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    X = np.random.default_rng(0).normal(size=(700_000, 30))
    table = pl.DataFrame({f"x{j}": X[:, j] for j in range(30)} | {"y": (X[:, 0] > 0).astype(int)})
    table.write_parquet("t.parquet", row_group_size=len(X))
    done = trained_within("t.parquet", "260MB", "--l2", "0.01")
    assert done.returncode == ExitCode.OK, done.stderr
    assert 1024.0 * float(done.stderr.split()[-2]) <= 1.1 * 260e6, done.stderr


def test_a_row_group_that_does_not_fit_is_refused_with_its_size(folder, converting, monkeypatch):
    written_texts("parquet", 300, 2000)
    monkeypatch.setattr(parquet, "PIECE_BYTES", 1000)
    packed = parquet_footer.footer_of([Path("t.parquet")]).sizes["note"].packed
    monkeypatch.setattr(memory, "at_hand", lambda: packed - 1)
    with pytest.raises(memory.MemoryLackError, match="reading the column note, whose largest row group is") as caught:
        load("t.parquet", task="classification", table=TableOptions(label="y"))
    assert memory.shown(packed) in str(caught.value) and "row_group_size" in (caught.value.hint or "")


@pytest.mark.parametrize("groups", [100, ROWS])
@pytest.mark.parametrize("compression", ["zstd", "uncompressed", "snappy"])
def test_footers_say_the_sizes_of_columns(folder, groups, compression):
    """What all columns take together is the length of the file but for its footer."""
    table = frame().with_columns(pl.col("x").map_elements(lambda x: [x], return_dtype=pl.List(pl.Float64)).alias("of"))
    table.write_parquet("t.parquet", row_group_size=groups, compression=compression, statistics="full")
    sizes = parquet_footer.footer_of([Path("t.parquet")])
    assert sizes.groups == [groups] * (ROWS // groups)
    assert list(sizes.sizes) == table.columns
    content = Path("t.parquet").read_bytes()
    packed = sum(one.packed for one in sizes.sizes.values()) * ROWS / sizes.groups[0]
    between = len(content) - int.from_bytes(content[-8:-4], "little") - 12
    assert 0.8 * between <= packed <= (1 if groups == ROWS else 2) * between  # some of it are indices of pages
    assert sizes.sizes["name"].texts == ROWS and not sizes.sizes["x"].texts
    footer = range(len(content) - 2000, len(content), 3)
    for place in (*range(0, len(content), 997), *footer):  # damaged anywhere, it says what it can or nothing
        Path("cut.parquet").write_bytes(content[:place] + bytes([content[place] ^ 0xFF]) + content[place + 1 :])
        parquet_footer.footer_of([Path("cut.parquet")])


@pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "malloc_trim"), reason="the C library keeps what is freed")
def test_what_reading_took_goes_back_to_the_system(folder, monkeypatch):
    write("plain")
    held: list[bytearray | None] = []
    given_back = memory.give_back

    def watched():
        before = memory.resident()
        given_back()
        held.append(None)
        assert before - memory.resident() > 50e6

    monkeypatch.setattr(load_module, "give_back", watched)
    options = {"task": "classification", "table": TableOptions(label="died", impute="mean", drop=("day",))}
    load("t.csv", **options)
    assert not held  # of rows in memory there is nothing to wait for
    monkeypatch.setattr(convert, "is_large", lambda needed, split: True)
    held += [bytearray(1000) for _ in range(100_000)]
    del held[:-1]  # the last one holds what lies below it
    load("t.csv", **options)
    assert held[-1] is None


def save_svmlight(name: str, kind: str, rows: int, columns: int, *, seed: int = 0, first: int = 1) -> None:
    """Rows with an empty one, a column that is used nowhere, numbers that are written as 0, and a comment."""
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(rows, columns)) * (rng.random((rows, columns)) < 0.2)
    X[3], X[:, 1] = 0.0, 0.0
    outputs = X @ np.random.default_rng(5).normal(size=(columns, 3))
    y = {
        "logistic": (outputs[:, 0] + rng.logistic(size=rows) > 0).astype(int),
        "softmax": (outputs + rng.gumbel(size=(rows, 3))).argmax(axis=1),
        "linear": outputs[:, 0] + rng.normal(size=rows),
        "poisson": rng.poisson(np.exp(0.3 * outputs[:, 0])),
    }[kind]
    lines = [
        f"{label!r} " + " ".join(f"{place + first}:{X[row, place].item()!r}" for place in np.flatnonzero(X[row]))
        for row, label in enumerate(y.tolist())
    ]
    lines[5] = f"{y[5].item()!r} {first}:0 {columns + first + 1}:0.5 # a comment"
    text = "\n".join(lines) + "\n"
    Path(name).write_bytes(gzip.compress(text.encode()) if name.endswith(".gz") else text.encode())


@pytest.fixture
def compressing(monkeypatch):
    """No compressed rows are small enough for memory."""
    monkeypatch.setattr(load_module, "is_large", lambda needed, split: True)
    monkeypatch.setattr(svmlight, "PIECE_BYTES", 9000)
    monkeypatch.setattr(compressed, "BLOCK_BYTES", 3000)


@pytest.mark.parametrize("name", ["a.svm", "a.svm.gz", "zero.svm"])
@pytest.mark.parametrize("more", [{}, {"standardize": True}, {"test_data": "b.svm"}])
def test_compressed_rows_are_those_of_memory_to_the_bit(folder, monkeypatch, name, more):
    save_svmlight(name, "logistic", 700, 30, first=int(name != "zero.svm"))
    save_svmlight("b.svm", "logistic", 90, 34, seed=1)
    arguments = {"task": "classification", "table": TableOptions(**more), "seed": 3}
    memory = load(name, **arguments)
    monkeypatch.setattr(load_module, "is_large", lambda needed, split: True)
    monkeypatch.setattr(svmlight, "PIECE_BYTES", 9000)
    monkeypatch.setattr(compressed, "BLOCK_BYTES", 3000)
    picked = np.random.default_rng(1).permutation(memory.X_train.shape[0])[:50]
    for _ in range(2):  # as it is converted, and as it was
        found = load(name, **arguments)
        assert isinstance(found.X_train, CompressedRows) and found.digest == memory.digest
        assert found.notes == memory.notes and found.preparation == memory.preparation
        assert len({part.count for part in found.X_train.parts}) > 3
        for rows in (slice(0, 500), slice(7, 7), picked, np.sort(picked), np.array([4, 4, -1])):
            one, other = found.X_train[rows], memory.X_train[rows]
            assert one.shape == other.shape and one.nnz == other.nnz and (one != other).nnz == 0
            assert one.has_canonical_format
        one, other = found.X_test[:, [4]], memory.X_test[:, [4]]  # what a gap between the values of a feature asks for
        assert isinstance(found.X_test, CompressedRows) and (one != other).nnz == 0 < one.nnz


@pytest.mark.parametrize(
    ("kind", "columns", "extra"),
    [
        ("logistic", 200, ["--standardize"]),
        ("softmax", 30, ["--class-weight", "balanced"]),
        ("linear", 30, []),
        ("poisson", 30, ["--standardize"]),
    ],
)
def test_commands_give_the_bits_of_memory_on_compressed_rows(folder, monkeypatch, kind, columns, extra):
    save_svmlight("a.svm", kind, 500, columns)
    told = ["--data", "a.svm", "--estimator", kind.replace("softmax", "logistic"), *extra, "--link-data", "--quiet"]
    asked = {
        "influence": "--group random:5%x2 --group random:10 --test 0:3 --method first,second,newton,rif,refined",
        "groundtruth": "--group random:5%x2 --group rows:0,5,9 --test 0:3",
        "select": "--size 20 --test 1",
    }
    for way in ("memory", "store"):
        if way == "store":
            monkeypatch.setattr(load_module, "is_large", lambda needed, split: True)
            monkeypatch.setattr(svmlight, "PIECE_BYTES", 9000)
        assert run(["train", *told, "-o", f"{way}.h5"]) == 0
        for command, options in asked.items():
            given = ["--model", f"{way}.h5", *options.split(), "--quiet", "-o", f"{way}-{command}.csv"]
            assert run([command, *given]) == 0
    for command in asked:
        one, other = (
            list(csv.DictReader(Path(f"{way}-{command}.csv").read_text().splitlines())) for way in ("store", "memory")
        )
        for mine, theirs in zip(one, other, strict=True):
            varies = {"seconds", "description", "bound", "optimal"}  # the last are not known of streamed rows
            assert {key: mine[key] for key in set(mine) - varies} == {key: theirs[key] for key in set(theirs) - varies}


def test_many_rows_of_compressed_groups_are_visited_in_one_pass(folder, compressing, monkeypatch):
    save_svmlight("a.svm", "softmax", 600, 40)
    own = load("a.svm", task="classification", test_fraction=0.0)
    X = own.X_train
    memory = csr_array(X[:])
    groups = [np.arange(0, 600, 2), np.arange(100, 400), np.array([7])]
    weights = np.full(600, 1 / 600)
    theta = 0.1 * np.random.default_rng(3).normal(size=(3 * (X.shape[1] + 1), 3))
    for scattered in (0.0, 1e9):  # row by row, and all groups at once
        monkeypatch.setattr(streamed_design, "SCATTERED", scattered)
        removed = removal(weights, groups, "per-mean").removed
        one, other = (
            Glm(rows, own.y_train, Softmax(3), l2=1e-2, weights=weights).curvature(theta, removed)(theta)
            for rows in (X, memory)
        )
        np.testing.assert_allclose(one, other, rtol=1e-12, atol=1e-15)


@pytest.mark.parametrize("write", ["pwrite", "open"])
def test_a_full_disk_is_said_of_the_store_and_not_of_the_file(folder, compressing, monkeypatch, write):
    save_svmlight("a.svm", "logistic", 700, 30)

    def full(*arguments, **options):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    path_open = Path.open

    def opening(path, mode="r", **options):
        return full() if mode == "a" else path_open(path, mode, **options)

    with monkeypatch.context() as disk:
        disk.setattr(*((os, "pwrite", full) if write == "pwrite" else (Path, "open", opening)))
        with pytest.raises(FileError, match="the rows cannot be written beside the data: No space left") as caught:
            load("a.svm", task="classification")
    assert "make room there" in caught.value.hint
    assert load("a.svm", task="classification").rows == 560


def test_a_killed_conversion_of_compressed_rows_goes_on(folder, compressing, monkeypatch):
    save_svmlight("a.svm", "logistic", 700, 30)
    said, part, count = [], RowStore.part, []

    def killed(self, *arguments):
        count.append(1)
        found = part(self, *arguments)
        if len(count) == 3:
            raise Killed
        return found

    monkeypatch.setattr(RowStore, "part", killed)
    with pytest.raises(Killed):
        load("a.svm", task="classification")
    with convert.announcing(said.append):
        digest = load("a.svm", task="classification").digest
    pieces = -(-Path("a.svm").stat().st_size // 9000)
    assert len(count) <= pieces + 1  # none is read twice
    assert "a.svm (" in said[0] and "it is converted once, to" in said[0]
    text = Path("a.svm").read_text()
    Path("a.svm").write_text(text.replace("1 ", "0 ", 1))
    with convert.announcing(said.append):
        assert load("a.svm", task="classification").digest != digest
    assert "again, because it was changed" in said[1]


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("1 1:2 x:3", "the svmlight format was expected"),
        ("1 3:1 2:1", "should be sorted"),
        ("1 2:nan", "but 1 of the .* are not: the first is nan in column x1, row 90|but 1 of the .* is not: the first"),
        ("1 20000000:1", "more than the 10,000,000"),
    ],
)
def test_what_is_wrong_with_compressed_rows_is_said_as_ever(folder, compressing, line, expected):
    save_svmlight("a.svm", "logistic", 100, 30)
    lines = Path("a.svm").read_text().splitlines()
    Path("a.svm").write_text("\n".join([*lines[:90], line, *lines[90:]]))
    with pytest.raises(FileError, match=expected):
        load("a.svm", task="classification")
    Path("a.svm").write_text("")
    with pytest.raises(FileError, match="the file holds no rows"):
        load("a.svm", task="classification")


@pytest.mark.parametrize("kind", ["csv", "plain", "gz", "pattern"])
def test_many_different_texts_are_not_held_at_once(folder, converting, monkeypatch, kind):
    """Each piece keeps its own; what may be numbers or dates in another piece is still told from all."""
    spaced = [f" row {row // 2}" + " " * (row % 2) for row in range(ROWS)]  # the same once they are cleaned
    spaced[7], spaced[800] = "", "NA"
    codes = [f"{row % 400}" if row < 600 else f"code {row}" for row in range(ROWS)]
    table = frame().with_columns(pl.Series("spaced", spaced), pl.Series("codes", codes))
    monkeypatch.setitem(globals(), "frame", lambda: table)
    source = write(kind)
    drop = ("day", "spaced", "codes", "name")
    arguments = {"task": "classification", "table": TableOptions(label="died", impute="mean", drop=drop)}
    monkeypatch.setattr(convert, "is_large", lambda needed, split: False)
    memory = load(source, **arguments)
    monkeypatch.setattr(convert, "is_large", lambda needed, split: True)
    monkeypatch.setattr(row_store, "MANY_TEXTS", 300)
    for _ in range(2):
        found = load(source, **arguments)
        same(found, memory)
        by_part = {key for key, one in found.columns_train._columns.items() if isinstance(one.stored, KeptByPart)}
        assert by_part == {"name", "spaced"}
        assert len(found.columns_train._columns["name"].stored.places) > 2


def flipped(path: Path) -> None:
    """One bit in the middle of a file is another one."""
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def test_numbers_of_a_store_that_were_changed_are_made_again(folder, converting):
    write("csv")
    options = {"task": "classification", "table": TableOptions(label="died", impute="mean", drop=("day",))}
    digest = load("t.csv", **options).digest
    for name, reason in (("columns.bin", "because what was made of it was changed"), ("features-*.bin", "again")):
        for path in folder.glob(f"t.csv.ginf-rows/*/{name}"):
            flipped(path)
        said = said_of("t.csv")
        assert reason in said[0], (name, said)
        assert load("t.csv", **options).digest == digest
    for path in folder.glob("t.csv.ginf-rows/*/*.bin"):
        os.utime(path, ns=(1, 1))  # another time, the same content
    assert said_of("t.csv") == []


def test_compressed_rows_that_do_not_fit_are_refused_before_they_are_read(folder, monkeypatch, capsys):
    Path("a.svm").write_text("1 1:0.5 3:2\n0 2:1\n" * 20)
    monkeypatch.setattr(memory, "at_hand", lambda: 1e6)
    monkeypatch.setattr(load_module, "read_svmlight", None)
    assert run(["train", "--data", "a.svm", "-o", "m.h5"]) == ExitCode.USAGE
    said = capsys.readouterr().err
    assert "not enough memory: reading a.svm takes about 100 MB" in said and "compressed rows" in said, said


@pytest.mark.parametrize("streams", [False, True])
def test_features_alone_have_their_labels_beside_them(folder, monkeypatch, capsys, streams):
    monkeypatch.setattr(in_place, "is_large", lambda needed, split: streams)
    rng = np.random.default_rng(0)
    X = rng.normal(size=(300, 4))
    y = (X[:, 0] + rng.normal(size=300) > 0).astype(int)
    np.savez("whole.npz", X=X, y=y)
    np.save("X_all.npy", X)
    np.save("other.npy", X)
    load_it = {"task": "classification", "seed": 1}
    for name, said in (
        ("X_all.npy", "there is no .*y_all.npy beside it"),
        ("other.npy", "this one is called other.npy"),
    ):
        with pytest.raises(FileError, match=said):
            load(name, **load_it)
    np.save("y_all.npy", y)
    one, other = load("X_all.npy", **load_it), load("whole.npz", **load_it)
    assert isinstance(one.X_train, StoredRows) == streams
    assert one.digest == other.digest
    assert run(["train", "--data", "X_all.npy", "--link-data", "-o", "m.h5", "--quiet"]) == 0
    np.save("y_all.npy", 1 - y)  # the labels are a file of the data too
    assert run(["influence", "--model", "m.h5", "--group", "random:5", "--test", "0"]) == ExitCode.FILE
    assert "its rows are no longer those of" in capsys.readouterr().err
    Path("X_all.npy").write_bytes(b"nothing")
    with pytest.raises(FileError, match=r"a whole \.npy file was expected"):
        load("X_all.npy", **load_it)
