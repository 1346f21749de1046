"""Int8: what the scales promise, and that a quantized graph stays near its float original."""

from pathlib import Path

import numpy as np
import onnx_ir as ir
import onnxruntime
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from edge_embed_export.calibrate import ChannelRange, calibration_texts, observe
from edge_embed_export.condition import condition
from edge_embed_export.graph import save
from edge_embed_export.linear import find_linears
from edge_embed_export.quantize import affine, quantize, symmetric
from edge_embed_runtimes.progress import silent
from edge_embed_runtimes.tokenizer import Batch, Tokenizer, pad

KEPT = "encoder.layer.1.output.dense"
NUMBERS = st.floats(-1e6, 1e6, width=32)
ROWS = st.integers(1, 6).flatmap(lambda n: st.tuples(*[arrays(np.float32, n, elements=NUMBERS)] * 2))
TABLE = """
<ir_version: 10, opset_import: ["": 20]>
g (int64[batch, tokens] input_ids) => (float[batch, tokens, 8] out, int64[batch, tokens] picked)
{
    rows = Gather(table, input_ids)
    out = Neg(rows)
    picked = Gather(numbers, input_ids)
}
"""


@settings(deadline=None)
@given(ROWS)
def test_affine_covers_the_range_and_meets_0(pair):
    low, high = np.minimum(*pair), np.maximum(*pair)
    params = affine(ChannelRange(low, high))
    scale, zero = float(params.scale), int(params.zero_point)
    assert params.zero_point.dtype == np.uint8
    assert params.scale.dtype == np.float32
    assert scale > 0
    # 0 is the integer `zero`, so it comes back exactly; the ends of the range are half a step away at most
    assert scale * (0 - zero) <= min(0, low.min()) + scale * 0.501
    assert scale * (255 - zero) >= max(0, high.max()) - scale * 0.501
    assert scale * 255 <= max(high.max() - low.min(), high.max(), -low.min(), 3e-7) * 1.001


@pytest.mark.parametrize(
    ("low", "high", "scale", "zero"),
    [(0, 255, 1, 0), (-255, 0, 1, 255), (10, 255, 1, 0), (-255, -10, 1, 255), (-127, 128, 1, 127), (0, 0, 1e-9, 0)],
)
def test_affine_on_known_ranges(low, high, scale, zero):
    params = affine(ChannelRange(np.float32([low, 0.0]), np.float32([high, 0.0])))
    assert float(params.scale) == pytest.approx(scale)
    assert params.zero_point == zero


@settings(deadline=None)
@given(arrays(np.float32, array_shapes(min_dims=2, max_dims=2, max_side=7), elements=NUMBERS), st.sampled_from([0, 1]))
def test_symmetric_is_off_by_half_a_step_at_most(weight, axis):
    stored, scale = symmetric(weight, axis=axis)
    assert stored.dtype == np.int8
    assert stored.shape == weight.shape
    assert -127 <= stored.min() <= stored.max() <= 127
    assert scale.dtype == np.float32
    assert scale.shape == tuple(1 if place == axis else size for place, size in enumerate(weight.shape))
    error = np.abs(stored.astype(np.float64) * scale - weight)
    assert (error <= scale * 0.5 * (1 + 1e-4) + np.abs(weight) * 1e-6).all()
    largest = np.abs(weight).max(axis, keepdims=True)
    used = np.abs(stored).max(axis, keepdims=True)
    assert (used[largest > 1e-6] == 127).all()  # no precision given away


@pytest.fixture(scope="module")
def batches(tiny_bundle, tiny_texts) -> list[Batch]:
    tokenizer = Tokenizer.from_file(tiny_bundle / "tokenizer.json", max_tokens=64)
    ids, _ = tokenizer.encode(calibration_texts(tiny_texts))
    return [pad(ids[start : start + 16], pad_id=0) for start in range(0, len(ids), 16)]


@pytest.fixture(scope="module")
def conditioned(traced_tall, batches, tmp_path_factory) -> ir.Model:
    """The tiny float graph, ready to be quantized."""
    return condition(traced_tall, observe(traced_tall, batches, tmp_path_factory.mktemp("scratch"), silent))


@pytest.fixture(scope="module")
def ranges(conditioned, batches, tmp_path_factory) -> dict[str, ChannelRange]:
    return dict(observe(conditioned, batches, tmp_path_factory.mktemp("scratch"), silent))


@pytest.fixture(scope="module")
def quantized(conditioned, ranges) -> ir.Model:
    return quantize(conditioned, ranges, keep=[KEPT])


def session_of(model: ir.Model, folder: Path) -> onnxruntime.InferenceSession:
    return onnxruntime.InferenceSession(str(save(model, folder / "model.onnx")), providers=["CPUExecutionProvider"])


def vectors(session: onnxruntime.InferenceSession, batches: list[Batch]) -> np.ndarray:
    return np.concatenate(
        [
            session.run(None, {"input_ids": batch.input_ids, "attention_mask": batch.attention_mask})[0]
            for batch in batches
        ]
    )


def test_the_quantized_graph_is_close_to_float(conditioned, quantized, batches, tmp_path):
    exact = vectors(session_of(conditioned, tmp_path), batches)
    found = vectors(session_of(quantized, tmp_path), batches)
    cosines = (exact * found).sum(1)
    assert cosines.mean() > 0.995
    assert cosines.min() > 0.98
    assert cosines.min() < 1 - 1e-7  # something was rounded


def test_a_vector_does_not_depend_on_its_batch(quantized, batches, tmp_path):
    session = session_of(quantized, tmp_path)
    alone = [
        pad([ids[mask == 1].tolist()], pad_id=0)
        for batch in batches
        for ids, mask in zip(batch.input_ids, batch.attention_mask, strict=True)
    ]
    np.testing.assert_allclose(vectors(session, alone), vectors(session, batches), atol=1e-6, rtol=0)


def test_only_the_float_products_stay_in_float(conditioned, quantized):
    linears = find_linears(conditioned.graph)
    wanted = {f"{linear.name}.int8" for linear in linears if linear.name != KEPT}
    products = [node for node in quantized.graph if node.op_type == "MatMulIntegerToFloat"]
    assert {node.name for node in products} == wanted
    assert all(node.domain == "com.microsoft" for node in products)
    assert quantized.opset_imports["com.microsoft"] == 1
    constant = {
        node.name for node in quantized.graph if node.op_type == "MatMul" and node.inputs[1].const_value is not None
    }
    assert {name for name in constant if not name.startswith("head.")} == {KEPT}


def test_the_stored_weights_are_int8_with_a_scale_a_channel(conditioned, quantized):
    for linear in find_linears(conditioned.graph):
        if linear.name == KEPT:
            continue
        stored = {kind: quantized.graph.initializers[f"{linear.name}.{kind}"].const_value.numpy()
                  for kind in ("weight.int8", "weight.scale", "bias.float")}  # fmt: skip
        assert stored["weight.int8"].dtype == np.int8
        error = np.abs(stored["weight.int8"] * stored["weight.scale"] - linear.weight)
        assert (error <= stored["weight.scale"] * 0.501).all()
        np.testing.assert_array_equal(stored["bias.float"], linear.bias)


def test_readers_of_one_input_share_its_fixed_range(quantized, ranges):
    nodes = [node for node in quantized.graph if node.op_type == "QuantizeLinear"]
    readers = {node.name: [use.node.name for use in node.outputs[0].uses()] for node in nodes}
    attention = [sorted(names) for names in readers.values() if len(names) > 1]
    assert attention == [
        sorted(f"encoder.layer.{layer}.attention.self.{part}.int8" for part in ("query", "key", "value"))
        for layer in range(3)
    ]
    for node in nodes:
        x, scale, zero = node.inputs
        stacked = x.producer().op_type == "Gelu"  # the cut that ends its values is in the bytes themselves
        name = node.name.removesuffix(".quantized") if stacked else x.name
        expected = affine(ranges[name])
        assert scale.const_value.numpy() == expected.scale
        assert zero.const_value.numpy() == expected.zero_point


def test_the_float_graph_is_left_alone(conditioned, ranges):
    before = [(node.op_type, node.name) for node in conditioned.graph], sorted(conditioned.graph.initializers)
    quantize(conditioned, ranges)
    assert ([(node.op_type, node.name) for node in conditioned.graph], sorted(conditioned.graph.initializers)) == before


@pytest.fixture
def table_graph() -> ir.Model:
    generator = np.random.default_rng(6)
    table = (generator.standard_normal((300, 8)) * np.linspace(0.01, 9, 300)[:, None]).astype(np.float32)
    numbers = np.arange(300)
    return ir.from_onnx_text(TABLE, [ir.tensor(table, name="table"), ir.tensor(numbers, name="numbers")])


def test_a_large_table_becomes_int8_with_a_scale_a_row(table_graph, tmp_path):
    table = table_graph.graph.initializers["table"].const_value.numpy()
    ready = quantize(table_graph, {})
    kinds = {name: value.const_value.dtype for name, value in ready.graph.initializers.items()}
    assert kinds == {
        "table.int8": ir.DataType.INT8, "table.scale": ir.DataType.FLOAT, "numbers": ir.DataType.INT64,
    }  # fmt: skip
    ids = np.arange(300).reshape(3, 100)
    out, picked = session_of(ready, tmp_path).run(None, {"input_ids": ids})
    np.testing.assert_array_equal(picked, ids)
    error = np.abs(-out.reshape(300, 8) - table)
    assert (error <= np.abs(table).max(1, keepdims=True) / 127 * 0.501).all()
    assert error.max() > 0


def test_a_small_table_stays_in_float(table_graph):
    table = table_graph.graph.initializers["table"]
    table.const_value = ir.tensor(table.const_value.numpy()[:255], name="table")
    ready = quantize(table_graph, {})
    assert [node.op_type for node in ready.graph] == ["Gather", "Neg", "Gather"]
    assert set(ready.graph.initializers) == {"table", "numbers"}


def test_the_smallest_table_that_counts_as_large(table_graph):
    table = table_graph.graph.initializers["table"]
    table.const_value = ir.tensor(table.const_value.numpy()[:256], name="table")
    assert "table.int8" in quantize(table_graph, {}).graph.initializers
