"""Settings that hold within a ``with`` block, through which distant callers configure readers."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TypeVar

T = TypeVar("T")


@contextmanager
def inside(variable: ContextVar[T], value: T) -> Iterator[None]:
    """Set ``variable`` to ``value`` within the block and restore it afterwards."""
    token = variable.set(value)
    try:
        yield
    finally:
        variable.reset(token)
