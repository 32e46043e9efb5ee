"""Shapley and Banzhaf values of groups: the coalitions to retrain, and the values from their figures
(docs/design.md, section 2.13).

The n groups are the players; v(S) is the figure of the model that is trained on the groups in S.  With the sign of
every figure here, without the group minus with it,

    shapley_g = sum over S without g of |S|! (n - |S| - 1)! / n!  (v(S) - v(S and g))         Shapley 1953
    banzhaf_g = sum over S without g of 2^-(n - 1)                (v(S) - v(S and g))         Banzhaf 1965

so that the Shapley values add up to v(no group) - v(all groups).  For more than ``EXACT_UP_TO`` groups they are means
over random draws: of orders in which the groups join (Castro et al. 2009), or of sets S, each draw followed by its
opposite.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import comb

import numpy as np

SHAPLEY, BANZHAF = CREDITS = ("shapley", "banzhaf")
EXACT_UP_TO = 12
"""Groups up to which all coalitions are retrained: there are 4,096 for 12."""
FINE, BY_LIMITS, MISSING = range(3)
"""The state of a value: it rests on minima only (``FINE``), or also on limits of coalitions without a minimum, and is
null where one is infinite (``BY_LIMITS``), or it is missing because the figure of a coalition is (``MISSING``)."""


@dataclass(frozen=True)
class Coalitions:
    """C sets of n groups, ``member`` (C, n) bool, and the differences whose weighted sum is each group's value.

    ``pairs`` (R, n, 2) are the numbers of a set without and with each group; ``weights`` (R, n) sum to 1 over R.
    ``drawn`` says that the R pairs are random draws, of which every second is the opposite of the one before it.
    """

    member: np.ndarray
    pairs: np.ndarray
    weights: np.ndarray
    drawn: bool


@dataclass(frozen=True)
class Credit:
    """Values (G, T) of the groups, how far they may be ``off`` (G, T), and the ``state`` of each (G, T): ``FINE``,
    ``BY_LIMITS`` or ``MISSING``."""

    value: np.ndarray
    off: np.ndarray
    state: np.ndarray


def coalitions(kind: str, players: int, rounds: int, seed: int) -> Coalitions:
    """All coalitions of up to ``EXACT_UP_TO`` groups; for more groups, those of ``rounds`` draws, an even number."""
    if players <= EXACT_UP_TO:
        return _all(kind, players)
    rng = np.random.default_rng(seed)
    draw = _orders if kind == SHAPLEY else _sets
    pairs = np.concatenate([draw(rng, players) for _ in range(rounds // 2)])
    member, number = np.unique(pairs.reshape(-1, players), axis=0, return_inverse=True)
    members = number.reshape(pairs.shape[:3])
    return Coalitions(member, members, np.full(members.shape[:2], 1.0 / len(members)), drawn=True)


def credit(chosen: Coalitions, value: np.ndarray, error: np.ndarray, unbounded: np.ndarray) -> Credit:
    """The values of the groups from ``value`` (C, T) of the coalitions, which is NaN where a coalition has none.

    ``error`` (C, T) is how far these may be off; where coalitions are drawn, the standard error of the mean is added to
    their weighted sum.  ``unbounded`` (C, T) marks figures that were taken along a direction without a minimum.
    """
    players, tests = chosen.pairs.shape[1], value.shape[1]
    out = Credit(np.empty((players, tests)), np.empty((players, tests)), np.empty((players, tests), dtype=np.uint8))
    for g in range(players):
        without, together = chosen.pairs[:, g].T
        weights, gain = chosen.weights[:, g], value[without] - value[together]
        out.value[g] = weights @ gain
        out.off[g] = weights @ (error[without] + error[together])
        if chosen.drawn:
            means = gain.reshape(-1, 2, tests).mean(axis=1)
            out.off[g] += means.std(axis=0, ddof=1) / np.sqrt(len(means))
        used = np.unique(chosen.pairs[:, g])
        lost = (np.isnan(value[used]) & ~unbounded[used]).any(axis=0)
        out.state[g] = np.where(lost, MISSING, np.where(unbounded[used].any(axis=0), BY_LIMITS, FINE))
    return out


def _all(kind: str, players: int) -> Coalitions:
    sets = np.arange(1 << players)
    member = (sets[:, None] >> np.arange(players) & 1).astype(bool)
    without = np.stack([sets[~member[:, g]] for g in range(players)], axis=1)
    pairs = np.stack([without, without + (1 << np.arange(players))], axis=2)
    sizes = member.sum(axis=1)[without]
    if kind == BANZHAF:
        return Coalitions(member, pairs, np.full(sizes.shape, 0.5 ** (players - 1)), drawn=False)
    by_size = np.array([1.0 / (players * comb(players - 1, size)) for size in range(players)])
    return Coalitions(member, pairs, by_size[sizes], drawn=False)


def _orders(rng: np.random.Generator, players: int) -> np.ndarray:
    """The groups present before and after each group joins, in a random order and in its reverse, (2, n, 2, n) bool."""
    place = rng.permutation(players)
    here = np.stack([place[None] < place[:, None], place[None] > place[:, None]])
    return np.stack([here, here | np.eye(players, dtype=bool)], axis=2)


def _sets(rng: np.random.Generator, players: int) -> np.ndarray:
    """A random set and its complement, each without and with each group, (2, n, 2, n) bool."""
    chosen = rng.random(players) < 0.5
    singles = np.eye(players, dtype=bool)
    return np.stack([np.stack([here & ~singles, here | singles], axis=1) for here in (chosen, ~chosen)])
