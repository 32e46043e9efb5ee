"""Numbers as people write them: 1,842  1.842,5  $1,842  (12)  45%  1 842, and the words for a missing value.

The functions take the distinct texts of one column, so that a million rows of ten values are ten texts.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass, replace

NULLS = ("NA", "N/A", "NaN", "nan", "null", "NULL", "n/a", "<NA>", "#N/A", "#NA", "-nan", "-NaN")
"""Texts that mean a missing value in any column, as an empty field does."""

SIGNS = frozenset({"?", "??", "-", "--", "---", "—", "–", ".", "..", "...", "*", "**", "#"})
"""Signs that mean a missing value among numbers, and probably do among texts."""

MISSING_WORDS = SIGNS | {
    *(
        "na",
        "n/a",
        "n.a.",
        "n.a",
        "nan",
        "null",
        "none",
        "nil",
        "missing",
        "unknown",
        "unk",
        "undefined",
        "void",
        "nat",
    ),
    *("not available", "not applicable", "not known", "not recorded", "no data", "no value", "blank", "empty", "tbd"),
    *("#n/a", "#na", "#value!", "#ref!", "#div/0!", "#num!", "#null!", "#name?", "<na>", "(null)", "-nan"),
}
"""Texts, in lower case, that mean a missing value in a column of numbers."""

_PLAIN = re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?|[+-]?(inf|infinity)", re.IGNORECASE)
_CURRENCY = r"(?:US\$|R\$|A\$|C\$|[$€£¥₹₽]|USD|EUR|GBP|CHF|JPY)"
_AMOUNT = re.compile(
    rf"(?P<open>\()?\s*(?P<sign>[+\-])?\s*(?P<front>{_CURRENCY})?\s*(?P<inner>[+\-])?"
    rf"(?P<body>[0-9][0-9.,'’ _]*|[.,][0-9]+)(?P<power>[eE][+-]?[0-9]+)?\s*(?P<back>%|{_CURRENCY})?\s*(?P<close>\))?"
)
_GROUPED = re.compile(r"[1-9][0-9]{0,2}(?P<mark>[.,'’ _])[0-9]{3}(?:(?P=mark)[0-9]{3})*")
_GROUPED_COMMAS = re.compile(r"[1-9][0-9]{0,2}(,[0-9]{3})+(\.[0-9]*)?")
_GROUPED_POINTS = re.compile(r"[1-9][0-9]{0,2}(\.[0-9]{3})+(,[0-9]*)?")
_WHOLE = re.compile(r"[+-]?[0-9]+")

LARGEST_WHOLE = 2**63 - 1
"""The largest int64."""
LARGEST_EXACT = 2**53
"""Up to 2^53, float64 represents every whole number exactly."""
DASHES = dict.fromkeys(map(ord, "‐‑‒–−﹣－"), "-")
PERCENT = "%"
_CURRENCY_NAMES = {"US$": "$", "USD": "$", "EUR": "€", "GBP": "£", "JPY": "¥"}


@dataclass(frozen=True)
class Numbers:
    """Each text as a number, or None if it is not one.

    ``decimal`` is the decimal mark.  ``sample`` is a text whose reading was a guess, and ``why`` says how it was read.
    ``doubt`` is a text that can be read in two ways, if nothing decides between them; ``units`` are two texts whose
    numbers are in different units (10% and 0.2, $5 and €5); ``unit`` is the one that some of them are in, if any.
    """

    values: list[int | float | None]
    decimal: str = "."
    sample: str | None = None
    why: str = ""
    doubt: str | None = None
    units: tuple[str, str] | None = None
    unit: str = ""

    @property
    def count(self) -> int:
        return sum(value is not None for value in self.values)


def read_numbers(texts: Sequence[str], decimal: str | None = None, separator: str = ",") -> Numbers:
    """The texts as numbers, from a file whose fields are separated by ``separator``.

    ``decimal`` is the decimal mark that the user named.  Without it, the last mark is the decimal mark in numbers with
    both commas and points.  A single comma is the decimal mark if ``separator`` is a semicolon; otherwise commas
    separate thousands if each is followed by three digits, and if not, they are in doubt in a file with commas between
    fields and the decimal mark in any other.
    """
    plain = [_in_ascii(text) for text in texts]
    if decimal in (None, ".") and all(map(_PLAIN.fullmatch, plain)):
        return Numbers([_plain(text) for text in plain])
    matches = [_AMOUNT.fullmatch(text) for text in plain]
    bodies = [(text, match["body"].strip()) for text, match in zip(texts, matches, strict=True) if match]
    mark = decimal or _decimal_mark(bodies, separator)
    if mark is None:
        commas = [text for text, body in bodies if "," in body]
        return Numbers([None] * len(texts), doubt=commas[0])
    values = [
        _plain(text) if mark == "." and _PLAIN.fullmatch(text) else (_amount(match, mark) if match else None)
        for text, match in zip(plain, matches, strict=True)
    ]
    other = "," if mark == "." else "."
    for text, match, value in zip(texts, matches, values, strict=True):
        if decimal is None and match and value is None and _amount(match, other) is not None:
            return Numbers(values, mark, doubt=text)
    read = [
        (text, one, match)
        for text, one, match, value in zip(texts, plain, matches, values, strict=True)
        if value is not None and match
    ]
    units = _different_units([(text, match) for (text, _, match) in read if match["body"].strip("0.,")])
    unit = next((sign for _, _, match in read if (sign := _unit(match))), "")
    guessed = [(text, match) for text, one, match in read if not (mark == "." and _PLAIN.fullmatch(one))]
    if not guessed:
        return Numbers(values, mark)
    sample = max((text for text, _ in guessed), key=len)
    return Numbers(values, mark, sample, _ways(guessed, mark), units=units, unit=unit)


def _in_ascii(text: str) -> str:
    """The text with digits of other scripts replaced by 0 to 9, and typographic dashes by -."""
    if text.isascii():
        return text
    return "".join(str(unicodedata.decimal(char, char)) for char in text.translate(DASHES))


def _unit(match: re.Match[str]) -> str:
    sign = match["back"] if match["back"] == PERCENT else match["front"] or match["back"] or ""
    return _CURRENCY_NAMES.get(sign, sign)


def _different_units(read: Sequence[tuple[str, re.Match[str]]]) -> tuple[str, str] | None:
    """Two texts of which only one is a percentage, or which are in different currencies; None if there are none."""
    shares: dict[bool, str] = {}
    currencies: dict[str, str] = {}
    for text, match in read:
        unit = _unit(match)
        shares.setdefault(unit == PERCENT, text)
        if unit not in ("", PERCENT):
            currencies.setdefault(unit, text)
    for texts in (list(shares.values()), list(currencies.values())):
        if len(texts) > 1:
            return texts[0], texts[1]
    return None


def doubt_points(numbers: Numbers, texts: Sequence[str]) -> Numbers:
    """The numbers, put in doubt if every point is followed by three digits (1.842); for tables with decimal commas."""
    points = [text for text in texts if "." in text]
    if numbers.decimal == "." and points and all(map(_GROUPED_POINTS.fullmatch, points)):
        return replace(numbers, doubt=points[0])
    return numbers


def _decimal_mark(bodies: Sequence[tuple[str, str]], separator: str) -> str | None:
    """The decimal mark of a column, or None if it is in doubt."""
    with_comma = [body for _, body in bodies if "," in body]
    if not with_comma:
        with_points = [body for _, body in bodies if "." in body]
        several = any(body.count(".") > 1 for body in with_points)
        return "," if several and all(map(_GROUPED_POINTS.fullmatch, with_points)) else "."
    both = [body for body in with_comma if "." in body]
    if both:
        last = {"," if body.rindex(",") > body.rindex(".") else "." for body in both}
        return last.pop() if len(last) == 1 else None
    single = all(body.count(",") == 1 for body in with_comma)
    if separator == ";" and single:
        return ","
    if all(map(_GROUPED_COMMAS.fullmatch, with_comma)):
        return "."
    return "," if separator != "," and single else None


def _plain(text: str) -> int | float:
    if _WHOLE.fullmatch(text) and abs(float(text)) <= LARGEST_WHOLE and abs(int(text)) <= LARGEST_WHOLE:
        return int(text)
    return float(text)


def collapsing(texts: Sequence[str]) -> tuple[str, str] | None:
    """Two different whole numbers that are so long that they are equal as float64; None if there are none."""
    known: dict[float, str] = {}
    for text in texts:
        is_long = _WHOLE.fullmatch(text) and abs(float(text)) > LARGEST_EXACT
        if is_long and known.setdefault(float(text), text).lstrip("+0") != text.lstrip("+0"):
            return known[float(text)], text
    return None


def _amount(match: re.Match[str], mark: str) -> int | float | None:
    """The number, or None if one of its marks or signs is in an impossible place."""
    if bool(match["open"]) != bool(match["close"]) or (match["front"] and match["back"] and match["back"] != "%"):
        return None
    whole, point, part = match["body"].strip().partition(mark)
    if part and not (part.isascii() and part.isdigit()):
        return None
    if not whole.isdigit():
        grouped = _GROUPED.fullmatch(whole) if whole else None
        if whole and (grouped is None or grouped["mark"] == mark):
            return None
        whole = re.sub(r"[^0-9]", "", whole)
    negative = (match["sign"] == "-") != (match["inner"] == "-") or bool(match["open"])
    number = _plain((whole or "0") + (f".{part or '0'}" if point else "") + (match["power"] or ""))
    return -number if negative else number


def _ways(guessed: Sequence[tuple[str, re.Match[str]]], mark: str) -> str:
    """How numbers that are not plainly written were read, in words."""
    ways = {
        f"{'a comma' if mark == ',' else 'a point'} is the decimal mark": mark == ","
        and any("," in match["body"] for _, match in guessed),
        f"{'a point' if mark == ',' else 'a comma'} separates thousands": any(
            ("." if mark == "," else ",") in match["body"] for _, match in guessed
        ),
        "blanks, apostrophes or underscores separate thousands": any(
            set(match["body"].strip()) & set("'’ _") for _, match in guessed
        ),
        "a currency sign is left out": any(match["front"] or (match["back"] or "%") != "%" for _, match in guessed),
        "a percent sign is left out": any(match["back"] == "%" for _, match in guessed),
        "brackets mean minus": any(match["open"] for _, match in guessed),
    }
    return ", ".join(words for words, present in ways.items() if present)
