"""The command that made a file, from the options that the file keeps."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterable, Iterator, Mapping
from inspect import signature
from typing import Any

from influence_cli.commands.groundtruth import groundtruth
from influence_cli.commands.influence import influence
from influence_cli.commands.select import select
from influence_cli.commands.train import train

_MAKERS: dict[str, Callable[..., int]] = {
    "model": train,
    "influence": influence,
    "truth": groundtruth,
    "selection": select,
}
_KEPT_AS = {
    "group": "groups",
    "method": "methods",
    "strategy": "strategies",
    "intercept": "fit_intercept",
    "from_model": "from",
    "id_column": "id",
}
"""Keys of a file's settings that differ from the parameter's name."""
_OWN_OF_BROUGHT = {"estimator", "l2", "C", "intercept", "penalize_intercept", "class_weight"}
"""Parameters of ``ginf train`` that a model of ``--from`` determines."""
_OF_NO_FLIP = {"strategy", "direction"}
"""Parameters of ``ginf select`` that a search for a flip chooses by itself."""
_NOT_KEPT = {"groups", "output"}
"""Parameters that no file keeps: --groups is kept as the groups that the file named."""


def command_of(kind: str, config: Mapping[str, Any], path: str) -> str | None:
    """The command line that makes such a file again; None if the file was made in Python."""
    if ("data" if kind == "model" else "model") not in config:
        return None
    maker = _MAKERS[kind]
    words = ["ginf", maker.__name__]
    skipped = _NOT_KEPT | _OWN_OF_BROUGHT if config.get("from") is not None else set(_NOT_KEPT)
    skipped |= {"penalize_intercept"} if config.get("fit_intercept") is False else set()
    skipped = skipped | (_OF_NO_FLIP if config.get("flip") else set())
    for name, parameter in signature(maker).parameters.items():
        value = config.get(_KEPT_AS.get(name, name))
        if name in skipped or value is None:
            continue
        option = parameter.annotation.__metadata__[0]
        declared = (option.default, *option.param_decls)  # Typer takes the first for a default until it reads it
        words += _words(declared, value, repeatable="list" in str(parameter.annotation.__origin__))
    return shlex.join([*words, "-o", path])


def _words(declared: Iterable[str], value: Any, *, repeatable: bool) -> Iterator[str]:
    """An option with its value, as it is typed."""
    long = next(name for name in declared if name.startswith("--"))
    on, _, off = long.partition("/")
    if isinstance(value, bool):
        if value or off:
            yield on if value else off
    elif isinstance(value, list | tuple):
        texts = [str(one) for one in value]
        for text in texts if repeatable else [",".join(texts)] if texts else []:
            yield from (on, text)
    else:
        yield from (on, str(value))
