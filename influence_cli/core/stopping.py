"""Requests to end the run: set by a signal handler, checked between blocks of work.

A signal concerns the whole process, and so does the state of this module.  The handler raises nothing, because an
exception that passes through a C callback, a weak reference's callback or a destructor is lost there, together with the
work it interrupts.  Every pass over the rows, every block of groups and every step of a progress bar calls ``check``,
which raises in plain Python code.
"""

from __future__ import annotations

from dataclasses import dataclass

from influence_cli.errors import StoppedError

NOTHING = "nothing is kept; the same command starts anew"
"""Text on what is kept if no command has set another."""


@dataclass
class _State:
    signal: int = 0
    kept: str = NOTHING


_state = _State()


def ask(signal: int) -> None:
    """Ask the run to end because of this signal; the first signal counts."""
    _state.signal = _state.signal or signal


def check() -> None:
    """Raises StoppedError where the run has been asked to end."""
    if _state.signal:
        raise StoppedError(_state.signal)


def keeping(text: str) -> None:
    """Set the text that says what is kept, and how to continue, if the run ends now."""
    _state.kept = text


def kept() -> str:
    """The text that says what is kept, and how to continue, if the run ends now."""
    return _state.kept


def begin() -> None:
    """Reset the state that an earlier run in this process left."""
    _state.signal, _state.kept = 0, NOTHING
