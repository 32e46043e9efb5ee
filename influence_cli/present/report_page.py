"""The report as a page: the content of files or results, section by section."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from influence_cli.analysis.compare import Settings, compare
from influence_cli.analysis.matching import match, truths_of
from influence_cli.analysis.several import separate
from influence_cli.errors import FileError
from influence_cli.present.changes import View
from influence_cli.present.report import GLOSSARY, Report, Section
from influence_cli.present.report_changes import Result, changes_section, pairs_of
from influence_cli.present.report_sections import (
    Source,
    agreement_section,
    model_section,
    question_section,
    repeat_section,
    selection_section,
)
from influence_cli.results import InfluenceResult, SelectionResult, TruthResult

Note = Callable[[str], None]


def report_page(sources: Sequence[Source], view: View, command: str | None, seed: int, note: Note) -> Report:
    """The page; ``command`` creates it again, and ``note`` is called with what has to be left out."""
    name = next((source.name for source in sources if source.kind == "model"), None)
    about = "a model" if name is None else f"the model {name}"
    words = Section("What the words mean", terms=GLOSSARY)
    sections = (*_findings(sources, view, seed, note), words, repeat_section(sources, command))
    return Report(f"How {about} depends on groups of its training rows", sections)


def _findings(sources: Sequence[Source], view: View, seed: int, note: Note) -> list[Section]:
    results: dict[str, list[tuple[str, Result]]] = {}
    selections, models = [], []
    for source in sources:
        content = source.content
        if isinstance(content, InfluenceResult | TruthResult):
            for part in separate(content):
                results.setdefault(part.quantity, []).append((source.name, part))
        elif isinstance(content, SelectionResult):
            selections.append(content)
        else:
            models.append(source)
            view = replace(view, data=content.dataset)
    contents = {quantity: [result for _, result in members] for quantity, members in results.items()}
    pairs = {quantity: pairs_of(members) for quantity, members in contents.items()}
    asked_as = {quantity: members[0].provenance.config.get("asked") for quantity, members in contents.items()}
    sections = [question_section(pairs, selections, asked_as)]
    for quantity, named in results.items():
        sections.append(changes_section(contents[quantity], list(pairs[quantity].values()), view))
        sections += _agreement(named, view, seed, note)
    sections += [selection_section(selection, selection.columns(), view) for selection in selections]
    return [*sections, *(model_section(source, view) for source in models)]


def _agreement(results: list[tuple[str, Result]], view: View, seed: int, note: Note) -> list[Section]:
    """How well estimates and truth agree, if both exist and have pairs in common."""
    if not truths_of(results) or all(isinstance(result, TruthResult) for _, result in results):
        return []
    try:
        matched = match(results)
    except FileError as error:
        note(f"no agreement to show: {error.message}")
        return []
    return [agreement_section(matched, compare(matched, Settings(seed=seed)), view)]
