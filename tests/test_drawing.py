"""What a group spec draws from the data, and what is refused before anything is drawn."""

from __future__ import annotations

import hashlib
import io
import struct
import tracemalloc
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from influence_cli.errors import FileError, UsageError
from influence_cli.specs import planned
from influence_cli.specs.files import collect_specs, read_group_file
from influence_cli.specs.groups import parse_group
from influence_cli.specs.plan import TrainRows, plan_groups
from influence_cli.specs.planned import Group, GroupPlan, PlannedGroup

M = 200
CLASSES = ("cat", "dog", "emu")
Y = np.repeat([0, 1, 2], [100, 60, 40])[np.random.default_rng(5).permutation(M)]
X = np.random.default_rng(6).normal(size=(M, 3))


def plan(*texts, classes=CLASSES, y=Y, x=X, seed=0, stdin=None):
    return plan_groups([parse_group(text) for text in texts], TrainRows(x, y, classes), seed=seed, stdin=stdin)


def draw(*texts, **options):
    drawn = plan(*texts, **options)
    return [drawn.group(index) for index in range(len(drawn))]


def rows_by_label(*texts, **options):
    return {group.label: group.rows.tolist() for group in draw(*texts, **options)}


def refused(call, *arguments, error=UsageError, **options):
    """Message and hint of the error that a call raises."""
    with pytest.raises(error) as caught:
        call(*arguments, **options)
    return f"{caught.value.message} | {caught.value.hint}"


def test_rows_are_sorted_unique_int64_and_as_many_as_planned():
    texts = ("coherent:cat", "coherent:dog:5%x3", "coherent:*:10", "random:36%x4", "rows:9,3", "neighbours:7:20")
    planned = plan(*texts, "cluster:3")
    assert len(planned) == 1 + 3 + 3 + 4 + 1 + 1 + 3
    for index, known in enumerate(planned):
        group = planned.group(index)
        assert (group.label, group.kind, group.size) == (known.label, known.kind, known.size)
        assert group.rows.dtype == np.int64
        assert (np.diff(group.rows) > 0).all() and group.rows[0] >= 0 and group.rows[-1] < M
        np.testing.assert_array_equal(planned.rows(index), group.rows)
    assert planned.size.tolist() == [group.size for group in planned]
    np.testing.assert_array_equal(planned.fraction, planned.size / M)
    assert planned.label[0] == "coherent:cat" and planned.kind[-1] == "cluster"


def test_digest_is_the_sha256_of_little_endian_int64():
    group = Group("g", "rows", np.array([1, 5, 300]))
    assert group.digest == hashlib.sha256(struct.pack("<3q", 1, 5, 300)).hexdigest()
    assert group.size == 3


def test_the_seed_decides():
    assert rows_by_label("random:20x3", seed=4) == rows_by_label("random:20x3", seed=4)
    first, other = rows_by_label("random:20x3", seed=4), rows_by_label("random:20x3", seed=5)
    assert all(first[label] != other[label] for label in first)
    assert "expected a seed of at least 0, found -1" in refused(plan, "random:5", seed=-1)


def test_draws_depend_on_no_other_spec():
    alone = rows_by_label("random:20x3")
    among = rows_by_label("coherent:cat:5", "random:21x2", "random:20x3", "cluster:2")
    assert alone.items() <= among.items()


def test_fewer_draws_are_a_prefix_of_more():
    few, many = rows_by_label("random:20x10"), rows_by_label("random:20x40")
    assert list(many)[:10] == list(few) and few.items() <= many.items()
    assert rows_by_label("coherent:*:9x5").items() <= rows_by_label("coherent:*:9x20").items()


def test_draws_differ_from_each_other_and_cover_evenly():
    counts = np.zeros(M)
    drawn = draw("random:25%x400")
    for group in drawn:
        counts[group.rows] += 1
    assert len({group.digest for group in drawn}) == 400
    # 400 draws of a quarter: 100 +- 8.7 a row; five standard deviations for all 200 rows
    assert abs(counts - 100).max() < 45


def test_two_spellings_draw_the_same_rows():
    assert rows_by_label("random:5.0%") == rows_by_label("random:05%")


def test_labels_name_the_draws():
    assert list(rows_by_label("random:36%")) == ["random:36%"]
    assert list(rows_by_label("random:36%x2")) == ["random:36%#0", "random:36%#1"]
    assert list(rows_by_label("random:36%x1")) == ["random:36%#0"]
    assert list(rows_by_label("cluster:2")) == ["cluster:2#0", "cluster:2#1"]


def test_coherent_takes_rows_of_one_class():
    whole, part = draw("coherent:dog", "coherent:dog:10%")
    np.testing.assert_array_equal(whole.rows, np.flatnonzero(Y == 1))
    assert part.size == 20 and set(part.rows) < set(whole.rows)
    every = draw("coherent:*")
    assert [group.label for group in every] == ["coherent:cat", "coherent:dog", "coherent:emu"]
    np.testing.assert_array_equal(np.sort(np.concatenate([group.rows for group in every])), np.arange(M))


def test_a_star_takes_the_classes_in_turn():
    drawn = draw("coherent:*:5%x5")
    assert [group.label for group in drawn] == [
        "coherent:cat:5%#0",
        "coherent:dog:5%#1",
        "coherent:emu:5%#2",
        "coherent:cat:5%#3",
        "coherent:dog:5%#4",
    ]
    for number, group in enumerate(drawn):
        assert set(Y[group.rows]) == {number % 3} and group.size == 10
    assert drawn[0].rows.tolist() != drawn[3].rows.tolist()


def test_a_label_of_a_result_is_a_spec_for_the_same_rows():
    by_star = rows_by_label("coherent:*:5%")
    assert by_star["coherent:dog:5%"] == rows_by_label("coherent:dog:5%")["coherent:dog:5%"]
    assert (
        rows_by_label("coherent:*:5%x5")["coherent:dog:5%#4"] == rows_by_label("coherent:dog:5%x5")["coherent:dog:5%#4"]
    )


def test_labels_may_hold_colons_and_look_like_sizes():
    y = np.repeat([0, 1, 2, 3], 50)
    classes = ("10:05", "x2", "a:b", "7x3")

    def drawn(text):
        return {label: (len(rows), set(y[rows])) for label, rows in rows_by_label(text, classes=classes, y=y).items()}

    assert drawn("coherent:10:05") == {"coherent:10:05": (50, {0})}
    assert drawn("coherent:10:05:4") == {"coherent:10:05:4": (4, {0})}
    assert drawn("coherent:x2") == {"coherent:x2": (50, {1})}
    assert drawn("coherent:a:b") == {"coherent:a:b": (50, {2})}
    assert drawn("coherent:a:b:5x2") == {"coherent:a:b:5#0": (5, {2}), "coherent:a:b:5#1": (5, {2})}
    assert drawn("coherent:7x3") == {"coherent:7x3": (50, {3})}
    # Where both readings exist, the last piece is the size.
    both = rows_by_label("coherent:a:5", classes=("a", "a:5"), y=np.repeat([0, 1], 100))
    assert len(both["coherent:a:5"]) == 5 and max(both["coherent:a:5"]) < 100


def test_neighbours_are_the_nearest_rows():
    (group,) = draw("neighbours:7:10%")
    distance = np.linalg.norm(X - X[7], axis=1)
    np.testing.assert_array_equal(group.rows, np.sort(np.argsort(distance)[:20]))


def test_neighbours_include_the_row_itself_and_break_ties_by_number():
    x = np.zeros((M, 2))
    assert rows_by_label("neighbours:150:3", x=x)["neighbours:150:3"] == [0, 1, 150]
    assert rows_by_label("neighbours:150:1", x=x)["neighbours:150:1"] == [150]


def test_neighbours_form_neither_distances_of_all_pairs_nor_a_copy_of_the_features():
    x = np.random.default_rng(0).normal(size=(30_000, 150))  # 36 MB
    tracemalloc.start()
    rows = plan("neighbours:5:100", x=x, y=np.zeros(30_000), classes=()).rows(0)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert len(rows) == 100 and peak < 20e6
    np.testing.assert_array_equal(rows, np.sort(np.argsort(((x - x[5]) ** 2).sum(axis=1))[:100]))


def test_clusters_are_found_and_ordered_by_their_first_row():
    centre = np.random.default_rng(1).permutation(np.repeat([0, 1, 2, 3], 50))
    x = 100.0 * centre[:, None] + X
    drawn = draw("cluster:4", x=x)
    assert [len(set(centre[group.rows])) for group in drawn] == [1, 1, 1, 1]
    assert [group.size for group in drawn] == [50] * 4
    firsts = [group.rows[0] for group in drawn]
    assert firsts[0] == 0 and firsts == sorted(firsts)
    assert rows_by_label("cluster:4").items() <= rows_by_label("random:5", "cluster:4").items()


def test_shared_rows_cannot_be_changed():
    for text in ("coherent:cat", "rows:1,2", "cluster:2"):
        with pytest.raises(ValueError, match="read-only"):
            plan(text).rows(0)[0] = 5


def test_a_plan_of_ten_thousand_groups_is_light():
    x = np.zeros((60_000, 1))
    tracemalloc.start()
    planned = plan("random:36%x10000", x=x, y=np.zeros(60_000), classes=())
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert len(planned) == 10_000 and set(planned.size.tolist()) == {21_600}
    assert peak < 20e6
    assert len(planned.rows(9_999)) == 21_600


# --- groups that cannot be -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("coherent:dgo", ["expected one of the 3 classes (cat, dog, emu), found 'dgo'", "did you mean coherent:dog?"]),
        ("coherent:CAT", ["did you mean coherent:cat?"]),
        ("coherent:zzzzz", ["found 'zzzzz'", "For example: --group coherent:cat"]),
        ("coherent:catx3", ["expected a SIZE before x3: a whole class holds nothing random", "coherent:cat:5%x3"]),
        ("coherent:*x3", ["expected a SIZE before x3", "coherent:*:5%x3"]),
        ("coherent:cat:5%%", ["group 'coherent:cat:5%%': expected a SIZE", "found '5%%'"]),
        ("coherent:cat:0", ["the size 0 is an empty group"]),
        ("coherent:*:x3", ["expected a SIZE", "found 'x3'"]),
        ("coherent:emu:41", ["expected at most the 40 training rows of class emu, found a size of 41 rows"]),
        ("coherent:emu:50%", ["class emu", "50% of 200 training rows is 100 rows", "--group coherent:emu"]),
        ("coherent:*:50", ["group 'coherent:emu:50': expected at most the 40 training rows"]),
        ("random:0.1%", ["0.1% of 200 training rows is 0 rows: the group is empty"]),
        ("random:100%", ["of the 200 training rows: nothing would be left to train on", "1 to 199 rows"]),
        ("random:200", ["200 rows of the 200 training rows: nothing would be left"]),
        ("random:5000x3", ["5,000 rows of the 200 training rows"]),
        ("rows:3,200", ["group 'rows:3,200': expected training rows 0..199, found 200"]),
        ("rows:-1", ["expected training rows 0..199, found -1"]),
        ("neighbours:200:5", ["expected training rows 0..199, found 200"]),
        ("neighbours:5:100%", ["nothing would be left"]),
        ("cluster:201", ["expected at most 200 clusters"]),
    ],
)
def test_what_the_data_cannot_give_is_refused_at_planning(text, expected):
    said = refused(plan, text)
    for piece in expected:
        assert piece in said


def test_a_star_needs_only_the_classes_that_it_reaches():
    assert len(plan("coherent:*:50x2")) == 2


def test_many_classes_are_listed_shortly():
    classes = tuple(f"kind{number}" for number in range(500))
    said = refused(plan, "coherent:kynd7", classes=classes)
    assert "500 classes (kind0, kind1," in said and ", ...)" in said and "kind400" not in said


def test_regression_has_no_classes():
    said = refused(plan, "coherent:3", classes=(), y=np.linspace(0, 1, M))
    assert "this data has no classes" in said and "random:" in said
    assert draw("random:5", classes=(), y=np.linspace(0, 1, M))[0].size == 5


def test_a_class_without_training_rows_and_a_single_class():
    assert "class yak has no training rows" in refused(plan, "coherent:yak", classes=(*CLASSES, "yak"))
    assert "nothing would be left" in refused(plan, "coherent:cat", classes=("cat",), y=np.zeros(M, dtype=int))


def test_fewer_distinct_rows_than_clusters():
    x = np.repeat([[0.0], [1.0]], 100, axis=0)
    assert "form only 2 distinct clusters | At most: --group cluster:2" in refused(plan, "cluster:3", x=x)


@pytest.mark.parametrize(
    ("texts", "expected"),
    [
        (("random:5", "random:5"), "the group 'random:5' is asked for twice"),
        (("random:5%", "random:5.0%"), "the group 'random:5%' is asked for twice"),
        (("rows:1,2", "rows:2,1"), "the group 'rows:1,2' is asked for twice"),
        (("random:5", "random:5x3"), "the group 'random:5#0' is asked for by 'random:5' and by 'random:5x3'"),
        (("coherent:*", "coherent:dog"), "the group 'coherent:dog' is asked for by 'coherent:*' and by 'coherent:dog'"),
    ],
)
def test_the_same_draw_twice_is_refused(texts, expected):
    assert expected in refused(plan, *texts)


def test_no_group_at_all():
    assert "expected at least one group" in refused(plan)


# --- files and standard input ----------------------------------------------------------------------------------------


def test_rows_from_a_file_and_from_standard_input(tmp_path):
    text = "\ufeff# rows of the hospital\n9, 3\n\n 5\t7 # two more\n0,\n"
    file = tmp_path / "rows.txt"
    file.write_text(text, encoding="utf-8")
    (group,) = draw(f"rows:@{file}")
    assert group.rows.tolist() == [0, 3, 5, 7, 9] and group.label == f"rows:@{file}"
    (piped,) = draw("rows:@-", stdin=io.StringIO(text))
    assert piped.label == "rows:@-" and piped.digest == group.digest


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("1\n2\n200\n", ":3: expected training rows 0..199, found 200"),
        ("1 -4\n", ":1: expected training rows 0..199, found -4"),
        ("1\n2,1\n", ":2: row 1 is already in line 1"),
        ("1\n2.0\n", ":2: expected a row number, found '2.0'"),
        ("1.000e+00\n", "numpy.savetxt(file, rows, fmt='%d')"),
        ("# nothing\n\n", "holds no row numbers: the group is empty"),
        (" ".join(map(str, range(M))), "nothing would be left to train on"),
    ],
)
def test_a_bad_file_of_rows_is_named_with_its_line(tmp_path, monkeypatch, text, expected):
    monkeypatch.chdir(tmp_path)
    Path("rows.txt").write_text(text, encoding="utf-8")
    said = refused(plan, "rows:@rows.txt")
    assert expected in said and "rows.txt" in said
    assert expected in refused(plan, "rows:@-", stdin=io.StringIO(text))


@pytest.mark.parametrize("content", [b"\x00\x01\x02", b"\x89HDF\r\n\x1a\n\xff\xfe", "1\n2\n".encode("utf-16")])
def test_a_binary_file_is_refused(tmp_path, content):
    file = tmp_path / "rows.bin"
    file.write_bytes(content)
    for call in (lambda: plan(f"rows:@{file}"), lambda: read_group_file(str(file))):
        assert "rows.bin holds binary data" in refused(call, error=FileError)
    stdin = io.TextIOWrapper(io.BytesIO(content), encoding="utf-8")
    assert "standard input holds binary data" in refused(plan, "rows:@-", stdin=stdin, error=FileError)


def test_a_missing_file_and_a_folder(tmp_path):
    assert "missing.txt' does not exist" in refused(plan, "rows:@missing.txt", error=FileError)
    assert "missing.txt' does not exist" in refused(read_group_file, "missing.txt", error=FileError)
    assert "is a folder, expected a text file" in refused(plan, f"rows:@{tmp_path}", error=FileError)


def test_standard_input_is_read_once(tmp_path):
    said = refused(plan, "rows:@-", "random:5", "rows:@-", stdin=io.StringIO("1\n"))
    assert "2 groups read standard input (rows:@-), which can be read once" in said
    said = refused(collect_specs, ["rows:@-"], "-", stdin=io.StringIO("random:5\n"))
    assert "--groups - and --group rows:@- both read standard input" in said
    said = refused(read_group_file, "-", io.StringIO("random:5\nrows:@-\n"))
    assert "standard input:2: rows:@- would read standard input" in said


def test_rows_that_were_drawn_are_kept_as_far_as_they_are_few(monkeypatch):
    drawn = []

    def draw(number: int) -> np.ndarray:
        drawn.append(number)
        return np.arange(number, number + 10)

    groups = [PlannedGroup(f"g{n}", "rows", 10, (f"g{n}", 0), partial(draw, n)) for n in range(4)]
    plan = GroupPlan(groups, 100)
    monkeypatch.setattr(planned, "KEPT_ROWS", 20)
    for _ in range(2):
        for index in (3, 0, 1, 2):
            np.testing.assert_array_equal(plan.rows(index), np.arange(index, index + 10))
            assert not plan.rows(index).flags.writeable
            assert plan.group(index).digest == plan.group(index).digest
    assert drawn.count(0) == drawn.count(1) == 1
    assert drawn.count(2) == drawn.count(3) == 8
