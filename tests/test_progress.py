"""Progress where nobody watches: a line now and then in the log of a long run, and none in that of a short one."""

from __future__ import annotations

import pytest

from influence_cli.present import progress as module
from influence_cli.present.progress import LOG_SECONDS, progress


@pytest.fixture
def clock(monkeypatch):
    now = [1000.0]
    monkeypatch.setattr(module.time, "monotonic", lambda: now[0])
    return now


def test_a_long_run_says_how_far_it_is(clock, capsys):
    with progress("retraining", 4000, quiet=False, color=False) as advance:
        for _ in range(4):
            clock[0] += LOG_SECONDS * 0.75
            advance(250)
    assert capsys.readouterr().err.splitlines() == [
        "ginf: retraining: 500 of 4,000 done, about 5 min left",
        "ginf: retraining: 1,000 of 4,000 done, about 4 min left",
    ]


def test_without_a_total_it_says_how_much_is_done(clock, capsys):
    with progress("retrained", None, quiet=False, color=False) as advance:
        clock[0] += LOG_SECONDS
        advance(7)
    assert capsys.readouterr().err == "ginf: retrained: 7 done\n"


@pytest.mark.parametrize(("seconds", "quiet"), [(LOG_SECONDS / 2, False), (10 * LOG_SECONDS, True)])
def test_short_and_quiet_runs_say_nothing(clock, capsys, seconds, quiet):
    with progress("retraining", 2, quiet=quiet, color=False) as advance:
        clock[0] += seconds
        advance(1)
    assert capsys.readouterr().err == ""
