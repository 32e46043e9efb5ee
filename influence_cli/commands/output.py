"""The one way out of every command: where results may go, and how they are written, saved and drawn."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np

from influence_cli.artifacts.atomic import check_target, replacing
from influence_cli.commands.options import Common, Written
from influence_cli.data.dataset import Dataset
from influence_cli.errors import GinfError, UsageError, unknown_word
from influence_cli.present.tables import FORMATS, Layout, resolve_format, write_records


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


def check_output(path: str | None, inputs: Iterable[str | None], *, force: bool) -> None:
    """Refuse, before anything is computed, a result file that cannot be written or that is one of the ``inputs``."""
    if path is None:
        return
    refuse_input(path, inputs)
    check_target(path, force)


def refuse_input(output: str, inputs: Iterable[str | None]) -> None:
    """Raises UsageError where the result would replace one of the ``inputs``."""
    if os.path.realpath(output) in (os.path.realpath(other) for other in inputs if other is not None):
        raise UsageError(f"-o {output} would replace a file that this command reads", hint="name another file")


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
