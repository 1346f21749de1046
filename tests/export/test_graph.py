"""The traced graph against the torch encoder that it was traced from."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx_ir as ir
import onnxruntime
import pytest
import torch

from edge_embed.model.checkpoint import load_checkpoint
from edge_embed.model.encoder import load_encoder
from edge_embed.model.tiered import TieredEncoder
from edge_embed_export.graph import HEAD_PREFIX, OPSET, cut, cut_step, export_ladder, save
from edge_embed_runtimes.tiers import parse_ladder

LONGEST = 64
MODULES = ("attention.self.query", "attention.self.key", "attention.self.value", "attention.output.dense",
           "intermediate.dense", "output.dense")  # fmt: skip


class Traced:
    """A model, its graph of all tiers, and a session of each tier's own graph."""

    def __init__(self, model: TieredEncoder, folder: Path) -> None:
        torch.manual_seed(3)
        with torch.no_grad():
            for name, parameter in model.encoder.named_parameters():
                if name.endswith("bias") or "LayerNorm" in name:  # a fresh encoder has only zeros and ones there
                    parameter += 0.3 * torch.randn_like(parameter)
        self.model = model.eval()
        self.graph = export_ladder(model)
        self.cuts = {tier.name: cut(self.graph, tier) for tier in model.ladder}
        self.paths = {name: save(one, folder / f"{name}.onnx") for name, one in self.cuts.items()}
        self.sessions = {
            name: onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
            for name, path in self.paths.items()
        }

    def run(self, name: str, input_ids: np.ndarray, attention_mask: np.ndarray) -> np.ndarray:
        (vectors,) = self.sessions[name].run(None, {"input_ids": input_ids, "attention_mask": attention_mask})
        return vectors


@pytest.fixture(scope="module", params=["project-mean", "truncate-cls", "weigh-mean"])
def traced(request, tmp_path_factory, tiny_checkpoint, tiny_encoder) -> Traced:
    if request.param == "project-mean":
        model, _ = load_checkpoint(tiny_checkpoint, attention="eager")
        return Traced(model, tmp_path_factory.mktemp(request.param))
    encoder = load_encoder(str(tiny_encoder), attention="eager")
    if request.param == "weigh-mean":
        model = TieredEncoder(encoder, parse_ladder("1x8,2x16,3x32"), "weigh")
        torch.manual_seed(4)
        model.set_head_weights({name: torch.randn(value.shape) for name, value in model.head_weights().items()})
    else:
        encoder.settings = replace(encoder.settings, pooling="cls")
        model = TieredEncoder(encoder, parse_ladder("1x8,2x16"), "truncate")
    return Traced(model, tmp_path_factory.mktemp(request.param))


def texts(batch: int, tokens: int, *, padded: bool) -> tuple[np.ndarray, np.ndarray]:
    """Random ids; with `padded` every row but the first ends earlier."""
    generator = np.random.default_rng(100 * batch + tokens)
    input_ids = generator.integers(5, 116, (batch, tokens))
    attention_mask = np.ones_like(input_ids)
    if padded:
        for row in range(1, batch):
            attention_mask[row, generator.integers(1, tokens + 1) :] = 0
    input_ids[attention_mask == 0] = 0
    return input_ids, attention_mask


@pytest.mark.parametrize("padded", [False, True], ids=["full", "padded"])
@pytest.mark.parametrize("batch", [1, 5])
@pytest.mark.parametrize("tokens", [1, 2, 7, LONGEST])
def test_every_tier_computes_what_torch_does(traced, batch, tokens, padded):
    input_ids, attention_mask = texts(batch, tokens, padded=padded)
    with torch.inference_mode():
        expected = traced.model(torch.from_numpy(input_ids), torch.from_numpy(attention_mask))
    for tier in traced.model.ladder:
        found = traced.run(tier.name, input_ids, attention_mask)
        assert found.shape == (batch, tier.dim)
        assert found.dtype == np.float32
        np.testing.assert_allclose(found, expected[tier.name].numpy(), atol=1e-5, rtol=0)
        np.testing.assert_allclose(np.linalg.norm(found, axis=1), 1, atol=1e-5)


def test_what_stands_at_padding_changes_nothing(traced):
    input_ids, attention_mask = texts(5, 20, padded=True)
    others = np.where(attention_mask == 1, input_ids, 99)
    wider = [np.pad(array, ((0, 0), (0, 30))) for array in (input_ids, attention_mask)]
    for tier in traced.model.ladder:
        plain = traced.run(tier.name, input_ids, attention_mask)
        np.testing.assert_allclose(traced.run(tier.name, others, attention_mask), plain, atol=1e-6, rtol=0)
        np.testing.assert_allclose(traced.run(tier.name, *wider), plain, atol=1e-6, rtol=0)


def test_the_ladders_inputs_and_outputs(traced):
    graph = traced.graph.graph
    assert [value.name for value in graph.inputs] == ["input_ids", "attention_mask"]
    tiers = traced.model.ladder.tiers
    assert [value.name for value in graph.outputs] == [
        *(tier.name for tier in tiers),
        *(tier.state for tier in tiers[:-1]),
    ]
    for value, tier in zip(graph.outputs[: len(tiers)], tiers, strict=True):
        assert value.dtype == ir.DataType.FLOAT
        assert value.shape[1] == tier.dim
        assert not isinstance(value.shape[0], int)
    for value in graph.outputs[len(tiers) :]:
        assert value.dtype == ir.DataType.FLOAT
        assert len(value.shape) == 3 and value.shape[2] == traced.model.encoder.hidden
    assert traced.graph.opset_imports == {"": OPSET}


def test_products_are_named_after_their_modules(traced):
    products = [
        node.name for node in traced.graph.graph if node.op_type == "MatMul" and node.inputs[1].const_value is not None
    ]
    layers = range(traced.model.ladder.top.layers)
    heads = [name for name in products if name.startswith(HEAD_PREFIX)]
    assert [name for name in products if name not in heads] == [
        f"encoder.layer.{layer}.{name}" for layer in layers for name in MODULES
    ]
    assert len(set(heads)) == len(heads) == len(traced.model.head_weights())


def metadata(graph: ir.Graph) -> Iterator[str]:
    values = [*graph.inputs, *graph.initializers.values(), *(value for node in graph for value in node.outputs)]
    for holder in (graph, *graph, *values):
        yield from (f"{key}={value}" for key, value in holder.metadata_props.items())
        yield holder.doc_string or ""


def test_nothing_of_this_machine_is_in_the_graph(traced):
    for one in (traced.graph, *traced.cuts.values()):
        assert dict(one.metadata_props) == {}
        assert all(not node.metadata_props and not node.doc_string for node in one.graph)
        assert [text for text in metadata(one.graph) if "/" in text or ".py" in text] == []
    root = str(Path(__file__).parents[2]).encode()
    for path in traced.paths.values():
        content = path.read_bytes()
        assert root not in content
        assert b"site-packages" not in content


def reachable(output: ir.Value) -> tuple[set[tuple[str, str]], set[str]]:
    """The nodes, as (operator, name), and the initializers that an output needs; identities pass through."""
    nodes, constants, ahead = set(), set(), [output]
    while ahead:
        value = ahead.pop()
        node = value.producer()
        if node is None:
            constants |= {value.name} if value.is_initializer() else set()
            continue
        if node.op_type != "Identity":
            nodes.add((node.op_type, node.name))
        ahead += [read for read in node.inputs if read is not None]
    return nodes, constants


def test_a_cut_is_exactly_what_its_tier_needs(traced):
    before = len(traced.graph.graph)
    for value, tier in zip(traced.graph.graph.outputs, traced.model.ladder, strict=False):  # states follow
        one = cut(traced.graph, tier)
        nodes, constants = reachable(value)
        assert {(node.op_type, node.name) for node in one.graph} == nodes
        assert len(one.graph) == len(nodes)
        assert set(one.graph.initializers) == constants
        assert [output.name for output in one.graph.outputs] == [tier.name]
        assert [given.name for given in one.graph.inputs] == ["input_ids", "attention_mask"]
        layers = {name.split(".")[2] for _, name in nodes if name.startswith("encoder.layer.")}
        assert layers == {str(layer) for layer in range(tier.layers)}
    assert len(traced.graph.graph) == before


def test_steps_hold_every_layer_once_and_go_on_exactly(traced, tmp_path):
    ladder, feeds = (
        traced.model.ladder,
        dict(zip(("input_ids", "attention_mask"), texts(5, 20, padded=True), strict=True)),
    )
    expected = {tier.name: traced.run(tier.name, *feeds.values()) for tier in ladder}
    seen: list[str] = []
    for tier in ladder:
        step = cut_step(traced.graph, ladder, tier)
        seen += sorted({node.name.split(".")[2] for node in step.graph if node.name.startswith("encoder.layer.")})
        session = onnxruntime.InferenceSession(str(save(step, tmp_path / f"{tier.name}.onnx")))
        given = {value.name: feeds[value.name] for value in session.get_inputs()}
        found = dict(zip([value.name for value in session.get_outputs()], session.run(None, given), strict=True))
        np.testing.assert_allclose(found.pop(tier.name), expected[tier.name], atol=1e-6, rtol=0)
        assert list(found) == ([] if tier == ladder.top else [tier.state])
        feeds |= found
    assert seen == [str(layer) for layer in range(ladder.top.layers)]


def test_save_puts_the_weights_beside_the_graph(traced, tmp_path):
    path = tmp_path / "one.onnx"
    assert save(traced.graph, path) == path
    assert {found.name for found in tmp_path.iterdir()} == {"one.onnx", "one.onnx.data"}
    again = ir.load(path)
    for name, value in traced.graph.graph.initializers.items():
        np.testing.assert_array_equal(again.graph.initializers[name].const_value.numpy(), value.const_value.numpy())
