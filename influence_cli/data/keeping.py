"""Tables piece by piece: what a piece is, where pieces go as they are read, and how they become one column again."""

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

TEXT_BYTES, MANY_TEXTS = 400, 2**17
"""Of one text in a vocabulary, about, while it is told what a column is; how many are joined without a look at the
memory."""

Values: TypeAlias = "np.ndarray | Pieces | Kept | Texts"


@dataclass(frozen=True)
class Part:
    """The columns of one file, or of a piece of it; ``empty`` lines were left out."""

    columns: Mapping[str, Values]
    rows: int
    empty: int


class Keeper:
    """Where the pieces of a table go as they are read; this one leaves them in memory, and begins at the beginning."""

    on_disk = False
    """Whether a piece may be let go as soon as it was given: then every file is read in pieces."""
    learned: frozenset[str] = frozenset()
    """Columns that turned out to be text."""

    def start(self, texts: set[str]) -> None:
        """Pieces follow, with these columns as text."""

    def known(self, path: Path) -> tuple[list[Part], int]:
        """The pieces of a file that were read before, and where it goes on."""
        return [], 0

    def part(self, path: Path, part: Part, end: int) -> Part:
        """A piece, which ends there."""
        return part

    def column(self, column: Column) -> Column:
        """A column of all pieces, as it shall be used."""
        return replace(column, stored=np.asarray(column.stored)) if isinstance(column.stored, Texts) else column

    def many_texts(self, parts: Sequence[Values], cleaned: Callable[[Texts], Texts | None]) -> Column | None:
        """The column of text that the parts are, as they are ``cleaned`` one by one; None where they are not so many
        different texts that these are better not held at once, and where one of them is not cleaned so."""
        return None


class KeptTexts(Texts):
    """Texts of which vocabulary and codes are in the file."""

    _own: tuple[Callable[[], list[str]], Kept]

    def __init__(self, texts: Callable[[], list[str]], places: Kept):
        object.__setattr__(self, "_own", (texts, places))

    @property
    def vocabulary(self) -> list[str]:
        return self._own[0]()

    @property
    def codes(self) -> np.ndarray:
        return np.asarray(self._own[1], dtype=np.int64)


def joined_texts(parts: Sequence[Texts]) -> Texts:
    """Texts of several pieces, one behind the other.  Raises MemoryLackError."""
    vocabulary: dict[str, int] = {}
    codes: list[np.ndarray] = []
    in_order = True
    for part in parts:
        words = part.vocabulary
        in_order = in_order and words == sorted(words)
        if isinstance(part, KeptTexts) and len(vocabulary) + len(words) > MANY_TEXTS:
            require("holding the different texts of a column", TEXT_BYTES * len(words))
        codes_of_words = [vocabulary.setdefault(text, len(vocabulary)) for text in words]
        codes.append(np.array([*codes_of_words, -1], dtype=np.int64)[part.codes])
    texts, places = list(vocabulary), np.arange(len(vocabulary) + 1)
    if in_order:  # then they are so of the file as a whole
        order = sorted(range(len(texts)), key=texts.__getitem__)
        texts = [texts[place] for place in order]
        places[order] = np.arange(len(texts))
    places[-1] = -1
    return Texts(texts, places[np.concatenate(codes)])


def joined_numbers(parts: Sequence[Kept]) -> Kept:
    """Numbers of several pieces of one file, one behind the other."""
    return parts[0].of([place for part in parts for place in part.places])
