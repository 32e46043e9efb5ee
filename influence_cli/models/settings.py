"""What determines a model besides its data: the settings, and how the options of ``ginf train`` resolve to them."""

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
"""The values of ``--estimator`` and the task of each."""
NETWORKS = ("mlp", "mlp-regressor")
HIDDEN = (64, 32)
"""Default widths of a network's hidden layers."""
DAMPING = 0.01
"""Default number added to the diagonal of a network's curvature: that of the paper and of Koh and Liang (2017)."""


@dataclass(frozen=True)
class ModelSettings:
    """Everything besides the data that determines the trained parameters and the meaning of removal.

    ``l2`` is lambda of docs/design.md; ``penalty_scaling`` is per-mean or per-sum.  The fields after ``tol`` are
    for networks only: hidden widths, activation, the curvature that replaces the Hessian, the damping on its diagonal,
    and the seed of the initial weights.
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
        """What a model file keeps; for a GLM without the settings of networks."""
        settings = asdict(self) | {"hidden": list(self.hidden)}
        return (
            settings
            if self.is_network
            else {key: settings[key] for key in list(settings)[: list(settings).index("hidden")]}
        )

    @classmethod
    def from_dict(cls, kept: Mapping[str, Any]) -> ModelSettings:
        """The settings among what a model file keeps.

        Raises UsageError for values that ``ginf train`` would refuse too, rather than falling back to a default.
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
        """Raise UsageError for a word or number that no option accepts."""
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
    """Raise UsageError for an unknown curvature, or a damping that is negative or not finite."""
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
    """The settings that only networks have, from the options; empty for a GLM.  Raises UsageError."""
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
    """Return the widths.  Raises UsageError, which shows ``shown``, unless there is a width and all are at least 1."""
    if not widths or min(widths) < 1:
        raise UsageError(
            f"--hidden must be widths of hidden layers, found {shown!r}", hint="for example --hidden 64,32"
        )
    return widths


def resolve_penalty(l2: float | None, C: float | None, scaling: str | None, rows: float) -> tuple[float, str]:
    """(lambda, penalty scaling) from the options: C is scikit-learn's, 1 / (lambda m), and implies per-sum.

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
