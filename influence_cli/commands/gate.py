"""``--fail-above``: the size of a change from which on ``ginf influence`` and ``ginf groundtruth`` end with code 5."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any

import typer

from influence_cli.commands.options import TRUST


@dataclass(frozen=True)
class Gate:
    """The limit on the size of every change that a command is asked to check."""

    fail_above: Annotated[
        float | None,
        typer.Option(
            "--fail-above",
            metavar="SIZE",
            help="Exit code 5 if a change, its error added, is larger than SIZE in either direction, or has no value.",
            rich_help_panel=TRUST,
        ),
    ] = None

    def parse(self) -> None:
        """Raises UsageError if the limit is negative or no number."""
        from influence_cli.errors import UsageError

        if self.fail_above is not None and not 0.0 <= self.fail_above < float("inf"):
            raise UsageError(
                f"--fail-above must be a size of at least 0, found {self.fail_above:g}",
                hint="for example --fail-above 0.05",
            )

    def check(self, columns: Mapping[str, Any], change: str, error: str | None) -> None:
        """Hold the figures of a result against the limit.

        Parameters
        ----------
        columns : one entry a record, by key
        change, error : the key of the changes and that of what each may be off, in the same units, if it is known

        Raises
        ------
        CheckFailedError : a change plus its error exceeds the limit in size, or a change has no value

        """
        import numpy as np

        from influence_cli.errors import CheckFailedError

        if self.fail_above is None:
            return
        changes = np.abs(np.asarray(columns[change], dtype=float))
        margins = np.zeros(len(changes)) if error is None else np.nan_to_num(np.asarray(columns[error], dtype=float))
        sizes = np.where(np.isnan(changes), np.inf, changes + margins)
        if not (over := sizes > self.fail_above).any():
            return
        first = int(np.argmax(sizes))
        found = "has no value" if np.isnan(changes[first]) else f"changes by {sizes[first]:.6g}"
        found += " with its error" if margins[first] and not np.isnan(changes[first]) else ""
        raise CheckFailedError(
            f"{change} of {int(over.sum()):,} of {len(changes):,} figures (--fail-above): {columns['group'][first]}"
            f" {found}, expected at most {self.fail_above:g} in either direction"
        )
