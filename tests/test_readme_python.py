"""The README's Python blocks run, one behind the other, and so do the commands between them."""

import re
import shlex
from pathlib import Path

import numpy as np
import pytest

from influence_cli.cli import run

README = Path(__file__).parent.parent / "README.md"


def test_python_blocks_and_the_model_that_they_bring(tmp_path, monkeypatch, capsys):
    pytest.importorskip("skops")
    text = README.read_text(encoding="utf-8")
    blocks = re.findall(r"^```python\n(.*?)^```", text, flags=re.M | re.S)
    monkeypatch.chdir(tmp_path)
    names: dict = {}
    for block in blocks:
        exec(compile(block, "README.md", "exec"), names)
    (printed,) = re.findall(r"^```text\n(.*?)^```", text, flags=re.M | re.S)
    assert capsys.readouterr().out == printed
    truth, frozen = names["truth"].actual, names["frozen"].actual
    assert np.allclose(names["estimated"].values["refined"], truth, rtol=0.05)
    assert (truth > 0.03).all() and (frozen < 0).all() and (frozen > -0.001).all()
    (command,) = re.findall(r"^ginf (train --from .*)$", text, flags=re.M)
    assert run([*shlex.split(command), "--quiet"]) == 0
    assert "model.skops" in capsys.readouterr().out
