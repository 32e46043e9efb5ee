"""``ginf groundtruth``: the changes themselves, by retraining without each group."""

from __future__ import annotations

from typing import Annotated

import typer

from influence_cli.commands.options import (
    Curvature,
    Damping,
    Force,
    Format,
    Group,
    Groups,
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


def groundtruth(
    model: Model = None,
    group: Group = None,
    groups: Groups = None,
    test: Test = None,
    quantity: Quantity = "loss",
    tol: Annotated[
        float | None,
        typer.Option(
            "--tol", help="Gradient norm that every retraining must reach.", show_default="1e-8; 1e-6 for networks"
        ),
    ] = None,
    retrain: Annotated[
        str | None,
        typer.Option(
            "--retrain",
            help="warm: from the trained parameters.  cold: from where training began.  proximal: the objective that"
            " influence functions are the linear response of (Bae et al. 2022).  One result for logistic and linear.",
            show_default="warm",
        ),
    ] = None,
    cold: Annotated[bool, typer.Option("--cold", help="The same as --retrain cold.")] = False,
    repeats: Annotated[
        int,
        typer.Option("--repeats", min=1, help="Cold retraining of a network from so many seeds: their mean and noise."),
    ] = 1,
    curvature: Curvature = None,
    damping: Damping = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on with the -o file of the same command that was cut off.")
    ] = False,
    jobs: Annotated[
        int | None, typer.Option("--jobs", min=1, help="Blocks of groups retrained at a time.  [default: one a thread]")
    ] = None,
    solver: Solver = "auto",
    format: Format = "auto",
    output: Output = None,
    seed: Seed = 0,
    threads: Threads = None,
    quiet: Quiet = False,
    force: Force = False,
    no_color: NoColor = False,
) -> int:
    """Measure how predictions change if groups of training rows are removed, by retraining without each.

    Every figure is f(after removal) - f(before): a positive change of the loss means that the group helped.

    Example: ginf groundtruth --group coherent:3 --test 17
    """
    import sys
    from contextlib import ExitStack
    from dataclasses import replace

    from influence_cli.analysis.groundtruth import Retraining, check_strategy, count_stalled, start_truth, truth_blocks
    from influence_cli.analysis.groundtruth import groundtruth as measure
    from influence_cli.analysis.question import ask
    from influence_cli.artifacts.atomic import check_target
    from influence_cli.artifacts.lock import exclusive
    from influence_cli.artifacts.results import save_truth
    from influence_cli.commands import session
    from influence_cli.core.retraining import COLD, STRATEGIES, WARM
    from influence_cli.errors import ExitCode, UsageError
    from influence_cli.present.headings import truth_layout
    from influence_cli.present.tables import progress, resolve_format, write_records
    from influence_cli.results import OK, PENDING
    from influence_cli.specs.tests import parse_tests

    session.check_format(format)
    session.check_solver(solver)
    strategy = retrain or (COLD if cold else WARM)
    session.check_choice("--retrain", strategy, STRATEGIES)
    if cold and strategy != COLD:
        raise UsageError(f"--cold and --retrain {strategy} contradict each other", hint="leave --cold out")
    if tol is not None:
        session.check_tolerance(tol)
    if resume and output is None:
        raise UsageError("--resume goes on with a file, and none was named", hint="name it with -o truth.h5")
    session.check_quantity(quantity)
    session.check_output(output, (model or session.DEFAULT_MODEL, groups), force=True)
    specs = session.read_specs(group, groups)
    tests_spec = None if test is None else parse_tests(test)
    with ExitStack() as stack:
        if output is not None:
            check_target(output, force=True)
            stack.enter_context(exclusive(output))
            check_target(output, force or resume)
        opened = session.open_model(model, quiet=quiet, curvature=curvature, damping=damping, output=output)
        check_strategy(opened.model, strategy, repeats)
        tol = opened.model.objective.tolerance if tol is None else tol
        plan = session.plan(opened.model, specs, seed)
        tests = session.pick_tests(opened.model, tests_spec)
        question = ask(opened.model, tests, quantity)
        config = {
            "groups": [spec.text for spec in specs],
            "test": test,
            "seed": seed,
            "quantity": quantity,
            "tol": tol,
            "cold": strategy == COLD,
            **({} if strategy in (WARM, COLD) else {"retrain": strategy}),
            **({} if repeats == 1 else {"repeats": repeats}),
            **({} if solver == "auto" else {"solver": solver}),
        }
        result = start_truth(question, plan, opened.provenance(config), repeats=repeats)
        begun = session.resume_truth(str(output), result, quiet=quiet) if resume else None
        if begun is not None:
            # auto may decide otherwise on another day
            result, solver = begun, begun.provenance.config.get("solver", solver)

        def keep(so_far, over=True):
            nonlocal result
            result = so_far
            if output is not None:
                save_truth(output, so_far, force=over)

        pending = sum(state == PENDING for state in result.status)
        if pending:
            stack.enter_context(session.limit_threads(threads))
            working = session.open_solver(opened, solver, quiet=quiet)
            if begun is None:
                config["solver"] = "cg" if working.factor is None else "cholesky"
                keep(replace(result, provenance=opened.provenance(config)), over=force)
            count = session.jobs_at_a_time(jobs, len(truth_blocks(opened.model, len(plan))))
            with progress("retraining", pending, quiet=quiet) as advance:
                try:
                    measure(
                        question,
                        working.preconditioner,
                        plan,
                        result,
                        Retraining(tol, strategy, count, repeats),
                        keep=keep,
                        advance=advance,
                    )
                except KeyboardInterrupt as signal:
                    keep(result)  # the signal may have come between a block and its file
                    raise session.interrupted(output, result) from signal
    write_records(
        session.identified(result.columns(), opened.model.dataset),
        truth_layout(result),
        resolve_format(format, sys.stdout),
        sys.stdout,
        color=not no_color,
    )
    unknown = sum(state != OK for state in result.status)
    if unknown:
        print(f"ginf: {unknown} of {len(plan)} groups have null changes: see status", file=sys.stderr)
    return ExitCode.NOT_CONVERGED if count_stalled(result) else ExitCode.OK
