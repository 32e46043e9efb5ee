"""The house rules that a reader feels first: no file is longer than one person holds in mind."""

from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "influence_cli"
MOST_LINES = 350


@pytest.mark.parametrize("path", sorted(PACKAGE.rglob("*.py")), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_a_file_is_one_thing(path):
    count = len(path.read_text(encoding="utf-8").splitlines())
    assert count <= MOST_LINES, f"{count} lines: split it by meaning"
