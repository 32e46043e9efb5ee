"""How much memory is available, and the one error for a lack of it.

Every layer asks here, because a run is limited by whichever is least: the machine, a container's quota, a limit of
address space (``ulimit -v``), or ``--memory``.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from influence_cli.errors import GinfError, UsageError

CGROUPS = (
    ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory.current"),
    ("/sys/fs/cgroup/memory/memory.limit_in_bytes", "/sys/fs/cgroup/memory/memory.usage_in_bytes"),
)
"""The files with a container's limit and usage, for both versions of control groups."""
UNITS = {"": 1, "k": 1e3, "m": 1e6, "g": 1e9, "t": 1e12, "ki": 2**10, "mi": 2**20, "gi": 2**30, "ti": 2**40}
LACK = ("cannot allocate memory", "unable to allocate", "memory allocation", "out of memory", "virtual memory")
"""How libraries say, in errors of other types, that they could not allocate memory."""
LEAST = 64 * 2**20
"""Bytes, beyond those of Python itself, below which nothing useful can be done."""


class MemoryLackError(UsageError):
    """A task needs more memory than is available, although the file and the question may be valid."""


class _Budget:
    """The bytes of ``--memory`` for the whole process; a global, because all kinds of threads ask for it."""

    allowed: float | None = None


def budget() -> float | None:
    """Bytes that ``--memory`` allows the process, or None."""
    return _Budget.allowed


def at_most(count: float, share: float) -> float:
    """``count`` bytes, but at most the given share of ``--memory``."""
    return count if _Budget.allowed is None else min(count, share * _Budget.allowed)


@contextmanager
def limited(allowed: float | None) -> Iterator[None]:
    """Limit the work inside to that many bytes; None changes nothing."""
    before = _Budget.allowed
    _Budget.allowed = before if allowed is None else allowed
    try:
        yield
    finally:
        _Budget.allowed = before


def at_hand() -> float:
    """Bytes that this process can still allocate; infinite if the system does not tell."""
    left = [_available(), *_of_containers()]
    with suppress(ImportError, OSError, ValueError, IndexError):
        import resource

        limit = resource.getrlimit(resource.RLIMIT_AS)[0]
        if limit != resource.RLIM_INFINITY:
            left.append(limit - _pages(0))
    if _Budget.allowed is not None:
        left.append(_Budget.allowed - resident())
    return max(min(left), 0.0)


def addresses_limited() -> bool:
    """Whether the process has limited address space (``ulimit -v``)."""
    with suppress(ImportError, OSError, ValueError):
        import resource

        return resource.getrlimit(resource.RLIMIT_AS)[0] != resource.RLIM_INFINITY
    return False


def resident() -> float:
    """Bytes of memory that the process holds now; 0 if the system does not tell."""
    with suppress(OSError, ValueError, IndexError):
        return _pages(1)
    return 0.0


def give_back() -> None:
    """Return freed memory to the system, which otherwise still counts it as used (where the C library can)."""
    with suppress(ImportError, OSError, AttributeError):
        import ctypes

        ctypes.CDLL(None).malloc_trim(0)


def _pages(field: int) -> float:
    with open("/proc/self/statm") as line:  # noqa: PTH123
        return float(line.read().split()[field]) * os.sysconf("SC_PAGE_SIZE")


def _available() -> float:
    with suppress(OSError, ValueError, IndexError, StopIteration), open("/proc/meminfo") as lines:  # noqa: PTH123
        return next(float(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:"))
    with suppress(ValueError, OSError, AttributeError):
        return float(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")) / 2
    return float("inf")


def _of_containers() -> Iterator[float]:
    for limit, used in CGROUPS:
        with suppress(OSError, ValueError), open(limit) as allowed, open(used) as taken:  # noqa: PTH123
            yield float(allowed.read()) - float(taken.read())  # "max" is not a number, and no limit


def parse(text: str, option: str) -> float:
    """``4GiB``, ``500MB`` or a number of bytes.  Raises UsageError."""
    bare = text.strip().lower().replace("_", "").removesuffix("b")
    digits = bare.rstrip("kmgti")
    with suppress(ValueError):
        count = float(digits) * UNITS.get(bare[len(digits) :].strip(), float("nan"))
        if LEAST <= count < float("inf"):
            return count
    raise UsageError(
        f"{option} must be an amount of memory of {shown(LEAST)} or more, found {text!r}",
        hint=f"for example {option} 4GiB",
    )


def shown(count: float) -> str:
    """A number of bytes as a person reads it."""
    for unit in ("B", "kB", "MB"):
        if count < 1000:
            return f"{count:.3g} {unit}"
        count /= 1000
    return f"{count:.3g} GB"


def lack(what: str, needed: float | None = None, hint: str | None = None) -> MemoryLackError:
    """The error for ``what`` (a verb with its object, "reading X") that takes about ``needed`` bytes."""
    left = at_hand()
    takes = f"about {shown(needed)} of memory" if needed and needed > left else "more memory than there is"
    return MemoryLackError(
        f"not enough memory: {what} takes {takes}, and {shown(left)} can be had",
        hint or "raise the limit (--memory, ulimit -v, the container's), or give fewer rows or columns",
    )


def require(what: str, needed: float, hint: str | None = None) -> None:
    """Raises MemoryLackError if ``needed`` bytes are not available."""
    if needed > at_hand():
        raise lack(what, needed, hint)


@contextmanager
def accounted(what: str, needed: float | None = None, hint: str | None = None) -> Iterator[None]:
    """Raise MemoryLackError for every error inside that says, in the library's own form, that memory is lacking."""
    try:
        yield
    except MemoryLackError:
        raise
    except Exception as error:
        if is_lack(error):
            raise lack(what, needed, hint) from error
        raise


def is_lack(error: BaseException | None) -> bool:
    """Whether an error, or its cause, says that memory could not be allocated."""
    seen = 0
    while error is not None and seen < 8:
        if isinstance(error, MemoryError) or getattr(error, "errno", None) == errno.ENOMEM:
            return True
        if not isinstance(error, GinfError) and any(words in str(error).lower() for words in LACK):
            return True
        error, seen = error.__cause__ or error.__context__, seen + 1
    return False
