"""What every analysing command does before its own work: threads, the model, its solver, groups and test rows."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from influence_cli.analysis.pooled import pooled
from influence_cli.analysis.question import Question, TestRows, ask
from influence_cli.analysis.select import Choice
from influence_cli.artifacts.atomic import check_target
from influence_cli.artifacts.model import add_factor
from influence_cli.artifacts.results import load_result
from influence_cli.artifacts.selection import load_selection
from influence_cli.artifacts.storage import kind_of
from influence_cli.commands import output
from influence_cli.commands.options import Asked, Common, Network, Written
from influence_cli.core.parallel import reserve, thread_count
from influence_cli.core.quantities import QUANTITIES
from influence_cli.core.solvers.choice import SOLVERS, HessianSolver, make_solver
from influence_cli.data.dataset import Dataset
from influence_cli.data.load import load
from influence_cli.data.readers.in_place import for_few
from influence_cli.errors import FileError, UsageError
from influence_cli.memory import budget, require, shown
from influence_cli.models.settings import ModelSettings
from influence_cli.models.stored import store, stored
from influence_cli.models.streaming import ASCENT_BYTES, RANKED_BYTES, UNNOTICED_BYTES, forecast, passes
from influence_cli.models.trained import TrainedModel, fit
from influence_cli.results import REMOVED, Provenance
from influence_cli.specs.files import collect_specs, specs_of_records
from influence_cli.specs.from_python import row_names, train_rows
from influence_cli.specs.groups import STDIN, GroupSpec
from influence_cli.specs.plan import plan_groups
from influence_cli.specs.planned import GroupPlan, RowsOf
from influence_cli.specs.tests import TestRowSpec, choose_tests, parse_tests

HDF5_BEGINNING = b"\x89HDF\r\n\x1a\n"
DEFAULT_MODEL = "ginf.h5"
CUT_OFF = (
    "this runs in the background: if the & was to join two conditions, the shell has ended the command there; write a"
    " comma, column:NAME=VALUE,OTHER=VALUE, or quotes around the group"
)
"""The note shown if a group of conditions may have been cut off at an &."""
DEFAULT_SETTINGS = ModelSettings("logistic", 1e-3, "per-mean", True, penalize_intercept=True, tol=1e-8)


@dataclass(frozen=True)
class OpenModel:
    """A model and its file."""

    path: str
    model: TrainedModel
    digest: str
    overridden: bool = False
    """Whether the model was opened with another curvature or damping, for which the file keeps no factor."""
    pipeline: bytes | None = None
    """The content of the .skops file from which the model was imported, if the model's file contains it."""

    def provenance(self, config: dict) -> Provenance:
        settings = self.model.settings
        network = {"curvature": settings.curvature, "damping": settings.damping} if settings.is_network else {}
        return Provenance(self.model.dataset.digest, self.digest, {"model": self.path, **network, **config})


def in_background() -> bool:
    """Whether a shell runs this in the background, on the terminal that stderr writes to."""
    try:
        return os.tcgetpgrp(sys.stderr.fileno()) != os.getpgrp()
    except (AttributeError, OSError, ValueError):  # no terminal of this session, or none at all
        return False


def check_quantity(name: str) -> None:
    """Refuse a misspelt ``--quantity`` before a model is read; whether it suits the model is checked later."""
    if pooled(name) is None and ":" not in name:
        output.check_choice("--quantity", name, QUANTITIES)


def check_tolerance(tol: float) -> None:
    if not 0 < tol < float("inf"):
        raise UsageError(f"--tol must be a number greater than 0, found {tol:g}")


def open_model(
    path: str | None,
    common: Common,
    *,
    network: Network = Network(),
    outputs: Mapping[str, str | None] | None = None,
    rows: int | None = None,
) -> OpenModel:
    """The model of ``--model``, else ginf.h5, else the built-in digits model, trained and saved as ginf.h5.

    The settings in ``network`` replace those with which a network was trained; ``rows`` is the number of training rows
    that will be read, if it is known.  Raises UsageError if one of the ``outputs`` (by option) is a file that the model
    is linked to.
    """
    reserve()
    if path is None and not Path(DEFAULT_MODEL).exists():
        _train_default(common)
    path = DEFAULT_MODEL if path is None else path
    with for_few(rows):
        model, artifact = stored(path)
    if artifact.link is not None:
        output.refuse_inputs(outputs or {}, artifact.link.values())
    chosen = model.with_curvature(network.curvature, network.damping)
    return OpenModel(path, chosen, artifact.digest, chosen.settings != model.settings, artifact.pipeline)


def ranking_bytes(opened: OpenModel, choice: Choice) -> float:
    """Memory that a search needs for what it stores about all rows, if these are streamed.

    Raises MemoryLackError if rows in memory leave no room for it.
    """
    dataset = opened.model.dataset
    needed = float((RANKED_BYTES + (ASCENT_BYTES if "pgd" in choice.strategies else 0)) * dataset.rows)
    if dataset.streamed is not None:
        return needed
    if needed > UNNOTICED_BYTES:
        require(f"ranking {dataset.rows:,} rows beside the data", needed, "raise --memory, or give fewer rows")
    return 0.0


def note_streaming(dataset: Dataset, common: Common, size: int, *, beside: float | None = None) -> None:
    """Say that the rows are read in every pass, and what that takes for a model of ``size`` parameters: in training, or
    for groups with ``beside`` bytes of results.

    Raises UsageError if ``--memory`` is less than that, or if workers have to read rows that are in no file.
    """
    rows = dataset.streamed
    if rows is not None and rows.by_choice:
        return
    if rows is None:
        if common.scheduler is not None:
            raise UsageError(
                f"--scheduler is for rows that every worker reads from a file, and those of {dataset.name} are held in"
                " memory",
                "train with --scheduler on a table, a .svm file, or a .npz or .h5 file of float64 in row order",
            )
        return
    needed, read = forecast(rows, size, groups=beside is not None, beside=beside or 0.0), rows.cost
    allowed = budget()
    if allowed is not None and needed > allowed:
        raise UsageError(
            f"not enough memory: this takes about {shown(needed)}, with the rows left in their file, and --memory"
            f" allows {shown(allowed)}",
            hint=f"give it --memory {shown(1.1 * needed).replace(' ', '')}, fewer groups or fewer --threads",
        )
    each = f"{shown(read.bytes)}" + (f", about {read.seconds:.2g} s," if read.seconds >= 0.1 else "")
    to_come = f"; training takes {passes(size)}" if beside is None else ""
    if common.scheduler is not None:
        common.note(
            f"{dataset.rows:,} rows of {rows.shape[1]:,} features are read by the workers of {common.scheduler}: {each}"
            f" in every pass{to_come}"
        )
        return
    common.note(
        f"{dataset.rows:,} rows of {rows.shape[1]:,} features do not fit into memory beside the rest: every pass reads"
        f" {each} again{to_come}; memory will reach about {shown(needed)}"
    )


def _train_default(common: Common) -> None:
    try:
        check_target(DEFAULT_MODEL, force=False)
        dataset = load("digits", task="classification")
        model = fit(dataset, DEFAULT_SETTINGS)
        model.sum_up("cholesky")
        factor = make_solver(model.objective, model.theta, "cholesky").factor
        origin = {"data": "digits", "test_fraction": 0.2, "seed": 0}
        store(DEFAULT_MODEL, model.changed(factor=factor, origin=origin), force=False)
    except UsageError:
        if not Path(DEFAULT_MODEL).exists():
            raise
        return  # another process has just made the same file
    common.note(
        f"no model given: trained the built-in digits model ({dataset.rows:,} rows, {len(dataset.classes)}"
        f" classes, l2 {DEFAULT_SETTINGS.l2:g}, intercepts penalised) and saved it as {DEFAULT_MODEL}"
    )


def open_solver(opened: OpenModel, requested: str, common: Common, *, beside: float = 0.0) -> HessianSolver:
    """The requested solver; a factor that had to be computed is cached in the model's file.

    ``beside`` is the memory in bytes that the command needs for the rest of its work.
    """
    model = opened.model
    note_streaming(model.dataset, common, model.objective.size, beside=beside)
    choice = model.choose_solver(requested, beside=beside)
    cached = choice.kind == "cholesky" and model.factor is not None
    common.detail(
        f"solver {choice.kind}: " + (f"reusing the factor cached in {opened.path}" if cached else choice.reason)
    )
    known = model.kept
    if not cached:
        model.sum_up(choice.kind)
    solver = make_solver(model.objective, model.theta, choice.kind, factor=model.factor)
    made = None if cached else solver.factor
    if (made is not None or model.kept is not known) and not opened.overridden:
        what = "sums over the rows" if made is None else "factor"
        try:
            add_factor(opened.path, made, model.kept, model_digest=opened.digest)
            common.detail(f"cached the {what} in {opened.path}")
        except FileError as error:
            common.note(f"the {what} could not be cached: {error.message}")
    return solver


@dataclass(frozen=True)
class Request:
    """The parsed request: all that can be known before a model is read."""

    asked: Asked
    specs: list[GroupSpec]
    tests: TestRowSpec | None

    def config(self, seed: int) -> dict[str, Any]:
        """What a result's file keeps of the request."""
        return {
            "groups": [spec.text for spec in self.specs],
            "test": self.asked.test,
            "seed": seed,
            "quantity": self.asked.quantity,
        }

    def rows_asked(self) -> int | None:
        """Total number of rows in the groups, if their text determines it; None if it depends on all rows."""
        counts = [_rows_asked(spec) for spec in self.specs]
        known = [count for count in counts if count is not None]
        of_removed = self.tests is not None and self.tests.kind == REMOVED
        return sum(known) if len(known) == len(counts) and not of_removed else None

    def inputs(self) -> list[str | None]:
        """The files that the command reads, none of which may be overwritten."""
        return [self.asked.model or DEFAULT_MODEL, self.asked.groups, *row_files(self.specs)]

    def on(self, opened: OpenModel) -> OpenModel:
        """The model with the rows asked about as test rows: for ``--test removed`` these are its training rows."""
        if self.tests is None or self.tests.kind != REMOVED:
            return opened
        return replace(opened, model=replace(opened.model, dataset=opened.model.dataset.on_itself()))

    def of(self, model: TrainedModel, common: Common) -> tuple[GroupPlan, Question]:
        """The groups of the model's training rows, and the question about its test rows.  Raises UsageError."""
        if in_background() and any(spec.conditions and not spec.origin for spec in self.specs):
            common.note(CUT_OFF)
        groups = plan(model, self.specs, common.seed, common.note)
        drawn = RowsOf(groups)
        return groups, ask(model, pick_tests(model, self.tests, common), self.asked.quantity, drawn)


def parse(asked: Asked, written: Written, solver: str) -> Request:
    """Parse the request.  Raises UsageError for invalid options, before any work is done."""
    output.check_written(written)
    check_solver(solver)
    check_quantity(asked.quantity)
    return Request(asked, read_specs(asked), None if asked.test is None else parse_tests(asked.test))


def _rows_asked(spec: GroupSpec) -> int | None:
    if spec.kind == "rows" and spec.path is None and not spec.each:
        return len(spec.rows)
    size = spec.size if spec.kind == "random" else None
    return None if size is None or size.count is None else size.count * (spec.times or 1)


def row_files(specs: Iterable[GroupSpec]) -> list[str]:
    """The files from which groups are read (``rows:@FILE``)."""
    return [spec.path for spec in specs if spec.path is not None]


def _is_hdf5(path: str) -> bool:
    """Whether a file is HDF5; a file that cannot be read is reported when it is read."""
    if path == STDIN or not Path(path).is_file():
        return False
    with suppress(OSError), Path(path).open("rb") as file:
        return file.read(len(HDF5_BEGINNING)) == HDF5_BEGINNING
    return False


def _groups_of(path: str) -> list[str]:
    """The groups of results that a command wrote with -o; for a selection its rows."""
    if kind_of(path, output.ANY_FILE) == "selection":
        return specs_of_records(load_selection(path).records(), path)
    return specs_of_records(({"group": label} for label in load_result(path).groups.label), path)


def read_specs(asked: Asked) -> list[GroupSpec]:
    """Group specifications from ``--group`` and ``--groups``.  Raises UsageError if there are none."""
    if asked.groups is not None and _is_hdf5(asked.groups):
        texts = [*(asked.group or []), *_groups_of(asked.groups)]
        specs = collect_specs(texts, None, stdin=sys.stdin)
    else:
        specs = collect_specs(asked.group or [], asked.groups, stdin=sys.stdin)
    if not specs:
        raise UsageError(
            "no group of training rows was given", hint="for example --group coherent:3 or --group random:10%x20"
        )
    return specs


def plan(
    model: TrainedModel, specs: list[GroupSpec], seed: int, note: Callable[[str], None] = lambda sentence: None
) -> GroupPlan:
    planned = plan_groups(specs, train_rows(model.dataset, model), seed=seed, stdin=sys.stdin)
    for sentence in planned.notes:
        note(sentence)
    return planned


def pick_tests(model: TrainedModel, spec: TestRowSpec | None, common: Common) -> TestRows | None:
    if spec is None:
        return None
    misclassified = model.misclassified if model.dataset.classes else None
    if spec.kind == REMOVED:
        return TestRows(np.arange(0), removed=True)
    rows, mean = choose_tests(spec, model.dataset.X_test.shape[0], misclassified, row_names(model.dataset)[1])
    unknown = int((~model.dataset.labelled).sum()) if spec.kind == "misclassified" else 0
    if unknown:
        common.note(f"--test {spec.text}: {unknown:,} test rows have no label and count as not misclassified")
    return TestRows(rows, mean)


def check_solver(name: str) -> None:
    output.check_choice("--solver", name, SOLVERS)


def jobs_at_a_time(asked: int | None, blocks: int) -> int:
    """The requested number, else one per thread; never more than threads or blocks."""
    return max(1, min(asked or thread_count(), thread_count(), blocks))
