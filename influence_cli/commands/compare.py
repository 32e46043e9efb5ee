"""``ginf compare``: estimates compared with the truth."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

import typer

from influence_cli.commands.bundles import command
from influence_cli.commands.options import MANY, OUTPUT, WORDS, Common, Plot, Written

if TYPE_CHECKING:
    from influence_cli.tabular import Records

CHECKS = "Checks"
FIGURES = WORDS["compare --figure"]


@command
def compare(
    files: Annotated[
        list[str],
        typer.Argument(
            metavar="FILE",
            help="Files of ginf influence and ginf groundtruth, in any order; one of influence --verify is enough.",
        ),
    ],
    written: Written,
    common: Common,
    bootstrap: Annotated[
        int,
        typer.Option("--bootstrap", min=0, max=MANY, help="Resamples of the groups behind the 95% intervals; 0: none."),
    ] = 1000,
    resample: Annotated[
        str,
        typer.Option(
            "--resample",
            help="groups: the intervals say what other groups would give, for the same test rows.  groups-tests: other"
            " test rows as well, in the figures over all of them.",
        ),
    ] = "groups",
    against: Annotated[
        str | None,
        typer.Option(
            "--against",
            metavar="METHOD",
            help="Hold every method against this one: the difference of the correlations with its interval (paired"
            " bootstrap).  Only an interval above 0 is called a gain.",
        ),
    ] = None,
    fail_under: Annotated[
        str | None,
        typer.Option(
            "--fail-under",
            metavar="METHOD=R,...",
            help="Exit code 5 if a method's correlation over all groups is below R: second=0.9,first=0.8.",
            rich_help_panel=CHECKS,
        ),
    ] = None,
    fail_error: Annotated[
        str | None,
        typer.Option(
            "--fail-error",
            metavar="[METHOD=]REL,...",
            help="Exit code 5 if a method's error over all groups is above REL: 10%, or second=20%,newton=5%.",
            rich_help_panel=CHECKS,
        ),
    ] = None,
    fail_slope: Annotated[
        str | None,
        typer.Option(
            "--fail-slope",
            metavar="[METHOD=]LOW..HIGH,...",
            help="Exit code 5 if a method's slope over all groups lies outside of LOW..HIGH: 0.9..1.1.",
            rich_help_panel=CHECKS,
        ),
    ] = None,
    plot: Plot = None,
    figure: Annotated[
        str,
        typer.Option(
            "--figure",
            help="scatter: actual against estimated change, a panel a size.  curve: correlation against group size, a"
            " panel a kind.  auto: curve from 4 sizes of a kind on.",
            rich_help_panel=OUTPUT,
        ),
    ] = "auto",
    log: Annotated[
        bool,
        typer.Option(
            "--log", help="With --plot: a curve of 1 - correlation on a logarithmic axis.", rich_help_panel=OUTPUT
        ),
    ] = False,
) -> int:
    """Say how well the estimates agree with the truth: correlation, slope and error of each method.

    One record for each method, kind and size of groups: for every test row, and with all of them pooled (test is null).
    Pooled, the correlation is the mean over the test rows.  The last records pool all kinds and sizes as well.

    Example: ginf compare influence.h5 truth.h5 --against first
    """
    from influence_cli.analysis.compare import GROUPS, RESAMPLED, Settings, compare_each
    from influence_cli.analysis.matching import match_each
    from influence_cli.artifacts.results import load_result, same_origin
    from influence_cli.commands import existing, output
    from influence_cli.errors import ExitCode, UsageError
    from influence_cli.present.agreement import agreement_page, draw
    from influence_cli.present.plots import check_plot

    output.check_written(written, artifact=False)
    output.check_choice("--figure", figure, FIGURES)
    output.check_choice("--resample", resample, RESAMPLED)
    limits = [
        *parse_limits("--fail-under", fail_under),
        *parse_limits("--fail-error", fail_error),
        *parse_limits("--fail-slope", fail_slope),
    ]
    if against is not None and bootstrap == 0:
        raise UsageError("--against needs resamples to tell a gain from chance", hint="leave --bootstrap 0 out")
    if resample != GROUPS and bootstrap == 0:
        raise UsageError(f"--resample {resample} needs resamples", hint="leave --bootstrap 0 out")
    if log and (plot is None or figure == "scatter"):
        raise UsageError("--log is for the curve of --plot", hint="for example --figure curve --plot curve.png --log")
    if plot is None and figure != "auto":
        raise UsageError(f"--figure {figure} needs a file to draw into", hint="for example --plot agreement.png")
    if plot is not None:
        ending = check_plot(plot)
    existing.check_outputs(common, {"-o": written.output, "--plot": plot}, files)
    loaded = [(name, load_result(name)) for name in files]
    for name, result in loaded[1:]:
        same_origin(loaded[0][1].provenance, result.provenance, files[0], name)
    matched, *others = each = match_each(loaded)
    if others and plot is not None:
        raise UsageError(
            f"--plot draws one quantity, and the files hold {len(each)}", hint="leave --plot out, or ask for one"
        )
    asked = [("--against", against), *((limit.option, limit.method) for limit in limits)]
    for option, method in asked:
        if method is not None and method not in matched.methods:
            raise UsageError(
                f"{option} {method}: the files hold no estimates by that method",
                hint="they hold " + ", ".join(matched.methods),
            )
    for sentence in dict.fromkeys(sentence for agreement in each for sentence in agreement.notes):
        common.note(sentence)
    with common.limited_threads():
        records = compare_each(each, Settings(bootstrap, common.seed, against, resample))
    if plot is not None:
        output.save_picture(plot, draw(matched, records, "curve" if log else figure, ending, from_one=log), common)
    view = output.view_of(written, common)
    output.emit(output.Answer(records.columns(), lambda: agreement_page(each, records, view)), written, common)
    check_limits(records, matched.methods, limits)
    return ExitCode.OK


@dataclass(frozen=True)
class Limit:
    """A requested check: the figure of a method (the headline's if None) must lie between low and high."""

    option: str
    method: str | None
    low: float
    high: float


_CHECKS = {
    "--fail-under": ("pearson", "correlation", "R from -1 to 1", "second=0.9,first=0.8"),
    "--fail-error": ("relative_error", "relative error", "a share such as 10% or 0.1", "10%"),
    "--fail-slope": ("slope", "slope", "LOW..HIGH", "0.9..1.1"),
}
"""By option: the key of a record, its name, the form of its limit, and an example."""


def parse_limits(option: str, text: str | None) -> list[Limit]:
    """``second=0.9,first=0.8`` as limits.  Raises UsageError if the text has another form."""
    from influence_cli.errors import UsageError

    limits: list[Limit] = []
    for part in text.split(",") if text is not None else ():
        name, equals, number = (piece.strip() for piece in part.rpartition("="))
        bounds = _bounds(option, number)
        if bounds is None or (equals and not name) or (option == "--fail-under" and not name):
            form = "METHOD=R with R from -1 to 1" if option == "--fail-under" else _CHECKS[option][2]
            raise UsageError(
                f"{option} {text}: expected {form}, found {part.strip()!r}",
                hint=f"for example {option} {_CHECKS[option][3]}",
            )
        if any(limit.method == (name or None) for limit in limits):
            raise UsageError(f"{option} {text}: {name or 'a limit for the headline method'} is given twice")
        limits.append(Limit(option, name or None, *bounds))
    return limits


def _bounds(option: str, text: str) -> tuple[float, float] | None:
    """The range in which the figure may lie, None if the text is not a limit."""
    from math import inf

    from influence_cli.errors import UsageError
    from influence_cli.specs.relative import parse_relative

    try:
        if option == "--fail-error":
            return 0.0, parse_relative(text, option)
        if option == "--fail-slope":
            low, dots, high = text.partition("..")
            bounds = float(low or -inf), float(high or inf)
            return bounds if dots and bounds[0] <= bounds[1] and (low or high) else None
        return (float(text), inf) if -1 <= float(text) <= 1 else None
    except (ValueError, UsageError):
        return None


def check_limits(records: Records, methods: Sequence[str], limits: Sequence[Limit]) -> None:
    """Raises CheckFailedError with every method whose figure over all groups violates its limit or has no value."""
    from influence_cli.analysis.compare import pooled_records
    from influence_cli.errors import CheckFailedError
    from influence_cli.present.changes import BEST_FIRST

    failures: dict[str, list[str]] = {}
    for limit in limits:
        method = limit.method or next((name for name in BEST_FIRST if name in methods), methods[0])
        key, name, _, _ = _CHECKS[limit.option]
        pooled = pooled_records(records, method)
        for record in pooled:
            value = record[key]
            wanted = _wanted(limit)
            who = method if len(pooled) == 1 else f"{method} of {record['quantity']}"
            if value is None:
                sentence = f"{who} has no {name} ({record['status']}), expected {wanted}"
            elif not limit.low <= value <= limit.high:
                sentence = f"{who} has {value:.6g}, expected {wanted}"
            else:
                continue
            failures.setdefault(limit.option, []).append(sentence)
    if failures:
        parts = [
            f"{_CHECKS[option][1]} over all groups ({option}): {'; '.join(sentences)}"
            for option, sentences in failures.items()
        ]
        raise CheckFailedError("; ".join(parts))


def _wanted(limit: Limit) -> str:
    if limit.option == "--fail-under":
        return f"at least {limit.low:g}"
    return f"at most {limit.high:g}" if limit.option == "--fail-error" else f"{limit.low:g} to {limit.high:g}"
