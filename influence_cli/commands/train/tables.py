"""The options of ``ginf train`` that say how a table is read, and what its columns are."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from influence_cli.data.options import TableOptions

TABLE = "Tables"


@dataclass(frozen=True)
class Tables:
    """A table's columns, and its dialect."""

    label: Annotated[str | None, typer.Option("--label", help="Column to predict; a table needs it.")] = None
    exposure: Annotated[
        str | None,
        typer.Option(
            "--exposure",
            help="For --estimator poisson, column of what --label was counted in: offset log(exposure).",
            rich_help_panel=TABLE,
        ),
    ] = None
    successes: Annotated[
        str | None,
        typer.Option(
            "--successes",
            help="Binomial regression: column of successes, in place of --label.",
            rich_help_panel=TABLE,
        ),
    ] = None
    trials: Annotated[
        str | None,
        typer.Option("--trials", help="Column of each row's trials, its weight.", rich_help_panel=TABLE),
    ] = None
    drop: Annotated[
        list[str] | None,
        typer.Option(
            "--drop",
            help="Columns that are no features; they can still name groups (A,B or repeated).",
        ),
    ] = None
    features: Annotated[
        list[str] | None,
        typer.Option(
            "--features",
            help="Columns that are the features.",
            show_default="all but --label, --drop, --id and what names or numbers rows",
            rich_help_panel=TABLE,
        ),
    ] = None
    keep: Annotated[
        list[str] | None,
        typer.Option(
            "--keep",
            help="Features though they look like names or row numbers.",
            rich_help_panel=TABLE,
        ),
    ] = None
    categorical: Annotated[
        list[str] | None,
        typer.Option(
            "--categorical",
            help="Columns of numbers whose values are categories.",
            rich_help_panel=TABLE,
        ),
    ] = None
    coding: Annotated[
        str | None,
        typer.Option(
            "--coding",
            help="0/1 columns of a category: full, or reference (none for its first value).",
            show_default="full; reference where lambda is 0",
            rich_help_panel=TABLE,
        ),
    ] = None
    id_column: Annotated[
        str | None,
        typer.Option(
            "--id",
            help="Column that identifies rows, each by another value; it is no feature.",
        ),
    ] = None
    missing: Annotated[
        list[str] | None,
        typer.Option(
            "--missing",
            help="More words that mean a missing value.",
            rich_help_panel=TABLE,
        ),
    ] = None
    drop_missing: Annotated[
        bool,
        typer.Option("--drop-missing", help="Use only rows without a missing value.", rich_help_panel=TABLE),
    ] = False
    impute: Annotated[
        str | None,
        typer.Option(
            "--impute",
            help="Fill in missing values: median, mean or most-frequent (text: always its most frequent).",
            show_default="they are refused",
            rich_help_panel=TABLE,
        ),
    ] = None
    date: Annotated[
        str | None,
        typer.Option(
            "--date",
            help="ordinal: dates are days since 1970-01-01.",
            show_default="they are refused",
            rich_help_panel=TABLE,
        ),
    ] = None
    date_order: Annotated[
        str | None,
        typer.Option(
            "--date-order",
            help="dmy, mdy or ymd.",
            show_default="as the values say",
            rich_help_panel=TABLE,
        ),
    ] = None
    separator: Annotated[
        str | None,
        typer.Option(
            "--separator",
            help="A character, or comma, semicolon, tab, bar or blank.",
            show_default="as the file says",
            rich_help_panel=TABLE,
        ),
    ] = None
    decimal: Annotated[
        str | None,
        typer.Option(
            "--decimal",
            help="The decimal mark: comma or point.",
            show_default="as the file says",
            rich_help_panel=TABLE,
        ),
    ] = None
    encoding: Annotated[
        str | None,
        typer.Option(
            "--encoding",
            help="Encoding of the text, such as latin-1.",
            show_default="as the file says",
            rich_help_panel=TABLE,
        ),
    ] = None
    standardize: Annotated[
        bool | None,
        typer.Option(
            "--standardize/--no-standardize",
            help="Scale numbers to mean 0 and deviation 1.",
            show_default="on for tables, off for arrays",
            rich_help_panel=TABLE,
        ),
    ] = None

    def options(self, test_data: str | None, sample_weight: str | None, *, is_free: bool) -> TableOptions:
        """How tables are read; ``is_free`` says that no penalty restricts the parameters (lambda is 0)."""
        from influence_cli.data.options import REFERENCE, TableOptions

        return TableOptions(
            label=self.label if self.successes is None else self.successes,
            exposure=self.exposure,
            trials=self.trials,
            drop=tuple(self.drop or ()),
            features=tuple(self.features or ()),
            impute=self.impute,
            standardize=self.standardize,
            id_column=self.id_column,
            test_data=test_data,
            sample_weight=sample_weight,
            keep=tuple(self.keep or ()),
            categorical=tuple(self.categorical or ()),
            coding=REFERENCE if self.coding is None and is_free else self.coding,
            missing=tuple(self.missing or ()),
            drop_missing=self.drop_missing,
            separator=self.separator,
            decimal=self.decimal,
            encoding=self.encoding,
            date=self.date,
            date_order=self.date_order,
        )
