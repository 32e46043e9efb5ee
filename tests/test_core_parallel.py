"""Our own loops: every item once, threads as BLAS has them, and BLAS left as it was."""

import os
import threading
from concurrent.futures import Future, ThreadPoolExecutor
from time import sleep

import numpy as np
import pytest
from threadpoolctl import threadpool_info, threadpool_limits

from influence_cli.core import parallel
from influence_cli.core.parallel import alone_where_narrow, divided, spread, summed, thread_count


def blas_threads() -> set[int]:
    return {pool["num_threads"] for pool in threadpool_info() if pool["user_api"] == "blas"}


@pytest.mark.parametrize("threads", [1, 2, 3])
def test_every_item_once_and_blas_is_left_as_it_was(threads):
    done, inside, workers = [], [], set()
    gate = threading.Barrier(threads, timeout=20)

    def work(item):
        gate.wait()  # opens only when as many items are under way at once
        inside.append(blas_threads())
        workers.add(threading.get_ident())
        done.append(item)

    with threadpool_limits(threads, user_api="blas"):
        spread(work, range(4 * threads))
        assert blas_threads() == {threads}
    assert sorted(done) == list(range(4 * threads))
    assert len(workers) == threads
    assert all(seen == {1} for seen in inside)


def test_a_loop_inside_of_another_runs_on_its_own_thread():
    table = np.zeros((4, 5), dtype=int)
    homes = [set() for _ in range(4)]

    def outer(row):
        home = threading.get_ident()

        def inner(column):
            table[row, column] += 1
            homes[row].add(threading.get_ident() == home)

        spread(inner, range(5))

    with threadpool_limits(2, user_api="blas"):
        spread(outer, range(4))
        assert blas_threads() == {2}
    assert (table == 1).all()
    assert homes == [{True}] * 4


def test_blas_is_left_alone_where_another_thread_may_set_it_too():
    seen = []
    narrow = alone_where_narrow(lambda: 1)(lambda: seen.append(blas_threads()))
    with threadpool_limits(2, user_api="blas"), ThreadPoolExecutor(1) as pool:
        pool.submit(narrow).result()
        pool.submit(spread, lambda item: seen.append(blas_threads()), range(1)).result()
        narrow()
    assert seen == [{2}, {2}, {1}]


def test_a_failure_is_raised_and_leaves_blas_as_it_was():
    def work(item):
        if item == 3:
            raise ValueError("item 3")

    with threadpool_limits(2, user_api="blas"):
        with pytest.raises(ValueError, match="item 3"):
            spread(work, range(10))
        assert blas_threads() == {2}


@pytest.mark.parametrize(("count", "spans"), [(0, 1), (1, 1), (7, 7), (100, parallel.SPANS)])
def test_a_sum_has_the_same_bits_on_any_number_of_threads(count, spans):
    items = np.random.default_rng(0).normal(size=(count, 4)) * 10.0 ** np.arange(4)
    found = []

    def add(span, out):
        seen.append(len(span))
        for item in span:
            sleep(1e-3 * (len(seen) % 3))  # ends in another order than it began
            out += item

    for threads in (1, 2, 3):
        seen = []
        with threadpool_limits(threads, user_api="blas"):
            found.append(summed(add, items, (4,)))
        assert (len(seen), sum(seen)) == (spans, count)
    np.testing.assert_allclose(found[0], items.sum(axis=0), rtol=1e-13)
    assert found[0].tobytes() == found[1].tobytes() == found[2].tobytes()


def test_a_partial_sum_that_costs_more_than_the_work_is_not_made():
    spans = []
    total = summed(lambda span, out: spans.append(len(span)), np.zeros(100), (1000,), operations=1000.0 * 64 * 3)
    assert (len(spans), sum(spans), total.shape) == (3, 100, (1000,))


def test_little_work_is_done_on_the_spot():
    homes = set()

    def work(item):
        homes.add(threading.get_ident())

    def add(span, out):
        homes.add(threading.get_ident())
        out += len(span)

    with threadpool_limits(2, user_api="blas"):
        spread(work, range(5), operations=0.9e6)
        assert summed(add, range(5), (1,), operations=0.9e6) == 5
    assert homes == {threading.get_ident()}


def test_a_helper_that_gets_no_processor_is_not_waited_for(monkeypatch):
    class Idle:
        def submit(self, *work):
            return Future()  # for ever pending

    monkeypatch.setattr(parallel._process, "_helpers", Idle(), raising=False)
    done = []
    with threadpool_limits(3, user_api="blas"):
        spread(done.append, range(10))
    assert done == list(range(10))


def test_loops_in_several_threads_leave_blas_as_it_was():
    gate, homes = threading.Barrier(2, timeout=20), []

    def loop(rounds):
        home = threading.get_ident()

        def work(item):
            if item == 0:
                gate.wait()
            homes.append((home, threading.get_ident()))

        for _ in range(rounds):
            spread(work, range(4))

    with threadpool_limits(2, user_api="blas"):
        other = threading.Thread(target=loop, args=(20,))
        other.start()
        loop(20)
        other.join()
        assert blas_threads() == {2}
    assert {home for caller, home in homes if caller == other.ident} == {other.ident}
    assert len(homes) == 160


def test_jobs_have_their_share_and_blas_is_left_as_it_was():
    gate, seen, homes = threading.Barrier(2, timeout=20), [], set()

    def job(number):
        gate.wait()
        seen.append((thread_count(), blas_threads()))
        pair = threading.Barrier(2, timeout=20)

        def work(item):
            pair.wait()  # opens only when two threads of the job are under way at once
            homes.add(threading.get_ident())

        spread(work, range(4))

    with threadpool_limits(4, user_api="blas"):
        with divided(2) as begin, ThreadPoolExecutor(2, initializer=begin) as pool:
            list(pool.map(job, range(2)))
        assert blas_threads() == {4}
        assert thread_count() == 4
    assert seen == [(2, {1})] * 2
    assert len(homes) >= 3


def test_an_interrupt_ends_the_helpers_before_it_is_raised():
    begun, ended, gate = [], [], threading.Barrier(2, timeout=20)

    def work(item):
        begun.append(item)
        if len(begun) <= 2:
            gate.wait()
        if threading.current_thread() is threading.main_thread():
            raise KeyboardInterrupt
        sleep(0.05)
        ended.append(item)

    with threadpool_limits(2, user_api="blas"), pytest.raises(KeyboardInterrupt):
        spread(work, range(1000))
    count = len(ended)
    sleep(0.2)
    assert len(ended) == count < 10


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_forked_process_has_helpers_of_its_own():
    with threadpool_limits(2, user_api="blas"):
        spread(lambda item: None, range(4))
        child = os.fork()
        if not child:
            done = []
            spread(done.append, range(100))
            os._exit(len(done))
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 100


def test_a_narrow_model_has_blas_held_between_loops_too_and_a_wide_one_has_not():
    def look(size):
        return thread_count(), blas_threads()

    with threadpool_limits(3, user_api="blas"):
        assert alone_where_narrow(lambda size: size)(look)(parallel.NARROW) == (3, {1})
        assert alone_where_narrow(lambda size: size)(look)(parallel.NARROW + 1) == (3, {3})
        assert (thread_count(), blas_threads()) == (3, {3})


def test_loops_of_a_narrow_model_still_have_all_threads():
    gate = threading.Barrier(3, timeout=20)

    def run(size):
        spread(lambda item: gate.wait(), range(3))  # ends only on three threads
        with divided(3) as begin, ThreadPoolExecutor(3, initializer=begin) as pool:
            return list(pool.map(lambda _: thread_count(), range(3)))

    with threadpool_limits(3, user_api="blas"):
        assert alone_where_narrow(lambda size: size)(run)(1) == [1, 1, 1]
        assert blas_threads() == {3}


def test_sums_that_wait_for_their_turn_take_bounded_memory(monkeypatch):
    """While the first span takes long, the others' sums wait, and no more of them are begun than may."""
    monkeypatch.setattr(parallel, "WAITING_BYTES", 3 * 8000)
    begun, seen = [], []

    def add(span, out):
        begun.append(span[0])
        if span[0] == 0:
            sleep(0.3)
            seen.append(len(begun))
        out += span[0]

    with threadpool_limits(3, user_api="blas"):
        found = summed(add, range(32), (1000,), operations=1e9)
    np.testing.assert_array_equal(found, np.full(1000, 31.0 * 32 / 2))
    assert seen[0] <= 1 + 3 + 2  # the first, those that wait, and one in the hands of each other thread


def test_a_sum_that_fails_keeps_nobody_waiting(monkeypatch):
    monkeypatch.setattr(parallel, "WAITING_BYTES", 1)

    def add(span, out):
        if span[0] == 0:
            sleep(0.1)
            raise ValueError("no first part")

    with threadpool_limits(3, user_api="blas"), pytest.raises(ValueError, match="no first part"):
        summed(add, range(32), (1000,), operations=1e9)
