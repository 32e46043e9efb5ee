"""From what ``--data`` says to checked arrays: a built-in name, or a path with a reader for its kind."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from influence_cli.data.builtin import BUILTIN
from influence_cli.data.dataset import Dataset
from influence_cli.data.features import Features, scale_arrays
from influence_cli.data.frames import FeatureMaker
from influence_cli.data.from_table import TableOptions, check_options, prepare_table
from influence_cli.data.prepare import RawData, Task, prepare
from influence_cli.data.readers.arrays import IDX_NAME, read_idx_folder, read_npz
from influence_cli.data.readers.hdf5 import read_hdf5
from influence_cli.data.readers.pandas_tables import read_as_pandas
from influence_cli.data.readers.svmlight import read_svmlight
from influence_cli.data.readers.tables import read_delimited, read_parquet
from influence_cli.data.table import Column, Table
from influence_cli.errors import FileError, UsageError, nearest

Kind = TypeVar("Kind")

READERS: dict[str, Callable[[Path, str], RawData]] = {".npz": read_npz, ".h5": read_hdf5, ".hdf5": read_hdf5}
SVMLIGHT = (".svm", ".libsvm", ".svm.gz", ".libsvm.gz")
TABLES: dict[str, Callable[[Path, str, Table | None], Table]] = {
    ".csv": read_delimited,
    ".csv.gz": read_delimited,
    ".tsv": read_delimited,
    ".tsv.gz": read_delimited,
    ".parquet": read_parquet,
}
"""The end of a file's name -> its reader, called with the path and the name for error messages."""

KINDS = "a folder of four IDX files or a file of the kind .csv, .tsv (or .gz of these), .parquet, .npz, .svm or .h5"


def load(
    source: str,
    *,
    task: Task,
    test_fraction: float = 0.2,
    seed: int = 0,
    table: TableOptions | None = None,
    maker: FeatureMaker | None = None,
) -> Dataset:
    """The data set that ``source`` names: ``digits``, ``synthetic``, ``blobs``, ``mnist``, or a path.

    ``seed`` draws the random data sets, and the split of sources that have none; ``test_fraction`` is the share of
    test rows in such a split.  With a ``maker`` of features nothing is split: all rows are training rows, and they are
    the test rows too where there are no others.  A built-in name goes before a file of that name (``./digits`` is the
    file).
    """
    options = table or TableOptions()
    if not 0 < test_fraction < 1:
        raise UsageError(f"the test fraction must lie between 0 and 1, but it is {test_fraction}", "try 0.2")
    if seed < 0:
        raise UsageError(f"the seed must be a whole number from 0, but it is {seed}")
    check_options(options)
    path = None if source in BUILTIN else _existing(source)
    reader = None if path is None else _by_ending(path, TABLES)
    if path is not None and reader is not None:
        test = None if options.test_data is None else _test_path(options.test_data, TABLES, source)
        if maker is not None:
            own, other = _tables_for(maker, path, test, options, source)
        else:
            own = reader(path, source, None)
            other = None if test is None else (_by_ending(test, TABLES) or reader)(test, str(options.test_data), own)
        if maker is not None and other is None:
            other = own
        return prepare_table(
            own,
            other,
            options,
            task=task,
            test_fraction=test_fraction,
            seed=seed,
            name=source,
            test_name=options.test_data or "",
            maker=maker,
        )
    _refuse_table_options(options, source)
    raw = BUILTIN[source](seed) if path is None else _read_arrays(path, source, options.test_data, maker)
    if path is None and options.test_data is not None:
        raise UsageError(f"--test-data goes with a file, and {source} is built in")
    if maker is not None and raw.X_test is None:
        raw = replace(raw, X_test=raw.X_train, y_test=raw.y_train)
    dataset = prepare(raw, task=task, test_fraction=test_fraction, seed=seed)
    if maker is not None:
        made = maker.of_arrays(dataset.X_train, dataset.X_test, dataset.feature_names, source)
        return _remade(dataset, made, {"features": made.state})
    return _scaled(dataset) if options.standardize else dataset


def _tables_for(
    maker: FeatureMaker, path: Path, test: Path | None, options: TableOptions, source: str
) -> tuple[Table, Table | None]:
    """The tables that a model from elsewhere was fitted on, and is tested on, as pandas reads them where it can."""
    texts = maker.texts | ({options.label} if maker.label_is_text and options.label is not None else set())
    as_text = Table({key: Column("text", np.empty(0, dtype=object), "text") for key in texts}, 0)

    def read(one: Path, name: str) -> Table:
        own = TABLES[next(ending for ending in TABLES if one.name.lower().endswith(ending))]
        if own is read_delimited and find_spec("pandas") is not None:
            return read_as_pandas(one, name, frozenset(texts))
        return own(one, name, as_text)

    return read(path, source), None if test is None else read(test, str(options.test_data))


def check_source(source: str) -> None:
    """Raises FileError for what is neither a built-in name nor a path."""
    if source not in BUILTIN:
        _existing(source)


def located(source: str) -> str:
    """A built-in name as it is, a path from the root."""
    return source if source in BUILTIN else str(Path(source).expanduser().absolute())


def _remade(dataset: Dataset, made: Features, state: dict[str, Any]) -> Dataset:
    return replace(
        dataset,
        X_train=made.X_train,
        X_test=made.X_test,
        feature_names=made.names,
        image_shape=dataset.image_shape if made.names == dataset.feature_names else None,
        preparation=state,
        notes=(*dataset.notes, *made.notes),
    )


def _scaled(dataset: Dataset) -> Dataset:
    made = scale_arrays(dataset.X_train, dataset.X_test, dataset.feature_names)
    return _remade(dataset, made, {"standardize": True, "features": made.state})


def _refuse_table_options(options: TableOptions, source: str) -> None:
    given = {
        "--label": options.label,
        "--drop": options.drop,
        "--features": options.features,
        "--impute": options.impute,
        "--id": options.id_column,
    }
    for option, value in given.items():
        if value:
            raise UsageError(
                f"{option} is for tables, and {source} holds arrays without column names",
                f"tables are files of the kind {', '.join(TABLES)}",
            )


def _existing(source: str) -> Path:
    try:
        path = Path(source).expanduser()
        if not source or not path.exists():
            raise _not_found(source)
    except (OSError, RuntimeError, ValueError) as error:  # RuntimeError: ~name of nobody
        raise FileError(f"{source}: the path cannot be read: {getattr(error, 'strerror', None) or error}") from error
    return path


def _test_path(source: str, kinds: Iterable[str], beside: str) -> Path:
    """The file of ``--test-data``, of the same sort as the training data."""
    path = _existing(source)
    if path.is_dir() or not path.name.lower().endswith(tuple(kinds)):
        raise UsageError(
            f"--test-data {source} must be of the kind {', '.join(kinds)}, as {beside} is",
            "write both files in the same way",
        )
    return path


def _read_arrays(path: Path, source: str, test_source: str | None, maker: FeatureMaker | None) -> RawData:
    if path.is_dir():
        if test_source is not None:
            raise UsageError(f"--test-data goes with a file, and {source} is a folder with test images of its own")
        return read_idx_folder(path, source)
    if path.name.lower().endswith(SVMLIGHT):
        test = None if test_source is None else _test_path(test_source, SVMLIGHT, source)
        return read_svmlight(path, source, test, test_source or "", None if maker is None else maker.width)
    reader = _by_ending(path, READERS)
    if reader is None:
        if IDX_NAME.fullmatch(path.name):
            raise FileError(f"{source}: this is one of four IDX files", f"pass the folder: --data {path.parent}")
        raise FileError(f"{source}: expected {KINDS}, but this kind is not supported")
    raw = reader(path, source)
    if test_source is None:
        return raw
    other_path = _test_path(test_source, READERS, source)
    other = (_by_ending(other_path, READERS) or reader)(other_path, test_source)
    for one in (raw, other):
        if one.X_test is not None:
            raise UsageError(f"{one.name} has a split of its own and does not go with --test-data", "leave one out")
    return replace(raw, X_test=other.X_train, y_test=other.y_train)


def _by_ending(path: Path, kinds: Mapping[str, Kind]) -> Kind | None:
    return next((kind for ending, kind in kinds.items() if path.name.lower().endswith(ending)), None)


def _not_found(source: str) -> FileError:
    names = f"the names are {', '.join(BUILTIN)}; a path can be {KINDS}"
    if "/" in source or "\\" in source or Path(source).suffix:
        return FileError(f"{source}: no such file or folder", names)
    close = nearest(source, BUILTIN)
    guess = f"did you mean '{close}'? " if close else ""
    return FileError(f"'{source}' is neither a data set nor a path", guess + names)
