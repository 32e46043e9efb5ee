"""``ginf influence --diagnostics``: regression diagnostics of training rows and groups."""

from __future__ import annotations

import numpy as np

from influence_cli.analysis.diagnostics import diagnostics
from influence_cli.commands import session
from influence_cli.commands.options import Common, Network, Written, warn
from influence_cli.commands.output import Answer, emit, view_of
from influence_cli.errors import ExitCode, UsageError
from influence_cli.present.diagnostics import diagnostics_page
from influence_cli.results import OK


def write_diagnostics(
    request: session.Request, network: Network, solver: str, written: Written, common: Common
) -> ExitCode:
    """Find the diagnostics of the groups and write them to standard output.  Raises UsageError for test rows."""
    if request.tests is not None:
        raise UsageError("--test does not go with --diagnostics", hint="they are about training rows alone")
    with common.limited_threads():
        opened = session.open_model(request.asked.model, common, network=network, outputs={})
        plan = session.plan(opened.model, request.specs, common.seed)
        working = session.open_solver(opened, solver, common)
        config = {**request.config(common.seed), "diagnostics": True}
        result = diagnostics(opened.model, working, plan, provenance=opened.provenance(config))
    columns, view = result.columns(), view_of(written, common)
    answer = Answer(columns, lambda: diagnostics_page(columns, view), headline="cooks_distance")
    emit(answer, written, common)
    common.note("dffits and dfbetas are all rows minus without the row: the opposite sign of ginf's other figures")
    failed = int(np.sum([state != OK for state in result.status]))
    if failed:
        warn(f"{failed} of {len(result.status)} groups have values that are null: see status")
    return ExitCode.OK
