"""Whether the run has been asked to end: set by a signal's handler, looked at between blocks of work.

A signal concerns the whole process, and so this is the one state that a module keeps for all.  The handler raises
nothing: an exception that passes through a callback of C, of a weak reference or of a destructor is lost there,
together with the work that it hit.  Every pass over the rows, every block of groups and every step of a progress bar
comes by ``check``, which raises in plain Python code.
"""

from __future__ import annotations

from dataclasses import dataclass

from influence_cli.errors import StoppedError

NOTHING = "nothing is kept; the same command starts anew"
"""What is kept where no command has said anything else."""


@dataclass
class _State:
    signal: int = 0
    kept: str = NOTHING


_state = _State()


def ask(signal: int) -> None:
    """The run shall end because of this signal; the first one counts."""
    _state.signal = _state.signal or signal


def check() -> None:
    """Raises StoppedError where the run has been asked to end."""
    if _state.signal:
        raise StoppedError(_state.signal)


def keeping(text: str) -> None:
    """Say what would be kept, and how to go on, if the run ended now."""
    _state.kept = text


def kept() -> str:
    """What is kept if the run ends now, and how to go on."""
    return _state.kept


def begin() -> None:
    """Forget what an earlier run in this process left."""
    _state.signal, _state.kept = 0, NOTHING
