"""``ginf influence``: estimated changes of a prediction, how far they may be off, and retraining for comparison."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, Any

import typer

from influence_cli.commands.bundles import command
from influence_cli.commands.gate import Gate
from influence_cli.commands.options import (
    MORE,
    OUTPUT,
    Asked,
    Common,
    Network,
    Preprocessing,
    Solver,
    Trust,
    Written,
    warn,
)

if TYPE_CHECKING:
    from influence_cli.analysis.reliability import Estimation
    from influence_cli.commands.session import OpenModel
    from influence_cli.results import InfluenceResult


@command
def influence(
    asked: Asked,
    network: Network,
    trust: Trust,
    gate: Gate,
    written: Written,
    common: Common,
    method: Annotated[
        str | None,
        typer.Option(
            "--method",
            rich_help_panel=MORE,
            help="Comma separated: first-koh, first, second, second-full, newton, rif, refined.",
            show_default="first,second,refined; of rows:each first,rif",
        ),
    ] = None,
    evaluate: Annotated[
        str | None,
        typer.Option(
            "--evaluate",
            rich_help_panel=MORE,
            help="exact: f after the estimated change minus f before.  linear: grad f' change, as in the paper's"
            " experiments.  refined is always exact.",
            show_default="exact; of rows:each linear",
        ),
    ] = None,
    preprocessing: Preprocessing = None,
    explain: Annotated[
        bool,
        typer.Option(
            "--explain",
            rich_help_panel=MORE,
            help="Of one group and one test row: where the figure comes from, term by term and row by row.",
        ),
    ] = False,
    diagnostics: Annotated[
        bool,
        typer.Option(
            "--diagnostics",
            rich_help_panel=MORE,
            help="Of each training row (--group rows:each) or group, without a test row: leverage, Cook's distance,"
            " studentised residual, DFFITS and DFBETAS.",
        ),
    ] = False,
    plot: Annotated[
        str | None,
        typer.Option(
            "--plot",
            metavar="FILE",
            rich_help_panel=OUTPUT,
            help="With --diagnostics: leverage against residual, .png, .svg or .pdf (the extra plot).",
        ),
    ] = None,
    solver: Solver = "auto",
) -> int:
    """Estimate how predictions change if groups of training rows are removed, without retraining.

    Every figure is f(after removal) - f(before): a positive change of the loss means that the group helped.

    Example: ginf influence --group coherent:3 --test 17
    """
    from influence_cli.analysis.influence import check_possible, working_bytes
    from influence_cli.analysis.influence import influence as estimate
    from influence_cli.analysis.verify import verified
    from influence_cli.commands import existing, output, session
    from influence_cli.commands.diagnostics import write_diagnostics
    from influence_cli.commands.estimation import (
        check_alone,
        chosen_estimation,
        is_quick,
        reads_few,
        warn_of_time,
        write_explanation,
    )
    from influence_cli.commands.preprocessing import check_preprocessing, prepare
    from influence_cli.errors import UsageError

    gate.parse()
    check_preprocessing(preprocessing)
    request = session.parse(asked, written, solver)
    for option, chosen in (("--explain", explain), ("--diagnostics", diagnostics)):
        if chosen:
            check_alone(option, method, evaluate, trust, gate, written, None if diagnostics else plot)
    if diagnostics:
        return write_diagnostics(request, network, solver, written, common, plot)
    if plot is not None:
        raise UsageError("--plot draws --diagnostics alone", hint="ginf report draws what -o i.h5 keeps")
    how = chosen_estimation(request, method, evaluate, trust, common)
    keeps = existing.check_outputs(common, {"-o": written.output}, request.inputs())
    with common.limited_threads():
        rows = request.rows_asked() if reads_few(how, trust) else None
        opened = session.open_model(asked.model, common, network=network, outputs={"-o": written.output}, rows=rows)
        prepared = prepare(request.on(opened), preprocessing)
        opened = prepared.opened
        check_possible(opened.model, how.methods)
        plan, question = request.of(opened.model, common)
        prepared.note(plan, common, estimates=True)
        beside = working_bytes(opened.model, plan, len(question), how.methods)
        working = session.open_solver(opened, solver, common, beside=beside)
        if explain:
            return write_explanation(question, working, plan, written, common)
        config = {**request.config(common.seed), **prepared.config(estimates=True), **settings_of(how, trust)}
        provenance = opened.provenance({**config, "solver": working.kind})
        if keeps:
            result = existing.influence_in(str(written.output), provenance, plan, question.codes, common)
            return answer(result, result, opened, gate, replace(written, output=None), common)
        warn_of_time(opened.model, plan, how, common)
        with common.progress("estimating", len(plan) * len(question) * how.rounds) as advance:
            result = estimate(question, working, plan, how, provenance=provenance, advance=advance)
        quick = trust.verify is None and output.on_terminal(written) and is_quick(opened.model, plan)
        shown = verified(question, working, plan, result) if trust.verify or quick else result
    return answer(shown if trust.verify else result, shown, opened, gate, written, common)


def settings_of(how: Estimation, trust: Trust) -> dict[str, Any]:
    """What a file keeps of an estimation."""
    return {
        "methods": list(how.methods),
        "evaluate": how.evaluate,
        "rel_error": how.rel_error,
        **({"errors": True} if trust.errors else {}),
        **({} if how.certify is None else {"certify": how.certify}),
        **({"verify": True} if trust.verify else {}),
    }


def answer(
    kept: InfluenceResult, shown: InfluenceResult, opened: OpenModel, gate: Gate, written: Written, common: Common
) -> int:
    """Write the result, ``shown`` if a person reads it and ``kept`` otherwise; returns the exit code."""
    from influence_cli.analysis.groundtruth import is_an_answer
    from influence_cli.analysis.verify import agreement
    from influence_cli.artifacts.results import save_influence
    from influence_cli.commands import output
    from influence_cli.errors import ExitCode
    from influence_cli.present.changes import closing_line, influence_figures, influence_page

    view = output.view_of(written, common, opened.model.dataset)
    columns = kept.columns()
    figures = influence_figures(kept, columns)
    page = output.Answer(
        columns,
        lambda: influence_page(shown, shown.columns(), view),
        opened.model.dataset,
        lambda path: save_influence(path, kept, force=common.replaces),
        figures.headline,
        closing_line(kept, columns, figures.changes),
    )
    output.emit(page, written, common)
    for sentence in filter(None, (*kept.notes, agreement(shown))):
        common.note(sentence)
    failed = sum(not is_an_answer(state) for state in kept.status)
    if failed:
        warn(f"{failed} of {len(kept.status)} groups have values that are null: see status")
    gate.check(columns, figures.headline, figures.errors.get(figures.headline))
    unmet = kept.unmet is not None and bool(kept.unmet.any())
    return ExitCode.NOT_CONVERGED if failed or unmet else ExitCode.OK
