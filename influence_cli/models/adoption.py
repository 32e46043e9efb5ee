"""A fitted estimator on its training rows: are these its rows, and how far are its parameters from their minimum?

The formulas hold at a minimum, and a fit usually ends shortly before one.  A few Newton steps from the given parameters
("polishing") reach it.  They would also turn the model into that of other rows, if such were given, so that the rows
are checked: by the stopping rule of the estimator's own solver, and by how far polishing moves the outputs.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from time import perf_counter

import numpy as np
from scipy.sparse import issparse

from influence_cli.core.objectives.families.softmax import Softmax
from influence_cli.core.objectives.objective import Objective
from influence_cli.core.training import train
from influence_cli.data.dataset import Dataset
from influence_cli.data.sparse import Rows
from influence_cli.errors import FileError, NotConvergedError
from influence_cli.models.sklearn import EXACT, Recipe
from influence_cli.models.trained import TrainedModel, check_responses, family_of, objective_of

SOLVED = 1e-6
"""Movement of the outputs, relative to their spread, that rounding explains if the estimator solved its equations."""
NEARBY = 1e-4
"""Movement of the outputs, relative to their spread, above which a gradient beyond the solver's tolerance shows other
rows: a solver also ends where rounding stops its progress, but then the outputs move less."""
ROUNDING = 1e-9
"""Movement of the outputs, relative to their spread, that counts as none: different solvers differ by this much."""
SLACK = 1.5
"""Largest entry of the gradient on the same rows, as a multiple of the solver's tolerance."""
STRICT = 1e-3
"""Largest ``tol`` by which other rows can be recognised: without a tenth of the rows gradients had entries of 1e-4 to
1e-2."""
EARLY, UNPROVEN = 0.05, 1e-3
"""Largest movement of the outputs, relative to their spread, on polishing: if the solver's own rule says that
these are its rows, and if nothing does.  scikit-learn's default tol of 1e-4 left 3e-5 to 4e-2 on standardised data."""


@dataclass(frozen=True)
class Adoption:
    """How well the estimator's parameters suit its rows: the gradient norm there, and how far polishing moved the
    outputs relative to their spread."""

    grad_norm: float
    moved: float
    notes: tuple[str, ...] = ()

    @property
    def sentence(self) -> str:
        polished = f", polished; outputs moved by {self.moved:.1e} of their spread" if self.moved else ""
        norm_in_words = f"gradient norm {self.grad_norm:.1e} at the parameters that were given{polished}"
        return "; ".join([norm_in_words, *self.notes])


@dataclass(frozen=True)
class Polishing:
    """How given parameters are polished: to a relative Newton decrement of ``tol``, and not at all without ``polish``;
    ``scaling`` is the penalty scaling, None for that of the estimator."""

    scaling: str | None = None
    tol: float = 1e-8
    polish: bool = True
    max_iterations: int = 200


def adopt(
    recipe: Recipe,
    dataset: Dataset,
    total: float,
    how: Polishing,
    *,
    notes: Sequence[str] = (),
    explain: Callable[[], Sequence[str]] = tuple,
) -> tuple[TrainedModel, Adoption]:
    """The model with the estimator's parameters on its training rows; S = ``total``.

    Parameters that are not at a minimum are polished by Newton steps, or refused with NotConvergedError.  FileError
    says that the rows are not those of the estimator, with the differences that ``explain`` returns, or that its fit
    ended long before the minimum.
    """
    started = perf_counter()
    settings = recipe.settings(total, how.scaling, how.tol)
    check_responses(dataset, settings)
    features = recipe.parameters.shape[1] - recipe.fit_intercept
    if features != dataset.X_train.shape[1]:
        raise FileError(
            f"{dataset.name}: the {recipe.name} was fitted on {features} features, but the rows have"
            f" {dataset.X_train.shape[1]}",
            "give the columns that it was fitted on",
        )
    objective = objective_of(dataset, settings)
    parameters = recipe.parameters
    if isinstance(family_of(dataset, settings), Softmax):
        # Adding the same vector to the parameters of every class changes nothing, unless it is penalised.
        free = objective.penalty.ridge == 0
        parameters = np.where(free, parameters - parameters.mean(axis=0), parameters)
    given = parameters.reshape(-1, 1)
    gradient = objective.gradient(given, objective.weights)
    norm = float(np.linalg.norm(gradient))
    minimum = train(objective, tol=how.tol, max_iterations=how.max_iterations, start=given)
    moved = _moved(objective, given, minimum.theta, dataset.X_train)
    if moved <= max(how.tol, ROUNDING):
        moved = 0.0
    elif not how.polish:
        raise NotConvergedError(
            f"the {recipe.name} is not at a stationary point: gradient norm {norm:.1e}, the outputs are {moved:.1e} of"
            f" their spread from there; {how.tol:.0e} is expected",
            hint="fit it with a smaller tol, or let ginf polish its parameters (without --no-polish)",
        )
    _check_rows(recipe, dataset, float(np.abs(gradient).max()), moved, explain)
    model = TrainedModel(
        dataset,
        settings,
        minimum.theta,
        objective.residuals(minimum.theta),
        float(minimum.grad_norm[0]),
        int(minimum.iterations[0]),
        perf_counter() - started,
    )
    return model, Adoption(norm, moved, tuple(notes))


def _check_rows(
    recipe: Recipe, dataset: Dataset, largest: float, moved: float, explain: Callable[[], Sequence[str]]
) -> None:
    """Raise FileError if the rows are not the estimator's, or if its fit ended too early; see the constants above.

    ``largest`` is the largest absolute entry of the gradient at the given parameters.
    """
    rule = None if recipe.stops_at == EXACT and issparse(dataset.X_train) else recipe.stops_at
    if rule == EXACT:
        other, limit = moved > SOLVED, SOLVED
    elif rule is not None and rule <= STRICT:
        other, limit = largest > SLACK * rule and moved > NEARBY, EARLY
    else:
        other, limit = False, UNPROVEN
    if not other and moved <= limit:
        return
    differences = "; ".join(explain())
    shown = f"at the minimum of these rows the outputs differ by {moved:.1%} of their spread"
    if other:
        why = (
            "" if rule == EXACT else f", and the gradient has an entry of {largest:.1e} where its fit ended at {rule:g}"
        )
        raise FileError(
            f"{dataset.name}: these are not the rows that the {recipe.name} was fitted on: {shown}{why}"
            + (f"; {differences}" if differences else ""),
            "give its own training rows, labels and weights, as they were when it was fitted",
        )
    raise FileError(
        f"{dataset.name}: the {recipe.name} is not the minimum of these rows: {shown}; either it was fitted on other"
        f" rows, or its fit ended early" + (f"; {differences}" if differences else ""),
        "give its own training rows, labels and weights; fit it with more max_iter or a smaller tol, such as 1e-8",
    )


def _moved(objective: Objective, before: np.ndarray, after: np.ndarray, X: Rows) -> float:
    """Change of the outputs relative to their spread, in the norm over rows and outputs."""
    if (before == after).all():
        return 0.0
    old, new = (objective.predict_outputs(theta, X)[0] for theta in (before, after))
    spread = float(np.linalg.norm(new - new.mean(axis=1, keepdims=True)))
    change = float(np.linalg.norm(new - old))
    return change / max(spread, float(np.linalg.norm(new)) * 1e-6, np.finfo(float).tiny)
