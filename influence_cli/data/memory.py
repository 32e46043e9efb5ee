"""How much a reader may allocate, so that a file which claims more than there is ends in a sentence."""

from __future__ import annotations

from contextlib import suppress

SHARE = 0.5
"""Share of the memory at hand that one array, file or unpacked text may fill: its copies need the rest."""


def at_hand() -> float:
    """Bytes that this process can still have: of the machine, and within its own limit of address space."""
    left = float("inf")
    with suppress(OSError, ValueError, IndexError, StopIteration), open("/proc/meminfo") as lines:  # noqa: PTH123
        left = next(float(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:"))
    with suppress(ImportError, OSError, ValueError, IndexError):
        import resource

        limit = resource.getrlimit(resource.RLIMIT_AS)[0]
        if limit != resource.RLIM_INFINITY:
            with open("/proc/self/statm") as line:  # noqa: PTH123
                left = min(left, limit - float(line.read().split()[0]) * resource.getpagesize())
    return max(left, 0.0)


def most() -> float:
    """Bytes that one thing read from a file may take."""
    return SHARE * at_hand()
