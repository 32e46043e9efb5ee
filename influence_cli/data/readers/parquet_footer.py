"""How large the columns of a ``.parquet`` file are, as its footer says (Thrift's compact protocol).

polars reads the columns that are asked for of a row group as a whole, and does not say how long they are.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from influence_cli.errors import composed

MAGIC, TAIL_BYTES = b"PAR1", 8
DAMAGE = (AttributeError, IndexError, KeyError, TypeError, ValueError, RecursionError, OverflowError, OSError)
"""Errors of a footer that is damaged."""
LARGEST_SHIFT = 63
BYTE_ARRAY = 6
"""The number of the type of texts."""
PLAIN_TEXT_BYTES = 4
"""Bytes of the length of a text: a column with fewer bytes a value keeps a dictionary of texts that repeat."""


@dataclass
class Sizes:
    """Bytes of a column: ``packed``, the most in a row group, ``row_bytes``, the most for a row, unpacked; of text,
    ``text_bytes`` of all rows, unpacked, and in how many rows it may differ (``texts``)."""

    packed: float = 0.0
    row_bytes: float = 0.0
    text_bytes: float = 0.0
    texts: float = 0.0

    def add(self, chunk: dict[int, Any], rows: int) -> None:
        """A column's part of a row group, by the numbers of its fields in the format's specification."""
        self.packed = max(self.packed, chunk[7])
        self.row_bytes = max(self.row_bytes, chunk[6] / max(rows, 1))
        if chunk[1] == BYTE_ARRAY:
            self.text_bytes += chunk[6]
            self.texts += chunk[5] if chunk[6] >= PLAIN_TEXT_BYTES * chunk[5] else 0


@dataclass
class Footer:
    """The sizes of the columns by their names, and the number of rows of each row group."""

    sizes: dict[str, Sizes] = field(default_factory=dict)
    groups: list[int] = field(default_factory=list)


def footer_of(paths: Sequence[Path]) -> Footer:
    """What is known of the files together; nothing of one whose footer is damaged, which its reader will report."""
    found = Footer()
    for path in paths:
        with suppress(*DAMAGE), path.open("rb") as file:
            length = file.seek(0, 2)
            file.seek(length - TAIL_BYTES)
            tail = file.read(TAIL_BYTES)
            size = int.from_bytes(tail[:4], "little")
            if tail[4:] != MAGIC or size > length - TAIL_BYTES:
                continue
            file.seek(length - TAIL_BYTES - size)
            for group in _Compact(file.read(size)).structure()[4]:
                found.groups.append(group[3])
                for chunk in group[1]:
                    name = composed(chunk[3][3][0].decode())
                    found.sizes.setdefault(name, Sizes()).add(chunk[3], group[3])
    return found


class _Compact:
    """Bytes in Thrift's compact protocol, read one value behind the other."""

    def __init__(self, content: bytes):
        self._content, self._at = content, 0

    def structure(self) -> dict[int, Any]:
        """The fields of a structure by their numbers."""
        return dict(self._fields())

    def _fields(self) -> Iterator[tuple[int, Any]]:
        number = 0
        while head := self._byte():
            number = number + (head >> 4) if head >> 4 else self._signed()
            kind = head & 15
            yield number, kind == 1 if kind in (1, 2) else self._value(kind)

    def _byte(self) -> int:
        self._at += 1
        return self._content[self._at - 1]

    def _unsigned(self) -> int:
        value = shift = 0
        while (byte := self._byte()) > 127:
            value, shift = value | (byte & 127) << shift, shift + 7
            if shift > LARGEST_SHIFT:
                raise ValueError("a number has more than 64 bits")
        return value | byte << shift

    def _signed(self) -> int:
        value = self._unsigned()
        return value >> 1 ^ -(value & 1)

    def _value(self, kind: int) -> Any:
        """A value of that kind; truth values of lists and bytes take one byte.  Raises ValueError."""
        if kind in (1, 2, 3):
            return self._byte()
        if kind in (4, 5, 6):
            return self._signed()
        if kind in (7, 8):
            count = 8 if kind == 7 else self._unsigned()
            self._at += count
            return self._content[self._at - count : self._at]
        if kind in (9, 10):
            head = self._byte()
            count = head >> 4 if head >> 4 < 15 else self._unsigned()
            return [self._value(head & 15) for _ in range(count)]
        if kind == 12:
            return self.structure()
        raise ValueError(f"the kind {kind} is not used in footers")
