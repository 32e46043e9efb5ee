"""Our own loops: every item once, threads as BLAS has them, and BLAS left as it was."""

import threading

import numpy as np
import pytest
from threadpoolctl import threadpool_info, threadpool_limits

from influence_cli.core.parallel import spread, summed


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


def test_a_failure_is_raised_and_leaves_blas_as_it_was():
    def work(item):
        if item == 3:
            raise ValueError("item 3")

    with threadpool_limits(2, user_api="blas"):
        with pytest.raises(ValueError, match="item 3"):
            spread(work, range(10))
        assert blas_threads() == {2}


@pytest.mark.parametrize(("threads", "count"), [(1, 7), (2, 7), (3, 2), (2, 1), (2, 0)])
def test_a_sum_over_spans_is_the_sum_over_all_items(threads, count):
    items, spans = np.random.default_rng(0).normal(size=(count, 4)), []

    def add(span, out):
        spans.append(len(span))
        for item in span:
            out += item

    with threadpool_limits(threads, user_api="blas"):
        total = summed(add, items, (4,))
    np.testing.assert_allclose(total, items.sum(axis=0), rtol=1e-13)
    assert len(spans) == max(1, min(threads, count))
    assert sum(spans) == count


def test_little_work_is_done_on_the_spot():
    homes = set()

    def work(item):
        homes.add(threading.get_ident())

    def add(span, out):
        homes.add(threading.get_ident())
        out += len(span)

    with threadpool_limits(2, user_api="blas"):
        spread(work, range(5), operations=1e6)
        assert summed(add, range(5), (1,), operations=1e6) == 5
    assert homes == {threading.get_ident()}
