"""``ginf influence --diagnostics``: regression diagnostics of training rows and groups."""

from __future__ import annotations

import numpy as np

from influence_cli.analysis.diagnostics import diagnostics
from influence_cli.commands import session
from influence_cli.commands.existing import check_outputs
from influence_cli.commands.options import Common, Network, Written, warn
from influence_cli.commands.output import Answer, emit, save_picture, view_of
from influence_cli.errors import ExitCode, UsageError
from influence_cli.present.diagnostics import check_rows, diagnostics_page, leverage_picture
from influence_cli.present.plots import check_plot
from influence_cli.results import OK


def write_diagnostics(
    request: session.Request, network: Network, solver: str, written: Written, common: Common, plot: str | None
) -> ExitCode:
    """Compute the diagnostics of the groups, write them to standard output, and draw them if a file is named.

    Raises UsageError for test rows.
    """
    if request.tests is not None:
        raise UsageError("--test does not go with --diagnostics", hint="they are about training rows alone")
    ending = None if plot is None else check_plot(plot)
    check_outputs(common, {"-o": written.output, "--plot": plot}, request.inputs())
    with common.limited_threads():
        opened = session.open_model(request.asked.model, common, network=network, outputs={"-o": written.output})
        plan = session.plan(opened.model, request.specs, common.seed, common.note)
        if plot is not None:
            check_rows(plan.size)
        working = session.open_solver(opened, solver, common)
        config = {**request.config(common.seed), "diagnostics": True}
        result = diagnostics(opened.model, working, plan, provenance=opened.provenance(config))
    columns, view = result.columns(), view_of(written, common)
    answer = Answer(columns, lambda: diagnostics_page(columns, view), headline="cooks_distance")
    emit(answer, written, common)
    if plot is not None and ending is not None:
        save_picture(plot, leverage_picture(columns, opened.model.objective.size, plan.m, ending), common)
    if not np.isnan(columns["dffits"]).all():
        common.note("dffits and dfbetas are all rows minus without the row: the opposite sign of ginf's other figures")
    failed = int(np.sum([state != OK for state in result.status]))
    if failed:
        warn(f"{failed} of {len(result.status)} groups have values that are null: see status")
    return ExitCode.OK
