"""Measure graphs of a bundle on this device."""

from collections.abc import Callable, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import partial
from itertools import count, groupby, product
from statistics import median
from time import perf_counter

from edge_embed_runtimes.bundle import Bundle
from edge_embed_runtimes.device.energy import EnergyReader, find_reader
from edge_embed_runtimes.device.measure import (
    FULL,
    QUICK,
    Call,
    Cost,
    Effort,
    Graph,
    Timing,
    energy_per_text_mj,
    example_input,
    idle_mw,
)
from edge_embed_runtimes.device.opening import open_graph
from edge_embed_runtimes.device.probe import read_device, read_power, usable_threads
from edge_embed_runtimes.device.profile import DeviceProfile, bundle_id, engine_versions
from edge_embed_runtimes.device.trial import EXAMPLE_TEXT, Shape, Trial, try_graph
from edge_embed_runtimes.errors import ProfileError
from edge_embed_runtimes.progress import Progress, silent
from edge_embed_runtimes.tokenizer import BATCH_TOKENS, Tokenizer

_RENEWALS = 4
"""So many values of a slow gauge make a measurement."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What to measure: every graph at each number of tokens, texts a call and threads.

    Attributes:
        threads: none means all that this process may use.
        quick: fewer calls, for a first impression.
        isolate: also a fresh process for each graph, which alone can tell its peak memory and its start.
    """

    tokens: tuple[int, ...] = (16, 64, 256)
    batches: tuple[int, ...] = (1, 32)
    threads: tuple[int, ...] = ()
    quick: bool = False
    isolate: bool = True

    def __post_init__(self) -> None:
        for name, values in (("tokens", self.tokens), ("batches", self.batches), ("threads", self.threads or (1,))):
            if not values or min(values) < 1:
                raise ProfileError(f"{name} to profile are {values}: name one or more numbers of at least 1")


QUICK_PLAN = Plan(tokens=(32,), quick=True)


@dataclass(frozen=True, slots=True)
class _Setting:
    """What is the same for all graphs of a group."""

    bundle: Bundle
    shapes: Sequence[Shape]
    effort: Effort
    threads: int
    runs_on: str


@dataclass(frozen=True, slots=True)
class _Run:
    """One graph at one shape, its session open."""

    graph: Graph
    shape: Shape
    load_ms: float
    call: Call
    timing: Timing


def profile_bundle(
    bundle: Bundle, graphs: Sequence[Graph], *, plan: Plan, runs_on: str = "CPU", progress: Progress = silent
) -> DeviceProfile:
    """Measure graphs of a bundle: the tiers of each engine and precision in turns, over and over.

    Args:
        graphs: (tier name, engine, precision) of each.
        plan: lengths, batches, threads and effort.
        runs_on: what the engine calls the device to run on.
        progress: told after each part.

    Raises:
        ProfileError: no graphs, or a measuring process failed, or an energy reader did.
        EngineError: an engine can't load a graph.
    """
    if not graphs:
        raise ProfileError("nothing to profile: the bundle has no graph for an installed engine")
    effort, shapes = QUICK if plan.quick else FULL, _shapes(plan, bundle.manifest.max_tokens)
    groups = list(product(plan.threads or (usable_threads(),), _groups(graphs)))
    steps, total = count(1), sum(effort.windows + plan.isolate * len(group) for _, group in groups)
    reader = find_reader()
    costs: list[Cost] = []
    drifts: list[float] = []
    try:
        for threads, group in groups:
            setting = _Setting(bundle, shapes, effort, threads, runs_on)
            found, drift = _measure(setting, group, reader, lambda: progress("profile", next(steps), total))
            drifts.append(drift)
            for graph in group if plan.isolate else []:
                found = _with_trial(found, graph, try_graph(bundle, graph, shapes, threads, runs_on))
                progress("profile", next(steps), total)
            costs += found
    finally:
        if reader is not None:
            reader.close()
    return DeviceProfile(
        bundle=bundle_id(bundle),
        device=read_device(),
        engine_versions=engine_versions({engine for _, engine, _ in graphs}),
        runs_on=runs_on,
        power_source=read_power().source,
        energy_reader=reader.name if reader else None,
        drift=max(drifts, key=abs),
        costs=tuple(costs),
        made_at=datetime.now(UTC).isoformat(timespec="seconds"),
        quick=plan.quick,
    )


def _groups(graphs: Sequence[Graph]) -> list[list[Graph]]:
    """By engine and precision: as many sessions as a ladder has tiers are open at a time."""
    ordered = sorted(graphs, key=lambda graph: graph[1:])
    return [list(group) for _, group in groupby(ordered, key=lambda graph: graph[1:])]


def _shapes(plan: Plan, max_tokens: int) -> list[Shape]:
    """Every length with every number of texts, but no more of them than a batch of the runtime holds."""
    lengths = sorted({min(tokens, max_tokens) for tokens in plan.tokens})
    return [
        Shape(tokens, batch)
        for tokens in lengths
        for batch in sorted({min(batch, max(1, BATCH_TOKENS // tokens)) for batch in plan.batches})
    ]


def _measure(
    setting: _Setting, graphs: Sequence[Graph], reader: EnergyReader | None, tell: Callable[[], None]
) -> tuple[list[Cost], float]:
    """The costs of some graphs, and how much longer their calls took towards the end."""
    effort = setting.effort
    with ExitStack() as stack:
        runs = _open(setting, graphs, stack)
        for _ in range(effort.windows):
            for run in runs:
                run.timing.window()
            tell()
        energies = _energies(runs, reader, effort.energy_seconds)
    costs = [_cost(run, energy_mj, setting.threads) for run, energy_mj in zip(runs, energies, strict=True)]
    return costs, median(run.timing.drift for run in runs)


def _open(setting: _Setting, graphs: Sequence[Graph], stack: ExitStack) -> list[_Run]:
    """Every graph at every shape, the tiers beside each other; their sessions close with the stack."""
    bundle = setting.bundle
    tokenizer = Tokenizer.from_file(bundle.tokenizer(), max_tokens=bundle.manifest.max_tokens)
    (ids,), _ = tokenizer.encode([EXAMPLE_TEXT])
    loaded = []
    for graph in graphs:
        name, engine, precision = graph
        tier = bundle.manifest.ladder.find(name)
        started = perf_counter()
        session = open_graph(bundle, tier, engine, precision, device=setting.runs_on, threads=setting.threads)
        loaded.append((graph, stack.enter_context(closing(session)), (perf_counter() - started) * 1000))
    runs = []
    for shape, (graph, session, load_ms) in product(setting.shapes, loaded):
        call = partial(session.run, *example_input(ids, shape.tokens, shape.batch))
        runs.append(_Run(graph, shape, load_ms, call, Timing(call, setting.effort)))
    return runs


def _energies(runs: Sequence[_Run], reader: EnergyReader | None, seconds: float) -> list[float | None]:
    """Millijoules a text of each run; None without a reader.

    Args:
        seconds: how long each takes at least; longer where the reader is slow.
    """
    if reader is None:
        return [None] * len(runs)
    seconds = max(seconds, _RENEWALS * reader.renews_s)
    idle = idle_mw(reader, seconds)
    return [energy_per_text_mj(run.call, run.shape.batch, reader, seconds=seconds, idle_mw=idle) for run in runs]


def _cost(run: _Run, energy_mj: float | None, threads: int) -> Cost:
    latency, (tokens, batch) = run.timing.latency, run.shape
    texts_per_s = batch / latency.p50 * 1000
    return Cost(*run.graph, tokens, batch, latency, texts_per_s, energy_mj, run.load_ms, None, threads)


def _with_trial(costs: Sequence[Cost], graph: Graph, trial: Trial) -> list[Cost]:
    """The costs, those of a graph with what a fresh process found."""

    def filled(cost: Cost) -> Cost:
        peak_mb = trial.peaks_mb[Shape(cost.tokens, cost.batch)]
        return replace(cost, load_ms=trial.load_ms, first_ms=trial.first_ms, peak_mb=peak_mb)

    return [filled(cost) if cost.graph == graph else cost for cost in costs]
