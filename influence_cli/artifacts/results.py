"""Results as files: estimates (``influence``) and changes by retraining (``truth``)."""

from __future__ import annotations

import json
from typing import Any

import numpy as np

from influence_cli.artifacts import storage
from influence_cli.artifacts.schema import KINDS, Kind
from influence_cli.artifacts.storage import Opened, PathLike
from influence_cli.core.recession import UNKNOWN
from influence_cli.errors import FileError
from influence_cli.results import GroupTable, InfluenceResult, Provenance, RowNames, TruthResult

_VALUES, _ERRORS, _CREDIT = "/values/", "/errors/", "/credit/"
_SHOWN_DIGITS = 12
_EITHER = Kind(
    "result",
    "changes on removal of groups, estimated or measured",
    f"{KINDS['influence'].command} or {KINDS['truth'].command}",
    (),
)


def save_influence(path: PathLike, result: InfluenceResult, *, force: bool = False) -> None:
    """Write estimates, one (G, T) dataset per method."""
    arrays = _common(result)
    arrays["@evaluate"] = result.evaluate
    arrays["/methods"] = list(result.values)
    for method, values in result.values.items():
        arrays[_VALUES + method] = values
    if result.ends is not None:
        arrays["/extrapolated"] = result.ends
    for method, values in result.errors.items():
        arrays[_ERRORS + method] = values
    if result.steps is not None and result.unmet is not None:
        arrays["/refined/steps"] = _as(result.steps, np.int64)
        arrays["/refined/unmet"] = result.unmet.astype(np.uint8)
    if result.low is not None and result.high is not None:
        arrays["/proven/low"], arrays["/proven/high"] = result.low, result.high
    if result.actual is not None:
        arrays["/verified/actual"] = result.actual
    storage.write(path, "influence", arrays, result.provenance.config, force=force)


def load_influence(path: PathLike) -> InfluenceResult:
    """Read estimates, with the methods in the requested order."""
    opened = storage.read(path, "influence")
    methods = opened.arrays["/methods"]
    missing = {
        _VALUES + method: "missing, expected float64 (G, T) because /methods names it"
        for method in methods
        if _VALUES + method not in opened.arrays
    }
    if missing:
        raise storage.invalid(path, "influence", missing)
    return InfluenceResult(
        **_read_common(opened),
        evaluate=opened.arrays["@evaluate"],
        values={method: opened.arrays[_VALUES + method] for method in methods},
        ends=_codes(opened, "/extrapolated"),
        errors={
            path.removeprefix(_ERRORS): values for path, values in opened.arrays.items() if path.startswith(_ERRORS)
        },
        steps=opened.arrays.get("/refined/steps"),
        unmet=_flags(opened, "/refined/unmet"),
        low=opened.arrays.get("/proven/low"),
        high=opened.arrays.get("/proven/high"),
        actual=opened.arrays.get("/verified/actual"),
    )


def save_truth(path: PathLike, result: TruthResult, *, force: bool = False) -> None:
    """Write the changes by retraining, with how each retraining ended."""
    arrays = _common(result)
    arrays["/values/actual"] = result.actual
    if result.repeats is not None:
        arrays["/values/repeats"] = result.repeats
    if result.actual_error is not None:
        arrays["/values/actual_error"] = result.actual_error
    if result.low is not None and result.high is not None:
        arrays["/proven/low"], arrays["/proven/high"] = result.low, result.high
    if result.unbounded is not None:
        arrays["/unbounded"] = result.unbounded.astype(np.uint8)
    for key, values in result.credit.items():
        arrays[_CREDIT + key] = values
    if result.credit_state is not None:
        arrays["/credit_state"] = result.credit_state
    arrays["/retraining/grad_norm"] = _as(result.grad_norm, np.float64)
    arrays["/retraining/iterations"] = _as(result.iterations, np.int64)
    arrays["/retraining/seconds"] = _as(result.seconds, np.float64)
    storage.write(path, "truth", arrays, result.provenance.config, force=force)


def load_truth(path: PathLike) -> TruthResult:
    """Read the changes by retraining."""
    opened = storage.read(path, "truth")
    return TruthResult(
        **_read_common(opened),
        actual=opened.arrays["/values/actual"],
        grad_norm=opened.arrays["/retraining/grad_norm"],
        iterations=opened.arrays["/retraining/iterations"],
        seconds=opened.arrays["/retraining/seconds"],
        repeats=opened.arrays.get("/values/repeats"),
        actual_error=opened.arrays.get("/values/actual_error"),
        low=opened.arrays.get("/proven/low"),
        high=opened.arrays.get("/proven/high"),
        unbounded=_flags(opened, "/unbounded"),
        credit={
            name.removeprefix(_CREDIT): values for name, values in opened.arrays.items() if name.startswith(_CREDIT)
        },
        credit_state=opened.arrays.get("/credit_state"),
    )


def load_result(path: PathLike) -> InfluenceResult | TruthResult:
    """Read estimates or truth, whichever the file contains."""
    kind = storage.kind_of(path, _EITHER)
    if kind == "influence":
        return load_influence(path)
    if kind == "truth":
        return load_truth(path)
    raise FileError(
        f"{path} is of kind {kind!r}, expected 'influence' or 'truth' ({_EITHER.purpose})",
        hint=f"make one: {_EITHER.command}",
    )


def same_origin(a: Provenance, b: Provenance, name_a: str, name_b: str) -> None:
    """Raise FileError, naming both files, if they were not computed from the same data and model."""
    for what, one, other in (
        ("data", a.data_digest, b.data_digest),
        ("models", a.model_digest, b.model_digest),
    ):
        if one != other:
            raise FileError(
                f"{name_a} and {name_b} do not belong together: they come from different {what}"
                f" (digests {one[:_SHOWN_DIGITS]} and {other[:_SHOWN_DIGITS]})",
                hint="compute both again with one --model",
            )


def _common(result: InfluenceResult | TruthResult) -> dict[str, Any]:
    groups = result.groups
    outcomes = list(dict.fromkeys(result.status))
    code = {outcome: number for number, outcome in enumerate(outcomes)}
    return {
        "@data_digest": result.provenance.data_digest,
        "@model_digest": result.provenance.model_digest,
        "@quantity": result.quantity,
        "/groups/label": groups.label,
        "/groups/kind": groups.kind,
        "/groups/size": _as(groups.size, np.int64),
        "/groups/fraction": groups.fraction,
        "/groups/digest": np.frombuffer(bytes.fromhex("".join(groups.digest)), dtype=np.uint8).reshape(-1, 32),
        "/groups/status": np.array([code[outcome] for outcome in result.status], dtype=np.int32),
        "/statuses": outcomes,
        "/tests/row": _as(result.tests, np.int64),
        "/tests/base": np.full(len(result.tests), np.nan) if result.base.ndim == 2 else result.base,
        **({"/groups/base": result.base[:, 0]} if result.base.ndim == 2 else {}),
        **({"/groups/cell": groups.cell} if groups.cell else {}),
        **({} if result.names is None else {_names_path(result): _names_text(result.names)}),
    }


def _read_common(opened: Opened) -> dict[str, Any]:
    """The fields that both results have."""
    arrays = opened.arrays
    codes, outcomes = arrays["/groups/status"], arrays["/statuses"]
    if codes.size and not 0 <= codes.min() <= codes.max() < len(outcomes):
        problem = f"expected indices from 0 to {len(outcomes) - 1}, found {codes.min()} to {codes.max()}"
        raise storage.invalid(opened.path, opened.kind, {"/groups/status": problem})
    digits = arrays["/groups/digest"].tobytes().hex()
    return {
        "provenance": Provenance(arrays["@data_digest"], arrays["@model_digest"], opened.config),
        "groups": GroupTable(
            label=tuple(arrays["/groups/label"]),
            kind=tuple(arrays["/groups/kind"]),
            size=arrays["/groups/size"],
            fraction=arrays["/groups/fraction"],
            digest=tuple(digits[start : start + 64] for start in range(0, len(digits), 64)),
            cell=tuple(arrays.get("/groups/cell", ())),
        ),
        "tests": arrays["/tests/row"],
        "quantity": arrays["@quantity"],
        "base": arrays["/groups/base"][:, None] if "/groups/base" in arrays else arrays["/tests/base"],
        "status": tuple(outcomes[code] for code in codes.tolist()),
        "names": _names_of(opened),
    }


def _codes(opened: Opened, path: str) -> np.ndarray | None:
    """The kind of truth of each pair; a code that no version wrote counts as unknown."""
    return np.minimum(opened.arrays[path], UNKNOWN) if path in opened.arrays else None


def _flags(opened: Opened, path: str) -> np.ndarray | None:
    """A dataset of 0 and 1 as booleans; None if the file lacks it."""
    return opened.arrays[path].astype(bool) if path in opened.arrays else None


def _names_path(result: InfluenceResult | TruthResult) -> str:
    """The path of the names, which belong to the test rows or to single rows measured by themselves."""
    by_group = result.names is not None and len(result.names.true) != len(result.tests)
    return "/groups/names" if by_group else "/tests/names"


def _names_text(names: RowNames) -> list[str]:
    rows = zip(names.true, names.predicted, names.record, names.id, strict=True)
    return [json.dumps(row, allow_nan=False) for row in rows]


def _names_of(opened: Opened) -> RowNames | None:
    """The names of the test rows; None if the file has none."""
    texts = opened.arrays.get("/groups/names", opened.arrays.get("/tests/names"))
    if texts is None:
        return None
    try:
        rows = [tuple(json.loads(text)) for text in texts]
        if any(len(row) != 4 for row in rows):
            raise ValueError
    except (ValueError, TypeError):
        problem = "expected lists of true, predicted, record and id as JSON, found others"
        raise storage.invalid(opened.path, opened.kind, {"/tests/names": problem}) from None
    return RowNames(*zip(*rows, strict=True)) if rows else RowNames.unknown(0)


def _as(values: Any, dtype: type) -> np.ndarray:
    """The values in a wider dtype if that loses nothing; otherwise the schema will refuse them."""
    array = np.asarray(values)
    return array.astype(dtype) if np.can_cast(array.dtype, dtype, "safe") else array
