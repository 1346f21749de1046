"""What every tier costs on one device, as JSON: `profile.schema.json` beside this file describes it."""

import hashlib
import json
from collections.abc import Collection
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np

from edge_embed_runtimes.bundle import Bundle
from edge_embed_runtimes.device.measure import Cost, Graph, Latency
from edge_embed_runtimes.device.probe import Device, PowerSource, read_device
from edge_embed_runtimes.engines import list_engines
from edge_embed_runtimes.errors import ProfileError
from edge_embed_runtimes.files import writing_file
from edge_embed_runtimes.manifest import MANIFEST_NAME, Engine

FORMAT = 2
_DRIFT = 0.10


@dataclass(frozen=True, slots=True)
class DeviceProfile:
    """The costs of one bundle on one device.

    Attributes:
        bundle: sha256 of the manifest that was measured.
        runs_on: the engine's name of what it ran on, such as `"CPU"`.
        power_source: where the power came from meanwhile.
        energy_reader: what reported the energy; None where nothing did.
        drift: how much longer calls took towards the end than at the beginning, as a share: the median over all
            graphs and shapes; where there were several groups of graphs, the largest.
        made_at: when, ISO 8601 in UTC.
        quick: with less effort, for a first impression.
    """

    bundle: str
    device: Device
    engine_versions: dict[str, str]
    runs_on: str
    power_source: PowerSource
    energy_reader: str | None
    drift: float
    costs: tuple[Cost, ...]
    made_at: str = ""
    quick: bool = False
    format: int = FORMAT

    @property
    def stable(self) -> bool:
        """Whether the device kept its pace, within 10 %."""
        return abs(self.drift) <= _DRIFT

    @property
    def threads(self) -> tuple[int, ...]:
        """The numbers of threads a call that were measured."""
        return tuple(sorted({cost.threads for cost in self.costs}))

    def with_threads(self, threads: int) -> "DeviceProfile":
        """The part of it that was measured with so many threads a call."""
        return replace(self, costs=tuple(cost for cost in self.costs if cost.threads == threads))

    def cost(self, graph: Graph, *, tokens: int, batch: int = 1) -> Cost | None:
        """The cost of a graph at the measured length next above `tokens`, or at the longest; None if not measured."""
        found = [c for c in self.costs if c.graph == graph and c.batch == batch]
        longer = [c for c in found if c.tokens >= tokens]
        if longer:
            return min(longer, key=lambda c: c.tokens)
        return max(found, key=lambda c: c.tokens, default=None)

    def expected_ms(self, graph: Graph, *, tokens: int, batch: int) -> float | None:
        """The median time of a call, on a straight line between the measured lengths; shorter texts take no more.

        None where the graph was not measured, or only with much smaller batches or, of this size, with longer texts.
        """
        own = [c for c in self.costs if c.graph == graph]
        known = [c for c in own if c.batch <= batch <= 2 * c.batch]
        # of two batches at one length the one nearer in size
        times = {c.tokens: c.latency_ms.p50 / c.batch for c in sorted(known, key=lambda c: c.batch)}
        lengths = sorted(times)
        if not lengths or (tokens < lengths[0] and lengths[0] > min(c.tokens for c in own)):
            return None
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
        if threads not in self.threads or self.runs_on != runs_on:
            measured = " and ".join(map(str, self.threads))
            return f"it was made with {measured} threads on {self.runs_on}, not {threads} on {runs_on}"
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
