"""Which products cost most precision in int8: measured, one at a time, on the texts where it is worst."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from edge_embed_export.calibrate import ChannelRange
from edge_embed_export.graph import save
from edge_embed_export.linear import by_input, find_linears
from edge_embed_export.quantize import quantize
from edge_embed_runtimes.progress import Progress
from edge_embed_runtimes.tokenizer import Batch


def rank(
    model: ir.Model,
    ranges: Mapping[str, ChannelRange],
    batches: Sequence[Batch],
    scratch: Path,
    progress: Progress,
) -> list[tuple[str, ...]]:
    """The names of a conditioned graph's products, the most sensitive first; those that read one input go together.

    Each group is left in float while all others are int8: the nearer that brings the vectors to float, the higher it
    stands. Errors add up, so a product's own error alone would not tell: a text may turn over when the sum of several
    passes some point, and stay when any one of them is gone.
    """
    groups = [tuple(linear.name for linear in group) for group in by_input(find_linears(model.graph))]
    exact = _vectors(model, batches, scratch)
    cosines = []
    for done, group in enumerate(groups):
        progress("rank products", done, len(groups))
        found = _vectors(quantize(model, ranges, keep=group), batches, scratch)
        cosines.append(sum((a * b).sum(1).mean() for a, b in zip(exact, found, strict=True)))
    progress("rank products", len(groups), len(groups))
    return [groups[place] for place in np.argsort(-np.asarray(cosines), kind="stable")]


def _vectors(model: ir.Model, batches: Sequence[Batch], scratch: Path) -> list[NDArray[np.float32]]:
    """The vectors of every tier, each (texts, dim)."""
    import onnxruntime

    path = save(model, scratch / "ranked.onnx")
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs() if len(output.shape) == 2]  # the others are states
    runs = [
        session.run(names, {"input_ids": batch.input_ids, "attention_mask": batch.attention_mask}) for batch in batches
    ]
    return [np.concatenate(parts) for parts in zip(*runs, strict=True)]
