"""K-FAC: an inverse of a network's curvature that costs little (Martens and Grosse 2015).

The block of layer l of the Gauss-Newton matrix, sum_i w_i (J_i' C_i J_i) (x) (a_i a_i'), is replaced by the Kronecker
product B (x) A of means, and the blocks between layers by 0:

    B = sum_i w_i J_i' C_i J_i / sum_i w_i        A = sum_i w_i a_i a_i'

with J_i = d eta_i / d z_l, C_i the second derivative of the loss in eta, and a_i = [a_{l-1} 1] the inputs of the layer
for row i.  In the eigenbases of A and B the shift (weight decay and damping) is added exactly.
"""

from __future__ import annotations

import numpy as np

from influence_cli.core.objectives.families.base import Family
from influence_cli.core.objectives.networks.network import Network

ROWS = 1024
"""Rows processed at a time."""
FLOOR = 1e-8
"""Least shift, relative to the layer's largest eigenvalue."""


class Kfac:
    """r -> M^-1 r with M = blockdiag(B_l (x) A_l + shift_l I); ``factors`` are (B, A, shift) of every layer."""

    def __init__(self, network: Network, factors: list[tuple[np.ndarray, np.ndarray, float]]):
        self._network = network
        self._parts = []
        for B, A, shift in factors:
            b, U = _eigen(B)
            a, V = _eigen(A)
            scale = np.outer(np.maximum(b, 0.0), np.maximum(a, 0.0))
            top = float(scale.max())
            self._parts.append((U, V, 1.0 / (scale + max(shift, FLOOR * top if top > 0 else 1.0))))

    def __call__(self, r: np.ndarray) -> np.ndarray:
        out = np.empty((r.shape[1], len(r)))
        targets = self._network.blocks_of(out)
        sources = self._network.layers(r)
        for (U, V, inverse), source, target in zip(self._parts, sources, targets, strict=True):
            rows = source.block.reshape(-1, len(V))
            inner = inverse * (U.T @ (rows @ V).reshape(source.block.shape))
            target[:] = U @ (inner.reshape(rows.shape) @ V.T).reshape(source.block.shape)
        return out.T


def layer_sums(network: Network, family: Family, theta: np.ndarray, X: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """B and A of each layer at theta (P, 1), from rows X (m, d) with weights (m,), as one array of ``layer_numbers``
    numbers."""
    between = [np.zeros((n, n)) for n, _ in network.shapes]
    within = [np.zeros((D, D)) for _, D in network.shapes]
    layers, outputs = network.layers(theta), family.outputs
    unit = np.eye(outputs)[:, :, None]
    for start in range(0, len(X), ROWS):
        rows = slice(start, min(start + ROWS, len(X)))
        hidden, eta = network.forward(layers, X[rows])
        state, w = family.curvature_state(eta), weights[rows]
        # deltas are d eta / d z_l, (K, n_l, b).
        deltas, _ = network.backward(layers, hidden, np.broadcast_to(unit, (outputs, outputs, len(w))))
        signals = network.inputs(X[rows], hidden)
        for B, A, delta, signal in zip(between, within, deltas, signals, strict=True):
            J = delta.transpose(1, 0, 2)
            B += np.einsum("pcb,qcb->pq", J, w * family.curve(state, J))
            A += (signal * w[:, None]).T @ signal
    total = float(weights.sum())
    return np.concatenate([one.ravel() for B, A in zip(between, within, strict=True) for one in (B / total, A)])


def layer_numbers(network: Network) -> int:
    """The length of ``layer_sums``."""
    return sum(n**2 + D**2 for n, D in network.shapes)


def kfac(network: Network, sums: np.ndarray, shift: float) -> Kfac:
    """K-FAC from its ``layer_sums``."""
    sizes = [size for shape in network.shapes for size in shape]
    parts = np.split(sums, np.cumsum([size**2 for size in sizes])[:-1])
    matrices = [part.reshape(size, size) for part, size in zip(parts, sizes, strict=True)]
    return Kfac(network, [(B, A, shift) for B, A in zip(matrices[::2], matrices[1::2], strict=True)])


def _eigen(matrix: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Eigenvalues (n,) and eigenvectors (n, n) of a matrix; those of the identity if numbers have overflowed, which the
    minimiser recognises by the norm of its gradient and reports."""
    try:
        if np.isfinite(matrix).all():
            return np.linalg.eigh(matrix)
    except np.linalg.LinAlgError:
        pass
    return np.ones(len(matrix)), np.eye(len(matrix))
