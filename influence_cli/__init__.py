"""Group influence of training rows on a model's predictions, second order included."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from influence_cli.api import GroupInfluence

__version__ = "0.2.0"
__all__ = ["GroupInfluence", "__version__"]


def __getattr__(name: str) -> Any:
    """Import ``GroupInfluence`` on access, so that the command line answers ``--help`` without NumPy."""
    if name == "GroupInfluence":
        from influence_cli.api import GroupInfluence

        return GroupInfluence
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
