"""A day played through the policy."""

from itertools import pairwise

import pytest

from edge_embed_runtimes.choose.policy import Budget, Option
from edge_embed_runtimes.choose.simulate import Moment, simulate
from edge_embed_runtimes.device.probe import PowerState
from edge_embed_runtimes.errors import NoTierFits, TraceError
from edge_embed_runtimes.tiers import parse_ladder

LADDER = parse_ladder("1x8,2x16,3x32")
MAINS, BATTERY = PowerState("mains"), PowerState("battery", 40.0)


@pytest.fixture
def options(make_cost):
    return [
        Option(
            tier, "onnx", "int8", tier.layers / 10 + 0.5, make_cost(tier.name, ms=tier.layers, energy_mj=tier.layers)
        )
        for tier in LADDER
    ]


def played(options, budget, *moments):
    return [(s.start_s, s.end_s, s.choice.tier.name, s.latency_ms) for s in simulate(options, budget, moments)]


def test_the_battery_takes_the_thriftiest_and_mains_the_best_again(options):
    found = played(
        options,
        Budget(min_quality=0.65),
        Moment(0, MAINS),
        Moment(100, BATTERY),
        Moment(200, MAINS),
        Moment(300, MAINS),
    )
    assert found == [(0, 100, "tall", 3), (100, 200, "short", 2), (200, 300, "tall", 3)]


def test_a_busy_device_steps_down_and_back(options):
    found = played(
        options,
        Budget(latency_ms=3.5),
        Moment(0, MAINS),
        Moment(60, MAINS, pace=1.5),
        Moment(120, MAINS),
        Moment(180, MAINS),
    )
    assert [(tier, ms) for *_, tier, ms in found] == [
        ("tall", 3),
        ("tall", 4.5),
        ("short", 3),
        ("short", 2),
        ("tall", 3),
    ]
    assert found[0][:2] == (0, 60) and found[-1][1] == 180
    assert all(one[1] == other[0] for one, other in pairwise(found))


def test_without_texts_a_slow_device_is_not_noticed(options):
    found = played(options, Budget(latency_ms=3.5), Moment(0, MAINS, pace=3, texts_per_s=0), Moment(100, MAINS))
    assert found == [(0, 100, "tall", 9)]


def test_a_flicker_within_the_dwell_time_changes_nothing(options):
    moments = [Moment(10.0 * n, (MAINS, BATTERY)[n % 2]) for n in range(7)]
    spans = simulate(options, Budget(min_quality=0.65), moments, dwell_s=1000)
    assert {span.choice.tier.name for span in spans} == {"tall"}


def test_what_a_span_tells(options):
    (span,) = simulate(options, Budget(), (Moment(5, MAINS, texts_per_s=2), Moment(15, MAINS)))
    assert (span.texts, span.energy_mj, span.quality) == (20, 3, 0.8)
    (bare,) = simulate([Option(LADDER.top, "onnx", "int8")], Budget(), (Moment(0, MAINS), Moment(1, MAINS)))
    assert (bare.latency_ms, bare.energy_mj, bare.quality) == (None, None, None)


@pytest.mark.parametrize("times", [(), (0,), (0, 0), (0, 5, 3)])
def test_a_trace_out_of_order(options, times):
    with pytest.raises(TraceError, match="at least two moments"):
        simulate(options, Budget(), [Moment(at, MAINS) for at in times])


def test_a_budget_that_nothing_meets(options):
    with pytest.raises(NoTierFits):
        simulate(options, Budget(latency_ms=0.5), (Moment(0, MAINS), Moment(1, MAINS)))
