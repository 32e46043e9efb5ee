"""What holds for all reading inside a block: how callers far above tell a reader something."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TypeVar

T = TypeVar("T")


@contextmanager
def inside(variable: ContextVar[T], value: T) -> Iterator[None]:
    """The variable has that value inside, and the one from before behind it."""
    token = variable.set(value)
    try:
        yield
    finally:
        variable.reset(token)
