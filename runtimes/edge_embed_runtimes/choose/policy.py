"""Which tier to run: pure, from what is known, with its reasons."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, fields

from edge_embed_runtimes.device.measure import Cost, Graph
from edge_embed_runtimes.device.probe import PowerState
from edge_embed_runtimes.errors import BudgetError, NoTierFits
from edge_embed_runtimes.manifest import Engine, Precision
from edge_embed_runtimes.tiers import Tier

QUALITY_TIE = 0.003
"""Two ways to run one tier that score this close count as equally good; the export's gates allow as much."""


@dataclass(frozen=True, slots=True)
class Budget:
    """What one text may cost; a field left None sets no limit.

    Attributes:
        latency_ms: milliseconds for one text, 90th percentile.
        energy_mj: millijoules a text.
        memory_mb: resident memory of a process that runs this tier alone.
        min_quality: lowest acceptable score, as in the bundle's passport.
        tokens: length of the texts to expect.
        save_below_percent: on battery, save energy from this charge down; it takes `min_quality` to know how far.

    Raises:
        BudgetError: a value that is no positive number.
    """

    latency_ms: float | None = None
    energy_mj: float | None = None
    memory_mb: float | None = None
    min_quality: float | None = None
    tokens: int = 32
    save_below_percent: float = 100.0

    def __post_init__(self) -> None:
        for entry in fields(self):
            value = getattr(self, entry.name)
            if type(value) not in (int, float, type(None)) or not 0 < (1 if value is None else value) < math.inf:
                raise BudgetError(f"Budget({entry.name}={value!r}): allowed is a number above 0, or None for no limit")
        if type(self.tokens) is not int:
            raise BudgetError(f"Budget(tokens={self.tokens!r}): allowed is a whole number above 0")

    @property
    def needs_profile(self) -> bool:
        """Whether only a measurement can tell if a tier fits."""
        return any(limit is not None for limit in (self.latency_ms, self.energy_mj, self.memory_mb))


@dataclass(frozen=True, slots=True)
class Option:
    """One way to run: a tier on an engine in a precision, what it scores and what it costs, as far as known.

    Attributes:
        refused: why it can't run here; None if it can, as far as known.
    """

    tier: Tier
    engine: Engine
    precision: Precision
    quality: float | None = None
    cost: Cost | None = None
    refused: str | None = None

    @property
    def graph(self) -> Graph:
        """What a profile knows this option by."""
        return (self.tier.name, self.engine, self.precision)

    def __str__(self) -> str:
        return f"{self.tier} ({self.engine} {self.precision})"


@dataclass(frozen=True, slots=True)
class Choice:
    """What runs, why, and why the other tiers do not."""

    tier: Tier
    engine: Engine
    precision: Precision
    because: str
    passed_over: tuple[tuple[Tier, str], ...]

    @property
    def graph(self) -> Graph:
        """What a profile knows it by."""
        return (self.tier.name, self.engine, self.precision)


def is_saving(power: PowerState, budget: Budget, *, margin_percent: float = 0.0) -> bool:
    """Whether to save energy: asked for, too hot, or on a battery that is down to the budget's threshold.

    A battery that does not tell its charge counts as low.

    Args:
        margin_percent: counted to the threshold; a caller that saves already passes one, so as not to flap.
    """
    charge = 0.0 if power.battery_percent is None else power.battery_percent
    low = power.source == "battery" and charge <= budget.save_below_percent + margin_percent
    return low or power.saver or power.throttled


def choose(options: Sequence[Option], budget: Budget, power: PowerState, *, saving: bool | None = None) -> Choice:
    """Choose the best tier within the budget, or to save energy the thriftiest one above `budget.min_quality`.

    Options come in order of preference: of two equal ones the earlier is taken. Without scores a larger tier counts
    as better.

    Args:
        saving: see `is_saving`, which decides for None.

    Raises:
        NoTierFits: every option breaks a limit, or there is none; the message holds each tier's shortfall.
    """
    shortfalls = {id(option): _shortfall(option, budget) for option in options}
    fitting = [option for option in options if shortfalls[id(option)] is None]
    if not fitting:
        lines = [f"  {option}: {shortfalls[id(option)]}" for option in _one_a_tier(options, budget)]
        raise NoTierFits("\n".join(["no tier fits this budget; loosen it, or export smaller tiers:", *lines]))
    saving = is_saving(power, budget) if saving is None else saving
    thrifty = budget.min_quality is not None and saving
    chosen = min(fitting, key=_thrift) if thrifty else _best(fitting)
    return Choice(
        tier=chosen.tier,
        engine=chosen.engine,
        precision=chosen.precision,
        because=_because(chosen, budget, power, thrifty, alone=len({option.tier for option in options}) == 1),
        passed_over=tuple(
            (option.tier, shortfalls[id(option)] or _why_not(option, chosen, thrifty))
            for option in _one_a_tier(options, budget)
            if option.tier != chosen.tier
        ),
    )


def settle(tier: Tier, options: Sequence[Option], budget: Budget, because: str) -> Choice:
    """Take one tier whatever the budget says, the fastest way to run it.

    Raises:
        ValueError: no option of this tier can run.
    """
    chosen = min((o for o in options if o.tier == tier and o.refused is None), key=_latency)
    return Choice(
        tier=tier,
        engine=chosen.engine,
        precision=chosen.precision,
        because=because,
        passed_over=tuple(
            (option.tier, _shortfall(option, budget) or "one tier at a time")
            for option in _one_a_tier(options, budget)
            if option.tier != tier
        ),
    )


def _best(fitting: Sequence[Option]) -> Option:
    """The best tier; of the ways to run it that are about equally good, and still the best tier, the fastest."""
    best = max(fitting, key=_quality)
    rival = max((option.quality or 0 for option in fitting if option.tier != best.tier), default=0)
    floor = max((best.quality or 0) - QUALITY_TIE, min(rival, best.quality or 0))
    return min((o for o in fitting if o.tier == best.tier and (o.quality or 0) >= floor), key=_latency)


def _quality(option: Option) -> tuple[float, int]:
    return (option.quality if option.quality is not None else 0.0, option.tier.layers)


def _latency(option: Option) -> float:
    return option.cost.latency_ms.p50 if option.cost else float("inf")


def _thrift(option: Option) -> tuple[float, float, int]:
    """Energy where it was measured, else time; an option without either comes last, smaller tiers first."""
    energy = option.cost.energy_mj if option.cost and option.cost.energy_mj is not None else float("inf")
    return (energy, _latency(option), option.tier.layers)


def _shortfall(option: Option, budget: Budget) -> str | None:
    """The first limit that an option breaks, in words; None if it breaks none."""
    if option.refused is not None:
        return option.refused
    cost = option.cost
    measured = (
        ("latency", "ms", cost.latency_ms.p90 if cost else None, budget.latency_ms),
        ("energy", "mJ", cost.energy_mj if cost else None, budget.energy_mj),
        ("memory", "MB", cost.peak_mb if cost else None, budget.memory_mb),
    )
    for name, unit, value, limit in measured:
        if limit is not None and value is None:
            return f"{name} was not measured here; make a profile with 'edge-embed profile'"
        if limit is not None and value is not None and value > limit:
            return f"{name} {_above(value, limit)} {unit} is over {limit:g} {unit}"
    if budget.min_quality is not None and option.quality is None:
        return "the bundle has no score for it; export with scored pairs"
    if budget.min_quality is not None and option.quality is not None and option.quality < budget.min_quality:
        return f"score {option.quality:.3f} is under {budget.min_quality:g}"
    return None


def _above(value: float, limit: float) -> str:
    """A value in as few digits, three or more, as show that it lies above its limit."""
    forms = (f"{value:.{digits}g}" for digits in range(3, 18))
    return next((form for form in forms if float(form) > float(f"{limit:g}")), repr(value))


def _one_a_tier(options: Sequence[Option], budget: Budget) -> list[Option]:
    """For each tier the option that speaks for it: one that fits if there is one, else the fastest."""
    best: dict[Tier, Option] = {}
    for option in sorted(options, key=lambda o: (_shortfall(o, budget) is not None, _latency(o))):
        best.setdefault(option.tier, option)
    return sorted(best.values(), key=lambda o: o.tier.layers)


def _because(chosen: Option, budget: Budget, power: PowerState, thrifty: bool, *, alone: bool) -> str:
    parts = []
    if alone:
        parts.append("the only tier to choose from")
    elif thrifty:
        measured = chosen.cost is not None and chosen.cost.energy_mj is not None
        spends = "least energy" if measured else "least time (energy was not measured)"
        state = "too hot" if power.throttled else "saving power" if power.saver else "on battery"
        parts.append(f"{state}: {spends} with a score of at least {budget.min_quality:g}")
    else:
        parts.append("best quality within the budget" if budget.needs_profile else "best quality")
    if chosen.quality is not None:
        parts.append(f"score {chosen.quality:.3f}")
    if chosen.cost is not None:
        limit = f" of {budget.latency_ms:g}" if budget.latency_ms is not None else ""
        parts.append(f"p90 {chosen.cost.latency_ms.p90:.2f}{limit} ms at {chosen.cost.tokens} tokens")
    return "; ".join(parts)


def _why_not(option: Option, chosen: Option, thrifty: bool) -> str:
    if thrifty:
        return f"fits, but costs more than {chosen.tier.name}"
    if option.quality is not None and chosen.quality is not None:
        return f"fits, but scores {option.quality:.3f}, {chosen.tier.name} {chosen.quality:.3f}"
    return f"fits, but is smaller than {chosen.tier.name}"
