"""The only output of every command: where results may go, and how they are written, saved and drawn."""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any, TextIO

import numpy as np

from influence_cli.artifacts.atomic import check_target, replacing
from influence_cli.artifacts.entries import Kind
from influence_cli.commands.options import Common, Written
from influence_cli.data.dataset import Dataset
from influence_cli.data.readers.idx import IDX_NAME
from influence_cli.errors import FileError, GinfError, UsageError, unknown_word
from influence_cli.present.changes import SORTS, View
from influence_cli.present.records import FORMATS, largest, resolve_format, write_records
from influence_cli.present.tables import Page, write_page
from influence_cli.specs.groups import STDIN

ARTIFACT = ".h5"
RECORDS = {".csv": "csv", ".json": "json", ".ndjson": "ndjson", ".md": "md", ".html": "html"}
"""Endings of files with the same records as standard output, and their formats."""
ANY_FILE = Kind("ginf", "any file of ginf", "ginf train, ginf influence, ginf groundtruth or ginf select with -o", ())
"""The expected kind of a file whose kind is not yet known."""
PAGES = ("table", "md", "html")
"""Formats for people to read."""


@dataclass(frozen=True)
class Answer:
    """The result of a command: its records, how a person reads them, and the column that ``--top`` uses.

    ``page`` may show more than the records contain; ``save`` writes the artifact; ``dataset`` has the rows'
    identifiers.  ``closing`` is a sentence about all records together, which is a note where no page is written.
    """

    columns: Mapping[str, Any]
    page: Callable[[], Page]
    dataset: Dataset | None = None
    save: Callable[[str], None] | None = None
    headline: str | None = None
    closing: str = ""


def check_choice(option: str, value: str, choices: tuple[str, ...]) -> None:
    """Raises UsageError if an option's word is not one of its choices."""
    if value not in choices:
        raise unknown_word(option, value, choices)


def check_written(written: Written, *, artifact: bool = True) -> None:
    """Refuse an unknown ``--format``, ``--sort`` or ending of ``-o``; without ``artifact`` there is no .h5 file."""
    check_choice("--format", written.format, FORMATS)
    check_choice("--sort", written.sort, SORTS)
    check_ending(written.output, artifact=artifact)


def check_ending(path: str | None, *, artifact: bool = True, records: bool = True) -> None:
    """Raises UsageError for a file whose ending names no format that can be written."""
    endings = ((ARTIFACT,) if artifact else ()) + (tuple(RECORDS) if records else ())
    if path is None or Path(path).suffix.lower() in endings:
        return
    ending = Path(path).suffix or "none"
    what = f"one of {', '.join(endings)}" if len(endings) > 1 else endings[0]
    raise UsageError(
        f"-o {path}: expected the ending {what}, found {ending}", hint=f"for example -o results{endings[0]}"
    )


def is_artifact(path: str | None) -> bool:
    """Whether a file is one that other commands read."""
    return path is not None and Path(path).suffix.lower() == ARTIFACT


def view_of(written: Written, common: Common, data: Dataset | None = None) -> View:
    """How a page is to look; ``data`` has the names of the training rows."""
    return View(written.sort, written.top, common.verbose, data)


def on_terminal(written: Written) -> bool:
    """Whether a table is written to a terminal, where somebody reads it as it appears."""
    return sys.stdout.isatty() and resolve_format(written.format, sys.stdout) == "table"


def is_page(written: Written) -> bool:
    """Whether the output is for people to read."""
    return resolve_format(written.format, sys.stdout) in PAGES


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
    """Raises UsageError if an output would replace a file that the command reads, under any name and even with
    ``--force``."""
    read = [file for source in inputs if source is not None and source != STDIN for file in _files(source)]
    for option, path in outputs.items():
        if path is not None and any(_same(path, file) for file in read):
            raise UsageError(f"{option} {path} would replace a file that this command reads", hint="name another file")


def _files(source: str) -> list[str]:
    """The files of a source: for a folder those that are read as data."""
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


def emit(answer: Answer, written: Written, common: Common) -> None:
    """Save the results in the file of ``-o``, and write them to standard output.

    Results are written to standard output even if they could not be saved; the error is raised afterwards.  A reader
    that has seen enough (``| head``) changes nothing: the command continues to its exit code.
    """
    columns = answer.columns if answer.dataset is None else identified(answer.columns, answer.dataset)
    if written.top is not None and answer.headline is not None:
        columns = largest(columns, answer.headline, written.top)
    unsaved = None
    if written.output is not None:
        try:
            _save(answer, columns, written.output, common)
        except GinfError as error:
            unsaved = error
    try:
        _write(answer, columns, resolve_format(written.format, sys.stdout), sys.stdout, color=not common.no_color)
        sys.stdout.flush()
    except BrokenPipeError:
        pass  # nobody reads any more, which changes nothing
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise FileError(f"cannot write the results to standard output: {reason}") from error
    for sentence in answer.closing.splitlines() if not is_page(written) else ():
        common.note(sentence)
    if unsaved is not None:
        raise unsaved


def _save(answer: Answer, columns: Mapping[str, Any], path: str, common: Common) -> None:
    if is_artifact(path):
        if answer.save is not None:
            answer.save(path)
        return
    text = io.StringIO(newline="")
    _write(answer, columns, RECORDS[Path(path).suffix.lower()], text, color=False)
    with replacing(path, force=common.replaces) as sink:
        sink.write(text.getvalue().encode("utf-8", "backslashreplace"))


def _write(answer: Answer, columns: Mapping[str, Any], form: str, stream: TextIO, *, color: bool) -> None:
    if form in PAGES:
        write_page(answer.page(), form, stream, color=color)
    else:
        write_records(columns, form, stream)


def save_picture(path: str, picture: bytes, common: Common) -> None:
    """Write the file of ``--plot`` as a whole or not at all."""
    with replacing(path, force=common.replaces) as sink:
        sink.write(picture)
    common.note(f"wrote {path}")


def identified(columns: Mapping[str, Any], dataset: Dataset) -> dict[str, Any]:
    """The records with the identifiers of ``--id``: of test rows after ``status``, of listed training rows last."""
    if dataset.ids_train is None or dataset.ids_test is None:
        return dict(columns)
    train, test = (
        [None if isinstance(one, float) and np.isnan(one) else one for one in ids.tolist()]
        for ids in (dataset.ids_train, dataset.ids_test)
    )
    of_tests = [test[row] if isinstance(row, int | np.integer) else None for row in columns["test"]]
    columns_added: dict[str, Any] = {}
    for key, values in columns.items():
        columns_added[key] = values
        if key == "status":
            columns_added["test_id"] = of_tests
    columns_added.setdefault("test_id", of_tests)
    if "rows" in columns:
        columns_added["ids"] = [None if rows is None else [train[row] for row in rows] for rows in columns["rows"]]
    return columns_added
