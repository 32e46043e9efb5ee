"""The dense Hessian and Gauss-Newton matrix of a network, from the structure of its layers.

Let f = sum_i w_i l_i, z_l the inputs of the units of layer l before their activation, delta_l = d f / d z_l, and A_l
the inputs of layer l for every row, with a 1 appended for the bias.  If the input z_kq of unit q in layer k changes
while all weights are fixed, the block of unit p of layer l and unit q of layer k <= l is

    sum_i [ (d delta_lp / d z_kq) A_l + delta_lp (d A_l / d z_kq) ] A_k'

over the rows i; the second term exists for l > k only.  Without the terms that the residuals multiply (the second term,
and s'' in the first), it is the Gauss-Newton matrix (Schraudolph 2002).  Both take about m P^2 / 2 multiplications in
matrix products, an eighth of what P products with unit vectors would take.
"""

from __future__ import annotations

import numpy as np
from scipy.linalg.lapack import dpotrf, spotrf

from influence_cli.core.objectives.families.base import Family
from influence_cli.core.objectives.networks.network import Layer, Network, Tape


def add_rows(
    out: np.ndarray,
    network: Network,
    layers: list[Layer],
    tape: Tape,
    inputs: list[np.ndarray],
    family: Family,
    weights: np.ndarray,
) -> None:
    """Add b rows with ``weights`` (1, b) at one parameter vector to the lower triangle of ``out`` (P, P).

    ``inputs`` are A_l, (b, D_l) each.  If the tape has no backward pass, the Gauss-Newton matrix is added.
    """
    dtype = out.dtype
    inputs = [signal.astype(dtype, copy=False) for signal in inputs]
    for k, right in enumerate(inputs):
        turned, moved = _responses(network, layers, tape, k, family, weights)
        E = right.shape[1]
        for l in range(k, len(inputs)):
            D = inputs[l].shape[1]
            block = out[network.slices[l], network.slices[k]]
            for p in range(turned[l].shape[1]):
                for q in range(p + 1 if l == k else len(turned[l])):
                    left = inputs[l].T * turned[l][q, p].astype(dtype, copy=False)
                    if l > k and tape.deltas:
                        left[: moved[l - 1].shape[1]] += (tape.deltas[l][0, p] * moved[l - 1][q]).astype(dtype)
                    block[p * D : (p + 1) * D, q * E : (q + 1) * E] += left @ right


def _responses(
    network: Network, layers: list[Layer], tape: Tape, k: int, family: Family, weights: np.ndarray
) -> tuple[dict[int, np.ndarray], dict[int, np.ndarray]]:
    """For a change of unit q of z_k, the derivatives d delta_l / d z_kq and d a_l / d z_kq for every layer l >= k,
    (n_k, n_l, b) each."""
    s, hidden, last = network.activation, tape.hidden, len(layers) - 1
    units = layers[k].block.shape[1]
    dz = {k: np.broadcast_to(np.eye(units)[:, :, None], (units, units, tape.state.shape[-1]))}
    da: dict[int, np.ndarray] = {}
    for l in range(k, last):
        da[l] = s.first(hidden[l]) * dz[l]
        dz[l + 1] = layers[l + 1].W @ da[l]
    turned = {last: tape.curve(family, dz[last], weights)}
    for l in range(last - 1, k - 1, -1):
        turned[l] = s.first(hidden[l]) * layers[l + 1].back(turned[l + 1])
        if tape.pulls:
            turned[l] += s.second(hidden[l]) * dz[l] * tape.pulls[l]
    return turned, da


def is_definite(matrix: np.ndarray, damping: float) -> bool:
    """Whether a symmetric matrix, given by its lower triangle, is positive definite once ``damping`` is added to its
    diagonal."""
    potrf = spotrf if matrix.dtype == np.float32 else dpotrf
    damped = matrix.copy(order="F")
    damped[np.diag_indices(len(damped))] += damped.dtype.type(damping)
    return bool(potrf(damped, lower=1, overwrite_a=1)[1] == 0)
