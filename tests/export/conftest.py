"""The tiny checkpoint's float graph, traced once."""

from pathlib import Path

import onnx_ir as ir
import pytest


@pytest.fixture(scope="session")
def traced_tall(tiny_checkpoint: Path) -> ir.Model:
    """The largest tier's own graph; don't change it."""
    from edge_embed.model.checkpoint import load_checkpoint
    from edge_embed_export.graph import cut, export_ladder

    model, _ = load_checkpoint(tiny_checkpoint, attention="eager")
    return cut(export_ladder(model), model.ladder.top)
