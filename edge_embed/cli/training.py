"""The verbs that train: train, pretrain."""

from collections.abc import Callable, Mapping
from contextlib import ExitStack, closing
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeVar

import typer

from edge_embed.cli.common import Force, Json, Output, app, print_json, say

if TYPE_CHECKING:
    from edge_embed.train.recipe import LoopSettings
    from edge_embed.train.run import Outcome

Settings = TypeVar("Settings", bound="LoopSettings")

Files = list[Path] | None
_DATA, _LOSS, _LOOP = "Data", "What is learned", "The loop"


def _data(text: str, *names: str) -> Any:
    return typer.Option(*names, help=text, rich_help_panel=_DATA, show_default=False)


def _loss(text: str, *names: str) -> Any:
    return typer.Option(*names, help=text, rich_help_panel=_LOSS, show_default=False)


def _loop(text: str, *names: str) -> Any:
    return typer.Option(*names, help=text, rich_help_panel=_LOOP, show_default=False)


Base = Annotated[
    str | None, typer.Argument(help="Encoder: a folder, all-MiniLM-L6-v2, or a hub id.", show_default=False)
]
RecipeFile = Annotated[
    Path | None, typer.Option("--recipe", help="TOML file of settings; a flag counts before it.", show_default=False)
]
DataFolder = Annotated[Path | None, _data("What the recipe's files are relative to; else the recipe itself.")]
Texts = Annotated[Files, _data("Plain texts, one a line; a folder stands for its .txt files.")]
Pairs = Annotated[Files, _data("Pairs that mean the same.")]
Triplets = Annotated[Files, _data("Anchor, positive, negative.")]
Ranked = Annotated[Files, _data("A text, then others from the most to the least like it; a folder for its .tsv files.")]
Scored = Annotated[Files, _data("sentence1, sentence2, score.")]
Labelled = Annotated[Files, _data("sentence1, sentence2, label 0 or 1.")]
Groups = Annotated[Files, _data("Texts that all mean the same.")]
SkipBadRows = Annotated[bool | None, _data("Count bad rows and go on.", "--skip-bad-rows")]
Tiers = Annotated[str | None, _loss("Ladder of layers x dimensions (1x32,2x64,3x128,4x192,5x256,6x384).")]
MaxTokens = Annotated[int | None, _loss("Longest text while training, in tokens (128).")]
Epochs = Annotated[float | None, _loop("Passes over the data (3); 0 fits the heads alone.")]
BatchSize = Annotated[int | None, _loop("Rows a step and process (64).")]
Accumulation = Annotated[int | None, _loop("Batches a change of the weights (1).")]
LearningRate = Annotated[float | None, _loop("Highest learning rate (0.0002).")]
Warmup = Annotated[float | None, _loop("Share of the steps in which it rises (0.1).")]
Dropout = Annotated[float | None, _loop("In every layer (0).")]
TrainPrecision = Annotated[Literal["auto", "fp32", "bf16"] | None, _loop("Of the encoder's products (auto).")]
Checkpointing = Annotated[bool | None, _loop("Compute twice to save memory.", "--gradient-checkpointing")]
SaveEvery = Annotated[int | None, _loop("Steps between two states to resume from (500); 0 for none.")]
Seed = Annotated[int | None, _loop("Of everything random (0).")]
Board = Annotated[Path | None, _loop("Folder for TensorBoard's event files.", "--tensorboard")]
Resume = Annotated[bool, typer.Option("--resume", help="Go on with a training that was broken off.")]
_KINDS = ("texts", "pairs", "triplets", "ranked", "scored", "labelled", "groups")
_NO_SETTINGS = {*_KINDS, "output", "recipe", "data_folder", "weight", "tensorboard", "resume", "force", "as_json"}


@app.command()
def train(
    output: Output,
    base: Base = None,
    recipe: RecipeFile = None,
    data_folder: DataFolder = None,
    texts: Texts = None,
    pairs: Pairs = None,
    triplets: Triplets = None,
    ranked: Ranked = None,
    scored: Scored = None,
    labelled: Labelled = None,
    groups: Groups = None,
    skip_bad_rows: SkipBadRows = None,
    tiers: Tiers = None,
    start: Annotated[
        Path | None, _loss("Checkpoint whose ladder is trained further; else one is made in the base encoder.")
    ] = None,
    keep_start: Annotated[float | None, _loss("Share of the weights from before training in the result (0).")] = None,
    method: Annotated[
        Literal["srl", "2dmse", "mrl", "separate"] | None,
        _loss("srl: every tier; 2dmse, mrl, separate: the baselines (srl)."),
    ] = None,
    head: Annotated[
        Literal["project", "truncate", "weigh"] | None, _loss("How a tier's vector is made of its layer (project).")
    ] = None,
    teacher: Annotated[list[str] | None, _loss("self, an encoder, or none; several teach as one (self).")] = None,
    weight: Annotated[list[str] | None, _loss("Of task, kl, distill, directions or align, such as align=2.")] = None,
    balance: Annotated[bool | None, _loss("Each tier's loss weighs the inverse of its size.", "--balance")] = None,
    temperature: Annotated[float | None, _loss("Of every softmax over cosines (0.05).")] = None,
    alike: Annotated[int | None, _loss("Alike rows stand in a batch in groups of so many (1).")] = None,
    epochs: Epochs = None,
    batch_size: BatchSize = None,
    accumulation: Accumulation = None,
    learning_rate: LearningRate = None,
    top_rate: Annotated[float | None, _loop("Learning rate of the last layer, as a share of the first's (1).")] = None,
    warmup: Warmup = None,
    max_tokens: MaxTokens = None,
    dropout: Dropout = None,
    precision: TrainPrecision = None,
    gradient_checkpointing: Checkpointing = None,
    save_every: SaveEvery = None,
    dev: Annotated[Path | None, _loop("Scored pairs; tiers are scored before and after.")] = None,
    dev_every: Annotated[int | None, _loop("Also score every so many steps (0: don't).")] = None,
    patience: Annotated[int | None, _loop("Scorings without a better mean, then stop (0: never).")] = None,
    seed: Seed = None,
    tensorboard: Board = None,
    resume: Resume = False,
    force: Force = False,
    as_json: Json = False,
) -> None:
    """Train a ladder of tiers in one encoder; writes a checkpoint.

    Example: edge-embed train all-MiniLM-L6-v2 -o checkpoint --texts a.txt --pairs b.tsv --tiers 1x32,2x64,3x128
    """
    flags = dict(locals())
    from edge_embed.train.recipe import Recipe
    from edge_embed.train.run import train_checkpoint

    made = _make(Recipe, flags)
    outcome = _run(train_checkpoint, made, output, tensorboard, resume=resume, force=force)
    if as_json:
        print_json({"checkpoint": str(output), **asdict(outcome)})
    elif outcome.after and made.dev:
        from edge_embed.show.table import print_table

        rows = [[name, f"{outcome.before[name]:.4f}", f"{score:.4f}"] for name, score in outcome.after.items()]
        print_table(f"Spearman on {made.dev.name}", ["tier", "before", "trained"], rows)
    _say_left_out(outcome, unless=as_json)
    say(f"checkpoint written to {output}; next: edge-embed export {output} -o BUNDLE --calibrate TEXTS", unless=as_json)


@app.command()
def pretrain(
    output: Output,
    base: Base = None,
    recipe: RecipeFile = None,
    data_folder: DataFolder = None,
    texts: Texts = None,
    pairs: Pairs = None,
    groups: Groups = None,
    skip_bad_rows: SkipBadRows = None,
    tiers: Tiers = None,
    epochs: Epochs = None,
    batch_size: BatchSize = None,
    accumulation: Accumulation = None,
    learning_rate: LearningRate = None,
    warmup: Warmup = None,
    max_tokens: MaxTokens = None,
    dropout: Dropout = None,
    precision: TrainPrecision = None,
    gradient_checkpointing: Checkpointing = None,
    save_every: SaveEvery = None,
    seed: Seed = None,
    tensorboard: Board = None,
    resume: Resume = False,
    force: Force = False,
    as_json: Json = False,
) -> None:
    """Pre-train an encoder for its ladder by masked autoencoding (SMAE); writes an encoder to train a ladder in.

    Example: edge-embed pretrain all-MiniLM-L6-v2 -o encoder --texts passages.txt --epochs 1
    """
    flags = dict(locals())
    from edge_embed.train.recipe import LoopSettings
    from edge_embed.train.run import pretrain_encoder

    made = _make(LoopSettings, flags)
    outcome = _run(pretrain_encoder, made, output, tensorboard, resume=resume, force=force)
    if as_json:
        print_json({"encoder": str(output), "left_out": dict(outcome.left_out)})
    _say_left_out(outcome, unless=as_json)
    say(f"encoder written to {output}; next: edge-embed train {output} -o CHECKPOINT --texts TEXTS", unless=as_json)


def _make(kind: type[Settings], flags: Mapping[str, Any]) -> Settings:
    """Settings from a recipe file, and the flags that were given."""
    from edge_embed.train.recipe_file import make_recipe, read_recipe, sources

    path = flags["recipe"]
    values = read_recipe(path, data_folder=flags["data_folder"]) if path else {}
    data = [source for name in _KINDS for source in sources(name, flags.get(name) or ())]
    weights = dict(map(_weight, flags.get("weight") or ()))
    given = {name: value for name, value in flags.items() if name not in _NO_SETTINGS and value is not None}
    given |= {name: str(given[name]) for name in ("dev", "start") if name in given}
    if data:
        given["data"] = [*values.get("data", ()), *data]
    if weights:
        given["weights"] = {**values.get("weights", {}), **weights}
    return make_recipe(kind, {**values, **given})


def _run(
    train: Callable[..., "Outcome"],
    settings: "LoopSettings",
    output: Path,
    board: Path | None,
    *,
    resume: bool,
    force: bool,
) -> "Outcome":
    """Train with bars and lines; of several processes only the main one speaks."""
    from edge_embed.show.bars import bars
    from edge_embed.show.training import TrainingLines
    from edge_embed.train.gather import is_main_process, join_processes
    from edge_embed.train.monitor import Several
    from edge_embed.train.run import Target
    from edge_embed.train.tensorboard import TensorBoard

    target = Target(output, resume=resume, replace=force)
    join_processes()
    if not is_main_process():
        train(settings, target)
        raise typer.Exit
    with ExitStack() as stack:
        progress = stack.enter_context(bars())
        lines = TrainingLines(progress)
        monitor = Several(lines, stack.enter_context(closing(TensorBoard(board)))) if board else lines
        return train(settings, target, monitor=monitor, progress=progress)


def _weight(flag: str) -> tuple[str, float]:
    name, _, number = flag.partition("=")
    try:
        return name, float(number)
    except ValueError:
        raise typer.BadParameter(f"--weight {flag!r}: expected a part of the loss and a number: align=2") from None


def _say_left_out(outcome: "Outcome", *, unless: bool) -> None:
    for place, rows in outcome.left_out.items():
        say(f"{rows} bad rows of {place} were left out", unless=unless)
