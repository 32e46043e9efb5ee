"""The options of ``ginf train`` about a table."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

from influence_cli.data.dates import ORDERS
from influence_cli.data.kinds import Reading, words_of
from influence_cli.errors import UsageError, unknown_word

IMPUTE = {"median": "median", "mean": "mean", "most-frequent": "most_frequent"}
"""``--impute`` -> the strategy of scikit-learn's SimpleImputer; text always takes its most frequent value."""

FULL, REFERENCE = "full", "reference"
CODINGS = (FULL, REFERENCE)
ORDINAL = "ordinal"
DECIMALS = {",": ",", ".": ".", "comma": ",", "point": "."}

TABLE_RULES = 2
"""Version of the rules for reading tables.  A model's file without a version means version 1, by which no column is
left out as a feature automatically."""

_KEPT_AS = {"id_column": "id"}
"""Field -> its name in a model's file, where the two differ."""


@dataclass(frozen=True)
class TableOptions:
    """The options about a table as the user gave them.

    ``standardize`` None means on for tables and off for arrays; ``coding`` None means ``full``.  Each entry of
    ``drop``, ``features``, ``keep`` and ``categorical`` is the name of a column, or several names with commas between
    them; each entry of ``missing`` is one word or several.  The label counts events if ``exposure`` is given, and
    successes if ``trials`` is.
    """

    label: str | None = None
    drop: tuple[str, ...] = ()
    features: tuple[str, ...] = ()
    impute: str | None = None
    standardize: bool | None = None
    id_column: str | None = None
    test_data: str | None = None
    sample_weight: str | None = None
    exposure: str | None = None
    trials: str | None = None
    keep: tuple[str, ...] = ()
    categorical: tuple[str, ...] = ()
    coding: str | None = None
    missing: tuple[str, ...] = ()
    drop_missing: bool = False
    separator: str | None = None
    decimal: str | None = None
    encoding: str | None = None
    date: str | None = None
    date_order: str | None = None
    table_rules: int = TABLE_RULES

    def as_dict(self) -> dict[str, Any]:
        """The options that differ from their defaults, as JSON values."""
        asked = {one.name: getattr(self, one.name) for one in fields(self) if getattr(self, one.name) != one.default}
        if self.label is not None:
            asked["table_rules"] = self.table_rules
        return {
            _KEPT_AS.get(key, key): list(value) if isinstance(value, tuple) else value for key, value in asked.items()
        }

    @classmethod
    def from_dict(cls, kept: Mapping[str, Any]) -> TableOptions:
        """The inverse of ``as_dict``; other keys are ignored."""
        options: dict[str, Any] = {}
        for one in fields(cls):
            value = kept.get(_KEPT_AS.get(one.name, one.name), one.default)
            options[one.name] = tuple(value) if isinstance(value, list) else value
        options["table_rules"] = kept.get("table_rules", 1)
        return cls(**options)

    def reading(self, texts: frozenset[str] = frozenset()) -> Reading:
        """How to read the fields of a text table; ``texts`` are columns to take as text whatever they look like."""
        return Reading(DECIMALS.get(self.decimal or ""), words_of(self.missing), texts)

    @property
    def beside(self) -> tuple[tuple[str, str | None], ...]:
        """The options that name one column which is not a feature, and that column or None."""
        weights = (("--sample-weight", self.sample_weight), ("--exposure", self.exposure), ("--trials", self.trials))
        return (("--id", self.id_column), *weights)

    @property
    def per(self) -> str | None:
        """The column by which the label is divided, or None."""
        return self.trials if self.exposure is None else self.exposure

    @property
    def weights(self) -> tuple[str, ...]:
        """The columns whose product is the weight of a row."""
        return tuple(one for one in (self.sample_weight, self.per) if one is not None)

    @property
    def needs_table(self) -> dict[str, Any]:
        """Option -> value, for the options that need a table with column names."""
        return {
            "--label": self.label,
            "--drop": self.drop,
            "--features": self.features,
            "--impute": self.impute,
            "--id": self.id_column,
            "--exposure": self.exposure,
            "--trials": self.trials,
            "--keep": self.keep,
            "--categorical": self.categorical,
            "--missing": self.missing,
            "--drop-missing": self.drop_missing,
            "--separator": self.separator,
            "--decimal": self.decimal,
            "--encoding": self.encoding,
            "--date": self.date,
            "--date-order": self.date_order,
        }


def check_options(options: TableOptions) -> None:
    """Check the options before any file is read.  Raises UsageError."""
    from influence_cli.data.readers.dialect import encoding_of, separator_of

    words = {
        "--impute": (options.impute, tuple(IMPUTE)),
        "--coding": (options.coding, CODINGS),
        "--decimal": (options.decimal, tuple(DECIMALS)),
        "--date": (options.date, (ORDINAL,)),
        "--date-order": (options.date_order, ORDERS),
    }
    for option, (word, choices) in words.items():
        if word is not None and word not in choices:
            raise unknown_word(option, word, choices)
    if options.separator is not None:
        separator_of(options.separator)
    if options.encoding is not None:
        encoding_of(options.encoding)
    if options.exposure is not None and options.trials is not None:
        raise UsageError("--exposure and --trials exclude each other", "counts have the one, successes the other")
    if options.impute is not None and options.drop_missing:
        raise UsageError("--impute fills missing values in, and --drop-missing leaves their rows out", "choose one")
