"""``ginf select``: the most influential group."""

from __future__ import annotations

from typing import Annotated

import typer

from influence_cli.commands.options import (
    Curvature,
    Damping,
    Force,
    Model,
    NoColor,
    Output,
    Quantity,
    Quiet,
    Seed,
    Solver,
    Test,
    Threads,
)

SEARCH = "Search"


def select(
    model: Model = None,
    test: Test = None,
    size: Annotated[
        str | None,
        typer.Option(
            "--size",
            help="Rows in the group: a count or a percentage of the training rows; several with commas.  With"
            " --candidates the most groups in a union, with --flip the most rows to look for.",
        ),
    ] = None,
    strategy: Annotated[
        str | None,
        typer.Option(
            "--strategy",
            help="Comma separated: random, greedy, pgd, relinearize, swap, exact; or all.  [default: relinearize; with"
            " --candidates greedy,swap]",
        ),
    ] = None,
    direction: Annotated[
        str, typer.Option("--direction", help="increase or decrease: which change of the quantity is looked for.")
    ] = "increase",
    quantity: Quantity = "loss",
    verify: Annotated[bool, typer.Option("--verify", help="Retrain without every group found: fills actual.")] = False,
    flip: Annotated[
        bool,
        typer.Option(
            "--flip",
            help="The smallest group whose removal changes the predicted class (with --quantity: its sign), retrained.",
        ),
    ] = False,
    within: Annotated[
        list[str] | None,
        typer.Option("--within", metavar="SPEC", help="Only rows of this group may be removed (repeatable: of any)."),
    ] = None,
    candidates: Annotated[
        list[str] | None,
        typer.Option(
            "--candidates",
            metavar="SPEC",
            help="Rank these groups instead of rows, and find the best union of at most --size of them (repeatable).",
        ),
    ] = None,
    draws: Annotated[
        int, typer.Option("--draws", min=1, help="Random groups of --strategy random.", rich_help_panel=SEARCH)
    ] = 100,
    constraint: Annotated[
        str,
        typer.Option(
            "--constraint",
            help="Of pgd.  l1: sum |w| <= k, the paper's relaxation.  capped: 0 <= w <= 1 and sum w <= k.",
            rich_help_panel=SEARCH,
        ),
    ] = "l1",
    merit: Annotated[
        str,
        typer.Option(
            "--merit",
            help="What swap judges by: second, newton or retrained.  auto: retrained where that is cheap, else newton.",
            rich_help_panel=SEARCH,
        ),
    ] = "auto",
    rounds: Annotated[
        int, typer.Option("--rounds", min=1, help="Rounds of pgd, relinearize or swap at most.", rich_help_panel=SEARCH)
    ] = 50,
    curvature: Curvature = None,
    damping: Damping = None,
    solver: Solver = "auto",
    format: Annotated[
        str,
        typer.Option(
            "--format",
            help="auto, table, json, ndjson, csv, or rows: the group's row numbers, one a line, for --group rows:@-.",
            rich_help_panel="Output",
        ),
    ] = "auto",
    output: Output = None,
    plot: Annotated[
        str | None,
        typer.Option(
            "--plot",
            metavar="FILE",
            help="Picture to write, .png, .svg or .pdf (needs Matplotlib, the extra plot of ginf).",
            rich_help_panel="Output",
        ),
    ] = None,
    figure: Annotated[
        str,
        typer.Option(
            "--figure",
            help="sizes: influence against group size, a line a strategy.  rows: the most influential images beside the"
            " test row.  auto: rows for one size of images, else sizes.",
            rich_help_panel="Output",
        ),
    ] = "auto",
    seed: Seed = 0,
    threads: Threads = None,
    quiet: Quiet = False,
    force: Force = False,
    no_color: NoColor = False,
) -> int:
    """Find the group of training rows whose removal changes a prediction most.

    Every figure is f(after removal) - f(before): a positive change of the loss means that the group helped.  actual is
    the change by retraining (--verify) and empty without.

    Example: ginf select --test 17 --size 10% --strategy greedy,relinearize --verify
    """
    import sys

    from influence_cli.artifacts.atomic import replacing
    from influence_cli.artifacts.selection import save_selection
    from influence_cli.commands import session
    from influence_cli.commands.options import note
    from influence_cli.commands.selecting import Asked, check, run
    from influence_cli.commands.selection_view import draw, rows_text, shown
    from influence_cli.errors import ExitCode
    from influence_cli.present.tables import resolve_format, write_records

    asked = check(
        Asked(
            model=model,
            test=test,
            size=size,
            strategy=strategy,
            direction=direction,
            quantity=quantity,
            verify=verify,
            flip=flip,
            within=tuple(within or ()),
            candidates=tuple(candidates or ()),
            draws=draws,
            constraint=constraint,
            merit=merit,
            rounds=rounds,
            curvature=curvature,
            damping=damping,
            solver=solver,
            format=format,
            output=output,
            plot=plot,
            figure=figure,
            seed=seed,
            quiet=quiet,
        )
    )
    for path in (output, plot):
        session.check_output(path, (model or session.DEFAULT_MODEL,), force=force)
    with session.limit_threads(threads):
        done = run(asked)
    result = done.result
    if plot is not None:
        picture = draw(done, plot, figure)
        with replacing(plot, force=force) as sink:
            sink.write(picture)
        note(f"wrote {plot}", quiet=quiet)
    if output is not None:
        save_selection(output, result, force=force)
    if format == "rows":
        sys.stdout.write(rows_text(result))
        sys.stdout.flush()
    else:
        shape = resolve_format(format, sys.stdout)
        columns, layout = shown(result, shape)
        columns = session.identified(columns, done.model.dataset)
        write_records(columns, layout, shape, sys.stdout, color=not no_color)
    unsure = [record for record in result.entries if record["status"] != "ok"]
    for record in unsure:
        note(f"test {record['test']}, {record['strategy']}: {record['status']}", quiet=quiet)
    failed = any(record["predicted_second"] != record["predicted_second"] and not asked.flip for record in unsure)
    return ExitCode.NOT_CONVERGED if failed else ExitCode.OK
