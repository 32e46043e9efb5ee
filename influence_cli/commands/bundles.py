"""How commands take their options: as dataclasses, and under the settings that hold for a whole command."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import MISSING, fields, is_dataclass
from functools import wraps
from inspect import Parameter, Signature, signature
from typing import Any, get_type_hints

from influence_cli.commands.options import Common
from influence_cli.memory import limited, parse


def _connected(address: str | None) -> AbstractContextManager[None]:
    if address is None:
        return nullcontext()
    from influence_cli.engines.dask import connected

    return connected(address)


def _announcing(common: Common) -> AbstractContextManager[None]:
    from influence_cli.data.convert import announcing

    return announcing(common.note)


def command(function: Callable[..., int]) -> Callable[..., int]:
    """Convert a function for Typer: each parameter that is a dataclass of options is replaced by the options in it.

    Thus an option is written once, and options that belong together are passed on together.
    """
    hints = get_type_hints(function, include_extras=True)
    bundles: dict[str, Any] = {name: hint for name, hint in hints.items() if is_dataclass(hint)}
    parameters: list[Parameter] = []
    for name, parameter in signature(function).parameters.items():
        if name not in bundles:
            parameters.append(parameter.replace(kind=Parameter.KEYWORD_ONLY, annotation=hints[name]))
            continue
        options = get_type_hints(bundles[name], include_extras=True)
        for field in fields(bundles[name]):
            default = Parameter.empty if field.default is MISSING else field.default
            parameters.append(
                Parameter(field.name, Parameter.KEYWORD_ONLY, default=default, annotation=options[field.name])
            )

    @wraps(function)
    def run(**given: Any) -> int:
        for name, bundle in bundles.items():
            given[name] = bundle(**{field.name: given.pop(field.name) for field in fields(bundle)})
        common = next((one for one in given.values() if isinstance(one, Common)), Common())
        allowed = None if common.memory is None else parse(common.memory, "--memory")
        with limited(allowed), _connected(common.scheduler), _announcing(common):
            return function(**given)

    run.__signature__ = Signature(parameters, return_annotation=int)  # type: ignore[attr-defined]
    run.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    return run
