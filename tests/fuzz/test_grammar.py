"""The mini-languages take any text: it is a spec whose canonical text is one too, or a sentence says what it is not."""

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from influence_cli.errors import GinfError
from influence_cli.specs.groups import KINDS, parse_group
from influence_cli.specs.plan import TrainRows, plan_groups
from influence_cli.specs.tests import parse_tests

quick = settings(max_examples=150, derandomize=True, deadline=None, suppress_health_check=list(HealthCheck))

M = 40
RNG = np.random.default_rng(0)
X, Y = RNG.normal(size=(M, 3)), np.arange(M) % 3
CLASSES = ("0", "a:b", "x10")
COLUMNS = {
    "place": np.array(["N", "S", None, "a,b=c", "é"], dtype=object)[np.arange(M) % 5],
    "age": np.where(np.arange(M) % 7, np.arange(M), np.nan),
    "n&m": np.arange(M) % 2,
}

numbers = st.one_of(
    st.integers(-5, 60).map(str),
    st.sampled_from(["", "1e9", "9" * 18, "9" * 30, "0.5", "-0", "5%", "100%", "1.5%", "x3"]),
)
pieces = st.one_of(
    numbers,
    st.sampled_from(
        [*KINDS, *CLASSES, *COLUMNS, "*", ":", ",", "=", "&", "..", '"', "x", "%", "@", "-", "#", " ", "\t", "\u2028"]
    ),
    st.text(max_size=4),
)
anything = st.lists(pieces, max_size=8).map("".join)
sizes = st.one_of(st.integers(1, 45).map(str), st.integers(1, 100).map(lambda n: f"{n}%"))
names = st.sampled_from(["place", "age", '"n&m"', "nowhere"])
values = st.sampled_from(["N", '"a,b=c"', "3..9", "..5", "30..", '""', "", "1", "é"])
conditions = st.tuples(names, values).map("=".join)
likely = st.one_of(
    st.tuples(st.sampled_from(CLASSES), sizes).map(lambda p: f"coherent:{p[0]}:{p[1]}"),
    sizes.map(lambda size: f"random:{size}"),
    st.tuples(sizes, st.integers(1, 5)).map(lambda p: f"random:{p[0]}x{p[1]}"),
    st.lists(st.integers(-1, 45), min_size=1, max_size=6).map(lambda rows: "rows:" + ",".join(map(str, rows))),
    st.lists(st.tuples(names, values), min_size=1, max_size=3).map(
        lambda ps: "column:" + "&".join(f"{n}={v}" for n, v in ps)
    ),
    names.map(lambda name: f"by:{name}"),
    st.tuples(st.integers(-1, 45), sizes).map(lambda p: f"neighbours:{p[0]}:{p[1]}"),
)


@quick
@given(st.one_of(anything, st.tuples(st.sampled_from(list(KINDS)), anything).map(":".join)))
def test_any_text_is_a_spec_or_refused_in_words(text):
    try:
        spec = parse_group(text)
    except GinfError as error:
        assert str(error)
        return
    again = parse_group(spec.text)
    assert again.text == spec.text
    assert again.kind == spec.kind


@quick
@given(st.one_of(anything, numbers, st.tuples(numbers, numbers).map(":".join)))
def test_any_text_is_test_rows_or_refused_in_words(text):
    try:
        spec = parse_tests(text)
    except GinfError as error:
        assert str(error)
        return
    assert parse_tests(spec.text).text == spec.text


@quick
@given(st.lists(st.one_of(likely, anything), min_size=1, max_size=3), st.integers(0, 2**32 - 1))
def test_groups_are_sorted_rows_of_the_training_data_and_the_same_each_time(texts, seed):
    try:
        specs = [parse_group(text) for text in texts]
        if any(spec.path is not None for spec in specs):
            return
        plans = [plan_groups(specs, TrainRows(X, Y, CLASSES, COLUMNS), seed=seed) for _ in range(2)]
    except GinfError as error:
        assert str(error)
        return
    assert len(plans[0]) == len(plans[1])
    for index in range(min(len(plans[0]), 5)):
        rows, again = (np.asarray(plan.rows(index)) for plan in plans)
        assert np.array_equal(rows, again)
        assert 0 < len(rows) < M or len(rows) == plans[0].size[index]
        assert (np.diff(rows) > 0).all() and rows[0] >= 0 and rows[-1] < M


@pytest.mark.parametrize(
    "text", ["random:5\u2028", "rows:0\x0b,1", "coherent:\x1b[2J:3", "column:\udcff=1", "by:" + "a" * 100_000]
)
def test_odd_texts_make_short_sentences(text):
    try:
        parse_group(text)
    except GinfError as error:
        assert len(str(error)) < 2_000
