"""A model from a .skops file and its training data, for ``ginf train --from``."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

from influence_cli.data import memory
from influence_cli.data.dataset import Dataset
from influence_cli.data.labels import printed
from influence_cli.data.load import load
from influence_cli.data.options import TableOptions
from influence_cli.data.sparse import same_rows
from influence_cli.data.table import Column, ColumnKind, Table
from influence_cli.errors import FileError
from influence_cli.models.adoption import Adoption, Polishing, adopt
from influence_cli.models.differences import differences
from influence_cli.models.pipelines import pipeline_refit
from influence_cli.models.preprocessing import Balancing, Refit, Unfitted
from influence_cli.models.rank import reduce_recipe, without_dependent
from influence_cli.models.sample_weights import column_weights, product_of, with_weights
from influence_cli.models.scales import pipeline_scales
from influence_cli.models.settings import ESTIMATORS, ModelSettings
from influence_cli.models.sklearn import Parts, Recipe, read_estimator, take_apart
from influence_cli.models.trained import TrainedModel
from influence_cli.models.transformers import Transformers

PICKLES = (".pkl", ".pickle", ".joblib", ".dill", ".cloudpickle", ".sav")
SKOPS_HINT = "write it with skops: import skops.io; skops.io.dump(model, 'model.skops')"
HARMLESS = (
    *("numpy.dtype", "numpy.mean", "numpy.median", "builtins.object", "scipy.interpolate._bsplines.BSpline"),
    *("scipy._lib.array_api_compat.numpy._aliases.asarray", "numpy.clip", "numpy.nan_to_num", "numpy.round"),
    *("numpy.generic", "numpy.number", "numpy.integer", "numpy.inexact", "numpy.floating", "numpy.bool_", "numpy.bool"),
    *("numpy.signedinteger", "numpy.unsignedinteger", "numpy.flexible", "numpy.character", "numpy.object_"),
)
"""Types and functions of other packages in scikit-learn's objects that skops does not trust by default, but that run no
code from the file: number types (``make_column_selector(np.number)``), NumPy functions, spline coefficients, and
pooling functions of clusters."""
CLASSES = ("sklearn.", "scipy.stats.")
"""Packages whose classes are read: scikit-learn's, and the distributions of a randomised search."""
FUNCTIONS = ("feature_selection", "metrics", "preprocessing", "cluster", "feature_extraction")
"""Parts of scikit-learn whose functions, such as scores, occur in its objects and only compute."""


@dataclass(frozen=True)
class Brought:
    """The model, how well its given parameters fitted its rows, and a description of the file in one line."""

    model: TrainedModel
    adoption: Adoption
    described: str
    columns: tuple[str, ...] = ()
    """The columns of a table that the pipeline takes."""

    @property
    def tests_itself(self) -> bool:
        """Whether the test rows are the training rows."""
        return same_rows(self.model.dataset.X_train, self.model.dataset.X_test)


@dataclass(frozen=True)
class Read:
    """The estimator's recipe, its training and test rows, and the ``total`` of the weights before normalisation.

    ``described`` is a description of the file in one line, ``columns`` are those of the table that the rows consist of,
    and ``explain`` returns reasons why rows may not be those of the estimator.
    """

    recipe: Recipe
    dataset: Dataset
    total: float
    described: str
    notes: tuple[str, ...]
    columns: tuple[str, ...]
    explain: Callable[[], Sequence[str]]


def check_skops(path: str) -> None:
    """Raise FileError if there is no file, or if it is a pickle, which is never read."""
    if path.lower().endswith(PICKLES):
        raise FileError(
            f"{path}: a pickle or joblib file runs whatever code it holds as it is read, so ginf reads none", SKOPS_HINT
        )
    if not Path(path).is_file():
        raise FileError(f"{path}: no such file", SKOPS_HINT)


def read_skops(path: str) -> Any:
    """The object in a .skops file.  Raises FileError for other files and for types that ``is_trusted`` refuses."""
    check_skops(path)
    return _loaded(path, Path(path).read_bytes())


def _loaded(path: str, content: bytes) -> Any:
    """The object that the bytes of a .skops file hold; error messages begin with ``path``."""
    try:
        import skops.io
    except ImportError:
        raise FileError(f"{path}: reading .skops files needs skops", "pip install 'ginf[skops]'") from None
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            memory.check_archive(archive, len(content))
        asked = [str(name) for name in skops.io.get_untrusted_types(data=content)]
        unknown = [name for name in asked if not is_trusted(name)]
        if unknown:
            raise FileError(
                f"{path}: only scikit-learn's own types are read, because others are code of somebody's, but the file"
                f" also holds {', '.join(unknown)}",
                "build the pipeline of scikit-learn's transformers and NumPy's functions",
            )
        return skops.io.loads(content, trusted=asked)
    except FileError:
        raise
    except Exception as error:  # skops passes on any exception of zipfile, json and scikit-learn
        message = f"{path}: a whole .skops file was expected, but reading it failed ({error})"
        raise FileError(message, SKOPS_HINT) from None


def is_trusted(name: str) -> bool:
    """Whether a type or function of that name belongs to scikit-learn or is known to be harmless.

    The name is not enough, because a module also has the names that it imports: the place of definition decides.
    """
    if name in HARMLESS:
        return True
    module, _, name_inside = name.rpartition(".")
    if not module.startswith(CLASSES) or "tests" in module.split("."):
        return False
    try:
        thing = getattr(import_module(module), name_inside)
    except (ImportError, AttributeError):
        return False
    defined = str(getattr(thing, "__module__", ""))
    if isinstance(thing, type):
        return defined.startswith(CLASSES)
    return callable(thing) and defined.startswith(tuple(f"sklearn.{part}" for part in FUNCTIONS))


def bring(path: str, data: str, table: TableOptions, how: Polishing, *, seed: int) -> Brought:
    """The model in the file on the rows that it was fitted on, which are all rows of ``data``.

    Raises FileError, UsageError and NotConvergedError (see ``sklearn`` and ``adoption``).
    """
    read = read_rows(path, data, table, seed=seed)
    trained, adoption = adopt(read.recipe, read.dataset, read.total, how, notes=read.notes, explain=read.explain)
    return Brought(trained, adoption, read.described, read.columns)


def read_rows(path: str, data: str, table: TableOptions, *, seed: int) -> Read:
    """The estimator in the file, and all rows of ``data`` transformed by its pipeline.

    Raises FileError, UsageError or NotConvergedError.
    """
    model = read_skops(path)
    parts, recipe = _understood(model, path)
    maker = _maker(model, parts, recipe)
    dataset = load(data, task=ESTIMATORS[recipe.estimator], seed=seed, table=table, maker=maker)
    if recipe.classes is not None:
        dataset = in_class_order(dataset, recipe.classes)
    raw = product_of(dataset, table.weights)
    dataset, total = with_weights(dataset, recipe.weights(dataset.y_train, len(dataset.classes), raw))
    notes = parts.notes
    if recipe.settings(total, None, 1.0).l2 == 0 and (reduced := without_dependent(dataset, recipe.fit_intercept)):
        recipe = reduce_recipe(recipe, dataset.X_train, reduced)
        dataset, notes = reduced.dataset, (*notes, reduced.sentence)

    def explain() -> Sequence[str]:
        return differences(parts.steps, maker.given, dataset.y_train)

    return Read(recipe, dataset, total, parts.described, notes, maker.columns, explain)


def _understood(model: Any, path: str) -> tuple[Parts, Recipe]:
    """The parts and the recipe of the estimator.  Raises UsageError for unsupported models, and FileError if an
    attribute that every fitted estimator has is missing or invalid."""
    try:
        parts = take_apart(model)
        return parts, read_estimator(parts.estimator)
    except (AttributeError, IndexError, KeyError, TypeError, ValueError) as error:
        message = f"{path}: a fitted {type(model).__name__} was expected, but parts of it are not as scikit-learn makes"
        raise FileError(f"{message} them ({error})", SKOPS_HINT) from None


def _maker(model: Any, parts: Parts, recipe: Recipe) -> Transformers:
    names = tuple(str(key) for key in getattr(model, "feature_names_in_", ()))
    text_labels = recipe.classes is not None and recipe.classes.dtype.kind in "OU"
    return Transformers(parts.steps, names, getattr(model, "n_features_in_", None), label_is_text=text_labels)


def brought_refit(
    dataset: Dataset, settings: ModelSettings, origin: Mapping[str, Any], content: bytes | None, path: str
) -> Refit | Unfitted | None:
    """How to refit the preprocessing of a model made with ``--from``; ``Unfitted`` says why it is impossible.

    The pipeline is read from ``content``, the bytes of its .skops file, or for a linked model, which has none, from
    ``path``.
    """
    if content is None and not Path(path).is_file():
        return Unfitted(f"the model's file does not hold the pipeline, and {path} is not there")
    model = _loaded(path, Path(path).read_bytes() if content is None else content)
    parts, recipe = _understood(model, path)
    if recipe.parameters.shape[1] - recipe.fit_intercept != dataset.X_train.shape[1]:
        return Unfitted("columns that are combinations of others were left out")
    balancing = None
    if recipe.balanced:
        column = origin.get("sample_weight")
        raw = np.ones(dataset.rows) if column is None else column_weights(dataset, column)
        balancing = Balancing(raw, recipe.balanced_by_rows)
    if not parts.steps:
        return None if balancing is None else Refit(dataset, settings, balancing=balancing)
    scales = pipeline_scales(parts.steps, dataset.X_train.shape[1], complete=False)
    columns = tuple(origin.get("columns", ()))
    absent = [key for key in columns if key not in dataset.columns_train or key not in dataset.columns_test]
    if absent or (not columns and scales is None):
        return Unfitted("the model's file does not hold the rows as the pipeline took them")
    maker = _maker(model, parts, recipe)
    rows: tuple[Any, Any] = (None, None)
    if columns:
        tables = (_as_table(one, columns, maker.texts) for one in (dataset.columns_train, dataset.columns_test))
        train, test = (maker.rows_of(one, columns) for one in tables)
        rows = train, test
    return pipeline_refit(dataset, settings, parts.steps, rows, balancing, columns)


def _as_table(values: Mapping[str, np.ndarray], columns: Sequence[str], texts: frozenset[str]) -> Table:
    """The columns in a model's file as the ``Table`` from which they were read."""
    made = {}
    for key in columns:
        one = values[key]
        truths = one.dtype.kind == "O" and key not in texts and set(one.tolist()) <= {"true", "false", None}
        kind: ColumnKind = "numeric" if one.dtype.kind != "O" else "boolean" if truths else "text"
        made[key] = Column(kind, one, kind)
    return Table(made, len(next(iter(made.values())).values))


def in_class_order(dataset: Dataset, classes: np.ndarray) -> Dataset:
    """The data set with the estimator's classes in their order.  Raises FileError if the classes differ."""
    wanted, labels = printed(classes), dataset.classes
    if set(wanted) != set(labels):
        # Tables have true and false for truth values, Python and pandas True and False.
        labels = tuple({"true": "True", "false": "False"}.get(label.casefold(), label) for label in labels)
    if set(wanted) != set(labels):
        raise FileError(
            f"{dataset.name}: the model was fitted on the classes {', '.join(wanted[:20])}, but the labels of the rows"
            f" are {', '.join(dataset.classes[:20])}",
            "give the rows that it was fitted on, and their labels",
        )
    if wanted == labels:
        return replace(dataset, classes=wanted)
    code = np.array([wanted.index(label) for label in labels] + [-1])  # -1 for test rows without a label
    return replace(dataset, classes=wanted, y_train=code[dataset.y_train], y_test=code[dataset.y_test])
