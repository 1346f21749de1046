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
Base = Annotated[
    str | None, typer.Argument(help="Encoder: a folder, all-MiniLM-L6-v2, or a hub id.", show_default=False)
]
RecipeFile = Annotated[Path | None, typer.Option("--recipe", help="TOML file of settings; flags count before it.")]
DataFolder = Annotated[Path | None, typer.Option(help="What the recipe's files are relative to; default: the recipe.")]
Texts = Annotated[Files, typer.Option(help="Plain texts, one a line; a folder stands for its .txt files.")]
Pairs = Annotated[Files, typer.Option(help="Pairs that mean the same.")]
Triplets = Annotated[Files, typer.Option(help="Anchor, positive, negative.")]
Scored = Annotated[Files, typer.Option(help="sentence1, sentence2, score.")]
Labelled = Annotated[Files, typer.Option(help="sentence1, sentence2, label 0 or 1.")]
Groups = Annotated[Files, typer.Option(help="Texts that all mean the same.")]
Tiers = Annotated[str | None, typer.Option(help="Ladder of layers x dimensions, such as 1x32,2x64,3x128.")]
Epochs = Annotated[float | None, typer.Option(help="Passes over the data.")]
BatchSize = Annotated[int | None, typer.Option(help="Rows a step and process.")]
Accumulation = Annotated[int | None, typer.Option(help="Batches a change of the weights.")]
LearningRate = Annotated[float | None, typer.Option(help="Highest learning rate.")]
Warmup = Annotated[float | None, typer.Option(help="Share of the steps in which it rises.")]
MaxTokens = Annotated[int | None, typer.Option(help="Longest text while training, in tokens.")]
Dropout = Annotated[float | None, typer.Option(help="In every layer.")]
TrainPrecision = Annotated[Literal["auto", "fp32", "bf16"] | None, typer.Option(help="Of the encoder's products.")]
Checkpointing = Annotated[
    bool | None, typer.Option("--gradient-checkpointing", help="Compute twice to save memory.", show_default=False)
]
SaveEvery = Annotated[int | None, typer.Option(help="Steps between two states to resume from; 0 for none.")]
Seed = Annotated[int | None, typer.Option(help="Of everything random.")]
SkipBadRows = Annotated[
    bool | None, typer.Option("--skip-bad-rows", help="Count bad rows and go on.", show_default=False)
]
Board = Annotated[Path | None, typer.Option("--tensorboard", help="Folder for TensorBoard's event files.")]
Resume = Annotated[bool, typer.Option("--resume", help="Go on with a training that was broken off.")]
_KINDS = ("texts", "pairs", "triplets", "scored", "labelled", "groups")
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
    scored: Scored = None,
    labelled: Labelled = None,
    groups: Groups = None,
    skip_bad_rows: SkipBadRows = None,
    tiers: Tiers = None,
    method: Annotated[
        Literal["srl", "2dmse", "mrl", "separate"] | None,
        typer.Option(help="srl: every tier; 2dmse, mrl, separate: the baselines."),
    ] = None,
    head: Annotated[
        Literal["project", "truncate"] | None, typer.Option(help="How a tier's vector is made of its layer.")
    ] = None,
    teacher: Annotated[str | None, typer.Option(help="self, an encoder, or none.")] = None,
    weight: Annotated[list[str] | None, typer.Option(help="Of a part of the loss, such as align=2.")] = None,
    temperature: Annotated[float | None, typer.Option(help="Of every softmax over cosines.")] = None,
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
    dev: Annotated[Path | None, typer.Option(help="Scored pairs; tiers are scored before and after.")] = None,
    dev_every: Annotated[int | None, typer.Option(help="Also score every so many steps.")] = None,
    patience: Annotated[int | None, typer.Option(help="Scorings without a better mean, then stop.")] = None,
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
        from edge_embed.show import print_table

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
    if "dev" in given:
        given["dev"] = str(given["dev"])
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
    from edge_embed.show import bars
    from edge_embed.show_training import TrainingLines
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
