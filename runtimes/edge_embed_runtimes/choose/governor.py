"""Choosing again while an app runs: as power and pace change, but not at every flicker.

Pure: the time, the power state and how long calls took come from outside.
"""

from collections import deque
from collections.abc import Sequence
from dataclasses import replace
from statistics import median

from edge_embed_runtimes.choose.policy import Budget, Choice, Option, choose, is_saving, settle
from edge_embed_runtimes.device.measure import Graph
from edge_embed_runtimes.device.probe import PowerState
from edge_embed_runtimes.errors import NoTierFits
from edge_embed_runtimes.tiers import Tier

DWELL_S = 10.0
"""A tier runs at least this long before another takes over."""
_MARGIN = 0.1
"""A larger tier comes back once it would keep the limit with this much to spare."""
_MARGIN_PERCENT = 5.0
_SLOW, _RECOVERED = 1.25, 1.1
_FEWEST_CALLS, _CALLS = 8, 16


class Governor:
    """The choice among options, held for a while and then reconsidered.

    Args:
        options: see `edge_embed_runtimes.choose.policy.choose`.
        power: the state now.
        now: seconds on any clock that does not stand still.
        dwell_s: a choice is kept at least this long, unless it can't run.

    Attributes:
        choice: what runs.

    Raises:
        NoTierFits: see `choose`.
    """

    def __init__(
        self, options: Sequence[Option], budget: Budget, power: PowerState, *, now: float, dwell_s: float = DWELL_S
    ) -> None:
        self._options = list(options)
        self._budget = budget
        self._dwell_s = dwell_s
        self._since = now
        self._saving = is_saving(power, budget)
        self._pace = 1.0
        self._ratios: deque[float] = deque(maxlen=_CALLS)
        self._step: Choice | None = None
        self.choice = choose(self._options, budget, power, saving=self._saving)

    def observe(self, ratio: float) -> None:
        """Take in that a call took `ratio` times what the profile says."""
        self._ratios.append(ratio)

    def decide(self, power: PowerState, now: float) -> Choice:
        """The choice for this moment."""
        margin = _MARGIN_PERCENT if self._saving else 0.0
        saving = is_saving(power, self._budget, margin_percent=margin)
        self._read_pace()
        self._since = min(self._since, now)  # a clock that jumped back
        if now - self._since >= self._dwell_s:
            self._saving = saving
            self._turn_to(self._wanted(power), now)
        return self.choice

    def put_aside(self, graph: Graph, reason: str, power: PowerState, now: float) -> Choice:
        """Never again take a graph that can't run; the next best choice.

        Raises:
            NoTierFits: it was the last one.
        """
        self._options = [replace(o, refused=reason) if o.graph == graph else o for o in self._options]
        self._turn_to(choose(self._options, self._budget, power, saving=self._saving), now)
        return self.choice

    def _read_pace(self) -> None:
        """How many times slower than its profile the device is now; 1 unless that is clear."""
        if len(self._ratios) >= _FEWEST_CALLS:
            pace = median(self._ratios)
            self._pace = pace if pace > (_SLOW if self._pace == 1.0 else _RECOVERED) else 1.0

    def _wanted(self, power: PowerState) -> Choice:
        """What would be chosen at this pace; for the sake of the pace one rung down at a time, and back again so."""
        here = self.choice.tier.layers
        fits = self._choose_at(self._pace, power)
        if self._pace > 1.0 and (fits is None or fits.tier.layers < here):
            smaller = [tier for tier in self._tiers() if tier.layers < here]
            return self._step_to(smaller[-1]) if smaller else self.choice
        if fits is None:
            return self.choice
        if self.choice is self._step and fits.tier.layers > here:
            spare = self._choose_at(self._pace * (1 + _MARGIN), power)
            if spare is None or spare.tier.layers <= here:
                return self.choice
            larger = next(tier for tier in self._tiers() if tier.layers > here)
            return fits if fits.tier == larger else self._step_to(larger)
        return fits

    def _choose_at(self, pace: float, power: PowerState) -> Choice | None:
        try:
            return choose(self._at(pace), self._budget, power, saving=self._saving)
        except NoTierFits:
            return None

    def _step_to(self, tier: Tier) -> Choice:
        because = f"smaller for now: calls took {self._pace:.1f} times what the profile says"
        self._step = settle(tier, self._at(self._pace), self._budget, because)
        return self._step

    def _at(self, pace: float) -> list[Option]:
        """The options, each as much slower as the device is now."""
        if pace == 1.0:
            return self._options
        return [replace(o, cost=o.cost.slowed(pace)) if o.cost else o for o in self._options]

    def _tiers(self) -> list[Tier]:
        """What may run at all, the smallest first: time may be short, but the score asked for is kept."""
        floor = self._budget.min_quality
        good = [o for o in self._options if o.refused is None and (floor is None or (o.quality or 0) >= floor)]
        return sorted({o.tier for o in good}, key=lambda tier: tier.layers)

    def _turn_to(self, wanted: Choice, now: float) -> None:
        if wanted.graph != self.choice.graph:
            self._since = now
            self._ratios.clear()
        elif self._pace > 1.0:
            return  # a step down stays one until the pace is as it was
        self.choice = wanted
