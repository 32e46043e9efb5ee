"""docs/recipes.md shows what the commands print, as benchmarks/recipes.py recorded it."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from test_screens import words

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="module")
def recipes():
    sys.path.insert(0, str(ROOT / "benchmarks"))
    import recipes

    yield recipes
    sys.path.remove(str(ROOT / "benchmarks"))
    for name in ("recipes", "screens"):
        sys.modules.pop(name)


def test_every_recipe_prints_what_the_page_shows(recipes, monkeypatch):
    pytest.importorskip("matplotlib")
    monkeypatch.setenv("COLUMNS", "80")
    text = recipes.PAGE.read_text(encoding="utf-8")
    assert text.count("\n## ") == len(recipes.RECIPES)
    for recipe in recipes.RECIPES:
        recorded = text.split(f"## {recipe.title}\n")[1].split("\n## ")[0]
        block = recorded.split("```text\n")[1].split("\n```")[0]
        again = "\n".join(recipes.recorded(recipe)).removeprefix("```text\n").removesuffix("\n```")
        assert words(block) == words(again), recipe.title
        assert max(len(line) for line in block.splitlines() if not line.startswith(("$", "ginf:"))) <= 80
