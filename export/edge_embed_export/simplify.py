"""Rewrites that save every engine work and leave what a graph computes as it is, but for rounding."""

from typing import NamedTuple

import numpy as np
import onnx_ir as ir
from onnx_ir.passes.common import RemoveUnusedNodesPass

from edge_embed_export.attention import find_attentions, projected
from edge_embed_export.linear import add_constant, constant, find_linears, input_of, new_node, put_in_place, sole_user


def simplify(model: ir.Model) -> None:
    """Apply every rewrite in place."""
    fold_scales(model.graph)
    slice_positions(model.graph)
    fold_token_types(model.graph)
    RemoveUnusedNodesPass()(model)


def fold_scales(graph: ir.Graph) -> None:
    """Scale the query's Linear instead of every score; where queries come from elsewhere, scores stay scaled."""
    writers = {linear.out: linear for linear in find_linears(graph)}
    for attention in find_attentions(graph):
        source = projected(attention.sides[0])
        query = writers.get(source) if source is not None else None
        if query is None or attention.scaling is None or not np.isfinite(attention.scale):
            continue
        scale = np.float32(attention.scale)
        query.replace(graph, query.weight * scale, query.bias * scale)
        put_in_place(attention.scaling.outputs[0], attention.scores.outputs[0])


def slice_positions(graph: ir.Graph) -> None:
    """Take the first rows of a position table instead of looking up rows 0, 1, 2, ... one by one."""
    for gather in list(graph):
        table = constant(gather.inputs[0]) if gather.op_type == "Gather" else None
        slice_ = input_of(gather, 1).producer() if table is not None else None
        if table is None or slice_ is None or slice_.op_type != "Slice":
            continue
        ids = constant(slice_.inputs[0])
        if ids is None or ids.shape != (1, len(table)) or (ids[0] != np.arange(len(table))).any():
            continue
        rows = add_constant(graph, input_of(gather).name or "positions", table[None])
        node, sliced = new_node("Slice", [rows, *slice_.inputs[1:]], f"{gather.name}.rows")
        graph.insert_before(gather, [node])
        put_in_place(gather.outputs[0], sliced)


def fold_token_types(graph: ir.Graph) -> None:
    """Add the one row of token types that is ever read to the table of positions."""
    for gather in list(graph):
        types = constant(gather.inputs[0]) if gather.op_type == "Gather" else None
        if types is None or not _all_zero(input_of(gather, 1)):
            continue
        words = _other_addend(gather.outputs[0])
        positions = words and _other_addend(words.sum)
        lookup = positions and positions.value.producer()
        table = constant(lookup.inputs[0]) if lookup and lookup.op_type in ("Gather", "Slice") else None
        if words is None or lookup is None or table is None:
            continue
        lookup.replace_input_with(0, add_constant(graph, input_of(lookup).name or "positions", table + types[0]))
        put_in_place(words.sum, words.value)


class _Addend(NamedTuple):
    """What is added to a value, and the sum."""

    value: ir.Value
    sum: ir.Value


def _other_addend(value: ir.Value) -> _Addend | None:
    add = sole_user(value)
    if add is None or add.op_type != "Add":
        return None
    other = input_of(add, 1) if add.inputs[0] is value else input_of(add)
    return _Addend(other, add.outputs[0])


def _all_zero(value: ir.Value) -> bool:
    """Whether ids are 0 throughout: a zero that is spread over some shape."""
    node = value.producer()
    number = constant(node.inputs[0]) if node is not None and node.op_type == "Expand" else None
    return number is not None and not number.any()
