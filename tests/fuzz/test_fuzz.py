"""A few seconds of every campaign; ``--fuzz-seconds`` gives more, and ``--fuzz-seed`` others.

``benchmarks/faults.py`` counts them in thousands, and docs/reliability.md has the table.  As there, campaigns share an
interpreter, and it is not this one: libraries that have started threads here do not survive the forks they live by.
"""

import itertools
import multiprocessing
import sys
from concurrent.futures import ProcessPoolExecutor

import pytest

from fuzz import campaigns, endings
from fuzz.harness import within

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="forks, and reads the usage of its children")


def numbers(seconds):
    """0, 1, 2, ... as long as there is time, one at least; the time begins with the first."""
    yield 0
    more = within(seconds)
    yield from itertools.takewhile(lambda _: more(), itertools.count(1))


def run(name, folder, seed, seconds):
    """One campaign, for as many seconds."""
    if name == "surroundings":
        return endings.surroundings(folder, seed, range(3))
    if name == "signals":
        endings.ALLOWED = 10.0  # where the suite runs, other things run too
        return endings.signals(folder, seed, numbers(seconds))
    if name in ("bytes", "edits", "signed"):
        return campaigns.artifacts(folder, seed, numbers(seconds), name)
    return getattr(campaigns, name)(folder, seed, numbers(seconds))


@pytest.fixture(scope="module")
def apart():
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        yield pool


@pytest.mark.parametrize("name", ["bytes", "edits", "signed", "data", "command_lines", "signals", "surroundings"])
def test_campaign(tmp_path, request, apart, name):
    seed, seconds = (float(request.config.getoption(option)) for option in ("--fuzz-seed", "--fuzz-seconds"))
    tally = apart.submit(run, name, tmp_path, int(seed), seconds / 6).result()
    assert not tally.found, f"seed {int(seed)}"
    assert tally.runs
