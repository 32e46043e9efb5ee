"""What the tables say above their columns: what is measured, its sign and its unit."""

from __future__ import annotations

from typing import Any

import numpy as np

from influence_cli.present.tables import Layout
from influence_cli.results import REFINED, InfluenceResult, TruthResult

SHOWN = 20
"""Rows of a table of single training rows, of which there are thousands."""
MEANING = {
    "loss": ("loss", "positive: the group helped this prediction"),
    "margin": ("margin (log-odds of the true class against its rival)", "positive: the group hurt this prediction"),
    "prob": ("probability of the true class", "positive: the group hurt this prediction"),
    "prediction": ("prediction", "positive: the group holds it down"),
}


def phrase(quantity: str) -> tuple[str, str]:
    """What a quantity is called in a sentence, and what a positive change of it says about the group."""
    if quantity in MEANING:
        return MEANING[quantity]
    kind, _, name = quantity.partition(":")
    called = {"logit": f"score (logit) of class {name}", "param": f"parameter {name}"}.get(kind, quantity)
    return called, "positive: the group holds it down"


def meaning(quantity: str) -> str:
    """The sentence that every table begins with."""
    name, sign = phrase(quantity)
    return f"Change of the {name} if the group is removed; {sign}"


def influence_table(result: InfluenceResult) -> tuple[dict[str, Any], Layout]:
    evaluated = {
        "linear": "estimates: gradient of f times the change of the parameters",
        "exact": "estimates: f at the changed parameters minus f now",
    }
    headings = {"group": "group", "size": "rows", "fraction": "share", "test": "test", "base": f"{result.quantity} now"}
    for method in result.values:
        headings[method] = method
        if method in result.errors:
            headings["error" if method == REFINED else f"{method}_error"] = "may be off by"
    if result.low is not None:
        headings |= {"low": "proven from", "high": "to"}
    if result.actual is not None:
        headings["actual"] = "retrained"
    if any(state != "ok" for state in result.statuses()):
        headings["status"] = "status"
    return result.columns(), Layout(meaning(result.quantity), evaluated[result.evaluate], headings)


def diagnostics_table(columns: dict[str, Any]) -> tuple[dict[str, Any], Layout]:
    """The groups of the largest Cook's distance, those without one first."""
    distance = np.asarray(columns["cooks_distance"])
    order = np.argsort(np.where(np.isnan(distance), -np.inf, -distance), kind="stable")
    title = "Training rows by Cook's distance: how far all estimates move without them"
    if len(order) > SHOWN:
        title += f" (the largest {SHOWN} of {len(order):,}; all of them: --format csv)"
    headings = {"group": "group", "size": "rows", "leverage": "leverage", "cooks_distance": "Cook's distance"}
    headings |= {"studentized": "studentised residual", "dffits": "DFFITS"}
    if any(state != "ok" for state in columns["status"]):
        headings["status"] = "status"
    shown = {key: [columns[key][at] for at in order[:SHOWN].tolist()] for key in headings}
    return shown, Layout(title, "DFFITS: fitted values of all rows minus without the row", headings)


def truth_table(result: TruthResult) -> tuple[dict[str, Any], Layout]:
    headings = {"group": "group", "size": "rows", "fraction": "share", "test": "test", "base": f"{result.quantity} now"}
    headings |= {"actual": "actual change"}
    if result.low is not None:
        headings |= {"low": "proven from", "high": "to"}
    if result.repeats is not None:
        headings["spread"] = "spread"
    headings |= {"grad_norm": "gradient norm", "iterations": "iterations"}
    if any(state != "ok" for state in result.status):
        headings["status"] = "status"
    return result.columns(), Layout(meaning(result.quantity), _measured(result), headings)


def _measured(result: TruthResult) -> str:
    """How the truth was made; of the strategies only those that the model's form does not make one."""
    config = result.provenance.config
    how = {
        "proximal": "measured: minimum of the proximal objective without each group, which estimates approximate",
        "cold": "measured: retrained without each group, from where training began",
    }.get(config.get("retrain", "cold" if config.get("cold") else ""), "measured: retrained without each group")
    if result.repeats is None:
        return how
    return f"{how}; actual change: mean of {len(result.repeats)} seeds, spread: their standard deviation"
