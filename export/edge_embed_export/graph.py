"""From a checkpoint to one ONNX graph with an output a tier, and from that to a graph a tier."""

import ast
import logging
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import onnx_ir as ir
import torch
from onnx_ir.passes.common import IdentityEliminationPass, RemoveUnusedNodesPass
from torch import Tensor, nn
from torch.nn import functional

from edge_embed.model.tiered import TieredEncoder
from edge_embed_export.architectures import config_for
from edge_embed_export.layout import graph_name
from edge_embed_export.linear import HEAD_PREFIX
from edge_embed_export.simplify import simplify
from edge_embed_runtimes.tiers import Ladder, Tier

OPSET = 20
BACKBONE = "model.encoder.backbone."
"""The start of the names of the encoder's own weights."""
_HEADS = ("heads.", "model.token_weights.")


class _LadderGraph(nn.Module):
    """The tiered encoder as it stands in the graph: the mask made additive once, the heads as plain matrices."""

    def __init__(self, model: TieredEncoder) -> None:
        super().__init__()
        self.model = model
        self.heads = nn.ParameterDict(
            {tier.name: model.head_of(tier).weight.detach().T.contiguous() for tier in model.ladder if model.heads}
        )

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> tuple[Tensor, ...]:
        # A 4-D mask goes through transformers untouched; from a 2-D one it would trace a page of index arithmetic.
        # Any score plus this is so low that its softmax is exactly 0: padding can't change a vector.
        additive = (1.0 - attention_mask[:, None, None, :].float()) * torch.finfo(torch.float32).min
        states = self.model.encoder.states(input_ids, additive)
        normed = self.model.encoder.normed(states)
        vectors = (self._vector(tier, normed[tier.layers], attention_mask) for tier in self.model.ladder)
        return (*vectors, *(states[tier.layers] for tier in self.model.ladder.tiers[:-1]))

    def _vector(self, tier: Tier, hidden_state: Tensor, attention_mask: Tensor) -> Tensor:
        pooled = self.model.pool(tier.layers, hidden_state, attention_mask)
        if tier.name in self.heads:
            return functional.normalize(pooled @ self.heads[tier.name], dim=-1)
        return self.model.tier_vector(tier, pooled)


def export_ladder(model: TieredEncoder) -> ir.Model:
    """Trace a model (loaded with eager attention) into one ONNX graph whose outputs are named after the tiers.

    Inputs `input_ids` and `attention_mask`, (batch, tokens) int64; outputs a vector of each tier, (batch, dim) float32,
    unit length; then of each but the last the hidden state that the next layer reads, (batch, tokens, hidden), named
    by `Tier.state`.
    """
    config = config_for(model.encoder.backbone.config)
    positions = model.encoder.backbone.config.max_position_embeddings - model.encoder.family.spare_positions
    axes = {
        "batch": torch.export.Dim("batch", min=1, max=1 << 16),
        "tokens": torch.export.Dim("tokens", min=1, max=positions),
    }
    shapes = {name: {axis: axes[label] for axis, label in free.items()} for name, free in config.inputs.items()}
    with _quiet():
        program = torch.onnx.export(
            _LadderGraph(model).eval(),
            config.example(),
            dynamo=True,
            opset_version=OPSET,
            input_names=list(config.inputs),
            output_names=[*(tier.name for tier in model.ladder), *(tier.state for tier in model.ladder.tiers[:-1])],
            dynamic_shapes=shapes,
            verbose=False,
        )
    if program is None:
        raise RuntimeError("torch.onnx.export returned no program")
    graph = program.model
    graph.metadata_props.clear()
    graph.graph.metadata_props.clear()
    for node in graph.graph:
        node.name = _readable_name(node)
        node.metadata_props.clear()  # they hold stack traces
        node.doc_string = None
    simplify(graph)
    return graph


def _readable_name(node: ir.Node) -> str:
    """A product's name: its module in the encoder, or its head; not the weights', since equal ones are one tensor."""
    if node.op_type != "MatMul" or node.inputs[1] is None or node.inputs[1].const_value is None:
        return str(node.name)
    if (node.inputs[1].name or "").startswith(_HEADS):
        return f"{HEAD_PREFIX}{node.outputs[0].name}"
    scopes = ast.literal_eval(node.metadata_props.get("pkg.torch.onnx.name_scopes", "[]"))
    return str(scopes[-2]).removeprefix(BACKBONE) if len(scopes) > 1 else str(node.name)


def cut(model: ir.Model, tier: Tier) -> ir.Model:
    """The part of a ladder's graph that makes one tier's vectors, as a model of its own."""
    return _extract(model, tier.name, [value.name or "" for value in model.graph.inputs], [tier.name])


def cut_step(model: ir.Model, ladder: Ladder, tier: Tier) -> ir.Model:
    """The part that goes on from the tier before, the first from the token ids: to the tier's vectors and its state.

    Inputs `input_ids`, `attention_mask` and, but for the first tier, the state of the tier before.
    """
    place = ladder.tiers.index(tier)
    inputs = [value.name or "" for value in model.graph.inputs] + [before.state for before in ladder.tiers[:place][-1:]]
    outputs = [tier.name] + [tier.state] * (tier != ladder.top)
    return _extract(model, graph_name(tier, "step"), inputs, outputs)


def _extract(model: ir.Model, name: str, inputs: Sequence[str], outputs: Sequence[str]) -> ir.Model:
    graph = ir.convenience.extract(model.graph, inputs, outputs)
    graph.name = name
    one = ir.Model(graph, ir_version=model.ir_version, producer_name="edge-embed")
    IdentityEliminationPass()(one)
    RemoveUnusedNodesPass()(one)
    # extract() gathers them in a set, whose order differs from run to run
    kept = {name: value for name in model.graph.initializers if (value := graph.initializers.get(name)) is not None}
    graph.initializers.clear()
    graph.initializers.update(kept)
    return one


def save(model: ir.Model, path: Path) -> Path:
    """Write a model with its weights in a file beside it, so that no size limit applies; returns `path`."""
    ir.save(model, path, external_data=f"{path.name}.data")
    return path


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep the exporter's notes on missing, unneeded packages and on its own internals to itself."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            yield
        finally:
            logger.setLevel(level)
