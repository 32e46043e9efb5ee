"""Group influence of training rows on a model's predictions, second order included."""

__version__ = "0.1.0"
