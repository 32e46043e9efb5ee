"""What the commands and a Python user call: a model, groups and test rows to results."""

from .influence import check_methods, influence
from .targets import TestRows, make_targets

__all__ = ["TestRows", "check_methods", "influence", "make_targets"]
