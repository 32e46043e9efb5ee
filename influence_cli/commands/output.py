"""The one way out of every command: where results may go, and how they are written, saved and drawn."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterable, Mapping
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np

from influence_cli.artifacts.atomic import check_target, replacing
from influence_cli.commands.options import Common, Written
from influence_cli.data.dataset import Dataset
from influence_cli.data.readers.idx import IDX_NAME
from influence_cli.errors import GinfError, UsageError, unknown_word
from influence_cli.present.tables import FORMATS, Layout, resolve_format, write_records
from influence_cli.specs.groups import STDIN


def check_choice(option: str, value: str, choices: tuple[str, ...]) -> None:
    """Raises UsageError where an option's word is not one of its choices."""
    if value not in choices:
        raise unknown_word(option, value, choices)


def check_format(name: str) -> None:
    """Raises UsageError for an unknown ``--format``."""
    check_choice("--format", name, FORMATS)


def on_terminal(written: Written) -> bool:
    """Whether a table is written that somebody reads as it appears."""
    return sys.stdout.isatty() and resolve_format(written.format, sys.stdout) == "table"


def check_outputs(outputs: Mapping[str, str | None], inputs: Iterable[str | None], *, force: bool) -> None:
    """Refuse, before anything is computed, files that cannot be written, that the command reads, or that are the same.

    ``outputs`` are paths by the option that names them.
    """
    named = {option: path for option, path in outputs.items() if path is not None}
    refuse_inputs(named, inputs)
    for (one, path), (other, second) in combinations(named.items(), 2):
        if _same(path, second):
            raise UsageError(f"{one} {path} and {other} {second} are one file", hint="name two files")
    for path in named.values():
        check_target(path, force)


def refuse_inputs(outputs: Mapping[str, str | None], inputs: Iterable[str | None]) -> None:
    """Raises UsageError where an output would replace a file that the command reads, by whatever name, ``--force`` or
    not."""
    read = [file for source in inputs if source is not None and source != STDIN for file in _files(source)]
    for option, path in outputs.items():
        if path is not None and any(_same(path, file) for file in read):
            raise UsageError(f"{option} {path} would replace a file that this command reads", hint="name another file")


def _files(source: str) -> list[str]:
    """The files that a source is made of: of a folder those that are read as data."""
    folder = Path(source).expanduser()
    if not folder.is_dir():
        return [str(folder)]
    return [str(entry) for entry in folder.iterdir() if IDX_NAME.fullmatch(entry.name)]


def _same(one: str, other: str) -> bool:
    """Whether two names lead to one file, through links, whether it exists or not."""
    try:
        return Path(one).samefile(other)
    except (OSError, ValueError):
        return os.path.realpath(one) == os.path.realpath(other)


def emit(
    columns: Mapping[str, Any],
    table: Callable[[], tuple[Mapping[str, Any], Layout]],
    written: Written,
    common: Common,
    *,
    dataset: Dataset | None = None,
    save: Callable[[str], None] | None = None,
) -> None:
    """Save the results where ``-o`` says, and write them to standard output, with the identifiers of the rows.

    ``table`` gives the columns of a table and its layout.
    What was computed is written even where it could not be saved; the error is raised afterwards.
    """
    unsaved = None
    if written.output is not None and save is not None:
        try:
            save(written.output)
        except GinfError as error:
            unsaved = error
    shape = resolve_format(written.format, sys.stdout)
    if shape == "table":
        columns, layout = table()
    else:
        columns, layout = columns if dataset is None else identified(columns, dataset), Layout("", "", {})
    write_records(columns, layout, shape, sys.stdout, color=not common.no_color)
    if unsaved is not None:
        raise unsaved


def save_picture(path: str, picture: bytes, common: Common) -> None:
    """Write the file of ``--plot`` as a whole or not at all."""
    with replacing(path, force=common.force) as sink:
        sink.write(picture)
    common.note(f"wrote {path}")


def identified(columns: Mapping[str, Any], dataset: Dataset) -> dict[str, Any]:
    """Records with the identifiers of ``--id`` behind the numbers of test rows, and of training rows where listed."""
    if dataset.ids_train is None or dataset.ids_test is None:
        return dict(columns)
    train, test = (
        [None if isinstance(one, float) and np.isnan(one) else one for one in ids.tolist()]
        for ids in (dataset.ids_train, dataset.ids_test)
    )
    of_tests = [test[row] if isinstance(row, int | np.integer) else None for row in columns["test"]]
    found = {**columns, "test_id": of_tests}
    if "rows" in columns:
        found["ids"] = [None if rows is None else [train[row] for row in rows] for rows in columns["rows"]]
    return found
