"""Sizes of groups as people write them: 50 rows, or 5% of the training rows, drawn a number of times."""

from __future__ import annotations

import re
from dataclasses import dataclass
from fractions import Fraction

from influence_cli.errors import UsageError

MAX_DRAWS = 1_000_000
"""Limit on draws, more than anybody can evaluate; without it a mistyped ``x`` would exhaust the memory."""

_SIZE = re.compile(r"(?P<whole>[0-9]{0,18})(?P<part>\.[0-9]{0,18})?(?P<percent>%?)(?:x(?P<times>[0-9]{1,18}))?")
_INTEGER = re.compile(r"[+-]?[0-9]{1,18}")


@dataclass(frozen=True)
class Size:
    """A number of rows, or a percentage, which always refers to the m training rows and never to a class."""

    text: str
    count: int | None = None
    percent: Fraction | None = None

    def of(self, m: int) -> int:
        """The number of rows among m, with a percentage rounded to the nearest row (a half upwards)."""
        if self.count is not None:
            return self.count
        assert self.percent is not None
        return int(self.percent * m / 100 + Fraction(1, 2))


def parse_size(text: str) -> tuple[Size, int | None]:
    """``SIZE[xN]`` as the size and N."""
    match = _SIZE.fullmatch(text)
    if match is None or (not match["whole"] and not (match["part"] or "").strip(".")):
        raise UsageError(
            f"expected a SIZE, a number of rows such as 50 or a percentage of the training rows such as 5%, "
            f"found {shown(text)}"
        )
    whole = str(int(match["whole"] or "0"))
    part = (match["part"] or "").rstrip("0").rstrip(".")
    number = whole + part
    if match["percent"]:
        size = Size(f"{number}%", percent=Fraction(number))
        if Fraction(number) > 100:
            raise UsageError(f"expected a percentage of at most 100%, found {number}%")
    elif match["part"] is not None:
        share = f"{float(Fraction(number) * 100):g}%"
        hint = f"did you mean {share}?" if Fraction(number) < 1 else None
        raise UsageError(f"expected a whole number of rows or a percentage, found {shown(text)}", hint)
    else:
        size = Size(number, count=int(number))
    if Fraction(number) == 0:
        raise UsageError(f"the size {size.text} is an empty group; expected at least one row")
    if match["times"] is None:
        return size, None
    times = int(match["times"])
    if not 1 <= times <= MAX_DRAWS:
        raise UsageError(f"expected 1 to {MAX_DRAWS:,} draws behind x, found {shown(match['times'])}")
    return size, times


def whole_number(text: str) -> int | None:
    """The integer that a text gives in plain digits, or None."""
    return int(text) if _INTEGER.fullmatch(text) else None


def shown(text: str) -> str:
    """A piece of input, quoted, and shortened if it is too long for a sentence."""
    return f"'{text}'" if len(text) <= 160 else f"'{text[:120]}...' ({len(text):,} characters)"
