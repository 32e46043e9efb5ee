"""A table on disk beside its files: its columns as they were read, and the features made of them.

    data.csv.ginf-rows/KEY/     KEY is a digest of the files' names and of the options for reading them
        journal.jsonl           the pieces read so far, from which an interrupted conversion continues
        columns.bin             numbers, codes of texts, and vocabularies
        table.json              written at the end: the columns, and checksums of the files and of columns.bin
        features-KEY.bin        float64 features in row order; KEY is a digest of the rows and the fitted state
        features-KEY.json       their checksum

A file, also of the store, counts as unchanged while its length and times are unchanged; if they differ, the checksum
decides.  Corruption by the disk is not detected, because that would take a pass over the file in every command.
"""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import replace
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import Any
from zlib import crc32

import numpy as np

from influence_cli.data.keeping import MANY_BYTES, MANY_TEXTS, Keeper, KeptTexts, Part, Values
from influence_cli.data.kept import CODES, Kept, KeptByPart, Place, Texts
from influence_cli.data.parts import PlainPart
from influence_cli.data.stamps import is_still, marked, stamps, written
from influence_cli.data.stored import StoredRows, made_of
from influence_cli.data.table import Column, Table
from influence_cli.errors import FileError
from influence_cli.memory import shown

SUFFIX = ".ginf-rows"
"""Suffix to a table's name that gives the folder of its stores."""
FORM = 3
"""Version of the store's format; a store of another version is written again."""
COLUMN_ROWS = 2**20
"""Rows in each place of a column that is written as a whole."""


class RowStore(Keeper):
    """The ``folder`` of one table, which is read from the files ``sources``."""

    on_disk = True

    def __init__(self, folder: Path, sources: Sequence[Path], announce: Callable[[str], None]):
        self.folder, self.sources, self.announce = folder, list(sources), announce
        self._columns = folder / "columns.bin"
        self._journal: list[dict[str, Any]] = []
        self._end = self._check = 0
        self._file = -1
        self.outdated = ""
        """Why an existing table must be read again; empty if there is none."""

    def stamps(self) -> list[int] | None:
        """The stamps of the source files (see ``stamps.stamps``)."""
        return stamps(map(str, self.sources))

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the folder's lock, so that no other process writes the same store meanwhile.  Raises FileError."""
        with self._writing():
            self.folder.mkdir(parents=True, exist_ok=True)
            with (self.folder / "lock").open("w") as file:
                fcntl.flock(file, fcntl.LOCK_EX)
                yield

    @contextmanager
    def _writing(self) -> Iterator[None]:
        """Raise an OSError within the context as a FileError about the store."""
        try:
            yield
        except OSError as error:
            raise FileError(
                f"{self.folder}: the rows cannot be written beside the data: {error.strerror or error}",
                "make room there, or link the data into a folder that has it (ln -s)",
            ) from error

    # the complete table

    def table(self) -> Table | None:
        """The stored table if the files have not changed since it was read, else None."""
        with suppress(OSError, ValueError, KeyError, TypeError):
            path = self.folder / "table.json"
            kept = json.loads(path.read_text())
            self.outdated = "it was changed"
            if kept["form"] != FORM or not is_still(self.sources, kept["sources"], path, kept):
                return None
            self.outdated = "what was made of it was changed"
            if not is_still([self._columns], kept["own"], path, kept):
                return None
            self._open()
            columns = {key: self._column(one) for key, one in kept["columns"]}
            return Table(columns, kept["rows"], tuple(kept["notes"]), frozenset(kept["index"]), store=self)
        return None

    def made(self, read: Callable[[Keeper], Table]) -> Table:
        """The table that ``read`` returns, stored.  Raises FileError if the files change meanwhile."""
        before = self.stamps()
        with suppress(OSError):
            (self.folder / "table.json").unlink()
        for old in self.folder.glob("features-*"):
            old.unlink()
        self._resume(before)
        with ThreadPoolExecutor(1) as aside:
            checksums = aside.submit(marked, self.sources)
            table = read(self)
            known = checksums.result()
        if self.stamps() != before:
            raise FileError("the file was changed while it was read", "leave it as it is until the end")
        columns = [(key, self._described(one)) for key, one in table.columns.items()]
        os.fsync(self._file)
        kept = {
            "form": FORM,
            "sources": known,
            "own": {"stamps": stamps([str(self._columns)]), "checksums": [self._check]},
            "rows": table.rows,
            "notes": table.notes,
            "index": sorted(table.index),
            "columns": columns,
        }
        written(self.folder / "table.json", kept)
        (self.folder / "journal.jsonl").unlink()
        return replace(table, store=self)

    def _open(self) -> None:
        if self._file < 0:
            self._file = os.open(self._columns, os.O_RDWR | os.O_CREAT, 0o644)

    def _described(self, column: Column) -> dict[str, Any]:
        said: dict[str, Any] = {
            "kind": column.kind,
            "described": column.described,
            "refusal": column.refusal,
            "words": column.words,
        }
        if isinstance(column.stored, Kept):
            said["places"] = [[one.offset, one.rows, one.dtype, one.is_finite] for one in column.stored.places]
            if isinstance(column.stored, KeptByPart):
                said["vocabularies"] = column.stored.at
            elif column.stored.dtype.kind == "O":
                said["texts"] = self._append(_packed(column.stored.vocabulary))
                said["size"] = self._end - said["texts"]
        return said

    def _column(self, said: Mapping[str, Any]) -> Column:
        stored: Any = np.empty(0, dtype=object)
        if "places" in said:
            places = [Place(*place) for place in said["places"]]
            texts = partial(self._texts, said["texts"], said["size"]) if "texts" in said else None
            by_part = "vocabularies" in said
            stored = self._by_part(places, said["vocabularies"]) if by_part else self._kept(places, texts)
        refusal = None if said["refusal"] is None else tuple(said["refusal"])
        return Column(said["kind"], stored, said["described"], refusal, tuple(said["words"]))

    # pieces while the table is read

    def _resume(self, before: list[int] | None) -> None:
        """Continue from what an interrupted run wrote of the same files since the machine was booted."""
        self._journal, self._end = [{"form": FORM, "stamps": before, "boot": _boot(), "texts": []}], 0
        self._check = 0
        self._open()
        with suppress(OSError, ValueError, KeyError):
            lines = (self.folder / "journal.jsonl").read_text().split("\n")[:-1]  # without the partial last line
            parts = [json.loads(line) for line in lines]
            if before is not None and all(parts[0][key] == self._journal[0][key] for key in ("form", "stamps", "boot")):
                self._journal = parts
                self._end, self._check = (parts[-1]["size"], parts[-1]["check"]) if parts[1:] else (0, 0)
        self.learned = frozenset(self._journal[0]["texts"])

    @property
    def resumed(self) -> int:
        """Bytes that an earlier run wrote."""
        return self._end

    def start(self, texts: set[str]) -> None:
        """See ``Keeper.start``; pieces that were read with other columns as text are discarded."""
        if self._journal[0]["texts"] != sorted(texts):
            self._journal = [self._journal[0] | {"texts": sorted(texts)}]
            self._end = self._check = 0
        os.ftruncate(self._file, self._end)
        with (self.folder / "journal.jsonl").open("w") as file:
            file.writelines(json.dumps(one) + "\n" for one in self._journal)

    def known(self, path: Path) -> tuple[list[Part], int]:
        """See ``Keeper.known``."""
        entries = [one for one in self._journal[1:] if one["path"] == str(path)]
        return [self._part(one) for one in entries], entries[-1]["end"] if entries else 0

    def part(self, path: Path, part: Part, end: int) -> Part:
        """See ``Keeper.part``; the piece is written to the file and then entered in the journal."""
        columns: list[list[Any]] = []
        for key, values in part.columns.items():
            if isinstance(values, Texts):
                texts = _packed(values.vocabulary)
                codes = self._append(values.codes.astype(CODES))
                columns.append([key, codes, part.rows, CODES.str, False, self._append(texts), len(texts)])
                continue
            array = np.ascontiguousarray(values)
            with np.errstate(over="ignore", invalid="ignore"):
                finite = array.dtype.kind == "f" and bool(np.isfinite(array.sum()))
            columns.append([key, self._append(array), len(array), array.dtype.str, finite])
        done = {"path": str(path), "end": end, "rows": part.rows, "empty": part.empty, "columns": columns}
        with self._writing(), (self.folder / "journal.jsonl").open("a") as file:
            file.write(json.dumps(done | {"size": self._end, "check": self._check}) + "\n")
        return self._part(done)

    def _part(self, done: Mapping[str, Any]) -> Part:
        columns: dict[str, Values] = {}
        for key, offset, count, kind, is_finite, *texts in done["columns"]:
            kept_place = self._kept([Place(offset, count, kind, is_finite)], None)
            columns[key] = KeptTexts(partial(self._texts, *texts), kept_place, texts[1]) if texts else kept_place
        return Part(columns, done["rows"], done["empty"])

    def column(self, column: Column) -> Column:
        """See ``Keeper.column``; values that are not yet in the file are written."""
        stored = column.stored
        texts: Callable[[], list[str]] | None = None
        if isinstance(stored, Kept) or column.kind == "other":
            return column
        if isinstance(stored, Texts):
            values, texts = stored.codes.astype(CODES), partial(list, stored.vocabulary)
        else:
            values = np.asarray(stored)
        written = []
        for start in range(0, max(len(values), 1), COLUMN_ROWS):
            part = values[start : start + COLUMN_ROWS]
            is_finite = part.dtype.kind == "f" and bool(np.isfinite(part).all())
            written.append(Place(self._append(np.ascontiguousarray(part).data), len(part), part.dtype.str, is_finite))
        kept = self._kept(written, texts)
        return Column(column.kind, kept, column.described, column.refusal, column.words)

    def many_texts(self, parts: Sequence[Values], cleaned: Callable[[Texts], Texts | None]) -> Column | None:
        """See ``Keeper.many_texts``; every part keeps its own vocabulary."""
        texts = [part for part in parts if isinstance(part, KeptTexts)]
        if len(texts) < len(parts):
            return None
        is_short = sum(part.length for part in texts) <= MANY_BYTES
        if is_short and sum(len(part.vocabulary) for part in texts) <= MANY_TEXTS:
            return None
        places, vocabularies = [], []
        for part in texts:
            cleaned_texts = cleaned(Texts(part.vocabulary, part.codes))
            if cleaned_texts is None:
                return None
            packed = _packed(cleaned_texts.vocabulary)
            vocabularies.append((self._append(packed), len(packed)))
            places.append(
                Place(self._append(cleaned_texts.codes.astype(CODES).data), len(cleaned_texts.codes), CODES.str)
            )
        return Column("text", self._by_part(places, vocabularies), "text")

    def _by_part(self, places: Sequence[Place], vocabularies: Sequence[Sequence[int]]) -> KeptByPart:
        made = KeptByPart(self._columns, self._file, places, [partial(self._texts, *one) for one in vocabularies])
        made.at = [list(one) for one in vocabularies]
        return made

    def _kept(self, places: Sequence[Place], texts: Callable[[], list[str]] | None) -> Kept:
        return Kept(self._columns, self._file, places, texts)

    def _append(self, content: Any) -> int:
        """Append the content to the file and return its offset."""
        view, begin = memoryview(content).cast("B"), self._end
        self._check = crc32(view, self._check)
        with self._writing():
            while len(view):
                written = os.pwrite(self._file, view, self._end)
                view, self._end = view[written:], self._end + written
        return begin

    def _texts(self, offset: int, size: int) -> list[str]:
        content = os.pread(self._file, size, offset)
        return [str(text) for text in json.loads(content)]

    # features

    def features(self, state: str, records: np.ndarray, blocks: Iterator[np.ndarray], count: int) -> StoredRows:
        """The features (r, count) of the rows with these record numbers, for the fitted ``state``.

        They are written from the ``blocks`` unless an earlier run has written them.  Raises FileError.
        """
        rows = len(records)
        key = sha256(state.encode())
        key.update(np.ascontiguousarray(records).data)
        path = self.folder / f"features-{key.hexdigest()[:16]}.bin"
        with self.locked():
            if not _are_features(path):
                again = " again, because they were changed" if path.exists() else ""
                self.announce(f"features of {rows:,} rows are written to {path}{again}, {shown(8.0 * rows * count)}")
                check = 0
                with path.with_suffix(".part").open("wb", buffering=0) as file:
                    for block in blocks:
                        view = memoryview(block.data).cast("B")
                        check = crc32(view, check)
                        while len(view):
                            view = view[file.write(view) :]
                    os.fsync(file.fileno())
                path.with_suffix(".part").replace(path)
                known = {"stamps": stamps([str(path)]), "checksums": [check]}
                written(path.with_suffix(".json"), known)
        made = made_of([PlainPart(path, 0, rows)], count, np.dtype(np.float64), (rows, count))
        made.check_reachable()
        return made


def _packed(texts: Sequence[str]) -> bytes:
    return json.dumps(texts).encode()


def _are_features(path: Path) -> bool:
    """Whether the file holds complete features that have not changed since they were written."""
    with suppress(OSError, ValueError, KeyError, TypeError):
        known = json.loads(path.with_suffix(".json").read_text())
        return is_still([path], known, path.with_suffix(".json"), known)
    return False


def _boot() -> str:
    """An identifier of the machine's last boot: what was written before it may not have reached the disk."""
    with suppress(OSError):
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    return ""
