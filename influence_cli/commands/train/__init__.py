"""``ginf train``: from data to a model file."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from influence_cli.commands.bundles import command
from influence_cli.commands.options import Common, Network, Solver, Written
from influence_cli.commands.train.options import Form, Kept, Source, check_alone, resolve, with_built_in, with_counts
from influence_cli.commands.train.tables import Tables

if TYPE_CHECKING:
    from influence_cli.data.dataset import Dataset
    from influence_cli.data.options import TableOptions
    from influence_cli.models.adoption import Adoption
    from influence_cli.models.settings import ModelSettings
    from influence_cli.models.trained import TrainedModel


@command
def train(
    source: Source, tables: Tables, form: Form, network: Network, kept: Kept, common: Common, solver: Solver = "auto"
) -> int:
    """Train a model to a stationary point and save it with its data and Hessian factor.

    Example: ginf train --data digits --l2 0.001 -o digits.h5
    """
    from pathlib import Path

    from influence_cli.commands import existing, output, session
    from influence_cli.data.sources import check_source, files_of
    from influence_cli.models.linked import link_to
    from influence_cli.models.skops import check_skops
    from influence_cli.models.stored import store
    from influence_cli.present.models import model_page
    from influence_cli.tabular import Records

    output.check_written(Written(kept.format))
    output.check_ending(kept.output, records=False)
    session.check_solver(solver)
    check_alone(tables, form)
    form = with_counts(tables, with_built_in(source, form))
    settings = resolve(form, network, common.seed)
    if form.from_model is not None:
        check_skops(form.from_model)
    check_source(source.name)
    inputs = (*files_of(source.name), *files_of(source.test_data), form.from_model)
    keeps = existing.check_outputs(common, {"-o": kept.output}, inputs)
    is_free = form.from_model is None and settings.l2 == 0
    table = tables.options(source.test_data, source.sample_weight, is_free=is_free)
    with common.limited_threads():
        model = adoption = None
        if form.from_model is not None:
            model, adoption = _bring(source, table, form, settings.tol, common)
            asked = Asked(model.dataset, model.settings, model.origin)
        else:
            asked = _asked(source, table, form, settings, common)
        linked = kept.link_data or asked.dataset.streamed is not None
        link = link_to(source.name, source.test_data, form.from_model) if linked else None
        if keeps:
            theta = None if model is None else model.theta
            model = existing.model_in(kept.output, asked.dataset, asked.all_settings, link, common, theta)
        else:
            model = _trained(asked, form, common) if model is None else model
            pipeline = None if form.from_model is None or kept.link_data else Path(form.from_model).read_bytes()
            model = _with_solver(model, solver, common)
            store(kept.output, model, force=common.replaces, link=link, pipeline=pipeline)
        if link is not None:
            common.note(f"{kept.output} is linked to its data: keep unchanged {', '.join(link.values())}")
        record = _record(kept.output, source.name, model, form.from_model, adoption)
    columns = Records((record,)).columns()
    made = f"Trained {form.estimator}" if form.from_model is None else form.from_model
    title = f"{made} model, {'kept' if keeps else 'saved'} as {kept.output}"
    answer = output.Answer(columns, lambda: model_page(title, model, common.verbose))
    output.emit(answer, Written(kept.format), common)
    return 0


def _with_solver(model: TrainedModel, solver: str, common: Common) -> TrainedModel:
    """The model with what later commands need to solve with its Hessian."""
    from influence_cli.core.solvers.choice import make_solver

    choice = model.choose_solver(solver)
    common.detail(f"solver {choice.kind}: {choice.reason}")
    model.sum_up(choice.kind)
    return model.with_factor(make_solver(model.objective, model.theta, choice.kind).factor)


@dataclass(frozen=True)
class Asked:
    """A model that ginf has still to train, and where its data come from."""

    dataset: Dataset
    settings: ModelSettings
    origin: Mapping[str, Any]

    @property
    def all_settings(self) -> dict[str, Any]:
        """The settings as the model's file keeps them."""
        return {**self.settings.as_dict(), **self.origin}


def _asked(source: Source, table: TableOptions, form: Form, settings: ModelSettings, common: Common) -> Asked:
    """The data and the settings, whose penalty is that of the weighted rows."""
    from influence_cli.commands import session
    from influence_cli.core.parallel import reserve
    from influence_cli.data.load import load
    from influence_cli.data.summary import summary
    from influence_cli.models.rank import without_dependent
    from influence_cli.models.sample_weights import weighted
    from influence_cli.models.settings import ESTIMATORS, resolve_penalty

    reserve()
    dataset = load(
        source.name,
        task=ESTIMATORS[form.estimator],
        test_fraction=source.test_fraction,
        seed=common.seed,
        table=table,
    )
    for text in (*dataset.notes, *summary(dataset)):
        common.note(text)
    outputs = max(1, len(dataset.classes)) if len(dataset.classes) > 2 else 1
    session.note_streaming(dataset, common, outputs * (dataset.X_train.shape[1] + settings.fit_intercept))
    if source.test_fraction == 0 and source.test_data is None and dataset.rows == dataset.X_test.shape[0]:
        common.note("the test rows are the training rows (--test-fraction 0)")
    dataset, total = weighted(dataset, table.weights, form.class_weight)
    l2, scaling = resolve_penalty(form.l2, form.C, form.penalty_scaling, total)
    settings = replace(settings, l2=l2, penalty_scaling=scaling)
    if settings.l2 == 0 and not settings.is_network and (reduced := without_dependent(dataset, form.intercept)):
        common.note(reduced.sentence)
        dataset = reduced.dataset
    weighting = {} if form.class_weight is None else {"class_weight": form.class_weight}
    return Asked(dataset, settings, _origin(source, table, common.seed) | weighting)


def _trained(asked: Asked, form: Form, common: Common) -> TrainedModel:
    """The trained model."""
    from influence_cli.models.settings import default_iterations
    from influence_cli.models.trained import fit

    counted = "L-BFGS iterations" if asked.settings.is_network else "Newton steps"
    steps = form.max_iterations or default_iterations(form.estimator)
    with common.progress(counted, None) as advance:
        model = fit(asked.dataset, asked.settings, max_iterations=steps, watch=lambda step, norm: advance(1))
    return model.changed(origin=asked.origin)


def _bring(
    source: Source, table: TableOptions, form: Form, tol: float, common: Common
) -> tuple[TrainedModel, Adoption]:
    """The model of ``--from``, with what was determined about it."""
    from influence_cli.models.adoption import Polishing
    from influence_cli.models.settings import default_iterations
    from influence_cli.models.skops import bring

    assert form.from_model is not None
    brought = bring(
        form.from_model,
        source.name,
        table,
        Polishing(form.penalty_scaling, tol, form.polish, form.max_iterations or default_iterations(form.estimator)),
        seed=common.seed,
    )
    model, adoption = brought.model, brought.adoption
    for text in (*model.dataset.notes, f"{brought.described}: {adoption.sentence}"):
        common.note(text)
    if brought.tests_itself:
        common.note("the test rows are the training rows: --test-data FILE gives others")
    brought_from: dict[str, Any] = {"from": form.from_model, "sklearn": brought.described}
    if brought.columns:
        brought_from["columns"] = list(brought.columns)
    return replace(model, origin=_origin(source, table, common.seed) | brought_from), adoption


def _origin(source: Source, table: TableOptions, seed: int) -> dict[str, Any]:
    """Where the data come from, as the model's file keeps it."""
    return {
        "data": source.name,
        "test_fraction": source.test_fraction,
        "seed": seed,
        **table.as_dict(),
    }


def _record(
    output: str, data: str, model: TrainedModel, source: str | None, adoption: Adoption | None
) -> dict[str, Any]:
    """The record of a training; keys are only ever added."""
    from influence_cli.data.summary import base_rate

    dataset, settings = model.dataset, model.settings
    return {
        "model": output,
        "data": data,
        "estimator": settings.estimator,
        "rows": dataset.rows,
        "test_rows": dataset.X_test.shape[0],
        "features": dataset.X_train.shape[1],
        "classes": len(dataset.classes) or None,
        "parameters": model.objective.size,
        "l2": settings.l2,
        "penalty_scaling": settings.penalty_scaling,
        "grad_norm": model.grad_norm,
        "iterations": model.iterations,
        "seconds": model.seconds,
        "train_score": model.score("train"),
        "test_score": model.score("test"),
        "factor": model.factor is not None,
        "from": source,
        "from_grad_norm": None if adoption is None else adoption.grad_norm,
        "from_moved": None if adoption is None else adoption.moved,
        "base_rate": base_rate(dataset),
    }
