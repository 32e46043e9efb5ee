"""BLAS has one thread in every test and in the processes that tests start: the problems are small, several tests run
at a time, and figures then agree to the last bit.  Set before NumPy is imported.
"""

import os
import signal

for library in ("OPENBLAS", "OMP", "MKL"):
    os.environ[f"{library}_NUM_THREADS"] = "1"

for number in (signal.SIGINT, signal.SIGHUP):
    # A shell's background job ignores them, and so would every process that a test starts and sends one to.
    if signal.getsignal(number) == signal.SIG_IGN:
        signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)


def pytest_addoption(parser):
    parser.addoption("--fuzz-seconds", default=12, help="Seconds of random damage in tests/fuzz.")
    parser.addoption("--fuzz-seed", default=0, help="What it is drawn from.")
