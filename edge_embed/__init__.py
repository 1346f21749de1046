"""edge-embed: sentence vectors on the device, from a ladder of models chosen by measured cost.

The names below load on first use, so that `import edge_embed` costs next to nothing.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from edge_embed_runtimes.bundle import Bundle as Bundle
    from edge_embed_runtimes.choose.policy import Budget as Budget
    from edge_embed_runtimes.choose.policy import Choice as Choice
    from edge_embed_runtimes.choose.policy import Option as Option
    from edge_embed_runtimes.choose.policy import choose as choose
    from edge_embed_runtimes.device.measure import Cost as Cost
    from edge_embed_runtimes.device.probe import PowerState as PowerState
    from edge_embed_runtimes.device.profile import DeviceProfile as DeviceProfile
    from edge_embed_runtimes.embedder import Embedder as Embedder
    from edge_embed_runtimes.engines import Session as Session
    from edge_embed_runtimes.engines.fake import FakeSession as FakeSession
    from edge_embed_runtimes.errors import EdgeEmbedError as EdgeEmbedError
    from edge_embed_runtimes.fake import fake_embedder as fake_embedder
    from edge_embed_runtimes.index.vectors import VectorSet as VectorSet
    from edge_embed_runtimes.manifest import Manifest as Manifest
    from edge_embed_runtimes.manifest import Passport as Passport
    from edge_embed_runtimes.tiers import Ladder as Ladder
    from edge_embed_runtimes.tiers import Tier as Tier
    from edge_embed_runtimes.tiers import parse_ladder as parse_ladder

__version__ = "0.1.0"

_HOME = {
    "Budget": "choose.policy",
    "Bundle": "bundle",
    "Choice": "choose.policy",
    "Cost": "device.measure",
    "DeviceProfile": "device.profile",
    "EdgeEmbedError": "errors",
    "Embedder": "embedder",
    "FakeSession": "engines.fake",
    "Ladder": "tiers",
    "Manifest": "manifest",
    "Option": "choose.policy",
    "Passport": "manifest",
    "PowerState": "device.probe",
    "Session": "engines",
    "Tier": "tiers",
    "VectorSet": "index.vectors",
    "choose": "choose.policy",
    "fake_embedder": "fake",
    "parse_ladder": "tiers",
}

__all__ = [*sorted(_HOME), "__version__"]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'edge_embed' has no attribute {name!r}; it has {', '.join(__all__)}")
    value = getattr(import_module(f"edge_embed_runtimes.{_HOME[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return __all__
