"""Text in a frame with a title, for the help of commands."""

from __future__ import annotations

import sys
from io import StringIO

from rich.box import ASCII, ROUNDED
from rich.console import Console
from rich.panel import Panel
from rich.text import Text

SIDES = 4
"""Columns that the sides of a frame take."""


def framed(title: str, text: str, width: int) -> str:
    """The text in a frame of that many columns, drawn with ASCII where standard output takes nothing else."""
    can_draw = (getattr(sys.stdout, "encoding", None) or "").lower().startswith("utf")
    drawn = StringIO()
    panel = Panel(Text(text), box=ROUNDED if can_draw else ASCII, title=title, title_align="left")
    Console(file=drawn, width=width, color_system=None).print(panel)
    return drawn.getvalue()
