"""Results about several quantities of the model (``param:A,B``), each as if it were asked alone."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, TypeVar

import numpy as np

from influence_cli.results import NO_TEST, SEVERAL, InfluenceResult, TruthResult, quantity_of

R = TypeVar("R", bound=InfluenceResult | TruthResult)
OF_GROUPS = ("tests", "steps", "grad_norm", "iterations", "seconds")
"""Arrays of a result that have no axis of test rows."""


def separate(result: R) -> tuple[R, ...]:
    """A result about several quantities of the model divided by quantity; any other result as it is."""
    codes = result.tests.tolist()
    if not codes or codes[0] > SEVERAL:
        return (result,)

    def part(key: str, value: Any, at: int) -> Any:
        if isinstance(value, Mapping):
            return {name: part(key, values, at) for name, values in value.items()}
        return value[..., at : at + 1] if isinstance(value, np.ndarray) and key not in OF_GROUPS else value

    results = []
    for at, code in enumerate(codes):
        config = result.provenance.config
        asked = part_of(config.get("asked"), code)
        state: dict[str, Any] = {key: part(key, value, at) for key, value in vars(result).items()}
        state |= {"tests": np.array([NO_TEST]), "quantity": quantity_of(result.quantity, code), "names": None}
        state["provenance"] = replace(result.provenance, config=config | ({} if asked is None else {"asked": asked}))
        results.append(replace(result, **state))
    return tuple(results)


def part_of(asked: str | None, code: int) -> str | None:
    """One of several quantities in words; ``asked`` has one line for each."""
    return None if asked is None else asked.splitlines()[SEVERAL - code]
