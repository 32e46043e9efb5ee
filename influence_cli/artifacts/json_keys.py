"""The keys of the attributes that are JSON: the allowed type of each, checked before anything uses it.

A key that no table contains is ignored, as an unknown dataset is: a later version may have written it.  Null is valid
for every key that is not required.  Whether a word or a number makes sense is checked by the layer that uses it, by the
rules for the same setting on the command line.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

LARGEST = 2**63 - 1
"""Limit of an integer: the largest int64."""


@dataclass(frozen=True)
class Key:
    """One key of a JSON object: the name of its type in ``TYPES``, and whether it is required."""

    name: str
    type: str
    required: bool = False


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _is_whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and abs(value) <= LARGEST


def _list_of(one: Callable[[Any], bool]) -> Callable[[Any], bool]:
    return lambda value: isinstance(value, list) and all(map(one, value))


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


TYPES: dict[str, Callable[[Any], bool]] = {
    "a finite number": _is_number,
    "a whole number": _is_whole,
    "text": _is_text,
    "true or false": lambda value: isinstance(value, bool),
    "a list of texts": _list_of(_is_text),
    "a list of whole numbers": _list_of(_is_whole),
    "a list of objects": _list_of(lambda value: isinstance(value, dict)),
    "an object": lambda value: isinstance(value, dict),
}
NUMBER, WHOLE, TEXT, TRUTH, TEXTS, WHOLES, OBJECTS, OBJECT = TYPES


def _keys(**types: str) -> tuple[Key, ...]:
    return tuple(Key(name, type) for name, type in types.items())


_ASKED = _keys(
    model=TEXT,
    groups=TEXTS,
    test=TEXT,
    seed=WHOLE,
    asked=TEXT,
    quantity=TEXT,
    solver=TEXT,
    curvature=TEXT,
    damping=NUMBER,
    preprocessing=TEXT,
)
_MODEL_CONFIG = (
    *_keys(estimator=TEXT, l2=NUMBER, penalty_scaling=TEXT, fit_intercept=TRUTH, penalize_intercept=TRUTH, tol=NUMBER),
    *_keys(hidden=WHOLES, activation=TEXT, curvature=TEXT, damping=NUMBER, seed=WHOLE),
    *_keys(data=TEXT, test_fraction=NUMBER, label=TEXT, drop=TEXTS, features=TEXTS, impute=TEXT, standardize=TRUTH),
    *_keys(id=TEXT, test_data=TEXT, sample_weight=TEXT, exposure=TEXT, trials=TEXT, class_weight=TEXT, sklearn=TEXT),
    *_keys(keep=TEXTS, categorical=TEXTS, coding=TEXT, missing=TEXTS, drop_missing=TRUTH, table_rules=WHOLE),
    *_keys(separator=TEXT, decimal=TEXT, encoding=TEXT, date=TEXT, date_order=TEXT, columns=TEXTS),
    Key("from", TEXT),
)
_SELECTION_CONFIG = (
    *_keys(
        size=TEXT,
        direction=TEXT,
        verify=TRUTH,
        flip=TRUTH,
        flip_of=TEXT,
        draws=WHOLE,
        certify=NUMBER,
        constraint=TEXT,
        merit=TEXT,
        rounds=WHOLE,
    ),
    *_keys(at_most=TRUTH, curve=TEXT, describe=WHOLE, support=TEXT, columns=TEXT, top=WHOLE),
    *_keys(within=TEXTS, candidates=TEXTS, strategies=TEXTS),
)
KEYS: dict[str, dict[str, tuple[Key, ...]]] = {
    "model": {
        "@config": _MODEL_CONFIG,
        "@training": (
            Key("grad_norm", NUMBER, True),
            Key("iterations", WHOLE, True),
            Key("seconds", NUMBER, True),
            Key("stamps", WHOLES),
        ),
        "@data_link": (Key("data", TEXT, True), Key("test_data", TEXT), Key("from", TEXT)),
        "@preparation": _keys(label=TEXT, per=TEXT, standardize=TRUTH, impute=TEXT, features=OBJECTS, coding=TEXT),
    },
    "influence": {
        "@config": (
            *_ASKED,
            *_keys(methods=TEXTS, evaluate=TEXT, rel_error=NUMBER, certify=NUMBER, errors=TRUTH, verify=TRUTH),
            Key("objective", TEXT),
        )
    },
    "truth": {
        "@config": (
            *_ASKED,
            *_keys(tol=NUMBER, cold=TRUTH, retrain=TEXT, repeats=WHOLE, certify=NUMBER, credit=TEXT, draws=WHOLE),
        )
    },
    "selection": {"@config": (*_ASKED, *_SELECTION_CONFIG)},
}
"""The keys, by kind of file and attribute."""


def parse(text: str) -> Any:
    """Parse JSON without the constants NaN and Infinity.  Raises ValueError for invalid text."""
    try:
        return json.loads(text, parse_constant=_refuse_constant)
    except RecursionError as error:
        raise ValueError("nested too deeply") from error


def problems(kind: str, attribute: str, value: Any) -> Iterator[str]:
    """What is wrong with the parsed value of an attribute; nothing if it is as its table says."""
    if not isinstance(value, dict):
        yield f"expected an object, found {shown(value)}"
        return
    for key in KEYS[kind].get(attribute, ()):
        if key.required and key.name not in value:
            yield f"expected the key {key.name}, {key.type}, found none"
        item = value.get(key.name)
        if (item is not None or (key.required and key.name in value)) and not TYPES[key.type](item):
            yield f"expected {key.type} for {key.name}, found {shown(item)}"


def unlisted(kind: str, attribute: str, value: Mapping[str, Any]) -> list[str]:
    """Keys that the table does not have."""
    return sorted(value.keys() - {key.name for key in KEYS[kind].get(attribute, ())})


def sentence(kind: str, attribute: str) -> str:
    """The keys of an attribute and their types, for the documentation."""
    by_type: dict[str, list[str]] = {}
    for key in KEYS[kind][attribute]:
        by_type.setdefault(key.type, []).append(f"`{key.name}`" + (" (required)" if key.required else ""))
    return (
        f"Keys of `{attribute}`: " + "; ".join(f"{type}: {', '.join(keys)}" for type, keys in by_type.items()) + ".\n"
    )


def shown(value: Any) -> str:
    """The beginning of a value, for a sentence."""
    text = repr(value)
    return text if len(text) <= 40 else f"{text[:40]}..."


def _refuse_constant(name: str) -> float:
    raise ValueError(f"{name} is no JSON number")
