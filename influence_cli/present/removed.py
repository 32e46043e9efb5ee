"""Texts for ``--test removed``: each group's own rows, predicted by the model with them (in-sample) and without them.

Other pages show changes; here the reader wants f itself: how well the model predicts rows that it was not trained on.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from influence_cli.present.words import change_text, counted, figure, meaning_of

IN_SAMPLE = "in-sample"


def removed_title(quantity: str) -> str:
    """The title of the page."""
    name = meaning_of(quantity, removed=True).name
    what = name if "score:" in quantity else f"mean {name}"
    return f"{what[0].upper()}{what[1:]}: by the model with them, and without the group"


def without_text(record: Mapping[str, Any], key: str) -> str:
    """f without the group: f before removal plus the change; in words where there is none."""
    if record[key] is None or record["base"] is None:
        return change_text(None, record["status"])
    return figure(record["base"] + record[key])


def pooled(quantity: str, columns: Mapping[str, Any], keys: Mapping[str, str]) -> str:
    """The mean over all rows of all groups, or for a score over the groups, as a sentence; ``keys`` are the changes."""
    base = _numbers(columns["base"])
    columns_pooled = {IN_SAMPLE: base} | {name: base + _numbers(columns[key]) for key, name in keys.items()}
    known = np.all([np.isfinite(values) for values in columns_pooled.values()], axis=0)
    if not known.any():
        return ""
    sizes, score = _numbers(columns["size"]), "score:" in quantity
    weights = np.where(known, 1.0 if score else sizes, 0.0)
    means = [
        f"{name} {figure(float(np.average(np.where(known, values, 0.0), weights=weights)))}"
        for name, values in columns_pooled.items()
    ]
    over = counted(int(known.sum()), "group")
    over = over if score else f"{counted(int(sizes[known].sum()), 'row')} of {over}"
    left = "" if known.all() else f" ({counted(int((~known).sum()), 'group')} without a figure left out)"
    return f"mean over {over}{left}: {', '.join(means)}"


def _numbers(values: Sequence[Any]) -> np.ndarray:
    return np.array([np.nan if value is None else value for value in values], dtype=float)
