"""``ginf report``: what is on the page, in HTML and in Markdown, that no name is markup, that a browser reads it."""

import json
import re
import shlex
import shutil
import subprocess
from html import escape
from html.parser import HTMLParser

import numpy as np
import pytest
from cli_tools import save_blobs, save_regression, train

from influence_cli.artifacts.results import load_influence, load_truth
from influence_cli.cli import run
from influence_cli.commands.report import load_source

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)


class Page(HTMLParser):
    """The text of a page, its tags, and its tables as rows of (heading, text, sort value)."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.attributes, self.parts, self.tables, self.cell = [], [], [], [], None
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        self.attributes += [(tag, name, value) for name, value in attributes]
        if tag == "table":
            self.tables.append([])
        elif tag == "tr":
            self.tables[-1].append([])
        elif tag == "td":
            self.cell = {"text": "", **dict(attributes)}
            self.tables[-1][-1].append(self.cell)

    def handle_endtag(self, tag):
        if tag == "td":
            self.cell = None

    def handle_data(self, data):
        self.parts.append(data)
        if self.cell is not None:
            self.cell["text"] += data

    @property
    def text(self):
        return " ".join("".join(self.parts).split())


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    made = tmp_path_factory.mktemp("report")
    train(save_blobs(made / "b.npz"), made / "m.h5")
    asked = ["--model", str(made / "m.h5"), "--group", "random:5x3", "--group", "coherent:0:12", "--quiet"]
    assert run(["influence", *asked, "--test", "1,3", "-o", str(made / "i.h5")]) == 0
    assert run(["groundtruth", *asked, "--test", "3,1", "-o", str(made / "t.h5")]) == 0
    select = ["select", "--model", str(made / "m.h5"), "--test", "1", "--size", "3", "--quiet"]
    assert run([*select, "-o", str(made / "s.h5")]) == 0
    return made


def report(folder, *names, page="a.html", options=()):
    return run(["report", *(str(folder / name) for name in names), "-o", str(page), "--quiet", *options])


@pytest.fixture(scope="module")
def html(folder, tmp_path_factory):
    path = tmp_path_factory.mktemp("page") / "audit.html"
    assert report(folder, "i.h5", "t.h5", "s.h5", "m.h5", page=path) == 0
    return path


def changes(page):
    """The tables of changes: those that have a bar."""
    return [table[1:] for table in page.tables if any("class" in one and one["class"] == "drawn" for one in table[-1])]


def test_a_page_holds_the_whole_answer(html, folder):
    page = Page(html.read_text())
    found = load_influence(folder / "i.h5")
    for words in (
        "How would the loss change if each of these 4 groups of training rows had not been there?",
        "A positive change says that the group helped this prediction",
        "Test row 1 (record 2): true 1, predicted 1",
        "Largest effect: without",
        "0 (20), 1 (20), 2 (20)",
        found.provenance.model_digest[:12],
        found.provenance.data_digest[:12],
        "the test accuracy of always saying 0, the largest class",
        "relinearize: training records",
        "How well the estimates agree with retraining",
        "What the words mean",
    ):
        assert words in page.text, words


def test_estimates_and_truth_stand_side_by_side_largest_first(html, folder):
    page = Page(html.read_text())
    guessed = {(one["group"], one["test"]): one for one in load_influence(folder / "i.h5").records()}
    truth = {(one["group"], one["test"]): one["actual"] for one in load_truth(folder / "t.h5").records()}
    tables = changes(page)
    assert len(tables) == 2
    for test, table in zip((1, 3), tables, strict=True):
        groups = [row[0]["text"] for row in table]
        by_size = sorted((name for name, own in truth if own == test), key=lambda name: -abs(truth[name, test]))
        assert groups == by_size
        for row in table:
            cells = {cell["data-heading"]: cell for cell in row}
            pair = row[0]["text"], test
            estimate, actual = guessed[pair]["refined"], truth[pair]
            assert float(cells["estimate (refined)"]["data-sort"]) == estimate
            assert cells["estimate (refined)"]["text"] == f"{estimate:+.4g} ± {guessed[pair]['error']:.2g}"
            assert float(cells["retrained"]["data-sort"]) == actual
            assert float(cells["difference"]["data-sort"]) == estimate - actual
            assert cells["the group"]["text"] == ("helped" if actual > 0 else "hurt")


def test_bars_are_as_long_as_the_changes(html, folder):
    text = html.read_text()
    table = changes(Page(text))[0]
    widths = [float(width) for width in re.findall(r'<rect [^>]*width="([\d.]+)"', text)][: len(table)]
    estimates = np.abs([float(row[4]["data-sort"]) for row in table])
    assert np.allclose(np.array(widths) / widths[0], estimates / estimates[0], atol=2e-3)
    assert text.count('class="error"') == 8, "one for every pair with an error"
    assert text.count('class="truth"') == 8


def test_nothing_is_fetched_and_no_script_is_needed(html):
    page = Page(html.read_text())
    assert not {"link", "img", "iframe", "object", "embed"} & set(page.tags)
    assert not [(name, value) for _, name, value in page.attributes if name in ("src", "href", "xlink:href")]
    assert "http" not in re.sub(r"http-equiv", "", html.read_text())
    assert "@page{size:A4" in html.read_text()


def test_the_commands_make_the_same_files_again(html, folder, tmp_path, capsys):
    page = Page(html.read_text())
    commands = re.findall(r"ginf (?:train|influence|groundtruth|select|report) .*", "".join(page.parts))
    assert [shlex.split(one)[1] for one in commands] == ["influence", "groundtruth", "select", "train", "report"]
    for line in commands[:2]:
        _, *words = shlex.split(line)
        assert run([*words[:-1], str(tmp_path / "again.h5"), "--force", "--quiet"]) == 0
        old, new = folder / words[-1], tmp_path / "again.h5"
        load = load_influence if words[0] == "influence" else load_truth
        key = "refined" if words[0] == "influence" else "actual"
        assert [one[key] for one in load(old).records()] == [one[key] for one in load(new).records()]
    _, *words = shlex.split(commands[3])
    assert run([*words[:-1], str(tmp_path / "m.h5"), "--quiet"]) == 0
    capsys.readouterr()
    assert run(["show", str(tmp_path / "m.h5"), "--format", "json"]) == 0
    again = json.loads(capsys.readouterr().out)
    assert run(["show", str(folder / "m.h5"), "--format", "json"]) == 0
    assert json.loads(capsys.readouterr().out) == again


@pytest.mark.parametrize(
    "line",
    [
        "train --data digits --l2 0.01",
        "train --data d.npz --no-intercept --C 2 --class-weight balanced",
        "train --data d.npz --estimator mlp --hidden 4,3 --damping 0.1 --seed 3",
        "train --data d.csv --label y --drop z --categorical x --impute median --no-standardize",
        "select --model m.h5 --test 1 --flip",
        "select --model m.h5 --test 1 --candidates by:site --size 1 --verify",
        "select --model m.h5 --test 1 --size 2,10% --strategy greedy,random --draws 3 --within by:site",
        "influence --model m.h5 --group rows:each --test mean --quantity margin",
        "influence --model m.h5 --group 'column:site=a b' --test 2 --certify 10% --verify --preprocessing frozen",
        "groundtruth --model m.h5 --group random:5x2 --quantity param:v --cold --certify 5% --solver cg",
    ],
)
def test_every_command_comes_back_from_its_file(tmp_path, monkeypatch, line):
    """The command that a file's settings give makes a file with the same settings and results."""
    monkeypatch.chdir(tmp_path)
    save_blobs(tmp_path / "d.npz")
    rng = np.random.default_rng(0)
    rows = [
        f"{at},{rng.normal():.3f},{'a b' if at % 3 else 'c'},{at % 2},{rng.integers(3)},{at % 4 < 2:d}"
        for at in range(80)
    ]
    (tmp_path / "d.csv").write_text("\n".join(["id,v,site,z,x,y", *rows]) + "\n")
    if "m.h5" in line:
        train("d.csv", tmp_path / "m.h5", "--label", "y", "--id", "id", "--drop", "z")
    assert run([*shlex.split(line), "-o", "one.h5", "--quiet"]) == 0
    first = load_source("one.h5")
    _, *words = shlex.split(first.command)
    assert run([*words[:-1], "two.h5", "--quiet"]) == 0
    second = load_source("two.h5")
    assert second.provenance == first.provenance
    assert second.command == first.command.replace("one.h5", "two.h5")


def test_markdown_says_the_same(folder, tmp_path):
    path = tmp_path / "audit.md"
    assert report(folder, "i.h5", "t.h5", "s.h5", page=path) == 0
    text = path.read_text()
    assert text.startswith("# How the model ")
    for words in (
        "## The question",
        "## The model",
        "## Selected rows",
        "## How to repeat it",
        "\n    ginf influence ",
    ):
        assert words in text, words
    table = [line for line in text.splitlines() if line.startswith(("| coherent:0:12", "| random:5"))]
    assert len(table) == 8
    assert all("█" in line for line in table)
    lengths = {
        line.count("|") for line in text.split("### Test row 1")[1].split("###")[0].splitlines() if line[:1] == "|"
    }
    assert len(lengths) == 1, "every row has as many cells as the headings"


@pytest.mark.parametrize("name", ["m.h5", "i.h5", "t.h5", "s.h5"])
@pytest.mark.parametrize("ending", ["html", "md"])
def test_one_file_of_any_kind_is_enough(folder, tmp_path, name, ending):
    assert report(folder, name, page=tmp_path / f"a.{ending}") == 0
    assert "The model" in (tmp_path / f"a.{ending}").read_text()


@pytest.mark.parametrize("ending", ["html", "md"])
def test_names_are_never_markup(tmp_path, ending):
    rows = ["x,site,y"]
    rng = np.random.default_rng(0)
    for at in range(60):
        site = ("<b>", "a|`*_[x](y)", "<script>alert(1)</script>")[at % 3]
        rows.append(f"{rng.normal():.3f},{site},{int(rng.random() < 0.5)}")
    (tmp_path / "d.csv").write_text("\n".join(rows) + "\n")
    train(str(tmp_path / "d.csv"), tmp_path / "m.h5", "--label", "y")
    asked = ["--model", str(tmp_path / "m.h5"), "--group", "by:site", "--test", "1", "--quiet"]
    assert run(["influence", *asked, "-o", str(tmp_path / "i.h5")]) == 0
    path = tmp_path / f"a.{ending}"
    assert report(tmp_path, "i.h5", page=path) == 0
    text = path.read_text()
    if ending == "html":
        page = Page(text)
        assert "b" not in page.tags
        assert page.tags.count("script") == 1
        assert "&lt;b&gt;" in text
        names = [row[0]["text"] for row in changes(page)[0]]
        assert sorted(names) == ["<b>", "<script>alert(1)</script>", "a|`*_[x](y)"]
    else:
        prose = "\n".join(line for line in text.splitlines() if not line.startswith("    "))
        assert not re.search(r"(?<!\\)<", prose)
        assert r"a\|\`\*\_\[x\](y)" in prose


def test_top_keeps_the_largest_and_says_what_is_left_out(folder, tmp_path):
    path = tmp_path / "a.html"
    assert report(folder, "t.h5", page=path, options=("--top", "1")) == 0
    page = Page(path.read_text())
    assert [len(table) for table in changes(page)] == [1, 1]
    assert "6 smaller effects are left out" in page.text


@pytest.mark.parametrize(("quantity", "test"), [("prediction", ["--test", "mean"]), ("param:x0", [])])
def test_figures_that_nobody_is_helped_by_are_held_up_or_down(tmp_path, quantity, test):
    model = train(save_regression(tmp_path / "r.npz"), tmp_path / "r.h5", "--estimator", "linear")
    asked = ["--model", model, "--group", "random:5x3", "--quantity", quantity, *test, "--quiet"]
    assert run(["influence", *asked, "-o", str(tmp_path / "i.h5")]) == 0
    assert report(tmp_path, "i.h5", page=tmp_path / "a.html") == 0
    text = Page((tmp_path / "a.html").read_text()).text
    assert re.search(r"changes by [-+][\d.e-]+ \(estimated, ± [\d.e-]+\): the group held it (down|up)\. ", text)


def test_a_long_page_keeps_the_largest_of_every_test_row(folder, tmp_path):
    asked = ["--model", str(folder / "m.h5"), "--group", "rows:each", "--test", "0:6", "--quiet"]
    assert run(["influence", *asked, "-o", str(tmp_path / "each.h5")]) == 0
    assert report(tmp_path, "each.h5", page=tmp_path / "a.html") == 0
    page = Page((tmp_path / "a.html").read_text())
    assert [len(table) for table in changes(page)] == [200 // 6] * 6
    assert f"{6 * 60 - 6 * (200 // 6)} smaller effects are left out" in page.text


@pytest.mark.parametrize("page", ["audit.pdf", "audit", "audit.h5"])
def test_other_endings_are_refused(folder, tmp_path, capsys, page):
    assert report(folder, "i.h5", page=tmp_path / page) == 2
    assert "expected the ending .html or .md, found" in capsys.readouterr().err
    assert not (tmp_path / page).exists()


def test_what_cannot_be_reported_is_refused(folder, tmp_path, capsys):
    (tmp_path / "a.h5").write_text("hello")
    assert report(folder, "i.h5", tmp_path / "a.h5", page=tmp_path / "a.html") == 3
    assert "expected a ginf file" in capsys.readouterr().err
    assert report(folder, "none.h5", page=tmp_path / "a.html") == 3
    train(save_blobs(tmp_path / "other.npz", seed=1), tmp_path / "o.h5")
    assert report(folder, "i.h5", tmp_path / "o.h5", page=tmp_path / "a.html") == 3
    assert "do not belong together" in capsys.readouterr().err
    assert not (tmp_path / "a.html").exists()


def test_a_page_is_replaced_only_with_force_and_an_input_never(folder, tmp_path, capsys):
    page = tmp_path / "a.html"
    page.write_text("mine")
    assert report(folder, "i.h5", page=page) == 2
    assert page.read_text() == "mine"
    assert report(folder, "i.h5", page=page, options=("--force",)) == 0
    shutil.copy(folder / "t.h5", tmp_path / "t.md")
    before = (tmp_path / "t.md").read_bytes()
    capsys.readouterr()
    assert report(folder, "i.h5", tmp_path / "t.md", page=tmp_path / "t.md", options=("--force",)) == 2
    assert "would replace a file that this command reads" in capsys.readouterr().err
    assert (tmp_path / "t.md").read_bytes() == before


@pytest.fixture(scope="module")
def long_names(tmp_path_factory):
    """A page whose identifiers, groups and paths have no place to break a line, and whose figures end in e-05."""
    made = tmp_path_factory.mktemp("a-folder-with-a-name-that-has-no-space-and_no_place_to_break_a_line_at")
    rng, rows = np.random.default_rng(0), ["customer,a,site,y"]
    for at in range(200):
        a = rng.normal()
        site = "WithoutAnySpaceAtAll" * 3 + f"{at % 40}"
        rows.append(f"customer-{'0000-' * 5}{'ABCDEFGH' * 4}-{at},{a:.3f},{site},{int(a + rng.normal() > 0)}")
    (made / "d.csv").write_text("\n".join(rows) + "\n")
    train(str(made / "d.csv"), made / "m.h5", "--label", "y", "--id", "customer", "--drop", "site")
    asked = ["--model", str(made / "m.h5"), "--group", "by:site", "--test", "0", "--quiet"]
    assert run(["influence", *asked, "--certify", "1%", "--verify", "-o", str(made / "i.h5")]) == 0
    assert run(["report", str(made / "i.h5"), str(made / "m.h5"), "-o", str(made / "a.html"), "--quiet"]) == 0
    assert run(["show", str(made / "i.h5"), "-o", str(made / "records.html"), "--quiet"]) == 0
    return made / "a.html"


def browse(tmp_path, page, width, *options):
    """What Chromium writes to its output when it shows a page."""
    browser = [CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={tmp_path / 'profile'}"]
    done = subprocess.run(
        [*browser, "--enable-logging=stderr", f"--window-size={width},900", *options, page.as_uri()],
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert "CONSOLE" not in done.stderr
    return done.stdout


def probed(tmp_path, page, width, probe):
    """What a script of the test's own finds on a page in a frame of that width: no window is under 500 wide."""
    text = page.read_text().replace("</body>", f"<script>{probe}</script></body>")
    outer = tmp_path / "outer.html"
    frame = f'<iframe srcdoc="{escape(text)}" style="width:{width}px;height:900px;border:0"></iframe>'
    outer.write_text(f"<!doctype html><head><title>none</title></head><body>{frame}")
    return json.loads(Page(browse(tmp_path, outer, 1500, "--dump-dom").split("</head>")[0]).text)


WITH_CHROMIUM = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine")
BEYOND = """
const beyond = one => one.getBoundingClientRect().right > innerWidth + 1;
const wide = [...document.querySelectorAll("body *")].filter(beyond).map(one => one.outerHTML.slice(0, 80));"""


@WITH_CHROMIUM
@pytest.mark.parametrize("width", [400, 1400])
def test_a_browser_reads_and_sorts_it_without_an_error(html, tmp_path, width):
    """A script of the test's own sorts by the number of rows, and hands over what it found as a title."""
    probe = f"""
    document.querySelectorAll("table.cards th button")[1].click();
    const cells = [...document.querySelector("table.cards").tBodies[0].rows].map(row => row.cells[1].textContent);
    {BEYOND}
    parent.document.title = JSON.stringify({{cells, wide, at: innerWidth}});"""
    found = probed(tmp_path, html, width, probe)
    assert found["at"] == width
    assert found["cells"] == ["12", "5", "5", "5"], "largest first"
    assert found["wide"] == [], "nothing is cut"


@WITH_CHROMIUM
@pytest.mark.parametrize(
    ("width", "name"), [(400, "a.html"), (1000, "a.html"), (1400, "a.html"), (400, "records.html")]
)
def test_long_names_run_off_no_page_and_no_figure_is_broken(long_names, tmp_path, width, name):
    """Every word of a column of figures stands on one line: a figure that ends in e- is another figure.

    The page of records, -o x.html, once was wider than a telephone, and a name there one letter wide."""
    probe = f"""
    const broken = [];
    for (const cell of document.querySelectorAll("td.n, pre")) {{
      const texts = document.createTreeWalker(cell, NodeFilter.SHOW_TEXT);
      while (texts.nextNode()) {{
        const node = texts.currentNode;
        for (const word of node.data.matchAll(/[^\\s\u00a0]+/g)) {{
          const range = document.createRange();
          range.setStart(node, word.index);
          range.setEnd(node, word.index + word[0].length);
          const lines = new Set([...range.getClientRects()].map(one => Math.round(one.top)));
          if (word[0].length < 30 && lines.size > 1) broken.push(word[0]);
        }}
      }}
    }}
    {BEYOND}
    parent.document.title = JSON.stringify({{wide, broken, at: innerWidth}});"""
    assert "e-0" in long_names.read_text()
    found = probed(tmp_path, long_names.with_name(name), width, probe)
    assert found == {"wide": [], "broken": [], "at": width}


@WITH_CHROMIUM
@pytest.mark.skipif(shutil.which("pdftotext") is None, reason="no pdftotext on this machine")
def test_every_sheet_of_paper_has_the_headings_of_its_table(long_names, tmp_path):
    browse(tmp_path, long_names, 1400, "--no-pdf-header-footer", f"--print-to-pdf={tmp_path / 'a.pdf'}")
    done = subprocess.run(["pdftotext", "-layout", tmp_path / "a.pdf", "-"], capture_output=True, text=True, check=True)
    with_changes = [sheet for sheet in done.stdout.split("\f") if re.search(r"±\s\d", sheet)]
    assert len(with_changes) > 1
    assert all("(refined)" in sheet for sheet in with_changes)
