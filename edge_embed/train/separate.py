"""The baseline of one small model for each tier, trained by the same loop: nothing is shared."""

import json
import shutil
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from edge_embed.evaluate.separate import SEPARATE_FORMAT, SEPARATE_NAME
from edge_embed.model.checkpoint import is_checkpoint, save_checkpoint
from edge_embed.train.finetune import fine_tune
from edge_embed.train.gather import is_main_process
from edge_embed.train.monitor import Monitor
from edge_embed.train.prepare import prepare
from edge_embed.train.recipe import Recipe
from edge_embed_runtimes.files import writing_folder
from edge_embed_runtimes.progress import Progress, silent
from edge_embed_runtimes.tiers import Ladder


def recipes_of(recipe: Recipe) -> Mapping[str, Recipe]:
    """A recipe for each tier: a ladder of that tier alone, in an encoder of its depth."""
    return {tier.name: replace(recipe, method="srl", ladder=Ladder((tier,))) for tier in recipe.ladder}


def train_separately(
    recipe: Recipe, work: Path, *, monitor: Monitor | None = None, progress: Progress = silent
) -> None:
    """Train each tier's own model, and keep its checkpoint in `work`; those that are there are not trained again."""
    for name, one in recipes_of(recipe).items():
        if is_checkpoint(_checkpoint(work, name)):
            continue
        training = prepare(one, progress=progress)
        model = fine_tune(training, work=work / f"{name}.states", monitor=monitor)
        if is_main_process():
            save_checkpoint(model, _checkpoint(work, name), training.origin)


def save_separate(recipe: Recipe, work: Path, folder: Path, *, replace: bool = False) -> None:
    """Put the checkpoints into one folder, which `edge-embed evaluate` takes as one model.

    Raises:
        OutputError: something stands at `folder` and `replace` is off, it can't be written, or the disk is full.
    """
    names = [tier.name for tier in recipe.ladder]
    with writing_folder(folder, replace=replace) as temporary:
        for name in names:
            shutil.copytree(_checkpoint(work, name), temporary / name)
        content = json.dumps({"format": SEPARATE_FORMAT, "tiers": names}, indent=1)
        (temporary / SEPARATE_NAME).write_text(f"{content}\n", encoding="utf-8")


def _checkpoint(work: Path, tier: str) -> Path:
    return work / tier
