"""Fitted scikit-learn estimators as models of ginf: the same parameters, penalty and convention of removal.

What scikit-learn minimises, with row weights s_i (1 without) and S = sum s, is J of docs/design.md times a constant:

    LogisticRegression           C sum s_i l_i + |w|^2/2                   lambda = 1/(C S)     per-sum
    Ridge, RidgeClassifier       sum s_i (eta_i - y_i)^2 + alpha |w|^2     lambda = alpha/S     per-sum
    PoissonRegressor             1/S sum s_i l_i + alpha |w|^2/2           lambda = alpha       per-mean
    LinearRegression             sum s_i (eta_i - y_i)^2                   lambda = 0           per-mean

The convention of removal is that of a refit with the same C or alpha.  Intercepts have no penalty.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from inspect import signature
from typing import Any

import numpy as np

from influence_cli.core.removal import PER_MEAN, PER_SUM
from influence_cli.errors import UsageError
from influence_cli.models.sample_weights import balance
from influence_cli.models.settings import ModelSettings

SUPPORTED = "LogisticRegression, LinearRegression, Ridge, RidgeClassifier (each also with CV), PoissonRegressor"
EXACT = 0.0
"""The ``stops_at`` of an estimator that solves its equations instead of iterating."""
NAMED = {
    "CalibratedClassifierCV": (
        "its probabilities are those of another model fitted on top, and mostly the mean over several",
        "bring the classifier inside: model.calibrated_classifiers_[0].estimator, with the rows that it was fitted on",
    ),
    "TransformedTargetRegressor": (
        "its predictions pass through an inverse transformation, so that figures would be in another unit",
        "bring model.regressor_ with the responses model.transformer_.transform(y)",
    ),
    "TunedThresholdClassifierCV": (
        "it decides by a threshold of its own, which was chosen by cross-validation",
        "bring model.estimator_",
    ),
    "FixedThresholdClassifier": ("it decides by a threshold of its own", "bring model.estimator_"),
    "OneVsRestClassifier": ("it is one model a class and not one", "bring model.estimators_[0] with its 0/1 labels"),
    "OneVsOneClassifier": ("it is one model for each pair of classes and not one", "fit one LogisticRegression"),
    "MultiOutputClassifier": ("it is one model an output and not one", "bring model.estimators_[0] with its labels"),
    "MultiOutputRegressor": ("it is one model an output and not one", "bring model.estimators_[0] with its responses"),
    "SGDClassifier": ("its steps end before the minimum", "fit a LogisticRegression"),
    "SGDRegressor": ("its steps end before the minimum", "fit a Ridge"),
    "LinearSVC": ("the hinge loss has no second derivative at the margin", "fit a LogisticRegression"),
    "SVC": ("the hinge loss has no second derivative at the margin", "fit a LogisticRegression"),
    "TweedieRegressor": (
        "ginf knows one of its family",
        "with power=1 and link='log' it is a PoissonRegressor: fit one",
    ),
    "GammaRegressor": ("ginf knows no gamma distribution", "fit a Ridge to the logarithm of the responses"),
    "MLPClassifier": ("its training ends before a minimum", "train a network of ginf's own (estimator mlp)"),
    "MLPRegressor": ("its training ends before a minimum", "train a network of ginf's own (estimator mlp-regressor)"),
    "Lasso": ("the l1 penalty has no second derivative where a coefficient is 0", "refit a Ridge"),
    "ElasticNet": ("the l1 penalty has no second derivative where a coefficient is 0", "refit a Ridge"),
    "LassoCV": ("the l1 penalty has no second derivative where a coefficient is 0", "refit a RidgeCV"),
    "ElasticNetCV": ("the l1 penalty has no second derivative where a coefficient is 0", "refit a RidgeCV"),
}
"""Frequently used estimators that ginf cannot take: the reason, and what to bring instead."""


@dataclass(frozen=True)
class Recipe:
    """What is read from a fitted estimator: ``parameters`` (K, D), the intercept last; ``strength`` of its ``penalty``,
    which is ``C``, ``sum`` (alpha on the sum of squares) or ``mean``; ``classes`` in the order of their codes."""

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
    stops_at: float | None = None
    """Largest entry of J's gradient at which the fit ended by its own rule: ``EXACT`` where it solved its equations,
    None if it ended otherwise (``max_iter``) or has another rule."""

    def weights(self, y: np.ndarray, classes: int, raw: np.ndarray | None) -> np.ndarray | None:
        """Sample weights (m,), multiplied by the classes' weights; None if there are neither."""
        return balance(y, classes, raw, by_rows=self.balanced_by_rows) if self.balanced else raw

    def settings(self, total: float, scaling: str | None, tol: float) -> ModelSettings:
        """The settings for S = ``total``; ``scaling`` None means the convention of a refit with the same C or alpha."""
        if self.penalty == "C":
            l2 = 1.0 / (self.strength * total)
        else:
            l2 = self.strength / total if self.penalty == "sum" else self.strength
        penalty_scaling = PER_MEAN if self.penalty == "mean" or l2 == 0 else PER_SUM
        return ModelSettings(self.estimator, l2, scaling or penalty_scaling, self.fit_intercept, False, tol)


@dataclass(frozen=True)
class Parts:
    """A fitted model taken apart: transformers in order, by their steps' names, the ``estimator`` after them, and
    sentences to report (``notes``)."""

    steps: tuple[tuple[str, Any], ...]
    estimator: Any
    notes: tuple[str, ...] = ()

    @property
    def described(self) -> str:
        """The names of the classes, in order."""
        return " -> ".join([*(type(step).__name__ for _, step in self.steps), type(self.estimator).__name__])


def take_apart(model: Any) -> Parts:
    """The linear model inside pipelines, searches for parameters and selections of features.

    Raises UsageError where predictions are not those of one linear model.
    """
    from sklearn.feature_selection import RFE
    from sklearn.pipeline import Pipeline

    name = type(model).__name__
    if isinstance(model, Pipeline):
        *before, (_, last) = model.steps
        inner = take_apart(last)
        steps = [(key, step) for key, step in before if step is not None and not isinstance(step, str)]
        return Parts((*steps, *inner.steps), inner.estimator, inner.notes)
    if isinstance(model, RFE):
        if not hasattr(model, "estimator_"):
            raise _not_fitted(model)
        inner = take_apart(model.estimator_)
        return Parts(((name.lower(), model), *inner.steps), inner.estimator, inner.notes)
    if name == "FrozenEstimator":
        return take_apart(model.estimator)
    if name == "TransformedTargetRegressor" and model.func is None and model.transformer is None:
        return take_apart(getattr(model, "regressor_", model.regressor))
    if hasattr(model, "best_params_") or hasattr(model, "param_grid") or hasattr(model, "param_distributions"):
        return _searched(model)
    return Parts((), model, _chosen(model))


def _searched(model: Any) -> Parts:
    """The parts of the best model of a hyperparameter search.  Raises UsageError."""
    name = type(model).__name__
    if not hasattr(model, "best_params_"):
        raise _not_fitted(model)
    if not hasattr(model, "best_estimator_"):
        raise UsageError(
            f"this {name} was made with refit=False and holds no fitted model",
            hint=f"fit it with refit=True, so that it has a best_estimator_ (chosen were {model.best_params_})",
        )
    inner = take_apart(model.best_estimator_)
    parameters = ", ".join(f"{key}={value}" for key, value in model.best_params_.items())
    note = f"taken is the best_estimator_ of the {name} ({parameters}); no parameter is chosen again without a group"
    return Parts(inner.steps, inner.estimator, (note, *inner.notes))


def _chosen(model: Any) -> tuple[str, ...]:
    """The penalty that an estimator with CV in its name has chosen, in a sentence."""
    for key in ("C_", "alpha_"):
        if type(model).__name__.endswith("CV") and hasattr(model, key):
            value = np.unique(getattr(model, key))
            if len(value) == 1:
                name = f"{type(model).__name__} chose {key.removesuffix('_')}={value[0]:g}"
                return (f"{name} by cross-validation; it is not chosen again without a group",)
    return ()


def read_estimator(estimator: Any) -> Recipe:
    """What a fitted estimator says.  Raises UsageError, with a sentence for each setting that has no counterpart."""
    import sklearn.linear_model as linear

    readers: dict[type, Callable[[Any], Recipe]] = {
        linear.LogisticRegression: _logistic,
        linear.LogisticRegressionCV: _logistic,
        linear.LinearRegression: _least_squares,
        linear.Ridge: _ridge,
        linear.RidgeCV: _ridge,
        linear.RidgeClassifier: _ridge_classifier,
        linear.RidgeClassifierCV: _ridge_classifier,
        linear.PoissonRegressor: _poisson,
    }
    name = type(estimator).__name__
    reader = readers.get(type(estimator))
    if reader is None:
        reason, remedy = NAMED.get(name, ("", "fit one of these to the same rows"))
        because = f": {reason}" if reason else ""
        raise UsageError(
            f"expected a fitted {SUPPORTED}, or a Pipeline that ends in one, found {name}{because}", hint=remedy
        )
    if not hasattr(estimator, "coef_"):
        raise _not_fitted(estimator)
    return reader(estimator)


def _not_fitted(model: Any) -> UsageError:
    return UsageError(f"this {type(model).__name__} is not fitted", hint="call fit(X, y) first")


def _stops_at(model: Any, solvers: tuple[str, ...]) -> float | None:
    """The ``tol`` of an estimator whose solver compares it with the largest entry of the gradient, and reached it."""
    if model.solver not in solvers or not hasattr(model, "n_iter_"):
        return None
    return float(model.tol) if np.max(model.n_iter_) < model.max_iter else None


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
    C = _strength_chosen(model) if type(model).__name__.endswith("CV") else float(model.C)
    free = penalty in (None, "none") or bool(np.isposinf(C))
    return _recipe(
        model,
        "logistic",
        ("sum", 0.0) if free else ("C", C),
        classes=np.asarray(model.classes_),
        balanced=_balanced(model),
        balanced_by_rows="sample_weight" not in signature(compute_class_weight).parameters,
        stops_at=_stops_at(model, ("lbfgs", "newton-cg", "newton-cholesky")),
    )


def _recipe(model: Any, estimator: str, penalty: tuple[str, float], **more: Any) -> Recipe:
    """A Recipe from the attributes common to all estimators, the kind and strength of the ``penalty``, and ``more``."""
    return Recipe(type(model).__name__, estimator, _parameters(model), bool(model.fit_intercept), *penalty, **more)


def _strength_chosen(model: Any) -> float:
    """The C of a LogisticRegressionCV."""
    if not model.refit:
        raise _unsupported(
            model, "refit=False", "its coefficients are a mean over folds, and no minimum", "refit with refit=True"
        )
    ratios = np.unique(np.asarray(getattr(model, "l1_ratio_", 0.0), dtype=np.float64))
    if (np.nan_to_num(ratios) > 0).any():
        raise _unsupported(model, "an l1 penalty", "it has no second derivative where a coefficient is 0")
    values = np.unique(model.C_)
    if len(values) > 1:
        raise _unsupported(model, f"{len(values)} values of C", "one lambda holds all coefficients")
    return float(values[0])


def _least_squares(model: Any) -> Recipe:
    _require_one_output(model)
    return _recipe(model, "linear", ("sum", 0.0), stops_at=EXACT)


def _ridge(model: Any) -> Recipe:
    _require_one_output(model)
    return _recipe(model, "linear", ("sum", _alpha(model)), stops_at=_ridge_stops_at(model))


def _ridge_stops_at(model: Any) -> float | None:
    direct = type(model).__name__.endswith("CV") or getattr(model, "solver_", "") in ("svd", "cholesky")
    return EXACT if direct else None


def _ridge_classifier(model: Any) -> Recipe:
    _refuse_positive(model)
    classes = np.asarray(model.classes_)
    if len(_parameters(model)) != (1 if len(classes) == 2 else len(classes)):
        raise _unsupported(model, "several labels a row", "it is one model a label", "fit one classifier a label")
    return _recipe(
        model,
        "ridge-classifier",
        ("sum", _alpha(model)),
        classes=classes,
        balanced=_balanced(model),
        balanced_by_rows=True,
        stops_at=_ridge_stops_at(model),
    )


def _poisson(model: Any) -> Recipe:
    stops_at = _stops_at(model, ("lbfgs", "newton-cholesky"))
    return _recipe(model, "poisson", ("mean", float(model.alpha)), stops_at=stops_at)


def _require_one_output(model: Any) -> None:
    _refuse_positive(model)
    count = len(_parameters(model))
    if count > 1:
        raise _unsupported(model, f"{count} outputs", "it is one model an output", "fit one regression an output")


def _parameters(model: Any) -> np.ndarray:
    """(K, D) float64, the intercept last if there is one."""
    coefficients = model.coef_.toarray() if hasattr(model.coef_, "toarray") else model.coef_
    coefficients = np.atleast_2d(np.asarray(coefficients, dtype=np.float64))
    if not model.fit_intercept:
        return coefficients
    intercept = np.broadcast_to(np.ravel(np.asarray(model.intercept_, dtype=np.float64)), (len(coefficients),))
    return np.column_stack([coefficients, intercept])


def _alpha(model: Any) -> float:
    alpha = model.alpha_ if type(model).__name__.endswith("CV") else model.alpha
    if np.size(alpha) != 1:
        raise _unsupported(model, f"{np.size(alpha)} values of alpha", "one lambda holds all coefficients")
    return float(np.ravel(alpha)[0])


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
