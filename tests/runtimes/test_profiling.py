"""Measuring a bundle: here and in a process of its own, the tiers in turns."""

from dataclasses import replace

import pytest

from edge_embed_runtimes.bundle import Bundle
from edge_embed_runtimes.device import profiling
from edge_embed_runtimes.device.profile import bundle_id
from edge_embed_runtimes.device.profiling import QUICK_PLAN, Plan, profile_bundle
from edge_embed_runtimes.errors import LadderError, ProfileError
from edge_embed_runtimes.manifest import ENGINES

DEMI = ("demi", "onnx", "int8")


class FakeReader:
    """A device that always takes a watt."""

    name = "watt"

    def __init__(self, renews_s=0.001):
        self.closed, self.renews_s = False, renews_s

    def read_mj(self):
        return profiling.perf_counter() * 1000

    def close(self):
        self.closed = True


@pytest.fixture
def bundle(bundle_folder) -> Bundle:
    return Bundle(bundle_folder)


@pytest.mark.parametrize(
    "fields", [{"tokens": ()}, {"tokens": (0,)}, {"batches": ()}, {"batches": (1, -1)}, {"threads": (0,)}]
)
def test_bad_plans_are_refused(fields):
    with pytest.raises(ProfileError, match=f"{next(iter(fields))} to profile"):
        Plan(**fields)


def test_nothing_to_profile(bundle):
    with pytest.raises(ProfileError, match="nothing to profile"):
        profile_bundle(bundle, [], plan=QUICK_PLAN)


def test_a_tier_that_is_not_there(tiny_bundle):
    with pytest.raises(LadderError):
        profile_bundle(Bundle(tiny_bundle), [("venti", "onnx", "int8")], plan=QUICK_PLAN)


def test_a_failing_process_is_named_with_its_last_word(tiny_bundle, monkeypatch):
    monkeypatch.setattr(profiling, "EXAMPLE_TEXT", "a cat")
    monkeypatch.setenv("PYTHONPATH", "")
    plan = Plan(tokens=(8,), batches=(1,), quick=True)
    real = profiling.try_graph

    def elsewhere(bundle, graph, *given):
        return real(bundle, ("venti", *graph[1:]), *given)

    monkeypatch.setattr(profiling, "try_graph", elsewhere)
    with pytest.raises(ProfileError, match="measuring venti onnx int8 failed: LadderError"):
        profile_bundle(Bundle(tiny_bundle), [DEMI], plan=plan)


@pytest.mark.parametrize("engine", ENGINES)
def test_a_quick_profile_in_this_process(tiny_bundle, engine):
    bundle, told = Bundle(tiny_bundle), []
    plan = Plan(tokens=(8, 10_000, 20_000), batches=(1, 2, 1000), threads=(2, 1), quick=True, isolate=False)
    graphs = [("demi", engine, "int8"), ("tall", engine, "fp32"), ("short", engine, "int8")]
    profile = profile_bundle(bundle, graphs, plan=plan, progress=lambda *step: told.append(step))
    longest = bundle.manifest.max_tokens
    shapes = [(8, 1), (8, 2), (8, 64), *((longest, batch) for batch in (1, 2, 512 // longest))]
    for threads in (2, 1):
        costs = profile.with_threads(threads).costs
        assert [(c.tokens, c.batch) for c in costs if c.graph == graphs[0]] == shapes
        assert {c.graph for c in costs} == set(graphs)
    for cost in profile.costs:
        assert 0 < cost.latency_ms.p50 <= cost.latency_ms.p90 <= cost.latency_ms.p99
        assert cost.texts_per_s == pytest.approx(cost.batch / cost.latency_ms.p50 * 1000)
        assert cost.load_ms > 0
        assert cost.peak_mb is cost.first_ms is None
    assert profile.mismatch(bundle, 1) is profile.mismatch(bundle, 2) is None
    assert told[-1][1] == told[-1][2]
    assert profile.quick and profile.made_at.endswith("+00:00") and profile.bundle == bundle_id(bundle)


def test_a_process_of_its_own_tells_its_start_and_its_peak_memory(tiny_bundle):
    plan = Plan(tokens=(8,), batches=(1, 2), threads=(1,), quick=True)
    one, two = profile_bundle(Bundle(tiny_bundle), [DEMI], plan=plan).costs
    assert 20 < one.peak_mb <= two.peak_mb < 2000
    assert one.first_ms == two.first_ms > one.load_ms > 0


def test_energy_where_something_reports_it(tiny_bundle, monkeypatch):
    reader = FakeReader()
    monkeypatch.setattr(profiling, "find_reader", lambda: reader)
    monkeypatch.setattr(profiling, "QUICK", replace(profiling.QUICK, energy_seconds=0.05))
    plan = Plan(tokens=(8,), batches=(1,), threads=(1,), quick=True, isolate=False)
    profile = profile_bundle(Bundle(tiny_bundle), [DEMI], plan=plan)
    assert profile.energy_reader == "watt" and reader.closed
    assert profile.costs[0].energy_mj == pytest.approx(0, abs=0.01), "no more than the idle device"


def test_a_slow_gauge_is_watched_for_longer(tiny_bundle, monkeypatch):
    asked = []
    monkeypatch.setattr(profiling, "find_reader", lambda: FakeReader(renews_s=5.0))
    monkeypatch.setattr(profiling, "idle_mw", lambda reader, seconds: asked.append(seconds) or 0.0)
    monkeypatch.setattr(profiling, "energy_per_text_mj", lambda *_, seconds, idle_mw: asked.append(seconds) or 1.0)
    plan = Plan(tokens=(8,), batches=(1,), threads=(1,), quick=True, isolate=False)
    assert profile_bundle(Bundle(tiny_bundle), [DEMI], plan=plan).costs[0].energy_mj == 1.0
    assert asked == [20.0, 20.0]


def test_without_a_reader_energy_is_not_measured(tiny_bundle, monkeypatch):
    monkeypatch.setattr(profiling, "find_reader", lambda: None)
    plan = Plan(tokens=(8,), batches=(1,), threads=(1,), quick=True, isolate=False)
    profile = profile_bundle(Bundle(tiny_bundle), [DEMI], plan=plan)
    assert profile.energy_reader is None and profile.costs[0].energy_mj is None


def test_the_tiers_run_in_turns_and_the_middle_one_tells_the_drift(tiny_bundle, monkeypatch):
    turns = []

    class Watched(profiling.Timing):
        def window(self):
            turns.append(self)
            super().window()

        @property
        def drift(self):
            return (0.25, 9.0, 0.05)[turns.index(self)]

    monkeypatch.setattr(profiling, "Timing", Watched)
    plan = Plan(tokens=(8,), batches=(1,), threads=(1,), quick=True, isolate=False)
    profile = profile_bundle(Bundle(tiny_bundle), [(t, "onnx", "int8") for t in ("demi", "short", "tall")], plan=plan)
    assert len(set(turns)) == 3 and turns == turns[:3] * profiling.QUICK.windows
    assert profile.drift == 0.25 and not profile.stable
