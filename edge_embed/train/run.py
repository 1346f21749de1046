"""From a recipe to a checkpoint on disk, resumable: what `edge-embed train` and `edge-embed pretrain` do."""

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from edge_embed.evaluate.sts import read_scored_pairs
from edge_embed.model.checkpoint import save_checkpoint
from edge_embed.train.finetune import fine_tune, score_dev
from edge_embed.train.gather import is_main_process, join_processes, wait_for_all
from edge_embed.train.monitor import Monitor
from edge_embed.train.prepare import prepare
from edge_embed.train.pretrain import prepare_pretraining, run_pretraining, save_pretrained
from edge_embed.train.recipe import LoopSettings, Recipe
from edge_embed.train.resume import work_folder, working
from edge_embed.train.separate import save_separate, train_separately
from edge_embed_runtimes.files import check_target
from edge_embed_runtimes.progress import Progress, silent


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of a training.

    Attributes:
        before, after: tier to Spearman correlation on the dev set, with the heads fitted and after the training; empty
            without a dev set.
        left_out: place to the number of bad rows that were left out.
    """

    before: Mapping[str, float] = field(default_factory=dict)
    after: Mapping[str, float] = field(default_factory=dict)
    left_out: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Target:
    """Where a training's result goes.

    Attributes:
        resume: go on with a training of this output that was broken off.
        replace: overwrite what stands at the output, and forget a training that was broken off.
    """

    output: Path
    resume: bool = False
    replace: bool = False


def train_checkpoint(
    recipe: Recipe, target: Target, *, monitor: Monitor | None = None, progress: Progress = silent
) -> Outcome:
    """Train a ladder and write its checkpoint; of the method `separate`, a folder of checkpoints.

    States are kept beside the output, in `OUTPUT.work`, until it is written.

    Raises:
        EncoderError, LadderError, DataError, RecipeError: see `edge_embed.train.prepare.prepare` and
            `edge_embed.train.finetune.fine_tune`.
        OutputError: something stands at the output, or can't be written.
    """
    with _working(recipe, target) as work:
        if recipe.method == "separate":
            train_separately(recipe, work, monitor=monitor, progress=progress)
            if is_main_process():
                save_separate(recipe, work, target.output, replace=target.replace)
            return Outcome()
        pairs = read_scored_pairs(recipe.dev) if recipe.dev else None
        training = prepare(recipe, progress=progress)
        before = score_dev(training.model, pairs)
        model = fine_tune(training, work=work, monitor=monitor)
        if is_main_process():
            save_checkpoint(model, target.output, training.origin, replace=target.replace)
        return Outcome(before, score_dev(model, pairs), training.store.left_out)


def pretrain_encoder(
    settings: LoopSettings, target: Target, *, monitor: Monitor | None = None, progress: Progress = silent
) -> Outcome:
    """Pre-train an encoder and write it; see `train_checkpoint`."""
    with _working(settings, target) as work:
        training = prepare_pretraining(settings, progress=progress)
        run_pretraining(training, work=work, monitor=monitor)
        if is_main_process():
            save_pretrained(training, target.output, replace=target.replace)
        return Outcome(left_out=training.store.left_out)


@contextmanager
def _working(settings: LoopSettings, target: Target) -> Iterator[Path]:
    """The folder of a training's states, which only the main process makes and deletes."""
    join_processes()
    work = work_folder(target.output)
    with ExitStack() as stack:
        if is_main_process():
            check_target(target.output, replace=target.replace)
            stack.enter_context(working(work, settings, resume=target.resume, replace=target.replace))
        wait_for_all()
        yield work
