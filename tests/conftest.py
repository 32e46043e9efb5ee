"""BLAS has one thread in every test and in the processes that tests start: the problems are small, several tests run
at a time, and figures then agree to the last bit.  Set before NumPy is imported.
"""

import os
import signal

LONGEST = (
    *("test_fuzz", "test_scheduler", "test_select_cli", "test_plots", "test_groundtruth_resume", "test_converted"),
    *("test_report_page", "test_streamed", "test_cli_signals", "test_artifacts_digests", "test_flips_together"),
    *("test_selection_weights", "test_groundtruth", "test_link_data", "test_extrapolated"),
    *("test_groundtruth_experiments", "test_cli_streams", "test_selection_strategies", "test_mlp_cli"),
)
"""Files that take longest, by seconds of processor (``--durations``): one of them begun last leaves a core idle."""

for library in ("OPENBLAS", "OMP", "MKL"):
    os.environ[f"{library}_NUM_THREADS"] = "1"

for number in (signal.SIGINT, signal.SIGHUP):
    # A shell's background job ignores them, and so would every process that a test starts and sends one to.
    if signal.getsignal(number) == signal.SIG_IGN:
        signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)


# Else every process that a test starts compiles the package anew: a third of its time.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)


def pytest_collection_modifyitems(items):
    place = {name: number for number, name in enumerate(LONGEST)}
    items.sort(key=lambda item: place.get(item.path.stem, len(place)))


def pytest_addoption(parser):
    parser.addoption("--fuzz-seconds", default=12, help="Seconds of random damage in tests/fuzz.")
    parser.addoption("--fuzz-seed", default=0, help="What it is drawn from.")
