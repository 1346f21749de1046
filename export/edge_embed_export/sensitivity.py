"""Which products cost most precision in int8: measured, one at a time."""

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

_BATCHES = 4


def rank(
    model: ir.Model,
    ranges: Mapping[str, ChannelRange],
    batches: Sequence[Batch],
    scratch: Path,
    progress: Progress,
) -> list[str]:
    """The names of a conditioned graph's products, the most sensitive first.

    Those that read one input are quantized together, alone among all; what they cost is one minus the mean cosine of
    every tier's vectors to float, summed over the tiers.
    """
    groups = [[linear.name for linear in group] for group in by_input(find_linears(model.graph))]
    names = [name for group in groups for name in group]
    few = batches[:: max(1, len(batches) // _BATCHES)]
    exact = _vectors(model, few, scratch)
    costs = []
    for done, group in enumerate(groups):
        progress("rank products", done, len(groups))
        only = quantize(model, ranges, keep=set(names) - set(group))
        found = _vectors(only, few, scratch)
        costs.append(sum(1 - (a * b).sum(1).mean() for a, b in zip(exact, found, strict=True)))
    progress("rank products", len(groups), len(groups))
    return [name for place in np.argsort(-np.asarray(costs), kind="stable") for name in groups[place]]


def _vectors(model: ir.Model, batches: Sequence[Batch], scratch: Path) -> list[NDArray[np.float32]]:
    """The vectors of every tier, each (texts, dim)."""
    import onnxruntime

    path = save(model, scratch / "ranked.onnx")
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    runs = [
        session.run(None, {"input_ids": batch.input_ids, "attention_mask": batch.attention_mask}) for batch in batches
    ]
    return [np.concatenate(parts) for parts in zip(*runs, strict=True)]
