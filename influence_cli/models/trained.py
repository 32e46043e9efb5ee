"""A trained model in memory: data, settings, parameters, and the objective that they define."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from time import perf_counter
from typing import Any, Literal

import numpy as np

from influence_cli.artifacts.model import model_digest
from influence_cli.core.objectives.families.base import Family
from influence_cli.core.objectives.families.binomial import Binomial
from influence_cli.core.objectives.families.gaussian import Gaussian
from influence_cli.core.objectives.families.logistic import Logistic
from influence_cli.core.objectives.families.poisson import Poisson
from influence_cli.core.objectives.families.signed import Signed
from influence_cli.core.objectives.families.softmax import Softmax
from influence_cli.core.objectives.fused import glm_of
from influence_cli.core.objectives.glm import Glm
from influence_cli.core.objectives.kept import Kept, KeptLayers
from influence_cli.core.objectives.mlp import Form, Mlp
from influence_cli.core.objectives.networks.kfac import layer_numbers
from influence_cli.core.objectives.objective import Objective
from influence_cli.core.optimise.minimum import Watch
from influence_cli.core.removal import Removal, removal
from influence_cli.core.solvers.choice import SolverChoice, choose_solver
from influence_cli.core.solvers.cholesky import DOUBLE_UP_TO, CholeskyFactor
from influence_cli.core.training import train
from influence_cli.data.dataset import Dataset
from influence_cli.data.readers.in_place import refuse_streamed
from influence_cli.data.sparse import Rows
from influence_cli.data.stored import StoredRows
from influence_cli.errors import FileError, UsageError
from influence_cli.models.preprocessing import Refit
from influence_cli.models.settings import ESTIMATORS, ModelSettings, check_curvature

Split = Literal["train", "test"]


@dataclass(frozen=True)
class TrainedModel:
    """Parameters ``theta`` (P, 1) at a stationary point of J, with the data and settings that define J.

    ``residuals`` (m, K) are d l_i / d outputs at theta, or None if rows are streamed, because they would be too many.
    ``origin`` says where the data came from, as in the model's file.  ``refit`` recomputes the preprocessing without a
    group; None keeps it.
    """

    dataset: Dataset
    settings: ModelSettings
    theta: np.ndarray
    residuals: np.ndarray | None
    grad_norm: float
    iterations: int
    seconds: float
    factor: CholeskyFactor | None = None
    origin: Mapping[str, Any] = field(default_factory=dict)
    refit: Refit | None = None

    @cached_property
    def digest(self) -> str:
        """SHA-256 of theta, the data's digest, the settings and the origin; equal in memory and in a file."""
        return model_digest(self.theta[:, 0], self.dataset.digest, {**self.settings.as_dict(), **self.origin})

    @cached_property
    def family(self) -> Family:
        return family_of(self.dataset, self.settings)

    @cached_property
    def objective(self) -> Objective:
        return objective_of(self.dataset, self.settings)

    @property
    def kept(self) -> Kept | KeptLayers | None:
        """Sums over all rows at ``theta`` that were computed before, or None."""
        return getattr(vars(self).get("objective"), "kept", None)

    def sum_up(self, kind: str) -> None:
        """Compute, in one or two passes, the sums over all rows that later commands need for this kind of solver."""
        objective = self.objective
        if isinstance(objective, Glm) and objective.kept is None:
            dense = objective.size <= DOUBLE_UP_TO and objective.size**2 <= self.dataset.X_train.size
            objective.summed(self.theta, hessian=kind == "cholesky" and dense, kronecker=kind == "cg")
        elif isinstance(objective, Mlp) and objective.kept is None and kind == "cg":
            objective.summed(self.theta)

    def check(self, kept: Kept | KeptLayers | None = None) -> None:
        """Raises FileError if settings, rows and parameters do not match, as may happen in a file.

        ``kept`` are the sums over all rows in the file, which the model then uses.
        """
        settings, data = self.settings, self.dataset
        if ESTIMATORS[settings.estimator] != data.task:
            raise FileError(
                f"{settings.estimator} is for {ESTIMATORS[settings.estimator]}, and the rows are of a {data.task}"
            )
        if data.classes and len(data.classes) < 2:
            raise FileError(f"expected at least two classes, found {len(data.classes)}")
        check_responses(data, settings)
        columns = data.X_train.shape[1] + settings.fit_intercept
        if isinstance(kept, KeptLayers) != settings.is_network:
            kept = None
        if isinstance(kept, KeptLayers) or (kept is not None and kept.squares.shape == (columns,)):
            vars(self)["objective"] = objective_of(data, settings, kept)  # the cache of cached_property
        shapes: tuple[tuple[str, tuple[int, ...], tuple[int, ...]], ...] = (
            ("/params/theta", self.theta[:, 0].shape, (self.objective.size,)),
        )
        if isinstance(kept, KeptLayers) and isinstance(self.objective, Mlp):
            shapes += (("/sums/layers", kept.layers.shape, (layer_numbers(self.objective.network),)),)
        elif isinstance(kept, Kept):
            shapes += (("/sums/squares", kept.squares.shape, (columns,)),)
            shapes += (("/sums/gradient", kept.gradient.shape, self.theta.shape),)
        if self.residuals is not None:
            shapes += (("/gradients/residuals", self.residuals.shape, (data.rows, self.objective.outputs)),)
        for path, shape, expected in shapes:
            if shape != expected:
                raise FileError(f"{path} has the shape {shape}, expected {expected} by its settings")
        if self.factor is not None and not (self.factor.lower.diagonal() > 0).all():
            raise FileError("/hessian/cholesky: expected a diagonal greater than 0, found other numbers on it")

    @cached_property
    def parameter_names(self) -> tuple[str, ...]:
        """One name for each parameter, in the order of theta: ``FEATURE`` or, with several classes, ``CLASS:FEATURE``.

        In a network, ``h1.0:FEATURE`` is a weight of the first unit of the first hidden layer, and ``CLASS:h2.3`` a
        weight of the output layer.
        """
        bias = ("intercept",) if self.settings.fit_intercept else ()
        names = (*self.dataset.feature_names, *bias)
        hidden = []
        for depth, width in enumerate(self.settings.hidden, start=1):
            units = [f"h{depth}.{unit}" for unit in range(width)]
            hidden += [f"{unit}:{name}" for unit in units for name in names]
            names = (*units, *bias)
        if self.family.outputs == 1:
            return (*hidden, *names)
        return (*hidden, *(f"{label}:{name}" for label in self.dataset.classes for name in names))

    def predict(self, X: Rows) -> np.ndarray:
        """The predicted class codes or responses (n,) of rows X (n, d)."""
        if isinstance(X, StoredRows):
            return np.concatenate([self.predict(X[rows]) for rows in X.blocks()])
        return self.family.predict(self.objective.predict_outputs(self.theta, X))[0]

    @property
    def per(self) -> str:
        """The column of exposures or trials by which counts were divided; empty if there is none."""
        return self.origin.get("exposure") or self.origin.get("trials") or ""

    @property
    def observations(self) -> float:
        """The number of observations for variances: rows with a positive weight, or their total exposure or trials."""
        weights = self.objective.weights
        if self.per in self.dataset.columns_train:
            return float(np.asarray(self.dataset.columns_train[self.per])[weights > 0].sum())
        return float(np.count_nonzero(weights))

    @property
    def score_name(self) -> str:
        if self.dataset.classes:
            return "accuracy"
        return "R squared" if isinstance(self.family, Gaussian) else "D squared"

    def misclassified(self) -> np.ndarray:
        """Which test rows the model misclassifies, (n,) bool.  Raises UsageError if no test row has a label."""
        if not self.dataset.labelled.any():
            raise UsageError(
                "no test row has a label, so that none is known to be misclassified",
                hint="ask for --test all, or add the labels to the file of test rows",
            )
        return (self.predict(self.dataset.X_test) != self.dataset.y_test) & self.dataset.labelled

    def score(self, split: Split) -> float:
        """The score named by ``score_name`` over the labelled rows; NaN without labels or if all responses are equal.

        All rows have the same weight, except that rates and shares are weighted by their exposure or trials.
        """
        data = self.dataset
        X, y = (data.X_train, data.y_train) if split == "train" else (data.X_test, data.y_test)
        known = y >= 0 if data.classes else ~np.isnan(y)
        if not known.any() or (not data.classes and np.ptp(y[known]) == 0):
            return float("nan")
        columns = data.columns_train if split == "train" else data.columns_test
        w = np.asarray(columns[self.per], dtype=np.float64) if self.per in columns else np.broadcast_to(1.0, len(y))
        alike = None if data.classes else self.family.centre(y[known], w[known])
        right, possible, unit = 0.0, 0.0, 0.0
        for rows in X.blocks() if isinstance(X, StoredRows) else [slice(None)]:
            true_labels = known[rows]
            block, labels, weights = (
                one if true_labels.all() else one[true_labels] for one in (X[rows], y[rows], w[rows])
            )
            outputs = self.objective.predict_outputs(self.theta, block)
            if alike is None:
                right += float((self.family.predict(outputs)[0] == labels).sum())
                possible += len(labels)
                continue
            same = np.broadcast_to(alike, (1, 1, len(labels)))
            unit += float(self.family.loss(outputs, labels)[0] @ weights)
            possible += float(self.family.loss(same, labels)[0] @ weights)
        return right / possible if alike is None else 1.0 - unit / possible

    def removal(self, groups: Sequence[np.ndarray]) -> Removal:
        """The removal of groups of rows, with the penalties that result from refitting the scales without each group.

        Raises UsageError for a group without which no row has a positive weight.
        """
        refit = self.refit
        penalty = refit.penalty(groups) if refit is not None and refit.shared else None
        return removal(self.objective.weights, groups, self.settings.penalty_scaling, penalty)

    def changed(self, **changes: Any) -> TrainedModel:
        """The same model with other fields; the objective is reused unless settings or data change."""
        made = replace(self, **changes)
        if "objective" in vars(self) and made.settings == self.settings and made.dataset is self.dataset:
            vars(made)["objective"] = self.objective  # the cache of cached_property; computing it takes a pass
        return made

    def with_factor(self, factor: CholeskyFactor | None) -> TrainedModel:
        return self.changed(factor=factor)

    def choose_solver(self, requested: str, *, beside: float = 0.0) -> SolverChoice:
        """The solver of H x = b that was requested; see ``core.solvers.choice`` for the choice and its errors."""
        return choose_solver(
            requested,
            size=self.objective.size,
            outputs=self.objective.outputs,
            rows=self.dataset.rows,
            cached=self.factor is not None,
            wide=isinstance(self.objective, Glm) and self.objective.wide,
            beside=beside,
        )

    def with_curvature(self, curvature: str | None, damping: float | None) -> TrainedModel:
        """The same parameters with another curvature or damping, without the factor of the former Hessian.

        Raises UsageError.
        """
        if curvature is None and damping is None:
            return self
        if not self.settings.is_network:
            raise UsageError(f"--curvature and --damping are for networks; this model is {self.settings.estimator}")
        check_curvature(curvature, damping)
        current = self.settings
        settings = replace(
            current,
            curvature=current.curvature if curvature is None else curvature,
            damping=current.damping if damping is None else damping,
        )
        made = replace(self, settings=settings, factor=self.factor if settings == current else None)
        vars(made)["objective"] = objective_of(self.dataset, settings, self.kept)  # K-FAC stays the same
        return made


REGRESSIONS: dict[str, type[Family]] = {"poisson": Poisson, "binomial": Binomial}
"""Estimator -> family of its numeric responses, if it is not Gaussian."""


def family_of(dataset: Dataset, settings: ModelSettings) -> Family:
    """The loss of a row: for two classes with one weight vector, for more a softmax."""
    if ESTIMATORS[settings.estimator] == "regression":
        return REGRESSIONS.get(settings.estimator, Gaussian)()
    if settings.estimator == "ridge-classifier":
        return Signed(len(dataset.classes))
    return Logistic() if len(dataset.classes) == 2 else Softmax(len(dataset.classes))


def check_responses(dataset: Dataset, settings: ModelSettings) -> None:
    """Raises FileError for responses for which the estimator's loss is not defined or has no minimum."""
    name = settings.estimator
    if name not in REGRESSIONS:
        return
    most, expected, hint = np.inf, "of at least 0", "for a response of either sign use --estimator linear"
    if name == "binomial":
        most, expected, hint = 1.0, "from 0 to 1", "counts of successes need --successes and --trials"
    for where, y in (("training", dataset.y_train), ("test", dataset.y_test)):
        wrong = (y < 0) | (y > most)
        if wrong.any():
            row = int(np.argmax(wrong))
            example = f"{y[row]:g} in {where} row {row}"
            raise FileError(f"{dataset.name}: --estimator {name} expects responses {expected}, found {example}", hint)
    for bound, beside, y in ((0, "over 0", dataset.y_train), (1, "under 1", most - dataset.y_train)):
        if not (y > 0).any():
            raise FileError(
                f"{dataset.name}: --estimator {name} expects a response {beside}, found {bound} in every row"
            )


def objective_of(dataset: Dataset, settings: ModelSettings, kept: Kept | KeptLayers | None = None) -> Objective:
    """J on the training rows; ``kept`` are sums over them that were computed before.  Raises UsageError."""
    if settings.is_network:
        refuse_streamed(dataset.X_train, f"--estimator {settings.estimator}")
        if not isinstance(dataset.X_train, np.ndarray):
            raise UsageError(
                f"--estimator {settings.estimator} takes dense features, and those of {dataset.name} are sparse",
                hint="store them dense (.npz, or X.toarray()), or take --estimator logistic, linear or poisson",
            )
        form = settings.hidden, settings.l2, settings.activation, settings.fit_intercept, settings.penalize_intercept
        network = Mlp(
            dataset.X_train,
            dataset.y_train,
            family_of(dataset, settings),
            Form(*form),
            curvature=settings.curvature,
            damping=settings.damping,
            weights=dataset.weights,
        )
        network.kept = kept if isinstance(kept, KeptLayers) else None
        return network
    return glm_of(
        dataset.X_train,
        dataset.y_train,
        family_of(dataset, settings),
        l2=settings.l2,
        intercept=settings.fit_intercept,
        penalize_intercept=settings.penalize_intercept,
        weights=dataset.weights,
        kept=kept if isinstance(kept, Kept) else None,
    )


def fit(
    dataset: Dataset,
    settings: ModelSettings,
    *,
    max_iterations: int = 200,
    watch: Watch | None = None,
) -> TrainedModel:
    """The model trained to a relative Newton decrement of ``settings.tol``.

    Raises NotConvergedError, and FileError for unsuitable responses.
    """
    check_responses(dataset, settings)
    objective = objective_of(dataset, settings)
    start = perf_counter()
    minimum = train(objective, tol=settings.tol, max_iterations=max_iterations, seed=settings.seed, watch=watch)
    model = TrainedModel(
        dataset,
        settings,
        minimum.theta,
        None if dataset.streamed is not None else objective.residuals(minimum.theta),
        float(minimum.grad_norm[0]),
        int(minimum.iterations[0]),
        perf_counter() - start,
    )
    vars(model)["objective"] = objective
    return model
