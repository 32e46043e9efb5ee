"""Records as text: every format of the same columns, and tables that say what they show and cut no figure."""

import io
import json
import re
import sys
from dataclasses import replace

import numpy as np
import pytest

from influence_cli.commands.options import Common, Written
from influence_cli.commands.output import Answer, emit
from influence_cli.errors import FileError
from influence_cli.present.changes import TABLE_ROWS, View, influence_figures, influence_page
from influence_cli.present.progress import progress
from influence_cli.present.records import CHUNK, largest, resolve_format, write_records
from influence_cli.present.tables import write_page
from influence_cli.present.words import common_part, effect, meaning
from influence_cli.results import MEAN_TEST, NO_TEST, GroupTable, InfluenceResult, Provenance, RowNames

COLUMNS = {
    "name": ['plain, "quoted"', "two\nlines", "100%"],
    "count": np.array([1, 2**40, -3]),
    "value": np.array([0.1, 1e-300, -1 / 3]),
    "gap": np.array([np.nan, np.inf, 2.5]),
    "test": [None, "mean", 7],
}


def text_of(columns, name):
    stream = io.StringIO()
    write_records(columns, name, stream)
    return stream.getvalue()


def records(columns):
    plain = {key: values.tolist() if hasattr(values, "tolist") else values for key, values in columns.items()}
    return [dict(zip(plain, row, strict=True)) for row in zip(*plain.values(), strict=True)]


def result(groups=2, tests=(4, 9), quantity="loss", evaluate="linear", status="ok", label="random:5", methods=3):
    rng = np.random.default_rng(0)
    table = GroupTable(
        tuple(f"{label}#{number + 1}" for number in range(groups)), ("random",) * groups,
        np.full(groups, 12345), np.full(groups, 0.125), ("0" * 64,) * groups,
    )  # fmt: skip
    names = ("first-koh", "first", "second", "second-full", "newton")[:methods]
    values = {name: -rng.random((groups, len(tests))) * 1e-5 for name in names}
    return InfluenceResult(
        Provenance("d", "m", {}), table, np.array(tests), quantity, evaluate,
        rng.random(len(tests)), values, (status,) * groups,
    )  # fmt: skip


def table_of(found, monkeypatch, width=200, form="table", **view):
    monkeypatch.setenv("COLUMNS", str(width))
    stream = io.StringIO()
    write_page(influence_page(found, found.columns(), View(**view)), form, stream, color=False)
    return stream.getvalue()


def test_json_holds_every_record_and_no_nan():
    found = json.loads(text_of(COLUMNS, "json"), parse_constant=pytest.fail)
    expected = records(COLUMNS)
    expected[0]["gap"] = expected[1]["gap"] = None
    assert found == expected
    assert [list(record) for record in found] == [list(COLUMNS)] * 3


def test_ndjson_is_json_line_by_line():
    lines = text_of(COLUMNS, "ndjson").splitlines()
    assert [json.loads(line) for line in lines] == json.loads(text_of(COLUMNS, "json"))


def test_csv_keeps_every_digit_and_leaves_gaps_empty():
    import csv

    rows = list(csv.reader(io.StringIO(text_of(COLUMNS, "csv"), newline="")))
    assert rows[0] == list(COLUMNS)
    assert [float(row[2]) for row in rows[1:]] == COLUMNS["value"].tolist()
    assert [row[3] for row in rows[1:]] == ["", "", "2.5"]
    assert [row[4] for row in rows[1:]] == ["", "mean", "7"]
    assert [row[0] for row in rows[1:]] == COLUMNS["name"]


def test_lists_in_csv_are_json():
    import csv

    columns = {"rows": [[3, 10], None], "groups": [['column:site="O\'Hare", west', "b"], []]}
    _, *found = csv.reader(io.StringIO(text_of(columns, "csv"), newline=""))
    values = [[json.loads(cell) if cell else None for cell in row] for row in found]
    assert [dict(zip(columns, row, strict=True)) for row in values] == records(columns)


@pytest.mark.parametrize("count", [0, 1, CHUNK, CHUNK + 1])
def test_any_number_of_records(count):
    columns = {"row": np.arange(count), "value": np.arange(count) / 7}
    assert json.loads(text_of(columns, "json")) == records(columns)
    assert [json.loads(line) for line in text_of(columns, "ndjson").splitlines()] == records(columns)
    assert len(text_of(columns, "csv").splitlines()) == count + 1


def test_auto_is_a_table_on_a_terminal_only():
    class Terminal(io.StringIO):
        def isatty(self):
            return True

    assert resolve_format("auto", Terminal()) == "table"
    assert resolve_format("auto", io.StringIO()) == "csv"
    assert resolve_format("json", Terminal()) == "json"


@pytest.mark.parametrize(
    ("quantity", "sentence"),
    [
        ("loss", "Change of the loss if the group is removed; positive: the group helped this prediction"),
        ("prob", "Change of the probability of the true class if the group is removed; positive: the group hurt"),
        ("margin", "against its rival) if the group is removed; positive: the group hurt"),
        ("prediction", "Change of the prediction if the group is removed; positive: the group held it down"),
        (
            "logit:3",
            "Change of the score (logit) of class 3 if the group is removed; positive: the group held it down",
        ),
        ("param:1:x0", "Change of the parameter 1:x0 if the group is removed; positive: the group held it down"),
    ],
)
def test_the_title_says_what_the_numbers_are_and_their_sign(quantity, sentence, monkeypatch):
    assert sentence in meaning(quantity)
    tests = (NO_TEST,) if quantity.startswith("param") else (1, 2)
    assert " ".join(table_of(result(quantity=quantity, tests=tests), monkeypatch).split()).startswith(meaning(quantity))


def test_the_caption_says_how_f_was_evaluated(monkeypatch):
    assert "gradient of f times the change of the parameters" in table_of(result(), monkeypatch)
    assert "f at the changed parameters minus f now" in table_of(result(evaluate="exact"), monkeypatch)


def test_where_no_error_is_known_that_is_said(monkeypatch):
    known, sentence = result(quantity="score:accuracy"), "no error is known of these estimates"
    errors = {"refined": np.full((2, 2), np.nan)}
    assert sentence not in table_of(known, monkeypatch)
    assert sentence in table_of(replace(known, errors=errors), monkeypatch)
    assert sentence not in table_of(replace(known, errors=errors, actual=np.zeros((2, 2))), monkeypatch)
    errors["refined"][1, 0] = 1e-3
    assert sentence not in table_of(replace(known, errors=errors), monkeypatch)


@pytest.mark.parametrize("width", [20, 60, 80, 100, 160])
@pytest.mark.parametrize("methods", [1, 5])
def test_a_table_is_no_wider_than_the_terminal_and_cuts_no_figure(width, methods, monkeypatch):
    found = result(groups=3, methods=methods)
    text = table_of(found, monkeypatch, width)
    assert max(map(len, text.splitlines())) <= width
    headline = influence_figures(found, found.columns()).headline
    figures = {f"{value:+.4g}" for value in found.values[headline].ravel()}
    figures |= {f"{value:.4g}" for value in found.base} | {"12,345", "12.5%", "4", "9"}
    if width in (60, 80) and methods == 5:
        figures -= {"12.5%"}
        assert "not shown in" in text
    assert figures <= set(re.sub("[,:;]( |$)", " ", text, flags=re.M).split()) | {"12,345"}
    assert "…" not in text


def test_groups_stand_by_the_size_of_their_effect(monkeypatch):
    found = result(groups=4, tests=(7,), methods=3)
    found.values["second"][:, 0] = [0.1, -0.4, np.nan, 0.2]

    def order(**view):
        return re.findall(r"^(\d) +12,", table_of(found, monkeypatch, **view), flags=re.M)

    assert order() == ["2", "4", "1", "3"]
    assert order(sort="given") == ["1", "2", "3", "4"]
    assert order(top=2) == ["2", "4"]
    assert "2 more rows" in table_of(found, monkeypatch, top=2)


def test_the_sign_is_said_in_words(monkeypatch):
    found = result(groups=2, tests=(7,), methods=1)
    found.values["first-koh"][:, 0] = [0.5, -0.5]
    lines = table_of(found, monkeypatch).splitlines()
    assert [line.split()[-1] for line in lines if "%  " in line] == ["helped", "hurt"]
    assert effect("prob", 0.1) == "hurt" and effect("prediction", 0.1) == "held it down"
    assert effect("loss", None) == ""


@pytest.mark.parametrize(
    ("labels", "common", "names"),
    [
        (["column:site=a", "column:site=bc"], "column:site=", ["a", "bc"]),
        (["random:5%#1", "random:5%#12"], "random:5%#", ["1", "12"]),
        (["coherent:3", "random:5"], "", ["coherent:3", "random:5"]),
        (['column:"a=b"=x', 'column:"a=b"=y'], 'column:"a=b"=', ["x", "y"]),
        (['column:"a=b"=x', 'column:"a=c"=y'], "column:", ['"a=b"=x', '"a=c"=y']),
        (["coherent:3", "coherent:3:5%"], "coherent:", ["3", "3:5%"]),
        (["coherent:3"], "", ["coherent:3"]),
    ],
)
def test_the_common_part_of_names_is_said_once(labels, common, names):
    assert common_part(labels) == (common, names)


def test_means_and_parameters_have_no_test_row(monkeypatch):
    assert "All chosen test rows: loss now" in table_of(result(tests=(MEAN_TEST,)), monkeypatch)
    assert "The model: loss now" in table_of(result(1, tests=(NO_TEST,)), monkeypatch)


def test_a_test_row_is_named(monkeypatch):
    names = RowNames(("yes", None), ("no", "yes"), (12, None), ("P021", None))
    text = table_of(replace(result(quantity="prob"), names=names), monkeypatch)
    assert "Test row 4 (id P021, record 12): true yes, predicted no; probability of yes now" in text
    assert "Test row 9: predicted yes; probability of yes now" in text


def test_one_group_and_several_test_rows_are_one_block(monkeypatch):
    text = table_of(result(groups=1), monkeypatch)
    assert "Group random:5#1: 12,345 training rows (12.5%)" in text
    assert "Test row 4" in text and "Test row 9" in text


def test_many_rows_are_counted(monkeypatch):
    text = table_of(result(groups=TABLE_ROWS), monkeypatch)
    assert len(re.findall(" 12.5% ", text)) == TABLE_ROWS
    assert f"{TABLE_ROWS} more rows: --format csv has all" in text
    assert "more rows" not in table_of(result(groups=TABLE_ROWS // 2), monkeypatch)


def test_the_largest_effects_of_each_test_row():
    columns = {"test": [1, 1, 2, 1], "second": np.array([0.1, -3.0, 0.2, np.nan]), "name": ["a", "b", "c", "d"]}
    assert largest(columns, "second", 1) == {"test": [1, 2], "second": [-3.0, 0.2], "name": ["b", "c"]}


def test_a_long_list_of_rows_loses_its_middle_only(monkeypatch):
    label = "rows:" + ",".join(map(str, range(500)))
    text = table_of(result(1, label=label), monkeypatch, 100)
    assert "rows:0,1,2,3,...,499#1" in text
    assert "rows:1,2,3#1" in table_of(result(1, label="rows:1,2,3"), monkeypatch)


def test_what_has_no_value_is_a_dash_and_says_why(monkeypatch):
    found = result(1, status="newton: the solve stopped")
    found.values["first"][:] = np.nan
    text = table_of(found, monkeypatch)
    assert text.count("newton: the solve stopped") == 1
    assert text.count("[1]") == 3
    assert " - " in text
    assert "nan" not in text
    assert "[1]" not in table_of(result(), monkeypatch)


def test_what_is_infinite_is_said_in_words(monkeypatch):
    found = result(2, tests=(4,), status="unbounded: a class has lost all its rows", methods=1)
    found.values["first-koh"][0] = np.nan
    text = table_of(found, monkeypatch)
    assert "unbounded" in text.splitlines()[5]
    assert "[1] unbounded: a class has lost all its rows" in text


@pytest.mark.parametrize("form", ["md", "html"])
def test_files_for_people_hold_the_same_figures(form, monkeypatch):
    found = result(3, label="coherent:<a|b>")
    text = table_of(found, monkeypatch, form=form)
    assert {f"{value:+.4g}" for values in found.values.values() for value in values.ravel()} <= set(
        re.split(r"[ <>|]+", text)
    )
    assert "<a|b>" not in text


def test_control_characters_reach_no_terminal(monkeypatch):
    text = table_of(result(label="coherent:a\x1b[31m\nb\t"), monkeypatch)
    assert "coherent:a\\x1b[31m\\nb\\t#" in text
    assert "\x1b" not in text


def test_markup_in_a_label_is_text(monkeypatch):
    assert "coherent:[bold]x[/bold]#" in table_of(result(label="coherent:[bold]x[/bold]"), monkeypatch)


class Broken(io.StringIO):
    def __init__(self, error):
        super().__init__()
        self._error = error

    def write(self, text):
        raise self._error


def test_an_output_that_takes_no_more(monkeypatch):
    answer = Answer(COLUMNS, lambda: None)
    monkeypatch.setattr(sys, "stdout", Broken(OSError(28, "No space left on device")))
    with pytest.raises(FileError, match=r"^cannot write the results to standard output: no space left on device$"):
        emit(answer, Written("csv"), Common())


def test_a_reader_that_has_left_changes_nothing(monkeypatch):
    monkeypatch.setattr(sys, "stdout", Broken(BrokenPipeError(32, "Broken pipe")))
    emit(Answer(COLUMNS, lambda: None), Written("csv"), Common())


def test_progress_is_silent_without_a_terminal(capsys):
    with progress("working", 3, quiet=False, color=True) as advance:
        advance(3)
    assert capsys.readouterr() == ("", "")
