"""The products with constant matrices in an encoder's graph: what quantization is about."""

from dataclasses import dataclass

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

FLOAT_PREFIX = "float."
"""Nodes whose name begins so stay in float in every precision."""


@dataclass(frozen=True, slots=True)
class Linear:
    """`x @ weight + bias` on token states.

    Attributes:
        product: the MatMul node.
        sum: the Add node of the bias.
        weight: (inputs, outputs) float32.
        bias: (outputs,) float32.
    """

    product: ir.Node
    sum: ir.Node
    weight: NDArray[np.float32]
    bias: NDArray[np.float32]

    @property
    def x(self) -> ir.Value:
        """The input, (batch, tokens, inputs)."""
        value = self.product.inputs[0]
        if value is None:
            raise ValueError(f"{self.product.name} has no input")
        return value

    @property
    def out(self) -> ir.Value:
        """The output, (batch, tokens, outputs)."""
        return self.sum.outputs[0]

    @property
    def stays_float(self) -> bool:
        """Whether this product was set apart from quantization."""
        return (self.product.name or "").startswith(FLOAT_PREFIX)

    @property
    def name(self) -> str:
        """Its module in the encoder: `encoder.layer.0.output.dense`."""
        return self.product.name or ""


def find_linears(graph: ir.Graph) -> list[Linear]:
    """Every Linear of a graph in order; a head has no bias and is none."""
    found = []
    for node in graph:
        if node.op_type != "MatMul":
            continue
        weight = constant(node.inputs[1])
        users = node.outputs[0].uses()
        if weight is None or weight.ndim != 2 or len(users) != 1 or users[0].node.op_type != "Add":
            continue
        add = users[0].node
        bias = next((array for value in add.inputs if (array := constant(value)) is not None), None)
        if bias is not None and bias.ndim == 1:
            found.append(Linear(node, add, weight, bias))
    return found


def by_input(linears: list[Linear]) -> list[list[Linear]]:
    """Linears grouped by the value that they read, such as query, key and value."""
    groups: dict[ir.Value, list[Linear]] = {}
    for linear in linears:
        groups.setdefault(linear.x, []).append(linear)
    return list(groups.values())


def constant(value: ir.Value | None) -> NDArray[np.float32] | None:
    """The array behind a constant value; None for any other."""
    if value is None or value.const_value is None:
        return None
    return np.asarray(value.const_value.numpy())


def add_constant(graph: ir.Graph, name: str, array: NDArray[np.generic]) -> ir.Value:
    """Put an array into a graph under a name of its own."""
    array = np.ascontiguousarray(array)
    value = ir.Value(
        name=name,
        const_value=ir.tensor(array, name=name),
        shape=ir.Shape(array.shape),
        type=ir.TensorType(ir.DataType.from_numpy(array.dtype)),
    )
    graph.register_initializer(value)
    return value


def new_node(
    op: str, inputs: list[ir.Value | None], name: str, *, domain: str = "", **attributes: int | list[int]
) -> tuple[ir.Node, ir.Value]:
    """A node with one output, both named `name`."""
    node = ir.node(op, inputs, attributes=dict(attributes), domain=domain, name=name)
    node.outputs[0].name = name
    return node, node.outputs[0]
