"""Play a power trace through the policy: which tier would have run when, at what cost.

Pure: nothing is measured, and a day takes seconds.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

from edge_embed_runtimes.choose.governor import DWELL_S, Governor
from edge_embed_runtimes.choose.policy import Budget, Choice, Option
from edge_embed_runtimes.device.measure import Graph
from edge_embed_runtimes.device.probe import PowerState
from edge_embed_runtimes.errors import TraceError

TICK_S = 5.0
"""How often the device is looked at; an embedder does so before a call, at most once a second."""
_CALLS_A_TICK = 16


@dataclass(frozen=True, slots=True)
class Moment:
    """What holds from a time on.

    Attributes:
        at_s: seconds since the beginning.
        pace: how many times longer a call takes than the profile says; 2 where others use half of the processor.
        texts_per_s: how many texts the app embeds.
    """

    at_s: float
    power: PowerState
    pace: float = 1.0
    texts_per_s: float = 1.0


@dataclass(frozen=True, slots=True)
class Span:
    """A time in which nothing changed: neither the moment nor the choice.

    Attributes:
        latency_ms: the median for one text at this pace; None where the profile does not tell.
        energy_mj: a text; None where it was not measured.
        quality: the score of the tier; None without one.
    """

    moment: Moment
    start_s: float
    end_s: float
    choice: Choice
    latency_ms: float | None
    energy_mj: float | None
    quality: float | None

    @property
    def texts(self) -> float:
        """How many texts were embedded."""
        return self.moment.texts_per_s * (self.end_s - self.start_s)


def simulate(
    options: Sequence[Option], budget: Budget, trace: Sequence[Moment], *, dwell_s: float = DWELL_S
) -> tuple[Span, ...]:
    """Play a trace through the policy that runs in an embedder.

    Args:
        options: with their costs; see `edge_embed_runtimes.choose.options`.
        trace: at least two moments, in order; the last one only says when it ends.

    Raises:
        TraceError: the trace is too short, or out of order.
        NoTierFits: no option meets the budget at the first moment.
    """
    times = [moment.at_s for moment in trace]
    if len(trace) < 2 or any(later <= earlier for earlier, later in pairwise(times)):
        raise TraceError("a trace needs at least two moments, each later than the one before")
    by_graph = {option.graph: option for option in options}
    governor = Governor(options, budget, trace[0].power, now=trace[0].at_s, dwell_s=dwell_s)
    spans: list[Span] = []
    for moment, following in pairwise(trace):
        now = moment.at_s
        while now < following.at_s:
            choice = governor.decide(moment.power, now)
            end = min(now + TICK_S, following.at_s)
            _add(spans, _span(moment, now, end, choice, by_graph))
            if moment.texts_per_s > 0:
                for _ in range(_CALLS_A_TICK):
                    governor.observe(moment.pace)
            now = end
    return tuple(spans)


def _span(moment: Moment, start: float, end: float, choice: Choice, options: dict[Graph, Option]) -> Span:
    option = options[choice.graph]
    latency = None if option.cost is None else option.cost.latency_ms.p50 * moment.pace
    energy = None if option.cost is None else option.cost.energy_mj
    return Span(moment, start, end, choice, latency, energy, option.quality)


def _add(spans: list[Span], span: Span) -> None:
    """At the end, or as part of the last one where nothing changed."""
    last = spans[-1] if spans else None
    if last is not None and last.moment is span.moment and last.choice.graph == span.choice.graph:
        spans[-1] = replace(last, end_s=span.end_s)
    else:
        spans.append(span)
