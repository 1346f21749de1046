"""Open a graph of a bundle on this device."""

from edge_embed_runtimes.bundle import Bundle
from edge_embed_runtimes.device.probe import read_device
from edge_embed_runtimes.engines import Computing, open_session
from edge_embed_runtimes.manifest import Engine, GraphRole, Precision
from edge_embed_runtimes.tiers import Tier


def open_graph(
    bundle: Bundle,
    tier: Tier,
    engine: Engine,
    precision: Precision,
    *,
    device: str = "CPU",
    threads: int = 1,
    streams: int = 1,
    role: GraphRole = "graph",
) -> Computing:
    """A session of one graph, whose files are checked first; what the engine makes of them is kept for the next time.

    Args:
        threads, streams: see `edge_embed_runtimes.engines.open_session`.
        role: the tier's graph, or the step that goes on to it from the tier before.

    Raises:
        BundleError: the bundle has no such graph, or a file's content is not what was exported.
        EngineError: see `edge_embed_runtimes.engines.open_session`.
    """
    graph, weights = bundle.graph(tier, engine, precision, role), bundle.weights(engine, precision)
    processor = read_device()
    key = " ".join([bundle.content_of(tier, engine, precision, role), processor.cpu, *processor.features])
    return open_session(graph, weights, engine, device=device, threads=threads, streams=streams, key=key)
