"""``ginf select``: the most influential group."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from influence_cli.commands.bundles import command
from influence_cli.commands.options import (
    Common,
    Model,
    Network,
    Preprocessing,
    Quantity,
    Solver,
    Test,
    Written,
)
from influence_cli.commands.select.checks import check, check_sizes
from influence_cli.commands.select.options import ROWS, Drawn, Sought

if TYPE_CHECKING:
    from influence_cli.analysis.question import Question
    from influence_cli.analysis.select import Choice, Search
    from influence_cli.commands.session import OpenModel
    from influence_cli.results import SelectionResult

RANKED_FROZEN = "groups are ranked with the preprocessing as it was fitted; retraining (--verify) makes it again"
FLIPPED_FROZEN = (
    "--flip retrains with the preprocessing as it was fitted: ginf groundtruth makes it again without the group"
)
FLAT = (
    "the test rows are the training rows, whose mean loss is at its minimum: predicted changes, by which groups are"
    " ranked, follow its slope and say nothing of it; ask about other test rows, or see what --verify retrains"
)
FOLLOWED = "relinearize is followed by exchanges judged by retraining: that is cheap here (--strategy says otherwise)"
LARGEST_SHARE = 0.5
"""Share of the training rows that --flip searches without --size."""


@command
def select(
    sought: Sought,
    drawn: Drawn,
    network: Network,
    written: Written,
    common: Common,
    model: Model = None,
    test: Test = None,
    quantity: Quantity = "loss",
    preprocessing: Preprocessing = None,
    solver: Solver = "auto",
) -> int:
    """Find the group of training rows whose removal changes a prediction most.

    Every figure is f(after removal) - f(before): a positive change of the loss means that the group helped.

    actual is the change by retraining (--verify) and empty without.

    --format rows prints the group's row numbers, one a line, for --group rows:@-.

    Example: ginf select --test 17 --size 10% --strategy greedy,relinearize --verify
    """
    from influence_cli.analysis.flips import SIGN, ask_flip, ranked
    from influence_cli.analysis.question import ask
    from influence_cli.analysis.searches import followed
    from influence_cli.analysis.select import Watch
    from influence_cli.analysis.select import select as search_for
    from influence_cli.commands import existing, output, session
    from influence_cli.commands.preprocessing import check_preprocessing, prepare
    from influence_cli.errors import UsageError
    from influence_cli.present.selection import draw
    from influence_cli.specs.tests import parse_tests

    tests_spec = None if test is None else parse_tests(test)
    check_preprocessing(preprocessing)
    check(sought, drawn, written, solver, asks_for_rows=test is not None, quantity=quantity)
    outputs = {"-o": written.output, "--plot": drawn.plot}
    inputs = (model or session.DEFAULT_MODEL, *session.row_files(sought.specs()))
    keeps = existing.check_outputs(common, outputs, inputs, session.row_files(sought.specs()))
    with common.limited_threads():
        opened = session.open_model(model, common, network=network, outputs=outputs)
        prepared = prepare(opened, preprocessing)
        opened = prepared.opened
        tests = session.pick_tests(opened.model, tests_spec, common)
        if written.format == ROWS and tests is not None and not tests.mean and len(tests.rows) > 1:
            raise UsageError(
                f"--format rows prints one group, and --test {test} asks for {len(tests.rows)}",
                hint="name one test row: --test 17",
            )
        flip = sought.flip_of or SIGN
        asked = ask_flip(opened.model, tests, quantity, flip) if sought.flip else ask(opened.model, tests, quantity)
        question = asked if sought.flip else ranked(asked)
        if drawn.plot is not None and drawn.figure == ROWS and opened.model.dataset.image_shape is None:
            raise UsageError("--figure rows draws images, and these rows are none", hint="use --figure sizes")
        search = described(sought, question, written) if sought.describe else build(sought, question, common)
        if opened.model.refit is not None and not (sought.describe and opened.model.refit.estimates):
            common.note(FLIPPED_FROZEN if sought.flip else RANKED_FROZEN)
        working = session.open_solver(opened, solver, common, beside=session.ranking_bytes(opened, search.choice))
        search = followed(search, question, working) if sought.strategy is None else search
        if search.choice.follow:
            common.note(FOLLOWED)
        config = {"test": test, "seed": common.seed, **_config(sought, search.choice, quantity)}
        config |= {"top": len(search)} if sought.describe else {}
        provenance = opened.provenance(config | {"solver": working.kind} | prepared.config(flips=sought.flip))
        with common.progress("search", len(search) * len(question)) as advance:
            watch = Watch(step=lambda label: advance(0), entered=advance, verified=lambda groups: advance(0))
            known = existing.selection_in(str(written.output), provenance, common) if keeps else None
            result = known or search_for(question, working, search, provenance=provenance, watch=watch)
    if drawn.plot is not None:
        plain = ask(opened.model, tests, quantity)
        output.save_picture(drawn.plot, draw(plain, working, result, drawn.plot, drawn.figure), common)
    return answer(result, question, sought, opened, replace(written, output=None) if keeps else written, common)


def answer(
    result: SelectionResult, question: Question, sought: Sought, opened: OpenModel, written: Written, common: Common
) -> int:
    """Write the groups found, and say what is uncertain; returns the exit code."""
    import sys

    from influence_cli.analysis.select import unproven
    from influence_cli.artifacts.selection import save_selection
    from influence_cli.commands import output
    from influence_cli.errors import ExitCode
    from influence_cli.present.selection import rows_text, selection_page

    if written.format == ROWS:
        if written.output is not None:
            save_selection(written.output, result, force=common.replaces)
        sys.stdout.write(rows_text(result))
    else:
        columns = output.identified(result.columns(), opened.model.dataset)
        view = output.view_of(written, common)
        page = output.Answer(
            columns,
            lambda: selection_page(result, columns, view),
            save=lambda path: save_selection(path, result, force=common.replaces),
            headline="actual" if sought.verify or sought.flip else "predicted_second",
        )
        output.emit(page, written, common)
    if sought.share is not None and (sentence := unproven(question, result)):
        common.note(sentence)
    unsure = [record for record in result.entries if record["status"] != "ok"]
    for record in unsure:
        of_row = "" if record["test"] is None else f"test {record['test']}, "
        common.note(f"{of_row}{record['strategy']}: {record['status']}")
    lacking = [] if sought.flip else [record for record in unsure if record["size"] is not None]
    failed = any(record["predicted_second"] != record["predicted_second"] for record in lacking)
    return ExitCode.NOT_CONVERGED if failed else ExitCode.OK


def described(sought: Sought, question: Question, written: Written) -> Search:
    """The search of ``--describe``.  Raises UsageError if the data have no columns to describe groups by."""
    import numpy as np

    from influence_cli.analysis.causes import USUAL_TOP, DescribedSearch
    from influence_cli.analysis.select import Choice
    from influence_cli.specs.cells import cut_columns, plain_names

    data = question.model.dataset
    least = sought.least(data.rows)
    columns = cut_columns(data.columns_train, sought.columns, least, without=plain_names(data))
    choice = Choice((), np.arange(data.rows), direction=sought.direction, verify=sought.verify)
    assert sought.describe is not None
    return DescribedSearch(choice, columns, sought.describe, least, written.top or USUAL_TOP)


def build(sought: Sought, question: Question, common: Common) -> Search:
    """The requested search.  Raises UsageError if sizes and groups do not suit the data."""
    import numpy as np

    from influence_cli.analysis.curve import DRAWS as CURVE_DRAWS
    from influence_cli.analysis.curve import CurveSearch
    from influence_cli.analysis.flips import FlipSearch
    from influence_cli.analysis.question import at_minimum
    from influence_cli.analysis.searches import ALL, RowSearch, UnionSearch, drop_impossible
    from influence_cli.analysis.select import Choice
    from influence_cli.commands import session
    from influence_cli.specs.from_python import pool_rows
    from influence_cli.specs.groups import parse_group

    if not sought.flip and at_minimum(question):
        common.note(FLAT)
    model = question.model
    m = model.dataset.rows
    sizes = [size.of(m) for size in sought.sizes()]
    within = [parse_group(text) for text in sought.within or ()]
    pool = pool_rows(session.plan(model, within, common.seed, common.note)) if within else np.arange(m)
    choice = Choice(
        sought.strategies(),
        pool,
        direction=sought.direction,
        draws=sought.draws or (100 if sought.curve is None else CURVE_DRAWS),
        constraint=sought.constraint,
        merit=sought.merit,
        rounds=sought.rounds,
        seed=common.seed,
        verify=sought.verify,
        at_most=sought.at_most,
        certify=sought.share,
    )
    if sought.candidates:
        offered = session.plan(model, [parse_group(text) for text in sought.candidates], common.seed, common.note)
        groups = [offered.group(index) for index in range(len(offered))]
        return UnionSearch(choice, groups, sizes[0] if sizes else 1)
    if sought.flip:
        largest = sizes[0] if sizes else int(LARGEST_SHARE * m)
        return FlipSearch(choice, min(largest, len(pool), int(np.count_nonzero(model.objective.weights)) - 1))
    check_sizes(sought, sizes, len(pool), m)
    if sought.strategy == ALL:
        kept, sentence = drop_impossible(choice, sizes)
        choice = replace(choice, strategies=kept)
        if sentence:
            common.note(sentence)
    return RowSearch(choice, sizes) if sought.curve is None else CurveSearch(choice, sizes)


def _config(sought: Sought, choice: Choice, quantity: str) -> dict[str, Any]:
    """What the result's file keeps of the options."""
    from influence_cli.analysis.searches import options_of
    from influence_cli.specs.groups import parse_group

    used = ["size", "flip"] if sought.flip else ["size", "at_most", "direction", "verify", "flip"]
    used = ["curve", "direction", "verify"] if sought.curve is not None else used
    used += ["flip_of"] if sought.flip_of else []
    used = ["describe", "support", "columns", "direction", "verify"] if sought.describe else used
    strategies = [] if sought.flip or sought.describe else list(choice.strategies)
    used += options_of(strategies)
    used += ["draws"] if sought.curve is not None else []
    return {
        "quantity": None if sought.flip and quantity == "loss" else quantity,  # the default of a flip is the class
        **{key: choice.draws if key == "draws" else getattr(sought, key) for key in used},
        **({} if choice.certify is None else {"certify": choice.certify}),
        "within": [parse_group(text).text for text in sought.within or ()],
        "candidates": [parse_group(text).text for text in sought.candidates or ()],
        "strategies": strategies,
    }
