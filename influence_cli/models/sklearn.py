"""Fitted scikit-learn estimators as models of ginf: the same parameters, penalty and convention of removal.

What scikit-learn minimises, with row weights s_i (1 without) and S = sum s, is J of DESIGN 2.1 times a constant:

    LogisticRegression           C sum s_i l_i + |w|^2/2                   lambda = 1/(C S)     per-sum
    Ridge, RidgeClassifier       sum s_i (eta_i - y_i)^2 + alpha |w|^2     lambda = alpha/S     per-sum
    PoissonRegressor             1/S sum s_i l_i + alpha |w|^2/2           lambda = alpha       per-mean
    LinearRegression             sum s_i (eta_i - y_i)^2                   lambda = 0           per-mean

The convention of removal is that of a refit with the same C or alpha.  Intercepts have no penalty.  A pipeline's
transformers stay as they were fitted, and so do balanced class weights.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from inspect import signature
from pathlib import Path
from typing import Any

import numpy as np

from influence_cli.core.objectives.families.softmax import Softmax
from influence_cli.core.removal import PER_MEAN, PER_SUM
from influence_cli.core.training import train
from influence_cli.data.dataset import Dataset
from influence_cli.data.sparse import Rows
from influence_cli.errors import FileError, NotConvergedError, UsageError
from influence_cli.models.sample_weights import balance
from influence_cli.models.settings import ModelSettings
from influence_cli.models.trained import TrainedModel, check_responses, family_of, objective_of

FOREIGN = 0.25
"""Movement of the outputs on polishing, relative to their spread, from which on the rows are not those of the model."""
PICKLES = (".pkl", ".pickle", ".joblib", ".dill", ".cloudpickle", ".sav")
HARMLESS = ("numpy.dtype",)
"""Types that skops does not trust by itself and that hold no code: SimpleImputer keeps the type of its numbers."""
SUPPORTED = "LogisticRegression, LinearRegression, Ridge, RidgeClassifier, PoissonRegressor"
SKOPS_HINT = "write it with skops: import skops.io; skops.io.dump(model, 'model.skops')"


@dataclass(frozen=True)
class Recipe:
    """What a fitted estimator says: ``parameters`` (K, D), the intercept last; ``strength`` of its ``penalty``, which
    is ``C``, ``sum`` (alpha on the sum of squares) or ``mean``; ``classes`` in the order of their codes."""

    name: str
    estimator: str
    parameters: np.ndarray
    fit_intercept: bool
    penalty: str
    strength: float
    classes: np.ndarray | None = None
    balanced: bool = False
    balanced_by_rows: bool = False
    """Whether ``balanced`` counts rows without their sample weights."""

    def weights(self, y: np.ndarray, classes: int, raw: np.ndarray | None) -> np.ndarray | None:
        """Sample weights (m,), if any, with the classes' weights in them."""
        return balance(y, classes, raw, by_rows=self.balanced_by_rows) if self.balanced else raw

    def settings(self, total: float, scaling: str | None, tol: float) -> ModelSettings:
        """With S = ``total``; ``scaling`` None is the convention of a refit with the same C or alpha."""
        if self.penalty == "C":
            l2 = 1.0 / (self.strength * total)
        else:
            l2 = self.strength / total if self.penalty == "sum" else self.strength
        own = PER_MEAN if self.penalty == "mean" or l2 == 0 else PER_SUM
        return ModelSettings(self.estimator, l2, scaling or own, self.fit_intercept, False, tol)


@dataclass(frozen=True)
class Adoption:
    """How well the estimator's parameters suit its rows: the gradient norm there, and how far polishing moved the
    outputs relative to their spread."""

    grad_norm: float
    moved: float

    @property
    def sentence(self) -> str:
        polished = f", polished; outputs moved by {self.moved:.1e} of their spread" if self.moved else ""
        return f"gradient norm {self.grad_norm:.1e} at the parameters that were given{polished}"


def check_skops(path: str) -> None:
    """Raises FileError where there is no file, or one that is never read."""
    if path.lower().endswith(PICKLES):
        raise FileError(
            f"{path}: a pickle or joblib file runs whatever code it holds as it is read, so ginf reads none", SKOPS_HINT
        )
    if not Path(path).is_file():
        raise FileError(f"{path}: no such file", SKOPS_HINT)


def read_skops(path: str) -> Any:
    """The object of a .skops file.  Raises FileError for what is none, and for types that are not scikit-learn's."""
    check_skops(path)
    try:
        import skops.io
    except ImportError:
        raise FileError(f"{path}: reading .skops files needs skops", "pip install 'ginf[skops]'") from None
    try:
        unknown = [name for name in skops.io.get_untrusted_types(file=path) if name not in HARMLESS]
        if unknown:
            raise FileError(
                f"{path}: only scikit-learn's own types are read, but the file also holds"
                f" {', '.join(map(str, unknown))}",
                "build the pipeline of scikit-learn's transformers",
            )
        return skops.io.load(path, trusted=list(HARMLESS))
    except FileError:
        raise
    except Exception as error:  # skops raises whatever zipfile, json and scikit-learn do
        message = f"{path}: a whole .skops file was expected, but reading it failed ({error})"
        raise FileError(message, SKOPS_HINT) from None


def split_pipeline(model: Any) -> tuple[list[tuple[str, Any]], Any]:
    """A pipeline's transformers and its last step, which may be pipelines again; no transformers of an estimator."""
    from sklearn.pipeline import Pipeline

    if not isinstance(model, Pipeline):
        return [], model
    *before, (_, last) = model.steps
    inner, estimator = split_pipeline(last)
    return [(name, step) for name, step in before if step not in (None, "passthrough")] + inner, estimator


def transform_with(steps: list[tuple[str, Any]], X: Any, name: str) -> Any:
    """X through the fitted transformers, in order.  Raises FileError with what they object to.

    BLAS has one thread: the last bits of a product depend on their number, and the same rows shall have one digest.
    """
    from threadpoolctl import threadpool_limits

    for step, transformer in steps:
        try:
            with threadpool_limits(limits=1):
                X = transformer.transform(X)
        except (ValueError, TypeError, KeyError, AttributeError, ImportError, IndexError) as error:
            raise FileError(
                f"{name}: the pipeline's step {step} ({type(transformer).__name__}) refuses these rows: {error}",
                "give the columns that the pipeline was fitted on, in the same form",
            ) from None
    return X


def output_names(steps: list[tuple[str, Any]], names: tuple[str, ...], count: int) -> tuple[str, ...]:
    """Names of the ``count`` features that the transformers make of columns ``names``."""
    current: Any = np.array(names, dtype=object) if names else None
    for _, transformer in steps:
        try:
            current = transformer.get_feature_names_out(current)
        except (AttributeError, ValueError, TypeError):
            current = None
    if current is None or len(current) != count:
        return tuple(f"x{column}" for column in range(count))
    return tuple(str(name) for name in current)


def describe_steps(steps: list[tuple[str, Any]]) -> list[dict[str, str]]:
    """The transformers as plain data, for the model's file."""
    return [{"step": name, "transformer": " ".join(repr(step).split())} for name, step in steps]


def read_estimator(estimator: Any) -> Recipe:
    """What a fitted estimator says.  Raises UsageError, with a sentence for each setting that has no counterpart."""
    import sklearn.linear_model as linear

    readers: dict[type, Callable[[Any], Recipe]] = {
        linear.LogisticRegression: _logistic,
        linear.LinearRegression: _least_squares,
        linear.Ridge: _ridge,
        linear.RidgeClassifier: _ridge_classifier,
        linear.PoissonRegressor: _poisson,
    }
    name = type(estimator).__name__
    reader = readers.get(type(estimator))
    if reader is None:
        raise UsageError(
            f"expected a fitted {SUPPORTED}, or a Pipeline that ends in one, found {name}",
            hint=f"refit {name.removesuffix('CV')} with the penalty that was chosen" if name.endswith("CV") else None,
        )
    if not hasattr(estimator, "coef_"):
        raise UsageError(f"this {name} is not fitted", hint="call fit(X, y) first")
    return reader(estimator)


def adopt(
    recipe: Recipe,
    dataset: Dataset,
    total: float,
    *,
    scaling: str | None = None,
    tol: float = 1e-8,
    polish: bool = True,
    max_iterations: int = 200,
) -> tuple[TrainedModel, Adoption]:
    """The model with the estimator's parameters on its training rows; S = ``total``.

    The formulas hold at a stationary point alone: where the gradient norm is over ``tol``, the parameters are polished
    by Newton steps, or refused with NotConvergedError.  FileError says that the rows are not those of the estimator.
    """
    from time import perf_counter

    begun = perf_counter()
    settings = recipe.settings(total, scaling, tol)
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
        # What is added to every class alike changes nothing, unless it is penalised.
        free = objective.penalty.ridge == 0
        parameters = np.where(free, parameters - parameters.mean(axis=0), parameters)
    given = parameters.reshape(-1, 1)
    norm = float(np.linalg.norm(objective.gradient(given, objective.weights)))
    if not norm <= tol and not polish:
        raise NotConvergedError(
            f"the {recipe.name} is not at a stationary point: gradient norm {norm:.1e}, {tol:.0e} is expected",
            hint="fit it with a smaller tol, or let ginf polish its parameters (without --no-polish)",
        )
    minimum = train(objective, tol=tol, max_iterations=max_iterations, start=given)
    adoption = Adoption(norm, _moved(objective, given, minimum.theta, dataset.X_train))
    if adoption.moved > FOREIGN:
        raise FileError(
            f"{dataset.name}: these are not the rows that the {recipe.name} was fitted on, or it was stopped early:"
            f" its gradient norm is {norm:.1e}, and at the minimum the outputs differ by {adoption.moved:.0%} of their"
            " spread",
            "give its own training rows, labels and weights; fit it with more max_iter or a smaller tol",
        )
    model = TrainedModel(
        dataset,
        settings,
        minimum.theta,
        objective.residuals(minimum.theta),
        float(minimum.grad_norm[0]),
        int(minimum.iterations[0]),
        perf_counter() - begun,
    )
    return model, adoption


def _moved(objective: Any, before: np.ndarray, after: np.ndarray, X: Rows) -> float:
    if (before == after).all():
        return 0.0
    old, new = (objective.predict_outputs(theta, X)[0] for theta in (before, after))
    spread = float(np.linalg.norm(new - new.mean(axis=1, keepdims=True)))
    change = float(np.linalg.norm(new - old))
    return change / max(spread, float(np.linalg.norm(new)) * 1e-6, np.finfo(float).tiny)


def _logistic(model: Any) -> Recipe:
    from sklearn.utils.class_weight import compute_class_weight

    penalty, ratio = getattr(model, "penalty", "deprecated"), getattr(model, "l1_ratio", None)
    reason = "it has no second derivative where a coefficient is 0"
    if penalty == "l1" or (penalty == "deprecated" and ratio == 1):
        raise _unsupported(model, "the l1 penalty", reason, "refit with the l2 penalty")
    if penalty == "elasticnet" or (penalty == "deprecated" and ratio not in (None, 0)):
        raise _unsupported(model, "the elastic net penalty", reason, "refit with the l2 penalty")
    if model.solver == "liblinear" and model.fit_intercept:
        raise _unsupported(
            model,
            "solver liblinear with an intercept",
            "liblinear penalises the intercept as one more feature",
            "refit with solver='lbfgs'",
        )
    multi_class = getattr(model, "multi_class", "auto")
    if multi_class == "ovr" and len(model.classes_) > 2:
        raise _unsupported(model, "multi_class ovr", "it is one model a class and not one", "refit without multi_class")
    if multi_class == "multinomial" and len(model.classes_) == 2:
        raise _unsupported(
            model, "multi_class multinomial of two classes", "its penalty counts twice", "refit without multi_class"
        )
    free = penalty in (None, "none") or bool(np.isposinf(model.C))
    return Recipe(
        type(model).__name__,
        "logistic",
        _parameters(model),
        bool(model.fit_intercept),
        "sum" if free else "C",
        0.0 if free else float(model.C),
        np.asarray(model.classes_),
        _balanced(model),
        balanced_by_rows="sample_weight" not in signature(compute_class_weight).parameters,
    )


def _least_squares(model: Any) -> Recipe:
    return Recipe(type(model).__name__, "linear", _one_output(model), bool(model.fit_intercept), "sum", 0.0)


def _ridge(model: Any) -> Recipe:
    return Recipe(type(model).__name__, "linear", _one_output(model), bool(model.fit_intercept), "sum", _alpha(model))


def _ridge_classifier(model: Any) -> Recipe:
    _refuse_positive(model)
    classes = np.asarray(model.classes_)
    parameters = _parameters(model)
    if len(parameters) != (1 if len(classes) == 2 else len(classes)):
        raise _unsupported(model, "several labels a row", "it is one model a label", "fit one classifier a label")
    return Recipe(
        type(model).__name__,
        "ridge-classifier",
        parameters,
        bool(model.fit_intercept),
        "sum",
        _alpha(model),
        classes,
        _balanced(model),
        balanced_by_rows=True,
    )


def _poisson(model: Any) -> Recipe:
    return Recipe(
        type(model).__name__, "poisson", _parameters(model), bool(model.fit_intercept), "mean", float(model.alpha)
    )


def _one_output(model: Any) -> np.ndarray:
    _refuse_positive(model)
    parameters = _parameters(model)
    if len(parameters) > 1:
        raise _unsupported(
            model, f"{len(parameters)} outputs", "it is one model an output", "fit one regression an output"
        )
    return parameters


def _parameters(model: Any) -> np.ndarray:
    """(K, D) float64, the intercept last if there is one."""
    coefficients = model.coef_.toarray() if hasattr(model.coef_, "toarray") else model.coef_
    coefficients = np.atleast_2d(np.asarray(coefficients, dtype=np.float64))
    if not model.fit_intercept:
        return coefficients
    intercept = np.broadcast_to(np.ravel(np.asarray(model.intercept_, dtype=np.float64)), (len(coefficients),))
    return np.column_stack([coefficients, intercept])


def _alpha(model: Any) -> float:
    if np.size(model.alpha) != 1:
        raise _unsupported(model, f"{np.size(model.alpha)} values of alpha", "one lambda holds all coefficients")
    return float(np.ravel(model.alpha)[0])


def _refuse_positive(model: Any) -> None:
    if getattr(model, "positive", False):
        raise _unsupported(model, "positive=True", "coefficients at their bound do not respond smoothly to removal")


def _balanced(model: Any) -> bool:
    if model.class_weight not in (None, "balanced"):
        raise _unsupported(
            model,
            f"class_weight {model.class_weight!r}",
            "only None and balanced are taken from an estimator",
            "refit with sample_weight, and give the same weights to ginf",
        )
    return model.class_weight == "balanced"


def _unsupported(model: Any, setting: str, reason: str, remedy: str | None = None) -> UsageError:
    return UsageError(f"{type(model).__name__} with {setting} is not supported: {reason}", hint=remedy)
