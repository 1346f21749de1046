"""The kinds of encoder that can be tiered, and where transformers keeps the parts of each."""

from dataclasses import dataclass

import transformers

from edge_embed.model.mpnet import MPNetModel
from edge_embed_runtimes.errors import EncoderUnsupported


@dataclass(frozen=True, slots=True)
class MaskedHead:
    """The masked-language head: dense, activation, layer norm, decoder tied to the word embeddings, bias.

    Attributes:
        backbone: the encoder inside transformers' `...ForMaskedLM`, as a dotted name there, like all that follow.
        dense: the linear map (hidden to hidden).
        norm: the layer norm after the activation.
        decoder: the linear map (hidden to vocabulary) whose weight is that of the word embeddings.
        bias: the decoder's bias, as a parameter; some configurations leave it out.
        activation_key: the entry of the config that names the activation; None where it is always `"gelu"`.
    """

    backbone: str
    dense: str
    norm: str
    decoder: str
    bias: str
    activation_key: str | None = None


@dataclass(frozen=True, slots=True)
class Family:
    """What differs from one kind of encoder to the next.

    Attributes:
        layers: dotted name of the list of layers in the backbone.
        head: where its masked-language head keeps its parts.
        token_types: whether the backbone takes `token_type_ids`.
        spare_positions: rows of the position table that no token uses; the longest text is shorter by them.
        final_norm: dotted name of a norm that only the last state has gone through; None where there is none.
        local_attention: whether some layers see near tokens alone; their config has a `sliding_window`.
        sdpa: whether transformers has fused attention for it; without, it always runs the eager one.
        model: what loads the backbone.
    """

    layers: str
    head: MaskedHead
    token_types: bool = False
    spare_positions: int = 0
    final_norm: str | None = None
    local_attention: bool = False
    sdpa: bool = True
    model: type[transformers.PreTrainedModel] = transformers.AutoModel


def _roberta_head(backbone: str) -> MaskedHead:
    return MaskedHead(backbone, "lm_head.dense", "lm_head.layer_norm", "lm_head.decoder", "lm_head.bias")


_BERT_HEAD = MaskedHead(
    backbone="bert",
    dense="cls.predictions.transform.dense",
    norm="cls.predictions.transform.LayerNorm",
    decoder="cls.predictions.decoder",
    bias="cls.predictions.bias",
    activation_key="hidden_act",
)
_DISTILBERT_HEAD = MaskedHead(
    backbone="distilbert",
    dense="vocab_transform",
    norm="vocab_layer_norm",
    decoder="vocab_projector",
    bias="vocab_projector.bias",
    activation_key="activation",
)
_MODERNBERT_HEAD = MaskedHead(
    backbone="model",
    dense="head.dense",
    norm="head.norm",
    decoder="decoder",
    bias="decoder.bias",
    activation_key="classifier_activation",
)
FAMILIES = {
    "bert": Family("encoder.layer", _BERT_HEAD, token_types=True),
    "roberta": Family("encoder.layer", _roberta_head("roberta"), token_types=True, spare_positions=2),
    "xlm-roberta": Family("encoder.layer", _roberta_head("roberta"), token_types=True, spare_positions=2),
    "distilbert": Family("transformer.layer", _DISTILBERT_HEAD),
    "mpnet": Family("encoder.layer", _roberta_head("mpnet"), spare_positions=2, sdpa=False, model=MPNetModel),
    "modernbert": Family("layers", _MODERNBERT_HEAD, final_norm="final_norm", local_attention=True),
}
"""By the `model_type` of the config. MiniLM is a BERT."""


def family_of(model_type: str) -> Family:
    """The family of a model type.

    Raises:
        EncoderUnsupported: encoders of this type can't be tiered.
    """
    if model_type not in FAMILIES:
        raise EncoderUnsupported(
            f"encoders of type {model_type!r} are not supported: allowed are {', '.join(FAMILIES)}; to add one, "
            f"describe it in edge_embed.model.families.FAMILIES and register a class in edge_embed_export.architectures"
        )
    return FAMILIES[model_type]
