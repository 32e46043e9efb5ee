"""BLAS has one thread in every test and in the processes that tests start: the problems are small, several tests run
at a time, and figures then agree to the last bit.  Set before NumPy is imported.
"""

import os

for library in ("OPENBLAS", "OMP", "MKL"):
    os.environ[f"{library}_NUM_THREADS"] = "1"
