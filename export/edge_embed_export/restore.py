"""From a bundle back to a ladder in float, which can be trained further."""

import json
from collections.abc import Mapping

import numpy as np
import onnx_ir as ir
import torch
from numpy.typing import NDArray

from edge_embed.model.encoder import load_encoder
from edge_embed.model.tiered import TieredEncoder, encode_tiers
from edge_embed_export.graph import BACKBONE, export_ladder
from edge_embed_export.linear import constant, find_linears, input_of
from edge_embed_runtimes.bundle import Bundle
from edge_embed_runtimes.errors import BundleError, LadderError
from edge_embed_runtimes.manifest import Precision

Arrays = dict[str, NDArray[np.float32]]
LEAST_COSINE = 0.99
"""Between a bundle's own vectors and those of the ladder that is restored from it."""
_ADVICE = "name the encoder that it was trained in, or train from a checkpoint"
_PRECISIONS: tuple[Precision, ...] = ("fp32", "int8")


def restore(bundle: Bundle, base: str | None = None) -> TieredEncoder:
    """The ladder of a bundle, its weights read from its ONNX graphs, in fp32 where there are any, else int8.

    What compiling has folded into the weights is taken out again by the same ladder's graph in the base encoder, where
    both sides are known. Rounding stays: a ladder that was restored from int8 has int8's weights.

    Args:
        base: the encoder that the ladder was trained in; None for the one that the manifest names.

    Raises:
        EncoderError: the base encoder can't be found or used.
        BundleError: it has no such graphs, or what is restored makes other vectors than the bundle.
    """
    manifest = bundle.manifest
    precision = _precision(bundle)
    name = base or manifest.base_model
    encoder = load_encoder(name, attention="eager")
    model = TieredEncoder(encoder, manifest.ladder, manifest.head)  # type: ignore[arg-type]  # checked there
    before = export_ladder(model).graph
    graphs = {tier: ir.load(bundle.graph(tier, "onnx", precision)).graph for tier in manifest.ladder}
    try:
        _restore_linears(model, before, graphs[manifest.ladder.top])
        _restore_tables(model, before, graphs[manifest.ladder.top])
        model.set_head_weights(_heads(model, [_stored(graph) for graph in graphs.values()]))
    except (ValueError, LadderError) as error:
        raise BundleError(f"{bundle.path} can't be restored in {name} ({error}): {_ADVICE}") from error
    model.eval()
    _check(model, bundle, name)
    return model


def _precision(bundle: Bundle) -> Precision:
    there = {entry.precision for entry in bundle.manifest.by_role("graph") if entry.engine == "onnx"}
    for precision in _PRECISIONS:
        if precision in there:
            return precision
    raise BundleError(f"{bundle.path} has no ONNX graphs in {' or '.join(_PRECISIONS)} to restore a ladder from")


@torch.no_grad()
def _restore_linears(model: TieredEncoder, before: ir.Graph, graph: ir.Graph) -> None:
    """Give the products of an encoder, whose graph is `before`, the weights of another graph."""
    parameters, linears = dict(model.encoder.backbone.named_parameters()), _linears(graph)
    for linear in find_linears(before):
        if linear.name in linears:
            own, bias = parameters[f"{linear.name}.weight"], parameters.get(f"{linear.name}.bias")
            scale = _scale_of(linear.weight.T, own.numpy())
            found, added = linears[linear.name]
            outputs, inputs = own.shape  # copies of stacked neurons stand behind them
            _set(own, found[:inputs, :outputs].T / scale)
            if bias is not None:
                _set(bias, added[:outputs] / scale)


@torch.no_grad()
def _restore_tables(model: TieredEncoder, before: ir.Graph, graph: ir.Graph) -> None:
    """The same of embeddings and norms."""
    parameters = dict(model.encoder.backbone.named_parameters())
    known, stored = _stored(before), _stored(graph) | _norms(before, graph)
    for place in known.keys() & stored.keys():
        name = next((name for name in parameters if f"{place}.".startswith(f"{BACKBONE}{name}.")), None)
        if name is not None and known[place].size == parameters[name].numel():
            own = parameters[name]
            added = known[place].reshape(own.shape) - own.numpy()  # such as the token types, in each row
            _set(own, stored[place].reshape(own.shape) - added)


def _set(parameter: torch.Tensor, values: NDArray[np.float32]) -> None:
    if values.shape != parameter.shape:
        raise ValueError(f"weights of the shape {values.shape} where it has {tuple(parameter.shape)}")
    parameter.copy_(torch.tensor(values))


def _norms(before: ir.Graph, graph: ir.Graph) -> Arrays:
    """The weights of a graph's layer norms by the names that they have in `before`; smoothing gives them others."""
    names = {node.name: node.inputs for node in before if node.op_type == "LayerNormalization"}
    return {
        value.name or "": array
        for node in graph
        for value, found in zip(names.get(node.name, ()), node.inputs, strict=False)
        if value is not None and (array := constant(found)) is not None
    }


def _scale_of(found: NDArray[np.float32], own: NDArray[np.float32]) -> float:
    """The factor between two arrays that differ by one."""
    return float((found * own).sum() / np.square(own).sum())


def _linears(graph: ir.Graph) -> dict[str, tuple[NDArray[np.float32], NDArray[np.float32]]]:
    """The (inputs, outputs) weight and the bias of each Linear of a graph by its name, in float and unsmoothed."""
    found = {linear.name: (linear.weight, linear.bias) for linear in find_linears(graph)}
    for node in graph:
        if node.op_type == "MatMulIntegerToFloat":
            low, scale, bias = (np.asarray(constant(node.inputs[place]), np.float32) for place in (1, 3, 6))
            found[(node.name or "").removesuffix(".int8")] = (_unsmoothed(low * scale, input_of(node)), bias)
    return found


def _unsmoothed(weight: NDArray[np.float32], quantized: ir.Value) -> NDArray[np.float32]:
    """A weight without the factors by which its inputs are divided before they are quantized."""
    quantize = quantized.producer()
    smooth = input_of(quantize).producer() if quantize is not None else None
    factors = constant(smooth.inputs[1]) if smooth is not None and smooth.op_type == "Mul" else None
    return weight if factors is None or factors.ndim != 1 else weight * factors[:, None]


def _stored(graph: ir.Graph) -> Arrays:
    """The float arrays of a graph by their names, int8 tables multiplied by their scales."""
    arrays = {name: array for name, value in graph.initializers.items() if (array := constant(value)) is not None}
    found = {name: array for name, array in arrays.items() if array.dtype == np.float32}
    for name, array in arrays.items():
        place = name.removesuffix(".int8")
        if place != name and f"{place}.scale" in arrays:
            found[place] = array * arrays[f"{place}.scale"]
    return found


def _heads(model: TieredEncoder, graphs: list[Arrays]) -> Mapping[str, torch.Tensor]:
    """What `TieredEncoder.set_head_weights` takes."""
    stored = {name: array for arrays in graphs for name, array in arrays.items()}
    places = {name: f"heads.{name}" for name in model.heads}
    places |= {f"tokens-l{layer}": f"model.token_weights.{layer}" for layer in model.token_weights}
    return {name: torch.tensor(stored[place]) for name, place in places.items() if place in stored}


def _check(model: TieredEncoder, bundle: Bundle, base: str) -> None:
    """Compare with the vectors that the bundle keeps of a few texts."""
    canaries = json.loads(bundle.only("canaries").read_text(encoding="utf-8"))
    for tier, vectors in encode_tiers(model, canaries["texts"]).items():
        cosine = float((vectors * np.asarray(canaries["vectors"][tier])).sum(1).mean())
        if not cosine >= LEAST_COSINE:
            raise BundleError(
                f"{bundle.path} can't be restored in {base}: the cosine to its own vectors is {cosine:.3f} at {tier}, "
                f"expected at least {LEAST_COSINE}: {_ADVICE}"
            )
