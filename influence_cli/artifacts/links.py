"""Data that is not in the model's file: the file says where it came from, and what it is by its digest."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, TypeAlias

from influence_cli.artifacts import storage
from influence_cli.artifacts.schema import LINK
from influence_cli.artifacts.storage import Opened, PathLike
from influence_cli.data.dataset import Dataset
from influence_cli.errors import FileError, GinfError

Fetch: TypeAlias = Callable[[Mapping[str, Any], Mapping[str, str]], Dataset]
"""A model's settings and its link to the data that it was trained on; raises GinfError where it cannot be had."""

_HINT = "bring the data back as it was, or train again: ginf train ... --link-data"


def follow(path: PathLike, opened: Opened, fetch: Fetch | None) -> Dataset:
    """The data at the other end of the link.  Raises FileError where it is gone or not that of the training."""
    arrays, link = opened.arrays, opened.arrays[LINK]
    if not isinstance(link, dict) or "data" not in link or not all(isinstance(one, str) for one in link.values()):
        raise storage.invalid(path, "model", {LINK: "expected paths or names, one of them of data, found others"})
    if fetch is None:
        raise ValueError(f"{path} is linked to its data: reading it takes a fetch")
    try:
        data = fetch(opened.config, link)
    except GinfError as error:
        raise FileError(
            f"{path} was trained with --link-data, and its rows cannot be had again: {error.message}", _HINT
        ) from error
    expected, found = (
        f"{train:,} training and {test:,} test rows of {features:,} features with the digest {digest[:12]}"
        for train, test, features, digest in (
            (
                len(arrays["/data/y_train"]),
                len(arrays["/data/y_test"]),
                len(arrays["/data/feature_names"]),
                arrays["@data_digest"],
            ),
            (data.rows, data.X_test.shape[0], data.X_train.shape[1], data.digest),
        )
    )
    if data.digest != arrays["@data_digest"]:
        raise FileError(
            f"{path} was trained with --link-data, and its rows are no longer those of {', '.join(link.values())}:"
            f" expected {expected}, found {found}",
            _HINT,
        )
    return replace(data, name=arrays["@data_name"], notes=())
