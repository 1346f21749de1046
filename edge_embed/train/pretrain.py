"""Pre-train an encoder, so that its lower layers and first dimensions hold more before a ladder is trained in it."""

import warnings
from dataclasses import dataclass
from pathlib import Path

import torch

from edge_embed.data.records import BadRows
from edge_embed.model.checkpoint import Origin, save_encoder
from edge_embed.model.encoder import Encoder, load_encoder
from edge_embed.model.masked import MaskedWords, load_masked_words, save_masked_words
from edge_embed.train.hardware import device, fastest_attention, use_bf16
from edge_embed.train.loop import Job, run_loop
from edge_embed.train.monitor import Monitor
from edge_embed.train.prepare import origin_of
from edge_embed.train.recipe import LoopSettings
from edge_embed.train.smae import MaskedAutoencoder, MaskingCollator
from edge_embed.train.store import RowStore
from edge_embed_runtimes.files import writing_folder
from edge_embed_runtimes.progress import Progress, silent


class NewHead(UserWarning):
    """The head that guesses words is new, but for the word embeddings it shares."""


@dataclass(frozen=True, slots=True)
class Pretraining:
    """An encoder with its masked-language head, and the texts."""

    settings: LoopSettings
    encoder: Encoder
    head: MaskedWords
    store: RowStore

    @property
    def origin(self) -> Origin:
        """What the encoder should say of this training."""
        return origin_of(self.settings, self.store)


def prepare_pretraining(settings: LoopSettings, *, progress: Progress = silent) -> Pretraining:
    """Load the encoder, its head and the texts.

    Raises:
        EncoderError: the encoder can't be found, trusted or used.
        LadderError: the ladder is larger than the encoder.
        DataError: a data file is missing or has a wrong row.

    Warns:
        NewHead: no head was saved with the encoder.
    """
    store = RowStore(settings.data, bad=BadRows(skip=settings.skip_bad_rows), progress=progress)
    encoder = load_encoder(settings.base, attention=fastest_attention())
    settings.ladder.check_fits(encoder.layers, encoder.hidden)
    torch.manual_seed(settings.seed)  # of a new head
    head, found = load_masked_words(encoder)
    if not found:
        told = f"{encoder.name} has no saved masked-language head: a new one is tied to its word embeddings"
        warnings.warn(told, NewHead, stacklevel=2)
    return Pretraining(settings, encoder.to(device()), head.to(device()), store)


def run_pretraining(training: Pretraining, *, work: Path | None = None, monitor: Monitor | None = None) -> Encoder:
    """Pre-train the encoder in place, and return it.

    Args:
        work: folder of the states from which a killed training goes on; None: nothing is saved.

    Raises:
        EncoderError: the encoder's tokenizer has no mask token.
        RecipeError: the loss, or a gradient, is no number any more.
    """
    settings, encoder = training.settings, training.encoder
    length = min(settings.max_tokens, encoder.settings.max_tokens)
    torch.manual_seed(settings.seed)  # of the decoder
    job = Job(
        objective=MaskedAutoencoder(
            encoder, training.head, settings.ladder, max_tokens=length, bf16=use_bf16(settings)
        ),
        settings=settings,
        store=training.store,
        collate=MaskingCollator(encoder, max_tokens=length, seed=settings.seed),
    )
    run_loop(job, work=work, monitor=monitor)
    return encoder


def save_pretrained(training: Pretraining, folder: Path, *, replace: bool = False) -> None:
    """Write the encoder, which `edge-embed train` and sentence-transformers load, and its head beside it.

    Raises:
        OutputError: something stands at `folder` and `replace` is off, it can't be written, or the disk is full.
    """
    with writing_folder(folder, replace=replace) as temporary:
        save_encoder(training.encoder, temporary, training.origin)
        save_masked_words(training.head, temporary)
