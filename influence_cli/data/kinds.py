"""The kind of a column, determined from its values: numbers, truth values, dates or text.

A guess is reported in a note that names the column.  If the values are ambiguous, the column has a ``refusal``, which
becomes an error if the column is used as a feature.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from shlex import quote

import numpy as np

from influence_cli.data import dates
from influence_cli.data.kept import Kept, Mapped, Texts
from influence_cli.data.notation import (
    MISSING_WORDS,
    NULLS,
    SIGNS,
    Numbers,
    collapsing,
    doubt_points,
    read_numbers,
)
from influence_cli.data.pieces import Pieces
from influence_cli.data.table import Column
from influence_cli.errors import composed

FEW_SORTS = 20
"""Most distinct texts of a column with numbers and other texts, such as 3+, that is taken for categories."""

SHOWN_WORDS, LONGEST_WORD = 5, 40
"""Most words that a message shows, and most characters of each."""
_WITH_UNIT = re.compile(
    r"[<>~≈='\"]{0,2}\s*[+-]?(?:[$€£¥]|kr\.?|Rs\.?)?\s*\d[\d.,'’]*\s*(?:[^\W\d]{0,6}[./²³°\"'%]*[^\W\d]{0,4}|-)"
)
"""A number after a comparison or a currency, or before a unit: 4.5 kg, 12K, <0.1, 5', kr 12, 12,- and ="12"."""
SAMPLED_WORDS = 200
"""Distinct texts of a column that are checked first: only if most are dates, all texts are checked."""
DATE_NUMBERS = (19_000_101, 21_001_231)
"""Range of the whole numbers that may be dates without separators, such as 20240131."""


@dataclass(frozen=True)
class Reading:
    """How the fields of a table are to be read.

    ``missing`` are further words for a missing value, ``texts`` the columns to take as text whatever they look like,
    ``separator`` the character between fields; ``has_decimal_commas`` says that other columns have decimal commas.
    """

    decimal: str | None = None
    missing: tuple[str, ...] = ()
    texts: frozenset[str] = frozenset()
    separator: str = ","
    has_decimal_commas: bool = False

    @property
    def nulls(self) -> frozenset[str]:
        return frozenset(("", *NULLS, *self.missing))

    @property
    def null_numbers(self) -> list[float]:
        """The numbers among the words for a missing value, which are compared by value: -999 means -999.0 too."""
        return [value for word in self.missing if (value := read_numbers([word]).values[0]) is not None]


def kind_of(values: np.ndarray | Pieces | Kept | Texts, key: str, reading: Reading) -> tuple[Column, tuple[str, ...]]:
    """The values of the column ``key`` as a ``Column`` of the kind they appear to have, and notes about it."""
    if isinstance(values, Texts):
        return _of_texts(_cleaned(values, reading.nulls), key, reading)
    if key in reading.texts:
        return _of_texts(numbers_as_texts(np.asarray(values)), key, reading)
    if (nulls := reading.null_numbers) and np.isin(values, nulls).any():
        return Column("numeric", Mapped(values, partial(_without, nulls), np.dtype(np.float64)), "numbers"), ()
    if values.dtype.kind != "i":
        return Column("numeric", values, "numbers"), ()
    first, last = (int(values.min()), int(values.max())) if len(values) else (0, 0)
    if DATE_NUMBERS[0] <= first < last <= DATE_NUMBERS[1]:
        texts = numbers_as_texts(np.asarray(values))
        if dates.orders_of(texts.vocabulary):
            return Column("date", texts, "dates"), ()
    return Column("numeric", values, "whole numbers"), ()


def _without(nulls: Sequence[float], values: np.ndarray) -> np.ndarray:
    return np.where(np.isin(values, nulls), np.nan, values)


def numbers_as_texts(values: np.ndarray) -> Texts:
    """Numbers as a person would type them."""
    missing = np.isnan(values) if values.dtype.kind == "f" else np.zeros(len(values), dtype=bool)
    different, places = np.unique(values[~missing], return_inverse=True)
    codes = np.full(len(values), -1, dtype=np.int64)
    codes[~missing] = places
    names = [str(int(value)) if float(value).is_integer() else repr(value) for value in different.tolist()]
    return Texts(names, codes)


def counted(words: Sequence[tuple[str, int]]) -> str:
    """Words and numbers of rows in words: ``'?' in 3 rows, '-' in 1 row and 2 more``."""
    short = [(word if len(word) <= LONGEST_WORD else word[: LONGEST_WORD - 3] + "...", count) for word, count in words]
    shown = [f"{word!r} in {count:,} row{'' if count == 1 else 's'}" for word, count in short[:SHOWN_WORDS]]
    return ", ".join(shown) + (f" and {len(words) - SHOWN_WORDS:,} more" if len(words) > SHOWN_WORDS else "")


def _cleaned(texts: Texts, nulls: frozenset[str]) -> Texts:
    """The texts stripped of blanks, with the ``nulls`` missing; texts that look the same become equal."""
    places: dict[str, int] = {}
    new = [
        -1 if text in nulls else places.setdefault(text, len(places))
        for text in (composed(one).strip() for one in texts.vocabulary)
    ]
    return Texts(list(places), np.array([*new, -1], dtype=np.int64)[texts.codes])


def plainly_text(texts: Texts, key: str, reading: Reading) -> Texts | None:
    """A cleaned part of a column if none of its texts can be anything but text, else None.

    If every part passes, the column is text.
    """
    made = _cleaned(texts, reading.nulls)
    if key in reading.texts:
        return made
    said = [word for word in made.vocabulary if word.lower() not in MISSING_WORDS]
    if not said or any(word in SIGNS or _WITH_UNIT.fullmatch(word) for word in said):
        return None
    numbers = read_numbers(said, reading.decimal, reading.separator)
    sample = said[:: -(-len(said) // SAMPLED_WORDS)]
    may_be_number = numbers.count or numbers.doubt is not None
    may_be_other = may_be_number or dates.are_times(said) or dates.most_dates(sample)
    return None if may_be_other else made


def _of_texts(texts: Texts, key: str, reading: Reading) -> tuple[Column, tuple[str, ...]]:
    words = texts.vocabulary
    if not words:
        return Column("numeric", np.full(len(texts.codes), np.nan), "no value"), ()
    if key in reading.texts:
        return Column("text", texts, "text"), ()
    lower = {word.lower() for word in words}
    if lower <= {"true", "false"}:
        return Column("boolean", texts, "true and false"), ()
    if lower <= {"true", "false", "1", "0"} and lower & {"true", "false"}:
        return _truth_and_numbers(texts, key)
    if all(word.isascii() and word.isdigit() for word in words) and any(w[0] == "0" and len(w) > 1 for w in words):
        if dates.orders_of(words):
            return Column("date", texts, "dates"), ()
        padded = next(word for word in words if word[0] == "0" and len(word) > 1)
        note = f"column {key}: text, because of leading zeros such as in {padded}"
        return Column("text", texts, "digits with leading zeros"), (note,)
    said = [word for word in words if word.lower() not in MISSING_WORDS]
    if said and dates.are_times(said):
        return _date(texts, said, key, "times of day")
    if found := _dates(texts, said, key):
        return found
    return _numbers_or_text(texts, said, key, reading)


def _truth_and_numbers(texts: Texts, key: str) -> tuple[Column, tuple[str, ...]]:
    """The column of true and false, some of which are written as 1 and 0, and a note about it."""
    spelled = {word.lower(): word for word in texts.vocabulary}
    meant = {"1": spelled.get("true", "true"), "0": spelled.get("false", "false")}
    numbers = sorted(meant.keys() & spelled.keys(), reverse=True)
    words = list(dict.fromkeys(meant.get(word, word) for word in texts.vocabulary))
    places = np.array([*(words.index(meant.get(word, word)) for word in texts.vocabulary), -1])
    note = f"column {key}: {' and '.join(numbers)} read as {' and '.join(meant[one] for one in numbers)}"
    return Column("boolean", Texts(words, places[texts.codes]), "true and false"), (note,)


def _dates(texts: Texts, said: Sequence[str], key: str) -> tuple[Column, tuple[str, ...]] | None:
    """The column, and notes about it, if all or most of its texts are dates, else None."""
    if not said:
        return None
    if dates.orders_of(said[:10]) and dates.orders_of(said):
        return _date(texts, said, key)
    sample = said[:: -(-len(said) // SAMPLED_WORDS)]
    if 2 * len(dates.most_dates(sample)) <= len(sample):
        return None
    known = dates.most_dates(said)
    no_dates = [word for word in said if word not in known]
    if 2 * len(known) <= len(said):
        return None
    if dates.are_zeros(no_dates):
        return _date(texts, known, key)
    count = dict(zip(texts.vocabulary, texts.counts.tolist(), strict=True))
    odd = sorted(((word, count[word]) for word in no_dates), key=lambda pair: (-pair[1], pair[0]))
    as_text = Column("text", texts, "text")
    if len(texts.vocabulary) <= FEW_SORTS:
        return as_text, (_few_sorts(texts, key, odd, "dates"),)
    return _mixed(as_text, key, odd, "dates"), ()


def _few_sorts(texts: Texts, key: str, odd: Sequence[tuple[str, int]], what: str) -> str:
    many = len(texts.vocabulary)
    return f"column {key}: text with {many} categories, because beside {what} it holds {counted(odd)}"


def _numbers_or_text(texts: Texts, said: Sequence[str], key: str, reading: Reading) -> tuple[Column, tuple[str, ...]]:
    numbers = read_numbers(said, reading.decimal, reading.separator)
    if reading.decimal is not None and numbers.count < len(said):
        numbers = _by_other_mark(said, reading) or numbers
    if reading.has_decimal_commas and reading.decimal is None and numbers.doubt is None:
        numbers = doubt_points(numbers, said)
    as_text = Column("text", texts, "text")
    if numbers.doubt is not None:
        return _in_doubt(as_text, key, numbers.doubt), ()
    if numbers.units is not None:
        return _in_units(as_text, key, numbers.units), ()
    count = dict(zip(texts.vocabulary, texts.counts.tolist(), strict=True))
    if said and numbers.count == len(said):
        return _numeric(texts, said, numbers, reading, key)
    odd = [(word, count[word]) for word, value in zip(said, numbers.values, strict=True) if value is None]
    are_most = 2 * numbers.count > len(said)
    if are_most or 2 * sum(rows for _, rows in odd) < sum(count[word] for word in said):
        odd.sort(key=lambda pair: (-pair[1], pair[0]))
        have_digits = all(any(map(str.isdigit, word)) for word, _ in odd)
        if len(texts.vocabulary) <= FEW_SORTS and (have_digits or not are_most):
            return as_text, (_few_sorts(texts, key, odd, "numbers"),)
        return _mixed(as_text, key, odd), ()
    units = [word for word in said if _WITH_UNIT.fullmatch(word)]
    if len(said) > FEW_SORTS and 2 * len(units) > len(said):
        written = next((word for word in units if not read_numbers([word]).count), units[0])
        return _with_units(as_text, key, written), ()
    signs = [(word, count[word]) for word in texts.vocabulary if word in SIGNS]
    if not signs:
        return as_text, _alike(said, key) if len(said) <= FEW_SORTS else ()
    note = f"column {key}: {counted(signs)} is a category of its own; --missing {quote(signs[0][0])} makes it missing"
    return as_text, (note,)


def _alike(words: Sequence[str], key: str) -> tuple[str, ...]:
    """A note on categories that are one but for capitals or a full stop: yes and Yes, <=50K and <=50K."""
    seen: dict[str, str] = {}
    for word in words:
        first = seen.setdefault(word.casefold().rstrip(". "), word)
        if first != word:
            return (f"column {key}: {first!r} and {word!r} are two categories, as they are written",)
    return ()


def _numeric(
    texts: Texts, said: Sequence[str], numbers_read: Numbers, reading: Reading, key: str
) -> tuple[Column, tuple[str, ...]]:
    """The column of texts that all are numbers or words for a missing value, and notes about it."""
    count, nulls = dict(zip(texts.vocabulary, texts.counts.tolist(), strict=True)), reading.null_numbers
    known = {word: value for word, value in zip(said, numbers_read.values, strict=True) if value not in nulls}
    numbers = [known.get(word) for word in texts.vocabulary]
    whole = all(isinstance(number, int) for number in numbers) and (texts.codes >= 0).all()
    if not whole and (alike := collapsing(list(known))):
        note = f"column {key}: text, because {alike[0]} and {alike[1]} would be one number"
        return Column("text", texts, "text"), (note,)
    kind = np.int64 if whole else np.float64
    filled = [np.nan if number is None else number for number in numbers]
    values = np.array(filled if whole else [*filled, np.nan], dtype=kind)[texts.codes]
    notes = []
    if numbers_read.why:
        notes.append(
            f"column {key}: {numbers_read.sample!r} is read as {known[numbers_read.sample or '']} ({numbers_read.why})"
        )
    words = [(word, count[word]) for word in texts.vocabulary if word not in known]
    if words:
        notes.append(f"column {key}: numbers, and {counted(words)} read as missing")
    described = "whole numbers" if whole else "numbers"
    missing = tuple(word for word, _ in words)
    return Column("numeric", values, described, words=missing, unit=numbers_read.unit), tuple(notes)


def _date(texts: Texts, known: Iterable[str], key: str, described: str = "dates") -> tuple[Column, tuple[str, ...]]:
    """The column of the dates ``known``; its other texts mean a missing value."""
    dated = set(known)
    is_word = np.array([word not in dated for word in texts.vocabulary] + [True])
    counts = zip(texts.vocabulary, texts.counts.tolist(), strict=True)
    words = [(word, count) for word, count in counts if word not in dated]
    notes = (f"column {key}: {described}, and {counted(words)} read as missing",) if words else ()
    stored = Texts(texts.vocabulary, np.where(is_word[texts.codes], -1, texts.codes))
    return Column("date", stored, described, words=tuple(word for word, _ in words)), notes


def _in_doubt(column: Column, key: str, text: str) -> Column:
    refusal = (
        f"column {key} holds numbers such as {text!r}, which can be read in two ways",
        "say what the decimal mark is: --decimal , or --decimal . (--categorical COLUMN takes a column as text)",
    )
    return replace(column, refusal=refusal)


def _by_other_mark(said: Sequence[str], reading: Reading) -> Numbers | None:
    """Numbers that only make sense with another decimal mark than the one given, such as 0.346, whose point cannot
    separate thousands."""
    other = read_numbers(said, None, reading.separator)
    if other.decimal == reading.decimal or other.count < len(said) or other.doubt is not None:
        return None
    sample = max(said, key=len)
    return replace(other, sample=sample, why=f"{'a comma' if other.decimal == ',' else 'a point'} is the decimal mark")


def _in_units(column: Column, key: str, units: tuple[str, str]) -> Column:
    refusal = (
        f"column {key} holds numbers in different units, such as {units[0]!r} and {units[1]!r}",
        f"write them in one unit; --categorical {quote(key)} takes them as text, or --drop {quote(key)}",
    )
    return replace(column, refusal=refusal)


def _with_units(column: Column, key: str, text: str) -> Column:
    different = len(set(column.values.tolist()) - {None})
    refusal = (
        f"column {key} holds {different:,} different numbers with a unit, such as {text!r}",
        f"write them as numbers, without units; --categorical {quote(key)} takes them as text, or --drop {quote(key)}",
    )
    return replace(column, refusal=refusal)


def _mixed(column: Column, key: str, odd: Sequence[tuple[str, int]], what: str = "numbers") -> Column:
    words = ",".join(word for word, _ in odd[:SHOWN_WORDS] if len(word) <= LONGEST_WORD)
    meaning = f"--missing {quote(words)} if that means a missing value, " if words else ""
    refusal = (
        f"column {key} holds {what}, but also {counted(odd)}",
        f"{meaning}--categorical {quote(key)} if the column is text, or --drop {quote(key)}",
    )
    return replace(column, refusal=refusal)


def words_of(options: Iterable[str]) -> tuple[str, ...]:
    """The words of ``--missing``, which may be repeated and hold several words with commas between them."""
    return tuple(dict.fromkeys(word.strip() for text in options for word in text.split(",") if word.strip()))
