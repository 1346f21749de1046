"""The choices that the report works out in advance: what the policy says, at every limit and between them."""

import math
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_embed.report.choices import NONE, Choices, floors, limits, list_choices
from edge_embed.report.content import describe
from edge_embed_runtimes.choose.options import list_options, with_costs
from edge_embed_runtimes.choose.policy import Budget, Choice, Option, choose
from edge_embed_runtimes.device.measure import Cost, Latency
from edge_embed_runtimes.device.probe import PowerState
from edge_embed_runtimes.errors import NoTierFits
from edge_embed_runtimes.tiers import parse_ladder

LADDER = parse_ladder("1x8,2x16,3x32")
positive = st.floats(min_value=1e-3, max_value=1e4)


# Limits


def test_limits_are_short_numbers():
    assert limits([2.51238, 0.61004, 2.51238]) == (0.549, 0.611, 2.52, None)
    assert limits([1.00001, 1.00002]) == (0.9, 1.00001, 1.01, None)
    assert limits([]) == limits([0.0]) == (None,)
    assert floors([0.8110050, 0.8108147, 0.8643]) == (None, 0.81, 0.811, 0.864)
    assert floors([]) == floors([-0.1]) == (None,)


@given(st.lists(positive, min_size=1, max_size=20))
def test_limits_tell_all_values_apart(values):
    ascending = sorted(set(values))
    *found, last = limits(values)
    assert last is None
    assert [sum(value <= limit for value in ascending) for limit in found] == list(range(len(ascending) + 1))
    first, *found = floors(values)
    assert first is None
    assert [sum(value >= floor for value in ascending) for floor in found] == list(range(len(ascending), 0, -1))


# Choices


def read(choices: Choices, latency: int, energy: int, quality: int, power: int) -> tuple[int, str, list[str | None]]:
    """What the page shows for these places of the limits: row, why, and for each tier why not."""
    sizes = (len(choices.latency_ms), len(choices.energy_mj), len(choices.min_quality), len(choices.power))
    place = 0
    for size, one in zip(sizes, (latency, energy, quality, power), strict=True):
        place = place * size + one
    row, *texts = choices.outcomes[choices.index[place]]
    known = {"latency_ms": choices.latency_ms[latency], "energy_mj": choices.energy_mj[energy],
             "min_quality": choices.min_quality[quality]}  # fmt: skip

    def write(text):
        return None if text == NONE else re.sub(r"\{(\w+)\}", lambda slot: f"{known[slot[1]]:g}", choices.texts[text])

    because, *reasons = map(write, texts)
    return row, because, reasons


def ask(options, budget, power) -> tuple[Choice | None, str]:
    try:
        return choose(options, budget, PowerState(power)), ""
    except NoTierFits as error:
        return None, str(error)


def option(tier, engine, precision, ms, quality, energy) -> Option:
    cost = Cost(tier.name, engine, precision, 16, 1, Latency(ms, 1.1 * ms, 2 * ms), 1000 / ms, energy, 1.0, 90.0)
    return Option(tier, engine, precision, quality, cost)


@st.composite
def ladders(draw):
    kinds = draw(st.sampled_from([[("onnx", "int8")], [("onnx", "int8"), ("openvino", "int8"), ("onnx", "fp32")]]))
    energies = st.none() if draw(st.booleans()) else st.one_of(st.none(), positive, st.just(0.0))
    qualities = st.one_of(st.none(), st.floats(min_value=0.4, max_value=0.9))
    return [option(tier, *kind, draw(positive), draw(qualities), draw(energies)) for kind in kinds for tier in LADDER]


def worked_out(options) -> Choices:
    rows = {one.graph: place for place, one in enumerate(options)}
    return list_choices(options, rows, LADDER, tokens=16)


@settings(deadline=None, max_examples=25)
@given(ladders(), st.data())
def test_at_every_limit_the_page_says_what_the_policy_says(options, data):
    choices = worked_out(options)
    names = ("latency_ms", "energy_mj", "min_quality")
    places = [data.draw(st.integers(0, len(getattr(choices, name)) - 1), label=name) for name in names]
    asked = {name: getattr(choices, name)[place] for name, place in zip(names, places, strict=True)}
    for number, power in enumerate(choices.power):
        row, because, reasons = read(choices, *places, number)
        choice, refusal = ask(options, Budget(tokens=16, **asked), power)
        if choice is None:
            assert row == NONE
            best = [f"  {one}: {reason}" for tier, reason in zip(LADDER, reasons, strict=True)
                    for one in options if one.tier == tier and f"  {one}: " in refusal]  # fmt: skip
            assert "\n".join([f"{because}:", *best]) == refusal
        else:
            assert options[row].graph == choice.graph
            assert because == choice.because
            assert reasons == [dict(choice.passed_over).get(tier) for tier in LADDER]


@settings(deadline=None, max_examples=50)
@given(ladders(), st.one_of(st.none(), positive), st.one_of(st.none(), positive), st.floats(0.3, 0.9), st.booleans())
def test_between_two_limits_nothing_changes(options, latency, energy, floor, floored):
    choices = worked_out(options)

    def place(found, values, limit):
        ascending = sorted({value for value in values if value})
        return len(found) - 1 if limit is None or not ascending else sum(value <= limit for value in ascending)

    qualities = sorted({one.quality for one in options if one.quality is not None})
    above = sum(value < floor for value in qualities)  # the first that meets it
    floored = floored and above < len(qualities)
    places = (
        place(choices.latency_ms, [one.cost.latency_ms.p90 for one in options], latency),
        place(choices.energy_mj, [one.cost.energy_mj for one in options], energy),
        above + 1 if floored else 0,
    )
    if choices.energy_mj == (None,):
        energy = None
    budget = Budget(latency_ms=latency, energy_mj=energy, min_quality=floor if floored else None, tokens=16)
    for number, power in enumerate(choices.power):
        row, _, reasons = read(choices, *places, number)
        choice, _ = ask(options, budget, power)
        assert (None if row == NONE else options[row].graph) == (choice.graph if choice else None)
        if choice:
            told = {tier for tier, reason in zip(LADDER, reasons, strict=True) if reason is not None}
            assert told == {tier for tier, _ in choice.passed_over}


def test_below_the_least_limit_no_tier_fits():
    options = [option(tier, "onnx", "int8", float(tier.layers), 0.5, None) for tier in LADDER]
    choices = worked_out(options)
    row, because, reasons = read(choices, 0, 0, 0, 0)
    assert row == NONE
    assert because == "no tier fits this budget; loosen it, or export smaller tiers"
    assert reasons == [f"latency {ms} ms is over 0.99 ms" for ms in ("1.1", "2.2", "3.3")]
    with pytest.raises(NoTierFits):
        choose(options, Budget(latency_ms=choices.latency_ms[0]), PowerState("mains"))


def test_where_energy_was_not_measured_it_has_no_limit():
    options = [option(tier, "onnx", "int8", float(tier.layers), 0.5, None) for tier in LADDER]
    assert worked_out(options).energy_mj == (None,)


def test_a_text_is_kept_once():
    options = [option(tier, "onnx", "int8", float(tier.layers), tier.layers / 10, tier.layers * 5.0) for tier in LADDER]
    choices = worked_out(options)
    assert len(set(choices.texts)) == len(choices.texts) < 40
    assert len(set(choices.outcomes)) == len(choices.outcomes)
    assert max(choices.index) == len(choices.outcomes) - 1
    sizes = (choices.latency_ms, choices.energy_mj, choices.min_quality, choices.power)
    assert len(choices.index) == math.prod(map(len, sizes))


def test_the_choices_of_a_profile(make_bundle, make_profile, tmp_path):
    bundle = make_bundle(tmp_path / "bundle")
    profile = make_profile(bundle, energy=True)
    for view in describe(bundle, profile).views:
        options = with_costs(list_options(bundle), profile.with_threads(view.threads), view.tokens)
        latency = len(view.choices.latency_ms) // 2
        limit = view.choices.latency_ms[latency]
        for number, power in enumerate(view.choices.power):
            row, because, _ = read(view.choices, latency, len(view.choices.energy_mj) - 1, 2, number)
            budget = Budget(latency_ms=limit, min_quality=view.choices.min_quality[2], tokens=view.tokens)
            choice, _ = ask(options, budget, power)
            assert (view.rows[row].tier, view.rows[row].engine, because) == (
                choice.tier.name,
                choice.engine,
                choice.because,
            )
