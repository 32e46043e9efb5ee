"""Feed-forward networks: hidden layers of sigmoid or tanh units, outputs into one family of row losses.

With J_i = d eta_i / d theta, r_i = d l_i / d eta_i and C_i = d^2 l_i / d eta_i^2 for the outputs eta_i of row i,

    gradient        sum_i w_i J_i' r_i
    Hessian         sum_i w_i (J_i' C_i J_i + sum_k r_ik d^2 eta_ik / d theta^2)
    Gauss-Newton    sum_i w_i J_i' C_i J_i

Products with the Hessian are exact, by differentiating the backward pass along the direction (Pearlmutter 1994).  The
Gauss-Newton matrix lacks the terms with residuals (Schraudolph 2002) and is positive semidefinite.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from influence_cli.core.arrays import columns_of, norms
from influence_cli.core.objectives.families.base import Family
from influence_cli.core.objectives.families.softmax import Softmax
from influence_cli.core.objectives.kept import KeptLayers
from influence_cli.core.objectives.networks.activations import ACTIVATIONS
from influence_cli.core.objectives.networks.decay import weight_decay
from influence_cli.core.objectives.networks.dense import add_rows, is_definite
from influence_cli.core.objectives.networks.kfac import kfac, layer_sums
from influence_cli.core.objectives.networks.network import Layer, Network, Tape, take
from influence_cli.core.objectives.networks.products import add_product, add_third
from influence_cli.core.objectives.objective import Objective, Product, Tuning
from influence_cli.core.parallel import summed
from influence_cli.core.rows.sparse_design import Features
from influence_cli.core.weights import Piece, RowWeights, Weights, as_weights

HESSIAN, GAUSS_NEWTON = "hessian", "gauss-newton"
CURVATURES = (HESSIAN, GAUSS_NEWTON)
SIGNAL_NUMBERS = 1 << 19
"""Float64 numbers (4 MiB) that the activations of one layer may take for a block of rows."""
DENSE_ROWS = 1024
"""Most rows of a block for the dense matrix."""
PAIR_NUMBERS = 1 << 22
"""Float64 numbers (32 MiB) that a block of rows for the dense matrix may take, one for each row and pair of units."""
TAPE_BYTES = 256e6
"""Bytes of forward and backward passes that curvature products keep; larger ones are computed again each time."""


@dataclass(frozen=True)
class Form:
    """The form of a network: the widths of its ``hidden`` layers, and the weight decay ``l2`` of all weights (of biases
    only with ``penalize_intercept``)."""

    hidden: tuple[int, ...]
    l2: float
    activation: str = "sigmoid"
    intercept: bool = True
    penalize_intercept: bool = False


class Mlp(Objective):
    """A network on rows X (m, d) with labels or responses y (m,).

    ``curvature`` is the matrix that products and estimates use as the Hessian of J: ``HESSIAN`` or ``GAUSS_NEWTON``.
    ``damping`` is added to it (Koh and Liang 2017), and never to J.
    """

    convex = False
    tuning = Tuning(tolerance=1e-6, max_iterations=20_000)
    kept: KeptLayers | None = None

    def __init__(
        self,
        X: np.ndarray,
        y: np.ndarray,
        family: Family,
        form: Form,
        *,
        curvature: str = HESSIAN,
        damping: float = 0.0,
        weights: np.ndarray | None = None,
    ):
        self.X, self.y, self.family = X, y, family
        sizes = (X.shape[1], *form.hidden, family.outputs)
        self.network = Network(sizes, ACTIVATIONS[form.activation], form.intercept)
        self.exact = curvature == HESSIAN
        self.damping = damping
        self.outputs = family.outputs
        self.weights = np.full(len(y), 1.0 / len(y)) if weights is None else weights
        self.size = self.network.size
        self.units = np.ones(self.size)
        self.l2 = form.l2
        self.penalty = weight_decay(
            self.network, form.l2, penalize_bias=form.penalize_intercept, softmax=isinstance(family, Softmax)
        )
        self._tilt = np.zeros((1, family.outputs, 1))

    @property
    def bounded(self) -> bool:
        """Weight decay bounds the weights, and then the rows of a class bound its bias."""
        return self.l2 > 0

    def initial(self, seed: int) -> np.ndarray:
        """Weights uniform up to gain * sqrt(6 / (inputs + units)) in size (Glorot and Bengio 2010), and biases 0."""
        rng = np.random.default_rng(seed)
        network = self.network
        out = np.zeros((1, self.size))
        for block, inputs in zip(network.blocks_of(out), network.sizes[:-1], strict=True):
            bound = np.sqrt(6.0 / (inputs + block.shape[1]))
            gain = network.activation.gain if block.shape[1:] != network.shapes[-1] else 1.0
            block[:, :, :inputs] = gain * rng.uniform(-bound, bound, size=block[:, :, :inputs].shape)
        return np.asfortranarray(out.T)

    def loss(self, theta: np.ndarray, w: RowWeights) -> np.ndarray:
        theta, w = columns_of(theta), as_weights(w)
        layers = self.network.layers(theta)
        total = np.zeros(max(theta.shape[1], w.groups))
        for piece in self._pieces(w, self._step(theta.shape[1])):
            total += self._losses(self.network.forward(layers, self.X[piece.rows])[1], piece)
        return total

    def loss_gradient(self, theta: np.ndarray, w: RowWeights) -> np.ndarray:
        theta, w = columns_of(theta), as_weights(w)
        parts = w.parts()
        if len(parts) == 1:
            return self._loss_and_gradient(theta, w)[1]
        out = np.empty((self.size, w.groups), order="F")
        for part in parts:
            out[:, part] = self._loss_and_gradient(_some(theta, part), w.take(part))[1]
        return out

    def value_and_gradient(self, theta: np.ndarray, w: RowWeights) -> tuple[np.ndarray, np.ndarray]:
        theta, w = columns_of(theta), as_weights(w)
        value, gradient = self._loss_and_gradient(theta, w)
        return value + self.penalty.value(theta, w.penalty), gradient + self.penalty.product(theta, w.penalty)

    def _loss_and_gradient(self, theta: np.ndarray, w: Weights) -> tuple[np.ndarray, np.ndarray]:
        layers = self.network.layers(theta)
        groups = max(theta.shape[1], w.groups)

        def add(pieces: Sequence[Piece], out: np.ndarray) -> None:
            for piece in pieces:
                X = self.X[piece.rows]
                hidden, eta = self.network.forward(layers, X)
                out[:, -1] += self._losses(eta, piece)
                deltas, _ = self.network.backward(layers, hidden, self._cotangent(eta, piece))
                self.network.collect(out, hidden, X, deltas)

        out = self._over_pieces(add, list(self._pieces(w, self._step(groups))), groups, self.size + 1)
        return out[:, -1], out[:, :-1].T

    def _over_pieces(self, add: Callable, pieces: Sequence, groups: int, numbers: int) -> np.ndarray:
        """The sum over the pieces of a forward and a backward pass, (groups, numbers)."""
        return summed(add, pieces, (groups, numbers), operations=2.0 * len(self.X) * self.size * groups)

    def loss_curvature(self, theta: np.ndarray, w: RowWeights) -> Product:
        theta, w = columns_of(theta), as_weights(w)
        parts = w.parts()
        budget = TAPE_BYTES / len(parts)
        if len(parts) == 1:
            return self._curvature_of(theta, w, budget)
        products = [self._curvature_of(_some(theta, part), w.take(part), budget) for part in parts]

        def product(V: np.ndarray, columns: np.ndarray | None = None) -> np.ndarray:
            columns = np.arange(w.groups) if columns is None else columns
            out = np.empty((self.size, len(columns)), order="F")
            for part, one in zip(parts, products, strict=True):
                at = np.flatnonzero(np.isin(columns, part))
                if at.size:
                    out[:, at] = one(_some(V, at), np.searchsorted(part, columns[at]))
            return out

        return product

    def _curvature_of(self, theta: np.ndarray, w: Weights, budget: float) -> Product:
        """``loss_curvature`` of groups that share their passes; their tapes are kept if ``budget`` bytes suffice."""
        layers = self.network.layers(theta)
        groups = max(theta.shape[1], w.groups)
        pieces = list(self._pieces(w, self._step(max(groups, 16))))
        rows = sum(piece.count for piece in pieces)
        kept = sum(self.network.sizes[1:]) * rows * (theta.shape[1] + 2 * groups * self.exact)
        tapes = [self._tape(layers, piece, exact=self.exact) for piece in pieces] if 8 * kept <= budget else None

        def product(V: np.ndarray, columns: np.ndarray | None = None) -> np.ndarray:
            moves = self.network.layers(V)
            some = None if columns is None or np.array_equal(columns, np.arange(groups)) else columns
            layers_taken = [Layer(take(layer.block, some), layer.inputs) for layer in layers]

            def add(numbers: Sequence[int], out: np.ndarray) -> None:
                for number in numbers:
                    piece = pieces[number]
                    tape = tapes[number] if tapes is not None else self._tape(layers, piece, exact=self.exact)
                    curve = self.family, take(piece.weights(), some)
                    add_product(out, self.network, layers_taken, moves, tape.take(some), self.X[piece.rows], curve)

            return self._over_pieces(add, range(len(pieces)), V.shape[1], self.size).T

        return product

    def _tape(self, layers: list[Layer], piece: Piece, *, exact: bool) -> Tape:
        hidden, eta = self.network.forward(layers, self.X[piece.rows])
        back = self.network.backward(layers, hidden, self._cotangent(eta, piece)) if exact else ([], [])
        return Tape(hidden, self.family.curvature_state(eta), *back)

    def third(self, theta: np.ndarray, w: RowWeights, u: np.ndarray) -> np.ndarray:
        """Exact under either curvature."""
        theta, w = columns_of(theta), as_weights(w)
        layers, moves = self.network.layers(theta), self.network.layers(u)
        out = np.zeros((u.shape[1], self.size))
        for piece in self._pieces(w, self._step(u.shape[1])):
            tape, curve = self._tape(layers, piece, exact=True), (self.family, piece.weights())
            add_third(out, self.network, layers, moves, tape, self.X[piece.rows], curve)
        return out.T

    def dense_curvature(self, theta: np.ndarray, w: RowWeights, dtype: np.dtype) -> np.ndarray:
        """The exact Hessian, if chosen and positive definite with the damping; otherwise the Gauss-Newton matrix, whose
        factor preconditions exact products as well."""
        if self.exact:
            hessian = self._dense(columns_of(theta), as_weights(w), dtype, exact=True)
            if is_definite(hessian, self.damping):
                return hessian
            del hessian
        return self._dense(columns_of(theta), as_weights(w), dtype, exact=False)

    def _dense(self, theta: np.ndarray, w: Weights, dtype: np.dtype, *, exact: bool) -> np.ndarray:
        out = np.zeros((self.size, self.size), dtype=dtype, order="F")
        layers = self.network.layers(theta)
        # Short enough that an array with one number for each row and pair of units is small.
        step = max(32, min(DENSE_ROWS, PAIR_NUMBERS // max(self.network.sizes[1:]) ** 2))
        for piece in self._pieces(w, step):
            tape = self._tape(layers, piece, exact=exact)
            inputs = self.network.inputs(self.X[piece.rows], tape.hidden)
            add_rows(out, self.network, layers, tape, inputs, self.family, piece.weights())
        for where in self.network.slices:
            unit = np.zeros((self.size, where.stop - where.start))
            unit[where] = np.eye(where.stop - where.start)
            out[where, where] += self.penalty.product(unit, w.penalty)[where].astype(dtype)
        return out

    def preconditioner(self, theta: np.ndarray, w: RowWeights) -> Callable[[np.ndarray], np.ndarray]:
        """K-FAC, with the training's weight decay and damping."""
        theta, w = columns_of(theta), as_weights(w)
        kept = self.kept if w.whole and w.base is self.weights else None
        if kept is None or not np.array_equal(kept.theta, theta):
            kept = KeptLayers(theta, layer_sums(self.network, self.family, theta, self.X, w.column()))
        return kfac(self.network, kept.layers, self.l2 + self.damping)

    def summed(self, theta: np.ndarray) -> None:
        """Compute and keep the sums that K-FAC at theta (P, 1) needs, in a pass over all rows."""
        self.kept = KeptLayers(theta.copy(), layer_sums(self.network, self.family, theta, self.X, self.weights))

    def row_products(self, theta: np.ndarray, V: np.ndarray) -> np.ndarray:
        theta, V = columns_of(theta), columns_of(V)
        layers, moves = self.network.layers(theta), self.network.layers(V)
        out = np.empty((len(self.X), max(theta.shape[1], V.shape[1])))
        for rows in self._blocks(out.shape[1]):
            X = self.X[rows]
            hidden, eta = self.network.forward(layers, X)
            dz, _ = self.network.tangents(layers, hidden, X, moves)
            out[rows] = (self.family.residual(eta, self.y[rows]) * dz[-1]).sum(axis=1).T
        return out

    def row_curvatures(self, theta: np.ndarray, V: np.ndarray, U: np.ndarray) -> np.ndarray:
        """(d eta v)' C (d eta u), and with the exact Hessian r' d^2 eta[u, v] from those of u + v and u - v."""
        theta, V, U = columns_of(theta), columns_of(V), columns_of(U)
        network, layers = self.network, self.network.layers(theta)
        out = np.empty((len(self.X), max(V.shape[1], U.shape[1])))
        lengths = [np.maximum(norms(A), np.finfo(float).tiny) for A in (V, U)]
        v, u = V / lengths[0], U / lengths[1]
        sides = [network.layers(v), network.layers(u)]
        corners = [(network.layers(u + v), 0.25), (network.layers(u - v), -0.25)] if self.exact else []
        for rows in self._blocks(2 * out.shape[1]):
            X = self.X[rows]
            hidden, eta = network.forward(layers, X)
            along = [network.tangents(layers, hidden, X, side)[0][-1] for side in sides]
            total = (along[0] * self.family.curve(self.family.curvature_state(eta), along[1])).sum(axis=1)
            residual = self.family.residual(eta, self.y[rows])
            for corner, sign in corners:
                dz, da = network.tangents(layers, hidden, X, corner)
                ddz, _ = network.second_tangents(layers, hidden, corner, dz, da)
                if ddz:
                    total = total + sign * (residual * ddz[-1]).sum(axis=1)
            out[rows] = total.T
        return out * (lengths[0] * lengths[1])

    def self_concordance(self, V: np.ndarray) -> np.ndarray:
        """0: the bound of a GLM has no counterpart for a network."""
        return np.zeros(V.shape[1])

    def residuals(self, theta: np.ndarray) -> np.ndarray:
        eta = self.predict_outputs(theta, self.X)
        return np.ascontiguousarray(self.family.residual(eta, self.y)[0].T)

    def free_intercepts(self, change: np.ndarray) -> np.ndarray:
        out = np.zeros((len(change), self.size))
        last = self.network.blocks_of(out)[-1]
        if self.network.bias and self.network.blocks_of(self.penalty.ridge[None])[-1][0, 0, -1] == 0.0:
            last[:, :, -1] = change
        return out.T

    def predict_outputs(self, theta: np.ndarray, X: Features) -> np.ndarray:
        theta = columns_of(theta)
        layers = self.network.layers(theta)
        out = np.empty((theta.shape[1], self.outputs, len(X)))
        for rows in self._blocks(theta.shape[1], len(X)):
            out[:, :, rows] = self.network.forward(layers, X[rows])[1]
        return out

    def deviation(self, theta: np.ndarray) -> np.ndarray:
        outputs = self.predict_outputs(theta, self.X)
        outputs = outputs - outputs[:, :, :1]
        return np.sqrt(np.maximum(outputs**2 @ self.weights - (outputs @ self.weights) ** 2, 0.0).sum(axis=1))

    def pull_back(self, theta: np.ndarray, X: Features, cotangent: np.ndarray) -> np.ndarray:
        layers = self.network.layers(columns_of(theta))
        hidden, _ = self.network.forward(layers, X)
        deltas, _ = self.network.backward(layers, hidden, np.asarray(cotangent, dtype=float)[None])
        return self.network.by_row(hidden, X, deltas)

    def proximal(self, theta: np.ndarray) -> Mlp:
        from influence_cli.core.objectives.proximal import Proximal  # Proximal is a subclass of Mlp

        return Proximal(self, columns_of(theta))

    def _losses(self, eta: np.ndarray, piece: Piece) -> np.ndarray:
        total = (piece.weights() * self.family.loss(eta, self.y[piece.rows])).sum(axis=1)
        return total - (self._tilted(piece.rows) * eta).sum(axis=(1, 2))

    def _cotangent(self, eta: np.ndarray, piece: Piece) -> np.ndarray:
        residual = self.family.residual(eta, self.y[piece.rows])
        return piece.weights()[:, None] * residual - self._tilted(piece.rows)

    def _tilted(self, rows: slice | np.ndarray) -> np.ndarray:
        return self._tilt if self._tilt.shape[2] == 1 else self._tilt[:, :, rows]

    def _pieces(self, w: Weights, step: int) -> Iterator[Piece]:
        """The rows of a pass: if few rows have a weight, these only."""
        return w.pieces(step)

    def _step(self, groups: int) -> int:
        """Rows processed at a time in passes with that many parameter vectors."""
        return max(64, SIGNAL_NUMBERS // max(self.X.shape[1], groups * max(self.network.sizes[1:])))

    def _blocks(self, groups: int, count: int | None = None) -> Iterator[slice]:
        """Slices over the rows for passes with that many parameter vectors."""
        count, step = len(self.X) if count is None else count, self._step(groups)
        return (slice(start, min(start + step, count)) for start in range(0, count, step))


def _some(V: np.ndarray, columns: np.ndarray) -> np.ndarray:
    """The columns (A,) of V (P, G); V itself if it has one column, which serves all."""
    return V if V.shape[1] == 1 else V[:, columns]
