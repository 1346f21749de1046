"""What a text costs in arithmetic, tier by tier."""

import onnx_ir as ir

from edge_embed_export.attention import find_attentions
from edge_embed_export.graph import cut
from edge_embed_export.linear import HEAD_PREFIX, constant, find_linears
from edge_embed_runtimes.tiers import Ladder

TOKENS = 32


def count_operations(model: ir.Model, ladder: Ladder) -> dict[str, int]:
    """Tier name to the multiplications and additions of all products for one text of `TOKENS` tokens."""
    return {tier.name: _count(cut(model, tier).graph) for tier in ladder}


def _count(graph: ir.Graph) -> int:
    linears = find_linears(graph)
    products = sum(linear.weight.size for linear in linears) * TOKENS
    heads = sum(
        array.size
        for node in graph
        if (node.name or "").startswith(HEAD_PREFIX) and (array := constant(node.inputs[1])) is not None
    )
    readers = {linear.x: linear for linear in linears}
    mixing = sum(2 * TOKENS * TOKENS * len(readers[attention.out].weight) for attention in find_attentions(graph))
    return 2 * int(products + heads + mixing)
