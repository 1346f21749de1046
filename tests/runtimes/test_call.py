"""A call's batches: alone or several at once, on sessions that outlive a close."""

import threading
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from edge_embed_runtimes.engines.fake import FakeSession
from edge_embed_runtimes.errors import EngineError
from edge_embed_runtimes.run.call import Bulk, Call, Stopped
from edge_embed_runtimes.run.pool import SessionPool
from edge_embed_runtimes.tokenizer import pack

GRAPH = ("demi", "onnx", "int8")
IDS = [[number, number + 1, 7] for number in range(200)]
BATCHES = list(pack(IDS, pad_id=0, batch_texts=8))


class Watched(FakeSession):
    """Counts how many calls run at the same time, and fails at one text."""

    def __init__(self, fail_at=None):
        super().__init__(8)
        self.now = self.most = self.done = 0
        self._fail_at, self._lock = fail_at, threading.Lock()

    def run(self, input_ids, attention_mask):
        with self._lock:
            self.now += 1
            self.most = max(self.most, self.now)
        time.sleep(0.005)
        try:
            if self._fail_at in input_ids[:, 0]:
                raise EngineError("it fails here")
            return super().run(input_ids, attention_mask)
        finally:
            with self._lock:
                self.now -= 1
                self.done += 1


def bulk_of(session, streams=3):
    return Bulk(SessionPool(lambda _: session), streams, ThreadPoolExecutor(streams))


def alone():
    with Call(GRAPH, 8, SessionPool(lambda _: FakeSession(8)), None) as call:
        return call.run(BATCHES, len(IDS))


def test_many_batches_run_at_once_and_land_in_their_rows():
    session = Watched()
    with Call(GRAPH, 8, SessionPool(lambda _: pytest.fail("opened")), bulk_of(session)) as call:
        assert (call.run(BATCHES, len(IDS)) == alone()).all()
    assert session.most == 3


def test_few_batches_run_alone_and_are_told():
    told = []
    bulk = Bulk(SessionPool(lambda _: pytest.fail("opened")), 3, ThreadPoolExecutor(3))
    pool = SessionPool(lambda _: FakeSession(8))
    with Call(GRAPH, 8, pool, bulk, observe=lambda *one: told.append(one)) as call:
        call.run(BATCHES[:5], len(IDS))
    assert [batch for batch, _ in told] == BATCHES[:5] and all(seconds >= 0 for _, seconds in told)


def test_a_failure_ends_the_call_and_nothing_runs_on():
    session = Watched(fail_at=150)
    with pytest.raises(EngineError, match="it fails here"), Call(GRAPH, 8, None, bulk_of(session)) as call:
        call.run(BATCHES, len(IDS))
    assert session.now == 0 and session.done < len(BATCHES)


def test_a_call_that_is_stopped_stops():
    stop, session = threading.Event(), Watched()
    threading.Timer(0.02, stop.set).start()
    with pytest.raises(Stopped), Call(GRAPH, 8, None, bulk_of(session), stop=stop) as call:
        for _ in range(100):
            call.run(BATCHES, len(IDS))
    assert session.now == 0


def test_where_several_at_once_fail_one_runs_after_the_other(caplog):
    opened = []

    def broken(graph):
        opened.append(graph)
        raise EngineError("wrong vectors")

    bulk = Bulk(SessionPool(broken), 3, ThreadPoolExecutor(3))
    for _ in range(2):
        with Call(GRAPH, 8, SessionPool(lambda _: FakeSession(8)), bulk) as call:
            assert (call.run(BATCHES, len(IDS)) == alone()).all()
    assert opened == [GRAPH]
    (said,) = caplog.messages
    assert said == "demi onnx int8 runs a batch at a time: wrong vectors"


@pytest.mark.parametrize("many", [True, False])
def test_a_close_waits_for_the_end_of_the_call(many):
    session = Watched()
    pool = SessionPool(lambda _: session)
    bulk = Bulk(pool, 3, ThreadPoolExecutor(3)) if many else None
    with Call(GRAPH, 8, pool, bulk) as call:
        call.run(BATCHES, len(IDS))
        pool.close()
        assert (call.run(BATCHES[:3], len(IDS))[:5] == alone()[:5]).all()
    with pytest.raises(EngineError, match="closed"):
        session.run(np.ones((1, 1), np.int64), np.ones((1, 1), np.int64))
    with pytest.raises(EngineError, match="closed"), Call(GRAPH, 8, pool, bulk) as call:
        call.run(BATCHES, len(IDS))
