"""Where things stand in a bundle."""

from edge_embed_runtimes.manifest import Engine, GraphRole, Precision
from edge_embed_runtimes.tiers import Tier

CANARIES_NAME = "canaries.json"
CARD_NAME = "README.md"
TOKENIZER_NAME = "tokenizer.json"
WEIGHTS_NAME = "weights.bin"
GRAPH_SUFFIX: dict[Engine, str] = {"onnx": ".onnx", "openvino": ".xml"}


def place(engine: Engine, precision: Precision) -> str:
    """The folder of one engine and precision, relative to the bundle."""
    return f"{engine}-{precision}"


def weights_path(engine: Engine, precision: Precision) -> str:
    """The weights file that all tiers of one engine and precision share, relative to the bundle."""
    return f"{place(engine, precision)}/{WEIGHTS_NAME}"


def graph_name(tier: Tier, role: GraphRole = "graph") -> str:
    """What a tier's graph is called, or the one that goes on to it from the tier before."""
    return tier.name if role == "graph" else f"{tier.name}.{role}"


def graph_path(tier: Tier, engine: Engine, precision: Precision, role: GraphRole = "graph") -> str:
    """That graph, relative to the bundle."""
    return f"{place(engine, precision)}/{graph_name(tier, role)}{GRAPH_SUFFIX[engine]}"
