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
    estimated, truth = names["estimated"].values["second"], names["truth"].actual
    assert np.corrcoef(estimated.ravel(), truth.ravel())[0, 1] > 0.9
    (command,) = re.findall(r"^ginf (train --from .*)$", text, flags=re.M)
    assert run([*shlex.split(command), "--quiet"]) == 0
    assert "model.skops" in capsys.readouterr().out
