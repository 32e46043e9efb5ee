"""Work done ahead of where it is asked for: its order, its errors, and how much of it there is at once."""

from __future__ import annotations

import threading
from contextvars import ContextVar

import pytest

from influence_cli.data.ahead import ahead
from influence_cli.memory import limited

depth: ContextVar[int] = ContextVar("depth", default=0)


def test_results_come_in_the_order_of_their_items_and_no_more_are_begun_than_allowed():
    begun, given, lock = [0], [0], threading.Lock()
    most = []
    first_may_end = threading.Event()

    def work(item):
        with lock:
            begun[0] += 1
            most.append(begun[0] - given[0])
        if item == 0:
            assert first_may_end.wait(10)  # the second one is done before the first
        elif item == 1:
            first_may_end.set()
        return item, depth.get()

    token = depth.set(7)
    found = []
    for result in ahead(work, range(20), threads=2):
        found.append(result)
        with lock:
            given[0] += 1
    depth.reset(token)
    assert found == [(item, 7) for item in range(20)]
    assert max(most) <= 4  # two that wait or are worked on, one that is being given, one that is asked for


def test_an_error_is_raised_in_the_turn_of_its_item():
    def work(item):
        if item == 3:
            raise ValueError("the third")
        return item

    found = []
    with pytest.raises(ValueError, match="the third"):
        for result in ahead(work, range(9), threads=3):
            found.append(result)
    assert found == [0, 1, 2]
    assert list(ahead(work, [], threads=3)) == []


def test_little_memory_lets_few_work_at_once(monkeypatch):
    monkeypatch.setattr("influence_cli.data.ahead.THREADS", 4)
    for allowed, expected in ((None, 4), (400e6, 2), (100e6, 1)):
        asked = []
        with limited(allowed):
            first = next(ahead(lambda item: item, (asked.append(item) or item for item in range(9))))
        assert first == 0 and len(asked) == expected + 1
