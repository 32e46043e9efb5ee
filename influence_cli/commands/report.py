"""``ginf report``: the content of ginf files as one page to hand over."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from influence_cli.commands.bundles import command
from influence_cli.commands.options import Common

if TYPE_CHECKING:
    from influence_cli.present.report_sections import Source


@command
def report(
    files: Annotated[
        list[str],
        typer.Argument(metavar="FILE", help="Files of one model, of any ginf command: model, results, selections."),
    ],
    page: Annotated[
        str,
        typer.Option("-o", "--output", metavar="FILE", help="Page to write, .html or .md."),
    ],
    common: Common,
    top: Annotated[
        int | None,
        typer.Option("--top", min=1, metavar="N", help="Only the N largest effects of each test row."),
    ] = None,
) -> int:
    """Write one page to hand over: the question, the model, the groups with bars, the truth, how to repeat it.

    The page needs no network and no script.  The model's own file is read where it lies, if it is not named.

    Example: ginf report ginf.h5 influence.h5 truth.h5 -o audit.html
    """
    import shlex

    from influence_cli.artifacts.atomic import replacing
    from influence_cli.artifacts.results import same_origin
    from influence_cli.commands import existing, output
    from influence_cli.present.changes import View
    from influence_cli.present.report import ending_of, render
    from influence_cli.present.report_page import report_page

    ending = ending_of(page)
    existing.check_outputs(common, {"-o": page}, files)
    sources = [load_source(name) for name in dict.fromkeys(files)]
    for source in sources[1:]:
        same_origin(sources[0].provenance, source.provenance, sources[0].name, source.name)
    if not any(source.kind == "model" for source in sources):
        model = model_of(sources[0], common)
        if model is not None:
            output.refuse_inputs({"-o": page}, [model.name])
            sources.insert(0, model)
    command_line = shlex.join(["ginf", "report", *files, *(["--top", str(top)] if top else []), "-o", page])
    with common.limited_threads():
        made = report_page(sources, View(top=top), command_line, common.seed, common.note)
    with replacing(page, force=common.replaces) as sink:
        sink.write(render(made, ending).encode("utf-8", "backslashreplace"))
    common.note(f"wrote {page}")
    return 0


def load_source(name: str) -> Source:
    """A file with its content.  Raises FileError if it is not a ginf file."""
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
    """The model that a result names, if it still exists and is unchanged."""
    from influence_cli.errors import GinfError

    name = source.provenance.config.get("model")
    if isinstance(name, str):
        try:
            model = load_source(name)
        except GinfError:
            model = None
        if model is not None and model.provenance.model_digest == source.provenance.model_digest:
            return model
    common.note("the model's file is not at hand, so the page does not describe it: name it as well")
    return None
