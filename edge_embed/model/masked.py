"""The head that guesses masked words from hidden states, also from the first values of one."""

from pathlib import Path

import safetensors.torch
import torch
import transformers
from safetensors import SafetensorError
from torch import Tensor, nn
from torch.nn import functional
from transformers.activations import ACT2FN

from edge_embed.model.encoder import Encoder
from edge_embed.model.quiet import quiet
from edge_embed.model.source import locate
from edge_embed_runtimes.errors import EncoderError

HEAD_NAME = "masked_head.safetensors"


class MaskedWords(nn.Module):
    """Hidden states to scores of every word: dense, activation, layer norm, then the word embeddings as decoder.

    Args:
        embeddings: the encoder's (vocabulary, hidden) table, which the head shares.
        activation: as transformers names it.
    """

    def __init__(self, embeddings: nn.Embedding, activation: str, *, norm_eps: float) -> None:
        super().__init__()
        words, hidden = embeddings.weight.shape
        self.dense = nn.Linear(hidden, hidden)
        self.norm = nn.LayerNorm(hidden, eps=norm_eps)
        self.bias = nn.Parameter(torch.zeros(words))
        self._activation = ACT2FN[activation]
        self._table = [embeddings]  # in a list, so that it counts as the encoder's alone

    def forward(self, states: Tensor) -> Tensor:
        """(n, dim) to (n, vocabulary); fewer than `hidden` values go through the first columns of the dense map."""
        mapped = functional.linear(states, self.dense.weight[:, : states.shape[-1]], self.dense.bias)
        return functional.linear(self.norm(self._activation(mapped)), self._table[0].weight, self.bias)


def load_masked_words(encoder: Encoder) -> tuple[MaskedWords, bool]:
    """The head of an encoder, and whether one was saved with it; else it is new, but for the embeddings it shares.

    Raises:
        EncoderError: what was saved can't be read.
    """
    names, config = encoder.family.head, encoder.backbone.config
    activation = getattr(config, names.activation_key) if names.activation_key else "gelu"
    head = MaskedWords(encoder.word_embeddings, activation, norm_eps=_norm_eps(encoder))
    place = locate(encoder.name)
    try:
        state = _saved_by_us(Path(place)) or _saved_by_transformers(place, encoder)
        if state is None:
            nn.init.normal_(head.dense.weight, std=getattr(config, "initializer_range", 0.02))
            nn.init.zeros_(head.dense.bias)
            return head, False
        head.load_state_dict(state)
    except (OSError, ValueError, RuntimeError, SafetensorError) as error:
        raise EncoderError(f"the masked-language head of {encoder.name} can't be loaded ({error})") from error
    return head, True


def save_masked_words(head: MaskedWords, folder: Path) -> None:
    """Write the head beside its encoder."""
    safetensors.torch.save_file(
        {name: value.detach().cpu().contiguous() for name, value in head.state_dict().items()}, folder / HEAD_NAME
    )


def _norm_eps(encoder: Encoder) -> float:
    norm = next(module for module in encoder.backbone.modules() if isinstance(module, nn.LayerNorm))
    return norm.eps


def _saved_by_us(folder: Path) -> dict[str, Tensor] | None:
    return safetensors.torch.load_file(folder / HEAD_NAME) if (folder / HEAD_NAME).is_file() else None


def _saved_by_transformers(place: str, encoder: Encoder) -> dict[str, Tensor] | None:
    """The head's weights from a model with one; None if transformers had to make them new."""
    names = encoder.family.head
    with quiet():
        model, report = transformers.AutoModelForMaskedLM.from_pretrained(
            place, output_loading_info=True, dtype=torch.float32
        )
    if any(name.startswith(names.dense) for name in report["missing_keys"]):
        return None
    whole = model.state_dict()
    norm, dense = model.get_submodule(names.norm), model.get_submodule(names.dense)
    zeros = torch.zeros(len(whole[f"{names.dense}.weight"]))
    return {
        "dense.weight": dense.weight,
        "dense.bias": zeros if dense.bias is None else dense.bias,
        "norm.weight": norm.weight,
        "norm.bias": zeros if norm.bias is None else norm.bias,
        "bias": whole[names.bias] if names.bias in whole else torch.zeros(encoder.word_embeddings.num_embeddings),
    }
