"""``ginf compare``: estimates beside the truth."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

import typer

from influence_cli.commands.options import MANY, OUTPUT, Common, Format, Plot, Written, command

FIGURES = ("auto", "scatter", "curve")


@command
def compare(
    files: Annotated[
        list[str],
        typer.Argument(metavar="FILE...", help="Files of ginf influence and ginf groundtruth, in any order."),
    ],
    common: Common,
    bootstrap: Annotated[
        int,
        typer.Option("--bootstrap", min=0, max=MANY, help="Resamples of the groups behind the 95% intervals; 0: none."),
    ] = 1000,
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
    format: Format = "auto",
) -> int:
    """Say how well the estimates agree with the truth: correlation, slope and error of each method.

    One record for each method, kind and size of groups: for every test row, and with all of them pooled (test is null).
    Pooled, the correlation is the mean over the test rows.  The last records pool all kinds and sizes as well.

    Example: ginf compare influence.h5 truth.h5 --against first
    """
    from influence_cli.analysis.compare import Settings, pooled_record
    from influence_cli.analysis.compare import compare as judge
    from influence_cli.analysis.matching import match
    from influence_cli.artifacts.results import load_result, same_origin
    from influence_cli.commands import output
    from influence_cli.errors import ExitCode, UsageError
    from influence_cli.present.agreement import agreement_table, draw
    from influence_cli.present.plots import check_plot

    output.check_format(format)
    output.check_choice("--figure", figure, FIGURES)
    limits = parse_limits(fail_under)
    if against is not None and bootstrap == 0:
        raise UsageError("--against needs resamples to tell a gain from chance", hint="leave --bootstrap 0 out")
    if plot is None and figure != "auto":
        raise UsageError(f"--figure {figure} needs a file to draw into", hint="for example --plot agreement.png")
    if plot is not None:
        ending = check_plot(plot)
        output.check_outputs({"--plot": plot}, files, force=common.force)
    loaded = [(name, load_result(name)) for name in files]
    for name, result in loaded[1:]:
        same_origin(loaded[0][1].provenance, result.provenance, files[0], name)
    matched = match(loaded)
    for option, methods in (("--against", [against] if against else []), ("--fail-under", list(limits))):
        for method in methods:
            if method not in matched.methods:
                raise UsageError(
                    f"{option} {method}: the files hold no estimates by that method",
                    hint="they hold " + ", ".join(matched.methods),
                )
    for sentence in matched.notes:
        common.note(sentence)
    with common.limited_threads():
        records = judge(matched, Settings(bootstrap, common.seed, against))
    if plot is not None:
        output.save_picture(plot, draw(matched, records, figure, ending), common)
    output.emit(records.columns(), lambda: agreement_table(matched, records), Written(format), common)
    check_limits({method: pooled_record(records, method) for method in limits}, limits)
    return ExitCode.OK


def parse_limits(text: str | None) -> dict[str, float]:
    """``second=0.9,first=0.8`` to a dictionary.  Raises UsageError where it is not that."""
    from influence_cli.errors import UsageError

    limits: dict[str, float] = {}
    for part in text.split(",") if text is not None else ():
        method, _, number = (piece.strip() for piece in part.partition("="))
        try:
            limit = float(number)
        except ValueError:
            limit = float("nan")
        if not method or not -1 <= limit <= 1:
            raise UsageError(
                f"--fail-under {text}: expected METHOD=R with R from -1 to 1, found {part.strip()!r}",
                hint="for example --fail-under second=0.9,first=0.8",
            )
        if method in limits:
            raise UsageError(f"--fail-under {text}: {method} is given twice")
        limits[method] = limit
    return limits


def check_limits(pooled: Mapping[str, Mapping[str, Any]], limits: Mapping[str, float]) -> None:
    """Raises CheckFailedError with every method whose pooled correlation is below its limit, or has no value."""
    from influence_cli.errors import CheckFailedError

    failures = []
    for method, limit in limits.items():
        pearson = pooled[method]["pearson"]
        if pearson is None:
            failures.append(f"{method} has no correlation ({pooled[method]['status']}), expected at least {limit:g}")
        elif pearson < limit:
            failures.append(f"{method} has {pearson:.6g}, expected at least {limit:g}")
    if failures:
        raise CheckFailedError("correlation over all groups (--fail-under): " + "; ".join(failures))
