"""What every analysing command does before its own work: threads, the model, its solver, groups and test rows."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from influence_cli.analysis.question import TestRows
from influence_cli.artifacts.atomic import check_target
from influence_cli.artifacts.model import ModelArtifact, add_factor, load_model, save_model
from influence_cli.artifacts.results import load_truth, same_origin
from influence_cli.commands.options import note
from influence_cli.core.parallel import thread_count
from influence_cli.core.quantities import QUANTITIES
from influence_cli.core.solvers.choice import SOLVERS, HessianSolver, make_solver
from influence_cli.data.dataset import Dataset
from influence_cli.data.load import load
from influence_cli.errors import FileError, InterruptedRunError, UsageError, unknown_word
from influence_cli.models.linked import linked_rows
from influence_cli.models.settings import ModelSettings
from influence_cli.models.trained import TrainedModel, fit
from influence_cli.present.tables import FORMATS
from influence_cli.results import PENDING, Provenance, TruthResult
from influence_cli.specs.groups import GroupSpec, collect_specs
from influence_cli.specs.plan import GroupPlan, plan_groups
from influence_cli.specs.tests import TestRowSpec, choose_tests

DEFAULT_MODEL = "ginf.h5"
DEFAULT_SETTINGS = ModelSettings("logistic", 1e-3, "per-mean", True, False, 1e-8)


@dataclass(frozen=True)
class OpenModel:
    """A model and the file that it lives in."""

    path: str
    model: TrainedModel
    digest: str
    overridden: bool = False
    """Whether the model was opened with another curvature or damping, of which the file keeps no factor."""

    def provenance(self, config: dict) -> Provenance:
        settings = self.model.settings
        network = {"curvature": settings.curvature, "damping": settings.damping} if settings.is_network else {}
        return Provenance(self.model.dataset.digest, self.digest, {"model": self.path, **network, **config})


@contextmanager
def limit_threads(threads: int | None) -> Iterator[None]:
    """Hold every BLAS pool to that many threads."""
    if threads is None:
        yield
        return
    from threadpoolctl import threadpool_limits

    with threadpool_limits(limits=threads):
        yield


def check_choice(option: str, value: str, choices: tuple[str, ...]) -> None:
    """Raises UsageError where an option's word is not one of its choices."""
    if value not in choices:
        raise unknown_word(option, value, choices)


def check_format(name: str) -> None:
    check_choice("--format", name, FORMATS)


def check_quantity(name: str) -> None:
    """Refuse a misspelt ``--quantity`` before a model is read; whether it suits the model is seen later."""
    if ":" not in name:
        check_choice("--quantity", name, QUANTITIES)


def check_output(path: str | None, inputs: Iterable[str | None], *, force: bool) -> None:
    """Refuse, before anything is computed, a result file that cannot be written or that is one of the ``inputs``."""
    if path is None:
        return
    _refuse_input(path, inputs)
    check_target(path, force)


def _refuse_input(output: str, inputs: Iterable[str | None]) -> None:
    if os.path.realpath(output) in (os.path.realpath(other) for other in inputs if other is not None):
        raise UsageError(f"-o {output} would replace a file that this command reads", hint="name another file")


def check_tolerance(tol: float) -> None:
    if not 0 < tol < float("inf"):
        raise UsageError(f"--tol must be a number greater than 0, found {tol:g}")


def store(
    path: str, model: TrainedModel, provenance: dict, *, force: bool, link: dict[str, str] | None = None
) -> ModelArtifact:
    """Write a trained model; ``provenance`` tells where its data came from, a ``link`` stands in its place."""
    artifact = ModelArtifact(
        dataset=model.dataset,
        theta=model.theta[:, 0],
        residuals=model.residuals,
        factor=model.factor,
        settings={**model.settings.as_dict(), **provenance},
        training={"grad_norm": model.grad_norm, "iterations": model.iterations, "seconds": model.seconds},
        link=link,
    )
    save_model(path, artifact, force=force)
    return artifact


def open_model(
    path: str | None,
    *,
    quiet: bool,
    curvature: str | None = None,
    damping: float | None = None,
    output: str | None = None,
) -> OpenModel:
    """The model of ``--model``, else ginf.h5, else the built-in digits model, trained and saved as ginf.h5.

    ``curvature`` and ``damping`` take the place of those that a network was trained with.  Raises UsageError where
    ``output`` would replace a file that the model is linked to.
    """
    if path is None and not Path(DEFAULT_MODEL).exists():
        _train_default(quiet=quiet)
    path = DEFAULT_MODEL if path is None else path
    artifact = load_model(path, fetch=linked_rows)
    if output is not None and artifact.link is not None:
        _refuse_input(output, artifact.link.values())
    settings = ModelSettings.from_dict(artifact.settings)
    model = TrainedModel(
        artifact.dataset,
        settings,
        artifact.theta[:, None],
        artifact.residuals,
        artifact.training["grad_norm"],
        artifact.training["iterations"],
        artifact.training["seconds"],
        artifact.factor,
        {key: value for key, value in artifact.settings.items() if key not in settings.as_dict()},
    )
    chosen = model.with_curvature(curvature, damping)
    return OpenModel(path, chosen, artifact.digest, chosen.settings != model.settings)


def _train_default(*, quiet: bool) -> None:
    try:
        check_target(DEFAULT_MODEL, force=False)
        dataset = load("digits", task="classification")
        model = fit(dataset, DEFAULT_SETTINGS)
        model = model.with_factor(make_solver(model.objective, model.theta, "cholesky").factor)
        store(DEFAULT_MODEL, model, {"data": "digits", "test_fraction": 0.2, "seed": 0}, force=False)
    except UsageError:
        if not Path(DEFAULT_MODEL).exists():
            raise
        return  # another process has just made the same file
    note(
        f"no model given: trained the built-in digits model ({dataset.rows:,} rows, {len(dataset.classes)}"
        f" classes, l2 {DEFAULT_SETTINGS.l2:g}) and saved it as {DEFAULT_MODEL}",
        quiet=quiet,
    )


def open_solver(opened: OpenModel, requested: str, *, quiet: bool, beside: float = 0.0) -> HessianSolver:
    """The solver that was asked for; a factor that had to be made is cached in the model's file.

    ``beside`` is the memory in bytes that the command needs for the rest of its work.
    """
    model = opened.model
    choice = model.choose_solver(requested, beside=beside)
    cached = choice.kind == "cholesky" and model.factor is not None
    note(
        f"solver {choice.kind}: " + (f"reusing the factor cached in {opened.path}" if cached else choice.reason),
        quiet=quiet,
    )
    solver = make_solver(model.objective, model.theta, choice.kind, factor=model.factor)
    if solver.factor is not None and not cached and not opened.overridden:
        try:
            add_factor(opened.path, solver.factor, model_digest=opened.digest)
            note(f"cached the factor in {opened.path}", quiet=quiet)
        except FileError as error:
            note(f"the factor could not be cached: {error.message}", quiet=quiet)
    return solver


def read_specs(group: list[str] | None, groups: str | None) -> list[GroupSpec]:
    """Group specifications from ``--group`` and ``--groups``.  Raises UsageError where there are none."""
    specs = collect_specs(group or [], groups, stdin=sys.stdin)
    if not specs:
        raise UsageError(
            "no group of training rows was given", hint="for example --group coherent:3 or --group random:10%x20"
        )
    return specs


def plan(model: TrainedModel, specs: list[GroupSpec], seed: int) -> GroupPlan:
    data = model.dataset
    columns = data.columns_train
    return plan_groups(specs, data.X_train, data.y_train, data.classes, columns=columns, seed=seed, stdin=sys.stdin)


def pick_tests(model: TrainedModel, spec: TestRowSpec | None) -> TestRows | None:
    if spec is None:
        return None
    misclassified = model.misclassified if model.dataset.classes else None
    rows, mean = choose_tests(spec, model.dataset.X_test.shape[0], misclassified)
    return TestRows(rows, mean)


def identified(columns: dict[str, Any], dataset: Dataset) -> dict[str, Any]:
    """Records with the identifiers of ``--id`` behind the numbers of test rows, and of training rows where listed."""
    if dataset.ids_train is None or dataset.ids_test is None:
        return columns
    train, test = (
        [None if isinstance(one, float) and np.isnan(one) else one for one in ids.tolist()]
        for ids in (dataset.ids_train, dataset.ids_test)
    )
    of_tests = [test[row] if isinstance(row, int | np.integer) else None for row in columns["test"]]
    found = {**columns, "test_id": of_tests}
    if "rows" in columns:
        found["ids"] = [None if rows is None else [train[row] for row in rows] for rows in columns["rows"]]
    return found


def check_solver(name: str) -> None:
    check_choice("--solver", name, SOLVERS)


def jobs_at_a_time(asked: int | None, blocks: int) -> int:
    """As asked, else one a thread; never more than threads or blocks."""
    return max(1, min(asked or thread_count(), thread_count(), blocks))


def resume_truth(path: str, fresh: TruthResult, *, quiet: bool) -> TruthResult | None:
    """What the file already holds of the run that ``fresh`` would begin; None where there is no file.

    Raises FileError where the file belongs to another run.
    """
    if not Path(path).exists():
        note(f"there is no {path} to go on with: starting it", quiet=quiet)
        return None
    found = load_truth(path)
    same_origin(found.provenance, fresh.provenance, path, fresh.provenance.config["model"])
    was, now = found.provenance.config, fresh.provenance.config
    free = {"model", *({"solver"} - now.keys())}  # auto goes on with the solver that the file was begun with
    for key in dict.fromkeys((*now, *was)):
        if key not in free and was.get(key) != now.get(key):
            raise FileError(
                f"{path} cannot be resumed: it was made with {key} {was.get(key)!r}, not {now.get(key)!r}",
                hint="repeat the command that made it, or start over with --force",
            )
    if found.groups.digest != fresh.groups.digest or not np.array_equal(found.tests, fresh.tests):
        raise FileError(f"{path} cannot be resumed: its groups or test rows are others", hint="start over with --force")
    left = sum(state == PENDING for state in found.status)
    note(f"resuming {path}: {len(found.status) - left} of {len(found.status)} groups are done", quiet=quiet)
    return found


def interrupted(output: str | None, so_far: TruthResult) -> InterruptedRunError:
    """What Ctrl-C leaves behind, and how to go on."""
    done = f"{sum(state != PENDING for state in so_far.status)} of {len(so_far.status)} groups were retrained"
    if output is None:
        return InterruptedRunError(f"interrupted: {done} and nothing is kept", hint="-o truth.h5 keeps what is done")
    return InterruptedRunError(
        f"interrupted: {done} and are kept in {output}", hint="the same command with --resume goes on from there"
    )
