"""Starbucks masked autoencoding: guess masked words at every tier, and rebuild the text from its pooled state.

Zhuang et al. 2024, arXiv 2410.13230, section 3.2, after RetroMAE (Xiao et al. 2022, arXiv 2205.12035).
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import tokenizers
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from edge_embed.model.encoder import Encoder
from edge_embed.model.masked import MaskedWords
from edge_embed.train.batches import Key
from edge_embed.train.store import StoredRow
from edge_embed_runtimes.errors import EncoderError
from edge_embed_runtimes.tiers import Ladder
from edge_embed_runtimes.tokenizer import pad

ENCODER_SHARE, DECODER_SHARE = 0.2, 0.4
"""Of a text's tokens, how many the encoder and the decoder have to guess."""
_KEPT, _OTHER = 0.1, 0.1  # of the masked tokens, as in BERT: left as they are, replaced by any word


@dataclass(frozen=True, slots=True)
class MaskedBatch:
    """Texts with words hidden, once for the encoder and once, more of them, for the decoder.

    Attributes:
        input_ids, decoder_ids: (texts, tokens) int64, what the encoder and the decoder see.
        labels: (texts, tokens) int64, the words themselves.
        hidden, decoder_hidden: (texts, tokens) bool, which words are to be guessed.
        attention_mask: (texts, tokens) int64.
        stored: ids of the rows in their store.
    """

    input_ids: Tensor
    decoder_ids: Tensor
    labels: Tensor
    hidden: Tensor
    decoder_hidden: Tensor
    attention_mask: Tensor
    stored: tuple[int, ...]

    def to(self, device: torch.device) -> "MaskedBatch":
        """The same on a device."""
        tensors = {name: getattr(self, name).to(device) for name in self.__slots__ if name != "stored"}
        return replace(self, **tensors)


class MaskingCollator:
    """Hide whole words of texts, others at each pass; every text of a row counts.

    Raises:
        EncoderError: the encoder's tokenizer has no mask token.
    """

    def __init__(self, encoder: Encoder, *, max_tokens: int, seed: int) -> None:
        mask = encoder.hub_tokenizer.mask_token_id
        if mask is None:
            raise EncoderError(f"{encoder.name} has no mask token: pre-training needs one; choose another encoder")
        self._mask = int(mask)
        self._words = encoder.word_embeddings.num_embeddings
        self._pad_id = encoder.tokenizer().pad_id
        self._tokenizer = tokenizers.Tokenizer.from_str(encoder.tokenizer_json)
        self._tokenizer.enable_truncation(max_tokens)
        self._tokenizer.no_padding()
        self._seed = seed

    def __call__(self, drawn: Sequence[tuple[Key, StoredRow]]) -> MaskedBatch:
        """Tokenize and hide."""
        texts: list[str] = []
        seeds: list[tuple[int, ...]] = []
        for key, row in drawn:
            texts += row.texts
            seeds += [(self._seed, 5, *key, place) for place in range(len(row.texts))]
        encodings = self._tokenizer.encode_batch(texts)
        labels = [encoding.ids for encoding in encodings]
        seen: tuple[list[list[int]], list[list[int]]] = ([], [])
        guessed: tuple[list[list[int]], list[list[int]]] = ([], [])
        for encoding, ids, seed in zip(encodings, labels, seeds, strict=True):
            generator = np.random.default_rng(seed)
            for place, share in enumerate((ENCODER_SHARE, DECODER_SHARE)):
                hidden = hide_words(encoding.word_ids, share, generator)
                seen[place].append(self._replace(np.array(ids), hidden, generator).tolist())
                guessed[place].append(hidden.astype(int).tolist())
        padded = pad(labels, pad_id=self._pad_id)
        return MaskedBatch(
            input_ids=self._padded(seen[0], self._pad_id),
            decoder_ids=self._padded(seen[1], self._pad_id),
            labels=torch.from_numpy(padded.input_ids),
            hidden=self._padded(guessed[0], 0).bool(),
            decoder_hidden=self._padded(guessed[1], 0).bool(),
            attention_mask=torch.from_numpy(padded.attention_mask),
            stored=tuple(row for (row, _), _ in drawn),
        )

    def _replace(
        self, ids: NDArray[np.int64], hidden: NDArray[np.bool_], generator: np.random.Generator
    ) -> NDArray[np.int64]:
        fate = generator.random(len(ids))
        words = generator.integers(self._words, size=len(ids))
        changed = np.where(fate < _OTHER, words, self._mask)
        return np.where(hidden & (fate < 1 - _KEPT), changed, ids)

    def _padded(self, rows: Sequence[Sequence[int]], fill: int) -> Tensor:
        return torch.from_numpy(pad(rows, pad_id=fill).input_ids)


def hide_words(words: Sequence[int | None], share: float, generator: np.random.Generator) -> NDArray[np.bool_]:
    """Choose whole words at random until `share` of all tokens in words, at least one, is hidden.

    Args:
        words: for each token the number of its word, None for special tokens.
    """
    numbers = np.array([-1 if word is None else word for word in words])
    hidden = np.zeros(len(numbers), dtype=bool)
    goal = max(1, round(share * (numbers >= 0).sum()))
    for word in generator.permutation(np.unique(numbers[numbers >= 0])):
        if hidden.sum() >= goal:
            break
        hidden |= numbers == word
    return hidden


class TextDecoder(nn.Module):
    """One transformer layer that guesses hidden words of a text from its pooled state and the words left."""

    def __init__(self, encoder: Encoder, *, max_tokens: int) -> None:
        super().__init__()
        config = encoder.backbone.config
        self.positions = nn.Parameter(torch.randn(max_tokens, encoder.hidden) * 0.02)
        self.norm = nn.LayerNorm(encoder.hidden)
        self.layer = nn.TransformerEncoderLayer(
            encoder.hidden,
            config.num_attention_heads,
            4 * encoder.hidden,
            dropout=0.0,
            activation="gelu",
            batch_first=True,
        )

    def forward(self, words: Tensor, pooled: Tensor, attention_mask: Tensor) -> Tensor:
        """Hidden states (texts, tokens, hidden).

        Args:
            words: (texts, tokens, hidden) embeddings of the words that are left.
            pooled: (texts, dim); it stands in the first place, with zeros for the values it lacks.
        """
        first = functional.pad(pooled, (0, words.shape[-1] - pooled.shape[-1]))
        states = torch.cat([first[:, None], words[:, 1:]], dim=1) + self.positions[: words.shape[1]]
        decoded: Tensor = self.layer(self.norm(states), src_key_padding_mask=attention_mask == 0)
        return decoded


class MaskedAutoencoder(nn.Module):
    """The objective of pre-training: the mean over the tiers of half of each of the two losses."""

    def __init__(self, encoder: Encoder, head: MaskedWords, ladder: Ladder, *, max_tokens: int, bf16: bool) -> None:
        super().__init__()
        self.encoder = encoder
        self.head = head
        self.decoder = TextDecoder(encoder, max_tokens=max_tokens)
        self._ladder = ladder
        self._bf16 = bf16
        for layer in list(encoder.backbone.get_submodule(encoder.family.layers))[ladder.top.layers :]:
            layer.requires_grad_(False)  # no loss reads it, and parallel training wants a gradient for all

    def forward(self, batch: MaskedBatch, step: int) -> dict[str, Tensor]:
        """The losses: `loss`, which has a gradient, and that of each tier by its name."""
        with torch.autocast(batch.input_ids.device.type, dtype=torch.bfloat16, enabled=self._bf16):
            states = self.encoder(batch.input_ids, batch.attention_mask)
            words = self.encoder.word_embeddings(batch.decoder_ids)
            losses = {}
            for tier in self._ladder:
                state = states[tier.layers][..., : tier.dim]
                pooled = self.encoder.pool(state, batch.attention_mask)
                decoded = self.decoder(words, pooled, batch.attention_mask)
                guess = self._guess(state, batch.hidden, batch.labels)
                rebuild = self._guess(decoded, batch.decoder_hidden, batch.labels)
                losses[tier.name] = (guess + rebuild) / 2
        shown = {name: loss.detach() for name, loss in losses.items()}
        return {"loss": torch.stack(list(losses.values())).mean(), **shown}

    def _guess(self, states: Tensor, hidden: Tensor, labels: Tensor) -> Tensor:
        scores = self.head(states[hidden]).float()
        total = functional.cross_entropy(scores, labels[hidden], reduction="sum")
        return total / max(1, len(scores))  # a batch may have no word to guess
