"""A table on disk beside its files: its columns as they were read, and the features that were made of them.

    data.csv.ginf-rows/KEY/     KEY of the files' names and of how their fields are read
        journal.jsonl           what has been read so far: a killed conversion goes on from there
        columns.bin             the numbers, and the places of texts in their vocabularies
        table.json              when all is read: what the columns are, and checksums of the files and the numbers
        features-KEY.bin        float64 features in row order; KEY of the rows and of what was fitted
        features-KEY.json       their checksum

Files, the store's own too, are what they were while their length and times are; where these changed, their content
decides.  Of what a disk changes by itself nothing is known before: to look for it would take a pass in every command.
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

from influence_cli.data.keeping import MANY_TEXTS, Keeper, KeptTexts, Part, Values
from influence_cli.data.kept import CODES, Kept, KeptByPart, Place, Texts
from influence_cli.data.parts import PlainPart
from influence_cli.data.stamps import is_still, marked, stamps, written
from influence_cli.data.stored import StoredRows, made_of
from influence_cli.data.table import Column, Table
from influence_cli.errors import FileError
from influence_cli.memory import shown

SUFFIX = ".ginf-rows"
"""Behind a table's name, the folder of its stores."""
FORM = 3
"""Of what lies in the folder; a store of another form is made again."""
COLUMN_ROWS = 2**20
"""Rows of one place of a column that is written as a whole."""


class RowStore(Keeper):
    """One table's folder, opened for these ``sources`` and this ``key`` of how they are read."""

    on_disk = True

    def __init__(self, folder: Path, sources: Sequence[Path], announce: Callable[[str], None]):
        self.folder, self.sources, self.announce = folder, list(sources), announce
        self._columns = folder / "columns.bin"
        self._journal: list[dict[str, Any]] = []
        self._end = self._check = 0
        self._file = -1
        self.outdated = ""
        """Why the table is to be read again, where there was one."""

    def stamps(self) -> list[int] | None:
        """Of the files that the table is in."""
        return stamps(map(str, self.sources))

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Nobody else makes the same meanwhile."""
        with self._writing():
            self.folder.mkdir(parents=True, exist_ok=True)
            with (self.folder / "lock").open("w") as file:
                fcntl.flock(file, fcntl.LOCK_EX)
                yield

    @contextmanager
    def _writing(self) -> Iterator[None]:
        """What the system refuses inside is said of the store, also within the reading of the table."""
        try:
            yield
        except OSError as error:
            raise FileError(
                f"{self.folder}: the rows cannot be written beside the data: {error.strerror or error}",
                "make room there, or link the data into a folder that has it (ln -s)",
            ) from error

    # the table, once it is whole

    def table(self) -> Table | None:
        """The table as it was read, of files that are still the same; None where there is none."""
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
        """What ``read`` finds, kept.  Raises FileError where the files change meanwhile."""
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

    # pieces, as they are read

    def _resume(self, before: list[int] | None) -> None:
        """Go on from what a killed run has written of the same files since the machine was started."""
        self._journal, self._end = [{"form": FORM, "stamps": before, "boot": _boot(), "texts": []}], 0
        self._check = 0
        self._open()
        with suppress(OSError, ValueError, KeyError):
            lines = (self.folder / "journal.jsonl").read_text().split("\n")[:-1]  # what follows the last end is cut
            parts = [json.loads(line) for line in lines]
            if before is not None and all(parts[0][key] == self._journal[0][key] for key in ("form", "stamps", "boot")):
                self._journal = parts
                self._end, self._check = (parts[-1]["size"], parts[-1]["check"]) if parts[1:] else (0, 0)
        self.learned = frozenset(self._journal[0]["texts"])

    @property
    def resumed(self) -> int:
        """Bytes that an earlier run has written."""
        return self._end

    def start(self, texts: set[str]) -> None:
        """As ``Keeper.start``: what was read with other columns as text is left."""
        if self._journal[0]["texts"] != sorted(texts):
            self._journal = [self._journal[0] | {"texts": sorted(texts)}]
            self._end = self._check = 0
        os.ftruncate(self._file, self._end)
        with (self.folder / "journal.jsonl").open("w") as file:
            file.writelines(json.dumps(one) + "\n" for one in self._journal)

    def known(self, path: Path) -> tuple[list[Part], int]:
        """As ``Keeper.known``."""
        entries = [one for one in self._journal[1:] if one["path"] == str(path)]
        return [self._part(one) for one in entries], entries[-1]["end"] if entries else 0

    def part(self, path: Path, part: Part, end: int) -> Part:
        """As ``Keeper.part``: written to the file, and then into the journal."""
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
            columns[key] = KeptTexts(partial(self._texts, *texts), kept_place) if texts else kept_place
        return Part(columns, done["rows"], done["empty"])

    def column(self, column: Column) -> Column:
        """As ``Keeper.column``: values that are not yet in the file are written."""
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
        """As ``Keeper.many_texts``: every part keeps a vocabulary of its own."""
        texts = [part for part in parts if isinstance(part, KeptTexts)]
        if len(texts) < len(parts) or sum(len(part.vocabulary) for part in texts) <= MANY_TEXTS:
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
        """Where the content begins in the file, at whose end it is written."""
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
        """The features (r, count) that ``state`` makes of the rows with these numbers: as they were written before,
        else as the ``blocks`` give them."""
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
        return made_of([PlainPart(path, 0, rows)], count, np.dtype(np.float64), (rows, count))


def _packed(texts: Sequence[str]) -> bytes:
    return json.dumps(texts).encode()


def _are_features(path: Path) -> bool:
    """Whether the features in this file are those that were written."""
    with suppress(OSError, ValueError, KeyError, TypeError):
        known = json.loads(path.with_suffix(".json").read_text())
        return is_still([path], known, path.with_suffix(".json"), known)
    return False


def _boot() -> str:
    """Since when the machine runs: what was written before may not have reached the disk."""
    with suppress(OSError):
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    return ""
