"""What the commands and a Python user call: a model, groups and test rows to results."""

from influence_cli.analysis.groundtruth import (
    Retraining,
    check_strategy,
    count_stalled,
    groundtruth,
    start_truth,
    truth_blocks,
)
from influence_cli.analysis.influence import check_methods, check_possible, influence, working_bytes
from influence_cli.analysis.pooled import check_evaluate
from influence_cli.analysis.question import TestRows, make_targets

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
