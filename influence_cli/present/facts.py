"""What a result was computed from, shown above the result itself."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from influence_cli.present.tables import Block, Page
from influence_cli.results import Provenance

SHOWN_DIGITS = 12


def with_facts(title: str, page: Page, provenance: Provenance) -> Page:
    """The page of a result, preceded by what its file says about its origin."""
    rows = [
        (key.replace("_", " "), _text(value)) for key, value in provenance.config.items() if value not in (None, [])
    ]
    rows.append(("data digest", provenance.data_digest[:SHOWN_DIGITS]))
    rows.append(("model digest", provenance.model_digest[:SHOWN_DIGITS]))
    facts = Block("Made with", ("", ""), rows)
    first, *others = page.blocks or (Block("", ("",), ()),)
    named = replace(first, title=f"{page.title}. {first.title}" if first.title else page.title)
    return Page(title, (facts, named, *others), page.legend)


def _text(value: Any) -> str:
    if isinstance(value, list):
        return ", ".join(map(str, value))
    return {True: "yes", False: "no"}[value] if isinstance(value, bool) else str(value).replace("\n", ", ")
