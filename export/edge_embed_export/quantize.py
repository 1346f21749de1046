"""Int8 for ONNX Runtime: every range fixed, so that a text's vector can't depend on its batch."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray
from onnx_ir.passes.common import RemoveUnusedNodesPass

from edge_embed_export.calibrate import ChannelRange
from edge_embed_export.linear import (
    Linear,
    add_constant,
    by_input,
    constant,
    find_linears,
    input_of,
    new_node,
    put_in_place,
)

_CONTRIB = "com.microsoft"
TABLE_ROWS = 256
"""A table with fewer rows stays in float."""


@dataclass(frozen=True, slots=True)
class Affine:
    """`real = scale * (quantized - zero_point)` with quantized values of 0 to 255."""

    scale: np.float32
    zero_point: np.uint8


def quantize(model: ir.Model, ranges: Mapping[str, ChannelRange], keep: Collection[str] = ()) -> ir.Model:
    """A copy of a conditioned float graph with int8 products and embedding tables.

    Products: unsigned activations with one fixed range, signed weights with a scale for each output channel, in
    ONNX Runtime's fused MatMulIntegerToFloat.

    Args:
        ranges: what `observe` found in this very graph.
        keep: names of products that stay in float.
    """
    ready = model.clone()
    for group in by_input([linear for linear in find_linears(ready.graph) if linear.name not in keep]):
        _quantize_group(ready.graph, group, ranges[group[0].x.name or ""])
    ready.opset_imports[_CONTRIB] = 1
    RemoveUnusedNodesPass()(ready)
    return quantize_tables(ready)


def quantize_tables(model: ir.Model) -> ir.Model:
    """A copy of a graph whose large embedding tables are signed int8 with a scale for each row, also in memory."""
    ready = model.clone()
    for node in list(ready.graph):
        if node.op_type == "Gather":
            _quantize_table(ready.graph, node)
    RemoveUnusedNodesPass()(ready)
    return ready


def affine(found: ChannelRange) -> Affine:
    """The scale and zero point that cover a range; 0 is always met exactly."""
    low, high = min(0.0, float(found.low.min())), max(0.0, float(found.high.max()))
    scale = max((high - low) / 255, 1e-9)
    return Affine(np.float32(scale), np.uint8(round(-low / scale)))


def symmetric(weight: NDArray[np.float32], *, axis: int) -> tuple[NDArray[np.int8], NDArray[np.float32]]:
    """Int8 values of -127 to 127, and the scale of each slice along the other axis, with `axis` kept as size 1."""
    scale = np.maximum(np.abs(weight).max(axis, keepdims=True) / 127, 1e-9).astype(np.float32)
    return np.rint(weight / scale).clip(-127, 127).astype(np.int8), scale


def _quantize_group(graph: ir.Graph, group: list[Linear], found: ChannelRange) -> None:
    x, params = group[0].x, affine(found)
    cut = x.producer()
    source = input_of(cut) if cut is not None and cut.op_type == "Clip" else x  # the bytes end where the cut would
    scale = add_constant(graph, f"{x.name}.scale", np.asarray(params.scale))
    zero = add_constant(graph, f"{x.name}.zero", np.asarray(params.zero_point))
    node, quantized = new_node("QuantizeLinear", [source, scale, zero], f"{x.name}.quantized")
    graph.insert_before(group[0].product, [node])
    for linear in group:
        weight, weight_scale = symmetric(linear.weight, axis=0)
        name = linear.name
        product, out = new_node(
            "MatMulIntegerToFloat",
            [
                quantized,
                add_constant(graph, f"{name}.weight.int8", weight),
                scale,
                add_constant(graph, f"{name}.weight.scale", weight_scale[0]),
                zero,
                None,
                add_constant(graph, f"{name}.bias.float", linear.bias),
            ],
            f"{name}.int8",
            domain=_CONTRIB,
        )
        graph.insert_before(linear.product, [product])
        put_in_place(linear.out, out)


def _quantize_table(graph: ir.Graph, gather: ir.Node) -> None:
    table = constant(gather.inputs[0])
    if table is None or table.ndim != 2 or len(table) < TABLE_ROWS or table.dtype != np.float32:
        return
    rows, scale = symmetric(table, axis=1)
    name, ids = gather.inputs[0].name, gather.inputs[1]
    picked, low = new_node("Gather", [add_constant(graph, f"{name}.int8", rows), ids], f"{name}.rows")
    cast, real = new_node("Cast", [low], f"{name}.float", to=int(ir.DataType.FLOAT))
    scales, factor = new_node("Gather", [add_constant(graph, f"{name}.scale", scale), ids], f"{name}.scales")
    scaled, out = new_node("Mul", [real, factor], f"{name}.scaled")
    graph.insert_before(gather, [picked, cast, scales, scaled])
    put_in_place(gather.outputs[0], out)
