"""What decides a model beside its data: the settings, and how the options of ``ginf train`` resolve to them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import MISSING, asdict, dataclass, fields
from typing import Any

import numpy as np

from influence_cli.core.objectives.glm import Glm
from influence_cli.core.objectives.mlp import CURVATURES, GAUSS_NEWTON, Mlp
from influence_cli.core.objectives.networks.activations import ACTIVATIONS
from influence_cli.core.removal import PENALTY_SCALINGS, PER_MEAN, PER_SUM
from influence_cli.data.prepare import Task
from influence_cli.errors import UsageError, unknown_word

ESTIMATORS: dict[str, Task] = {
    "logistic": "classification",
    "linear": "regression",
    "poisson": "regression",
    "binomial": "regression",
    "ridge-classifier": "classification",
    "mlp": "classification",
    "mlp-regressor": "regression",
}
"""Names of ``--estimator`` and the task each is for."""
NETWORKS = ("mlp", "mlp-regressor")
HIDDEN = (64, 32)
"""Widths of a network's hidden layers where none are asked for."""
DAMPING = 0.01
"""The paper's, and Koh and Liang's (2017)."""


@dataclass(frozen=True)
class ModelSettings:
    """Everything beside the data that decides what the trained parameters are and what removal means.

    ``l2`` is lambda of docs/design.md; ``penalty_scaling`` is per-mean or per-sum.  What follows ``tol`` is for
    networks alone: hidden widths, what stands for the Hessian and is added to its diagonal, and the seed of the initial
    weights.
    """

    estimator: str
    l2: float
    penalty_scaling: str
    fit_intercept: bool
    penalize_intercept: bool
    tol: float
    hidden: tuple[int, ...] = ()
    activation: str = "sigmoid"
    curvature: str = GAUSS_NEWTON
    damping: float = 0.0
    seed: int = 0

    @property
    def is_network(self) -> bool:
        return self.estimator in NETWORKS

    def as_dict(self) -> dict[str, Any]:
        """What a model file keeps: the same for a GLM as before there were networks."""
        settings = asdict(self) | {"hidden": list(self.hidden)}
        return (
            settings
            if self.is_network
            else {key: settings[key] for key in list(settings)[: list(settings).index("hidden")]}
        )

    @classmethod
    def from_dict(cls, kept: Mapping[str, Any]) -> ModelSettings:
        """The settings among what a model file keeps.

        Raises UsageError for what ``ginf train`` would not take either: no word of a file is taken for another.
        """
        known = {key: kept[key] for key in cls.__dataclass_fields__ if kept.get(key) is not None}
        names = fields(cls)
        missing = [field.name for field in names if field.default is MISSING and field.name not in known]
        if missing:
            raise UsageError(f"expected the settings {', '.join(missing)}, found none")
        settings = cls(**known | {"hidden": tuple(known.get("hidden", ()))})
        settings.check()
        return settings

    def check(self) -> None:
        """Raises UsageError for a word or number that no option gives."""
        for key, choices in (
            ("estimator", tuple(ESTIMATORS)),
            ("penalty_scaling", PENALTY_SCALINGS),
            ("activation", tuple(ACTIVATIONS)),
            ("curvature", CURVATURES),
        ):
            if getattr(self, key) not in choices:
                raise unknown_word(key, str(getattr(self, key)), choices)
        for key, value in (("l2", self.l2), ("tol", self.tol), ("damping", self.damping)):
            if not (np.isfinite(value) and value >= 0):
                raise UsageError(f"{key} must be a number of at least 0, found {value:g}")
        if self.seed < 0:
            raise UsageError(f"seed must be a whole number from 0, found {self.seed}")
        if self.is_network != bool(self.hidden) or min(self.hidden, default=1) < 1:
            raise UsageError(f"hidden must be widths of at least 1, of a network alone; found {list(self.hidden)}")


def check_curvature(curvature: str | None, damping: float | None) -> None:
    """Raises UsageError for values that are none."""
    if curvature is not None and curvature not in CURVATURES:
        raise UsageError(f"--curvature must be one of {', '.join(CURVATURES)}; found {curvature!r}")
    if damping is not None and not (np.isfinite(damping) and damping >= 0):
        raise UsageError(f"--damping must be a number of at least 0, found {damping:g}")


def default_tolerance(estimator: str) -> float:
    """Newton decrement, relative to the outputs' deviation, to which an estimator of that name is trained."""
    return (Mlp if estimator in NETWORKS else Glm).tuning.tolerance


def default_iterations(estimator: str) -> int:
    """Newton steps, or L-BFGS iterations of a network, that training takes at most."""
    return (Mlp if estimator in NETWORKS else Glm).tuning.max_iterations


def resolve_network(
    estimator: str,
    hidden: Sequence[int] | None,
    activation: str | None,
    curvature: str | None,
    damping: float | None,
    seed: int,
) -> dict[str, Any]:
    """The settings that only networks have, from the options; none for a GLM, which none of the options suits."""
    if estimator not in NETWORKS:
        given = {"--hidden": hidden, "--activation": activation, "--curvature": curvature, "--damping": damping}
        for option, value in given.items():
            if value is not None:
                raise UsageError(f"{option} is for networks", hint=f"add --estimator {NETWORKS[0]}")
        return {}
    check_curvature(curvature, damping)
    if activation is not None and activation not in ACTIVATIONS:
        raise UsageError(f"--activation must be one of {', '.join(ACTIVATIONS)}; found {activation!r}")
    return {
        "hidden": HIDDEN if hidden is None else check_hidden(tuple(hidden), str(hidden)),
        "activation": activation or "sigmoid",
        "curvature": curvature or GAUSS_NEWTON,
        "damping": DAMPING if damping is None else damping,
        "seed": seed,
    }


def parse_hidden(text: str) -> tuple[int, ...]:
    """``64,32`` to the widths of the hidden layers."""
    try:
        widths = tuple(int(part) for part in text.split(","))
    except ValueError:
        widths = ()
    return check_hidden(widths, text)


def check_hidden(widths: tuple[int, ...], shown: str) -> tuple[int, ...]:
    """The widths themselves.  Raises UsageError, with what was written, where they are none."""
    if not widths or min(widths) < 1:
        raise UsageError(
            f"--hidden must be widths of hidden layers, found {shown!r}", hint="for example --hidden 64,32"
        )
    return widths


def resolve_penalty(l2: float | None, C: float | None, scaling: str | None, rows: float) -> tuple[float, str]:
    """(lambda, penalty scaling) from the options: C is scikit-learn's, 1 / (lambda m), and brings per-sum with it.

    ``rows`` is m, or the sum of the rows' weights as they were given.
    """
    if l2 is not None and C is not None:
        raise UsageError("--l2 and --C both set the penalty", hint="give one of them: l2 = 1 / (C * training rows)")
    if C is not None:
        if not (np.isfinite(C) and C > 0):
            raise UsageError(f"--C must be a number greater than 0, found {C:g}")
        return 1.0 / (C * rows), scaling or PER_SUM
    lam = 1e-3 if l2 is None else l2
    if not (np.isfinite(lam) and lam >= 0):
        raise UsageError(f"--l2 must be a number of at least 0, found {lam:g}")
    return lam, scaling or PER_MEAN
