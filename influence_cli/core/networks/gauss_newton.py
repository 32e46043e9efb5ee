"""The dense Gauss-Newton matrix sum_i w_i J_i' C_i J_i, from the structure of the layers (Schraudolph 2002).

The block of units p of layer l and q of layer k is

    A_l' diag(w_i m_i) A_k,    m_i = (d eta_i / d z_lp)' C_i (d eta_i / d z_kq),

with A_l the inputs of layer l, a row a row, a one behind: about m P^2 / 2 multiplications in all, as matrix products,
where P products with unit vectors would take eight times as many.
"""

from __future__ import annotations

import numpy as np


def add_rows(
    out: np.ndarray,
    slices: list[slice],
    inputs: list[np.ndarray],
    weighted: list[np.ndarray],
    jacobians: list[np.ndarray],
) -> None:
    """Add b rows to the lower triangle of ``out`` (P, P).

    By layer: ``inputs`` (b, D_l), ``jacobians`` (n_l, K, b) and ``weighted``, the same times w_i C_i.
    """
    dtype = out.dtype
    for l, left in enumerate(jacobians):
        for k in range(l + 1):
            D, E = inputs[l].shape[1], inputs[k].shape[1]
            block = out[slices[l], slices[k]]
            for p in range(len(left)):
                last = p + 1 if l == k else len(weighted[k])
                moments = np.einsum("cb,qcb->qb", left[p], weighted[k][:last]).astype(dtype, copy=False)
                for q in range(last):
                    block[p * D : (p + 1) * D, q * E : (q + 1) * E] += (inputs[l].T * moments[q]) @ inputs[k]
