"""``ginf influence``: estimated changes of a prediction, without retraining."""

from __future__ import annotations

from typing import Annotated

import typer

from influence_cli.commands.options import Asked, Common, Network, Solver, Written, command, warn


@command
def influence(
    asked: Asked,
    network: Network,
    written: Written,
    common: Common,
    method: Annotated[
        str,
        typer.Option("--method", help="Comma separated: first-koh, first, second, second-full, newton, rif."),
    ] = "first,second",
    evaluate: Annotated[
        str,
        typer.Option(
            "--evaluate",
            help="linear: grad f' change.  exact: f after the estimated change minus f before, at one more solve a"
            " group.",
        ),
    ] = "linear",
    solver: Solver = "auto",
) -> int:
    """Estimate how predictions change if groups of training rows are removed, without retraining.

    Every figure is f(after removal) - f(before): a positive change of the loss means that the group helped.

    Example: ginf influence --group coherent:3 --test 17
    """
    from influence_cli.analysis.influence import check_methods, check_possible, working_bytes
    from influence_cli.analysis.influence import influence as estimate
    from influence_cli.analysis.pooled import check_evaluate
    from influence_cli.artifacts.results import save_influence
    from influence_cli.commands import output, session
    from influence_cli.core.estimators import EVALUATIONS
    from influence_cli.errors import ExitCode
    from influence_cli.present.headings import influence_table
    from influence_cli.results import OK

    methods = check_methods([name.strip() for name in method.split(",")])
    output.check_choice("--evaluate", evaluate, EVALUATIONS)
    check_evaluate(asked.quantity, evaluate)
    request = session.parse(asked, written, solver)
    output.check_output(written.output, (asked.model or session.DEFAULT_MODEL, asked.groups), force=common.force)
    with common.limited_threads():
        opened = session.open_model(asked.model, common, network=network, target=written.output)
        check_possible(opened.model, methods)
        plan, question = request.of(opened.model, common.seed)
        beside = working_bytes(opened.model, plan, len(question), methods)
        working = session.open_solver(opened, solver, common, beside=beside)
        config = {
            **request.config(common.seed),
            "methods": list(methods),
            "evaluate": evaluate,
            "solver": "cg" if working.factor is None else "cholesky",
        }
        with common.progress("estimating", len(plan) * len(question)) as advance:
            result = estimate(
                question,
                working,
                plan,
                provenance=opened.provenance(config),
                methods=methods,
                evaluate=evaluate,
                advance=advance,
            )
    output.emit(
        result.columns(),
        lambda: influence_table(result),
        written,
        common,
        dataset=opened.model.dataset,
        save=lambda path: save_influence(path, result, force=common.force),
    )
    failed = sum(state != OK for state in result.status)
    if failed:
        warn(f"{failed} of {len(result.status)} groups have values that are null: see status")
    return ExitCode.NOT_CONVERGED if failed else ExitCode.OK
