"""The options of ``ginf select``, and the checks that need nothing else."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

import typer

from influence_cli.commands.options import MANY, OUTPUT, WORDS, Plot
from influence_cli.commands.select.sizes import curve_sizes, one_size

if TYPE_CHECKING:
    from influence_cli.specs.groups import GroupSpec, Size

SEARCH = "Search"
ROWS = "rows"
FIGURES = WORDS["select --figure"]


@dataclass(frozen=True)
class Sought:
    """What is searched for, and how."""

    size: Annotated[
        str | None,
        typer.Option(
            "--size",
            help="Rows in the group: a count or a percentage of the training rows; several with commas.  With"
            " --candidates the most groups in a union, with --flip the most rows to look for.",
        ),
    ] = None
    curve: Annotated[
        str | None,
        typer.Option(
            "--sizes",
            metavar="1%,2%,...,20%",
            help="A removal curve: the group of --strategy (greedy) at each size, against random groups of that size.",
            rich_help_panel=SEARCH,
        ),
    ] = None
    at_most: Annotated[
        bool,
        typer.Option(
            "--at-most",
            help="A group may have fewer rows than --size: the best by retraining of those found.",
            rich_help_panel=SEARCH,
        ),
    ] = False
    strategy: Annotated[
        str | None,
        typer.Option(
            "--strategy",
            help="Comma separated: random, greedy, pgd, relinearize, swap, exact; or all.",
            show_default="relinearize, followed by retrained exchanges where they are cheap; with --candidates"
            " greedy,swap",
            rich_help_panel=SEARCH,
        ),
    ] = None
    direction: Annotated[str, typer.Option("--direction", help="Change that is looked for: increase or decrease.")] = (
        "increase"
    )
    verify: Annotated[bool, typer.Option("--verify", help="Retrain without every group found: fills actual.")] = False
    certify: Annotated[
        str | None,
        typer.Option(
            "--certify",
            metavar="REL",
            help="Prove what retraining found: an interval of every change, low and high, narrower than this share of"
            " it; whether the best group is proven to be the best of those compared, and a flip to be one.",
            rich_help_panel=SEARCH,
        ),
    ] = None
    flip: Annotated[
        bool,
        typer.Option(
            "--flip",
            help="The smallest group whose removal changes the predicted class (with --quantity: its sign), retrained.",
        ),
    ] = False
    flip_of: Annotated[
        str | None,
        typer.Option(
            "--flip-of",
            help="What of --quantity param:NAME or t:NAME is to flip: its sign, or its significance at 5%.",
            show_default="sign",
            rich_help_panel=SEARCH,
        ),
    ] = None
    within: Annotated[
        list[str] | None,
        typer.Option(
            "--within",
            metavar="SPEC",
            help="Only rows of this group may be removed (repeatable: of any).",
            rich_help_panel=SEARCH,
        ),
    ] = None
    candidates: Annotated[
        list[str] | None,
        typer.Option(
            "--candidates",
            metavar="SPEC",
            help="Rank these groups instead of rows, and find the best union of at most --size of them (repeatable).",
        ),
    ] = None
    describe: Annotated[
        int | None,
        typer.Option(
            "--describe",
            metavar="DEPTH",
            min=1,
            help="Causes in words: the groups of up to DEPTH conditions on columns (sex=f,age=60..75) that change the"
            " quantity most for their size; --top of them (10).",
            rich_help_panel=SEARCH,
        ),
    ] = None
    support: Annotated[
        str | None,
        typer.Option(
            "--support",
            help="Rows that a group of --describe has at least: a count or a percentage.",
            show_default="5%",
            rich_help_panel=SEARCH,
        ),
    ] = None
    columns: Annotated[
        str | None,
        typer.Option(
            "--columns",
            metavar="NAME[:BINS],...",
            help="Columns that --describe may use.",
            show_default="all but the label and --id",
            rich_help_panel=SEARCH,
        ),
    ] = None
    draws: Annotated[
        int | None,
        typer.Option(
            "--draws",
            min=1,
            max=MANY,
            help="Random groups of --strategy random, or at each of --sizes.",
            show_default="100; with --sizes 10",
            rich_help_panel=SEARCH,
        ),
    ] = None
    constraint: Annotated[
        str,
        typer.Option(
            "--constraint",
            help="Of pgd.  l1: sum |w| <= k, the paper's relaxation.  capped: 0 <= w <= 1 and sum w <= k.",
            rich_help_panel=SEARCH,
        ),
    ] = "l1"
    merit: Annotated[
        str,
        typer.Option(
            "--merit",
            help="What swap judges by: second, newton or retrained.  auto: retrained where that is cheap, else newton.",
            rich_help_panel=SEARCH,
        ),
    ] = "auto"
    rounds: Annotated[
        int,
        typer.Option(
            "--rounds", min=1, max=MANY, help="Rounds of pgd, relinearize or swap at most.", rich_help_panel=SEARCH
        ),
    ] = 50

    def sizes(self) -> tuple[Size, ...]:
        """The sizes of ``--size`` or ``--sizes``, empty without these.  Raises UsageError."""
        if self.curve is not None:
            return curve_sizes(self.curve)
        return tuple(one_size(text) for text in self.size.split(",")) if self.size is not None else ()

    @property
    def share(self) -> float | None:
        """The number of ``--certify``.  Raises UsageError if it is none."""
        from influence_cli.specs.relative import parse_relative

        return None if self.certify is None else parse_relative(self.certify, "--certify")

    def least(self, m: int) -> int:
        """The number of rows of ``--support`` among m.  Raises UsageError."""
        from influence_cli.analysis.causes import USUAL_SUPPORT

        return max(1, one_size(self.support or USUAL_SUPPORT, "--support").of(m))

    def specs(self) -> list[GroupSpec]:
        """The groups of ``--within`` and ``--candidates``.  Raises UsageError."""
        from influence_cli.specs.groups import parse_group

        return [parse_group(text) for text in (*(self.within or ()), *(self.candidates or ()))]

    def strategies(self) -> tuple[str, ...]:
        """The strategies in the order in which they run.  Raises UsageError."""
        from influence_cli.analysis.curve import STRATEGY as CURVE
        from influence_cli.analysis.searches import check_strategies

        default = "greedy,swap" if self.candidates else "relinearize" if self.curve is None else CURVE
        names = [name.strip() for name in (self.strategy or default).split(",")]
        return check_strategies(names, of_groups=bool(self.candidates))


@dataclass(frozen=True)
class Drawn:
    """The picture."""

    plot: Plot = None
    figure: Annotated[
        str,
        typer.Option(
            "--figure",
            help="sizes: influence against group size, a line a strategy.  rows: the most influential images beside the"
            " test row.  auto: rows for one size of images, else sizes.",
            rich_help_panel=OUTPUT,
        ),
    ] = "auto"
