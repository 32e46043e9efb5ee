"""Bring the tables of docs/format.md up to the schema: ``python tests/write_format.py``."""

from __future__ import annotations

import re
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent
DOCUMENT = ROOT / "docs" / "format.md"


def written(text: str) -> str:
    """The document with the tables of today's schema."""
    from influence_cli.artifacts.schema import documentation

    head, *parts = re.split(r"(?m)^(## .*)$", text)
    out = [head]
    for title, body in zip(parts[::2], parts[1::2], strict=True):
        named = re.search(r"`(\w+)`", title)
        kind = "header" if named is None else named[1]
        body = re.sub(r"(?m)^Keys of `@.*\n", "", body)
        body = re.sub(r"(?ms)^\| path.*?(?=^[^|]|\Z)", lambda _, kind=kind: documentation(kind), body)
        out += [title, re.sub(r"\n{3,}", "\n\n", body)]
    return "".join(out).rstrip() + "\n"


if __name__ == "__main__":
    sys.path.insert(0, str(ROOT))
    DOCUMENT.write_text(written(DOCUMENT.read_text(encoding="utf-8")), encoding="utf-8")
