"""Error messages for Python users: each command-line option is replaced by the name of its argument."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from functools import wraps
from numbers import Integral, Real
from os import PathLike
from types import NoneType
from typing import Any, ParamSpec, TypeVar

from influence_cli.errors import GinfError, UsageError, unknown_word

P = ParamSpec("P")
R = TypeVar("R")
_ARGUMENTS = {
    "group": "groups",
    "groups": "groups",
    "test": "X_test",
    "method": "methods",
    "strategy": "strategies",
    "intercept": "fit_intercept",
    "data": "X",
    "label": "y",
}
"""The names of arguments, by option, that differ from the option's name."""
_OPTION = re.compile(r"--([A-Za-z][a-z0-9-]*)")
_TYPES: Mapping[str, tuple[tuple[type, ...], str]] = {
    "str": ((str, PathLike), "a text"),
    "int": ((Integral,), "a whole number"),
    "float": ((Real,), "a number"),
    "None": ((NoneType,), "None"),
}
"""The annotations that are checked, with the types that each accepts and their name in messages."""


def python_words(function: Callable[P, R]) -> Callable[P, R]:
    """Wrap the function: its argument types are checked, and its errors name arguments instead of options."""

    @wraps(function)
    def run(*arguments: P.args, **options: P.kwargs) -> R:
        try:
            _check_types(function.__annotations__, options)
            return function(*arguments, **options)
        except GinfError as error:
            error.message = in_python(error.message)
            error.args = (error.message,)
            if error.hint:
                error.hint = in_python(error.hint)
                error.__notes__ = [error.hint]
            raise

    return run


def _check_types(annotations: Mapping[str, str], options: Mapping[str, Any]) -> None:
    """Raise UsageError for an argument whose type contradicts its annotation, if that consists of ``_TYPES`` only."""
    for name, value in options.items():
        kinds = str(annotations.get(name, "Any")).split(" | ")
        known = set(kinds) <= set(_TYPES)
        if known and not any(isinstance(value, _TYPES[kind][0]) for kind in kinds):
            expected = " or ".join(_TYPES[kind][1] for kind in kinds)
            raise UsageError(f"{name} must be {expected}, found {type(value).__name__}")


def in_python(text: str) -> str:
    """The sentence with the names of arguments in place of options."""
    text = re.sub(r"(?<![\w-])-o(?= )", "path", text)
    return _OPTION.sub(lambda found: _ARGUMENTS.get(found[1], found[1].replace("-", "_")), text)


def check_choice(name: str, value: str | None, choices: Sequence[str]) -> None:
    """Raise UsageError if an argument's value is neither None nor one of its choices."""
    if not (value is None or value in choices):
        raise unknown_word(name, value, choices)
