"""One figure explained in words: its terms, and the rows of the group that matter most."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from influence_cli.present.records import plain
from influence_cli.present.tables import Block, Page
from influence_cli.present.words import change_text, figure, meaning_of, share

MEANINGS = {
    "rows": "each row of the group by itself",
    "weights": "the rows that stay count for more",
    "curvature": "the group takes its curvature with it",
    "beyond": "what second order leaves out",
    "refined": "together",
    "interplay": "beyond the sum of the rows one at a time",
    "row": "this row alone",
}


def explanation_page(
    columns: Mapping[str, Any], group: str, size: int, quantity: str, asked: str, before: float, error: float
) -> Page:
    """The records with what each part means, under a sentence that says what the group does."""
    records = [dict(zip(columns, row, strict=True)) for row in zip(*map(plain, columns.values()), strict=True)]
    refined = next(record["change"] for record in records if record["part"] == "refined")
    moved = "rise" if refined > 0 else "fall"
    title = (
        f"Without {group} ({size:,} row{'s' if size != 1 else ''}) the {meaning_of(quantity).name} of {asked} would"
        f" {moved} by {abs(refined):.4g}, from {before:.4g} to {before + refined:.4g}; this may be off by {error:.2g}"
    )
    named = [key for key in ("record", "id") if any(record[key] is not None for record in records)]
    terms = [record for record in records if record["part"] != "row"]
    rows = [record for record in records if record["part"] == "row"]
    blocks = [
        Block(
            "",
            ("part", "meaning", "change"),
            [(record["part"], MEANINGS[record["part"]], change_text(record["change"])) for record in terms],
            frozenset({2}),
        )
    ]
    if rows:
        cells = [_cells(record, tuple(_text(record[key]) for key in ("row", *named, "true"))) for record in rows]
        numbers = frozenset({len(named) + 2, len(named) + 3})
        blocks.append(
            Block("Rows that matter most, each alone", ("row", *named, "true", "change", "share"), cells, numbers)
        )
    legend: tuple[str, ...] = ("rows to beyond add up to refined; interplay is refined less the sum of all rows alone",)
    if rows:
        legend += ("share: of the sizes of the changes of all rows of the group, each alone",)
    return Page(title, tuple(blocks), legend)


def _cells(record: Mapping[str, Any], first: tuple[str, ...]) -> tuple[str, ...]:
    return (*first, change_text(record["change"]), share(record["share"]))


def _text(value: Any) -> str:
    return figure(value) if isinstance(value, float) else "-" if value is None else str(value)
