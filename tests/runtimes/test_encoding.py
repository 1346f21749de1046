"""What an embedder makes of texts: documents and queries, types, long texts, streams, coroutines."""

import asyncio
import threading
import time
import warnings
from dataclasses import replace

import numpy as np
import pytest

from edge_embed_runtimes.bundle import Bundle
from edge_embed_runtimes.choose.policy import Budget, Option
from edge_embed_runtimes.embedder import Embedder
from edge_embed_runtimes.engines.fake import FakeSession
from edge_embed_runtimes.errors import EngineError, LadderError, NoTierFits, SpaceMismatch, TextError, VectorError
from edge_embed_runtimes.index.outputs import DTYPES, unit_length
from edge_embed_runtimes.index.vectors import VectorSet
from edge_embed_runtimes.run.pool import SessionPool
from edge_embed_runtimes.run.runner import Runner
from edge_embed_runtimes.run.setup import Setup
from edge_embed_runtimes.tiers import parse_ladder
from edge_embed_runtimes.tokenizer import TextCut, Tokenizer

LADDER = parse_ladder("1x8,2x16,3x32")
DEMI, SHORT, TALL = LADDER
TEXTS = ["a bicycle leans on the wall.", "", "the wall", "a"]
LONG = "a wall " * 20
CROSS = {
    "demi": {"demi": 0.6, "short": 0.5, "tall": 0.4},
    "short": {"demi": 0.55, "short": 0.7, "tall": 0.6},
    "tall": {"demi": 0.5, "short": 0.65, "tall": 0.8},
}


@pytest.fixture
def embedder(wordpiece, bundle_folder, make_cost):
    """Makes embedders over fake sessions; `cross` is what the passport says."""

    def make(budget=None, *, cross=CROSS, sessions=None, **change):
        options = [
            Option(tier, "onnx", "int8", 0.5 + tier.layers / 10, make_cost(tier.name, ms=tier.layers))
            for tier in LADDER
        ]
        opener = sessions or (lambda graph: FakeSession(LADDER.find(graph[0]).dim))
        setup = Setup(options, None, SessionPool(opener), SessionPool(opener))
        manifest = Bundle(bundle_folder).manifest
        manifest = replace(manifest, passport=replace(manifest.passport, cross=cross), **change)
        runner = Runner(setup.pool, budget or Budget())
        return Embedder(setup, runner, Tokenizer(wordpiece, max_tokens=16), manifest)

    return make


def test_documents_know_their_tier_and_space(embedder):
    one = embedder()
    found = one.encode_documents(TEXTS)
    assert (found.tier, found.space, found.dim, found.dtype) == (TALL, "s1", 32, "float32")
    assert (found.values == one.encode(TEXTS)).all()
    named = one.encode_documents(TEXTS, tier="demi")
    assert named.tier == DEMI and named.values.shape == (4, 8)
    assert one.encode_documents([], tier=SHORT).values.shape == (0, 16)
    with pytest.raises(LadderError):
        one.encode_documents(TEXTS, tier="venti")


@pytest.mark.parametrize("dtype", DTYPES)
def test_every_type(embedder, dtype):
    one = embedder()
    values, documents = one.encode(TEXTS, dtype=dtype), one.encode_documents(TEXTS, dtype=dtype)
    assert (values == documents.values).all() and documents.dtype == dtype
    least = {"bits": 0.6, "int8": 0.999}.get(dtype, 0.99999)
    assert (documents.floats() * one.encode(TEXTS)).sum(1).min() > least


def test_int8_comes_with_the_ranges_of_the_bundle(embedder):
    ranges = {tier.name: (0.25,) * tier.dim for tier in LADDER}
    documents = embedder(ranges=ranges).encode_documents(TEXTS, dtype="int8")
    assert (documents.ranges == 0.25).all()


def test_an_unknown_type_is_refused_before_anything_runs(embedder):
    with pytest.raises(VectorError, match="allowed are float32, float16, int8, bits"):
        embedder().encode(TEXTS, dtype="int4")


@pytest.mark.parametrize(
    ("budget", "documents", "tier"),
    [
        (Budget(), TALL, "tall"),
        (Budget(), DEMI, "demi"),
        (Budget(latency_ms=2), TALL, "short"),
        (Budget(latency_ms=1), TALL, "demi"),
        (Budget(latency_ms=2, min_quality=0.55), TALL, "short"),
    ],
)
def test_queries_are_of_the_tier_that_finds_that_index_best(embedder, budget, documents, tier):
    one = embedder(budget)
    index = one.encode_documents(TEXTS, tier=documents)
    for against in (index, documents, documents.name):
        queries = one.encode_queries(["a wall"], against=against)
        assert queries.tier.name == tier
        assert queries.dim == min(documents.dim, LADDER.find(tier).dim)
        assert np.linalg.norm(queries.values) == pytest.approx(1, abs=1e-5)
        assert index.similarity(queries).shape == (1, 4)


def test_the_floor_of_a_budget_is_kept_across_tiers(embedder):
    one = embedder(Budget(latency_ms=1, min_quality=0.55))
    assert one.choice.tier == DEMI
    with pytest.raises(NoTierFits, match=r"demi 1x8 .*score 0\.400 is under 0\.55"):
        one.encode_queries(["a"], against=TALL)


def test_an_index_cut_down_is_searched_over_what_is_left(embedder):
    one = embedder()
    index = one.encode_documents(TEXTS).shrink(DEMI)
    queries = one.encode_queries(["a wall"], against=index)
    assert (queries.tier, queries.dim) == (TALL, 8)
    assert (queries.values == unit_length(one.encode(["a wall"])[:, :8])).all()


def test_without_cross_scores_queries_are_no_larger_than_the_index(embedder):
    one = embedder(cross={})
    assert one.encode_queries(["a"], against=SHORT).tier == SHORT


def test_an_index_of_another_space_is_refused(embedder):
    one = embedder()
    foreign = VectorSet(one.encode(TEXTS), TALL, "s2", 32)
    with pytest.raises(SpaceMismatch, match="'s2' can't be searched with queries of 's1'"):
        one.encode_queries(["a"], against=foreign)


def test_long_texts_are_cut_and_counted_once_a_call(embedder):
    one = embedder()
    with pytest.warns(TextCut, match="2 of 3 texts") as caught:
        one.encode([LONG, "a", LONG])
    assert len(caught) == 1 and caught[0].filename == __file__
    with pytest.warns(TextCut) as caught:
        one.encode_queries([LONG], against="tall")
    assert caught[0].filename == __file__ and one.texts_cut == 3


def test_long_texts_may_be_an_error(embedder):
    with pytest.raises(TextError, match="item 1 is longer than the 16 tokens"):
        embedder().encode(["a", LONG], long_texts="error")
    with pytest.raises(TextError, match="allowed are truncate, error, split"):
        embedder().encode(["a"], long_texts="cut")


def test_long_texts_may_be_split_into_windows(embedder):
    one = embedder()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = one.encode(["a", LONG, "the wall"], long_texts="split")
    assert (found[[0, 2]] == one.encode(["a", "the wall"])).all()
    windows = ["a wall " * 7, "a wall " * 7, "a wall " * 6]
    expected = unit_length((one.encode(windows) * [[16], [16], [14]]).sum(0, keepdims=True))
    assert found[1] == pytest.approx(expected[0], abs=1e-6)


def test_a_stream_is_read_as_it_goes(embedder):
    one, read = embedder(), []

    def source():
        for number in range(25):
            read.append(number)
            yield TEXTS[number % 4]

    parts = one.stream(source(), chunk_texts=10)
    first = next(parts)
    assert first.shape == (10, 32) and len(read) == 10
    whole = np.concatenate([first, *parts])
    assert (whole == one.encode([TEXTS[number % 4] for number in range(25)])).all()
    assert list(one.stream([])) == []


def test_a_stream_stays_with_its_tier(embedder):
    one = embedder(Budget(min_quality=0.55))
    parts = one.stream(["a"] * 30, chunk_texts=10)
    assert next(parts).shape == (10, 32)
    one._track.running = replace(one.choice, tier=DEMI)
    assert next(parts).shape == (10, 32)


@pytest.mark.parametrize(("texts", "more"), [("one text", {}), (["a", 5], {}), (["a"], {"chunk_texts": 0})])
def test_a_bad_stream_is_refused(embedder, texts, more):
    with pytest.raises(TextError):
        list(embedder().stream(texts, **more))


class SlowSession(FakeSession):
    def __init__(self, dim, calls):
        super().__init__(dim)
        self._calls = calls

    def run(self, *arrays):
        self._calls.append(time.perf_counter())
        time.sleep(0.05)
        return super().run(*arrays)


def test_a_coroutine_leaves_the_loop_free(embedder):
    one = embedder(sessions=lambda graph: SlowSession(LADDER.find(graph[0]).dim, []))
    ticks = []

    async def tick():
        while True:
            ticks.append(1)
            await asyncio.sleep(0.005)

    async def main():
        ticking = asyncio.create_task(tick())
        found = await one.aencode(TEXTS * 64)
        ticking.cancel()
        return found

    assert (asyncio.run(main()) == one.encode(TEXTS * 64)).all()
    assert len(ticks) > 10


def test_a_cancelled_coroutine_stops_working(embedder):
    calls = []
    one = embedder(sessions=lambda graph: SlowSession(LADDER.find(graph[0]).dim, calls))

    async def main():
        work = asyncio.create_task(one.aencode(["a"] * 64 * 100))
        await asyncio.sleep(0.12)
        work.cancel()
        with pytest.raises(asyncio.CancelledError):
            await work

    asyncio.run(main())  # which waits for the threads it started
    done = len(calls)
    assert 1 <= done < 20
    time.sleep(0.12)
    assert len(calls) == done


def test_closing_lets_a_call_end(embedder):
    calls = []
    one = embedder(sessions=lambda graph: SlowSession(LADDER.find(graph[0]).dim, calls))
    found = []
    thread = threading.Thread(target=lambda: found.append(one.encode(["a"] * 64 * 4)))
    thread.start()
    while not calls:
        time.sleep(0.001)
    one.close()
    thread.join()
    assert found[0].shape == (256, 32)


def test_a_closed_one_says_so_everywhere(embedder):
    one = embedder()
    one.close()
    for use in (
        lambda: one.encode(["a"]),
        lambda: one.encode_documents(["a"]),
        lambda: one.encode_queries(["a"], against="tall"),
        lambda: list(one.stream(["a"])),
        lambda: asyncio.run(one.aencode(["a"])),
        one.reconsider,
    ):
        with pytest.raises(EngineError, match="this embedder is closed: open the bundle again"):
            use()
