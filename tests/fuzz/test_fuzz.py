"""A few seconds of every campaign; ``--fuzz-seconds`` gives more, and ``--fuzz-seed`` others.

``benchmarks/faults.py`` counts them in thousands, and docs/reliability.md has the table.
"""

import itertools
import sys

import pytest

from fuzz import campaigns, endings
from fuzz.harness import within

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="forks, and reads the usage of its children")


@pytest.fixture
def seconds(request):
    return float(request.config.getoption("--fuzz-seconds")) / 6


@pytest.fixture
def seed(request):
    return int(request.config.getoption("--fuzz-seed"))


def numbers(seconds):
    """0, 1, 2, ... as long as there is time, one at least; the time begins with the first."""
    yield 0
    more = within(seconds)
    yield from itertools.takewhile(lambda _: more(), itertools.count(1))


@pytest.mark.parametrize("how", ["bytes", "edits", "signed"])
def test_mutants_of_artifacts(tmp_path, seed, seconds, how):
    tally = campaigns.artifacts(tmp_path, seed, numbers(seconds), how)
    assert not tally.found, f"seed {seed}"
    assert tally.runs


def test_mutants_of_data(tmp_path, seed, seconds):
    tally = campaigns.data(tmp_path, seed, numbers(seconds))
    assert not tally.found, f"seed {seed}"
    assert tally.runs


def test_command_lines(tmp_path, seed, seconds):
    tally = campaigns.command_lines(tmp_path, seed, numbers(seconds))
    assert not tally.found, f"seed {seed}"
    assert tally.runs


def test_signals(tmp_path, seed, seconds, monkeypatch):
    monkeypatch.setattr(endings, "ALLOWED", 10.0)  # where the suite runs, other things run too
    tally = endings.signals(tmp_path, seed, numbers(seconds))
    assert not tally.found, f"seed {seed}"
    assert tally.runs


def test_surroundings(tmp_path, seed):
    tally = endings.surroundings(tmp_path, seed, range(3))
    assert not tally.found, f"seed {seed}"
