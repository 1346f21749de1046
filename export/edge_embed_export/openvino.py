"""The same graphs for OpenVINO: converted from float, quantized by NNCF, cut into one model a tier."""

import io
import logging
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stdout
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edge_embed_export.layout import graph_name
from edge_embed_export.linear import HEAD_PREFIX
from edge_embed_runtimes.engines import openvino as _first  # noqa: F401  # it keeps OpenVINO from reporting its use
from edge_embed_runtimes.tiers import Ladder
from edge_embed_runtimes.tokenizer import Batch

# isort: split
import nncf
import openvino
import openvino.opset13 as opset
from nncf.quantization.range_estimator import RangeEstimatorParametersSet

_NO_SMOOTHING = -1
_CUTS = {"Clamp", "Minimum", "Maximum"}


def read(onnx_path: Path) -> openvino.Model:
    """Convert a float ONNX file."""
    return openvino.Core().read_model(str(onnx_path))


def quantize(model: openvino.Model, batches: Sequence[Batch], keep: Collection[str] = ()) -> openvino.Model:
    """Int8 by NNCF's post-training quantization of a conditioned graph, but for the products named in `keep`.

    The graph is smoothed and its strong neurons are stacked already, so NNCF's own smoothing and bias correction are
    off: mean cosine at six layers of all-MiniLM-L6-v2 .9937 with them on the plain graph, .9990 so.
    """
    data = [one for batch in batches for one in _unpadded(batch)]
    with _quiet():
        quantized = nncf.quantize(
            model,
            nncf.Dataset(data),
            model_type=nncf.ModelType.TRANSFORMER,
            preset=nncf.QuantizationPreset.MIXED,
            subset_size=len(data),
            ignored_scope=nncf.IgnoredScope(
                names=sorted(keep), patterns=[f"{re.escape(HEAD_PREFIX)}.*"], validate=False
            ),
            advanced_parameters=nncf.AdvancedQuantizationParameters(
                disable_bias_correction=True,
                activations_range_estimator_params=RangeEstimatorParametersSet.MINMAX,
                smooth_quant_alphas=nncf.AdvancedSmoothQuantParameters(matmul=_NO_SMOOTHING),
            ),
        )
    _drop_cuts(quantized)
    return quantized


def _unpadded(batch: Batch) -> Iterator[Mapping[str, NDArray[np.int64]]]:
    """Each text alone: NNCF would take padding, whose states are like no token's, into its ranges."""
    for ids, mask in zip(batch.input_ids, batch.attention_mask, strict=True):
        length = int(mask.sum())
        yield {"input_ids": ids[None, :length], "attention_mask": mask[None, :length]}


def _drop_cuts(model: openvino.Model) -> None:
    """Leave out the cuts in front of a quantizer, whose values end there anyway."""
    for node in model.get_ordered_ops():
        if node.get_type_name() == "FakeQuantize":
            source = node.input_value(0)
            while source.get_node().get_type_name() in _CUTS:
                inputs = source.get_node().input_values()
                source = next(value for value in inputs if value.get_node().get_type_name() != "Constant")
            node.input(0).replace_source_output(source)


def compress(model: openvino.Model) -> openvino.Model:
    """Int8 weights alone, for OpenVINO's own quantization of activations while it runs, token by token in groups."""
    with _quiet():
        return nncf.compress_weights(model, mode=nncf.CompressWeightsMode.INT8_SYM)


def write_tiers(model: openvino.Model, ladder: Ladder, folder: Path, *, half: bool = False) -> list[Path]:
    """Write one `.xml` with a `.bin` of its own for each tier and for each step to it; returns the `.xml` paths.

    Args:
        half: store float weights as float16.
    """
    graphs = {tier.name: _cut(model, tier.name, [tier.name]) for tier in ladder}
    start = None
    for tier in ladder:
        name, outputs = graph_name(tier, "step"), [tier.name] + [tier.state] * (tier != ladder.top)
        graphs[name] = _cut(model.clone(), name, outputs, start)
        start = tier.state
    paths = []
    for name, one in graphs.items():
        paths.append(folder / f"{name}.xml")
        openvino.save_model(one, paths[-1], compress_to_fp16=half)
    return paths


def _cut(model: openvino.Model, name: str, outputs: Sequence[str], start: str | None = None) -> openvino.Model:
    """The part of a model that makes some outputs; from `start` on, an output that becomes an input."""
    results = {output.get_any_name(): output.get_node() for output in model.outputs}
    parameters = model.get_parameters()
    if start is not None:
        source = results[start].input_value(0)
        given = opset.parameter(source.get_partial_shape(), np.float32, name=start)
        given.output(0).set_names({start})
        for reader in source.get_target_inputs():
            reader.replace_source_output(given.output(0))
        parameters = [*parameters, given]
    return openvino.Model([results[output] for output in outputs], parameters, name)


@contextmanager
def _quiet() -> Iterator[None]:
    """NNCF writes bars and notes of its own to standard output; keep them inside."""
    logger = logging.getLogger("nncf")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with redirect_stdout(io.StringIO()):
            yield
    finally:
        logger.setLevel(level)
