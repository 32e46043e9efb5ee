"""The README's promises: its console blocks run, and what they print is what it shows."""

import json
import os
import re
import subprocess
from pathlib import Path

import pytest
from cli_tools import preloaded

README = Path(__file__).parent.parent / "README.md"
NUMBER = re.compile(r"[-+]?\d[\d,]*\.?\d*(?:e[-+]?\d+)?%?")


def console_blocks() -> list[str]:
    return re.findall(r"^```console\n(.*?)^```", README.read_text(encoding="utf-8"), flags=re.M | re.S)


def steps(block: str) -> list[tuple[str, str]]:
    """Commands (``$ ...``, continued by ``> ...``) and the output shown behind each."""
    found: list[tuple[str, str]] = []
    for line in block.splitlines():
        if line.startswith("$ "):
            found.append((line[2:], ""))
        elif line.startswith("> "):
            found[-1] = (found[-1][0] + "\n" + line[2:], "")
        else:
            found[-1] = (found[-1][0], found[-1][1] + line + "\n")
    return found


def words(text: str) -> list[str]:
    return NUMBER.sub("#", text).split()


def numbers(text: str) -> list[float]:
    return [float(number.replace(",", "").rstrip("%")) for number in NUMBER.findall(text)]


def test_every_command_appears():
    from influence_cli.cli import app

    commands = {command.name or command.callback.__name__ for command in app.registered_commands}
    text = README.read_text(encoding="utf-8")
    assert all(f"`ginf {command}`" in text for command in commands)


def test_the_first_answer_is_the_one_that_is_told(tmp_path, monkeypatch, capsys):
    from influence_cli.cli import run

    monkeypatch.chdir(tmp_path)
    assert run(["influence", "--group", "coherent:3", "--test", "17", "--format", "json", "--quiet"]) == 0
    (record,) = json.loads(capsys.readouterr().out)
    text = " ".join(README.read_text(encoding="utf-8").split())
    told = f"Without the {record['size']} 3s among the training rows its loss, {record['base']:.2f} now, would rise by"
    assert f"{told} {record['refined']:.1f}, give or take {record['error']:.2g}:" in text


def test_every_exit_code_appears():
    from influence_cli.errors import ExitCode

    line = re.search(r"\*\*Exit codes\*\*:(.*?)\n\n", README.read_text(encoding="utf-8"), flags=re.S).group(1)
    assert {int(code) for code in re.findall(r"(?:^|; ?|\n)\s*(\d+) ", line)} == {129, 143, *map(int, ExitCode)}


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("readme")
    launcher = folder / "bin" / "ginf"
    launcher.parent.mkdir()
    launcher.write_text(f'#!/bin/sh\nexec {" ".join(preloaded())} "$@"\n')
    launcher.chmod(0o755)
    (folder / "sample_data").symlink_to(README.parent / "sample_data")
    return folder


@pytest.mark.parametrize("number", range(len(console_blocks())))
def test_console_block(number, folder):
    """In order, in one folder: later blocks build on the files of earlier ones."""
    environment = {key: value for key, value in os.environ.items() if not key.startswith("GINF")}
    environment |= {"PATH": f"{folder / 'bin'}:{os.environ['PATH']}", "COLUMNS": "120"}
    for command, shown in steps(console_blocks()[number]):
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", command], cwd=folder, env=environment, capture_output=True, text=True
        )
        assert done.returncode == 0, f"{command}\n{done.stderr}"
        if shown.strip():
            assert words(done.stdout) == words(shown), f"{command} prints\n{done.stdout}"
            assert numbers(done.stdout) == pytest.approx(numbers(shown), rel=0.02, abs=1e-6), command
