"""Selected groups as a file, with their rows."""

from __future__ import annotations

import json
from itertools import pairwise
from typing import Any

import numpy as np

from influence_cli.artifacts import json_keys, storage
from influence_cli.artifacts.storage import PathLike
from influence_cli.results import Provenance, SelectionResult, code_of_test, name_of_test

_FIGURES = ("base", "predicted_first", "predicted_second", "actual", "seconds")
_TYPED = ("strategy", "size", "test", "rows", *_FIGURES)


def save_selection(path: PathLike, result: SelectionResult, *, force: bool = False) -> None:
    """Write the records; a record without rows (``random``) has none in the file."""
    records = result.entries
    rows = [np.empty(0, dtype=np.int64) if record["rows"] is None else record["rows"] for record in records]
    arrays: dict[str, Any] = {
        "@data_digest": result.provenance.data_digest,
        "@model_digest": result.provenance.model_digest,
        "@quantity": result.quantity,
        "/records/strategy": [record["strategy"] for record in records],
        "/records/size": np.array([record["size"] or 0 for record in records], dtype=np.int64),
        "/records/test": np.array([code_of_test(record["test"]) for record in records], dtype=np.int64),
        "/records/details": [_details(record) for record in records],
        "/rows/number": np.concatenate(rows).astype(np.int64),
        "/rows/end": np.cumsum([len(numbers) for numbers in rows], dtype=np.int64),
    }
    for key in _FIGURES:
        arrays[f"/records/{key}"] = np.array([record[key] for record in records], dtype=np.float64)
    storage.write(path, "selection", arrays, result.provenance.config, force=force)


def load_selection(path: PathLike) -> SelectionResult:
    """Read the records, with the keys of each in the order in which other formats write them."""
    opened = storage.read(path, "selection")
    arrays = opened.arrays
    ends, numbers = arrays["/rows/end"], arrays["/rows/number"]
    bounds = [0, *ends.tolist()]
    if any(start > end for start, end in pairwise(bounds)) or bounds[-1] != len(numbers):
        problem = f"expected ends that rise to the {len(numbers)} rows in the file, found other ones"
        raise storage.invalid(path, "selection", {"/rows/end": problem})
    records = []
    for at, (start, end) in enumerate(pairwise(bounds)):
        record = {
            "strategy": arrays["/records/strategy"][at],
            "size": int(arrays["/records/size"][at]) or None,
            "test": name_of_test(int(arrays["/records/test"][at])),
            **{key: float(arrays[f"/records/{key}"][at]) for key in _FIGURES[1:]},
            "rows": numbers[start:end] if end > start else None,
        }
        details = _read_details(path, arrays["/records/details"][at])
        details = {key: float(arrays["/records/base"][at]) if key == "base" else details[key] for key in details}
        records.append({**record, **details})
    origin = Provenance(arrays["@data_digest"], arrays["@model_digest"], opened.config)
    return SelectionResult(origin, arrays["@quantity"], tuple(records))


def _read_details(path: PathLike, text: str) -> dict[str, Any]:
    try:
        details = json_keys.parse(text)
    except ValueError as error:
        details = str(error)
    if not isinstance(details, dict):
        raise storage.invalid(
            path, "selection", {"/records/details": f"expected objects, found {json_keys.shown(details)}"}
        )
    return details


def _details(record: dict[str, Any]) -> str:
    """The values that have no dataset of their own; ``base`` keeps its place among the keys."""
    details = {key: value for key, value in record.items() if key not in _TYPED or key == "base"}
    return json.dumps({key: None if key == "base" or _unknown(value) else value for key, value in details.items()})


def _unknown(value: Any) -> bool:
    return isinstance(value, float) and not np.isfinite(value)
