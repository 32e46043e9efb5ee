"""What the commands and a Python user call: a model, groups and test rows to results."""

from .groundtruth import Retraining, check_strategy, count_stalled, groundtruth, start_truth, truth_blocks
from .influence import check_methods, check_possible, influence, working_bytes
from .pooled import check_evaluate
from .targets import TestRows, make_targets

__all__ = [
    "Retraining",
    "TestRows",
    "check_evaluate",
    "check_methods",
    "check_possible",
    "check_strategy",
    "count_stalled",
    "groundtruth",
    "influence",
    "make_targets",
    "start_truth",
    "truth_blocks",
    "working_bytes",
]
