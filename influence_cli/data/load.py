"""The source that ``--data`` names -> a ``Dataset``: a built-in name, or a path, which its kind of reader reads."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import replace
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import TypeVar

from influence_cli.data.builtin import BUILTIN
from influence_cli.data.convert import converted, in_store
from influence_cli.data.dataset import Dataset
from influence_cli.data.frames import FeatureMaker
from influence_cli.data.from_arrays import RawData, prepare_arrays
from influence_cli.data.from_table import prepare_table
from influence_cli.data.keeping import Keeper
from influence_cli.data.options import TableOptions, check_options
from influence_cli.data.prepare import Task
from influence_cli.data.readers.delimited import read_delimited
from influence_cli.data.readers.dialect import encoding_of, separator_of
from influence_cli.data.readers.hdf5 import read_hdf5
from influence_cli.data.readers.idx import IDX_NAME, read_idx_folder
from influence_cli.data.readers.in_place import ENDINGS, SPLIT_COPIES, is_large, read_in_place
from influence_cli.data.readers.npy import read_npy
from influence_cli.data.readers.npz import read_npz
from influence_cli.data.readers.pandas_tables import read_as_pandas
from influence_cli.data.readers.parquet import read_parquet
from influence_cli.data.readers.svmlight import in_pieces, read_svmlight, stored_svmlight
from influence_cli.data.sources import KINDS, existing, test_paths
from influence_cli.data.stored import worked_elsewhere
from influence_cli.data.table import Table
from influence_cli.errors import FileError, GinfError, UsageError, about, check_regular, composed
from influence_cli.memory import accounted, at_hand, give_back, require, shown

Kind = TypeVar("Kind")

READERS: dict[str, Callable[[Path], RawData]] = {
    ".npz": read_npz,
    ".npy": read_npy,
    ".h5": read_hdf5,
    ".hdf5": read_hdf5,
}
"""Ending of a file's name -> the reader of its arrays."""
SVMLIGHT = (".svm", ".libsvm", ".svm.gz", ".libsvm.gz")
TEXT_TABLES = {".csv": ",", ".tsv": "\t", ".tab": "\t", ".txt": ",", ".dat": ",", ".data": ","}
"""Ending of a file's name -> the separator expected in it."""
PARQUET = (".parquet", ".pq")
TABLES = (*TEXT_TABLES, *(f"{ending}.gz" for ending in TEXT_TABLES), *PARQUET)
WORKBOOKS = (".xlsx", ".xls", ".xlsm", ".ods")

TIMES_LENGTH = {".gz": 6.0, ".parquet": 5.0, ".pq": 5.0, ".npz": 2.2, ".h5": 2.2, ".svm": 3.0, ".libsvm": 3.0}
"""Ending of a file's name -> peak memory of reading it, as a multiple of the file's length (measured)."""
OTHER_TIMES, PYTHON_BYTES = 1.3, 1e8
"""The same multiple for other files, and the bytes that the program itself takes."""
NEEDS_LESS = (
    "raise the limit (--memory, ulimit -v, the container's), or store the rows as .npz or .h5, which are read piece by"
    " piece where they do not fit"
)
NOT_STREAMED = (
    "compressed rows that do not fit are converted (docs/scale.md), which takes some memory too, and those of a brought"
    " model are held as a whole: raise --memory, or give fewer rows"
)
CONVERTING_BYTES = 1e8
"""Bytes of memory, beside Python's own, that converting compressed rows takes: a piece of text, and its numbers."""


def load(
    source: str,
    *,
    task: Task,
    test_fraction: float = 0.2,
    seed: int = 0,
    table: TableOptions | None = None,
    maker: FeatureMaker | None = None,
) -> Dataset:
    """The data set that ``source`` names: ``digits``, ``synthetic``, ``blobs``, ``mnist``, a path, or a pattern of
    paths of tables, which are joined to one table in the order of their names.

    ``seed`` determines the random data sets, and the split of sources without test rows; ``test_fraction`` is the share
    of test rows in that split, and with 0 all rows are both training and test rows.  With a ``maker`` of features
    nothing is split: all rows are training rows, and test rows as well if the source has no others.  A built-in name
    takes precedence over a file of that name (``./digits`` is the file).  Raises FileError or UsageError.
    """
    options = table or TableOptions()
    if not 0 <= test_fraction < 1:
        raise UsageError(
            f"the test fraction must lie between 0 and 1, but it is {test_fraction}",
            "try 0.2, or 0 to train on all rows and test them",
        )
    if seed < 0:
        raise UsageError(f"the seed must be a whole number from 0, but it is {seed}")
    check_options(options)
    paths = [] if source in BUILTIN else existing(source)
    _refuse_held(paths, source, maker)
    with accounted(f"reading {source}", _needed(paths), NEEDS_LESS):
        loaded = _loaded(paths, source, (task, test_fraction, seed), options, maker)
    if loaded.streamed is not None and paths[0].name.lower().endswith((*TABLES, *SVMLIGHT)):
        give_back()  # memory that the conversion freed must not count against --memory later
    return loaded


def _refuse_held(paths: list[Path], source: str, maker: FeatureMaker | None) -> None:
    """Raises UsageError if ``--scheduler`` is used with rows that must be in memory, and MemoryLackError if the rows of
    a model that was brought (``--from``) are known not to fit."""
    worked = (*ENDINGS, *SVMLIGHT, *TABLES)
    if worked_elsewhere() and not (maker is None and paths and paths[0].name.lower().endswith(worked)):
        what = f"those of {source}" if maker is None else "those of a model that was brought (--from)"
        raise UsageError(
            f"--scheduler is for rows that every worker reads from a file, and {what} are held in memory",
            "train with --scheduler on a table, a .svm file, or a .npz or .h5 file of float64 in row order",
        )
    needed = _needed(paths)
    if maker is not None and needed is not None:
        require(f"reading {source} as a whole for the model that was brought", needed - PYTHON_BYTES, NEEDS_LESS)


def _needed(paths: list[Path]) -> float | None:
    """Approximate bytes of memory that reading these files takes; None if unknown."""
    with suppress(OSError):
        sizes = [(path.name.lower(), path.stat().st_size) for path in paths if path.is_file()]
        times = [_by_ending(Path(name), TIMES_LENGTH) or OTHER_TIMES for name, _ in sizes]
        return sum(size * one for (_, size), one in zip(sizes, times, strict=True)) + PYTHON_BYTES if sizes else None
    return None


def _loaded(
    paths: list[Path],
    source: str,
    how: tuple[Task, float, int],
    options: TableOptions,
    maker: FeatureMaker | None,
) -> Dataset:
    """The data set; ``how`` holds the task, the share of test rows and the seed."""
    task, test_fraction, seed = how
    if paths and all(path.name.lower().endswith(TABLES) for path in paths):
        prepared = partial(_prepared_table, paths, source, how, options, maker)
        if maker is None:
            return prepared(by_pandas=False)
        try:
            return prepared(by_pandas=True)
        except FileError as as_pandas:
            try:  # whoever fitted the pipeline told pandas how the table is written: decimal commas, Latin-1
                return prepared(by_pandas=False)
            except GinfError:
                raise as_pandas from None
    if len(paths) > 1:
        raise UsageError(f"{source} means {len(paths)} files, and only tables ({', '.join(TABLES)}) are read together")
    if paths and paths[0].name.lower().endswith(WORKBOOKS):
        raise FileError(f"{source}: this is a workbook of a spreadsheet, which ginf does not read", "save it as CSV")
    if paths and not paths[0].is_dir():
        with about(source):
            _refuse_other_kinds(paths[0])
    _refuse_table_options(options, source)
    if not paths and options.test_data is not None:
        raise UsageError(f"--test-data goes with a file, and {source} is built in")
    with about(source):
        raw = _read_arrays(paths[0], source, options.test_data, maker) if paths else BUILTIN[source](seed)
    return prepare_arrays(
        raw,
        source,
        task=task,
        test_fraction=test_fraction,
        seed=seed,
        standardize=bool(options.standardize),
        maker=maker,
    )


def _prepared_table(
    paths: list[Path],
    source: str,
    how: tuple[Task, float, int],
    options: TableOptions,
    maker: FeatureMaker | None,
    *,
    by_pandas: bool,
) -> Dataset:
    """The data set of a table, which ``by_pandas`` is read by pandas if it is installed."""
    task, test_fraction, seed = how
    tables = _tables(paths, source, options, maker, by_pandas=by_pandas)
    return prepare_table(tables, options, source, task=task, test_fraction=test_fraction, seed=seed, maker=maker)


def _tables(
    paths: list[Path], source: str, options: TableOptions, maker: FeatureMaker | None, *, by_pandas: bool
) -> tuple[Table, Table | None]:
    """The table, and the table of the test rows or None."""
    texts = frozenset(composed(one.strip()) for text in options.categorical for one in (text, *text.split(",")))
    if maker is not None:
        texts |= maker.texts | ({options.label} if maker.label_is_text and options.label is not None else set())
    read = partial(_read_table, by_pandas=by_pandas, may_store=maker is None)
    with about(source):
        table = read(paths, source, options, texts)
    if options.test_data is None:
        return table, None if maker is None else table
    others = test_paths(options.test_data, TABLES, source)
    if maker is None:
        texts = frozenset(key for key, column in table.columns.items() if column.kind == "text")
    with about(options.test_data):
        return table, read(others, options.test_data, options, texts)


def _read_table(
    paths: list[Path], source: str, options: TableOptions, texts: frozenset[str], *, by_pandas: bool, may_store: bool
) -> Table:
    """The table in memory, or (``may_store``) in a store beside its files if it does not fit."""
    for path in paths:
        check_regular(path, "a table")
    read = partial(_table_of, paths, options, texts, by_pandas)
    if may_store:
        others = (options.separator, options.encoding, options.label)
        kept = converted(paths, source, options.reading(texts), others, read)
        if kept is not None:
            return kept
    return read(Keeper())


def _table_of(
    paths: list[Path], options: TableOptions, texts: frozenset[str], by_pandas: bool, keeper: Keeper
) -> Table:
    reading = options.reading(texts)
    if all(path.name.lower().endswith(PARQUET) for path in paths):
        return read_parquet(paths, reading, keeper)
    if any(path.name.lower().endswith(PARQUET) for path in paths):
        raise UsageError("text tables and .parquet files are not read together", "write all files in the same way")
    is_plain = not (options.separator or options.decimal or options.encoding or options.missing)
    if by_pandas and is_plain and len(paths) == 1 and find_spec("pandas") is not None:
        return read_as_pandas(paths[0], texts)
    name = paths[0].name.lower().removesuffix(".gz")
    return read_delimited(
        paths,
        next(mark for ending, mark in TEXT_TABLES.items() if name.endswith(ending)),
        reading,
        separator=None if options.separator is None else separator_of(options.separator),
        encoding=None if options.encoding is None else encoding_of(options.encoding),
        label=options.label,
        keeper=keeper,
    )


def _refuse_table_options(options: TableOptions, source: str) -> None:
    for option, value in options.needs_table.items():
        if value:
            raise UsageError(
                f"{option} is for tables, and {source} holds arrays without column names",
                f"tables are files of the kind {', '.join(TABLES)}",
            )


def _refuse_other_kinds(path: Path) -> None:
    """Raises FileError if, by its name, no reader of arrays takes the file."""
    if path.name.lower().endswith(SVMLIGHT) or _by_ending(path, READERS) is not None:
        return
    if IDX_NAME.fullmatch(path.name):
        raise FileError("this is one of four IDX files", f"pass the folder: --data {path.parent}")
    raise FileError(f"expected {KINDS}, but this kind is not supported", "unpack it, or write it as .csv or .parquet")


def _read_arrays(path: Path, source: str, test_source: str | None, maker: FeatureMaker | None) -> RawData:
    if path.is_dir():
        if test_source is not None:
            raise UsageError(f"--test-data goes with a file, and {source} is a folder with test images of its own")
        return read_idx_folder(path)
    check_regular(path, "a file of data")
    if path.name.lower().endswith(SVMLIGHT):
        test = None if test_source is None else test_paths(test_source, SVMLIGHT, source)[0]
        needed = _needed([path] if test is None else [path, test]) or 0.0
        if maker is None and is_large(needed / SPLIT_COPIES, split=True) and at_hand() > CONVERTING_BYTES:
            return _svmlight_in_store({source: path} if test is None else {source: path, test_source or "": test})
        require(f"reading {source}", needed, NOT_STREAMED)
        return read_svmlight(path, test, test_source or "", None if maker is None else maker.width)
    reader = _by_ending(path, READERS)
    assert reader is not None
    raw = None
    if maker is None and path.name.lower().endswith(ENDINGS):
        raw = read_in_place(path)
    if raw is None:
        raw = reader(path)
    if test_source is None:
        return raw
    other_path = test_paths(test_source, READERS, source)[0]
    with about(test_source):
        other = (_by_ending(other_path, READERS) or reader)(other_path)
    for one, name in ((raw, source), (other, test_source)):
        if one.X_test is not None:
            raise UsageError(f"{name} has a split of its own and does not go with --test-data", "leave one out")
    return replace(raw, X_test=other.X_train, y_test=other.y_train)


def _svmlight_in_store(paths: Mapping[str, Path]) -> RawData:
    """The rows of the training file, and of the test file if there is one, each in a store beside its file."""
    tables = []
    for name, path in paths.items():
        size = f"about {shown(_needed([path]) or 0.0)} at the most"
        with about(name):
            tables.append(in_store([path], name, ["compressed rows"], size, partial(in_pieces, path)))
    return stored_svmlight(tables)


def _by_ending(path: Path, kinds: Mapping[str, Kind]) -> Kind | None:
    return next((kind for ending, kind in kinds.items() if path.name.lower().endswith(ending)), None)
