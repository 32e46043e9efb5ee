"""``ginf report``: what files of ginf hold, as one page to hand over."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from influence_cli.commands.options import OUTPUT, Common, command

if TYPE_CHECKING:
    from influence_cli.present.changes import View
    from influence_cli.present.report import Section
    from influence_cli.present.report_changes import Result
    from influence_cli.present.report_sections import Source


@command
def report(
    files: Annotated[
        list[str],
        typer.Argument(metavar="FILE...", help="Files of one model, of any ginf command: model, results, selections."),
    ],
    page: Annotated[
        str,
        typer.Option("-o", "--output", metavar="FILE", help="Page to write, .html or .md.", rich_help_panel=OUTPUT),
    ],
    common: Common,
    top: Annotated[
        int | None,
        typer.Option(
            "--top", min=1, metavar="N", help="Only the N largest effects of each test row.", rich_help_panel=OUTPUT
        ),
    ] = None,
) -> int:
    """Write one page to hand over: the question, the model, the groups with bars, the truth, how to repeat it.

    The page needs no network and no script.  The model's own file is read where it lies, if it is not named.

    Example: ginf report ginf.h5 influence.h5 truth.h5 -o audit.html
    """
    import shlex
    from pathlib import Path

    from influence_cli.artifacts.atomic import replacing
    from influence_cli.artifacts.results import same_origin
    from influence_cli.commands import output
    from influence_cli.errors import UsageError
    from influence_cli.present.changes import View
    from influence_cli.present.report import FORMS, GLOSSARY, Report, Section, render
    from influence_cli.present.report_sections import repeat_section

    ending = Path(page).suffix.lower()
    if ending not in FORMS:
        raise UsageError(
            f"-o {page}: expected the ending {' or '.join(FORMS)}, found {ending or 'none'}",
            hint="for example -o audit.html",
        )
    output.check_outputs({"-o": page}, files, force=common.force)
    sources = [load_source(name) for name in dict.fromkeys(files)]
    for source in sources[1:]:
        same_origin(sources[0].provenance, source.provenance, sources[0].name, source.name)
    if not any(source.kind == "model" for source in sources):
        model = model_of(sources[0], common)
        if model is not None:
            output.refuse_inputs({"-o": page}, [model.name])
            sources.insert(0, model)
    name = next((source.name for source in sources if source.kind == "model"), None)
    about = "a model" if name is None else f"the model {name}"
    own = shlex.join(["ginf", "report", *files, *(["--top", str(top)] if top else []), "-o", page])
    view = View(top=top)
    with common.limited_threads():
        sections = findings(sources, view, common)
    made = Report(
        f"How {about} depends on groups of its training rows",
        (*sections, Section("What the words mean", terms=GLOSSARY), repeat_section(sources, own)),
    )
    with replacing(page, force=common.force) as sink:
        sink.write(render(made, ending).encode("utf-8", "backslashreplace"))
    common.note(f"wrote {page}")
    return 0


def load_source(name: str) -> Source:
    """A file with what it holds.  Raises FileError for what is none of ginf's."""
    from influence_cli.artifacts.opening import made_by
    from influence_cli.artifacts.results import load_result
    from influence_cli.artifacts.selection import load_selection
    from influence_cli.artifacts.storage import kind_of
    from influence_cli.commands import output
    from influence_cli.commands.reproduce import command_of
    from influence_cli.commands.session import open_model
    from influence_cli.present.report_sections import Source
    from influence_cli.results import Provenance

    kind = kind_of(name, output.ANY_FILE)
    if kind == "model":
        opened = open_model(name, Common(quiet=True))
        model = opened.model
        config = {**model.settings.as_dict(), **model.origin}
        origin = Provenance(model.dataset.digest, opened.digest, config)
        return Source(name, kind, made_by(name), model, origin, command_of(kind, config, name))
    result = load_selection(name) if kind == "selection" else load_result(name)
    remade = command_of(kind, result.provenance.config, name)
    return Source(name, kind, made_by(name), result, result.provenance, remade)


def model_of(source: Source, common: Common) -> Source | None:
    """The model that a result names, if it is still there and still the same."""
    from influence_cli.errors import GinfError

    name = source.provenance.config.get("model")
    if isinstance(name, str):
        try:
            found = load_source(name)
        except GinfError:
            found = None
        if found is not None and found.provenance.model_digest == source.provenance.model_digest:
            return found
    common.note("the model's file is not at hand, so the page does not describe it: name it as well")
    return None


def findings(sources: list[Source], view: View, common: Common) -> list[Section]:
    """What the files say, section by section."""
    from influence_cli.commands.output import identified
    from influence_cli.models.trained import TrainedModel
    from influence_cli.present.report_changes import changes_section, pairs_of
    from influence_cli.present.report_sections import model_section, question_section, selection_section
    from influence_cli.results import InfluenceResult, SelectionResult, TruthResult

    results: dict[str, list[tuple[str, Result]]] = {}
    selections, models = [], []
    for source in sources:
        content = source.content
        if isinstance(content, InfluenceResult | TruthResult):
            results.setdefault(content.quantity, []).append((source.name, content))
        elif isinstance(content, SelectionResult):
            selections.append(content)
        else:
            models.append(source)
    contents = {quantity: [result for _, result in own] for quantity, own in results.items()}
    pairs = {quantity: pairs_of(own) for quantity, own in contents.items()}
    asked_as = {quantity: own[0].provenance.config.get("asked") for quantity, own in contents.items()}
    sections = [question_section(pairs, selections, asked_as)]
    for quantity, own in results.items():
        sections.append(changes_section(contents[quantity], list(pairs[quantity].values()), view.top))
        sections += agreement(own, view, common)
    dataset = models[0].content.dataset if models and isinstance(models[0].content, TrainedModel) else None
    for selection in selections:
        columns = selection.columns()
        sections.append(selection_section(selection, identified(columns, dataset) if dataset else columns, view))
    return [*sections, *(model_section(source, view) for source in models)]


def agreement(results: list[tuple[str, Result]], view: View, common: Common) -> list[Section]:
    """How well estimates and truth agree, where there are both and they have pairs in common."""
    from influence_cli.analysis.compare import Settings, compare
    from influence_cli.analysis.matching import match, truths_of
    from influence_cli.errors import FileError
    from influence_cli.present.report_sections import agreement_section
    from influence_cli.results import TruthResult

    if not truths_of(results) or all(isinstance(result, TruthResult) for _, result in results):
        return []
    try:
        matched = match(results)
    except FileError as error:
        common.note(f"no agreement to show: {error.message}")
        return []
    return [agreement_section(matched, compare(matched, Settings(seed=common.seed)), view)]
