"""Preconditioners of blocks of columns: one for all of them, or each column its own."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np

Preconditioner: TypeAlias = Callable[[np.ndarray], np.ndarray]
"""An approximate inverse Hessian: r (P, G) to M^-1 r (P, G)."""


@dataclass(frozen=True)
class EachItsOwn:
    """Column g of r (P, G) is preconditioned by ``each[g]``."""

    each: tuple[Preconditioner, ...]

    def __call__(self, r: np.ndarray) -> np.ndarray:
        out = np.empty_like(r)
        for one in {id(one): one for one in self.each}.values():
            own = [g for g, other in enumerate(self.each) if other is one]
            out[:, own] = one(r[:, own])
        return out


def for_columns(preconditioner: Preconditioner, columns: np.ndarray) -> Preconditioner:
    """What preconditions those columns (A,) of the block that ``preconditioner`` is for."""
    if not isinstance(preconditioner, EachItsOwn):
        return preconditioner
    return EachItsOwn(tuple(preconditioner.each[g] for g in columns))
