"""The errors that a user can cause, each with its exit code.

Every layer raises these; only the boundary in ``cli.py`` turns them into text and an exit code.
"""

from __future__ import annotations

import os
import stat
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from enum import IntEnum

UNDEFINED = "undefined: the rows of the group have no such figure"
"""Status of a score that needs, for example, rows of two classes."""
UNBOUNDED = "unbounded: "
"""Prefix of every status about a figure taken along a direction without a minimum."""


class ExitCode(IntEnum):
    """Exit codes of every ``ginf`` command."""

    OK = 0
    DEFECT = 1
    USAGE = 2
    FILE = 3
    NOT_CONVERGED = 4
    CHECK_FAILED = 5
    HUNG_UP = 129
    INTERRUPTED = 130
    TERMINATED = 143


class GinfError(Exception):
    """An error that a user can correct: what was expected and found, and (``hint``) what to do."""

    code = ExitCode.DEFECT

    def __init__(self, message: str, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.subject: str | None = None
        if hint:
            self.add_note(hint)  # for those who import the package and see a traceback


class UsageError(GinfError):
    """A wrong option, specification or combination of them."""

    code = ExitCode.USAGE


class FileError(GinfError):
    """A file that is missing, damaged, of another kind or for another model, or data that cannot be used."""

    code = ExitCode.FILE


class NotConvergedError(GinfError):
    """An iteration ended before the accuracy that the formulas assume."""

    code = ExitCode.NOT_CONVERGED


class CheckFailedError(GinfError):
    """A check that the user asked for did not pass."""

    code = ExitCode.CHECK_FAILED


class StoppedError(BaseException):
    """A signal asked the run to end; not an Exception, so that no code takes it for a failure of its own."""

    def __init__(self, signal: int) -> None:
        super().__init__(signal)
        self.signal = signal
        self.code = 128 + signal


def check_regular(path: str | os.PathLike[str], expected: str = "a file") -> os.stat_result:
    """The status of a regular file.  Raises FileError for anything else, because a pipe without a writer would block
    and a device has no end, and OSError if the file does not exist."""
    status = os.stat(path)  # noqa: PTH116
    if not stat.S_ISREG(status.st_mode):
        kind = next((name for test, name in _IRREGULAR if test(status.st_mode)), "no regular file")
        raise FileError(f"{shown(path)} is {kind}, expected {expected}", hint="name a regular file")
    return status


_IRREGULAR = (
    (stat.S_ISDIR, "a folder"),
    (stat.S_ISFIFO, "a named pipe"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
    (stat.S_ISSOCK, "a socket"),
)


def shown(text: object) -> str:
    """A name as a message shows it: control characters are escaped, so that none moves the cursor or breaks a line."""
    return "".join(char if char.isprintable() else ascii(char)[1:-1] for char in str(text))


@contextmanager
def about(subject: str) -> Iterator[None]:
    """Prefix errors raised inside with their subject: a file, a group.  The innermost subject wins."""
    try:
        yield
    except GinfError as error:
        if error.subject is None:
            error.subject = subject
            error.message = f"{subject}: {error.message}"
            error.args = (error.message,)
        raise


def composed(text: str) -> str:
    """The text in a normal form that is equal for texts that look the same: composed letters (Unicode NFC), plain
    spaces instead of others, and no zero-width characters."""
    if text.isascii():
        return text
    return unicodedata.normalize("NFC", text).translate(_SAME_LOOK)


_SAME_LOOK = {
    **dict.fromkeys([0xA0, *range(0x2000, 0x200B), 0x202F, 0x205F, 0x3000], " "),
    **dict.fromkeys([0xAD, 0x200B, 0x200E, 0x200F, 0x2060, 0xFEFF]),
}
"""Other kinds of spaces, which become plain ones, and zero-width characters, which are removed."""


def shown_lines(text: str) -> str:
    """A message with its control characters escaped, except for the line breaks of an indented list."""
    return "\n  ".join(shown(line) for line in text.split("\n  "))


def nearest(text: str, choices: Iterable[str]) -> str | None:
    """The choice that a misspelt word probably means, regardless of case; None if no choice is close."""
    import difflib

    folded = {choice.casefold(): choice for choice in reversed(list(choices))}
    near = difflib.get_close_matches(text.casefold(), folded, n=1)
    if near:
        return folded[near[0]]
    # The distance between a short form and its long form is large: prob, probability.
    word = text.casefold()
    beginnings = [
        name for name in folded if min(len(name), len(word)) >= 4 and (word.startswith(name) or name.startswith(word))
    ]
    return folded[beginnings[0]] if len(beginnings) == 1 else None


def did_you_mean(text: str, choices: Iterable[str], otherwise: str | None = None) -> str | None:
    """A hint with the nearest choice, else ``otherwise``."""
    near = nearest(text, choices)
    return f"did you mean {near}?" if near is not None else otherwise


def unknown_word(option: str, text: str, choices: Sequence[str]) -> UsageError:
    """The error for a value of an option that is not one of its choices, with the nearest choice as the hint."""
    return UsageError(f"{option} must be one of {', '.join(choices)}; found {text!r}", hint=did_you_mean(text, choices))
