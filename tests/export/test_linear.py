"""Finding the products with constant matrices, on graphs written as text."""

import numpy as np
import onnx_ir as ir
import pytest

from edge_embed_export.linear import Linear, add_constant, by_input, constant, find_linears, new_node

GRAPH = """
<ir_version: 10, opset_import: ["": 20]>
g (float[batch, tokens, 2] x, float[batch, tokens, 2] other) => (float[batch, tokens, m] out)
<float[2, 3] w = {1, 2, 3, 4, 5, 6}, float[3] b = {7, 8, 9}, float[1, 2, 3] w3 = {1, 2, 3, 4, 5, 6},
 float[2, 3] b2 = {1, 2, 3, 4, 5, 6}>
{
    BODY
}
"""


def graph_of(*lines: str) -> ir.Graph:
    return ir.from_onnx_text(GRAPH.replace("BODY", "\n    ".join(lines))).graph


@pytest.mark.parametrize("total", ["out = Add(y, b)", "out = Add(b, y)"], ids=["bias-last", "bias-first"])
def test_a_product_with_a_bias_is_a_linear(total):
    graph = graph_of("[mine] y = MatMul(x, w)", total)
    (found,) = find_linears(graph)
    assert found.name == found.product.name == "mine"
    assert found.x is graph.inputs[0]
    assert found.out is graph.outputs[0]
    assert found.out.producer().op_type == "Add"
    np.testing.assert_array_equal(found.weight, [[1, 2, 3], [4, 5, 6]])
    np.testing.assert_array_equal(found.bias, [7, 8, 9])


@pytest.mark.parametrize(
    "lines",
    [
        ("y = MatMul(x, w)", "out = Relu(y)"),
        ("y = MatMul(x, w)", "out = Add(y, y)"),
        ("y = MatMul(x, w)", "z = Relu(y)", "out = Add(z, b)"),
        ("y = MatMul(x, w)", "z = Add(y, b)", "out = Mul(y, z)"),
        ("y = MatMul(x, w)", "out = Add(y, b2)"),
        ("out = MatMul(x, w)",),
    ],
    ids=["activated", "doubled", "not-next", "used-twice", "2d-bias", "last"],
)
def test_a_product_without_a_bias_of_its_own_is_one_too(lines):
    graph = graph_of(*lines)
    (found,) = find_linears(graph)
    assert found.out is found.product.outputs[0]
    np.testing.assert_array_equal(found.bias, np.zeros(3))
    found.replace(graph, np.ones((2, 3), np.float32), np.ones(3, np.float32))  # there is no bias to replace
    (again,) = find_linears(graph)
    np.testing.assert_array_equal(again.weight, np.ones((2, 3)))
    np.testing.assert_array_equal(again.bias, np.zeros(3))


def test_weight_and_bias_can_be_replaced():
    graph = graph_of("[mine] y = MatMul(x, w)", "out = Add(b, y)")
    (found,) = find_linears(graph)
    found.replace(graph, found.weight * 2, found.bias * 3)
    (again,) = find_linears(graph)
    np.testing.assert_array_equal(again.weight, [[2, 4, 6], [8, 10, 12]])
    np.testing.assert_array_equal(again.bias, [21, 24, 27])


@pytest.mark.parametrize(
    "lines",
    [
        ("y = MatMul(x, w3)", "out = Add(y, b)"),
        ("y = MatMul(x, other)", "out = Add(y, b)"),
        ("y = Mul(x, other)", "out = Add(y, b)"),
    ],
    ids=["3d-weight", "no-constant", "no-product"],
)
def test_anything_else_is_none(lines):
    assert find_linears(graph_of(*lines)) == []


def test_a_head_is_none():
    graph = graph_of("y = MatMul(x, w)", "out = Relu(y)")
    graph[0].name = "head.demi"
    assert find_linears(graph) == []


def test_linears_of_one_input_make_a_group():
    graph = graph_of(
        "[query] q = MatMul(x, w)", "q1 = Add(q, b)", "[third] t = MatMul(other, w)", "t1 = Add(t, b)",
        "[key] k = MatMul(x, w)", "k1 = Add(k, b)", "s = Add(q1, t1)", "out = Add(s, k1)",
    )  # fmt: skip
    groups = by_input(find_linears(graph))
    assert [[linear.name for linear in group] for group in groups] == [["query", "key"], ["third"]]


def test_a_product_without_input_has_no_x():
    product = ir.node("MatMul", [None, None], name="lost")
    with pytest.raises(ValueError, match="lost has no input"):
        _ = Linear(product, product.outputs[0], np.zeros((1, 1), np.float32), np.zeros(1, np.float32)).x


def test_new_constants_and_nodes_belong_to_the_graph():
    graph = graph_of("out = MatMul(x, w)")
    values = np.arange(6, dtype=np.int8).reshape(2, 3).T  # not contiguous
    value = add_constant(graph, "mine", values)
    assert graph.initializers["mine"] is value
    assert (value.dtype, list(value.shape)) == (ir.DataType.INT8, [3, 2])
    np.testing.assert_array_equal(constant(value), values)
    assert constant(None) is None
    assert constant(graph.inputs[0]) is None
    node, out = new_node("Cast", [value], "cast", domain="mine", to=1)
    assert (node.name, out.name, node.domain, node.attributes["to"].as_int()) == ("cast", "cast", "mine", 1)
    assert node.outputs == (out,)


def test_a_name_that_is_taken_gets_a_number():
    graph = graph_of("out = MatMul(x, w)")
    names = [add_constant(graph, "mine", np.zeros(2, np.float32)).name for _ in range(3)]
    assert names == ["mine", "mine.1", "mine.2"]
