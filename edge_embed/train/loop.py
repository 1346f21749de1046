"""Train a ladder: fit the heads, then the whole encoder, in transformers' Trainer."""

import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any

import numpy as np
import torch
import transformers
from torch import Tensor, nn
from torch.nn import functional

from edge_embed.model.checkpoint import Origin
from edge_embed.model.encoder import Encoder, load_encoder
from edge_embed.model.tiered import TieredEncoder, pooled_states
from edge_embed.train.data import Batch, Collator, Corpus, RowDataset, read_corpus
from edge_embed.train.fit import fit_heads, leading_directions
from edge_embed.train.losses import self_distillation, srl
from edge_embed.train.recipe import Recipe
from edge_embed_runtimes.errors import RecipeError
from edge_embed_runtimes.progress import Progress, silent

_FIT_TEXTS = 20_000
_LIBRARIES = ("edge-embed", "torch", "transformers")


@dataclass(frozen=True, slots=True)
class Training:
    """A model whose heads are fitted, and all that a training of it needs.

    Attributes:
        teacher: (texts, hidden) unit vectors of the full base encoder.
        basis: (hidden, hidden) directions that the tiers share.
    """

    recipe: Recipe
    model: TieredEncoder
    corpus: Corpus
    teacher: Tensor
    basis: Tensor

    @property
    def origin(self) -> Origin:
        """What a checkpoint should say of this training."""
        return Origin(
            base_model=self.recipe.base_name,
            recipe=self.recipe.describe(),
            data=self.corpus.hashes,
            versions={library: version(library) for library in _LIBRARIES},
        )


def prepare(recipe: Recipe, *, progress: Progress = silent) -> Training:
    """Load the encoder and the data, and fit the heads.

    Raises:
        EncoderError: the encoder can't be found, trusted or used.
        LadderError: the ladder is larger than the encoder.
        DataError: a data file is missing or has a wrong row.
    """
    corpus = read_corpus(recipe.texts, recipe.pairs)
    encoder = load_encoder(recipe.base)
    recipe.ladder.check_fits(encoder.layers, encoder.hidden)
    full = encoder.layers
    sample = _sample(len(corpus.texts), _FIT_TEXTS, recipe.seed)
    teacher = _teacher_vectors(encoder, corpus.texts, progress)
    layers = tuple(tier.layers for tier in recipe.ladder)
    pooled = pooled_states(
        encoder, [corpus.texts[i] for i in sample], layers=layers, progress=progress, stage="fit heads"
    )
    model = TieredEncoder(encoder, recipe.ladder, recipe.head)
    if recipe.head == "project":
        basis = leading_directions(teacher)
        states = {layer: torch.from_numpy(state) for layer, state in pooled.items()}
        fit_heads(model, states, teacher[sample], basis, full=full)
    else:
        basis = torch.eye(encoder.hidden)
    return Training(recipe, model, corpus, teacher, basis)


def run(training: Training, *, progress: Progress = silent) -> TieredEncoder:
    """Train the prepared model in place, and return it.

    Raises:
        RecipeError: the loss is no number any more.
    """
    recipe, model = training.recipe, training.model
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.p = recipe.dropout
    length = min(recipe.max_tokens, model.encoder.settings.max_tokens)
    tokenizer = model.encoder.tokenizer(length)
    dataset = RowDataset(training.corpus, tokenizer)
    with tempfile.TemporaryDirectory() as scratch:
        trainer = _Trainer(
            training=training,
            model=model,
            args=_arguments(recipe, scratch, rows=len(dataset)),
            train_dataset=dataset,
            data_collator=Collator(dataset.ids, tokenizer.pad_id),
            callbacks=[_Steps(progress)],
        )
        trainer.remove_callback(transformers.trainer_callback.PrinterCallback)
        trainer.train()
    return model.cpu().eval()


def batch_loss(training: Training, model: Callable[[Tensor, Tensor], dict[str, Tensor]], batch: Batch) -> Tensor:
    """The loss of one batch: self-distillation on its texts, and SRL on its pairs if it holds two or more."""
    recipe, weights = training.recipe, training.recipe.weights
    vectors = model(batch["input_ids"], batch["attention_mask"])
    device = batch["texts"].device
    loss = self_distillation(
        vectors,
        training.teacher[batch["texts"].cpu()].to(device),
        training.basis.to(device),
        temperature=recipe.temperature,
        kl=weights.kl,
        align=weights.align,
    )
    pairs = batch["pairs"]
    if len(pairs) > 1:
        first = {tier: vector[pairs[:, 0]] for tier, vector in vectors.items()}
        second = {tier: vector[pairs[:, 1]] for tier, vector in vectors.items()}
        full = recipe.ladder.top.name
        loss = loss + srl(first, second, full, temperature=recipe.temperature, task=weights.task, kl=weights.kl)
    if not torch.isfinite(loss):
        raise RecipeError(
            f"the loss is {loss.item()} with learning_rate {recipe.learning_rate:g}: choose a smaller one, and check "
            f"the base encoder's weights"
        )
    return loss


class _Trainer(transformers.Trainer):
    """The Trainer, with our loss."""

    def __init__(self, *, training: Training, **settings: Any) -> None:
        super().__init__(**settings)
        self._training = training

    def compute_loss(
        self, model: nn.Module, inputs: Batch, return_outputs: bool = False, num_items_in_batch: Tensor | None = None
    ) -> Tensor:
        return batch_loss(self._training, model, inputs)


class _Steps(transformers.TrainerCallback):
    """Tells our progress of the Trainer's steps."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress

    def on_step_end(
        self, args: object, state: transformers.TrainerState, control: transformers.TrainerControl, **_: object
    ) -> None:
        self._progress("train", state.global_step, state.max_steps)


def _arguments(recipe: Recipe, scratch: str, *, rows: int) -> transformers.TrainingArguments:
    steps = max(1, round(recipe.epochs * -(-rows // recipe.batch_size)))
    return transformers.TrainingArguments(
        output_dir=scratch,
        per_device_train_batch_size=recipe.batch_size,
        max_steps=steps,
        learning_rate=recipe.learning_rate,
        warmup_steps=round(recipe.warmup * steps),
        lr_scheduler_type="cosine",
        seed=recipe.seed,
        data_seed=recipe.seed,
        train_sampling_strategy="group_by_length",
        remove_unused_columns=False,
        dataloader_pin_memory=torch.cuda.is_available(),
        use_cpu=not torch.cuda.is_available(),
        save_strategy="no",
        logging_strategy="no",
        disable_tqdm=True,
        report_to="none",
    )


def _teacher_vectors(encoder: Encoder, texts: tuple[str, ...], progress: Progress) -> Tensor:
    pooled = pooled_states(encoder, texts, layers=(encoder.layers,), progress=progress, stage="full model")
    return functional.normalize(torch.from_numpy(pooled[encoder.layers]), dim=-1)


def _sample(count: int, limit: int, seed: int) -> list[int]:
    chosen = np.random.default_rng(seed).choice(count, size=min(count, limit), replace=False)
    return [int(place) for place in np.sort(chosen)]
