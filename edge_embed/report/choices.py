"""What the policy chooses under every budget that it tells apart, worked out in advance for a page without Python."""

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from decimal import ROUND_CEILING, ROUND_FLOOR, Context
from itertools import product

from edge_embed_runtimes.choose.policy import Budget, Choice, Option, choose
from edge_embed_runtimes.device.measure import Graph
from edge_embed_runtimes.device.probe import PowerSource, PowerState
from edge_embed_runtimes.errors import NoTierFits
from edge_embed_runtimes.tiers import Ladder

NONE = -1
POWER: tuple[PowerSource, ...] = ("mains", "battery")
_DIGITS = range(3, 17)
_WORD = re.compile(r"[^ ;]+")


@dataclass(frozen=True, slots=True)
class Choices:
    """The policy's answer to every combination of limits.

    Attributes:
        latency_ms, energy_mj, min_quality, power: the limits, in ascending order; None for no limit.
        texts: every reason once; `{latency_ms}`, `{energy_mj}` and `{min_quality}` stand for the limit.
        outcomes: row that was chosen, text of why, and for each tier of the ladder the text of why not; NONE for no
            tier that fits, and for the chosen tier.
        index: outcome of each combination, latency the slowest, then energy, quality, power.
    """

    latency_ms: tuple[float | None, ...]
    energy_mj: tuple[float | None, ...]
    min_quality: tuple[float | None, ...]
    power: tuple[PowerSource, ...]
    texts: tuple[str, ...]
    outcomes: tuple[tuple[int, ...], ...]
    index: tuple[int, ...]


def list_choices(options: Sequence[Option], rows: Mapping[Graph, int], ladder: Ladder, *, tokens: int) -> Choices:
    """Ask the policy for every combination of limits.

    Args:
        options: with their costs at this length.
        rows: the number by which the page knows each graph.
        ladder: whose tiers, in order, an outcome gives its reasons for.
        tokens: length of the texts.
    """
    costs = [option.cost for option in options if option.cost]
    latencies = limits(cost.latency_ms.p90 for cost in costs)
    energies = limits(cost.energy_mj for cost in costs if cost.energy_mj is not None)
    qualities = floors(option.quality for option in options if option.quality is not None)
    texts: dict[str, int] = {}
    outcomes: dict[tuple[int, ...], int] = {}
    index = []
    for latency, energy, quality, power in product(latencies, energies, qualities, POWER):
        budget = Budget(latency_ms=latency, energy_mj=energy, min_quality=quality, tokens=tokens)
        row, because, why_not = _ask(options, rows, budget, power)
        reasons = [why_not.get(tier.name) for tier in ladder]
        known = [
            NONE if text is None else texts.setdefault(_with_slots(text, budget), len(texts))
            for text in (because, *reasons)
        ]
        outcome = (row, *known)
        index.append(outcomes.setdefault(outcome, len(outcomes)))
    return Choices(latencies, energies, qualities, POWER, tuple(texts), tuple(outcomes), tuple(index))


def limits(values: Iterable[float]) -> tuple[float | None, ...]:
    """Upper limits that let through none of the values, the least, the two least and so on; at last None.

    Each is the shortest number that does so, of three digits or more.
    """
    ascending = sorted({value for value in values if value > 0})
    if not ascending:
        return (None,)
    under = _short_floor(0.9 * ascending[0], 0.0)
    ends = (*ascending[1:], math.inf)
    return (under, *(_short(value, end) for value, end in zip(ascending, ends, strict=True)), None)


def floors(values: Iterable[float]) -> tuple[float | None, ...]:
    """Lower limits: None first, then one that the least value just meets, one for the next and so on.

    Each is the shortest number that does so, of three digits or more.
    """
    ascending = sorted({value for value in values if value > 0})
    below = (0.0, *ascending[:-1])
    return (None, *(_short_floor(value, least) for value, least in zip(ascending, below, strict=False)))


def _short(value: float, end: float) -> float:
    """The shortest number from `value` up to `end`, which is not reached."""
    for digits in _DIGITS:
        rounded = _round(value, digits, ROUND_CEILING)
        if value <= rounded < end:
            return rounded
    return value


def _short_floor(value: float, below: float) -> float:
    """The shortest number above `below` and up to `value`."""
    for digits in _DIGITS:
        rounded = _round(value, digits, ROUND_FLOOR)
        if below < rounded <= value:
            return rounded
    return value


def _round(value: float, digits: int, rounding: str) -> float:
    # of the shortest decimal that is this float: 1.1 is a little more than 1.1
    return float(Context(prec=digits, rounding=rounding).create_decimal(repr(value)))


def _ask(
    options: Sequence[Option], rows: Mapping[Graph, int], budget: Budget, power: PowerSource
) -> tuple[int, str, dict[str, str]]:
    """The row that the policy chooses, or NONE; why; and for each other tier's name why not."""
    try:
        choice: Choice = choose(options, budget, PowerState(power))
    except NoTierFits as error:
        first, *lines = str(error).splitlines()
        return NONE, first.removesuffix(":"), dict(map(_shortfall, lines))
    return rows[choice.graph], choice.because, {tier.name: reason for tier, reason in choice.passed_over}


def _shortfall(line: str) -> tuple[str, str]:
    """The name of the tier and the reason, of a line such as `  demi 1x32 (onnx int8): too slow`."""
    option, _, reason = line.strip().partition(": ")
    return option.split(" ")[0], reason


def _with_slots(text: str, budget: Budget) -> str:
    """The text with each limit's figure replaced by its name: most texts then differ no more from limit to limit."""
    figures = ("latency_ms", "energy_mj", "min_quality")
    slots = {f"{limit:g}": f"{{{name}}}" for name in figures if (limit := getattr(budget, name)) is not None}
    return _WORD.sub(lambda word: slots.get(word[0], word[0]), text)
