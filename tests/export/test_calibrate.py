"""Ranges against numpy, on a graph small enough to compute by hand."""

import math
from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest

from edge_embed_export.calibrate import LEAST_TEXTS, MOST_TEXTS, ChannelRange, calibration_texts, observe
from edge_embed_runtimes.errors import DataError
from edge_embed_runtimes.progress import silent
from edge_embed_runtimes.tokenizer import Batch, pad

GRAPH = """
<ir_version: 10, opset_import: ["": 20]>
g (int64[batch, tokens] input_ids, int64[batch, tokens] attention_mask) => (float[batch, tokens, 2] out)
{
    rows = Gather(table, input_ids)
    up = MatMul(rows, w)
    state = Add(up, b)
    active = Gelu(state)
    down = MatMul(active, w2)
    low = Add(down, b2)
    beside = MatMul(rows, w3)
    more = Add(beside, b2)
    out = Add(low, more)
}
"""
TEXTS = ((1, 2, 3, 4, 5), (6, 7), (8,), (9, 1, 6))


@pytest.fixture(scope="module")
def weights() -> dict[str, np.ndarray]:
    generator = np.random.default_rng(1)
    shapes = {"table": (10, 4), "w": (4, 6), "b": (6,), "w2": (6, 2), "b2": (2,), "w3": (4, 2)}
    made = {name: generator.standard_normal(shape).astype(np.float32) for name, shape in shapes.items()}
    made["table"][0] = 1000  # the padding
    return made


@pytest.fixture(scope="module")
def model(weights) -> ir.Model:
    return ir.from_onnx_text(GRAPH, [ir.tensor(array, name=name) for name, array in weights.items()])


def gelu(x: np.ndarray) -> np.ndarray:
    return 0.5 * x * (1 + np.vectorize(math.erf)(x / math.sqrt(2)))


def observed(model: ir.Model, batches: list[Batch], scratch: Path) -> dict[str, ChannelRange]:
    return dict(observe(model, batches, scratch, silent))


def test_ranges_are_those_of_numpy(model, weights, tmp_path):
    ranges = observed(model, [pad([text], pad_id=0) for text in TEXTS], tmp_path)
    rows = weights["table"][[token for text in TEXTS for token in text]]
    by_hand = {"rows": rows, "active": gelu(rows @ weights["w"] + weights["b"])}
    assert ranges.keys() == by_hand.keys()
    for name, values in by_hand.items():
        np.testing.assert_allclose(ranges[name].low, values.min(0), rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(ranges[name].high, values.max(0), rtol=1e-5, atol=1e-6)


def test_padding_is_left_out(model, tmp_path):
    alone = observed(model, [pad([text], pad_id=0) for text in TEXTS], tmp_path)
    padded = observed(model, [pad(TEXTS[:3], pad_id=0), pad(TEXTS[3:], pad_id=0)], tmp_path)
    for name, found in alone.items():
        np.testing.assert_allclose(padded[name].low, found.low, rtol=1e-6)
        np.testing.assert_allclose(padded[name].high, found.high, rtol=1e-6)
    assert max(found.largest.max() for found in padded.values()) < 100


def test_the_graph_stays_as_it_was_and_progress_is_told(model, tmp_path):
    steps = []
    before = [output.name for output in model.graph.outputs], len(model.graph)
    observe(model, [pad([text], pad_id=0) for text in TEXTS], tmp_path, lambda *step: steps.append(step))
    assert ([output.name for output in model.graph.outputs], len(model.graph)) == before
    assert steps == [("calibrate", done, len(TEXTS)) for done in range(1, len(TEXTS) + 1)]


def test_the_largest_magnitude_is_never_0():
    found = ChannelRange(np.float32([-3, -1, 0]), np.float32([2, 4, 0])).largest
    np.testing.assert_allclose(found, [3, 4, 1e-6])


@pytest.mark.parametrize("count", [0, 1, LEAST_TEXTS - 1])
def test_too_few_texts(count):
    texts = [f"text {number}" for number in range(count)] * 2
    with pytest.raises(DataError, match=f"^{count} calibration texts are too few: .* at least {LEAST_TEXTS}"):
        calibration_texts(texts)


def test_few_texts_are_all_taken_once_in_order_of_length():
    texts = [f"{'word ' * (number % 9)}{number}" for number in range(LEAST_TEXTS)]
    chosen = calibration_texts([*texts, *texts])
    assert sorted(chosen) == sorted(texts)
    assert [len(text) for text in chosen] == sorted(len(text) for text in texts)


def test_many_texts_are_thinned_over_all_lengths():
    texts = [f"{number:04d}" + "x" * (number if number > 4990 else number % 50) for number in range(5000)]
    chosen = calibration_texts(texts)
    assert len(set(chosen)) == len(chosen) == MOST_TEXTS
    lengths, given = sorted(len(text) for text in chosen), sorted(len(text) for text in texts)
    assert (lengths[0], lengths[-1]) == (given[0], given[-1])
    np.testing.assert_allclose(np.percentile(lengths, (25, 50, 75)), np.percentile(given, (25, 50, 75)), atol=1)
    assert chosen == calibration_texts(texts[::-1])  # their order in the file does not matter
