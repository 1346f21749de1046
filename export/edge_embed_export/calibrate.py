"""Run texts through a float graph and note the range of every channel that a Linear reads."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from edge_embed_export.graph import save
from edge_embed_export.linear import find_linears
from edge_embed_runtimes.errors import DataError
from edge_embed_runtimes.progress import Progress
from edge_embed_runtimes.tokenizer import Batch

LEAST_TEXTS = 32
MOST_TEXTS = 512


def sample_texts() -> Path:
    """The folder of texts that are taken where the user names none: sentences about everyday things, in English."""
    here = Path(__file__).resolve()
    return next(place for place in (here.parent / "texts", here.parents[2] / "samples" / "texts") if place.is_dir())


@dataclass(frozen=True, slots=True)
class ChannelRange:
    """Smallest and largest value of each channel over all tokens: two arrays (channels,)."""

    low: NDArray[np.float32]
    high: NDArray[np.float32]

    @property
    def largest(self) -> NDArray[np.float32]:
        """Largest magnitude of each channel, never 0."""
        return np.maximum(np.maximum(np.abs(self.low), np.abs(self.high)), 1e-6)


def calibration_texts(texts: Sequence[str]) -> list[str]:
    """At most `MOST_TEXTS` different texts, taken evenly over the lengths.

    Raises:
        DataError: fewer than `LEAST_TEXTS` texts.
    """
    unique = list(dict.fromkeys(texts))
    if len(unique) < LEAST_TEXTS:
        raise DataError(f"{len(unique)} calibration texts are too few: name files with at least {LEAST_TEXTS}")
    by_length = sorted(unique, key=lambda text: (len(text), text))
    chosen = np.linspace(0, len(by_length) - 1, min(MOST_TEXTS, len(by_length))).astype(int)
    return [by_length[place] for place in chosen]


def observe(model: ir.Model, batches: Sequence[Batch], scratch: Path, progress: Progress) -> Mapping[str, ChannelRange]:
    """The range of each channel of each value that a Linear reads, padding left out: value name to range."""
    import onnxruntime

    names = list(dict.fromkeys(linear.x.name or "" for linear in find_linears(model.graph)))
    path = save(_with_outputs(model, names), scratch / "observed.onnx")
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    ranges: dict[str, ChannelRange] = {}
    for done, batch in enumerate(batches, start=1):
        values = session.run(names, {"input_ids": batch.input_ids, "attention_mask": batch.attention_mask})
        for name, value in zip(names, values, strict=True):
            tokens = value[batch.attention_mask == 1]
            low, high = tokens.min(0), tokens.max(0)
            known = ranges.get(name, ChannelRange(low, high))
            ranges[name] = ChannelRange(np.minimum(known.low, low), np.maximum(known.high, high))
        progress("calibrate", done, len(batches))
    return ranges


def _with_outputs(model: ir.Model, names: Sequence[str]) -> ir.Model:
    inputs = [value.name for value in model.graph.inputs]
    graph = ir.convenience.extract(model.graph, inputs, list(names))
    for value in graph.outputs:
        value.dtype = ir.DataType.FLOAT
    return ir.Model(graph, ir_version=model.ir_version)
