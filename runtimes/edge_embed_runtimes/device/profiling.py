"""Measure graphs of a bundle on this device."""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import partial
from itertools import groupby, product
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
from edge_embed_runtimes.device.trial import EXAMPLE_TEXT, Shape, try_graph
from edge_embed_runtimes.errors import ProfileError
from edge_embed_runtimes.progress import Progress, silent
from edge_embed_runtimes.tokenizer import BATCH_TOKENS, Tokenizer


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
class _Run:
    """One graph at one shape, its session open."""

    graph: Graph
    shape: Shape
    timing: Timing
    call: Call


def profile_bundle(
    bundle: Bundle,
    graphs: Sequence[Graph],
    *,
    plan: Plan,
    runs_on: str = "CPU",
    progress: Progress = silent,
) -> DeviceProfile:
    """Measure graphs of a bundle: the tiers of each engine and precision in turns, the first one again at the end.

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
    reader = find_reader()
    costs: list[Cost] = []
    drifts: list[float] = []
    groups = list(product(plan.threads or (usable_threads(),), _groups(graphs)))
    try:
        for done, (threads, group) in enumerate(groups):
            measured, drift = _measure_group(bundle, group, plan, threads, runs_on, reader)
            progress("profile", done + 1, len(groups))
            costs += measured
            drifts.append(drift)
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


def _measure_group(
    bundle: Bundle, graphs: Sequence[Graph], plan: Plan, threads: int, runs_on: str, reader: EnergyReader | None
) -> tuple[list[Cost], float]:
    """The costs of some graphs, and how much longer the first one took at the end."""
    effort = QUICK if plan.quick else FULL
    shapes = _shapes(plan, bundle.manifest.max_tokens)
    with ExitStack() as stack:
        loads: dict[Graph, float] = {}
        runs = list(_open(bundle, graphs, shapes, threads, runs_on, effort, stack, loads))
        for _ in range(effort.windows):
            for run in runs:
                run.timing.window()
        runs[0].timing.window()
        energies = [None] * len(runs) if reader is None else list(_energies(runs, reader, effort))
    trials = {graph: try_graph(bundle, graph, shapes, threads, runs_on) for graph in graphs} if plan.isolate else {}
    costs = []
    for run, energy in zip(runs, energies, strict=True):
        latency, trial = run.timing.latency, trials.get(run.graph)
        texts_per_s = run.shape.batch / latency.p50 * 1000
        load_ms = loads[run.graph] if trial is None else trial.load_ms
        cost = Cost(*run.graph, run.shape.tokens, run.shape.batch, latency, texts_per_s, energy, load_ms, None, threads)
        if trial is not None:
            cost = replace(cost, peak_mb=trial.peaks_mb.get(run.shape), first_ms=trial.first_ms)
        costs.append(cost)
    return costs, runs[0].timing.drift


def _open(
    bundle: Bundle,
    graphs: Sequence[Graph],
    shapes: Sequence[Shape],
    threads: int,
    runs_on: str,
    effort: Effort,
    stack: ExitStack,
    loads: dict[Graph, float],
) -> Iterator[_Run]:
    """Every graph at every shape, the tiers beside each other; sessions close with the stack."""
    tokenizer = Tokenizer.from_file(bundle.tokenizer(), max_tokens=bundle.manifest.max_tokens)
    (ids,), _ = tokenizer.encode([EXAMPLE_TEXT])
    sessions = {}
    for graph in graphs:
        name, engine, precision = graph
        tier = bundle.manifest.ladder.find(name)
        started = perf_counter()
        session = open_graph(bundle, tier, engine, precision, device=runs_on, threads=threads)
        loads[graph] = (perf_counter() - started) * 1000
        sessions[graph] = stack.enter_context(closing(session))
    for shape, graph in product(shapes, graphs):
        call = partial(sessions[graph].run, *example_input(ids, shape.tokens, shape.batch))
        yield _Run(graph, shape, Timing(call, effort), call)


def _energies(runs: Sequence[_Run], reader: EnergyReader, effort: Effort) -> Iterator[float]:
    idle = idle_mw(reader, effort.energy_seconds)
    for run in runs:
        yield energy_per_text_mj(run.call, run.shape.batch, reader, seconds=effort.energy_seconds, idle_mw=idle)


def _shapes(plan: Plan, max_tokens: int) -> list[Shape]:
    """Every length with every number of texts, but no more of them than a batch of the runtime holds."""
    lengths = sorted({min(tokens, max_tokens) for tokens in plan.tokens})
    return [
        Shape(tokens, batch)
        for tokens in lengths
        for batch in sorted({min(batch, max(1, BATCH_TOKENS // tokens)) for batch in plan.batches})
    ]
