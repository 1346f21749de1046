"""What NNCF makes of a float graph."""

import numpy as np

from edge_embed_export import openvino as to_openvino
from edge_embed_export.graph import save
from edge_embed_runtimes.tokenizer import pad


def ranges(graph, batches, folder) -> list[float]:
    model = to_openvino.quantize(to_openvino.read(save(graph, folder / "float.onnx")), batches)
    quantizers = [node for node in model.get_ordered_ops() if node.get_type_name() == "FakeQuantize"]
    return [float(value.get_node().data.ravel()[0]) for node in quantizers for value in node.input_values()[1:3]]


def test_padding_does_not_widen_a_range(traced_tall, tmp_path):
    rng = np.random.default_rng(0)
    texts = [rng.integers(5, 116, length).tolist() for length in (3, 5, 8, 40)]
    together = ranges(traced_tall, [pad(texts, pad_id=0)], tmp_path)
    alone = ranges(traced_tall, [pad([text], pad_id=0) for text in texts], tmp_path)
    assert len(together) >= 2 * 4 * 2
    np.testing.assert_allclose(together, alone, rtol=1e-6)
