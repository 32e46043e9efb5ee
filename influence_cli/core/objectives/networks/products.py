"""Second and third derivatives of a network along a direction: the backward pass, differentiated (Pearlmutter 1994)."""

from __future__ import annotations

import numpy as np

from influence_cli.core.objectives.families.base import Family
from influence_cli.core.objectives.networks.network import Layer, Network, Tape


def add_product(
    out: np.ndarray,
    network: Network,
    layers: list[Layer],
    moves: list[Layer],
    tape: Tape,
    X: np.ndarray,
    curve: tuple[Family, np.ndarray],
) -> None:
    """Add sum_i w_i (hess l_i) V over rows X (b, d) to ``out`` (G, P), where ``moves`` are the layers of V (P, G).

    ``curve`` are the family and the rows' weights (G, b).  If the tape has no backward pass, the product with the
    Gauss-Newton matrix is added.
    """
    exact, s = bool(tape.deltas), network.activation
    dz, da = network.tangents(layers, tape.hidden, X, moves)
    turned = [tape.curve(curve[0], dz[-1], curve[1])]
    for l in range(len(tape.hidden) - 1, -1, -1):
        a = tape.hidden[l]
        moved = layers[l + 1].back(turned[0])
        if exact:
            moved += moves[l + 1].back(tape.deltas[l + 1])
        turn = s.first(a) * moved
        if exact:
            turn += s.second(a) * dz[l] * tape.pulls[l]
        turned.insert(0, turn)
    network.collect(out, tape.hidden, X, turned)
    if exact:
        network.collect_products(out, tape.deltas, da)


def add_third(
    out: np.ndarray,
    network: Network,
    layers: list[Layer],
    moves: list[Layer],
    tape: Tape,
    X: np.ndarray,
    curve: tuple[Family, np.ndarray],
) -> None:
    """Add sum_i w_i l_i'''[u, u] over rows X (b, d) to ``out`` (G, P), where ``moves`` are the layers of u (P, G).

    It differentiates the backward pass twice; the tape must contain one, and ``curve`` is as in ``add_product``.
    """
    s, hidden, weights = network.activation, tape.hidden, curve[1][:, None]
    dz, da = network.tangents(layers, hidden, X, moves)
    ddz, dda = network.second_tangents(layers, hidden, moves, dz, da)
    once = [weights * curve[0].curve(tape.state, dz[-1])]
    twice = [weights * curve[0].third(tape.state, dz[-1])]
    if ddz:
        twice[0] = twice[0] + weights * curve[0].curve(tape.state, ddz[-1])
    for l in range(len(hidden) - 1, -1, -1):
        layer, move, a, e = layers[l + 1], moves[l + 1], hidden[l], tape.pulls[l]
        de = move.back(tape.deltas[l + 1]) + layer.back(once[0])
        dde = 2.0 * move.back(once[0]) + layer.back(twice[0])
        slope, bent = s.first(a), s.second(a)
        dslope = bent * dz[l]
        ddslope = s.third(a) * dz[l] ** 2 + (bent * ddz[l - 1] if l else 0.0)
        once.insert(0, dslope * e + slope * de)
        twice.insert(0, ddslope * e + 2.0 * dslope * de + slope * dde)
    network.collect(out, hidden, X, twice)
    network.collect_products(out, once, da, 2.0)
    network.collect_products(out, tape.deltas, dda)
