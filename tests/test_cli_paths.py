"""No output replaces an input or another output, by whatever name; every number has a range."""

import os
import shutil

import pytest
from cli_tools import save_blobs, train

from influence_cli.cli import run
from influence_cli.errors import ExitCode


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    train(save_blobs(tmp_path / "b.npz"), tmp_path / "m.h5")
    (tmp_path / "rows.md").write_text("0\n1\n2\n")
    (tmp_path / "specs.md").write_text("rows:@rows.md\nrandom:5\n")
    os.link("rows.md", "hard.md")
    (tmp_path / "soft.h5").symlink_to("m.h5")
    return tmp_path


ASK = ["--model", "m.h5", "--test", "0"]


@pytest.mark.parametrize("command", ["influence", "groundtruth"])
@pytest.mark.parametrize(
    ("groups", "output"),
    [
        (["--group", "rows:@rows.md"], "rows.md"),
        (["--group", "rows:@rows.md"], "hard.md"),
        (["--group", "rows:@rows.md"], "./x/../rows.md"),
        (["--groups", "specs.md"], "specs.md"),
        (["--groups", "specs.md"], "rows.md"),
        (["--group", "random:5"], "m.h5"),
        (["--group", "random:5"], "soft.h5"),
    ],
)
def test_an_output_is_no_input(folder, capsys, command, groups, output):
    (folder / "x").mkdir()
    before = {path: path.read_bytes() for path in folder.iterdir() if path.is_file()}
    assert run([command, *ASK, *groups, "-o", output, "--force", "--quiet"]) == ExitCode.USAGE
    assert f"-o {output} would replace a file that this command reads" in capsys.readouterr().err
    assert {path: path.read_bytes() for path in before} == before


def test_select_within_a_file(folder, capsys):
    asked = ["select", *ASK, "--size", "2", "--within", "rows:@rows.md", "--force", "--quiet"]
    for option in ("-o", "--plot"):
        name = "rows.md" if option == "-o" else "rows.png"
        if option == "--plot":
            shutil.copy("rows.md", name)
            asked[asked.index("rows:@rows.md")] = "rows:@rows.png"
        assert run([*asked, option, name]) == ExitCode.USAGE
        assert f"{option} {name} would replace a file that this command reads" in capsys.readouterr().err


def test_two_outputs_are_two_files(folder, capsys):
    (folder / "s.h5").touch()
    os.link("s.h5", "hard.png")
    (folder / "soft.png").symlink_to("s.h5")
    for name in ("hard.png", "soft.png", "./hard.png"):
        asked = ["select", *ASK, "--size", "2", "--force", "--quiet", "-o", "s.h5", "--plot", name]
        assert run(asked) == ExitCode.USAGE
        assert f"-o s.h5 and --plot {name} are one file" in capsys.readouterr().err


def test_a_picture_is_no_artifact(folder, capsys):
    for command, name in (("influence", "i.h5"), ("groundtruth", "t.h5")):
        assert run([command, *ASK, "--group", "random:5x8", "-o", name, "--quiet"]) == 0
    (folder / "i.h5").rename("i.png")
    before = (folder / "i.png").read_bytes()
    capsys.readouterr()
    assert run(["compare", "i.png", "t.h5", "--plot", "i.png", "--force", "--quiet"]) == ExitCode.USAGE
    assert "--plot i.png would replace a file that this command reads" in capsys.readouterr().err
    assert (folder / "i.png").read_bytes() == before


def test_linked_data_is_an_input(folder, capsys):
    train("b.npz", folder / "l.h5", "--link-data")
    before = (folder / "b.npz").read_bytes()
    asked = ["influence", "--model", "l.h5", "--group", "random:5", "--test", "0", "-o", "b.npz", "--force", "--quiet"]
    assert run(asked) == ExitCode.USAGE
    assert run(["train", "--data", "b.npz", "-o", "b.npz", "--force", "--quiet"]) == ExitCode.USAGE
    assert (folder / "b.npz").read_bytes() == before


@pytest.mark.parametrize("number", [2**31, 2**63, 2**72])
@pytest.mark.parametrize("option", ["--threads", "--jobs", "--seed", "--rounds", "--bootstrap", "--draws", "--repeats"])
def test_every_number_has_a_range(folder, capsys, option, number):
    command = {"--rounds": "select", "--draws": "select", "--bootstrap": "compare"}.get(option, "groundtruth")
    rest = {"select": [*ASK, "--size", "2"], "compare": ["i.h5", "t.h5"]}.get(command, [*ASK, "--group", "random:5"])
    code = run([command, *rest, option, str(number), "--quiet"])
    assert code == (ExitCode.OK if option == "--seed" else ExitCode.USAGE)  # any whole number fixes the draws


def test_draws_have_one_too(folder, capsys):
    for spec in (
        f"random:5x{2**31}",
        f"random:5x{2**70}",
        f"random:{2**70}",
        f"cluster:{2**70}",
        f"neighbours:{2**70}:5",
    ):
        assert run(["influence", *ASK, "--group", spec, "--quiet"]) == ExitCode.USAGE
        assert "error: " in capsys.readouterr().err
