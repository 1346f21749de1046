"""The products with constant matrices in an encoder's graph: what quantization is about."""

from dataclasses import dataclass

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

HEAD_PREFIX = "head."
"""Products whose name begins so map pooled states to a tier's vectors; they stay in float."""


@dataclass(frozen=True, slots=True)
class Linear:
    """`x @ weight + bias` on token states.

    Attributes:
        product: the MatMul node.
        out: the output, (batch, tokens, outputs).
        weight: (inputs, outputs) float32.
        bias: (outputs,) float32; zeros where the encoder has none.
    """

    product: ir.Node
    out: ir.Value
    weight: NDArray[np.float32]
    bias: NDArray[np.float32]

    @property
    def x(self) -> ir.Value:
        """The input, (batch, tokens, inputs)."""
        return input_of(self.product)

    @property
    def name(self) -> str:
        """Its module in the encoder: `encoder.layer.0.output.dense`."""
        return self.product.name or ""

    def replace(self, graph: ir.Graph, weight: NDArray[np.float32], bias: NDArray[np.float32] | None = None) -> None:
        """Give it another weight, of the same shape, and another bias where it has one."""
        self.product.replace_input_with(1, add_constant(graph, f"{self.name}.weight", weight))
        add = self.out.producer()
        if bias is not None and add is not None and add is not self.product:
            place = next(place for place, value in enumerate(add.inputs) if constant(value) is not None)
            add.replace_input_with(place, add_constant(graph, f"{self.name}.bias", bias))


def find_linears(graph: ir.Graph) -> list[Linear]:
    """Every Linear of a graph in order; the heads are none."""
    found = []
    for node in graph:
        weight = constant(node.inputs[1]) if node.op_type == "MatMul" else None
        if weight is None or weight.ndim != 2 or (node.name or "").startswith(HEAD_PREFIX):
            continue
        out, bias = node.outputs[0], np.zeros(weight.shape[1], dtype=np.float32)
        add = sole_user(out)
        if add is not None and add.op_type == "Add":
            added = next((array for value in add.inputs if (array := constant(value)) is not None), None)
            if added is not None and added.ndim == 1:
                out, bias = add.outputs[0], added
        found.append(Linear(node, out, weight, bias))
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


def input_of(node: ir.Node, place: int = 0) -> ir.Value:
    """An input that a node of this kind always has."""
    value = node.inputs[place]
    if value is None:
        raise ValueError(f"{node.name} has no input {place}")
    return value


def sole_user(value: ir.Value) -> ir.Node | None:
    """The only node that reads a value; None if there are more, or none, or it leaves the graph."""
    uses = value.uses()
    return uses[0].node if len(uses) == 1 and not value.is_graph_output() else None


def put_in_place(old: ir.Value, new: ir.Value) -> None:
    """Let every reader of `old` read `new`; where `old` leaves the graph, `new` leaves it under the same name."""
    leaves, name = old.is_graph_output(), old.name
    ir.convenience.replace_all_uses_with(old, new, replace_graph_outputs=True)
    if leaves:
        old.name, new.name = f"{name}.before", name
        new.type, new.shape = old.type, old.shape


def add_constant(graph: ir.Graph, name: str, array: NDArray[np.generic]) -> ir.Value:
    """Put an array into a graph under this name, or one like it that is still free."""
    array = np.ascontiguousarray(array)
    free, number = name, 0
    while free in graph.initializers:
        number += 1
        free = f"{name}.{number}"
    value = ir.Value(
        name=free,
        const_value=ir.tensor(array, name=free),
        shape=ir.Shape(array.shape),
        type=ir.TensorType(ir.DataType.from_numpy(array.dtype)),
    )
    graph.register_initializer(value)
    return value


def new_node(
    op: str, inputs: list[ir.Value | None], name: str, *, domain: str = "", **attributes: int | float | list[int]
) -> tuple[ir.Node, ir.Value]:
    """A node with one output, both named `name`."""
    node = ir.node(op, inputs, attributes=dict(attributes), domain=domain, name=name)
    node.outputs[0].name = name
    return node, node.outputs[0]
