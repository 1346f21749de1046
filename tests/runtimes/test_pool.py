"""Open sessions: opened once, closed when nobody needs them, never under a call."""

import threading
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from edge_embed_runtimes.engines.fake import FakeSession
from edge_embed_runtimes.errors import EngineError
from edge_embed_runtimes.run.pool import SessionPool

DEMI, SHORT, TALL = [(name, "onnx", "int8") for name in ("demi", "short", "tall")]
INPUT = np.ones((1, 3), dtype=np.int64)


class Opener:
    def __init__(self, seconds=0.0):
        self.opened, self.sessions, self._seconds = [], {}, seconds

    def __call__(self, graph):
        time.sleep(self._seconds)
        self.opened.append(graph)
        self.sessions[graph] = FakeSession()
        return self.sessions[graph]

    def is_closed(self, graph):
        try:
            self.sessions[graph].run(INPUT, INPUT)
        except EngineError:
            return True
        return False


def use(pool, graph):
    with pool.lease(graph) as session:
        return session


def test_a_graph_is_opened_once():
    opener = Opener(0.05)
    pool = SessionPool(opener)
    with ThreadPoolExecutor(8) as threads:
        found = set(threads.map(lambda _: use(pool, DEMI), range(32)))
    assert len(found) == 1 and opener.opened == [DEMI] and pool.is_open(DEMI)


def test_the_one_not_used_for_longest_is_closed():
    opener = Opener()
    pool = SessionPool(opener, keep=2)
    for graph in (DEMI, SHORT, DEMI, TALL):
        use(pool, graph)
    assert opener.is_closed(SHORT) and not opener.is_closed(DEMI) and not opener.is_closed(TALL)
    assert not pool.is_open(SHORT)
    use(pool, SHORT)
    assert opener.opened == [DEMI, SHORT, TALL, SHORT]


def test_nothing_in_use_is_closed():
    opener = Opener()
    pool = SessionPool(opener, keep=1)
    with pool.lease(DEMI) as session:
        use(pool, SHORT)
        pool.close()
        session.run(INPUT, INPUT)
        assert opener.is_closed(SHORT)
    assert opener.is_closed(DEMI)


def test_a_closed_pool_opens_nothing():
    opener = Opener()
    pool = SessionPool(opener)
    pool.close()
    pool.close()
    with pytest.raises(EngineError, match="closed"), pool.lease(DEMI):
        pass
    assert opener.opened == []


def test_a_graph_that_fails_to_open_may_be_tried_again():
    failing = [True]

    def opener(graph):
        if failing:
            failing.pop()
            raise EngineError("not now")
        return FakeSession()

    pool = SessionPool(opener)
    with pytest.raises(EngineError, match="not now"), pool.lease(DEMI):
        pass
    assert not pool.is_open(DEMI)
    use(pool, DEMI)


def test_opening_one_does_not_hold_up_another():
    held = threading.Event()

    def opener(graph):
        if graph == TALL:
            held.wait(10)
        return FakeSession()

    pool = SessionPool(opener)
    use(pool, DEMI)
    with ThreadPoolExecutor(1) as threads:
        slow = threads.submit(use, pool, TALL)
        began = time.perf_counter()
        use(pool, DEMI)
        assert time.perf_counter() - began < 5 and not slow.done()
        held.set()
        slow.result()
