"""An embedder over time: tiers that take over, engines that are put aside, what apps are told."""

import os
import shutil
import threading
import time

import numpy as np
import pytest

from edge_embed_runtimes.bundle import Bundle
from edge_embed_runtimes.choose.governor import DWELL_S
from edge_embed_runtimes.choose.policy import Budget, Option
from edge_embed_runtimes.device.probe import PowerState
from edge_embed_runtimes.embedder import Embedder
from edge_embed_runtimes.engines.fake import FakeSession
from edge_embed_runtimes.errors import BundleDamaged, EngineError
from edge_embed_runtimes.run import setup
from edge_embed_runtimes.run.pool import SessionPool
from edge_embed_runtimes.run.runner import Runner
from edge_embed_runtimes.run.setup import Setup
from edge_embed_runtimes.tiers import parse_ladder
from edge_embed_runtimes.tokenizer import Tokenizer

LADDER = parse_ladder("1x8,2x16,3x32")
MAINS, BATTERY = PowerState("mains"), PowerState("battery", 40.0)
THRIFT = Budget(min_quality=0.55)


class FakeProfile:
    """Says that every call takes a millisecond."""

    def expected_ms(self, graph, *, tokens, batch):
        return 1.0


class World:
    """A clock, a power state, and sessions that take as long as they are told."""

    def __init__(self):
        self.now, self.power, self.told, self.refused, self.seconds = 0.0, MAINS, [], set(), 0.0
        self.held = threading.Event()
        self.held.set()

    def open(self, graph):
        self.held.wait(10)
        if graph[0] in self.refused:
            raise EngineError(f"no {graph[0]} today")
        session = FakeSession(LADDER.find(graph[0]).dim)
        run = session.run

        def slow(*arrays):
            time.sleep(self.seconds)
            return run(*arrays)

        session.run = slow
        return session


@pytest.fixture
def world():
    return World()


@pytest.fixture
def embedder(world, wordpiece, bundle_folder, make_cost):
    def make(budget=THRIFT, **more):
        options = [
            Option(
                tier,
                "onnx",
                "int8",
                0.5 + tier.layers / 10,
                make_cost(tier.name, ms=tier.layers, energy_mj=tier.layers),
            )
            for tier in LADDER
        ]
        setup = Setup(options, None, SessionPool(world.open), SessionPool(world.open))
        runner = Runner(
            setup.pool, budget, profile=FakeProfile(), power=lambda: world.power, clock=lambda: world.now,
            on_choice=world.told.append, **more,
        )  # fmt: skip
        return Embedder(setup, runner, Tokenizer(wordpiece, max_tokens=16), Bundle(bundle_folder).manifest)

    return make


def until(condition):
    for _ in range(500):
        if condition():
            return
        time.sleep(0.01)
    pytest.fail("it never came")


def test_the_battery_takes_over_between_two_calls(world, embedder):
    one = embedder()
    assert one.encode(["a"]).shape == (1, 32)
    world.power, world.now = BATTERY, DWELL_S
    world.held.clear()
    assert one.encode(["a"]).shape == (1, 32), "the smaller tier is loading, the larger one goes on"
    world.held.set()
    until(lambda: one.choice.tier.name == "demi")
    assert one.encode(["a"]).shape == (1, 8) and one.dim == 8
    assert [choice.tier.name for choice in world.told] == ["demi"]
    world.power, world.now = MAINS, 3 * DWELL_S
    assert one.encode(["a"]).shape == (1, 32), "it is still open"


def test_the_device_is_looked_at_once_a_second_at_most(world, embedder):
    one = embedder()
    looks = []
    one._runner._power = lambda: looks.append(world.now) or MAINS
    for _ in range(100):
        world.now += 0.1
        one.encode(["a"])
    assert 8 <= len(looks) <= 11


def test_an_app_that_knows_asks_and_waits(world, embedder):
    one = embedder(dwell_s=0.0)
    assert one.reconsider(BATTERY).tier.name == "demi" == one.choice.tier.name
    one.encode(["a"])
    assert one.choice.tier.name == "demi", "what the app said holds"
    assert one.reconsider().tier.name == "tall"


def test_one_that_does_not_adapt_keeps_its_tier(world, embedder):
    one = embedder(adapt=False)
    world.power, world.now = BATTERY, 1000.0
    assert one.encode(["a"]).shape == (1, 32)


def test_slow_calls_move_down_and_recover(world, embedder):
    one = embedder(Budget(latency_ms=3.5))
    world.seconds = 0.003
    for _ in range(12):
        one.encode(["a"])
    world.now = DWELL_S
    one.encode(["a"])
    until(lambda: one.choice.tier.name == "short")
    world.seconds = 0.0
    for _ in range(16):
        one.encode(["a"])
    world.now = 2 * DWELL_S
    one.encode(["a"])
    until(lambda: one.choice.tier.name == "tall")


def test_a_graph_that_can_not_run_is_put_aside_with_its_reason(world, embedder, caplog):
    world.refused = {"tall"}
    one = embedder()
    assert one.choice.tier.name == "short"
    assert (LADDER.find("tall"), "can't run here: no tall today") in one.choice.passed_over
    assert "tall onnx int8 is put aside: no tall today" in caplog.text


def test_where_nothing_runs_the_first_reason_is_told(world, embedder):
    world.refused = {"demi", "short", "tall"}
    with pytest.raises(EngineError, match="no demi today"):
        embedder()


def test_one_that_fails_to_load_later_leaves_the_old_one_running(world, embedder, caplog):
    one = embedder()
    world.refused = {"demi", "short"}
    world.power, world.now = BATTERY, DWELL_S
    assert one.encode(["a"]).shape == (1, 32)
    until(lambda: "demi onnx int8 is put aside" in caplog.text and not one._track.loading)
    world.now = 2 * DWELL_S
    assert one.encode(["a"]).shape == (1, 32) and one.choice.tier.name == "tall" and world.told == []


def test_a_listener_that_fails_harms_nothing(world, embedder, caplog):
    def fail(choice):
        raise ZeroDivisionError

    one = embedder(dwell_s=0.0)
    one._runner._on_choice = fail
    assert one.reconsider(BATTERY).tier.name == "demi"
    assert "on_choice failed" in caplog.text


def test_many_threads_while_tiers_change(world, embedder):
    one = embedder(dwell_s=0.0)
    expected = {8: None, 32: None}
    for state in (BATTERY, MAINS):
        one.reconsider(state)
        expected[one.dim] = one.encode(["a wall"])
    failures = []

    def work():
        try:
            for _ in range(200):
                found = one.encode(["a wall"])
                assert (found == expected[found.shape[1]]).all()
        except Exception as error:
            failures.append(error)

    threads = [threading.Thread(target=work) for _ in range(6)]
    for thread in threads:
        thread.start()
    for step in range(40):
        one.reconsider([BATTERY, MAINS][step % 2])
    for thread in threads:
        thread.join()
    assert failures == []


def test_a_fork_is_told_to_open_again(world, embedder):
    one = embedder()
    reading, writing = os.pipe()
    child = os.fork() if hasattr(os, "fork") else pytest.skip("no fork here")
    if child == 0:
        try:
            one.encode(["a"])
        except EngineError as error:
            os.write(writing, str(error).encode())
        finally:
            one.close()
            os._exit(0)
    os.close(writing)
    os.waitpid(child, 0)
    assert b"opened before a fork" in os.read(reading, 1000)
    os.close(reading)
    assert one.encode(["a"]).shape == (1, 32)


class WrongSession(FakeSession):
    """Computes, but not the right thing."""


@pytest.fixture
def wrong(monkeypatch):
    """Sessions of these engines and tiers give wrong vectors."""
    real, chosen = setup.open_graph, set()

    def open_graph(bundle, tier, engine, precision, **more):
        if {engine, tier.name, more["device"]} & chosen:
            return WrongSession(tier.dim)
        return real(bundle, tier, engine, precision, **{**more, "device": "CPU"})

    monkeypatch.setattr(setup, "open_graph", open_graph)
    return chosen


def test_a_device_that_computes_wrongly_is_put_aside(tiny_bundle, wrong, caplog):
    with Embedder.open(tiny_bundle, tier="short") as one:
        preferred = one.choice.engine
    wrong.add(preferred)
    with Embedder.open(tiny_bundle, tier="short") as one:
        assert one.choice.engine != preferred
    assert "it gives wrong vectors on this device: cosine" in caplog.text
    with pytest.raises(EngineError, match="wrong vectors"):
        Embedder.open(tiny_bundle, engine=preferred)


def test_the_first_device_that_works_is_taken(tiny_bundle, wrong, caplog):
    wrong.add("GPU")
    with Embedder.open(tiny_bundle, engine="openvino", precision="int8", device="GPU, CPU") as one:
        assert one.device == "CPU"
    assert "GPU is put aside: it gives wrong vectors" in caplog.text


def test_trust_needs_no_canaries(tiny_bundle, wrong):
    wrong.add("onnx")
    with Embedder.open(tiny_bundle, engine="onnx", verify="never") as one:
        assert np.isfinite(one.encode(["a"])).all()


def test_a_bundle_that_is_replaced_while_open_runs_on_but_opens_nothing_more(tiny_bundle, tmp_path):
    copy = shutil.copytree(tiny_bundle, tmp_path / "copy")
    with Embedder.open(copy, engine="onnx", precision="int8") as one:
        before = one.encode(["the old man"])
        for path in copy.rglob("*.bin"):
            content = bytearray(path.read_bytes())
            content[-1] ^= 1
            path.unlink()
            path.write_bytes(content)
        assert (one.encode(["the old man"]) == before).all()
        other = next(tier for tier in one.tiers if tier != one.choice.tier)
        with pytest.raises(BundleDamaged, match="replaced"):
            one.encode_documents(["the old man"], tier=other)
