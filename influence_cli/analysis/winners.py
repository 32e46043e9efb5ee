"""Whether the best group of a search is proven to be the best of those that were retrained."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Protocol

import numpy as np

from influence_cli.core.selection.problem import INCREASE


class Candidate(Protocol):
    """A record of a search with its groups and the proven intervals (2, groups) of their changes."""

    record: dict[str, Any]
    groups: list[np.ndarray]
    column: int
    ends: np.ndarray


def prove_winners(entries: Sequence[Candidate], direction: str) -> None:
    """Add ``low`` and ``high`` to the records (for random draws the means over the groups), and ``proven`` to that of
    the best group by retraining: whether its interval lies beyond those of all groups that compete with it.

    Groups of the same f and size compete, as do all unions of given groups.  ``proven`` is None in other records, and
    where nothing competes.
    """
    sign = 1.0 if direction == INCREASE else -1.0
    contests: dict[Any, list[Candidate]] = {}
    for entry in entries:
        known = bool(entry.ends.size) and bool(np.isfinite(entry.ends).all())
        low, high = entry.ends.mean(axis=1).tolist() if known else (float("nan"), float("nan"))
        entry.record |= {"low": low, "high": high, "proven": None}
        size = None if "groups" in entry.record else entry.record.get("at_most") or entry.record["size"]
        contests.setdefault((entry.column, size), []).append(entry)
    for contest in contests.values():
        _prove(contest, sign)


def _prove(contest: Iterable[Candidate], sign: float) -> None:
    worst, best = {}, {}
    named = []
    for entry in contest:
        for rows, ends in zip(entry.groups, (sign * entry.ends).T.tolist(), strict=True):
            worst[rows.tobytes()], best[rows.tobytes()] = min(ends), max(ends)
        if entry.record["draws"] is None and entry.groups and np.isfinite(entry.record["actual"]):
            named.append(entry)
    if len(worst) < 2 or not named:
        return
    winner = max(named, key=lambda entry: sign * entry.record["actual"]).groups[0].tobytes()
    proven = all(worst[winner] > best[rival] for rival in best if rival != winner)
    for entry in named:
        if entry.groups[0].tobytes() == winner:
            entry.record["proven"] = proven
