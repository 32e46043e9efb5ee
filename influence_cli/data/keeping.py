"""Tables that are read in pieces: the pieces, the keeper that receives them, and how they are joined to columns."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeAlias

import numpy as np

from influence_cli.data.kept import Kept, Texts
from influence_cli.data.pieces import Pieces
from influence_cli.data.table import Column
from influence_cli.memory import require

TEXT_BYTES, TEXT_TIMES = 400, 4.5
"""Approximate bytes of one text in a vocabulary while the kind of a column is determined, beside this many times its
length (measured)."""
MANY_TEXTS, MANY_BYTES = 2**17, 2**24
"""The number of texts, and their length, up to which vocabularies are joined without checking the memory."""

Values: TypeAlias = "np.ndarray | Pieces | Kept | Texts"


@dataclass(frozen=True)
class Part:
    """The columns of one file or of a piece of it; ``empty`` is the number of empty lines that were skipped."""

    columns: Mapping[str, Values]
    rows: int
    empty: int


class Keeper:
    """Receives the pieces of a table as they are read.  This base class leaves them in memory and resumes nothing."""

    on_disk = False
    """Whether the pieces are stored elsewhere and may be freed at once; if so, every file is read in pieces."""
    learned: frozenset[str] = frozenset()
    """Columns that an earlier, interrupted reading found to be text."""

    def start(self, texts: set[str]) -> None:
        """Announces that the following pieces have these columns as text."""

    def known(self, path: Path) -> tuple[list[Part], int]:
        """The pieces of a file that were already read, and the position at which reading continues."""
        return [], 0

    def part(self, path: Path, part: Part, end: int) -> Part:
        """Receives a piece of a file, which ends at the position ``end``; returns it as it is kept."""
        return part

    def column(self, column: Column) -> Column:
        """A column joined from all pieces, as the table will hold it."""
        return replace(column, stored=np.asarray(column.stored)) if isinstance(column.stored, Texts) else column

    def many_texts(self, parts: Sequence[Values], cleaned: Callable[[Texts], Texts | None]) -> Column | None:
        """A text column that is not joined, because its distinct texts are too many to hold at once, else None.

        ``cleaned`` is applied to each part; None is also returned if it gives None for one of them.
        """
        return None


class KeptTexts(Texts):
    """``Texts`` whose vocabulary and codes are read from a file when they are used."""

    _own: tuple[Callable[[], list[str]], Kept]

    length: int
    """Bytes of the vocabulary in the file."""

    def __init__(self, texts: Callable[[], list[str]], places: Kept, length: int):
        object.__setattr__(self, "_own", (texts, places))
        object.__setattr__(self, "length", length)

    @property
    def vocabulary(self) -> list[str]:
        return self._own[0]()

    @property
    def codes(self) -> np.ndarray:
        return np.asarray(self._own[1], dtype=np.int64)


def joined_texts(parts: Sequence[Texts]) -> Texts:
    """The concatenated texts of several pieces, with one vocabulary.  Raises MemoryLackError."""
    vocabulary: dict[str, int] = {}
    codes: list[np.ndarray] = []
    in_order, length = True, 0
    for part in parts:
        words = part.vocabulary
        in_order = in_order and words == sorted(words)
        if isinstance(part, KeptTexts):
            length += part.length
            if len(vocabulary) + len(words) > MANY_TEXTS or length > MANY_BYTES:
                needed = TEXT_BYTES * len(words) + TEXT_TIMES * part.length
                require("holding the different texts of a column", needed)
        codes_of_words = [vocabulary.setdefault(text, len(vocabulary)) for text in words]
        codes.append(np.array([*codes_of_words, -1], dtype=np.int64)[part.codes])
    texts, places = list(vocabulary), np.arange(len(vocabulary) + 1)
    if in_order:  # a file read as a whole has a sorted vocabulary as well
        order = sorted(range(len(texts)), key=texts.__getitem__)
        texts = [texts[place] for place in order]
        places[order] = np.arange(len(texts))
    places[-1] = -1
    return Texts(texts, places[np.concatenate(codes)])


def joined_numbers(parts: Sequence[Kept]) -> Kept:
    """The concatenated numbers of several pieces, which must lie in one file."""
    return parts[0].of([place for part in parts for place in part.places])
