"""Models of arrays, frames and estimators that a Python user holds, ready to be given test rows in the same form."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from influence_cli.data.dataset import Dataset
from influence_cli.data.labels import class_names
from influence_cli.data.python_objects import (
    column_names,
    feature_array,
    frame_columns,
    is_frame,
    label_array,
    test_labels,
    training_set,
    typed,
    with_columns,
)
from influence_cli.data.rates import divided
from influence_cli.data.row_labels import in_row_order, row_labels
from influence_cli.errors import FileError, UsageError, about
from influence_cli.models.adoption import Polishing, adopt
from influence_cli.models.differences import differences
from influence_cli.models.frames import features_of, needs_preparation, prepared
from influence_cli.models.pipelines import pipeline_refit
from influence_cli.models.preprocessing import Balancing, Refit, Unfitted, own_refit
from influence_cli.models.rank import reduce_recipe, without_dependent
from influence_cli.models.sample_weights import BALANCED, balance, with_weights
from influence_cli.models.settings import ESTIMATORS, ModelSettings, default_iterations, resolve_penalty
from influence_cli.models.sklearn import read_estimator, take_apart
from influence_cli.models.stored import stored
from influence_cli.models.trained import TrainedModel, fit
from influence_cli.models.transformers import Steps, output_names, transform_with
from influence_cli.results import Provenance

TRAIN, TEST = "training rows", "test rows"


@dataclass(frozen=True, eq=False)
class InMemory:
    """A trained model with what is needed to read further rows in the form of its training rows.

    ``class_values`` (c,) are the labels as they were given, in the order of their codes; None for a regression.
    ``steps`` are the fitted transformers that rows go through, and ``given`` the training rows in the form that the
    first of them takes.  ``labels`` is the pandas index of the training rows, by which pandas objects name groups, and
    ``columns`` are those that a frame of rows must have; for arrays they are None and empty.  ``balancing`` describes
    class weights that are balanced again without a group, and ``note`` says what was noticed while the model was made.
    """

    model: TrainedModel
    class_values: np.ndarray | None = None
    steps: Steps = ()
    given: Any = None
    labels: Any = None
    columns: tuple[str, ...] = ()
    balancing: Balancing | None = None
    note: str = ""

    def with_tests(self, X: Any, y: Any) -> tuple[Dataset, Any]:
        """The data with these test rows (unchanged if X is None), and the rows in the transformers' form."""
        dataset = self.model.dataset
        if X is None:
            return dataset, None
        given = made = with_columns(X, self.columns, "X_test")
        if dataset.preparation is not None and is_frame(X):
            features = features_of(dataset, given)
        else:
            with about("X_test"):
                if self.steps:
                    made = transform_with(self.steps, given)
                features = feature_array(made, TEST, dataset.feature_names if not is_frame(made) else None)
        if features.shape[1] != dataset.X_train.shape[1]:
            raise FileError(f"X_test: expected {dataset.X_train.shape[1]} features, found {features.shape[1]}")
        y = in_row_order(y, row_labels(X), "y_test", "X_test")
        labels = test_labels(y, features.shape[0], self.class_values)
        records = np.arange(1, features.shape[0] + 1)
        columns = frame_columns(X)
        return replace(dataset, X_test=features, y_test=labels, columns_test=columns, records_test=records), given

    def refit(self, dataset: Dataset, given_test: Any) -> Refit | Unfitted | None:
        """How the preprocessing is fitted again without groups, for the results of ``with_tests``."""
        settings = self.model.settings
        if dataset.preparation is not None:
            if "from" in self.model.origin:
                return Unfitted("the pipeline that it was brought from is not at hand")
            own_steps = own_refit(dataset, settings, self.model.origin)
            if self.balancing is None or isinstance(own_steps, Unfitted):
                return own_steps
            return replace(own_steps or Refit(dataset, settings), balancing=self.balancing)
        if not self.steps:
            return None if self.balancing is None else Refit(dataset, settings, balancing=self.balancing)
        rows = (self.given, given_test)
        return pipeline_refit(dataset, settings, self.steps, rows, self.balancing, column_names(self.given))


def of_estimator(
    estimator: Any, X: Any, y: Any, sample_weight: Any, *, scaling: str | None, polish: bool, tol: float
) -> InMemory:
    """The fitted estimator, or pipeline that ends in one, with the rows that it was fitted on.

    Raises FileError, UsageError and NotConvergedError as ``sklearn`` and ``adoption`` do.
    """
    parts = take_apart(estimator)
    steps, recipe = parts.steps, read_estimator(parts.estimator)
    columns = tuple(map(str, getattr(estimator, "feature_names_in_", column_names(X))))
    frame = with_columns(X, columns, "X")
    with about("X"):
        features = feature_array(transform_with(steps, frame), TRAIN)
    names = output_names(steps, column_names(frame), features.shape[1]) if steps else column_names(frame)
    values = None if recipe.classes is None else typed(recipe.classes)
    labels = row_labels(X, y)
    dataset = training_set(X, features, names, in_row_order(y, labels, "y", "X"), values)
    own_weights = _weights(sample_weight, labels)
    dataset, total = with_weights(dataset, recipe.weights(dataset.y_train, len(dataset.classes), own_weights))
    notes, explained = parts.notes, steps
    if recipe.settings(total, None, tol).l2 == 0 and (reduced := without_dependent(dataset, recipe.fit_intercept)):
        recipe, dataset = reduce_recipe(recipe, dataset.X_train, reduced), reduced.dataset
        steps, notes = (*steps, reduced.step), (*notes, reduced.sentence)
    model, adoption = adopt(
        recipe,
        dataset,
        total,
        Polishing(scaling, tol, polish),
        notes=notes,
        explain=lambda: differences(explained, frame, dataset.y_train),
    )
    balancing = _balancing(own_weights, dataset.rows, recipe.balanced_by_rows) if recipe.balanced else None
    return InMemory(model, values, steps, frame if steps else None, labels, columns, balancing, adoption.sentence)


@dataclass(frozen=True)
class Wanted:
    """How a model of ginf's own is to be trained: the options of ``ginf train``; ``network`` has those of networks.

    ``per`` is the name (exposure or trials) and the numbers, one per row, to which the counts in y refer.
    """

    estimator: str
    l2: float | None
    C: float | None
    scaling: str | None
    fit_intercept: bool
    penalize_intercept: bool
    class_weight: str | None
    tol: float
    max_iterations: int | None
    impute: str | None = None
    network: Mapping[str, Any] = field(default_factory=dict)
    per: tuple[str, Any] = ("", None)


def counted_in(estimator: str, exposure: Any, trials: Any) -> tuple[str, Any]:
    """The name and the numbers of the exposure or trials to which the counts in y refer.  Raises UsageError."""
    if exposure is not None and trials is not None:
        raise UsageError("exposure and trials exclude each other", hint="counts have the one, successes the other")
    for name, given, due in (("exposure", exposure, "poisson"), ("trials", trials, "binomial")):
        if given is not None and estimator != due:
            raise UsageError(f"{name} is for estimator {due}, found {estimator}")
    return ("trials", trials) if exposure is None else ("exposure", exposure)


def of_rows(X: Any, y: Any, sample_weight: Any, wanted: Wanted) -> InMemory:
    """A model of ginf's own, trained on rows X (m, d) and labels or responses y (m,)."""
    preparation, names = None, column_names(X)
    with about("X"):
        if needs_preparation(X):
            made = prepared(X, wanted.impute)
            features, names = made.X_train, made.names
            preparation = {"standardize": False, "impute": wanted.impute, "features": made.state}
        else:
            features = feature_array(X, TRAIN)
    values = None
    if ESTIMATORS[wanted.estimator] == "classification":
        with about("y"):
            values = class_names(label_array(y, features.shape[0], TRAIN), TRAIN)[1]
    labels = row_labels(X, y)
    response, per = in_row_order(y, labels, "y", "X"), _weights(wanted.per[1], labels, wanted.per[0])
    if per is not None:
        response = divided(response, per, wanted.per[0])
    dataset = training_set(X, features, names, response, values)
    dataset = replace(dataset, preparation=preparation)
    raw = own_weights = _weights(sample_weight, labels)
    if per is not None:
        raw = per if raw is None else raw * per
        dataset = replace(dataset, columns_train={**dataset.columns_train, wanted.per[0]: per})
    balanced = wanted.class_weight == BALANCED
    if balanced:
        if values is None:
            raise UsageError("class_weight balanced is for classifications", hint="use sample_weight")
        raw = balance(dataset.y_train, len(values), raw)
    dataset, total = with_weights(dataset, raw)
    strength, scaling = resolve_penalty(wanted.l2, wanted.C, wanted.scaling, total)
    settings = ModelSettings(
        wanted.estimator,
        strength,
        scaling,
        wanted.fit_intercept,
        wanted.penalize_intercept,
        wanted.tol,
        **wanted.network,
    )
    steps: Steps = ()
    note = ""
    if strength == 0 and not settings.is_network and (reduced := without_dependent(dataset, wanted.fit_intercept)):
        dataset, note = reduced.dataset, reduced.sentence
        steps = (reduced.step,) if preparation is None else ()
    model = fit(dataset, settings, max_iterations=wanted.max_iterations or default_iterations(wanted.estimator))
    if per is not None:
        model = replace(model, origin={wanted.per[0]: wanted.per[0]})
    balancing = _balancing(own_weights, dataset.rows, False) if balanced else None
    given = X if steps else None
    return InMemory(model, values, steps, given, labels, column_names(X), balancing, note)


def of_file(path: str) -> InMemory:
    """A model that was saved by Python or by ``ginf train``.  Raises FileError.

    Its test rows are those of its file, frames with the columns of its table, or arrays of its features.
    """
    model, _ = stored(path)
    classes = model.dataset.classes
    numbers = all(re.fullmatch(r"-?\d+", name) for name in classes)
    values = np.array([int(name) for name in classes] if numbers else classes) if classes else None
    return InMemory(model, values)


def _weights(given: Any, labels: Any, name: str = "sample_weight") -> np.ndarray | None:
    """Row weights (m,) in the order of the rows, if there are any."""
    if given is None:
        return None
    try:
        return np.asarray(in_row_order(given, labels, name, "X"), dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise FileError(f"{name} must be numbers, one a row of X ({error})") from None


def _balancing(raw: np.ndarray | None, rows: int, by_rows: bool) -> Balancing:
    return Balancing(np.ones(rows) if raw is None else raw, by_rows)


def provenance_of(model: TrainedModel, config: dict[str, Any]) -> Provenance:
    """What a result of this model says about where it comes from."""
    return Provenance(model.dataset.digest, model.digest, config)
