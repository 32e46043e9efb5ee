"""docs/screens.md shows what the commands print: a part of it is recorded again, the whole by its script."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
NUMBER = re.compile(r"[-+]?\d[\d,]*\.?\d*(?:e[-+]?\d+)?%?")


def words(text: str) -> list[str]:
    """Without numbers, which differ in their last digit from one machine to the next."""
    return NUMBER.sub("#", text).split()


@pytest.mark.parametrize("width", [80])
def test_the_page_shows_what_is_printed(width, monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    monkeypatch.setenv("COLUMNS", "80")
    import screens

    text = screens.PAGE.read_text(encoding="utf-8")
    recorded = text.split(f"## Every command on wine, {width} columns\n")[1].split("\n## ")[0]
    again = "\n".join(screens.block(screens.EVERY_COMMAND["wine"], width))
    assert words(recorded) == words(again)
    sys.modules.pop("screens")


def test_no_line_of_a_table_is_wider_than_its_terminal():
    text = (ROOT / "docs" / "screens.md").read_text(encoding="utf-8")
    for width, part in re.findall(r"^## Every command on \w+, (\d+) columns\n(.*?)(?=^## |\Z)", text, re.M | re.S):
        printed = [line for line in part.splitlines() if not line.startswith(("$ ", "ginf: ", "hint: "))]
        assert max(map(len, printed)) <= int(width)
