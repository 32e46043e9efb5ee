"""The network as a function of its parameters: passes over a block of rows, without a loss.

    a_0 = x,    z_l = W_l a_{l-1} + b_l,    a_l = s(z_l) for l < L,    eta = z_L

with s the activation.  theta contains one layer after the other, each as an array (n_l, n_{l-1} + 1) in which the bias
of a unit follows its weights; without hidden layers this is the theta of a GLM.  Signals (values for every unit and
row, such as z_l or a_l) are (G, n, b) for G parameter vectors and b rows; if one of two operands has G = 1, it serves
all groups of the other.  Cotangents, the derivatives of the weighted loss with respect to signals, contain the rows'
weights.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from influence_cli.core.objectives.families.base import Family
from influence_cli.core.objectives.networks.activations import Activation

Signals = list[np.ndarray]


@dataclass(frozen=True)
class Layer:
    """One layer of G parameter vectors: ``block`` (G, n, n_in + bias), contiguous, and the number n_in of its
    ``inputs``."""

    block: np.ndarray
    inputs: int

    @property
    def W(self) -> np.ndarray:
        """The weights without the bias, (G, n, n_in)."""
        return self.block[:, :, : self.inputs]

    def affine(self, a: np.ndarray) -> np.ndarray:
        """W a + b for signals a (G, n_in, b)."""
        return self._shift(self.W @ a)

    def affine_rows(self, X: np.ndarray) -> np.ndarray:
        """W x + b for rows X (b, n_in) that all groups share, (G, n, b), in one product for all groups."""
        G, n, D = self.block.shape
        return self._shift((self.block.reshape(G * n, D)[:, : self.inputs] @ X.T).reshape(G, n, len(X)))

    def back(self, delta: np.ndarray) -> np.ndarray:
        """W' delta for cotangents delta (G, n, b)."""
        return self.W.transpose(0, 2, 1) @ delta

    def _shift(self, z: np.ndarray) -> np.ndarray:
        if self.block.shape[2] > self.inputs:
            z += self.block[:, :, self.inputs :]
        return z


@dataclass(frozen=True)
class Network:
    """The shape of a network: ``sizes`` are d, the widths of the hidden layers, and K; with ``bias`` every unit has
    one."""

    sizes: tuple[int, ...]
    activation: Activation
    bias: bool = True

    @property
    def shapes(self) -> list[tuple[int, int]]:
        """(n_l, n_{l-1} + bias) of every layer."""
        return [(n, before + self.bias) for before, n in zip(self.sizes[:-1], self.sizes[1:], strict=True)]

    @property
    def size(self) -> int:
        """P, the number of parameters."""
        return sum(n * D for n, D in self.shapes)

    @property
    def slices(self) -> list[slice]:
        """The slice of theta that contains each layer's parameters."""
        counts = [n * D for n, D in self.shapes]
        return [slice(end - count, end) for count, end in zip(counts, np.cumsum(counts).tolist(), strict=True)]

    def layers(self, theta: np.ndarray) -> list[Layer]:
        """The layers of theta (P, G), or of a direction."""
        parts = zip(self.slices, self.shapes, self.sizes[:-1], strict=True)
        return [
            Layer(np.ascontiguousarray(theta[where].T).reshape(theta.shape[1], n, D), inputs)
            for where, (n, D), inputs in parts
        ]

    def blocks_of(self, flat: np.ndarray) -> list[np.ndarray]:
        """Views (G, n_l, D_l) of each layer's part of ``flat`` (G, P), whose rows are contiguous."""
        return [flat[:, where].reshape(len(flat), n, D) for where, (n, D) in zip(self.slices, self.shapes, strict=True)]

    def forward(self, layers: Sequence[Layer], X: np.ndarray) -> tuple[Signals, np.ndarray]:
        """Hidden activations a_1 .. a_{L-1} and outputs eta (G, K, b) of rows X (b, d)."""
        hidden: Signals = []
        z = layers[0].affine_rows(X)
        for layer in layers[1:]:
            hidden.append(self.activation.value(z))
            z = layer.affine(hidden[-1])
        return hidden, z

    def inputs(self, X: np.ndarray, hidden: Signals) -> list[np.ndarray]:
        """The inputs [a_{l-1} 1] of every layer for one parameter vector, (b, D_l) each."""
        ones = np.ones((len(X), int(self.bias)))
        return [np.hstack([signal, ones]) for signal in (X, *(a[0].T for a in hidden))]

    def tangents(
        self, layers: Sequence[Layer], hidden: Signals, X: np.ndarray, moves: Sequence[Layer]
    ) -> tuple[Signals, Signals]:
        """Derivatives along ``moves`` of z_1 .. z_L (the last is that of eta) and of a_1 .. a_{L-1}."""
        dz: Signals = [moves[0].affine_rows(X)]
        da: Signals = []
        for layer, move, a in zip(layers[1:], moves[1:], hidden, strict=True):
            da.append(self.activation.first(a) * dz[-1])
            dz.append(move.affine(a) + layer.W @ da[-1])
        return dz, da

    def second_tangents(
        self, layers: Sequence[Layer], hidden: Signals, moves: Sequence[Layer], dz: Signals, da: Signals
    ) -> tuple[Signals, Signals]:
        """Second derivatives along ``moves`` of z_2 .. z_L (that of z_1 is 0) and of a_1 .. a_{L-1}."""
        ddz: Signals = []
        dda: Signals = []
        before: np.ndarray | float = 0.0
        for layer, move, a, slope, step in zip(layers[1:], moves[1:], hidden, dz, da, strict=False):
            dda.append(self.activation.second(a) * slope**2 + self.activation.first(a) * before)
            before = layer.W @ dda[-1] + 2.0 * (move.W @ step)
            ddz.append(before)
        return ddz, dda

    def backward(self, layers: Sequence[Layer], hidden: Signals, cotangent: np.ndarray) -> tuple[Signals, Signals]:
        """The cotangents delta_l = d f / d z_l for l = 1 .. L, and e_l = d f / d a_l for l < L, of a function f with
        ``cotangent`` = d f / d eta."""
        deltas, pulls = [cotangent], []
        for layer, a in zip(reversed(layers[1:]), reversed(hidden), strict=True):
            pulls.append(layer.back(deltas[-1]))
            deltas.append(self.activation.first(a) * pulls[-1])
        return deltas[::-1], pulls[::-1]

    def collect(self, out: np.ndarray, hidden: Signals, X: np.ndarray, deltas: Signals) -> None:
        """Add sum over rows of delta_l [a_{l-1} 1]' to ``out`` (G, P)."""
        for layer, (block, delta) in enumerate(zip(self.blocks_of(out), deltas, strict=True)):
            G, n, b = delta.shape
            inputs = self.sizes[layer]
            if layer == 0:
                block[:, :, :inputs] += (delta.reshape(G * n, b) @ X).reshape(G, n, inputs)
            else:
                block[:, :, :inputs] += delta @ hidden[layer - 1].transpose(0, 2, 1)
            if self.bias:
                block[:, :, inputs] += delta.sum(axis=2)

    def collect_products(self, out: np.ndarray, deltas: Signals, moved: Signals, factor: float = 1.0) -> None:
        """Add factor * sum over rows of delta_l m_{l-1}' to ``out`` for l = 2 .. L, where m_{l-1} (``moved``) are
        derivatives of inputs, in which the 1 of the bias has none."""
        for layer, (delta, signal) in enumerate(zip(deltas[1:], moved, strict=True), start=1):
            block = self.blocks_of(out)[layer]
            block[:, :, : self.sizes[layer]] += factor * (delta @ signal.transpose(0, 2, 1))

    def by_row(self, hidden: Signals, X: np.ndarray, deltas: Signals) -> np.ndarray:
        """delta_l [a_{l-1} 1]' of each of b rows, for one parameter vector: (P, b)."""
        out = np.empty((self.size, len(X)))
        signals = [X.T, *(a[0] for a in hidden)]
        for where, (n, D), signal, delta in zip(self.slices, self.shapes, signals, deltas, strict=True):
            block = out[where].reshape(n, D, len(X))
            np.multiply(delta[0][:, None], signal[None], out=block[:, : len(signal)])
            if self.bias:
                block[:, -1] = delta[0]
        return out


@dataclass(frozen=True)
class Tape:
    """What a pass over b rows computes once for many products: hidden activations and the state of the loss, (G, n_l,
    b) each.  ``deltas`` and ``pulls`` are delta_l and e_l of the backward pass, and empty except for the exact
    Hessian."""

    hidden: Signals
    state: np.ndarray
    deltas: Signals
    pulls: Signals

    def curve(self, family: Family, dz: np.ndarray, weights: np.ndarray) -> np.ndarray:
        """The change of the cotangent of eta for rows with ``weights`` (G, b) when eta changes by ``dz`` (G, K, b)."""
        return weights[:, None] * family.curve(self.state, dz)

    def take(self, columns: np.ndarray | None) -> Tape:
        """The tape of the groups ``columns`` (A,); None stands for all."""
        if columns is None:
            return self
        lists = ([take(signal, columns) for signal in signals] for signals in (self.hidden, self.deltas, self.pulls))
        hidden, deltas, pulls = lists
        return Tape(hidden, take(self.state, columns), deltas, pulls)


def take(array: np.ndarray, columns: np.ndarray | None) -> np.ndarray:
    """The groups ``columns`` (A,) of an array that has one entry for every group, or a single one for all."""
    return array if columns is None or len(array) == 1 else array[columns]
