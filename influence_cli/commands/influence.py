"""``ginf influence``: estimated changes of a prediction, without retraining."""

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


def influence(
    model: Model = None,
    group: Group = None,
    groups: Groups = None,
    test: Test = None,
    method: Annotated[
        str,
        typer.Option("--method", help="Comma separated: first-koh, first, second, second-full, newton, rif."),
    ] = "first,second",
    quantity: Quantity = "loss",
    evaluate: Annotated[
        str,
        typer.Option(
            "--evaluate",
            help="linear: grad f' change.  exact: f after the estimated change minus f before, at one more solve a"
            " group.",
        ),
    ] = "linear",
    curvature: Curvature = None,
    damping: Damping = None,
    solver: Solver = "auto",
    format: Format = "auto",
    output: Output = None,
    seed: Seed = 0,
    threads: Threads = None,
    quiet: Quiet = False,
    force: Force = False,
    no_color: NoColor = False,
) -> int:
    """Estimate how predictions change if groups of training rows are removed, without retraining.

    Every figure is f(after removal) - f(before): a positive change of the loss means that the group helped.

    Example: ginf influence --group coherent:3 --test 17
    """
    import sys

    from influence_cli.analysis.influence import check_methods, check_possible, working_bytes
    from influence_cli.analysis.influence import influence as estimate
    from influence_cli.analysis.pooled import check_evaluate
    from influence_cli.analysis.question import ask
    from influence_cli.artifacts.results import save_influence
    from influence_cli.commands import session
    from influence_cli.commands.options import note
    from influence_cli.core.estimators import EVALUATIONS
    from influence_cli.errors import ExitCode, GinfError
    from influence_cli.present.headings import influence_layout
    from influence_cli.present.tables import progress, resolve_format, write_records
    from influence_cli.results import OK
    from influence_cli.specs.tests import parse_tests

    methods = check_methods([name.strip() for name in method.split(",")])
    session.check_format(format)
    session.check_choice("--evaluate", evaluate, EVALUATIONS)
    session.check_quantity(quantity)
    check_evaluate(quantity, evaluate)
    session.check_solver(solver)
    specs = session.read_specs(group, groups)
    tests_spec = None if test is None else parse_tests(test)
    session.check_output(output, (model or session.DEFAULT_MODEL, groups), force=force)
    with session.limit_threads(threads):
        opened = session.open_model(model, quiet=quiet, curvature=curvature, damping=damping, output=output)
        check_possible(opened.model, methods)
        plan = session.plan(opened.model, specs, seed)
        tests = session.pick_tests(opened.model, tests_spec)
        question = ask(opened.model, tests, quantity)
        beside = working_bytes(opened.model, plan, len(question), methods)
        working = session.open_solver(opened, solver, quiet=quiet, beside=beside)
        config = {
            "groups": [spec.text for spec in specs],
            "test": test,
            "seed": seed,
            "methods": list(methods),
            "quantity": quantity,
            "evaluate": evaluate,
            "solver": "cg" if working.factor is None else "cholesky",
        }
        with progress("estimating", len(plan) * len(question), quiet=quiet, color=not no_color) as advance:
            result = estimate(
                question,
                working,
                plan,
                provenance=opened.provenance(config),
                methods=methods,
                evaluate=evaluate,
                advance=advance,
            )
    unsaved = None
    if output is not None:
        try:
            save_influence(output, result, force=force)
        except GinfError as error:
            unsaved = error  # what was computed is still printed
    layout = influence_layout(result)
    columns = session.identified(result.columns(), opened.model.dataset)
    write_records(columns, layout, resolve_format(format, sys.stdout), sys.stdout, color=not no_color)
    if unsaved is not None:
        raise unsaved
    failed = sum(state != OK for state in result.status)
    if failed:
        note(f"{failed} of {len(result.status)} groups have values that are null: see status", quiet=False)
    return ExitCode.NOT_CONVERGED if failed else ExitCode.OK
