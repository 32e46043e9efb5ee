"""Dates in every common spelling: how they are recognised among other texts and converted to days.

The functions take the distinct texts of one column.  The column holds dates if all its texts are dates in one order of
day, month and year.
"""

from __future__ import annotations

import datetime
import re
from collections.abc import Iterable, Sequence

ORDERS = ("dmy", "mdy", "ymd")
"""Orders of day, month and year in a date of three numbers, as ``--date-order`` names them."""

CENTURY_TURNS = 69
"""Two-digit years below this belong to the years from 2000 on, as in POSIX."""

EPOCH = datetime.date(1970, 1, 1).toordinal()
DAY_SECONDS = 86_400
DAYS_OF_A_YEAR = 366

_TIME = (
    r"(?P<hour>\d{1,2})[:h](?P<minute>\d{2})(?::(?P<second>\d{2}(?:[.,]\d+)?))?\s*(?P<half>[AaPp]\.?[Mm]\.?)?"
    r"\s*(?:Z|UTC|GMT|CES?T|[ECMP][SD]T|[+-]\d{2}:?\d{2})?"
)
_BEHIND = _TIME.replace("[:h]", "[:h.]", 1)
"""A time after a date, where a point cannot be a decimal mark."""
_WEEKDAY = r"(?:[^\W\d]{2,10}\.?,?\s+)?"
_MONTH = r"(?P<word>[^\W\d_]{3,10})\.?"
_YEAR = r"(?P<year>\d{4}|'?\d{2})"
_DAY = r"(?P<day>\d{1,2})(?:st|nd|rd|th|\.)?"
_FORMS = [
    re.compile(form + rf"(?:(?:[T,:]\s*|\s+(?:(?:at|-)\s+)?){_BEHIND})?", re.IGNORECASE)
    for form in (
        rf"{_WEEKDAY}(?P<year>\d{{4}})(?P<mark>[-/.\s])\s?(?P<month>\d{{1,2}})(?P=mark)\s?(?P<day>\d{{1,2}})\.?",
        rf"{_WEEKDAY}(?P<a>\d{{1,2}})(?P<mark>[-/.]|\.?\s)\s?(?P<b>\d{{1,2}})(?P=mark)\s?(?P<c>\d{{4}}|\d{{2}})\.?",
        rf"{_WEEKDAY}{_DAY}[-/\s.]*(?:of\s+)?{_MONTH}[-/\s.,]*{_YEAR}",
        rf"{_WEEKDAY}{_MONTH}[-/\s]*{_DAY},?[-/\s]+{_YEAR}",
        rf"(?P<year>\d{{4}})[-/\s.]*{_MONTH}[-/\s.]*(?P<day>\d{{1,2}})",
        rf"{_MONTH}[-/\s.,]*{_YEAR}",
        rf"(?P<year>\d{{4}})[-/\s]{_MONTH}",
        r"(?P<year>(?:19|20)\d{2})(?P<month>\d{2})(?P<day>\d{2})",
        r"(?P<a>\d{2})(?P<b>\d{2})(?P<c>(?:19|20)\d{2})",
        r"(?P<year>\d{4})[年년]\s?(?P<month>\d{1,2})[月월]\s?(?:(?P<day>\d{1,2})[日일])?",
        r"(?P<year>(?:19|20)\d{2})-(?P<yearday>\d{3})",
        r"(?P<year>\d{4})[-/](?P<month>\d{1,2})",
        r"(?P<month>\d{1,2})[-/](?P<year>\d{4})",
        r"(?P<year>\d{4})[-/\s]?Q(?P<quarter>[1-4])",
        r"Q(?P<quarter>[1-4])[-/\s]?(?P<year>\d{4})",
        r"(?P<year>\d{4})-?W(?P<week>\d{2})(?:-?(?P<weekday>[1-7]))?",
    )
]
_FORMS.append(re.compile(rf"{_WEEKDAY}{_MONTH}\s+{_DAY}\s+{_TIME}\s+{_YEAR}", re.IGNORECASE))
_ZEROS = re.compile(r"0{1,4}([-/. ]0{1,4}){2}([T ]00?(:00){1,2}(\.0+)?)?")
_ONLY_TIME = re.compile(_TIME)
_MONTHS = (
    ("january", "januari", "jänner", "janvier", "enero", "gennaio", "janeiro"),
    ("february", "februari", "février", "fevrier", "febrero", "febbraio", "fevereiro"),
    ("march", "märz", "maerz", "mrz", "mars", "marzo", "março", "maart", "mrt"),
    ("april", "avril", "abril", "aprile"),
    ("may", "mai", "mei", "maj", "mayo", "maggio", "maio"),
    ("june", "juni", "juin", "junio", "giugno", "junho"),
    ("july", "juli", "juillet", "julio", "luglio", "julho"),
    ("augusti", "augustus", "août", "aout", "agosto"),
    ("september", "septembre", "septiembre", "setiembre", "settembre", "setembro"),
    ("october", "oktober", "octobre", "octubre", "ottobre", "outubro"),
    ("november", "novembre", "noviembre", "novembro"),
    ("december", "dezember", "décembre", "decembre", "diciembre", "dicembre", "dezembro"),
)
"""Names of the months in eight European languages; the first three or more letters of one are enough."""


def orders_of(texts: Sequence[str]) -> tuple[str, ...]:
    """The orders in which every text is a date; empty if some text is not a date in any.

    All three are returned if the spelling itself determines the date, several if the order remains ambiguous.
    """
    left: tuple[str, ...] = ORDERS
    for text in texts:
        left = tuple(order for order in left if days_of(text, order) is not None)
        if not left:
            return ()
    if "ymd" in left and len(left) > 1:
        # With two-digit years, the position with fewer distinct values is taken for the year.
        parts = [match for text in texts if (match := _FORMS[1].fullmatch(text))]
        first, last = (len({match[name] for match in parts}) for name in ("a", "c"))
        if first != last:
            left = ("ymd",) if first < last else tuple(order for order in left if order != "ymd")
    return left


def has_short_year(text: str) -> bool:
    """Whether the year of a date has two digits, of which CENTURY_TURNS tells the century."""
    return not re.search(r"\d{4}", text)


def most_dates(texts: Sequence[str]) -> set[str]:
    """The texts that are dates in that order of day, month and year in which most texts are dates."""
    return max(({text for text in texts if days_of(text, order) is not None} for order in ORDERS), key=len)


def are_zeros(texts: Sequence[str]) -> bool:
    """Whether every text is a date of zeros, such as 0000-00-00, which databases write for a missing date."""
    return all(_ZEROS.fullmatch(text) for text in texts)


def are_times(texts: Sequence[str]) -> bool:
    """Whether every text is a time of day."""
    return bool(texts) and all(_ONLY_TIME.fullmatch(text) for text in texts)


def days_of(text: str, order: str) -> float | None:
    """Days from 1970-01-01 to the date that ``text`` spells, with its time of day; None if it is not a date."""
    for form in _FORMS:
        match = form.fullmatch(text)
        if match and (day := _day(match, order)) is not None:
            return day + _time(match)
    return None


def are_ambiguous(texts: Iterable[str], orders: Sequence[str]) -> bool:
    """Whether the orders give different days for some text."""
    return len(orders) > 1 and any(len({days_of(text, order) for order in orders}) > 1 for text in texts)


def _day(match: re.Match[str], order: str) -> int | None:
    groups = match.groupdict()
    if "a" in groups:
        parts = dict(zip(order, (groups["a"], groups["b"], groups["c"]), strict=True))
        if len(parts["y"]) == 1 or max(len(parts["d"]), len(parts["m"])) > 2:
            return None
        return _ordinal(parts["y"], int(parts["m"]), int(parts["d"]))
    if "week" in groups:
        try:
            day = datetime.date.fromisocalendar(int(groups["year"]), int(groups["week"]), int(groups["weekday"] or 1))
        except ValueError:
            return None
        return day.toordinal() - EPOCH
    if "yearday" in groups:
        first = datetime.date(int(groups["year"]), 1, 1).toordinal() - EPOCH
        return first + int(groups["yearday"]) - 1 if 1 <= int(groups["yearday"]) <= DAYS_OF_A_YEAR else None
    if "quarter" in groups:
        return _ordinal(groups["year"], 3 * int(groups["quarter"]) - 2, 1)
    if "word" in groups:
        word = groups["word"].lower()
        month = next((at for at, names in enumerate(_MONTHS, 1) if any(name.startswith(word) for name in names)), None)
    else:
        month = int(groups["month"])
    return None if month is None else _ordinal(groups["year"], month, int(groups.get("day") or 1))


def _ordinal(year: str, month: int, day: int) -> int | None:
    number = int(year.lstrip("'"))
    if len(year.lstrip("'")) == 2:
        number += 2000 if number < CENTURY_TURNS else 1900
    try:
        return datetime.date(number, month, day).toordinal() - EPOCH
    except ValueError:
        return None


def _time(match: re.Match[str]) -> float:
    """The time of day as a fraction of a day; time zones are ignored."""
    groups = match.groupdict()
    if groups.get("hour") is None:
        return 0.0
    hour = int(groups["hour"])
    if groups["half"]:
        hour = hour % 12 + (12 if groups["half"][0] in "pP" else 0)
    second = float((groups["second"] or "0").replace(",", "."))
    return (3600 * hour + 60 * int(groups["minute"]) + second) / DAY_SECONDS
