"""The sections of a report other than changes: question, model, selected rows, agreement, and how to repeat it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from influence_cli.analysis.flips import PREDICTED, SIGNIFICANCE
from influence_cli.analysis.matching import Matched
from influence_cli.core.selection.problem import DECREASE
from influence_cli.data.summary import summary
from influence_cli.models.trained import TrainedModel
from influence_cli.present.agreement import agreement_page
from influence_cli.present.changes import View
from influence_cli.present.facts import SHOWN_DIGITS
from influence_cli.present.models import coefficient_block, model_page
from influence_cli.present.report import Cell, Section, Sheet, sheet_of
from influence_cli.present.report_changes import Pair, Result, about
from influence_cli.present.selection import selection_page
from influence_cli.present.tables import Block
from influence_cli.present.words import meaning_of, row_name
from influence_cli.results import Provenance, SelectionResult
from influence_cli.tabular import Records

MOST_TESTS = 5
"""Number of test rows up to which the question names each."""
NAMES = {
    "model": "a trained model",
    "influence": "estimated changes",
    "truth": "changes by retraining",
    "selection": "selected groups",
}


@dataclass(frozen=True)
class Source:
    """A file from which a report is made; ``command`` makes it again, None if it was made in Python."""

    name: str
    kind: str
    made_by: str
    content: TrainedModel | Result | SelectionResult
    provenance: Provenance
    command: str | None


def question_section(
    results: Mapping[str, Mapping[tuple[str, Any], Pair]],
    selections: Sequence[SelectionResult],
    asked_as: Mapping[str, str | None],
) -> Section:
    """The questions in words, one sentence per quantity; ``results`` has the pairs of each, ``asked_as`` its name."""
    sentences = []
    for quantity, members in results.items():
        groups = len({digest for digest, _ in members})
        tests = {pair.record["test"]: _within(about(pair.record)) for pair in members.values()}
        named = "; ".join(tests.values()) if len(tests) <= MOST_TESTS else f"{len(tests):,} test rows"
        some = f"each of these {groups:,} groups" if groups > 1 else "this group"
        name = meaning_of(quantity, asked_as.get(quantity)).name
        asked = f"How would the {name} change if {some} of training rows had not been there?"
        sentences.append(asked if None in tests else f"{asked} Asked of: {named}.")
    sentences += map(_searched, selections)
    if results:
        every = [pair for members in results.values() for pair in members.values()]
        how = "The answers are estimates, made without retraining."
        if any(pair.actual is not None for pair in every):
            how = "The answers are estimates, with the change by retraining beside them where it is known."
        if all(pair.method is None for pair in every):
            how = "The answers are measured, by retraining without each group."
        sentences.append(f"{how} Every change is the figure without the group minus the figure now.")
    return Section("The question", tuple(sentences or ("What is this model?",)))


def _within(words: str) -> str:
    """Words that begin a sentence, within one."""
    return words[0].lower() + words[1:]


def _searched(selection: SelectionResult) -> str:
    """What a search was asked, in words."""
    config, columns = selection.provenance.config, selection.columns()
    tests = list(dict.fromkeys(columns["test"]))
    of = f" of each of {len(tests):,} test rows"
    if len(tests) == 1:
        names = (columns[key][0] if key in columns else None for key in ("record", "id"))
        of = "" if tests[0] is None else f" of {_within(row_name(tests[0], *names))}"
    figure = f"{meaning_of(selection.quantity, config.get('asked')).name}{of}"
    verb = "lower" if config.get("direction") == DECREASE else "raise"
    if "flips" in columns:
        what = f"sign of the {figure}"
        if selection.quantity == PREDICTED:
            what = f"predicted class{of}"
        elif selection.quantity.startswith(SIGNIFICANCE):
            what = f"significance of {selection.quantity.partition(':')[2]} at 5%"
        return f"Which few training rows have to be removed for the {what} to flip?"
    if "per_percent" in columns:
        return f"Which groups of training rows, told by their columns, {verb} the {figure} the most for their size?"
    if "random_draws" in columns:
        return f"How does the {figure} change as more and more training rows are removed, chosen to {verb} it?"
    if "groups" in columns:
        return f"Which of these groups of training rows, or what union, if removed, {verb}s the {figure} the most?"
    sizes = " or ".join(f"{size:,}" for size in dict.fromkeys(columns.get("at_most", columns["size"])) if size)
    some = f"{'at most ' * ('at_most' in columns)}{sizes} training rows"
    return f"Which {some}, removed together, {verb} the {figure} the most?"


def model_section(source: Source, view: View) -> Section:
    """What the model is: its data, settings, scores, preprocessing and coefficients."""
    model, provenance = source.content, source.provenance
    assert isinstance(model, TrainedModel)
    page = model_page(f"{source.name}: a trained {model.settings.estimator} model", model, view.verbose)
    origin = model.origin
    more = [
        ("preprocessing", preprocessing(model)),
        ("removal convention", model.settings.penalty_scaling),
        *([("brought from", str(origin["sklearn"]))] if "sklearn" in origin else []),
        ("seed", str(origin.get("seed", model.settings.seed))),
        ("data digest", provenance.data_digest[:SHOWN_DIGITS]),
        ("model digest", provenance.model_digest[:SHOWN_DIGITS]),
        ("made by", source.made_by),
    ]
    (facts,) = page.blocks
    block = Block("", ("", ""), [*facts.rows, *more])
    described = tuple(f"{text[0].upper()}{text[1:]}." for text in summary(model.dataset))
    coefficients = coefficient_block(model, None)
    below = (f"The {len(coefficients.rows)} largest of {model.theta.shape[0]:,}.",) if coefficients.below else ()
    shown = sheet_of(coefficients)
    shown = Sheet(shown.title, shown.headings, shown.rows, shown.numbers, below=below)
    return Section("The model", (f"{page.title}.", *described), (sheet_of(block), shown))


def preprocessing(model: TrainedModel) -> str:
    """What was done to the features before training."""
    state = model.dataset.preparation
    if state is None:
        return "none: the features are used as they are in the data"
    done = ["standardised to mean 0 and standard deviation 1" if state.get("standardize") else "not standardised"]
    if state.get("impute"):
        done.append(f"missing values filled ({state['impute']})")
    return ", ".join(done)


def selection_section(result: SelectionResult, columns: Mapping[str, Any], view: View) -> Section:
    """The groups that a search found, and their rows."""
    page = selection_page(result, columns, view)
    return Section(
        f"Selected rows. {page.title}", sheets=tuple(sheet_of(block) for block in page.blocks), notes=page.legend
    )


def agreement_section(matched: Matched, records: Records, view: View) -> Section:
    """How well the estimates follow the truth, over all groups."""
    page = agreement_page(matched, records, view)
    (block,) = (block for block in page.blocks if block.title == "Agreement")
    return Section(
        f"How well the estimates agree with retraining ({matched.quantity})",
        tuple(f"{note[0].upper()}{note[1:]}." for note in matched.notes),
        (sheet_of(Block("", block.headings, block.rows, block.numbers)),),
        notes=tuple(line for line in page.legend if line not in matched.notes),
    )


def repeat_section(sources: Sequence[Source], command: str | None) -> Section:
    """The files from which the report was made, and the commands that make them and the report again."""
    headings = ("file", "holds", "made by", "seed", "data digest", "model digest")
    rows = []
    for source in sources:
        model, origin = source.content, source.provenance
        config = model.origin if isinstance(model, TrainedModel) else origin.config
        digests = origin.data_digest[:SHOWN_DIGITS], origin.model_digest[:SHOWN_DIGITS]
        texts = (source.name, NAMES[source.kind], source.made_by, str(config.get("seed", "-")), *digests)
        rows.append(tuple(Cell(text) for text in texts))
    in_python = [
        f"{source.name} was made in Python: no command makes it again." for source in sources if not source.command
    ]
    return Section(
        "How to repeat it",
        (*(["These commands make the files, and this page from them, again."] if command else []), *in_python),
        (Sheet("", headings, rows),),
        commands=tuple(filter(None, (*(source.command for source in sources), command))),
    )
