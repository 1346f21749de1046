"""Save and load a tiered encoder: a sentence-transformers folder, plus the ladder and its heads."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

import safetensors.torch
import torch
from safetensors import SafetensorError

from edge_embed.model.encoder import Encoder, load_encoder
from edge_embed.model.quiet import quiet
from edge_embed.model.tiered import TieredEncoder
from edge_embed_runtimes.errors import CheckpointError, EdgeEmbedError, EncoderUnsupported
from edge_embed_runtimes.files import writing_folder
from edge_embed_runtimes.manifest import MANIFEST_NAME
from edge_embed_runtimes.tiers import Ladder, Tier

FORMAT = 1
LADDER_NAME = "starbucks.json"
PRETRAINING_NAME = "pretraining.json"
HEADS_NAME = "heads.safetensors"
Json = str | int | float | bool | None | list["Json"] | dict[str, "Json"]


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a checkpoint comes from, for its reader.

    Attributes:
        base_model: the encoder that was trained.
        recipe: the resolved settings of the training.
        data: file name to sha256 of what it was trained on.
        versions: library name to version.
    """

    base_model: str
    recipe: Mapping[str, Json] = field(default_factory=dict)
    data: Mapping[str, str] = field(default_factory=dict)
    versions: Mapping[str, str] = field(default_factory=dict)


def save_checkpoint(model: TieredEncoder, folder: Path, origin: Origin, *, replace: bool = False) -> None:
    """Write a checkpoint; sentence-transformers loads its largest tier from it.

    Raises:
        OutputError: something stands at `folder` and `replace` is off, it can't be written, or the disk is full.
    """
    with writing_folder(folder, replace=replace) as temporary:
        _write_encoder(model.encoder, temporary, matrix=_top_matrix(model))
        safetensors.torch.save_file(model.head_weights(), temporary / HEADS_NAME)
        _write_json(
            temporary / LADDER_NAME,
            {
                "format": FORMAT,
                "ladder": [asdict(tier) for tier in model.ladder],
                "head": model.head,
                "space": space_of(model),
                "origin": asdict(origin),
            },
        )


def save_encoder(encoder: Encoder, folder: Path, origin: Origin) -> None:
    """Write an encoder without a ladder into a folder that is there; sentence-transformers loads it."""
    _write_encoder(encoder, folder, matrix=None)
    _write_json(folder / PRETRAINING_NAME, {"format": FORMAT, "origin": asdict(origin)})


def load_checkpoint(folder: Path, *, attention: Literal["sdpa", "eager"] = "sdpa") -> tuple[TieredEncoder, Origin]:
    """Read what `save_checkpoint` wrote.

    Raises:
        CheckpointError: no folder there, no ladder in it, a later format, or files that don't belong together.
        EncoderUnsupported: its encoder is of a family that is not described here.
    """
    description = describe_checkpoint(folder)
    try:
        ladder = Ladder(tuple(Tier(**tier) for tier in description["ladder"]))
        encoder = load_encoder(str(folder), attention=attention)
        origin = Origin(**description["origin"])
        encoder.name = origin.base_model
        model = TieredEncoder(encoder, ladder, description["head"])
        model.set_head_weights(safetensors.torch.load_file(folder / HEADS_NAME))
        if space_of(model) != description["space"]:
            raise CheckpointError(f"{folder} holds weights of another training than its ladder: copy or train it again")
    except (CheckpointError, EncoderUnsupported):
        raise
    except (EdgeEmbedError, OSError, KeyError, TypeError, RuntimeError, SafetensorError) as error:
        raise CheckpointError(
            f"{folder} is damaged ({type(error).__name__}: {error}): copy or train it again"
        ) from error
    model.eval()
    return model, origin


def space_of(model: TieredEncoder) -> str:
    """The id of the vector space that a model makes: a hash of its weights and its ladder."""
    digest = hashlib.sha256(repr((model.head, model.ladder, model.encoder.settings)).encode())
    for name, tensor in sorted(model.state_dict().items()):
        if ".pooler." in name:  # takes no part in the vectors, and may be newly made at each load
            continue
        digest.update(name.encode())
        digest.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()[:16]


def is_checkpoint(folder: Path) -> bool:
    """Whether a folder looks like a checkpoint."""
    return (folder / LADDER_NAME).is_file()


def describe_checkpoint(folder: Path) -> dict[str, Any]:
    """What a checkpoint says of itself, without its weights.

    Raises:
        CheckpointError: no checkpoint there, an unreadable one, or a later format.
    """
    path = folder / LADDER_NAME
    if not path.is_file():
        if (folder / "config.json").exists():
            raise CheckpointError(f"{folder} is an encoder without a ladder: run 'edge-embed train' on it first")
        if (folder / MANIFEST_NAME).exists():
            raise CheckpointError(f"{folder} is a bundle: run 'edge-embed restore' on it first")
        raise CheckpointError(f"no checkpoint at {folder}: name the folder that 'edge-embed train' wrote")
    try:
        description = dict(json.loads(path.read_text(encoding="utf-8")))
    except (ValueError, OSError, TypeError) as error:
        raise CheckpointError(f"{path} can't be read ({error}): copy or train it again") from error
    if description.get("format") != FORMAT:
        found = description.get("format")
        raise CheckpointError(f"{folder} has format {found!r}, this version reads {FORMAT}: upgrade edge-embed")
    return description


def _write_encoder(encoder: Encoder, folder: Path, *, matrix: torch.Tensor | None) -> None:
    """Encoder, tokenizer, and how sentence-transformers goes on: pooling, a (dim, hidden) matrix, unit length."""
    with quiet():
        encoder.backbone.save_pretrained(folder)
        encoder.hub_tokenizer.save_pretrained(folder)
    modules = ["Transformer", "Pooling", "Normalize"]
    if matrix is not None:
        modules.insert(2, "Dense")
        (folder / "2_Dense").mkdir()
        safetensors.torch.save_file({"linear.weight": matrix}, folder / "2_Dense" / "model.safetensors")
        _write_json(
            folder / "2_Dense" / "config.json",
            {
                "in_features": encoder.hidden,
                "out_features": len(matrix),
                "bias": False,
                "activation_function": "torch.nn.modules.linear.Identity",
            },
        )
    entries: list[Json] = [
        {
            "idx": index,
            "name": str(index),
            "path": "" if index == 0 else f"{index}_{name}",
            "type": f"sentence_transformers.models.{name}",
        }
        for index, name in enumerate(modules)
    ]
    _write_json(folder / "modules.json", entries)
    (folder / "1_Pooling").mkdir()
    _write_json(
        folder / "1_Pooling" / "config.json",
        {
            "word_embedding_dimension": encoder.hidden,
            "pooling_mode_cls_token": encoder.settings.pooling == "cls",
            "pooling_mode_mean_tokens": encoder.settings.pooling == "mean",
            "pooling_mode_max_tokens": False,
            "pooling_mode_mean_sqrt_len_tokens": False,
        },
    )
    (folder / f"{len(modules) - 1}_Normalize").mkdir()
    _write_json(
        folder / "sentence_bert_config.json", {"max_seq_length": encoder.settings.max_tokens, "do_lower_case": False}
    )


def _top_matrix(model: TieredEncoder) -> torch.Tensor | None:
    """The (dim, hidden) matrix that makes the largest tier from a pooled state; None where that is all of it."""
    top = model.ladder.top
    if model.heads:
        return model.head_of(top).weight.detach().contiguous()
    if top.dim < model.encoder.hidden:
        return torch.eye(model.encoder.hidden)[: top.dim].contiguous()
    return None


def _write_json(path: Path, content: Json) -> None:
    path.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
