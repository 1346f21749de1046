"""A ladder of models in one encoder: each tier reads one hidden state through its own head."""

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Literal, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from edge_embed.model.encoder import Encoder
from edge_embed_runtimes.errors import LadderError
from edge_embed_runtimes.progress import Progress, silent
from edge_embed_runtimes.tiers import Ladder, Tier

HeadKind = Literal["project", "truncate", "weigh"]
HEAD_KINDS: tuple[HeadKind, ...] = get_args(HeadKind)


class TieredEncoder(nn.Module):
    """An encoder, cut to the depth of its ladder, with a head for each tier.

    Args:
        encoder: layers above the ladder's top are dropped.
        ladder: at most the encoder's size.
        head: `"truncate"` takes the first `dim` values of the pooled state; `"project"` maps it with a bias-free
            matrix of its own, which begins as truncation; `"weigh"` does so, too, and below the top a token counts in
            the mean as much as its state says, by a learned vector for each layer, which begins as the plain mean.

    Raises:
        LadderError: the ladder is deeper or wider than the encoder, the head is unknown, or tokens are to be weighed
            where there is no mean.
    """

    def __init__(self, encoder: Encoder, ladder: Ladder, head: HeadKind) -> None:
        super().__init__()
        if head not in HEAD_KINDS:
            raise LadderError(f"head {head!r} is unknown: allowed are {', '.join(HEAD_KINDS)}")
        ladder.check_fits(encoder.layers, encoder.hidden)
        encoder.cut(ladder.top.layers)
        self.encoder = encoder
        self.ladder = ladder
        self.head = head
        self.heads = nn.ModuleDict()
        if head != "truncate":
            for tier in ladder:
                self.heads[tier.name] = nn.Linear(encoder.hidden, tier.dim, bias=False)
                self.set_head(tier, torch.eye(encoder.hidden)[:, : tier.dim])
        self.token_weights = nn.ParameterDict()
        if head == "weigh":
            if encoder.settings.pooling != "mean":
                raise LadderError(f"head weigh needs mean pooling, {encoder.name} has {encoder.settings.pooling}")
            for tier in ladder.tiers[:-1]:
                self.token_weights[str(tier.layers)] = nn.Parameter(torch.zeros(encoder.hidden, 1))

    def set_head(self, tier: Tier, matrix: Tensor) -> None:
        """Set the (hidden, dim) matrix of a tier's `project` head.

        Raises:
            LadderError: the matrix has another shape.
        """
        if matrix.shape != (self.encoder.hidden, tier.dim):
            wanted = (self.encoder.hidden, tier.dim)
            raise LadderError(f"the head of {tier} has the shape {tuple(matrix.shape)}: it must be {wanted}")
        with torch.no_grad():
            self.head_of(tier).weight.copy_(matrix.T)

    def head_of(self, tier: Tier) -> nn.Linear:
        """The `project` head of a tier."""
        module = self.heads[tier.name]
        if not isinstance(module, nn.Linear):
            raise TypeError(f"the head of {tier} is a {type(module).__name__}")
        return module

    def head_weights(self) -> dict[str, Tensor]:
        """All but the encoder: a tier's name to its (hidden, dim) matrix, `tokens-l1` to layer 1's (hidden, 1) one."""
        heads = {tier.name: self.head_of(tier).weight.detach().T.contiguous() for tier in self.ladder if self.heads}
        return heads | {f"tokens-l{layer}": matrix.detach() for layer, matrix in self.token_weights.items()}

    def set_head_weights(self, weights: Mapping[str, Tensor]) -> None:
        """Set all of what `head_weights` gives.

        Raises:
            LadderError: one is missing, unknown, or of another shape.
        """
        known = self.head_weights()
        if set(weights) != set(known):
            raise LadderError(f"the heads are {sorted(weights)}: they must be {sorted(known)}")
        for name, values in weights.items():
            if values.shape != known[name].shape:
                wanted = tuple(known[name].shape)
                raise LadderError(f"the head {name} has the shape {tuple(values.shape)}: it must be {wanted}")
        for tier in self.ladder if self.heads else ():
            self.set_head(tier, weights[tier.name])
        with torch.no_grad():
            for layer, matrix in self.token_weights.items():
                matrix.copy_(weights[f"tokens-l{layer}"])

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> dict[str, Tensor]:
        """The vectors of every tier, by its name: (batch, dim) float, unit length."""
        return self.vectors(self.encoder(input_ids, attention_mask), attention_mask)

    def vectors(self, hidden_states: Sequence[Tensor], attention_mask: Tensor) -> dict[str, Tensor]:
        """Tier vectors from hidden states; one pass through the encoder serves them all.

        Args:
            hidden_states: embeddings first, then one a layer, (batch, tokens, hidden).
            attention_mask: (batch, tokens) of 1 and 0.
        """
        return {
            tier.name: self.tier_vector(tier, self.pool(tier.layers, hidden_states[tier.layers], attention_mask))
            for tier in self.ladder
        }

    def pool(self, layer: int, hidden_state: Tensor, attention_mask: Tensor) -> Tensor:
        """One vector a text from a layer's state: (batch, tokens, hidden) and (batch, tokens) to (batch, hidden)."""
        if str(layer) not in self.token_weights:
            return self.encoder.pool(hidden_state, attention_mask)
        weights = torch.sigmoid(hidden_state @ self.token_weights[str(layer)]) * attention_mask.unsqueeze(-1)
        return (hidden_state * weights).sum(1) / weights.sum(1)

    def tier_vector(self, tier: Tier, pooled: Tensor) -> Tensor:
        """The (batch, dim) unit vectors of a tier from its layer's pooled states (batch, hidden)."""
        match self.head:
            case "truncate":
                vector = pooled[:, : tier.dim]
            case "project" | "weigh":
                vector = self.heads[tier.name](pooled)
        return functional.normalize(vector, dim=-1)


@torch.inference_mode()
def pooled_states(
    encoder: Encoder,
    texts: Sequence[str],
    *,
    layers: Collection[int],
    max_tokens: int | None = None,
    pool: Callable[[int, Tensor, Tensor], Tensor] | None = None,
    progress: Progress = silent,
    stage: str = "encode",
) -> dict[int, NDArray[np.float32]]:
    """The pooled states of some layers (0 is the embeddings): layer to (n, hidden) float32.

    Args:
        max_tokens: texts are cut here; None for the encoder's own limit.
        pool: layer, its state and the mask to one vector a text; None for the encoder's own pooling.

    Warns:
        TextCut: texts were longer.

    Raises:
        TextError: an item that is no valid string.
    """
    encoder.eval()
    device = next(encoder.parameters()).device
    pool = pool or (lambda _, state, mask: encoder.pool(state, mask))
    pooled = {layer: np.empty((len(texts), encoder.hidden), dtype=np.float32) for layer in layers}
    done = 0
    for batch in encoder.tokenizer(max_tokens).batches(texts):
        mask = torch.from_numpy(batch.attention_mask).to(device)
        states = encoder(torch.from_numpy(batch.input_ids).to(device), mask)
        for layer, out in pooled.items():
            out[batch.rows] = pool(layer, states[layer].float(), mask).cpu().numpy()
        done += len(batch.rows)
        progress(stage, done, len(texts))
    return pooled


@torch.inference_mode()
def encode_tiers(
    model: TieredEncoder, texts: Sequence[str], *, progress: Progress = silent
) -> Mapping[str, NDArray[np.float32]]:
    """The vectors of texts at every tier: tier name to (n, dim) float32, unit length.

    Raises:
        TextError: an item that is no valid string.
    """
    model.eval()
    layers = [tier.layers for tier in model.ladder]
    pooled = pooled_states(model.encoder, texts, layers=layers, pool=model.pool, progress=progress)
    device = next(model.parameters()).device
    return {
        tier.name: model.tier_vector(tier, torch.from_numpy(pooled[tier.layers]).to(device)).cpu().numpy()
        for tier in model.ladder
    }
