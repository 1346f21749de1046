"""The rewrites of a traced graph; that it computes the same is tested for every kind of encoder."""

from collections import Counter

import numpy as np
import onnx_ir as ir

from edge_embed_export.attention import find_attentions, projected
from edge_embed_export.linear import constant, find_linears


def gathers(model: ir.Model) -> list[str]:
    names = [node.inputs[0].name for node in model.graph if node.op_type == "Gather"]
    return [next(part for part in name.split(".") if part.endswith("_embeddings")) for name in names]


def test_the_attention_of_each_layer_is_found(traced_tall):
    found = find_attentions(traced_tall.graph)
    writers = {linear.out: linear.name for linear in find_linears(traced_tall.graph)}
    assert [[writers[projected(side)] for side in attention.sides] for attention in found] == [
        [f"encoder.layer.{layer}.attention.self.{part}" for part in ("query", "key", "value")] for layer in range(3)
    ]
    readers = {linear.x: linear.name for linear in find_linears(traced_tall.graph)}
    assert [readers[attention.out] for attention in found] == [
        f"encoder.layer.{layer}.attention.output.dense" for layer in range(3)
    ]
    assert all(len(attention.added) == 1 for attention in found)  # the mask


def test_the_query_takes_the_scale_of_the_scores(traced_tall, tiny_encoder):
    import transformers

    assert all(attention.scaling is None for attention in find_attentions(traced_tall.graph))
    query = next(linear for linear in find_linears(traced_tall.graph) if linear.name.endswith("0.attention.self.query"))
    module = transformers.BertModel.from_pretrained(tiny_encoder).encoder.layer[0].attention.self.query
    scale = 8**-0.5  # heads are 8 values wide
    np.testing.assert_allclose(query.weight, module.weight.detach().numpy().T * scale, rtol=1e-6)
    np.testing.assert_allclose(query.bias, module.bias.detach().numpy() * scale, rtol=1e-6)


def test_only_words_are_looked_up(traced_tall, tiny_encoder):
    import transformers

    assert gathers(traced_tall) == ["word_embeddings"]
    embeddings = transformers.BertModel.from_pretrained(tiny_encoder).embeddings
    (positions,) = [
        table
        for node in traced_tall.graph
        if node.op_type == "Slice" and (table := constant(node.inputs[0])) is not None
    ]
    expected = embeddings.position_embeddings.weight + embeddings.token_type_embeddings.weight[0]
    np.testing.assert_allclose(positions[0], expected.detach().numpy(), rtol=1e-6)


def test_positions_that_are_counted_stay_a_lookup(tiny_family):
    from edge_embed.model.encoder import load_encoder
    from edge_embed.model.tiered import TieredEncoder
    from edge_embed_export.graph import export_ladder
    from edge_embed_runtimes.tiers import parse_ladder

    model = TieredEncoder(load_encoder(str(tiny_family("roberta")), attention="eager"), parse_ladder("1x8"), "truncate")
    graph = export_ladder(model)
    assert Counter(gathers(graph)) == {"word_embeddings": 1, "position_embeddings": 1}
