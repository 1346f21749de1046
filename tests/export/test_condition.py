"""A conditioned graph computes what the plain one does, with the strong neurons apart and the rest smooth."""

from pathlib import Path

import numpy as np
import onnx_ir as ir
import onnxruntime
import pytest

from edge_embed_export.calibrate import ChannelRange, observe
from edge_embed_export.condition import SPLIT_NEURONS, condition, smooth, smoothing_factors, split
from edge_embed_export.graph import save
from edge_embed_export.linear import FLOAT_PREFIX, find_linears
from edge_embed_runtimes.progress import silent
from edge_embed_runtimes.tokenizer import Batch, pad

FEED_FORWARD = ("intermediate.dense", "output.dense")
FEED_FORWARD_GRAPH = """
<ir_version: 10, opset_import: ["": 20]>
g (int64[batch, tokens] input_ids, int64[batch, tokens] attention_mask) => (float[batch, tokens, 2] out)
{
    rows = Gather(table, input_ids)
    [up] up = MatMul(rows, w)
    state = Add(up, b)
    active = ACTIVATION(state)
    [down] down = MatMul(active, w2)
    last = Add(down, b2)
    out = Neg(last)
}
"""


@pytest.fixture(scope="module")
def batches() -> list[Batch]:
    generator = np.random.default_rng(5)
    return [
        pad([generator.integers(5, 116, length).tolist() for length in lengths], pad_id=0)
        for lengths in ((3, 9, 17, 5), (40, 12), (1,))
    ]


@pytest.fixture(scope="module")
def plain(tiny_bundle) -> ir.Model:
    """The tiny float graph, with biases of its own and a few neurons stronger than the others."""
    model = ir.load(tiny_bundle / "onnx-fp32" / "tall.onnx")
    generator = np.random.default_rng(2)
    for linear in find_linears(model.graph):
        weight, name = linear.weight.copy(), linear.name
        if name.endswith("intermediate.dense"):
            weight[:, [3, 50]] *= 30
        bias = (0.3 * generator.standard_normal(linear.bias.shape)).astype(np.float32)
        for place, kind, array, node in ((1, "weight", weight, linear.product), (None, "bias", bias, linear.sum)):
            value = ir.Value(name=f"{name}.{kind}", const_value=ir.tensor(array, name=f"{name}.{kind}"))
            model.graph.register_initializer(value)
            if place is None:
                place = next(i for i, read in enumerate(node.inputs) if read.const_value is not None)
            node.replace_input_with(place, value)
    return model


@pytest.fixture(scope="module")
def ranges(plain, batches, tmp_path_factory) -> dict[str, ChannelRange]:
    return dict(observe(plain, batches, tmp_path_factory.mktemp("scratch"), silent))


@pytest.fixture(scope="module")
def ready(plain, ranges) -> ir.Model:
    return condition(plain, ranges)


def outputs(model: ir.Model, batches: list[Batch], folder: Path) -> list[np.ndarray]:
    session = onnxruntime.InferenceSession(str(save(model, folder / "model.onnx")), providers=["CPUExecutionProvider"])
    return [
        session.run(None, {"input_ids": batch.input_ids, "attention_mask": batch.attention_mask})[0]
        for batch in batches
    ]


def test_it_computes_the_same(plain, ready, batches, tmp_path):
    for found, expected in zip(outputs(ready, batches, tmp_path), outputs(plain, batches, tmp_path), strict=True):
        np.testing.assert_allclose(found, expected, atol=1e-4, rtol=0)


def test_the_plain_graph_is_left_alone(plain, ranges):
    before = [(node.op_type, node.name) for node in plain.graph], sorted(plain.graph.initializers)
    condition(plain, ranges)
    assert ([(node.op_type, node.name) for node in plain.graph], sorted(plain.graph.initializers)) == before


def test_each_feed_forward_block_has_a_float_branch(plain, ready):
    products = {node.name for node in ready.graph if node.op_type == "MatMul"}
    gelus = [node for node in ready.graph if node.op_type == "Gelu"]
    for layer in range(3):
        for module in FEED_FORWARD:
            name = f"encoder.layer.{layer}.{module}"
            assert {f"{FLOAT_PREFIX}{name}.strong", f"{name}.main"} <= products
            assert name not in products
    assert len(gelus) == 2 * 3
    assert sum(node.name.startswith(FLOAT_PREFIX) for node in gelus) == 3
    exact = next(node for node in plain.graph if node.op_type == "Gelu").attributes
    assert all(dict(node.attributes) == dict(exact) for node in gelus)


def test_the_strong_neurons_are_those_of_the_largest_values(plain, ready, ranges):
    weights = {linear.name: linear.weight for linear in find_linears(plain.graph)}
    up, down = (weights[f"encoder.layer.1.{module}"] for module in FEED_FORWARD)
    read = next(linear.x.name for linear in find_linears(plain.graph) if linear.name.endswith("1.output.dense"))
    strong = np.sort(np.argsort(-ranges[read].largest, kind="stable")[:SPLIT_NEURONS])
    assert {3, 50} <= set(strong.tolist())
    stored = {name: value.const_value.numpy() for name, value in ready.graph.initializers.items()}
    up_name, down_name = (f"{FLOAT_PREFIX}encoder.layer.1.{module}.strong.weight" for module in FEED_FORWARD)
    np.testing.assert_array_equal(stored[up_name], up[:, strong])
    np.testing.assert_array_equal(stored[down_name], down[strong])


def test_the_strong_values_are_gone_from_what_will_be_quantized(plain, ready, ranges, batches, tmp_path):
    after = observe(ready, batches, tmp_path, silent)
    for linear in find_linears(ready.graph):
        if linear.name.endswith("output.dense.main"):
            block = linear.name.removesuffix(".main")
            before = next(ranges[one.x.name] for one in find_linears(plain.graph) if one.name == block)
            kept = np.sort(before.largest)[:-SPLIT_NEURONS]
            np.testing.assert_allclose(np.sort(after[linear.x.name].largest), kept, rtol=1e-4)
            assert kept[-1] < before.largest.max() / 5


def test_smoothing_evens_activations_and_weights_out(ready, ranges, batches, tmp_path, plain):
    after = observe(ready, batches, tmp_path, silent)
    groups = {}
    for linear in find_linears(ready.graph):
        if not linear.stays_float and linear.x.producer().inputs[0].name in ranges:
            groups.setdefault(linear.x.name, []).append(np.abs(linear.weight).max(1))
    assert len(groups) == 9  # for each layer: attention's input and output, the feed-forward block's input
    for name, rows in groups.items():
        # with strength 1/2 both end at the root of their product
        np.testing.assert_allclose(after[name].largest, np.max(rows, axis=0), rtol=1e-3)


def test_smoothing_factors_are_those_of_the_paper():
    found = ChannelRange(np.float32([-4, 0, -1]), np.float32([1, 9, 1]))
    weights = [np.float32([[1, -2], [0.5, 0.1], [0, 0]]), np.float32([[0.5], [-3], [0]])]
    for strength in (0.0, 0.5, 0.75, 1.0):
        expected = np.array([4, 9, 1]) ** strength / np.array([2, 3, 1e-6]) ** (1 - strength)
        factors = smoothing_factors(found, weights, strength)
        np.testing.assert_allclose(factors, expected, rtol=1e-5)
        assert factors.dtype == np.float32


def feed_forward(activation: str) -> ir.Model:
    generator = np.random.default_rng(4)
    shapes = {"table": (116, 4), "w": (4, 24), "b": (24,), "w2": (24, 2), "b2": (2,)}
    tensors = [ir.tensor(generator.standard_normal(shape).astype(np.float32), name=n) for n, shape in shapes.items()]
    return ir.from_onnx_text(FEED_FORWARD_GRAPH.replace("ACTIVATION", activation), tensors)


def floats(model: ir.Model) -> list[str]:
    return [node.name for node in model.graph if (node.name or "").startswith(FLOAT_PREFIX)]


def test_without_gelu_nothing_is_split_and_nothing_breaks(batches, tmp_path):
    model = feed_forward("Relu")
    ready = condition(model, observe(model, batches, tmp_path, silent))
    assert floats(ready) == []
    assert sum(node.op_type == "Mul" for node in ready.graph) == 2  # smoothed all the same
    for found, expected in zip(outputs(ready, batches, tmp_path), outputs(model, batches, tmp_path), strict=True):
        np.testing.assert_allclose(found, expected, atol=1e-4, rtol=0)


@pytest.mark.parametrize("neurons", [1, 23, 24, 100])
def test_splitting_off_all_neurons_is_no_split(batches, tmp_path, neurons):
    model, ready = feed_forward("Gelu"), feed_forward("Gelu")
    split(ready, observe(model, batches, tmp_path, silent), neurons)
    assert bool(floats(ready)) == (neurons < 24)
    for found, expected in zip(outputs(ready, batches, tmp_path), outputs(model, batches, tmp_path), strict=True):
        np.testing.assert_allclose(found, expected, atol=1e-4, rtol=0)


def test_inputs_without_a_range_stay(batches, tmp_path):
    ready = feed_forward("Gelu")
    smooth(ready, {})
    assert [node.op_type for node in ready.graph] == [node.op_type for node in feed_forward("Gelu").graph]
