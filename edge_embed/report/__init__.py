"""A page that shows what a bundle's tiers cost on a device: one HTML file that needs no network."""

import json
from dataclasses import asdict
from importlib.resources import files
from pathlib import Path

from edge_embed.report.content import describe
from edge_embed_runtimes.bundle import Bundle
from edge_embed_runtimes.device.profile import DeviceProfile
from edge_embed_runtimes.files import writing_file

_PARTS = {
    "/*STYLE*/": "style.css",
    "/*FIGURES*/": "figures.js",
    "/*TABLES*/": "tables.js",
    "/*FACTS*/": "facts.js",
    "/*PAGE*/": "page.js",
}
_CONTENT = "/*CONTENT*/"


def write_report(bundle: Bundle, profile: DeviceProfile, path: Path) -> None:
    """Write the report of a profile as one HTML file.

    Raises:
        ProfileError: the profile is of another bundle, or has no single texts.
        OutputError: the place can't be written.
    """
    # "<" only stands inside strings, and there it could end the script
    content = json.dumps(asdict(describe(bundle, profile)), allow_nan=False, separators=(",", ":"))
    page = _page().replace(_CONTENT, content.replace("<", "\\u003c"))
    with writing_file(path) as temporary:
        temporary.write_text(page, encoding="utf-8")


def _page() -> str:
    """The page without its content."""
    folder = files(__name__)
    page = (folder / "template.html").read_text(encoding="utf-8")
    for mark, name in _PARTS.items():
        page = page.replace(mark, (folder / name).read_text(encoding="utf-8"))
    return page
