"""From a bundle, an app's wishes and this device to a runner."""

import logging
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial

from edge_embed_runtimes.bundle import Bundle
from edge_embed_runtimes.choose.options import list_options, with_costs
from edge_embed_runtimes.choose.policy import Budget, Option
from edge_embed_runtimes.device.kept import keep_profile, kept_profiles
from edge_embed_runtimes.device.measure import Cost, Graph
from edge_embed_runtimes.device.opening import open_graph
from edge_embed_runtimes.device.probe import usable_threads
from edge_embed_runtimes.device.profile import DeviceProfile
from edge_embed_runtimes.device.profiling import Plan, profile_bundle
from edge_embed_runtimes.engines import Computing, Session
from edge_embed_runtimes.errors import EngineError
from edge_embed_runtimes.manifest import Engine, GraphRole, Precision
from edge_embed_runtimes.run.call import Bulk
from edge_embed_runtimes.run.canaries import read_canaries
from edge_embed_runtimes.run.pool import SessionPool
from edge_embed_runtimes.run.refining import Stepper
from edge_embed_runtimes.tokenizer import Tokenizer

log = logging.getLogger("edge_embed")


@dataclass(frozen=True, slots=True)
class Wishes:
    """What an app asks for by name; None leaves it to be chosen."""

    tier: str | None = None
    engine: Engine | None = None
    precision: Precision | None = None
    device: str = "CPU"
    threads: int | None = None


@dataclass(frozen=True, slots=True)
class Setup:
    """What can run on one device, what it costs there, and how it is opened.

    Attributes:
        pool: for a call at a time.
        stepper: goes on from tier to tier.
        bulk: for many calls at once, where that is another arrangement.
    """

    options: Sequence[Option]
    profile: DeviceProfile | None
    pool: SessionPool[Session]
    stepper: Stepper
    bulk: Bulk | None = None


def set_up(
    bundle: Bundle, tokenizer: Tokenizer, wishes: Wishes, budget: Budget, profile: DeviceProfile | None
) -> Setup:
    """Find what a bundle can run here, at what cost.

    Raises:
        BundleError, LadderError: the bundle lacks what is asked for.
        EngineError: an engine or device is unknown or missing.
    """
    threads = usable_threads() if wishes.threads is None else wishes.threads
    if threads < 1:
        raise EngineError(f"threads is {threads}: allowed is at least 1, or None for all that may be used")
    options = list_options(
        bundle, tier=wishes.tier, engine=wishes.engine, precision=wishes.precision, device=wishes.device
    )
    if profile is not None and (reason := profile.mismatch(bundle, threads, wishes.device)):
        log.warning("the profile is ignored: %s", reason)
        profile = None
    elif profile is not None:
        profile = profile.with_threads(threads)
    if profile is None and budget.needs_profile:
        # of two precisions the preferred one is the cheaper one: the other would only make the start slower
        options = [option for option in options if option.precision == options[0].precision]
        profile = _known_costs(bundle, [option.graph for option in options], budget, threads, wishes.device)
    canaries = read_canaries(bundle, tokenizer) if bundle.verify == "always" else None

    def open_it(graph: Graph, role: GraphRole = "graph", streams: int = 1) -> Computing:
        name, engine, precision = graph
        tier = bundle.manifest.ladder.find(name)
        session = open_graph(
            bundle, tier, engine, precision, device=wishes.device, threads=threads, streams=streams, role=role
        )
        if canaries is not None and role == "graph":
            try:
                canaries.check(canaries.run(session), graph)
            except EngineError:
                session.close()
                raise
        return session

    bulk = None
    if wishes.device == "CPU" and threads > 1:
        workers = ThreadPoolExecutor(threads, thread_name_prefix="edge-embed")
        bulk = Bulk(SessionPool(partial(open_it, streams=threads), keep=1), threads, workers)
    ladder, space = bundle.manifest.ladder, bundle.manifest.space
    stepper = Stepper(SessionPool(partial(open_it, role="step"), keep=len(ladder)), ladder, space, canaries)
    return Setup(with_costs(options, profile, budget.tokens), profile, SessionPool(open_it), stepper, bulk)


def _known_costs(bundle: Bundle, graphs: Sequence[Graph], budget: Budget, threads: int, runs_on: str) -> DeviceProfile:
    """A profile that was kept, if it tells what the budget needs; or a quick one, made now and kept."""
    tokens = min(budget.tokens, bundle.manifest.max_tokens)
    for profile in kept_profiles(bundle, threads=threads, runs_on=runs_on):
        costs = [profile.cost(graph, tokens=tokens) for graph in graphs]
        if all(cost and cost.tokens >= tokens and _tells(cost, budget, profile) for cost in costs):
            return profile
    log.warning("no profile of this device: measuring %d graphs first", len(graphs))
    isolate = budget.memory_mb is not None
    plan = Plan(tokens=(tokens,), batches=(1,), threads=(threads,), quick=True, isolate=isolate)
    profile = profile_bundle(bundle, graphs, plan=plan, runs_on=runs_on)
    keep_profile(profile)
    return profile


def _tells(cost: Cost, budget: Budget, profile: DeviceProfile) -> bool:
    """Whether a cost holds what the budget limits, as far as it can be measured."""
    energy = budget.energy_mj is None or cost.energy_mj is not None or profile.energy_reader is None
    return energy and (budget.memory_mb is None or cost.peak_mb is not None)
