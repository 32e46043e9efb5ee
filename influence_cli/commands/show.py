"""``ginf show``: what a ginf file contains, in words, and its records in any format."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from influence_cli.commands.bundles import command
from influence_cli.commands.options import Common, Written

if TYPE_CHECKING:
    from collections.abc import Callable

    from influence_cli.commands.output import Answer
    from influence_cli.present.changes import View
    from influence_cli.present.tables import Page
    from influence_cli.results import InfluenceResult, SelectionResult, TruthResult


@command
def show(
    file: Annotated[str, typer.Argument(metavar="FILE", help="A file of any ginf command: model, results, selection.")],
    written: Written,
    common: Common,
) -> int:
    """Say what a file of ginf holds, and write its records in any format: of a model, its coefficients.

    Example: ginf show ginf.h5
    """
    from influence_cli.artifacts.storage import kind_of
    from influence_cli.commands import existing, output

    output.check_written(written, artifact=False)
    existing.check_outputs(common, {"-o": written.output}, (file,))
    view = output.view_of(written, common)
    kind = kind_of(file, output.ANY_FILE)
    answer = {"model": _model, "influence": _influence, "truth": _truth, "selection": _selection}[kind](file, view)
    output.emit(answer, written, common)
    return 0


def _model(file: str, view: View) -> Answer:
    from influence_cli.commands import output
    from influence_cli.commands.options import Common
    from influence_cli.commands.session import open_model
    from influence_cli.present.models import coefficient_block, model_page
    from influence_cli.present.tables import Page

    opened = open_model(file, Common(quiet=True))
    model = opened.model
    columns = {"parameter": list(model.parameter_names), "value": model.theta[:, 0]}

    def page() -> Page:
        page_of_model = model_page(f"{file}: a trained {model.settings.estimator} model", model, view.verbose)
        return Page(
            page_of_model.title, (*page_of_model.blocks, coefficient_block(model, view.top)), page_of_model.legend
        )

    return output.Answer(columns, page)


def _influence(file: str, view: View) -> Answer:
    from influence_cli.artifacts.results import load_influence
    from influence_cli.present.changes import influence_figures, influence_page
    from influence_cli.present.words import asked_of

    result = load_influence(file)
    what = f"estimates for {len(result.groups):,} groups and {asked_of(result.tests.tolist())}"
    headline = influence_figures(result, result.columns()).headline
    return _answer(f"{file}: {what}", result, lambda columns: influence_page(result, columns, view), headline)


def _truth(file: str, view: View) -> Answer:
    from influence_cli.artifacts.results import load_truth
    from influence_cli.present.changes import truth_page
    from influence_cli.present.words import asked_of
    from influence_cli.results import PENDING

    result = load_truth(file)
    pending = sum(status == PENDING for status in result.status)
    left = f", {pending:,} of them still to be retrained (--resume)" if pending else ""
    what = f"retraining without {len(result.groups):,} groups{left}, for {asked_of(result.tests.tolist())}"
    return _answer(f"{file}: {what}", result, lambda columns: truth_page(result, columns, view), "actual")


def _selection(file: str, view: View) -> Answer:
    from influence_cli.artifacts.selection import load_selection
    from influence_cli.present.selection import selection_page

    result = load_selection(file)
    what = f"{file}: {len(result.entries):,} selected groups"
    return _answer(what, result, lambda columns: selection_page(result, columns, view), "predicted_second")


def _answer(
    what: str,
    result: InfluenceResult | TruthResult | SelectionResult,
    page: Callable[[dict[str, Any]], Page],
    headline: str,
) -> Answer:
    from influence_cli.commands import output
    from influence_cli.present.facts import with_facts

    columns = result.columns()
    return output.Answer(columns, lambda: with_facts(what, page(columns), result.provenance), headline=headline)
