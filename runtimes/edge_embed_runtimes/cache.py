"""The folder for what can be made again."""

import os
from pathlib import Path


def cache_folder() -> Path:
    """`$EDGE_EMBED_CACHE`, or edge-embed in the user's cache folder."""
    named = os.environ.get("EDGE_EMBED_CACHE")
    base = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(named) if named else Path(base).expanduser() / "edge-embed"
