"""Which way H x = b is solved: by memory, by time, and as asked for."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from influence_cli.core.solvers import choice, preconditioners
from influence_cli.core.solvers.choice import choose_solver
from influence_cli.errors import UsageError


@pytest.fixture
def machine(monkeypatch):
    def set_machine(memory: float, rate: float):
        monkeypatch.setattr(choice, "available_memory", lambda: memory)
        monkeypatch.setattr(choice, "_rate", lambda dtype: rate)

    return set_machine


PROBLEM: dict[str, Any] = {"size": 1000, "outputs": 10, "rows": 5000, "cached": False}
FACTOR_BYTES = 1000**2 * 8


def test_auto_takes_the_factor_where_it_is_cheap(machine):
    machine(memory=100 * FACTOR_BYTES, rate=1e9)
    chosen = choose_solver("auto", **PROBLEM)
    assert chosen.kind == "cholesky"
    assert "cheap" in chosen.reason
    assert FACTOR_BYTES < chosen.memory < 2 * FACTOR_BYTES
    # 55 blocks of 5000 x 100 x 100, and a third of 1000^3.
    assert chosen.seconds == pytest.approx((55 * 5000 * 100**2 + 1000**3 / 3) / 1e9)


def test_auto_takes_cg_where_memory_or_time_does_not_suffice(machine):
    machine(memory=2 * FACTOR_BYTES, rate=1e12)
    chosen = choose_solver("auto", **PROBLEM)
    assert (chosen.kind, "does not fit" in chosen.reason) == ("cg", True)
    machine(memory=100 * FACTOR_BYTES, rate=1e6)
    chosen = choose_solver("auto", **PROBLEM)
    assert (chosen.kind, "too long" in chosen.reason) == ("cg", True)


def test_a_cached_factor_is_taken_however_slow_its_making_was(machine):
    machine(memory=1.5 * FACTOR_BYTES, rate=1.0)
    chosen = choose_solver("auto", **{**PROBLEM, "cached": True})
    assert (chosen.kind, chosen.memory, chosen.seconds) == ("cholesky", FACTOR_BYTES, 0.0)
    assert "cached" in chosen.reason


def test_what_was_asked_for_is_chosen_unless_it_cannot_be(machine):
    machine(memory=2 * FACTOR_BYTES, rate=1.0)
    assert choose_solver("cholesky", **PROBLEM).kind == "cholesky"
    assert choose_solver("cg", **{**PROBLEM, "cached": True}).kind == "cg"
    machine(memory=0.5 * FACTOR_BYTES, rate=1.0)
    with pytest.raises(UsageError, match=r"1,000 parameters needs 12\.4 MB of memory and 4 MB are") as failure:
        choose_solver("cholesky", **PROBLEM)
    assert failure.value.hint == "use --solver cg"


@pytest.mark.parametrize("requested", ["auto", "cholesky", "cg"])
def test_work_that_does_not_fit_is_refused_before_it_starts(requested, machine):
    machine(memory=2e9, rate=1e12)
    assert choose_solver(requested, **PROBLEM, beside=1e9).kind == ("cg" if requested == "cg" else "cholesky")
    text = r"needs about 3 GB of memory beside the model, and 2 GB are available"
    with pytest.raises(UsageError, match=text) as failure:
        choose_solver(requested, **PROBLEM, beside=3e9)
    assert "fewer groups or fewer test rows at a time" in (failure.value.hint or "")


def test_what_the_work_takes_is_not_there_for_the_factor(machine):
    machine(memory=100 * FACTOR_BYTES, rate=1e12)
    assert choose_solver("auto", **PROBLEM, beside=99 * FACTOR_BYTES).kind == "cg"
    with pytest.raises(UsageError, match=r"needs 12\.4 MB of memory and 8 MB are available"):
        choose_solver("cholesky", **PROBLEM, beside=99 * FACTOR_BYTES)


def test_the_machine_is_measured_in_sane_units():
    assert choice.available_memory() > 1e7
    assert 1e7 < choice._rate(np.dtype(np.float64)) < 1e15
    assert preconditioners.kronecker_fits(10, 785, 60_000 * 784)
    assert not preconditioners.kronecker_fits(10, 100_000, 60_000 * 100_000)
    assert not preconditioners.kronecker_fits(1, 10_000, 20_000 * 100)
