"""An encoder that hands out every hidden state, and pools them."""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

import torch
import transformers
from safetensors import SafetensorError
from torch import Tensor, nn
from transformers.utils import cached_file

from edge_embed.model.families import Family, family_of
from edge_embed.model.quiet import quiet
from edge_embed.model.source import locate
from edge_embed_runtimes.errors import EncoderError
from edge_embed_runtimes.tokenizer import Tokenizer

Pooling = Literal["mean", "cls"]
POOLINGS: tuple[Pooling, ...] = get_args(Pooling)
_DEFAULT_MAX_TOKENS = 256


@dataclass(frozen=True, slots=True)
class TextSettings:
    """How texts become one vector: pooling of the last tokens, and the longest text in tokens."""

    pooling: Pooling = "mean"
    max_tokens: int = _DEFAULT_MAX_TOKENS

    def __post_init__(self) -> None:
        if self.pooling not in POOLINGS:
            raise EncoderError(f"pooling {self.pooling!r} is unknown: allowed are {', '.join(POOLINGS)}")
        if self.max_tokens < 3:
            raise EncoderError(f"max_tokens is {self.max_tokens}: it must leave room for two special tokens and a word")


class Encoder(nn.Module):
    """A transformers encoder whose forward pass returns every hidden state.

    Args:
        backbone: the transformers model.
        hub_tokenizer: its fast tokenizer.
        settings: pooling and length.
        name: what the user called it.

    Raises:
        EncoderError: a model type that is not supported.
    """

    def __init__(
        self,
        backbone: transformers.PreTrainedModel,
        hub_tokenizer: transformers.PreTrainedTokenizerFast,
        settings: TextSettings,
        name: str,
    ) -> None:
        super().__init__()
        self.family = family_of(backbone.config.model_type)
        self.backbone = backbone
        self.hub_tokenizer = hub_tokenizer
        self.settings = settings
        self.name = name

    @property
    def layers(self) -> int:
        """Number of layers."""
        return int(self.backbone.config.num_hidden_layers)

    @property
    def hidden(self) -> int:
        """Width of a hidden state."""
        return int(self.backbone.config.hidden_size)

    @property
    def word_embeddings(self) -> nn.Embedding:
        """The (vocabulary, hidden) table that token ids are looked up in."""
        table: nn.Embedding = self.backbone.get_input_embeddings()
        return table

    def forward(self, input_ids: Tensor, attention_mask: Tensor, words: Tensor | None = None) -> tuple[Tensor, ...]:
        """Every hidden state: embeddings first, then one a layer.

        State `l` is the last hidden state of the encoder cut to its first `l` layers: a norm that the backbone keeps
        for its last state is applied to all.

        Args:
            input_ids: (batch, tokens) int64, padded at the right.
            attention_mask: (batch, tokens) int64 of 1 and 0, or an additive (batch, 1, 1, tokens) float mask.
            words: (batch, tokens, hidden) of `word_embeddings` for these ids, where they are at hand.

        Returns:
            `layers + 1` tensors (batch, tokens, hidden).
        """
        return self.normed(self.states(input_ids, attention_mask, words))

    def states(self, input_ids: Tensor, attention_mask: Tensor, words: Tensor | None = None) -> tuple[Tensor, ...]:
        """The same, each as the next layer reads it."""
        types = {"token_type_ids": torch.zeros_like(input_ids)} if self.family.token_types else {}
        additive = attention_mask.ndim == 4
        mask = self._masks(attention_mask) if additive and self.family.local_attention else attention_mask
        text = {"input_ids": input_ids} if words is None else {"inputs_embeds": words}
        output = self.backbone(**text, attention_mask=mask, output_hidden_states=True, return_dict=True, **types)
        return (*output.hidden_states[:-1], output.last_hidden_state)

    def normed(self, states: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """Of every state as the next layer reads it, but the last, what the backbone's last norm makes of it."""
        if self.family.final_norm is None:
            return tuple(states)
        norm = self.backbone.get_submodule(self.family.final_norm)
        return (*(norm(state) for state in states[:-1]), states[-1])

    def _masks(self, additive: Tensor) -> Mapping[str, Tensor]:
        """The mask of each kind of layer, by the config's word for it; transformers makes none from an additive one."""
        places = torch.arange(additive.shape[-1], device=additive.device)
        far = (places[:, None] - places).abs() > self.backbone.config.sliding_window
        hidden = torch.where(far, torch.finfo(additive.dtype).min, 0.0)
        return {"full_attention": additive, "sliding_attention": torch.minimum(additive, hidden)}

    def pool(self, hidden_state: Tensor, attention_mask: Tensor) -> Tensor:
        """One vector a text: (batch, tokens, hidden) and (batch, tokens) to (batch, hidden)."""
        match self.settings.pooling:
            case "cls":
                return hidden_state[:, 0]
            case "mean":
                mask = attention_mask.unsqueeze(-1).to(hidden_state.dtype)
                return (hidden_state * mask).sum(1) / mask.sum(1)

    def cut(self, layers: int) -> None:
        """Drop every layer above the first `layers`."""
        where, config = self.family.layers, self.backbone.config
        kept = nn.ModuleList(list(self.backbone.get_submodule(where))[:layers])
        self.backbone.set_submodule(where, kept)
        config.num_hidden_layers = layers
        if hasattr(config, "layer_types"):  # ModernBERT's local and global attention; as many as there are layers
            config.layer_types = config.layer_types[:layers]

    @property
    def tokenizer_json(self) -> str:
        """Content of the `tokenizer.json`."""
        return str(self.hub_tokenizer.backend_tokenizer.to_str())

    def tokenizer(self, max_tokens: int | None = None) -> Tokenizer:
        """The tokenizer, cut at the encoder's own limit, or at `max_tokens` if that is less."""
        limit = min(max_tokens or self.settings.max_tokens, self.settings.max_tokens)
        return Tokenizer(self.tokenizer_json, max_tokens=limit, origin=self.name)


def load_encoder(name: str, *, attention: Literal["sdpa", "eager"] = "sdpa") -> Encoder:
    """Load an encoder.

    Args:
        name: a folder, a packaged encoder or a hub id; see `edge_embed.model.source.locate`.
        attention: `"eager"` for export, whose graph it makes simpler; `"sdpa"` is faster to train (MPNet has the
            eager one alone).

    Raises:
        EncoderError: it can't be found, read, or is of a model type that is not supported.
    """
    place = locate(name)
    try:
        with quiet():
            config = transformers.AutoConfig.from_pretrained(place)
            family = family_of(config.model_type)
            backbone = _load_backbone(place, config, family, attention)
            tokenizer = transformers.AutoTokenizer.from_pretrained(
                place, use_fast=True, padding_side="right", truncation_side="right"
            )
            _check_tokenizer(tokenizer, config.vocab_size)
            settings = _read_settings(place, config.max_position_embeddings - family.spare_positions)
    except (OSError, ValueError, SafetensorError) as error:
        way_out = "check the folder" if Path(place).is_dir() else "no hub answered with it: name a folder instead"
        raise EncoderError(f"{name} can't be loaded ({str(error).splitlines()[0]}): {way_out}") from error
    return Encoder(backbone, tokenizer, settings, name)


def _load_backbone(
    place: str, config: transformers.PretrainedConfig, family: Family, attention: str
) -> transformers.PreTrainedModel:
    backbone, report = family.model.from_pretrained(
        place,
        config=config,
        attn_implementation=attention if family.sdpa else "eager",
        dtype=torch.float32,
        output_loading_info=True,
    )
    _check_complete(report["missing_keys"])
    return backbone


def _check_complete(missing: Iterable[str]) -> None:
    """Refuse weights that lack some; transformers would go on with random ones. The pooler takes no part here."""
    lacking = sorted(name for name in missing if not name.startswith("pooler."))
    if lacking:
        raise ValueError(f"its weights lack {lacking[0]} and {len(lacking) - 1} others")


def _check_tokenizer(tokenizer: transformers.PreTrainedTokenizerFast, vocabulary: int) -> None:
    """Refuse the empty tokenizer that transformers makes where a folder has none."""
    if len(tokenizer) < vocabulary / 2:
        raise ValueError(f"its tokenizer has {len(tokenizer)} entries, the encoder {vocabulary}")


def _read_settings(place: str, positions: int) -> TextSettings:
    """Pooling and length as a sentence-transformers folder states them; mean pooling where it is none."""
    pooling = _read_json(place, "1_Pooling/config.json")
    stated = (
        _read_json(place, "sentence_bert_config.json").get("max_seq_length")
        or _read_json(place, "tokenizer_config.json").get("model_max_length")
        or _DEFAULT_MAX_TOKENS
    )
    return TextSettings(
        pooling=_read_pooling(pooling),  # type: ignore[arg-type]  # checked by TextSettings
        max_tokens=min(int(str(stated)), positions),
    )


def _read_pooling(config: Mapping[str, object]) -> str:
    """The pooling that a sentence-transformers folder states, in its present form or its older one."""
    if "pooling_mode" in config:
        return str(config["pooling_mode"])
    prefix, renamed = "pooling_mode_", {"cls_token": "cls", "mean_tokens": "mean"}
    stated = [key.removeprefix(prefix) for key, value in config.items() if key.startswith(prefix) and value is True]
    return "+".join(renamed.get(mode, mode) for mode in stated) or "mean"


def _read_json(place: str, name: str) -> dict[str, object]:
    path = cached_file(place, name, _raise_exceptions_for_missing_entries=False)
    return dict(json.loads(Path(path).read_text(encoding="utf-8"))) if path else {}
