"""Results for people to read: pages of blocks, printed on a terminal by Rich, or as Markdown and HTML.

Machine formats never pass through here (``records.py``).  Only what a person reads is rounded.
"""

from __future__ import annotations

import os
import re
import textwrap
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, TextIO

if TYPE_CHECKING:
    from rich.console import Console, JustifyMethod
    from rich.table import Table

LONGEST_WORD = 24
"""Characters up to which a word is not broken."""
LEAST_TEXT = 16
"""Smallest width of a column of names, in characters; on a narrower terminal figures are printed below names."""


@dataclass(frozen=True)
class Block:
    """Some rows of cells under a title.

    ``numbers`` are the columns that are aligned to the right; ``spare`` those that a narrow terminal omits, in that
    order.
    """

    title: str
    headings: tuple[str, ...]
    rows: Sequence[tuple[str, ...]]
    numbers: frozenset[int] = frozenset()
    below: tuple[str, ...] = ()
    spare: tuple[int, ...] = ()

    def without(self, column: int) -> Block:
        """The block without a column."""

        def kept(cells: tuple[str, ...]) -> tuple[str, ...]:
            return cells[:column] + cells[column + 1 :]

        numbers = frozenset(at - (at > column) for at in self.numbers if at != column)
        spare = tuple(at - (at > column) for at in self.spare if at != column)
        return replace(
            self, headings=kept(self.headings), rows=[kept(row) for row in self.rows], numbers=numbers, spare=spare
        )


@dataclass(frozen=True)
class Page:
    """A title in plain words, the blocks below it, and what the signs and words in them mean."""

    title: str
    blocks: tuple[Block, ...]
    legend: tuple[str, ...] = ()


def write_page(page: Page, form: str, stream: TextIO, *, color: bool) -> None:
    """Write a page as ``table`` (for a terminal, and no wider), ``md`` or ``html``."""
    if form == "md":
        stream.writelines(f"{line}\n" for line in _markdown(page))
    elif form == "html":
        # the page of a report, which also suits a telephone and paper
        from influence_cli.present.report import Report, Section, render, sheet_of

        section = Section("", sheets=tuple(map(sheet_of, page.blocks)), notes=page.legend)
        stream.write(render(Report(page.title, (section,)), ".html"))
    else:
        _print(page, console(stream, color))


def console(stream: TextIO, color: bool) -> Console:
    """A Rich console on that stream, in plain text if ``color`` is false or ``NO_COLOR`` is set and not empty."""
    from rich.console import Console

    plain = not color or bool(os.environ.get("NO_COLOR"))
    return Console(file=stream, color_system=None if plain else "auto", highlight=False, soft_wrap=False)


def printable(text: str) -> str:
    """Text without control characters, because a label may contain some that would control a terminal."""
    return "".join(char if char.isprintable() else ascii(char)[1:-1] for char in text)


PASTED = " --group "
"""Contained in lines with a command to paste: a line that is broken there would not run."""


def _print(page: Page, out: Console) -> None:
    from rich.text import Text

    out.print(Text(printable(page.title), style="bold"))
    missing: dict[str, None] = {}
    for block in page.blocks:
        out.print()
        if block.title:
            out.print(Text(printable(block.title)))
        fitted = _fitted(block, out.width)
        if fitted is None:
            for line in _stacked(block, out.width):
                out.print(Text(line))
        else:
            missing |= dict.fromkeys(heading for heading in block.headings if heading not in fitted.headings)
            out.print(_table(fitted, out.width))
        for line in block.below:
            out.print(Text(printable(line)), soft_wrap=PASTED in line)
    if page.legend:
        out.print()
    left = f"not shown in {out.width} columns: {', '.join(missing)}" if missing else ""
    for line in filter(None, (*page.legend, left)):
        out.print(Text(printable(line), style="dim italic"))


def _fitted(block: Block, width: int) -> Block | None:
    """The block without as many of its spare columns as necessary; None if that does not suffice."""
    while sum(_least_widths(block)) + 2 * (len(block.headings) - 1) > width:
        if not block.spare:
            return None
        block = block.without(block.spare[0])
    return block


def _table(block: Block, width: int) -> Table:
    from rich import box
    from rich.table import Table
    from rich.text import Text

    table = Table(
        box=box.SIMPLE_HEAD, pad_edge=False, collapse_padding=True, show_edge=False, show_header=any(block.headings)
    )
    widths = _widths(block, width)
    for at, (heading, own_width) in enumerate(zip(block.headings, widths, strict=True)):
        justify: JustifyMethod = "right" if at in block.numbers else "left"
        named = Text(_folded(printable(heading), own_width))
        table.add_column(named, justify=justify, overflow="fold", width=own_width)
    for row in block.rows:
        table.add_row(*(Text(_folded(printable(cell), size)) for cell, size in zip(row, widths, strict=True)))
    return table


def _folded(text: str, width: int) -> str:
    """The text with line breaks, if it is wider than ``width``: of several conditions after the comma between two of
    them, and within words that are wider than a line after one of their punctuation marks, if they have any."""
    if len(text) <= width:
        return text
    conditions = re.split(r"(?<=,)(?=[^,=\s][^,=]*=)", text)
    if len(conditions) > 1:
        return "\n".join(_folded(one, width) for one in conditions)
    if max(map(len, text.split()), default=0) <= width:
        return text
    lines = [""]
    for part in re.findall(r"[^-/_=:,.&+ ]*[-/_=:,.&+ ]|[^-/_=:,.&+ ]+", text):
        if lines[-1] and len(lines[-1]) + len(part.rstrip()) > width:
            lines.append("")
        lines[-1] += part
    return "\n".join(line.rstrip() for line in lines)


def _widths(block: Block, width: int) -> list[int]:
    """The width of each column: what it needs, and of the rest as much as it can use, the narrowest columns first.

    All widths are given to Rich, which would otherwise shrink columns, restore those with a least width, and crop the
    table.
    """
    widths = _least_widths(block)
    spare = width - sum(widths) - 2 * (len(widths) - 1)
    wanted = [
        max(len(printable(text)) for text in (heading, *(row[at] for row in block.rows)))
        for at, heading in enumerate(block.headings)
    ]
    for at in sorted(range(len(widths)), key=lambda at: wanted[at] - widths[at]):
        more = max(0, min(spare, wanted[at] - widths[at]))
        widths[at], spare = widths[at] + more, spare - more
    return widths


def _least_widths(block: Block) -> list[int]:
    """The least width of each column: a number is never broken, and a text may be folded beyond LEAST_TEXT
    characters."""
    widths = []
    for at, heading in enumerate(block.headings):
        cells = max((len(printable(row[at])) for row in block.rows), default=0)
        words = max(map(len, heading.split()), default=0)
        longest = max((len(word) for row in block.rows for word in printable(row[at]).split()), default=0)
        if at and at not in block.numbers:  # a few words may be stacked; names stay as whole as possible
            split = [printable(row[at]).split() for row in block.rows]
            if max(map(len, split), default=0) > 2:
                cells = max(2 * cells // 3, longest)
        least = min(LEAST_TEXT, max(cells, words))
        widths.append(max(cells, words) if at in block.numbers else max(least, min(longest, LONGEST_WORD)))
    return widths


def _stacked(block: Block, width: int) -> Iterator[str]:
    """Rows for a terminal that is too narrow for the columns: the first cell, and below it the others with headings."""
    yield from textwrap.wrap(printable(block.headings[0]), max(width, 2))
    for first, *others in block.rows:
        yield from textwrap.wrap(printable(first), max(width, 2))
        pairs = zip(block.headings[1:], others, strict=True)
        parts = [f"{heading} {printable(cell)}" for heading, cell in pairs if cell]
        yield from textwrap.wrap(", ".join(parts), max(width, 4), initial_indent="  ", subsequent_indent="  ")


def _markdown(page: Page) -> Iterator[str]:
    def plain(text: str) -> str:
        return printable(text).replace("\\", "\\\\").replace("|", "\\|").replace("<", "&lt;").replace("*", "\\*")

    yield f"**{plain(page.title)}**"
    for block in page.blocks:
        if block.title:
            yield from ("", plain(block.title))
        yield ""
        yield "| " + " | ".join(map(plain, block.headings)) + " |"
        yield "|" + "|".join("---:" if at in block.numbers else "---" for at in range(len(block.headings))) + "|"
        for row in block.rows:
            yield "| " + " | ".join(map(plain, row)) + " |"
        for line in block.below:
            yield from ("", plain(line))
    for line in page.legend:
        yield from ("", f"*{plain(line)}*")
