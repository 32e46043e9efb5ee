"""Lists of groups and rows as text: from a regular file of bounded length, or from standard input."""

from __future__ import annotations

import re
import sys
from typing import TextIO

from influence_cli.errors import FileError, check_regular

STDIN = "-"
LINE_END = re.compile(r"\r\n|\n|\r")
"""Where a line ends: not at separators of records or paragraphs, because a label may contain these."""
LONGEST_TEXT = 1_000_000_000
"""Characters of a list: ten for each of a hundred million rows, and a bound for endless input."""
PIECE = 1 << 20  # characters read at a time, so that binary data are refused at their first zero


def read_text(path: str, stdin: TextIO | None = None) -> tuple[str, str]:
    """Name (for messages) and content of a regular text file, or of standard input for ``-``.  Raises FileError."""
    name = "standard input" if path == STDIN else path
    try:
        if path == STDIN:
            text = _whole(stdin or sys.stdin, name)
        else:
            check_regular(path, "a text file")
            with open(path, encoding="utf-8-sig") as file:  # noqa: PTH123
                text = _whole(file, name)
    except FileNotFoundError:
        hint = f"did you mean --group '{path}'? --groups takes a file with such lines" if ":" in path else None
        raise FileError(f"expected a text file, but '{path}' does not exist", hint) from None
    except UnicodeDecodeError:
        raise FileError(f"expected a text file, but {name} holds binary data") from None
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise FileError(f"cannot read '{name}': {reason}") from None
    return name, text.removeprefix("\ufeff")


def _whole(file: TextIO, name: str) -> str:
    pieces, length = [], 0
    while piece := file.read(PIECE):
        length += len(piece)
        if "\0" in piece:
            raise FileError(f"expected a text file, but {name} holds binary data")
        if length > LONGEST_TEXT:
            raise FileError(f"expected a list of groups or rows, but {name} has more than {LONGEST_TEXT:,} characters")
        pieces.append(piece)
    return "".join(pieces)
