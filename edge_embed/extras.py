"""Optional parts: checked once, at the door of the package that needs them."""

from importlib.util import find_spec

from edge_embed_runtimes.errors import ExtraMissing


def require(extra: str, *modules: str) -> None:
    """Check that the modules of an extra are installed; nothing is imported.

    Raises:
        ExtraMissing: one is not there; the message holds the pip line.
    """
    missing = [module for module in modules if find_spec(module) is None]
    if missing:
        raise ExtraMissing(f"{', '.join(missing)} not installed: pip install 'edge-embed[{extra}]'")
