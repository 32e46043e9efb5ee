"""Errors in the words of Python: an option of the command line becomes the argument that stands for it."""

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
"""Arguments that are not named as the option is."""
_OPTION = re.compile(r"--([A-Za-z][a-z0-9-]*)")
_TYPES: Mapping[str, tuple[tuple[type, ...], str]] = {
    "str": ((str, PathLike), "a text"),
    "int": ((Integral,), "a whole number"),
    "float": ((Real,), "a number"),
    "None": ((NoneType,), "None"),
}
"""Annotations of arguments that are checked: what they take, in types and in words."""


def python_words(function: Callable[P, R]) -> Callable[P, R]:
    """The function, with errors that name its arguments instead of options."""

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
    """Raises UsageError for an argument of another type than its annotation says, where that is one of ``_TYPES``."""
    for name, value in options.items():
        kinds = str(annotations.get(name, "Any")).split(" | ")
        known = set(kinds) <= set(_TYPES)
        if known and not any(isinstance(value, _TYPES[kind][0]) for kind in kinds):
            expected = " or ".join(_TYPES[kind][1] for kind in kinds)
            raise UsageError(f"{name} must be {expected}, found {type(value).__name__}")


def in_python(text: str) -> str:
    """A sentence with arguments for options."""
    text = re.sub(r"(?<![\w-])-o(?= )", "path", text)
    return _OPTION.sub(lambda found: _ARGUMENTS.get(found[1], found[1].replace("-", "_")), text)


def check_choice(name: str, value: str | None, choices: Sequence[str]) -> None:
    """Raises UsageError where an argument's word is not one of its choices."""
    if not (value is None or value in choices):
        raise unknown_word(name, value, choices)
