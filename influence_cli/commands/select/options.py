"""The options of ``ginf select``, and what can be refused of them at once."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

import typer

from influence_cli.commands.options import MANY, OUTPUT, STRATEGIES, Plot, Written, completing

if TYPE_CHECKING:
    from influence_cli.specs.groups import GroupSpec, Size

SEARCH = "Search"
ROWS = "rows"
FIGURES = ("auto", "sizes", "rows")


@dataclass(frozen=True)
class Sought:
    """What is looked for, and how."""

    size: Annotated[
        str | None,
        typer.Option(
            "--size",
            help="Rows in the group: a count or a percentage of the training rows; several with commas.  With"
            " --candidates the most groups in a union, with --flip the most rows to look for.",
        ),
    ] = None
    at_most: Annotated[
        bool, typer.Option("--at-most", help="A group may have fewer rows than --size: the best of them, retrained.")
    ] = False
    strategy: Annotated[
        str | None,
        typer.Option(
            "--strategy",
            autocompletion=completing(*STRATEGIES),
            help="Comma separated: random, greedy, pgd, relinearize, swap, exact; or all.  [default: relinearize,"
            " followed by retrained exchanges where they are cheap; with --candidates greedy,swap]",
        ),
    ] = None
    direction: Annotated[
        str, typer.Option("--direction", help="increase or decrease: which change of the quantity is looked for.")
    ] = "increase"
    verify: Annotated[bool, typer.Option("--verify", help="Retrain without every group found: fills actual.")] = False
    flip: Annotated[
        bool,
        typer.Option(
            "--flip",
            help="The smallest group whose removal changes the predicted class (with --quantity: its sign), retrained.",
        ),
    ] = False
    within: Annotated[
        list[str] | None,
        typer.Option("--within", metavar="SPEC", help="Only rows of this group may be removed (repeatable: of any)."),
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
        ),
    ] = None
    support: Annotated[
        str | None,
        typer.Option("--support", help="Rows that a group of --describe has at least: a count or 5%.  [default: 5%]"),
    ] = None
    columns: Annotated[
        str | None,
        typer.Option("--columns", metavar="NAME[:BINS],...", help="Columns that --describe may use.  [default: all]"),
    ] = None
    draws: Annotated[
        int,
        typer.Option("--draws", min=1, max=MANY, help="Random groups of --strategy random.", rich_help_panel=SEARCH),
    ] = 100
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
        """The sizes of ``--size``, none without it.  Raises UsageError."""
        return tuple(_size(text) for text in self.size.split(",")) if self.size is not None else ()

    def least(self, m: int) -> int:
        """The rows of ``--support``, of m.  Raises UsageError."""
        from influence_cli.analysis.causes import USUAL_SUPPORT

        return max(1, _size(self.support or USUAL_SUPPORT, "--support").of(m))

    def specs(self) -> list[GroupSpec]:
        """The groups of ``--within`` and ``--candidates``.  Raises UsageError."""
        from influence_cli.specs.groups import parse_group

        return [parse_group(text) for text in (*(self.within or ()), *(self.candidates or ()))]

    def strategies(self) -> tuple[str, ...]:
        """The strategies in the order in which they run.  Raises UsageError."""
        from influence_cli.analysis.searches import check_strategies

        default = "greedy,swap" if self.candidates else "relinearize"
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


def check(sought: Sought, drawn: Drawn, written: Written, solver: str, *, asks_for_rows: bool, quantity: str) -> None:
    """Raises UsageError for whatever cannot be, before any work is done."""
    from influence_cli.commands import output, session
    from influence_cli.core.selection.evaluate import MERITS
    from influence_cli.core.selection.pgd import CONSTRAINTS
    from influence_cli.core.selection.problem import DIRECTIONS
    from influence_cli.errors import UsageError
    from influence_cli.present.changes import SORTS
    from influence_cli.present.plots import check_plot
    from influence_cli.present.records import FORMATS

    for option, value, choices in (
        ("--format", written.format, (*FORMATS, ROWS)),
        ("--sort", written.sort, SORTS),
        ("--direction", sought.direction, DIRECTIONS),
        ("--constraint", sought.constraint, CONSTRAINTS),
        ("--merit", sought.merit, MERITS),
        ("--figure", drawn.figure, FIGURES),
    ):
        output.check_choice(option, value, choices)
    session.check_solver(solver)
    output.check_ending(written.output, records=written.format != ROWS)
    strategies, sizes = sought.strategies(), sought.sizes()
    sought.specs()
    _check_described(sought, drawn)
    if sought.flip:
        _check_flip(sought, drawn, needs_tests=not asks_for_rows and not quantity.startswith("param:"))
    elif sought.describe is None and not sizes and not sought.candidates:
        raise UsageError("--size is needed: how many rows the group has", hint="for example --size 10% or --size 50")
    if sought.at_most and (sought.flip or sought.candidates):
        raise UsageError("--at-most is for --size of rows: --flip and --candidates look for fewer by themselves")
    if sought.candidates:
        _check_candidates(sought, drawn)
    if written.format == ROWS:
        _check_rows(sought, strategies)
    if drawn.plot is not None:
        check_plot(drawn.plot)
    elif drawn.figure != "auto":
        raise UsageError(f"--figure {drawn.figure} needs a file to draw into", hint="for example --plot selection.png")


def _size(text: str, option: str = "--size") -> Size:
    from influence_cli.errors import UsageError
    from influence_cli.specs.groups import parse_size

    try:
        size, times = parse_size(text.strip())
    except UsageError as error:
        raise UsageError(f"{option}: {error.message}", hint=f"for example {option} 10% or {option} 50") from None
    if times is not None:
        raise UsageError(f"{option} {text.strip()}: nothing is drawn several times", hint="random groups: --draws")
    return size


def check_sizes(sought: Sought, sizes: list[int], available: int, m: int) -> None:
    from influence_cli.errors import UsageError

    for size, count in zip(sought.sizes(), sizes, strict=True):
        shown = f"--size {size.text}" + (f" ({count:,} rows)" if size.percent is not None else "")
        if count < 1:
            raise UsageError(f"{shown}: the group is empty; expected at least one row")
        if count >= m:
            raise UsageError(f"{shown} leaves none of the {m:,} training rows", hint=f"a group has 1 to {m - 1:,} rows")
        if count > available:
            raise UsageError(f"{shown}: only {available:,} rows may be removed (--within)", hint="lower --size")
    if len(set(sizes)) < len(sizes):
        raise UsageError(f"--size {sought.size}: the same number of rows is asked for twice")


def _check_flip(sought: Sought, drawn: Drawn, *, needs_tests: bool) -> None:
    from influence_cli.errors import UsageError

    for given, option in (
        (sought.strategy is not None, "--strategy"),
        (bool(sought.candidates), "--candidates"),
        (sought.direction != "increase", "--direction"),
    ):
        if given:
            raise UsageError(f"--flip and {option} exclude each other: --flip searches by itself, towards the flip")
    if len(sought.sizes()) > 1:
        raise UsageError(f"--flip looks through all sizes up to one; --size {sought.size} gives {len(sought.sizes())}")
    if needs_tests:
        raise UsageError("--flip needs test rows", hint="for example --test 17 or --test misclassified:5")
    if drawn.plot is not None and drawn.figure == "sizes":
        raise UsageError("--flip finds one size: there is nothing to draw against sizes", hint="use --figure rows")


def _check_described(sought: Sought, drawn: Drawn) -> None:
    from influence_cli.core.selection.causes import DEEPEST
    from influence_cli.errors import UsageError

    if sought.describe is None:
        for option, given in (("--support", sought.support), ("--columns", sought.columns)):
            if given is not None:
                raise UsageError(f"{option} is for described groups", hint="add --describe 2")
        return
    for option, is_given, instead in (
        ("--size", sought.size is not None, "--support says how many rows a group has at least"),
        ("--strategy", sought.strategy is not None, "--describe searches by itself"),
        ("--flip", sought.flip, "ask for either"),
        ("--at-most", sought.at_most, "--support says how many rows a group has at least"),
        ("--within", bool(sought.within), "--columns says what groups are described by"),
        ("--candidates", bool(sought.candidates), "--describe makes the groups itself"),
        ("--plot", drawn.plot is not None, "leave --plot out"),
    ):
        if is_given:
            raise UsageError(f"--describe and {option} exclude each other", hint=instead)
    if sought.describe > DEEPEST:
        raise UsageError(f"--describe {sought.describe}: expected 1 to {DEEPEST} conditions")
    sought.least(1)


def _check_candidates(sought: Sought, drawn: Drawn) -> None:
    from influence_cli.errors import UsageError

    if len(sought.sizes()) > 1 or any(size.percent is not None for size in sought.sizes()):
        raise UsageError(
            f"--size {sought.size}: with --candidates it is the most groups in a union, one whole number",
            hint="for example --size 2",
        )
    if sought.within:
        raise UsageError("--within limits rows, and --candidates gives whole groups: use one of them")
    if drawn.plot is not None:
        raise UsageError("--plot draws rows and sizes, and --candidates has groups", hint="leave --plot out")


def _check_rows(sought: Sought, strategies: tuple[str, ...]) -> None:
    from influence_cli.errors import UsageError

    if len(sought.sizes()) > 1:
        raise UsageError(f"--format rows prints one group, and --size {sought.size} asks for {len(sought.sizes())}")
    named = [] if sought.flip else [name for name in strategies if name != "random"]
    if not sought.flip and not named:
        raise UsageError("--format rows prints one group, and random has many", hint="use --strategy relinearize")
    if len(named) > 1 and not sought.verify:
        raise UsageError(
            f"--format rows prints one group, and there are {len(named)} strategies",
            hint="name one --strategy, or add --verify to get the best by retraining",
        )
