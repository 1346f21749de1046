"""The folder for what can be made again."""

import os
from pathlib import Path

from edge_embed_runtimes.errors import OutputError


def cache_folder() -> Path:
    """`$EDGE_EMBED_CACHE`, or edge-embed in the user's cache folder."""
    named = os.environ.get("EDGE_EMBED_CACHE")
    base = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(named) if named else Path(base).expanduser() / "edge-embed"


def private_folder(name: str) -> Path:
    """A folder in there that nobody else can write to, for what an engine loads without a check of its own.

    Raises:
        OutputError: the folder that is there is another user's, or others can write to it.
        OSError: it can't be made.
    """
    folder = cache_folder() / name
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    status = folder.stat()
    if hasattr(os, "getuid") and (status.st_uid != os.getuid() or status.st_mode & 0o022):
        raise OutputError(f"{folder} is not private: others can write to it; run chmod 700 {folder}")
    return folder
