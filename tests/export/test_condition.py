"""A conditioned graph computes what the plain one does, with strong neurons stacked and strong channels smoothed."""

from pathlib import Path

import numpy as np
import onnx_ir as ir
import onnxruntime
import pytest

from edge_embed_export.calibrate import ChannelRange, observe
from edge_embed_export.condition import (
    COPIES_SHARE,
    SMOOTHING,
    condition,
    copies_at,
    find_feed_forwards,
    smooth,
    smoothing_factors,
    stack,
    stack_limit,
)
from edge_embed_export.graph import save
from edge_embed_export.linear import find_linears
from edge_embed_runtimes.progress import silent
from edge_embed_runtimes.tokenizer import Batch, pad

STRONG = (3, 50)
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
def plain(traced_tall) -> ir.Model:
    """The tiny float graph, with biases of its own and a few neurons stronger than the others."""
    model = traced_tall.clone()
    generator = np.random.default_rng(2)
    for linear in find_linears(model.graph):
        weight, name = linear.weight.copy(), linear.name
        if name.endswith("intermediate.dense"):
            weight[:, list(STRONG)] *= 30
        bias = (0.3 * generator.standard_normal(linear.bias.shape)).astype(np.float32)
        linear.replace(model.graph, weight, bias)
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
    # but for rounding, and for GELU around the limit of a stack
    for found, expected in zip(outputs(ready, batches, tmp_path), outputs(plain, batches, tmp_path), strict=True):
        assert (found * expected).sum(1).min() > 0.9995


def test_the_plain_graph_is_left_alone(plain, ranges):
    before = [(node.op_type, node.name) for node in plain.graph], sorted(plain.graph.initializers)
    condition(plain, ranges)
    assert ([(node.op_type, node.name) for node in plain.graph], sorted(plain.graph.initializers)) == before


def test_the_feed_forward_blocks_are_found(plain):
    blocks = find_feed_forwards(plain.graph)
    names = [f"encoder.layer.{layer}" for layer in range(3)]
    assert [block.up.name for block in blocks] == [f"{name}.intermediate.dense" for name in names]
    assert [block.down.name for block in blocks] == [f"{name}.output.dense" for name in names]
    assert {block.act.op_type for block in blocks} == {"Gelu"}


def test_strong_neurons_are_stacked_and_nothing_goes_beyond_the_limit(plain, ready, ranges, batches, tmp_path):
    after = observe(ready, batches, tmp_path, silent)
    spare = -(-64 // COPIES_SHARE)
    for before, block in zip(find_feed_forwards(plain.graph), find_linears_after(ready), strict=True):
        highest = ranges[before.down.x.name].high
        limit = stack_limit(highest, spare=spare)
        copies = copies_at(highest, limit)
        assert len(block.weight) == copies.sum() == 64 + spare
        assert set(np.flatnonzero(copies > 1)) <= set(STRONG)
        assert after[block.x.name].high.max() == pytest.approx(limit, rel=1e-6)
        assert limit < highest.max()
        np.testing.assert_array_equal(block.weight[:64], before.down.weight)


def find_linears_after(model: ir.Model) -> list:
    return [linear for linear in find_linears(model.graph) if linear.x.producer().op_type == "Clip"]


@pytest.mark.parametrize(
    ("highest", "spare", "limit", "copies"),
    [
        ([8, 2, 1], 1, 4, [2, 1, 1]),
        ([8, 2, 1], 3, 2, [4, 1, 1]),
        ([8, 2, 1], 0, 8, [1, 1, 1]),
        ([8, 6, 1], 3, 3, [3, 2, 1]),
        ([8, 6, 1], 2, 4, [2, 2, 1]),
        ([0, 0, 0], 2, 0, None),
    ],
)
def test_the_limit_is_the_smallest_that_the_spare_copies_allow(highest, spare, limit, copies):
    values = np.float32(highest)
    assert stack_limit(values, spare=spare) == pytest.approx(limit)
    if copies:
        assert copies_at(values, limit).tolist() == copies


@pytest.mark.parametrize(("activation", "off"), [("Relu", 1e-5), ("Gelu", 0.18)])
def test_copies_add_up_to_the_neuron(activation, off, batches, tmp_path):
    model, ready = feed_forward(activation), feed_forward(activation)
    ranges = observe(model, batches, tmp_path, silent)
    stack(ready.graph, ranges, share=4)
    assert len(find_linears_after(ready)[0].weight) == 24 + 6
    down = np.abs(find_linears(model.graph)[1].weight)
    for found, expected in zip(outputs(ready, batches, tmp_path), outputs(model, batches, tmp_path), strict=True):
        assert np.abs(found - expected).max() < off * down.max() * 2


def test_even_neurons_are_left_alone(batches, tmp_path):
    model = feed_forward("Gelu")
    before = [node.op_type for node in model.graph]
    found = observe(model, batches, tmp_path, silent)
    even = {name: ChannelRange(values.low, np.full_like(values.high, 3.0)) for name, values in found.items()}
    stack(model.graph, even)
    assert [node.op_type for node in model.graph] == before


def test_smoothing_evens_activations_and_weights_out(ready, ranges, batches, tmp_path):
    after = observe(ready, batches, tmp_path, silent)
    groups = {}
    for linear in find_linears(ready.graph):
        if linear.x.producer().op_type == "Mul":
            groups.setdefault(linear.x, []).append(np.abs(linear.weight).max(1))
    assert len(groups) == 6  # for each layer: attention's input, and the feed-forward block's
    for x, rows in groups.items():
        before = ranges[x.producer().inputs[0].name].largest
        factors = before / after[x.name].largest
        weights = np.max(rows, axis=0) / factors
        np.testing.assert_allclose(factors, before**SMOOTHING / weights ** (1 - SMOOTHING), rtol=1e-3)


@pytest.mark.parametrize("mixed", [False, True])
def test_what_attention_mixes_is_smoothed_on_demand(plain, ranges, mixed):
    ready = condition(plain, ranges, mixed=mixed)
    writers = {
        linear.name: linear.x.producer().op_type
        for linear in find_linears(ready.graph)
        if linear.name.endswith("attention.output.dense")
    }
    assert set(writers.values()) == {"Mul" if mixed else "Reshape"}


def test_a_norm_that_only_linears_read_takes_the_factors_itself(batches, tmp_path):
    graph = normed_alone()
    ranges = {"state": ChannelRange(np.float32([-9, -1, -1, -1]), np.float32([1, 1, 30, 1]))}
    expected = outputs(graph, batches, tmp_path)
    smooth(graph.graph, ranges, behind=("LayerNormalization",))
    assert not [node for node in graph.graph if node.op_type == "Mul"]
    for one, other in zip(outputs(graph, batches, tmp_path), expected, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-5)


def normed_alone() -> ir.Model:
    generator = np.random.default_rng(4)
    shapes = {"table": (116, 4), "gain": (4,), "w": (4, 2)}
    tensors = [ir.tensor(generator.standard_normal(shape).astype(np.float32), name=n) for n, shape in shapes.items()]
    text = (
        FEED_FORWARD_GRAPH.split("{")[0]
        + """{
        rows = Gather(table, input_ids)
        state = LayerNormalization(rows, gain)
        [product] mapped = MatMul(state, w)
        out = Neg(mapped)
    }"""
    )
    return ir.from_onnx_text(text, tensors)


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
