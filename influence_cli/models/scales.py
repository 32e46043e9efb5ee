"""The means and scales of a model's standardised features, from ginf's own preparation or a fitted pipeline."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from influence_cli.core.rescaling import Standardised
from influence_cli.models.transformers import is_idle

if TYPE_CHECKING:
    from influence_cli.models.trained import TrainedModel

STATELESS = (
    *("FunctionTransformer", "Normalizer", "PolynomialFeatures", "HashingVectorizer", "Binarizer", "FeatureHasher"),
    *("AdditiveChi2Sampler", "PatchExtractor"),
)
"""Transformers that learn nothing from the rows, so that fitting them without a group changes nothing."""


def own_scales(preparation: Mapping[str, Any] | None, names: Sequence[str], *, sparse: bool) -> Standardised | None:
    """The scales in the model's own preparation (``data.features``), for these features; None if none was scaled."""
    if not preparation or not preparation.get("standardize"):
        return None
    known = {
        state["column"]: (state["mean"], state["scale"])
        for state in preparation.get("features", ())
        if state.get("kind") == "numeric" and "scale" in state
    }
    columns = np.array([name in known for name in names])
    means = np.array([known.get(name, (0.0, 1.0))[0] for name in names], dtype=np.float64)
    scales = np.array([known.get(name, (0.0, 1.0))[1] for name in names], dtype=np.float64)
    return Standardised(columns, means, scales, columns & (not sparse))


def units(model: TrainedModel) -> list[float | None]:
    """For each parameter, in theta's order, the standard deviation by which its feature was divided: the change of the
    feature to which the coefficient refers.  None if the feature was not standardised, or if there is no feature."""
    names = model.dataset.feature_names
    scales = own_scales(model.dataset.preparation, names, sparse=False)
    every = len(model.parameter_names)
    if scales is None:
        return [None] * every
    known = zip(scales.columns.tolist(), scales.scale.tolist(), strict=True)
    per_feature = [scale if standardised else None for standardised, scale in known]
    per_feature += [None] * model.settings.fit_intercept
    first = model.settings.hidden[0] if model.settings.hidden else every // len(per_feature)
    return (per_feature * first + [None] * every)[:every]


def pipeline_scales(steps: Sequence[tuple[str, Any]], count: int, *, complete: bool) -> Standardised | None:
    """The scales of the ``count`` features of a pipeline that learnt nothing but means, scales and category names from
    the rows; None for other pipelines.  ``complete`` says that no value is missing, so that none is imputed."""
    idle = (*STATELESS, "SimpleImputer") if complete else STATELESS
    return _of_steps([step for _, step in steps], count, idle)


def _nothing(count: int) -> Standardised:
    return Standardised(np.zeros(count, dtype=bool), np.zeros(count), np.ones(count), np.zeros(count, dtype=bool))


def _of_steps(steps: Sequence[Any], count: int, idle: Sequence[str]) -> Standardised | None:
    learning = [step for step in steps if not is_idle(step) and type(step).__name__ not in idle]
    if not learning:
        return _nothing(count)
    if len(learning) > 1 or learning[0] is not steps[-1]:
        return None
    return _of_transformer(learning[0], count, idle)


def _of_transformer(transformer: Any, count: int, idle: Sequence[str]) -> Standardised | None:
    from sklearn.compose import ColumnTransformer
    from sklearn.pipeline import Pipeline
    from sklearn.preprocessing import OneHotEncoder, StandardScaler

    if isinstance(transformer, StandardScaler):
        scales = _nothing(transformer.n_features_in_)
        if transformer.scale_ is not None:
            scales.columns[:], scales.scale[:] = True, transformer.scale_
        if transformer.with_mean and transformer.mean_ is not None:
            scales.mean[:], scales.centred[:] = transformer.mean_, True
        return scales
    if isinstance(transformer, OneHotEncoder):
        plain = transformer.drop is None and transformer.min_frequency is None and transformer.max_categories is None
        return _nothing(count) if plain else None
    if isinstance(transformer, Pipeline):
        return _of_steps([step for _, step in transformer.steps], count, idle)
    if isinstance(transformer, ColumnTransformer):
        places = transformer.output_indices_
        parts = [(places[name], one) for name, one, _ in transformer.transformers_]
    else:
        return None
    out = _nothing(max((place.stop for place, _ in parts), default=0))
    for place, one in parts:
        wide = place.stop - place.start
        scale = _of_steps([one], wide, idle) if wide else _nothing(0)
        if scale is None:
            return None
        for whole, part in zip(vars(out).values(), vars(scale).values(), strict=True):
            whole[place] = part
    return out
