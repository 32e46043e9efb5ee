"""What the commands and a Python user call: a model, groups and test rows to results."""

from .groundtruth import Retraining, groundtruth, start_truth
from .influence import check_methods, influence
from .targets import TestRows, make_targets

__all__ = ["Retraining", "TestRows", "check_methods", "groundtruth", "influence", "make_targets", "start_truth"]
