"""Records as text: every format of the same columns, and tables that say what they show and cut no figure."""

import io
import json
import re

import numpy as np
import pytest

from influence_cli.errors import FileError
from influence_cli.present.headings import influence_table, meaning
from influence_cli.present.progress import progress
from influence_cli.present.tables import CHUNK, TABLE_ROWS, Layout, resolve_format, write_records
from influence_cli.results import MEAN_TEST, NO_TEST, GroupTable, InfluenceResult, Provenance

COLUMNS = {
    "name": ['plain, "quoted"', "two\nlines", "100%"],
    "count": np.array([1, 2**40, -3]),
    "value": np.array([0.1, 1e-300, -1 / 3]),
    "gap": np.array([np.nan, np.inf, 2.5]),
    "test": [None, "mean", 7],
}
PLAIN = Layout("", "", {})


def text_of(columns, name, layout=PLAIN, *, color=False, width=None, monkeypatch=None):
    if width is not None:
        monkeypatch.setenv("COLUMNS", str(width))
    stream = io.StringIO()
    write_records(columns, layout, name, stream, color=color)
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


def table_of(found, monkeypatch, width=200):
    columns, layout = influence_table(found)
    return text_of(columns, "table", layout, width=width, monkeypatch=monkeypatch)


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
        ("prediction", "Change of the prediction if the group is removed; positive: the group holds it down"),
        (
            "logit:3",
            "Change of the score (logit) of class 3 if the group is removed; positive: the group holds it down",
        ),
        ("param:1:x0", "Change of the parameter 1:x0 if the group is removed; positive: the group holds it down"),
    ],
)
def test_the_title_says_what_the_numbers_are_and_their_sign(quantity, sentence, monkeypatch):
    assert sentence in meaning(quantity)
    tests = (NO_TEST,) if quantity.startswith("param") else (1, 2)
    assert table_of(result(quantity=quantity, tests=tests), monkeypatch).startswith(meaning(quantity))


def test_the_caption_says_how_f_was_evaluated(monkeypatch):
    assert "gradient of f times the change of the parameters" in table_of(result(), monkeypatch)
    assert "f at the changed parameters minus f now" in table_of(result(evaluate="exact"), monkeypatch)


@pytest.mark.parametrize("width", [20, 60, 80, 200])
@pytest.mark.parametrize("methods", [1, 5])
def test_no_figure_is_cut_at_any_width(width, methods, monkeypatch):
    found = result(groups=3, methods=methods)
    text = table_of(found, monkeypatch, width)
    figures = {f"{value:.4g}" for values in found.values.values() for value in values.ravel()}
    figures |= {f"{value:.4g}" for value in found.base} | {"12,345", "12.5%", "4", "9"}
    assert figures <= set(text.split())
    assert "…" not in text
    title = text.split("\n\n")[0].split("───")[0]
    assert all(len(line.rstrip()) <= width for line in title.splitlines()[:1]), "the sentence is wrapped"


def test_means_and_parameters_have_no_test_row(monkeypatch):
    assert " mean " in table_of(result(tests=(MEAN_TEST,)), monkeypatch)
    (line,) = [line for line in table_of(result(1, tests=(NO_TEST,)), monkeypatch).splitlines() if "random:5#1" in line]
    assert line.split()[3] == "-"


def test_many_rows_are_counted(monkeypatch):
    text = table_of(result(groups=TABLE_ROWS), monkeypatch)
    assert len(re.findall("random:5#", text)) == TABLE_ROWS
    assert f"{TABLE_ROWS} more rows: use --format csv" in text
    assert "more rows" not in table_of(result(groups=TABLE_ROWS // 2), monkeypatch)


def test_a_long_list_of_rows_loses_its_middle_only(monkeypatch):
    label = "rows:" + ",".join(map(str, range(500)))
    text = table_of(result(label=label), monkeypatch, 100)
    assert max(map(len, text.splitlines())) <= 120
    assert re.search(r"rows:0,1,2,3,[0-9,]+\.\.\.[0-9,]+,499#1 ", text)
    rows = table_of(result(label="rows:1,2,3"), monkeypatch)
    assert "rows:1,2,3#1" in rows


def test_what_has_no_value_is_a_dash_and_says_why(monkeypatch):
    found = result(1, status="newton: the solve stopped")
    found.values["first"][:] = np.nan
    text = table_of(found, monkeypatch)
    assert text.count("newton: the solve stopped") == 2
    assert " - " in text
    assert "nan" not in text
    assert "status" not in table_of(result(), monkeypatch)


def test_control_characters_reach_no_terminal(monkeypatch):
    text = table_of(result(label="coherent:a\x1b[31m\nb\t"), monkeypatch)
    assert "coherent:a\\x1b[31m\\nb\\t#1" in text
    assert "\x1b" not in text


def test_markup_in_a_label_is_text(monkeypatch):
    assert "coherent:[bold]x[/bold]#1" in table_of(result(label="coherent:[bold]x[/bold]"), monkeypatch)


class Broken(io.StringIO):
    def __init__(self, error):
        super().__init__()
        self._error = error

    def write(self, text):
        raise self._error


def test_an_output_that_takes_no_more():
    error = OSError(28, "No space left on device")
    with pytest.raises(FileError, match=r"^cannot write the results to standard output: no space left on device$"):
        write_records(COLUMNS, PLAIN, "csv", Broken(error), color=False)
    with pytest.raises(BrokenPipeError):
        write_records(COLUMNS, PLAIN, "csv", Broken(BrokenPipeError(32, "Broken pipe")), color=False)


def test_progress_is_silent_without_a_terminal(capsys):
    with progress("working", 3, quiet=False, color=True) as advance:
        advance(3)
    assert capsys.readouterr() == ("", "")
