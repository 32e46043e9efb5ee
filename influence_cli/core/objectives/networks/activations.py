"""Activation functions of hidden units, with their derivatives as functions of the activation itself."""

from __future__ import annotations

from abc import ABC, abstractmethod

import numpy as np

from influence_cli.core.arrays import expit


class Activation(ABC):
    """An activation a = s(z), and the derivatives s', s'' and s''' as functions of a."""

    gain: float
    """1 / s'(0): the factor of the initial weights with which signals keep their size from layer to layer."""

    @abstractmethod
    def value(self, z: np.ndarray) -> np.ndarray:
        """s(z); may overwrite z."""

    @abstractmethod
    def first(self, a: np.ndarray) -> np.ndarray:
        """s'."""

    @abstractmethod
    def second(self, a: np.ndarray) -> np.ndarray:
        """s''."""

    @abstractmethod
    def third(self, a: np.ndarray) -> np.ndarray:
        """s'''."""


class Sigmoid(Activation):
    """1 / (1 + exp(-z))."""

    gain = 4.0

    def value(self, z: np.ndarray) -> np.ndarray:
        return expit(z, out=z)

    def first(self, a: np.ndarray) -> np.ndarray:
        return a * (1.0 - a)

    def second(self, a: np.ndarray) -> np.ndarray:
        return a * (1.0 - a) * (1.0 - 2.0 * a)

    def third(self, a: np.ndarray) -> np.ndarray:
        slope = a * (1.0 - a)
        return slope * (1.0 - 6.0 * slope)


class Tanh(Activation):
    """tanh(z)."""

    gain = 1.0

    def value(self, z: np.ndarray) -> np.ndarray:
        return np.tanh(z, out=z)

    def first(self, a: np.ndarray) -> np.ndarray:
        return 1.0 - a**2

    def second(self, a: np.ndarray) -> np.ndarray:
        return -2.0 * a * (1.0 - a**2)

    def third(self, a: np.ndarray) -> np.ndarray:
        return (6.0 * a**2 - 2.0) * (1.0 - a**2)


ACTIVATIONS: dict[str, Activation] = {"sigmoid": Sigmoid(), "tanh": Tanh()}
