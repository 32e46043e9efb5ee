"""The sizes of ``ginf select``: ``50``, ``10%``, and the many of a curve, ``1%,2%,...,20%``."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from influence_cli.specs.groups import Size

MOST_SIZES = 1000


def one_size(text: str, option: str = "--size") -> Size:
    """One size of an option.  Raises UsageError."""
    from influence_cli.errors import UsageError
    from influence_cli.specs.groups import parse_size

    try:
        size, times = parse_size(text.strip())
    except UsageError as error:
        raise UsageError(f"{option}: {error.message}", hint=f"for example {option} 10% or {option} 50") from None
    if times is not None:
        raise UsageError(f"{option} {text.strip()}: nothing is drawn several times", hint="random groups: --draws")
    return size


def curve_sizes(text: str) -> tuple[Size, ...]:
    """The sizes in ``1%,2%,...,20%``: the dots stand for all sizes up to the next one, in steps of the difference of
    the two before.  Raises UsageError."""
    from fractions import Fraction

    from influence_cli.errors import UsageError

    parsed: list[Size] = []
    parts = [part.strip() for part in text.split(",")]
    for at, part in enumerate(parts):
        if part != "...":
            parsed.append(one_size(part, "--sizes"))
            continue
        if len(parsed) < 2 or parts[at + 1 :][:1] in ([], ["..."]):
            raise UsageError(f"--sizes {text}: expected two sizes before the dots and one behind", "1%,2%,...,20%")
        sizes = [*parsed[-2:], one_size(parts[at + 1], "--sizes")]
        first, second, last = (size.percent or Fraction(size.count or 0) for size in sizes)
        if len({size.percent is None for size in sizes}) > 1 or not first < second < last:
            raise UsageError(f"--sizes {text}: expected sizes that grow, all rows or all percentages", "1%,2%,...,20%")
        if (last - second) / (second - first) > MOST_SIZES:
            raise UsageError(f"--sizes {text}: expected at most {MOST_SIZES} sizes")
        sign = "" if sizes[0].percent is None else "%"
        value = 2 * second - first
        while value < last:
            parsed.append(one_size(f"{float(value):.12g}{sign}", "--sizes"))
            value += second - first
    return tuple(parsed)
