"""The pictures: what is in them, that they are the same each time, and that they never cost a file."""

import re
import sys

import numpy as np
import pytest
from compare_cases import CLASSES, drawn, results, table

from influence_cli.artifacts.results import save_influence, save_truth
from influence_cli.cli import run
from influence_cli.errors import ExitCode, UsageError
from influence_cli.present import plots

pytest.importorskip("matplotlib")

MAGIC = {"png": b"\x89PNG", "svg": b"<?xml", "pdf": b"%PDF"}
SIZES = [group for size in (10, 50, 200, 600) for group in drawn(f"random:{size}", size, 6)]


@pytest.fixture(autouse=True)
def files(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name, groups in (("few", table(*SIZES[:12], *CLASSES)), ("many", table(*SIZES, *CLASSES))):
        save(name, groups)


def save(name, groups):
    """Files of estimates and truth; the truth."""
    estimates, truth = results(groups)
    save_influence(f"{name}-i.h5", estimates)
    save_truth(f"{name}-t.h5", truth)
    return truth


@pytest.fixture
def drawn_figures(monkeypatch):
    """The figures that were rendered."""
    seen = []
    rendered = plots.rendered
    monkeypatch.setattr(plots, "rendered", lambda figure, ending: (seen.append(figure), rendered(figure, ending))[1])
    return seen


def plot(*arguments, name="few"):
    base = ["compare", f"{name}-i.h5", f"{name}-t.h5", "--format", "csv", "--quiet", "--bootstrap", "50"]
    return run([*base, *arguments])


@pytest.mark.parametrize(("figure", "ending"), [("scatter", "png"), ("scatter", "pdf"), ("curve", "svg")])
def test_the_same_bytes_each_time(tmp_path, ending, figure):
    for name in ("a", "b"):
        assert plot("--plot", f"{name}.{ending}", "--figure", figure) == ExitCode.OK
    first, second = ((tmp_path / f"{name}.{ending}").read_bytes() for name in ("a", "b"))
    assert first == second
    assert first.startswith(MAGIC[ending])
    assert not re.search(rb"CreationDate|dc:date", first)


def test_scatter_has_a_panel_a_size(drawn_figures):
    assert plot("--plot", "a.png") == ExitCode.OK
    panels = [ax for ax in drawn_figures[0].axes if ax.get_title()]
    assert [ax.get_title() for ax in panels] == [
        "random, 1% of the rows",
        "random, 5% of the rows",
        "coherent, 9-9.9% of the rows",
    ]
    for ax in panels:
        assert ax.get_xlim() == ax.get_ylim()  # so that the line of agreement is the diagonal
        (line,) = ax.get_lines()
        assert (line.get_xdata() == line.get_ydata()).all()
        assert len(ax.collections) == 2
    assert len(panels[0].collections[0].get_offsets()) == 6 * 3


def test_the_axes_say_what_changes_and_what_its_sign_means(drawn_figures):
    assert plot("--plot", "a.png") == ExitCode.OK
    figure = drawn_figures[0]
    below, left = (label.replace("\n", " ") for label in (figure.get_supxlabel(), figure.get_supylabel()))
    assert below.startswith("estimated change of the loss if the group is removed ")
    assert "positive: the group helped this prediction; correlation: mean over 3 test rows" in below
    assert left == "actual change of the loss if the group is removed"


def test_no_label_is_cut_at_the_edge(drawn_figures):
    long = "change of the probability of the true class if the group is removed"
    cloud = plots.Cloud(np.array([0.1, 0.2]), np.array([0.1, 0.3]), 1.0)
    picture = plots.scatter({"one": {"refined": cloud}}, "png", change=long, note=f"positive: {long}", columns=1)
    assert picture.startswith(MAGIC["png"])
    figure = drawn_figures[0]
    figure.draw_without_rendering()
    whole = figure.bbox
    for label in (figure._supxlabel, figure._supylabel):
        box = label.get_window_extent()
        assert whole.x0 <= box.x0 <= box.x1 <= whole.x1 and whole.y0 <= box.y0 <= box.y1 <= whole.y1


def test_a_curve_needs_two_sizes(capsys):
    save("one", table(*SIZES[:6]))
    assert plot("--plot", "a.png", "--figure", "curve", name="one") == ExitCode.USAGE
    assert "no kind of group has two" in capsys.readouterr().err


def test_curve_has_a_panel_a_kind_and_a_line_a_method(drawn_figures):
    assert plot("--plot", "a.png", name="many") == ExitCode.OK
    random, coherent = drawn_figures[0].axes
    assert [random.get_title(), coherent.get_title()] == ["random groups", "coherent groups"]
    assert random.get_xscale() == coherent.get_xscale() == "log"
    lines = [line for line in random.get_lines() if line.get_marker() not in ("None", None, "")]
    assert len(lines) == 2
    np.testing.assert_allclose(lines[0].get_xdata(), [1, 5, 20, 60])
    assert [text.get_text() for text in random.get_xticklabels()] == ["1", "5", "20", "60"]
    assert len(random.collections) == 2  # the bands
    assert [text.get_text() for text in drawn_figures[0].legends[0].get_texts()] == ["first", "second"]
    assert "95% bootstrap interval" in drawn_figures[0].get_supxlabel()


def test_methods_differ_without_colour_too():
    names = ["first-koh", "first", "second", "second-full", "newton", "rif"]
    names += [name + plots.EXACT for name in names]
    looks = [plots._look(name) for name in names]
    assert len({(marker, hollow) for _, marker, hollow, _ in looks}) == len(names)
    assert len({(colour, hollow) for colour, _, hollow, _ in looks}) == len(names)
    assert plots._look("unheard-of") == plots._look("unheard-of")


def test_a_users_style_changes_nothing(tmp_path):
    import matplotlib

    assert plot("--plot", "a.svg") == ExitCode.OK
    with matplotlib.rc_context({"font.size": 30, "axes.facecolor": "red"}):
        assert plot("--plot", "b.svg") == ExitCode.OK
        assert matplotlib.rcParams["font.size"] == 30
    assert (tmp_path / "a.svg").read_bytes() == (tmp_path / "b.svg").read_bytes()


def test_an_existing_picture_needs_force(tmp_path, capsys):
    (tmp_path / "a.png").write_text("mine")
    assert plot("--plot", "a.png") == ExitCode.USAGE
    captured = capsys.readouterr()
    assert captured.err == "ginf: error: a.png exists already\nhint: --force replaces it\n"
    assert captured.out == ""
    assert (tmp_path / "a.png").read_text() == "mine"
    assert plot("--plot", "a.png", "--force") == ExitCode.OK
    assert (tmp_path / "a.png").read_bytes().startswith(MAGIC["png"])


def test_a_failure_leaves_nothing_behind(tmp_path, monkeypatch):
    before = sorted(tmp_path.iterdir())
    monkeypatch.setattr(plots, "rendered", lambda figure, ending: 1 / 0)
    assert plot("--plot", "a.png") == ExitCode.DEFECT
    assert sorted(tmp_path.iterdir()) == before


@pytest.mark.parametrize(("name", "found"), [("a.jpeg", "found .jpeg"), ("a", "found no ending"), ("a.", "found no")])
def test_unknown_endings(name, found, capsys):
    assert plot("--plot", name) == ExitCode.USAGE
    assert f"--plot {name}: expected a name ending in .png, .svg or .pdf, {found}" in capsys.readouterr().err


def test_a_missing_folder(capsys):
    assert plot("--plot", "nowhere/a.png") == ExitCode.FILE
    assert "there is no folder" in capsys.readouterr().err


def test_matplotlib_missing(monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    assert plot("--plot", "a.png") == ExitCode.USAGE
    expected = "ginf: error: --plot needs Matplotlib, which is not installed\nhint: pip install 'ginf[plot]'\n"
    assert capsys.readouterr().err == expected
    assert plot() == ExitCode.OK


def test_nothing_to_draw(capsys):
    truth = save("tiny", table(*SIZES[:2]))
    assert plot("--plot", "a.png", "--figure", "curve", name="tiny") == ExitCode.USAGE
    assert "there is no correlation to draw at any size\nhint: try --figure scatter" in capsys.readouterr().err
    assert plot("--plot", "a.png", name="tiny") == ExitCode.OK
    truth.actual[:] = np.nan
    save_truth("tiny-t.h5", truth, force=True)
    assert plot("--plot", "b.png", name="tiny") == ExitCode.USAGE
    assert "there is nothing to draw" in capsys.readouterr().err


def test_awkward_figures_are_drawn():
    same = plots.Cloud(np.zeros(3), np.zeros(3), None)
    assert plots.scatter({"one": {"first": same}}, "png", change="change", note="", columns=3)
    gap = plots.Line(np.array([5.0]), np.array([0.5]), np.array([np.nan]), np.array([np.nan]))
    assert plots.curve({"one": {"first": gap}}, "png", note="")
    beyond = plots.Line(np.array([5.0]), np.array([0.5]), np.array([0.6]), np.array([0.9]))
    assert plots.curve({"one": {"first": beyond}}, "png", note="")


def test_the_format_is_checked_before_matplotlib_is_looked_for(monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(UsageError, match="expected a name ending"):
        plots.check_plot("a.txt")


def test_the_points_farthest_from_agreement_are_named(drawn_figures):
    truth = np.array([0.0, 1.0, 2.0, 3.0, 4.0])
    names = tuple(f"site {at}" for at in range(5))
    clouds = {
        "first": plots.Cloud(truth + np.array([0.0, 0.9, 0.01, -0.5, 0.0]), truth, 0.9, names),
        "second": plots.Cloud(truth + np.array([0.0, 0.3, 0.01, 0.0, 0.0]), truth, 0.9, names),
    }
    plots.scatter({"one": clouds}, "png", change="change", note="", columns=1)
    (ax,) = (one for one in drawn_figures[0].axes if one.get_title())
    named = {text.get_text(): text.xy for text in ax.texts}
    assert named == {"site 1": (1.9, 1.0), "site 3": (2.5, 3.0)}


@pytest.mark.parametrize("columns", [1, 2])
def test_the_title_of_a_panel_stays_inside_the_picture(drawn_figures, columns):
    values = np.arange(4.0)
    cloud = {"first": plots.Cloud(values, values, 1.0)}
    long = "by Region,Plan of the contract, 1.9-17% of the rows"
    plots.scatter({"random, 5% of the rows": cloud, long: cloud}, "png", change="change", note="", columns=columns)
    figure = drawn_figures[0]
    figure.draw_without_rendering()
    for ax in figure.axes:
        box = ax.title.get_window_extent()
        assert figure.bbox.x0 <= box.x0 and box.x1 <= figure.bbox.x1


def test_names_beside_points_stay_apart_and_inside(drawn_figures, monkeypatch):
    """Identifiers without a space once drew the picture together to a strip, and were cut at its edges."""
    from matplotlib.text import Text

    count = 40
    columns = {
        "leverage": np.r_[np.linspace(0.01, 0.02, count - 4), 0.05, 0.05, 0.0501, 0.049],
        "studentized": np.r_[np.zeros(count - 4), 2.0, 2.01, 2.02, 1.99],
        "cooks_distance": np.r_[np.full(count - 4, 0.001), 0.5, 0.6, 0.7, 0.8],
        "group": [f"rows:{at}" for at in range(count)],
        "id": [f"customer-{'ABCDEFGHIJ' * 6}-{at:03d}" for at in range(count)],
    }
    from influence_cli.present import diagnostics

    monkeypatch.setattr(diagnostics, "rendered", plots.rendered)
    diagnostics.leverage_picture(columns, 3, count, "png")
    drawn_figures[0].draw_without_rendering()
    (ax,) = drawn_figures[0].axes
    assert ax.get_position().width > 0.7
    boxes = [Text.get_window_extent(text) for text in ax.texts]
    assert len(ax.texts) <= 5 and {text.get_text()[-3:] for text in ax.texts} >= {"036", "037", "038", "039"}
    frame = ax.get_window_extent()
    assert all(frame.x0 <= box.x0 and box.x1 <= frame.x1 for box in boxes)
    assert not any(one.overlaps(other) for at, one in enumerate(boxes) for other in boxes[:at])


@pytest.mark.parametrize("percent", [[1.0, 2.0], [1.0]])
def test_predicted_and_retrained_stand_on_one_axis(monkeypatch, percent):
    """On scales of their own they looked alike where a prediction was three times too short."""
    from influence_cli.present import plots_select

    seen = []
    monkeypatch.setattr(plots_select, "rendered", lambda figure, ending: seen.append(figure) or b"")
    sizes = np.array(percent)
    curve = plots_select.Curve(sizes, 1.1 * sizes, 3.6 * sizes, np.full(len(sizes), np.nan))
    plots_select.sizes({"test row 3": {"relinearize": curve}}, "png", change="change of the loss")
    (figure,) = seen
    (ax,) = figure.axes
    if len(percent) == 1:
        assert [bar.get_width() for bar in ax.patches] == [1.1, 3.6]
    else:
        drawn_lines = [np.asarray(line.get_ydata()).tolist() for line in ax.get_lines()][:2]
        assert drawn_lines == [[1.1, 2.2], [3.6, 7.2]]
    (legend,) = figure.legends
    assert [text.get_text() for text in legend.get_texts()][-2:] == ["predicted (second order)", "retrained"]


def test_curves_of_good_methods_are_told_apart_on_a_logarithmic_axis(drawn_figures):
    assert plot("--plot", "a.png", name="many") == ExitCode.OK
    assert plot("--plot", "b.png", "--log", name="many") == ExitCode.OK
    assert plot("--plot", "c.png", "--log", "--figure", "scatter", name="many") == ExitCode.USAGE
    (plain, *_), (logarithmic, *_) = (figure.axes for figure in drawn_figures)
    assert (plain.get_yscale(), logarithmic.get_yscale()) == ("linear", "log")
    first, second = (
        [line.get_ydata() for line in ax.get_lines() if line.get_marker() not in ("None", None, "")]
        for ax in (plain, logarithmic)
    )
    np.testing.assert_allclose(np.concatenate(second), 1.0 - np.concatenate(first), rtol=1e-9)
    assert "lower is better" in logarithmic.get_ylabel()
