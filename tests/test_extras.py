"""The optional parts: what is missing, and how to get it."""

import sys

import pytest

from edge_embed import extras
from edge_embed_runtimes.errors import ExtraMissing


def test_what_is_there_passes():
    extras.require("train", "json", "numpy")
    extras.require("train")


def test_what_is_missing_gives_the_pip_line():
    with pytest.raises(ExtraMissing) as caught:
        extras.require("train", "json", "edge_embed_no_such_module", "edge_embed_nor_this")
    assert str(caught.value) == (
        "edge_embed_no_such_module, edge_embed_nor_this not installed: pip install 'edge-embed[train]'"
    )


def test_nothing_is_imported(tmp_path, monkeypatch):
    (tmp_path / "edge_embed_present.py").write_text("raise RuntimeError('imported')\n")
    monkeypatch.syspath_prepend(tmp_path)
    extras.require("train", "edge_embed_present")
    assert "edge_embed_present" not in sys.modules


@pytest.mark.parametrize("package", ["edge_embed.train", "edge_embed.model"])
def test_each_heavy_part_checks_at_its_door(monkeypatch, package):
    for name in [name for name in sys.modules if name == package or name.startswith(f"{package}.")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setattr(extras, "find_spec", {"torch": object()}.get)
    with pytest.raises(ExtraMissing, match=r"transformers.* not installed: pip install 'edge-embed\[train\]'"):
        __import__(package)
