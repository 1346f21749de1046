"""Attention in a traced graph: softmax(query @ key * scale + bias + mask) @ value."""

from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from edge_embed_export.linear import constant, input_of, sole_user


@dataclass(frozen=True, slots=True)
class Attention:
    """The nodes of one layer's attention.

    Attributes:
        scores: the product of query and key, (batch, heads, tokens, tokens).
        scaling: the node that multiplies or divides the scores by a number; None where nothing does.
        scale: that number, as a factor.
        added: what is added to the scores, the mask last.
        mixed: the product of the softmax and the values, (batch, heads, tokens, width of a head).
        out: the mixed values of all heads side by side, (batch, tokens, hidden).
    """

    scores: ir.Node
    scaling: ir.Node | None
    scale: float
    added: tuple[ir.Value, ...]
    mixed: ir.Node
    out: ir.Value

    @property
    def sides(self) -> tuple[ir.Value, ir.Value, ir.Value]:
        """Query, key and value as they come into the products."""
        return input_of(self.scores), input_of(self.scores, 1), input_of(self.mixed, 1)


def find_attentions(graph: ir.Graph) -> list[Attention]:
    """The attention of every layer, in order."""
    return [found for node in graph if node.op_type == "Softmax" and (found := _attention(node)) is not None]


def projected(side: ir.Value) -> ir.Value | None:
    """The (batch, tokens, hidden) value that a query, key or value was cut into heads from; None for any other way."""
    moved = side.producer()
    if moved is None or moved.op_type != "Transpose":
        return None
    shaped = input_of(moved).producer()
    return input_of(shaped) if shaped is not None and shaped.op_type == "Reshape" else None


def _attention(softmax: ir.Node) -> Attention | None:
    node, added = input_of(softmax).producer(), list[ir.Value]()
    while node is not None and node.op_type == "Add":
        first, second = input_of(node), input_of(node, 1)
        inner, other = (first, second) if _leads_to_scores(first) else (second, first)
        added.insert(0, other)
        node = inner.producer()
    scaling, scale = None, 1.0
    if node is not None and node.op_type in ("Mul", "Div"):
        number = _number(node.inputs[1])
        scaling, scale = node, 1 / number if node.op_type == "Div" else number
        node = input_of(node).producer()
    mixed = sole_user(softmax.outputs[0])
    moved = mixed and sole_user(mixed.outputs[0])
    shaped = moved and sole_user(moved.outputs[0])
    if node is None or node.op_type != "MatMul" or mixed is None or shaped is None or shaped.op_type != "Reshape":
        return None
    return Attention(node, scaling, scale, tuple(added), mixed, shaped.outputs[0])


def _leads_to_scores(value: ir.Value) -> bool:
    """Whether a value is the product of two others, scaled or added to."""
    node = value.producer()
    if node is None:
        return False
    if node.op_type == "MatMul":
        return constant(node.inputs[1]) is None
    if node.op_type == "Add":
        return any(_leads_to_scores(read) for read in node.inputs if read is not None)
    return node.op_type in ("Mul", "Div") and _leads_to_scores(input_of(node))


def _number(value: ir.Value | None) -> float:
    array = constant(value)
    return float(array) if array is not None and np.ndim(array) == 0 else float("nan")
