"""The start of a training: data on disk, the teacher's vectors, heads fitted by least squares."""

from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional

from edge_embed.data.records import BadRows
from edge_embed.model.checkpoint import Origin, load_checkpoint
from edge_embed.model.encoder import Encoder, load_encoder
from edge_embed.model.tiered import TieredEncoder, encode_tiers, pooled_states
from edge_embed.train.fit import fit_heads, kept_directions, leading_directions
from edge_embed.train.gather import join_processes, main_process_first
from edge_embed.train.hardware import device, fastest_attention, use_bf16
from edge_embed.train.recipe import SELF, LoopSettings, Recipe
from edge_embed.train.store import RowStore
from edge_embed.train.teacher import Teachers, teach
from edge_embed_runtimes.errors import RecipeError
from edge_embed_runtimes.progress import Progress, silent
from edge_embed_runtimes.tokenizer import cutting_quietly

_FIT_TEXTS = 10_000
_LIBRARIES = ("edge-embed", "torch", "transformers")


@dataclass(frozen=True, slots=True)
class Training:
    """A model whose heads are fitted, and all that a training of it needs.

    Attributes:
        teacher: the teachers' vectors of every text; None without one.
        basis: (width, dims) directions of these vectors that the tiers' values follow, leading ones first.
    """

    recipe: Recipe
    model: TieredEncoder
    store: RowStore
    teacher: Teachers | None
    basis: Tensor

    @property
    def origin(self) -> Origin:
        """What a checkpoint should say of this training."""
        return origin_of(self.recipe, self.store)


def prepare(recipe: Recipe, *, cache: Path | None = None, progress: Progress = silent) -> Training:
    """Load the encoder and the data, ask the teacher, and fit the heads.

    Args:
        cache: folder of teachers' vectors; None for the user's own.

    Raises:
        EncoderError: an encoder can't be found, trusted or used.
        LadderError: the ladder is larger than the encoder.
        DataError: a data file is missing or has a wrong row.
        OutputError: no room for the data or the teacher's vectors.
    """
    join_processes()
    store = RowStore(recipe.data, bad=BadRows(skip=recipe.skip_bad_rows), progress=progress)
    encoder = load_encoder(recipe.base, attention=fastest_attention()).to(device())
    recipe.ladder.check_fits(encoder.layers, encoder.hidden)
    teacher = _ask_teachers(recipe, encoder, store, cache, progress) if recipe.taught else None
    if recipe.start:
        model, basis = _go_on(recipe, Path(recipe.start), store, teacher)
    elif recipe.head == "truncate" and not recipe.other_teacher:
        model, basis = TieredEncoder(encoder, recipe.ladder, recipe.head), torch.eye(encoder.hidden)
    else:
        sample = store.sample_texts(_FIT_TEXTS, recipe.seed)
        targets = torch.from_numpy(teacher.get(sample)) if teacher and recipe.other_teacher else None
        model, basis = _fit(recipe, encoder, sample, targets, progress)
    return Training(recipe, model, store, teacher, basis)


def _ask_teachers(
    recipe: Recipe, encoder: Encoder, store: RowStore, cache: Path | None, progress: Progress
) -> Teachers:
    length, bf16, caches = recipe.max_tokens, use_bf16(recipe), []
    for name in recipe.teacher:
        asked = encoder if name == SELF else load_encoder(name, attention=fastest_attention()).to(device())
        with main_process_first():
            caches.append(teach(asked, store, max_tokens=length, bf16=bf16, folder=cache, progress=progress))
    return Teachers(caches)


def _go_on(recipe: Recipe, start: Path, store: RowStore, teacher: Teachers | None) -> tuple[TieredEncoder, Tensor]:
    """The ladder of a checkpoint, and the teacher's directions along which its vectors lie."""
    model = load_checkpoint(start, attention=fastest_attention())[0].to(device())
    if (model.ladder, model.head) != (recipe.ladder, recipe.head):
        raise RecipeError(
            f"{start} is a ladder of {','.join(map(str, model.ladder))} with head {model.head}: a training that starts "
            f"from it needs the same, not {','.join(map(str, recipe.ladder))} with head {recipe.head}"
        )
    if teacher is None:
        return model, torch.eye(model.encoder.hidden)
    sample = store.sample_texts(_FIT_TEXTS, recipe.seed)
    with cutting_quietly():
        vectors = encode_tiers(model, sample)[model.ladder.top.name]
    return model, kept_directions(torch.from_numpy(teacher.get(sample)), torch.from_numpy(vectors))


def _fit(
    recipe: Recipe, encoder: Encoder, sample: list[str], targets: Tensor | None, progress: Progress
) -> tuple[TieredEncoder, Tensor]:
    """The model, its heads fitted to another teacher's (n, width) vectors or to its own; and the leading directions."""
    full = encoder.layers
    layers = {tier.layers for tier in recipe.ladder} | {full}
    with cutting_quietly():
        pooled = pooled_states(
            encoder, sample, layers=layers, max_tokens=recipe.max_tokens, progress=progress, stage="fit heads"
        )
    states = {layer: torch.from_numpy(state) for layer, state in pooled.items()}
    vectors = functional.normalize(states[full], dim=-1) if targets is None else targets
    basis = leading_directions(vectors)
    model = TieredEncoder(encoder, recipe.ladder, recipe.head)
    if model.heads:
        fit_heads(model, states, vectors, basis, full=full if targets is None else None)
    return model, basis


def origin_of(recipe: LoopSettings, store: RowStore) -> Origin:
    """What a checkpoint should say of its training."""
    return Origin(
        base_model=recipe.base_name,
        recipe=recipe.describe(),
        data=store.hashes(),
        versions={library: version(library) for library in _LIBRARIES},
    )
