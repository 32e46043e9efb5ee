"""The trained model as a file: parameters, gradients, perhaps the Hessian's factor, and the training data.

The data are in the file, or behind a link: then the file says where they came from and what their digest is.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, TypeAlias

import numpy as np

from influence_cli.artifacts import storage
from influence_cli.artifacts.dataset import dataset_of, entries
from influence_cli.artifacts.entries import DIGESTS
from influence_cli.artifacts.schema import KINDS
from influence_cli.artifacts.schema_data import LAYERS, LINK, PIPELINE, SUMS
from influence_cli.artifacts.storage import Opened, PathLike
from influence_cli.core.objectives.kept import Kept, KeptLayers
from influence_cli.core.solvers.cholesky import CholeskyFactor
from influence_cli.data.dataset import Dataset
from influence_cli.data.sources import files_of
from influence_cli.data.stamps import STARTED, stamps, trusting
from influence_cli.errors import FileError, GinfError

_FACTOR, _RESIDUALS = "/hessian/cholesky", "/gradients/residuals"
_OTHER_MODEL = "damaged: expected theta and settings whose SHA-256 is @model_digest, found others"

Fetch: TypeAlias = Callable[[Mapping[str, Any], Mapping[str, str]], Dataset]
"""From a model's settings and its link to the data that it was trained on; raises GinfError if these are
unavailable."""

_LINK_HINT = "bring the data back as it was, or train again: ginf train ... --link-data"


@dataclass(frozen=True, eq=False)
class ModelArtifact:
    """A trained model: theta (P,), and residuals (m, K) such that a row's gradient is its residual times its features.

    ``settings`` (JSON-able) contain everything besides the data that determined theta: estimator, penalty and its
    scaling, intercept, tolerance, seed.  ``training`` describes how it went.  With a ``link`` the file has no features
    and no columns: the link names the files (absolute paths) or built-in data from which they are made again.
    ``pipeline`` is the content of the .skops file of an imported model, if the rows are in the file too.  ``kept`` are
    sums over all rows.
    """

    dataset: Dataset
    theta: np.ndarray
    residuals: np.ndarray | None
    factor: CholeskyFactor | None
    settings: dict[str, Any]
    training: dict[str, Any] = field(default_factory=dict)
    link: dict[str, str] | None = None
    pipeline: bytes | None = None
    kept: Kept | KeptLayers | None = None

    @cached_property
    def digest(self) -> str:
        """SHA-256 over theta, the data's digest and the settings, but not over factor, timings or link."""
        return model_digest(self.theta, self.dataset.digest, self.settings)


def save_model(path: PathLike, artifact: ModelArtifact, *, force: bool = False) -> None:
    """Write the model; the same model gives the same datasets."""
    data = artifact.dataset
    arrays: dict[str, Any] = {
        "@data_digest": data.digest,
        "@model_digest": artifact.digest,
        "@data_name": data.name,
        "@training": artifact.training | _stamped(artifact.link),
        "/data/y_train": data.y_train,
        "/data/y_test": data.y_test,
        "/data/classes": data.classes,
        "/data/feature_names": data.feature_names,
        "/params/theta": artifact.theta,
    }
    if artifact.residuals is not None:
        arrays["/gradients/residuals"] = artifact.residuals
    if data.weights is not None:
        arrays["/data/weights"] = data.weights
    if data.image_shape is not None:
        arrays["/data/image_shape"] = np.array(data.image_shape, dtype=np.int64)
    if data.id_column is not None:
        arrays["@id_column"] = data.id_column
    if data.preparation is not None:
        arrays["@preparation"] = dict(data.preparation)
    if artifact.link is None:
        arrays |= entries(data)
        if artifact.pipeline is not None:
            arrays[PIPELINE] = np.frombuffer(artifact.pipeline, dtype=np.uint8)
    else:
        arrays[LINK] = artifact.link
    if artifact.factor is not None:
        arrays |= _factor_entries(artifact.factor)
    arrays |= _kept_entries(artifact.kept)
    storage.write(path, "model", arrays, artifact.settings, force=force)


def load_model(path: PathLike, *, with_factor: bool = True, fetch: Fetch | None = None) -> ModelArtifact:
    """Read and verify a model; without ``with_factor`` its largest array is not read, and ``factor`` is None.

    ``fetch`` makes the data of a linked model again from its settings and its link.
    """
    left = () if with_factor else (_FACTOR,)
    keys = [entry.path for entry in KINDS["model"].entries if entry.path not in left]
    opened = storage.read(path, "model", keys)
    arrays = opened.arrays
    link = arrays.get(LINK)
    if link is None:
        if _RESIDUALS not in arrays:
            raise storage.invalid(path, "model", {_RESIDUALS: "missing, expected float64 (m, K)"})
        dataset = dataset_of(path, arrays)
        if DIGESTS in arrays:  # the rows are as they were written, and so is their digest
            dataset = _known(dataset, arrays["@data_digest"])
    else:
        # before the data are made from settings that are not those of the training
        if model_digest(arrays["/params/theta"], arrays["@data_digest"], opened.config) != arrays["@model_digest"]:
            raise storage.invalid(path, "model", {"/params/theta": _OTHER_MODEL})
        dataset = _follow(path, opened, fetch)
    artifact = ModelArtifact(
        dataset=dataset,
        theta=arrays["/params/theta"],
        residuals=arrays.get(_RESIDUALS),
        factor=CholeskyFactor(arrays[_FACTOR].T, arrays[f"{_FACTOR}@damping"]) if _FACTOR in arrays else None,
        settings=opened.config,
        training=arrays["@training"],
        link=link,
        pipeline=arrays[PIPELINE].tobytes() if PIPELINE in arrays else None,
        kept=_kept(arrays),
    )
    _verify(path, artifact, arrays)
    return artifact


def _follow(path: PathLike, opened: Opened, fetch: Fetch | None) -> Dataset:
    """The linked data.  Raises FileError if they are gone or are not the training data."""
    arrays, link = opened.arrays, opened.arrays[LINK]
    if fetch is None:
        raise ValueError(f"{path} is linked to its data: reading it takes a fetch")
    counts = len(arrays["/data/y_train"]), len(arrays["/data/y_test"])
    for key in ("/data/y_train", "/data/y_test"):
        del arrays[key]  # the data contain them too, and they may be large
    kept = arrays["@training"].pop("stamps", None)
    same = kept is not None and kept == stamps(files_of_link(link))
    try:
        with trusting() if same else nullcontext():
            data = fetch(opened.config, link)
    except GinfError as error:
        raise FileError(
            f"{path} was trained with --link-data, and its rows cannot be had again: {error.message}", _LINK_HINT
        ) from error
    if same:
        return _known(replace(data, name=arrays["@data_name"], notes=()), arrays["@data_digest"])
    expected, actual = (
        f"{train:,} training and {test:,} test rows of {features:,} features with the digest {digest[:12]}"
        for train, test, features, digest in (
            (
                *counts,
                len(arrays["/data/feature_names"]),
                arrays["@data_digest"],
            ),
            (data.rows, data.X_test.shape[0], data.X_train.shape[1], data.digest),
        )
    )
    if data.digest != arrays["@data_digest"]:
        raise FileError(
            f"{path} was trained with --link-data, and its rows are no longer those of {', '.join(link.values())}:"
            f" expected {expected}, found {actual}",
            _LINK_HINT,
        )
    return _known(replace(data, name=arrays["@data_name"], notes=()), data.digest)


def files_of_link(link: Mapping[str, str]) -> list[str]:
    """The files behind a link."""
    return [name for key in ("data", "test_data", "from") if key in link for name in files_of(link[key])]


def _stamped(link: Mapping[str, str] | None) -> dict[str, list[int]]:
    """Stamps that show later whether a file was touched, since reading 4 GB to find out would take half a minute."""
    stamp = None if link is None else stamps(files_of_link(link), before=STARTED)
    return {} if stamp is None else {"stamps": stamp}


def _known(dataset: Dataset, digest: str) -> Dataset:
    """The data set with its known digest, because computing it would read every row."""
    vars(dataset)["digest"] = digest  # where cached_property keeps it
    return dataset


def add_factor(
    path: PathLike,
    factor: CholeskyFactor | None,
    kept: Kept | KeptLayers | None = None,
    *,
    model_digest: str | None = None,
) -> None:
    """Store a factor that was computed after the model was saved, and the sums computed with it or instead of it;
    atomic.

    With ``model_digest`` they are refused (FileError) if another model has replaced the file meanwhile.
    """
    expect = None if model_digest is None else {"@model_digest": model_digest}
    arrays = {} if factor is None else _factor_entries(factor)
    storage.extend(path, "model", arrays | _kept_entries(kept), expect=expect)


def model_digest(theta: np.ndarray, data_digest: str, settings: Mapping[str, Any]) -> str:
    """SHA-256 over theta (P,), the digest of the data, and the settings including the data's origin."""
    digest = hashlib.sha256(np.ascontiguousarray(theta, dtype="<f8").data)
    digest.update(data_digest.encode("utf-8", "surrogatepass"))
    digest.update(storage.to_json(dict(settings)).encode())
    return digest.hexdigest()


def _factor_entries(factor: CholeskyFactor) -> dict[str, Any]:
    # LAPACK's factor is in column order: its transpose is row-major, and nothing is copied in either direction
    return {_FACTOR: np.ascontiguousarray(factor.lower.T), f"{_FACTOR}@damping": float(factor.damping)}


def _kept_entries(kept: Kept | KeptLayers | None) -> dict[str, Any]:
    if kept is None:
        return {}
    if isinstance(kept, KeptLayers):
        return {LAYERS: kept.layers}
    arrays = {name: getattr(kept, name) for name in ("squares", "hessian", "gram", "typical")}
    arrays["gradient"] = kept.gradient[:, 0]
    return {f"/sums/{name}": np.ascontiguousarray(array) for name, array in arrays.items() if array is not None}


def _kept(arrays: Mapping[str, Any]) -> Kept | KeptLayers | None:
    if LAYERS in arrays:
        return KeptLayers(arrays["/params/theta"][:, None], arrays[LAYERS])
    squares, gradient, *others = (arrays.get(entry.path) for entry in SUMS)
    if squares is None or gradient is None:
        return None
    return Kept(arrays["/params/theta"][:, None], squares, gradient[:, None], *others)


def _verify(path: PathLike, artifact: ModelArtifact, arrays: dict[str, Any]) -> None:
    """Check that the arrays are those that were saved, and that labels are codes of classes."""
    problems = {}
    if artifact.dataset.digest != arrays["@data_digest"]:
        problems["/data"] = "damaged: expected the arrays whose SHA-256 is @data_digest, found others"
    elif artifact.digest != arrays["@model_digest"]:
        problems["/params/theta"] = _OTHER_MODEL
    if artifact.factor is not None and f"{_FACTOR}@sha256" in arrays:
        digest = hashlib.sha256(np.ascontiguousarray(artifact.factor.lower.T).data).hexdigest()
        if digest != arrays[f"{_FACTOR}@sha256"]:
            problems[_FACTOR] = "damaged: expected the array whose SHA-256 is its attribute sha256, found another"
    problems.update(_label_problems(artifact.dataset))
    weights = artifact.dataset.weights
    if not artifact.dataset.rows:
        problems["/data/y_train"] = "expected at least one training row, found none"
    elif weights is not None and not (weights.min() >= 0 and abs(weights.sum() - 1.0) < 1e-9):
        problems["/data/weights"] = f"expected weights of at least 0 that sum to 1, found a sum of {weights.sum():g}"
    if problems:
        raise storage.invalid(path, "model", problems)


def _label_problems(data: Dataset) -> dict[str, str]:
    problems = {}
    wanted = "int64" if data.classes else "float64"
    for key, labels, least in (("/data/y_train", data.y_train, 0), ("/data/y_test", data.y_test, -1)):
        if labels.dtype != wanted:
            problems[key] = f"expected {wanted} for {data.task}, found {labels.dtype}"
        elif data.classes and labels.size and not least <= labels.min() <= labels.max() < len(data.classes):
            problems[key] = (
                f"expected codes from {least} to {len(data.classes) - 1}, found {labels.min()} to {labels.max()}"
            )
    return problems
