"""The page of a trained model: what it was made from, and how well it predicts."""

from __future__ import annotations

import numpy as np

from influence_cli.core.objectives.families.binomial import Binomial
from influence_cli.core.objectives.families.logistic import Logistic
from influence_cli.core.objectives.families.poisson import Poisson
from influence_cli.core.objectives.families.signed import Signed
from influence_cli.data.summary import base_rate
from influence_cli.models.scales import units
from influence_cli.models.trained import Split, TrainedModel
from influence_cli.present.tables import Block, Page
from influence_cli.present.words import figure

MOST_COEFFICIENTS = 40
"""Number of coefficients, the largest ones, that are shown without --top."""


def model_page(title: str, model: TrainedModel, verbose: bool) -> Page:
    """What a model is, in words."""
    data = model.dataset
    preparation = data.preparation or {}
    rows = [
        ("data", str(model.origin.get("data", data.name))),
        ("training rows", f"{data.rows:,}"),
        ("test rows", f"{data.X_test.shape[0]:,}"),
        ("features", f"{data.X_train.shape[1]:,}"),
        *([("classes", _classes(model))] if data.classes else []),
        *(
            [("response", f"{preparation['label']} / {model.per}; rows weigh by {model.per}")]
            if "per" in preparation
            else []
        ),
        ("parameters", f"{model.objective.size:,}"),
        ("penalty (--l2)", figure(model.settings.l2)),
        (f"train {model.score_name}", _score(model, "train")),
        (f"test {model.score_name}", _score(model, "test")),
    ]
    if (rate := base_rate(data)) is not None:
        frequent = data.classes[int(np.bincount(data.y_train, minlength=len(data.classes)).argmax())]
        rows.append(("base rate", f"{rate:.1%}: the test accuracy of always saying {frequent}, the largest class"))
    if verbose:
        rows += [("gradient norm", figure(model.grad_norm)), ("iterations", f"{model.iterations:,}")]
        rows += [("seconds", figure(model.seconds)), ("factor", "kept in the file" if model.factor else "none")]
    scaling = f"removal convention: {model.settings.penalty_scaling}"
    return Page(title, (Block("", ("", ""), rows),), (scaling,))


def coefficient_block(model: TrainedModel, top: int | None) -> Block:
    """The parameters by name, the largest first."""
    theta = model.theta[:, 0]
    names = model.parameter_names
    order = np.argsort(-np.abs(theta), kind="stable")[: top or MOST_COEFFICIENTS].tolist()
    scales = units(model)
    rows = [(names[at], f"{theta[at]:+.4g}", figure(scales[at])) for at in order]
    left = len(theta) - len(rows)
    below = (f"{left:,} more: --top {len(theta)}, or --format csv",) if left else ()
    standardised = any(scales[at] is not None for at in order)
    headings = ("name", "value", "for a change of")
    kept = len(headings) if standardised else 2
    cut = [row[:kept] for row in rows]
    title = f"Coefficients, the largest first{_changes_of(model)}"
    return Block(title, headings[:kept], cut, frozenset(range(1, kept)), below)


def _changes_of(model: TrainedModel) -> str:
    """What the coefficients change, where that is not the prediction itself and no class names it."""
    if model.family.outputs > 1 or model.settings.hidden:
        return ""
    what = {
        Logistic: "the log-odds of {}",
        Signed: "the score of {}",
        Poisson: "the logarithm of the prediction",
        Binomial: "the log-odds of the prediction",
    }.get(type(model.family))
    return f": of {what.format(*model.dataset.classes[1:])}" if what else ""


def _score(model: TrainedModel, split: Split) -> str:
    score = model.score(split)
    return "-" if np.isnan(score) else figure(score)


def _classes(model: TrainedModel) -> str:
    """The classes with their numbers of training rows."""
    data = model.dataset
    counts = np.bincount(data.y_train, minlength=len(data.classes)).tolist()
    shown = [f"{label} ({count:,})" for label, count in zip(data.classes, counts, strict=True)][:20]
    more = f" and {len(data.classes) - 20:,} more" if len(data.classes) > 20 else ""
    return ", ".join(shown) + more
