"""Sentences about a whole result of estimates: what makes its figures uncertain, and what to do about it."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from influence_cli.core.recession import ENDLESS
from influence_cli.models.trained import TrainedModel
from influence_cli.results import MEAN_TEST, REFINED, REMOVED_TEST, InfluenceResult

LARGE_SHARE = 0.6
"""Share of the rows above which the error of a single step was measured to cover only 83 to 91% of the true errors."""
NO_PROOF = "the group changes the curvature too much, the effect is below rounding, or f has no finite value"
"""Why an interval is infinite."""
STATIONARY = 0.05
"""Share of the first gradient after removal that may be left over from training."""


def advice(model: TrainedModel, result: InfluenceResult, growth: Mapping[str, np.ndarray]) -> tuple[str, ...]:
    """One sentence with a remedy for each problem; ``growth[method]`` (G,) is the q of the method's error."""
    sentences = [
        *(_growing(method, q, result) for method, q in growth.items() if method != REFINED),
        _large_groups(result),
        _unmet(model, result),
        _infinite(model, result),
        _network(model, result),
        _each_once(model, result),
    ]
    return tuple(sentence for sentence in sentences if sentence)


def _growing(method: str, q: np.ndarray, result: InfluenceResult) -> str:
    """Name the groups whose gradient is longer at the estimate than at the trained parameters."""
    bad = np.flatnonzero((q >= 1.0) & np.isfinite(q))
    if not bad.size:
        return ""
    worst = bad[np.argmax(q[bad])]
    remedy = f"trust {REFINED} instead" if REFINED in result.values else f"add --method {REFINED}"
    return (
        f"{method} does not bring the gradient down for {_of(bad.size, len(q), 'group')} (q = {q[worst]:.2g} for"
        f" {result.groups.label[worst]}): such a group changes the curvature too much for one step; {remedy}"
    )


def _large_groups(result: InfluenceResult) -> str:
    large = int((result.groups.fraction > LARGE_SHARE).sum())
    if not large or not set(result.errors) - {REFINED}:
        return ""
    return (
        f"{_of(large, len(result.groups), 'group')} {'takes' if large == 1 else 'take'} over {LARGE_SHARE:.0%} of the"
        " rows: there the errors of single-step methods were too small for one figure in eight; --verify retrains"
    )


def _unmet(model: TrainedModel, result: InfluenceResult) -> str:
    if result.unmet is None or not result.unmet.any():
        return ""
    pairs = _of(int(result.unmet.sum()), result.unmet.size, "figure")
    if model.objective.convex and model.settings.l2 < 1e-4:
        why = (
            f"; at --l2 {model.settings.l2:g} the rows that are left may nearly separate the classes or leave"
            " directions undetermined: train with a larger --l2, or compare with ginf groundtruth"
        )
    else:
        why = "; raise --rel-error, or compare with ginf groundtruth"
    return f"refined is not within --rel-error for {pairs}: their error says how far they may be off{why}"


def _infinite(model: TrainedModel, result: InfluenceResult) -> str:
    endless = np.zeros(0) if result.ends is None else result.ends == ENDLESS
    if not endless.any():
        return ""
    pairs = _of(int(endless.sum()), endless.size, "figure")
    if model.settings.l2 == 0 or not model.dataset.classes:
        of_t = result.quantity.startswith("t:")  # t has no meaning with a penalty
        remedy = "ask about another parameter" if of_t else "train with --l2 greater than 0"
        return (
            f"{pairs} cannot have a finite truth, because the rows that are left without the group do not determine"
            f" them: {remedy}"
        )
    remedy = "" if result.quantity == "prob" else ", or ask for --quantity prob"
    return (
        f"{pairs} cannot have a finite truth, because a group takes all rows of a class and nothing holds its"
        f" intercept: train with --penalize-intercept{remedy}"
    )


def _network(model: TrainedModel, result: InfluenceResult) -> str:
    if result.objective is None:
        return ""
    return (
        "of a network, refined and the errors are about the proximal objective, which influence functions are the"
        " response of; groundtruth --retrain proximal measures the same, --retrain warm or cold, and --verify, a new"
        " training"
    )


def _each_once(model: TrainedModel, result: InfluenceResult) -> str:
    if not model.per or not set(result.tests.tolist()) & {MEAN_TEST, REMOVED_TEST}:
        return ""
    return f"in a mean over rows each counts once, whatever its {model.per}: training, and D squared, weigh rows by it"


def stationarity(left: float, first: np.ndarray) -> str:
    """Whether training has ended: ``left`` is the length of the gradient at the trained parameters, and ``first`` (G,)
    that of the gradient there after each removal."""
    bad = first * STATIONARY < left
    if not bad.any():
        return ""
    return (
        f"the trained parameters are not stationary enough for {_of(int(bad.sum()), len(bad), 'group')}, of which the"
        " removal hardly adds to the gradient that training left: train to a smaller --tol"
    )


def ill_conditioned(condition: float) -> str:
    """The sentence about a group without which the rows hardly determine the parameters."""
    return (
        f"the Hessian without the group has a condition number of about {condition:.0e}, so that the rows left hardly"
        " determine the parameters: train with a larger --l2, or compare with ginf groundtruth"
    )


def few_digits(condition: float) -> str:
    """The sentence about a model whose Hessian has lost digits."""
    return (
        f"the model's Hessian has a condition number of about {condition:.0e}, so that steps with it have lost digits:"
        " subtract the means of columns that lie far from 0, train with a larger --l2, or compare with ginf groundtruth"
    )


def unproven(result: InfluenceResult, why: str) -> str:
    """For how many figures nothing is proven, and why; an empty text if there is none."""
    if result.low is None:
        return ""
    without = np.isnan(result.low)
    missing = int((without if result.ends is None else without & (result.ends != ENDLESS)).sum())
    if not missing:
        return ""
    return f"no proof for {_of(missing, result.low.size, 'figure')}: {why or NO_PROOF}"


def _of(count: int, total: int, what: str) -> str:
    """``3 of 40 groups``"""
    return f"{count:,} of {total:,} {what}s" if total > 1 else f"the {what}"
