"""What becomes of a graph for ONNX Runtime; that it computes the same is tested for every kind of encoder."""

from collections import Counter

import onnx_ir as ir
import onnxruntime
import pytest

from edge_embed_export.fuse import CONTRIB, fuse
from edge_embed_export.graph import save

HEADS = 4


@pytest.fixture(scope="module")
def fused(traced_tall) -> ir.Model:
    return fuse(traced_tall, HEADS)


def test_each_layer_has_one_attention(fused):
    nodes = [node for node in fused.graph if node.op_type == "MultiHeadAttention"]
    assert len(nodes) == 3
    assert all(node.domain == CONTRIB for node in nodes)
    assert all(node.attributes["num_heads"].as_int() == HEADS for node in nodes)
    assert all(node.attributes["scale"].as_float() == 1.0 for node in nodes)  # the query has it
    assert not [node for node in fused.graph if node.op_type in ("Softmax", "Transpose", "Reshape")]


def test_all_that_a_norm_adds_is_one_sum(fused):
    norms = [node for node in fused.graph if node.op_type == "LayerNormalization"]
    assert [norm.inputs[0].producer().op_type for norm in norms] == ["Sum"] * 7
    assert [len(norm.inputs[0].producer().inputs) for norm in norms] == [2] * 7


def test_onnx_runtime_leaves_the_sums_alone(fused, tmp_path):
    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath = str(tmp_path / "optimized.onnx")
    onnxruntime.InferenceSession(str(save(fused, tmp_path / "fused.onnx")), options, providers=["CPUExecutionProvider"])
    kinds = Counter(node.op_type for node in ir.load(tmp_path / "optimized.onnx").graph)
    assert kinds["SkipLayerNormalization"] == 0
    assert kinds["LayerNormalization"] == kinds["Sum"] == 7


def test_the_graph_is_left_alone(traced_tall):
    before = [node.name for node in traced_tall.graph]
    fuse(traced_tall, HEADS)
    assert [node.name for node in traced_tall.graph] == before
