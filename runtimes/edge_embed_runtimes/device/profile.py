"""What every tier costs on this device: measured, written as JSON, read again."""

import hashlib
import json
import subprocess
import sys
import time
from collections.abc import Collection, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np

from edge_embed_runtimes.bundle import Bundle
from edge_embed_runtimes.device.energy import find_reader
from edge_embed_runtimes.device.measure import FULL, QUICK, Cost, Graph, Latency, measure, peak_memory_mb
from edge_embed_runtimes.device.opening import open_graph
from edge_embed_runtimes.device.probe import Device, read_device, read_power, usable_threads
from edge_embed_runtimes.engines import list_engines
from edge_embed_runtimes.errors import EdgeEmbedError, ProfileError
from edge_embed_runtimes.files import writing_file
from edge_embed_runtimes.manifest import MANIFEST_NAME, Engine
from edge_embed_runtimes.progress import Progress, silent
from edge_embed_runtimes.tokenizer import Tokenizer

FORMAT = 1
_DRIFT = 0.10
_EXAMPLE_TEXT = "The night train left the old station a little late, and nobody on the platform seemed to mind."


@dataclass(frozen=True, slots=True)
class Plan:
    """What to measure: every graph at each number of tokens and texts a call.

    Attributes:
        quick: fewer calls, for a first impression.
        isolate: a fresh process for each graph, which alone can tell its peak memory.
    """

    tokens: tuple[int, ...] = (16, 64, 256)
    batches: tuple[int, ...] = (1, 32)
    quick: bool = False
    isolate: bool = True

    def __post_init__(self) -> None:
        for name, values in (("tokens", self.tokens), ("batches", self.batches)):
            if not values or min(values) < 1:
                raise ProfileError(f"{name} to profile are {values}: name one or more numbers of at least 1")


QUICK_PLAN = Plan(tokens=(32,), quick=True)


@dataclass(frozen=True, slots=True)
class DeviceProfile:
    """The costs of one bundle on one device.

    Attributes:
        bundle: sha256 of the manifest that was measured.
        runs_on: the engine's name of what it ran on, such as `"CPU"`.
        power_source: where the power came from meanwhile.
        energy_reader: what reported the energy; None where nothing did.
        stable: the first graph, measured again at the end, was within 10 % of itself.
    """

    bundle: str
    device: Device
    engine_versions: dict[str, str]
    threads: int
    runs_on: str
    power_source: Literal["mains", "battery", "unknown"]
    energy_reader: str | None
    stable: bool
    costs: tuple[Cost, ...]
    format: int = FORMAT

    def cost(self, graph: Graph, *, tokens: int, batch: int = 1) -> Cost | None:
        """The cost of a graph at the measured length next above `tokens`, or at the longest; None if not measured."""
        found = [c for c in self.costs if (c.tier, c.engine, c.precision) == graph and c.batch == batch]
        longer = [c for c in found if c.tokens >= tokens]
        if longer:
            return min(longer, key=lambda c: c.tokens)
        return max(found, key=lambda c: c.tokens, default=None)

    def expected_ms(self, graph: Graph, *, tokens: int, batch: int) -> float | None:
        """The median time of a call, on a straight line between the measured lengths; shorter texts take no more.

        None where the graph was not measured, or only with much smaller batches.
        """
        known = [c for c in self.costs if (c.tier, c.engine, c.precision) == graph and c.batch <= batch <= 2 * c.batch]
        if not known:
            return None
        nearest = max(c.batch for c in known)
        times = {c.tokens: c.latency_ms.p50 / c.batch for c in known if c.batch == nearest}
        lengths = sorted(times)
        if tokens > lengths[-1]:
            return batch * times[lengths[-1]] * tokens / lengths[-1]
        return batch * float(np.interp(tokens, lengths, [times[length] for length in lengths]))

    def mismatch(self, bundle: Bundle, threads: int, runs_on: str = "CPU") -> str | None:
        """Why this profile does not speak for a bundle on this device; None if it does."""
        here = read_device()
        if self.bundle != bundle_id(bundle):
            return "it was made with another bundle"
        if (self.device.cpu, self.device.system) != (here.cpu, here.system):
            return f"it was made on {self.device.cpu}"
        if (self.threads, self.runs_on) != (threads, runs_on):
            return f"it was made with {self.threads} threads on {self.runs_on}, not {threads} on {runs_on}"
        for engine, version in engine_versions({c.engine for c in self.costs}).items():
            if self.engine_versions.get(engine) != version:
                return f"it was made with {engine} {self.engine_versions.get(engine)}, not {version}"
        return None

    def save(self, path: Path) -> None:
        """Write as JSON.

        Raises:
            OutputError: the place can't be written.
        """
        with writing_file(path) as temporary:
            temporary.write_text(json.dumps(asdict(self), indent=1, sort_keys=True) + "\n", encoding="utf-8")

    @staticmethod
    def load(path: Path) -> "DeviceProfile":
        """Read what `save` wrote.

        Raises:
            ProfileError: the file is missing, or is no profile of this format.
        """
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
            if content["format"] != FORMAT:
                raise ProfileError(f"{path} has format {content['format']!r}, not {FORMAT}: profile again")
            device = {**content["device"], "features": tuple(content["device"]["features"])}
            costs = tuple(Cost(**{**cost, "latency_ms": Latency(**cost["latency_ms"])}) for cost in content["costs"])
            return DeviceProfile(**{**content, "device": Device(**device), "costs": costs})
        except ProfileError:
            raise
        except OSError as error:
            raise ProfileError(
                f"no profile at {path} ({error.strerror}): make one with 'edge-embed profile'"
            ) from error
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise ProfileError(f"{path} is no profile of edge-embed: make one with 'edge-embed profile'") from error


def bundle_id(bundle: Bundle) -> str:
    """What a profile knows a bundle by: the sha256 of its manifest, which holds every file's hash."""
    return hashlib.sha256((bundle.path / MANIFEST_NAME).read_bytes()).hexdigest()


def engine_versions(engines: Collection[Engine]) -> dict[str, str]:
    """The version of each of these engines that is installed."""
    return {name: facts.version for name, facts in list_engines(engines).items() if facts.version}


def profile_bundle(
    bundle: Bundle,
    graphs: Sequence[Graph],
    *,
    plan: Plan,
    threads: int | None = None,
    runs_on: str = "CPU",
    progress: Progress = silent,
) -> DeviceProfile:
    """Measure graphs of a bundle, the first one twice, to see whether the device kept its pace.

    Args:
        graphs: (tier name, engine, precision) of each.
        plan: lengths, batches and effort.
        threads: threads a call; None for all that this process may use.
        runs_on: what the engine calls the device to run on.
        progress: told after each graph.

    Raises:
        ProfileError: no graphs, or a measuring process failed.
        EngineError: an engine can't load a graph.
    """
    if not graphs:
        raise ProfileError("nothing to profile: the bundle has no graph for an installed engine")
    threads = usable_threads() if threads is None else threads
    one = _measure_in_process if plan.isolate else measure_graph
    rounds = [*graphs, graphs[0]]
    measured: list[tuple[Cost, ...]] = []
    for index, graph in enumerate(rounds):
        progress("profile", index, len(rounds))
        measured.append(one(bundle, graph, plan, threads, runs_on))
    progress("profile", len(rounds), len(rounds))
    first, again = measured[0][0].latency_ms.p50, measured[-1][0].latency_ms.p50
    return DeviceProfile(
        bundle=bundle_id(bundle),
        device=read_device(),
        engine_versions=engine_versions({engine for _, engine, _ in graphs}),
        threads=threads,
        runs_on=runs_on,
        power_source=read_power().source,
        energy_reader=reader.name if (reader := find_reader()[0]) else None,
        stable=abs(again - first) <= _DRIFT * first,
        costs=tuple(cost for costs in measured[:-1] for cost in costs),
    )


def measure_graph(bundle: Bundle, graph: Graph, plan: Plan, threads: int, runs_on: str) -> tuple[Cost, ...]:
    """Measure one graph in this process."""
    name, engine, precision = graph
    tier = bundle.manifest.ladder.find(name)
    tokenizer = Tokenizer.from_file(bundle.tokenizer(), max_tokens=bundle.manifest.max_tokens)
    (ids,), _ = tokenizer.encode([_EXAMPLE_TEXT])
    reader, _ = find_reader()
    started = time.perf_counter()
    session = open_graph(bundle, tier, engine, precision, device=runs_on, threads=threads)
    load_ms = (time.perf_counter() - started) * 1000
    try:
        return tuple(
            Cost(name, engine, precision, tokens, batch, latency, texts_per_s, energy_mj, load_ms, None)
            for tokens, batch in _shapes(plan, bundle.manifest.max_tokens)
            for latency, texts_per_s, energy_mj in [
                measure(session, ids, tokens=tokens, batch=batch, effort=QUICK if plan.quick else FULL, reader=reader)
            ]
        )
    finally:
        session.close()


def _shapes(plan: Plan, max_tokens: int) -> Iterator[tuple[int, int]]:
    for tokens in sorted({min(tokens, max_tokens) for tokens in plan.tokens}):
        for batch in plan.batches:
            yield tokens, batch


def _measure_in_process(bundle: Bundle, graph: Graph, plan: Plan, threads: int, runs_on: str) -> tuple[Cost, ...]:
    """Measure one graph in a fresh process, which can tell its peak memory."""
    job = json.dumps([str(bundle.path), graph, asdict(plan), threads, runs_on])
    command = [sys.executable, "-m", "edge_embed_runtimes.device.profile", job]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        last = (done.stderr.strip().splitlines() or ["no message"])[-1]
        raise ProfileError(f"measuring {' '.join(graph)} failed: {last}")
    costs = json.loads(done.stdout)
    return tuple(Cost(**{**cost, "latency_ms": Latency(**cost["latency_ms"])}) for cost in costs)


def _worker(job: str) -> str:
    path, (name, engine, precision), plan, threads, runs_on = json.loads(job)
    wanted = Plan(**{**plan, "tokens": tuple(plan["tokens"]), "batches": tuple(plan["batches"])})
    # the parent has checked the hashes; hashing again would only warm the page cache
    costs = measure_graph(Bundle(path, verify="never"), (name, engine, precision), wanted, threads, runs_on)
    return json.dumps([asdict(replace(cost, peak_mb=peak_memory_mb())) for cost in costs])


if __name__ == "__main__":
    try:
        sys.stdout.write(_worker(sys.argv[1]))
    except EdgeEmbedError as error:
        sys.exit(f"{type(error).__name__}: {error}")
