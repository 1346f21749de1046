"""The choice: it fits, it is the best or the thriftiest, and it accounts for every tier."""

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_embed_runtimes.choose.policy import Budget, Choice, Option, choose
from edge_embed_runtimes.device.measure import Cost, Latency
from edge_embed_runtimes.device.probe import PowerState
from edge_embed_runtimes.errors import BudgetError, NoTierFits
from edge_embed_runtimes.manifest import ENGINES, PRECISIONS
from edge_embed_runtimes.tiers import Tier, parse_ladder

TIERS = parse_ladder("1x8,2x16,3x32,4x48").tiers
DEMI, SHORT, TALL, GRANDE = TIERS
MAINS, BATTERY = PowerState("mains"), PowerState("battery", 50.0)

values = st.floats(0.01, 100)
limits = st.none() | values
scores = st.floats(0.01, 1)
powers = st.builds(PowerState, st.sampled_from(["mains", "battery", "unknown"]), st.none(), st.booleans())
budgets = st.builds(Budget, limits, limits, limits, st.none() | scores)


@st.composite
def options(draw: st.DrawFn, *, one_a_tier: bool = False, all_known: bool = False) -> list[Option]:
    ways = [(tier, e, p) for tier in TIERS for e in ENGINES for p in PRECISIONS]
    key = (lambda way: way[0]) if one_a_tier else None
    found = draw(st.lists(st.sampled_from(ways), min_size=1, max_size=8, unique_by=key or (lambda way: way)))
    return [draw(option(*way, all_known=all_known)) for way in found]


@st.composite
def option(draw: st.DrawFn, tier: Tier, engine: str, precision: str, *, all_known: bool) -> Option:
    maybe = values if all_known else limits
    ms, energy, memory = draw(values), draw(maybe), draw(maybe)
    cost = Cost(tier.name, engine, precision, 32, 1, Latency(ms, ms * 1.2, ms * 2), 1000 / ms, energy, 1.0, memory)
    measured = all_known or draw(st.booleans())
    quality = draw(scores if all_known else st.none() | scores)
    return Option(tier, engine, precision, quality, cost if measured else None)


def chosen_of(found: list[Option], choice: Choice) -> Option:
    return next(o for o in found if (o.tier, o.engine, o.precision) == (choice.tier, choice.engine, choice.precision))


def within(value: float | None, limit: float | None) -> bool:
    return limit is None or (value is not None and value <= limit)


def fits(o: Option, budget: Budget) -> bool:
    cost = o.cost
    return (
        within(cost and cost.latency_ms.p90, budget.latency_ms)
        and within(cost and cost.energy_mj, budget.energy_mj)
        and within(cost and cost.peak_mb, budget.memory_mb)
        and (budget.min_quality is None or (o.quality is not None and o.quality >= budget.min_quality))
    )


@settings(deadline=None, max_examples=200)
@given(options(), budgets, powers)
def test_what_is_chosen_fits_and_every_tier_is_accounted_for(found, budget, power):
    tiers = {o.tier for o in found}
    if not any(fits(o, budget) for o in found):
        with pytest.raises(NoTierFits) as caught:
            choose(found, budget, power)
        lines = str(caught.value).splitlines()[1:]
        assert len(lines) == len(tiers)
        for tier in tiers:
            (line,) = [line for line in lines if line.startswith(f"  {tier} (")]
            assert len(line.split("): ", 1)[1]) > 5
        return
    choice = choose(found, budget, power)
    assert fits(chosen_of(found, choice), budget)
    assert choice.because
    passed = [tier for tier, _ in choice.passed_over]
    assert passed == sorted(tiers - {choice.tier}, key=lambda tier: tier.layers)
    for tier, reason in choice.passed_over:
        assert reason
        assert reason.startswith("fits") == any(fits(o, budget) for o in found if o.tier == tier)


@settings(deadline=None, max_examples=100)
@given(options(one_a_tier=True, all_known=True), budgets, values, values)
def test_more_time_never_gives_a_worse_tier(found, budget, first, second):
    def quality(latency_ms: float) -> float:
        try:
            choice = choose(found, replace(budget, latency_ms=latency_ms), MAINS)
        except NoTierFits:
            return 0.0
        return chosen_of(found, choice).quality

    assert quality(min(first, second)) <= quality(max(first, second)) <= quality(1e9)


@settings(deadline=None, max_examples=100)
@given(options(all_known=True), budgets, powers, st.randoms())
def test_quality_does_not_depend_on_the_order_of_options(found, budget, power, random):
    def outcome(given: list[Option]) -> tuple[Tier, float] | None:
        try:
            choice = choose(given, budget, power)
        except NoTierFits:
            return None
        return choice.tier, chosen_of(given, choice).quality

    shuffled = random.sample(found, len(found))
    if len({o.quality for o in found}) == len({o.cost.energy_mj for o in found}) == len(found):
        assert outcome(found) == outcome(shuffled)


@settings(deadline=None, max_examples=100)
@given(options(all_known=True), scores)
def test_on_battery_the_least_energy_above_the_score_is_chosen(found, floor):
    enough = [o for o in found if o.quality >= floor]
    if enough:
        choice = choose(found, Budget(min_quality=floor), BATTERY)
        assert chosen_of(found, choice).cost.energy_mj == min(o.cost.energy_mj for o in enough)


@pytest.fixture
def way(make_cost):
    def make(tier: Tier, quality: float | None, ms: float | None, energy_mj: float | None = None, **cost: float):
        engine = cost.pop("engine", "onnx")
        return Option(
            tier,
            engine,
            "int8",
            quality,
            None if ms is None else make_cost(tier.name, ms=ms, energy_mj=energy_mj, **cost),
        )

    return make


@pytest.mark.parametrize(
    ("power", "state"), [(BATTERY, "on battery"), (PowerState("mains", saver=True), "saving power")]
)
def test_thrift_by_energy(way, power, state):
    found = [way(DEMI, 0.5, 1, 1), way(SHORT, 0.7, 9, 2), way(TALL, 0.8, 2, 3)]
    choice = choose(found, Budget(min_quality=0.6), power)
    assert choice.tier == SHORT
    assert choice.because.startswith(f"{state}: least energy with a score of at least 0.6")
    assert choice.passed_over == ((DEMI, "score 0.500 is under 0.6"), (TALL, "fits, but costs more than short"))


def test_thrift_without_energy_is_by_time_and_says_so(way):
    found = [way(DEMI, 0.5, 1), way(SHORT, 0.7, 3), way(TALL, 0.8, 2)]
    choice = choose(found, Budget(min_quality=0.6), BATTERY)
    assert choice.tier == TALL
    assert "least time (energy was not measured)" in choice.because


def test_thrift_without_any_measurement_is_the_smallest_tier(way):
    found = [way(TALL, 0.8, None), way(SHORT, 0.7, None), way(DEMI, 0.5, None)]
    assert choose(found, Budget(min_quality=0.6), BATTERY).tier == SHORT


@pytest.mark.parametrize("power", [MAINS, PowerState(), BATTERY])
def test_without_a_floor_the_best_is_chosen_even_on_battery(way, power):
    found = [way(DEMI, 0.5, 1, 1), way(SHORT, 0.7, 2, 2), way(TALL, 0.8, 3, 3)]
    assert choose(found, Budget(), power).tier == TALL


def test_on_mains_a_floor_does_not_make_it_thrifty(way):
    assert choose([way(DEMI, 0.7, 1, 1), way(TALL, 0.8, 3, 3)], Budget(min_quality=0.6), MAINS).tier == TALL


def test_without_scores_the_larger_tier_is_better(way):
    choice = choose([way(TALL, None, None), way(DEMI, None, None), way(SHORT, None, None)], Budget(), MAINS)
    assert choice.tier == TALL
    assert choice.passed_over == ((DEMI, "fits, but is smaller than tall"), (SHORT, "fits, but is smaller than tall"))


@pytest.mark.parametrize(("gap", "engine"), [(0.002, "openvino"), (0.004, "onnx")])
def test_of_nearly_equal_ways_to_run_a_tier_the_faster_is_taken(way, gap, engine):
    found = [way(TALL, 0.8, 3), way(TALL, 0.8 - gap, 2, engine="openvino")]
    assert choose(found, Budget(), MAINS).engine == engine


def test_of_equal_options_the_earlier_is_taken(way):
    found = [way(TALL, 0.8, 2, engine="openvino"), way(TALL, 0.8, 2)]
    assert choose(found, Budget(), MAINS).engine == "openvino"
    assert choose(found[::-1], Budget(), MAINS).engine == "onnx"


def test_the_reason_tells_score_and_time(way):
    choice = choose([way(DEMI, 0.5, 1.5), way(TALL, 0.8, 30)], Budget(latency_ms=5), MAINS)
    assert choice.because == "best quality within the budget; score 0.500; p90 1.50 of 5 ms at 32 tokens"
    assert choice.passed_over == ((TALL, "latency 30 ms is over 5 ms"),)


@pytest.mark.parametrize(
    ("ms", "limit", "says"),
    [
        (2.5138, 2.51, "2.514 ms is over 2.51 ms"),
        (2.4999, 2.49, "2.5 ms is over 2.49 ms"),
        (30, 5, "30 ms is over 5 ms"),
    ],
)
def test_what_is_over_a_limit_reads_so(way, ms, limit, says):
    slow = way(TALL, 0.8, ms)
    found = [way(DEMI, 0.5, 0.1), replace(slow, cost=replace(slow.cost, latency_ms=Latency(ms, ms, ms)))]
    assert choose(found, Budget(latency_ms=limit), MAINS).passed_over == ((TALL, f"latency {says}"),)


def test_a_tier_is_not_passed_over_for_a_lower_score_than_its_own(way):
    found = [way(TALL, 0.803, 9), way(TALL, 0.8005, 2, engine="openvino"), way(SHORT, 0.802, 1)]
    choice = choose(found, Budget(), MAINS)
    rest = next(o for o in found if o.tier != choice.tier)
    assert chosen_of(found, choice).quality >= rest.quality or "scores 0.802" not in choice.passed_over[0][1]


@pytest.mark.parametrize(
    ("budget", "says"),
    [
        (Budget(latency_ms=1), "latency 2 ms is over 1 ms"),
        (Budget(energy_mj=1), "energy 3 mJ is over 1 mJ"),
        (Budget(memory_mb=1), "memory 4 MB is over 1 MB"),
        (Budget(min_quality=0.9), "score 0.500 is under 0.9"),
    ],
)
def test_every_shortfall_is_in_the_error(way, budget, says):
    found = [way(tier, 0.5, 2, 3, peak_mb=4) for tier in TIERS]
    with pytest.raises(NoTierFits) as caught:
        choose(found, budget, MAINS)
    lines = str(caught.value).splitlines()[1:]
    assert lines == [f"  {tier} (onnx int8): {says}" for tier in TIERS]


@pytest.mark.parametrize("field", ["latency_ms", "energy_mj", "memory_mb"])
def test_what_was_not_measured_does_not_fit(way, field):
    with pytest.raises(NoTierFits, match=f"{field.split('_')[0]} was not measured here.*edge-embed profile"):
        choose([way(DEMI, 0.5, None)], Budget(**{field: 1e9}), MAINS)


def test_without_scores_no_floor_is_met(way):
    with pytest.raises(NoTierFits, match=r"no score.*scored pairs"):
        choose([way(DEMI, None, 1)], Budget(min_quality=0.1), MAINS)


def test_no_options_no_choice():
    with pytest.raises(NoTierFits):
        choose([], Budget(), MAINS)


@pytest.mark.parametrize("field", ["latency_ms", "energy_mj", "memory_mb", "min_quality", "tokens"])
@pytest.mark.parametrize("value", [0, -1, float("nan"), float("inf"), "5", [1], True])
def test_bad_budgets_are_refused_by_field_and_value(field, value):
    with pytest.raises(BudgetError) as caught:
        Budget(**{field: value})
    assert f"{field}={value!r}" in str(caught.value)


@pytest.mark.parametrize("tokens", [None, 2.5])
def test_tokens_are_a_whole_number(tokens):
    with pytest.raises(BudgetError, match="tokens"):
        Budget(tokens=tokens)


@pytest.mark.parametrize(
    ("budget", "needs"),
    [
        (Budget(), False),
        (Budget(min_quality=0.5, tokens=9), False),
        (Budget(latency_ms=1), True),
        (Budget(energy_mj=1), True),
        (Budget(memory_mb=1), True),
    ],
)
def test_which_budgets_need_a_profile(budget, needs):
    assert budget.needs_profile is needs


def test_an_option_names_itself():
    one = Option(DEMI, "onnx", "int8")
    assert (str(one), one.graph) == ("demi 1x8 (onnx int8)", ("demi", "onnx", "int8"))
