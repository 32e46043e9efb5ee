"""REL: a relative tolerance as options accept it, ``5%`` or ``0.05``."""

from __future__ import annotations

from influence_cli.errors import UsageError


def parse_relative(text: str, option: str) -> float:
    """A number above 0 and below 1.  Raises UsageError for anything else."""
    body = text.strip()
    percent = body.endswith("%")
    try:
        value = float(body[:-1] if percent else body) / (100.0 if percent else 1.0)
    except ValueError:
        value = float("nan")
    if not 0.0 < value < 1.0:
        raise UsageError(
            f"{option} must be a share over 0 and below 1, found {text!r}", hint=f"for example {option} 5%"
        )
    return value
