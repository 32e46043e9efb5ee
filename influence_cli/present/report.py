"""The report: one page that can be handed over, as HTML or as Markdown."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from influence_cli.errors import UsageError
from influence_cli.present.tables import Block, printable

FORMS = {".html": "report.html.j2", ".md": "report.md.j2"}
"""Endings of a report's file, and their templates."""
LONG_WORD = 24
"""Characters of the longest word that is never broken on a page wide enough for a table."""
TEXT_BAR = 12
"""Characters of the longest bar in Markdown."""


@dataclass(frozen=True)
class Bar:
    """A change on a line from 0 to 1000, where ``zero`` is no change: drawn from ``start``, ``width`` long.

    ``low`` and ``high`` are the ends of the range of its error, ``truth`` is the change by retraining; None if unknown.
    """

    zero: float
    start: float
    width: float
    raised: bool
    text: str
    low: float | None = None
    high: float | None = None
    truth: float | None = None

    @property
    def blocks(self) -> str:
        """The bar in characters."""
        length = round(TEXT_BAR * self.width / 1000) or (1 if self.width > 0 else 0)
        return ("+" if self.raised else "-") + "█" * length if length else ""


@dataclass(frozen=True)
class Cell:
    """A text, the number that it is sorted by if there is one, and a picture of it."""

    text: str
    sort: float | None = None
    bar: Bar | None = None

    @property
    def is_long(self) -> bool:
        """Whether a word is too long for the width of a column, so that it must be broken at the column's end."""
        return max(map(len, self.text.split()), default=0) > LONG_WORD


@dataclass(frozen=True)
class Sheet:
    """A table of a report under its own title, with sentences above (``lead``) and below it."""

    title: str
    headings: tuple[str, ...]
    rows: Sequence[tuple[Cell, ...]]
    numbers: frozenset[int] = frozenset()
    lead: tuple[str, ...] = ()
    below: tuple[str, ...] = ()

    @property
    def headed(self) -> bool:
        """Whether the columns have names; a list of facts has none."""
        return any(self.headings)

    @property
    def drawn(self) -> bool:
        """Whether a column is a picture, which takes the remaining width of the page."""
        return any(cell.bar is not None for row in self.rows for cell in row)


@dataclass(frozen=True)
class Section:
    """A part of a report: sentences, tables, terms with their meanings, and commands."""

    title: str
    sentences: tuple[str, ...] = ()
    sheets: tuple[Sheet, ...] = ()
    terms: tuple[tuple[str, str], ...] = ()
    commands: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Report:
    """A whole report."""

    title: str
    sections: tuple[Section, ...]


def ending_of(path: str) -> str:
    """The ending of a report's file.  Raises UsageError if it is neither HTML nor Markdown."""
    ending = Path(path).suffix.lower()
    if ending in FORMS:
        return ending
    expected = f"expected the ending {' or '.join(FORMS)}, found {ending or 'none'}"
    raise UsageError(f"-o {path}: {expected}", hint="for example -o audit.html")


def sheet_of(block: Block) -> Sheet:
    """A block of another command's page as a table of a report."""
    rows = [tuple(Cell(text, _number(text)) for text in row) for row in block.rows]
    return Sheet(block.title, block.headings, rows, block.numbers, below=block.below)


def _number(text: str) -> float | None:
    """The number by which a cell is sorted, if the cell begins with one."""
    match = re.match(r"[-+]?\d[\d,]*(?:\.\d+)?(?:e[-+]?\d+)?(?=%|\s|$)", text.strip().removeprefix("* "))
    return None if match is None else float(match[0].replace(",", ""))


def render(report: Report, ending: str) -> str:
    """The text of a report's file, whose ``ending`` is one of FORMS.  All text from files is escaped."""
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("influence_cli.present"),
        autoescape=ending == ".html",
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters["shown"] = printable
    environment.filters["md"] = markdown
    return environment.get_template(FORMS[ending]).render(report=report)


def markdown(text: str) -> str:
    """Text in which no character is markup in Markdown or HTML."""
    return re.sub(r"([\\`*_\[\]<>|~&#])", r"\\\1", printable(text))


GLOSSARY = (
    ("change", "the figure after the group's rows are removed minus the figure now; every change here has this sign"),
    ("helped, hurt", "the prediction is worse, or better, without the group"),
    ("held it up, held it down", "the figure falls, or rises, without the group"),
    ("estimate", "the change computed without retraining, from the curvature of the training objective"),
    ("refined", "an estimate that is improved until its own estimated error is within the tolerance asked for"),
    ("±", "an estimate of how far the figure may be off; it is no proven bound"),
    ("proven from, to", "bounds between which the change lies for certain"),
    ("retrained", "the change measured by training the model again without the group"),
    ("difference", "the estimate minus the change by retraining; in brackets as a share of the latter"),
    ("unbounded", "without the group the training has no minimum, and the figure no finite value"),
    ("share", "the group's rows as a share of all training rows"),
    ("loss", "how badly the model predicts a row: smaller is better"),
    ("margin", "the log-odds of the true class against its strongest rival: larger is better"),
    ("refit, frozen", "means, scales and categories are made again without the group, or stay as they were"),
    (
        "removal convention",
        "per-mean keeps the penalty beside the mean loss of the rows left, per-sum beside their sum",
    ),
    ("base rate", "the accuracy of always naming the most frequent class"),
    ("correlation, slope, error", "how well estimates follow retraining: 1, 1 and 0 are ideal"),
    ("digest", "a fingerprint (SHA-256): the same digest means the same data, or the same model"),
)
"""What the words of a report mean."""
