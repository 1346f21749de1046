"""The count of operations against one by hand."""

from edge_embed_export.operations import TOKENS, count_operations
from edge_embed_runtimes.tiers import parse_ladder


def test_the_count_is_that_of_the_architecture(traced_tall):
    hidden, inner, layers, dim = 32, 64, 3, 32
    a_layer = TOKENS * (4 * hidden * hidden + 2 * hidden * inner) + 2 * TOKENS * TOKENS * hidden
    found = count_operations(traced_tall, parse_ladder("tall=3x32"))
    assert found == {"tall": 2 * (layers * a_layer + hidden * dim)}
