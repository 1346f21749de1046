"""Ladders: what can be written, how tiers are named and found, and what is refused."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_embed_runtimes.errors import LadderError
from edge_embed_runtimes.tiers import CUP_NAMES, STARBUCKS, Ladder, Tier, parse_ladder

LADDER = parse_ladder("1x8,2x16,3x32")


def steps(count: int) -> st.SearchStrategy[list[int]]:
    return st.sets(st.integers(1, 5000), min_size=count, max_size=count).map(sorted)


@given(st.integers(1, 12).flatmap(lambda count: st.tuples(steps(count), steps(count))))
def test_every_ascending_spec_is_a_ladder_with_default_names(sizes):
    layers, dims = sizes
    ladder = parse_ladder(",".join(f"{a}x{b}" for a, b in zip(layers, dims, strict=True)))
    assert [(tier.layers, tier.dim) for tier in ladder] == list(zip(layers, dims, strict=True))
    defaults = CUP_NAMES if len(layers) <= 6 else [tier.canonical for tier in ladder]
    assert [tier.name for tier in ladder] == list(defaults[: len(layers)])
    assert ladder.top == ladder.tiers[-1] and len(ladder) == len(layers)


@pytest.mark.parametrize(
    ("spec", "names"),
    [
        ("small=1x32,large=6x384", ["small", "large"]),
        (" Small=1x32 , 2X64 ,", ["small", "short"]),
        ("1x1,2x2,3x3,4x4,5x5,6x6,7x7", [f"l{i}-d{i}" for i in range(1, 8)]),
        ("a-b_1=1x32", ["a-b_1"]),
    ],
)
def test_names_in_a_spec(spec, names):
    assert [tier.name for tier in parse_ladder(spec)] == names


def test_a_tier_names_itself():
    tier = Tier("tall", 3, 128)
    assert (tier.canonical, str(tier)) == ("l3-d128", "tall 3x128")
    assert [str(tier) for tier in STARBUCKS][::5] == ["demi 1x32", "trenta 6x384"]


@pytest.mark.parametrize(
    ("spec", "says"),
    [
        ("", "at least one tier"),
        (" , ,", "at least one tier"),
        ("2x16,1x32", "more layers"),
        ("1x32,2x16", "more layers"),
        ("1x16,2x16", "more layers"),
        ("2x16,2x32", "more layers"),
        ("1x16,1x16", "more layers"),
        ("a=1x16,a=2x32", "share a name"),
        ("short=1x16,2x32", "share a name"),
        ("0x16", "at least 1"),
        ("1x0", "at least 1"),
        (f"{'a' * 33}=1x8", "up to 32"),
        *(
            (spec, "is no tier")
            for spec in ("three", "3", "3x", "x3", "-1x8", "1.5x8", "1x8x2", "=1x8", "9a=1x8", "1 x8")
        ),
        ("a.b=1x8", "is no tier"),
        ("1x8;2x16", "is no tier"),
    ],
)
def test_bad_specs_are_refused(spec, says):
    with pytest.raises(LadderError, match=says):
        parse_ladder(spec)


@pytest.mark.parametrize("name", ["", "Tall", "a b", "../up", "a\n", "ä", "1st"])
def test_bad_tier_names_are_refused(name):
    with pytest.raises(LadderError, match="lower-case"):
        Tier(name, 1, 8)


def test_a_ladder_needs_tiers():
    with pytest.raises(LadderError, match="at least one tier"):
        Ladder(())


@pytest.mark.parametrize("name", ["short", "SHORT", "l2-d16", "L2-D16", "2x16"])
def test_find_by_name_or_size(name):
    assert LADDER.find(name) == Tier("short", 2, 16)


@pytest.mark.parametrize("name", ["", "venti", "2x32", "l2-d17", "short "])
def test_find_lists_what_there_is(name):
    with pytest.raises(LadderError, match="demi 1x8, short 2x16, tall 3x32"):
        LADDER.find(name)


def test_a_ladder_fits_an_encoder_of_its_size_or_larger():
    LADDER.check_fits(3, 32)
    LADDER.check_fits(4, 64)


@pytest.mark.parametrize(("layers", "hidden", "says"), [(2, 32, "deeper.* 2 layers"), (3, 31, "wider.* 31 dim")])
def test_a_ladder_larger_than_the_encoder_is_refused(layers, hidden, says):
    with pytest.raises(LadderError, match=f"tall 3x32 is {says}"):
        LADDER.check_fits(layers, hidden)
