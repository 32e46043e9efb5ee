"""One figure explained in words: its terms, and the rows of the group that matter most."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from influence_cli.present.headings import phrase
from influence_cli.present.tables import Layout

MEANINGS = {
    "rows": "each row of the group by itself",
    "weights": "the rows that stay count for more",
    "curvature": "the group takes its curvature with it",
    "beyond": "what second order leaves out",
    "refined": "together",
    "interplay": "beyond the sum of the rows one at a time",
    "row": "this row alone",
}


def explanation_table(
    columns: Mapping[str, Any], group: str, size: int, quantity: str, asked: str, before: float, error: float
) -> tuple[dict[str, Any], Layout]:
    """The records with what each part means, under a sentence that says what the group does."""
    parts = list(columns["part"])
    refined = columns["change"][parts.index("refined")]
    name, _ = phrase(quantity)
    moved = "rise" if refined > 0 else "fall"
    shown = {**columns, "meaning": [MEANINGS[part] for part in parts]}
    headings = {"part": "part", "meaning": "meaning", "row": "row"}
    headings |= {key: key for key in ("record", "id") if any(value is not None for value in columns[key])}
    headings |= {"true": "true", "change": "change", "share": "share"}
    title = (
        f"Without {group} ({size:,} row{'s' if size != 1 else ''}) the {name} of {asked} would {moved} by"
        f" {abs(refined):.4g}, from {before:.4g} to {before + refined:.4g}; this may be off by {error:.2g}"
    )
    caption = "rows to beyond add up to refined; interplay is refined less the sum of all rows alone"
    return shown, Layout(title, caption, headings, breaks=(4, 6))
