"""The verb that scores models: evaluate."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from edge_embed.cli.common import DEFAULT, EngineName, Json, PrecisionName, app, placed

if TYPE_CHECKING:
    from edge_embed.evaluate.evaluation import Sets

Models = Annotated[
    list[str],
    typer.Argument(
        metavar="MODEL",
        help="Checkpoint, bundle, `default`, folder of separate checkpoints, or other encoder.",
        callback=lambda models: [str(placed(Path(model))) if model == DEFAULT else model for model in models],
    ),
]
Folders = list[Path] | None


@app.command()
def evaluate(
    models: Models,
    sts: Annotated[list[Path] | None, typer.Option(help="TSV with sentence1, sentence2, score.")] = None,
    retrieval: Annotated[Folders, typer.Option(help="Folder in BEIR layout.")] = None,
    classification: Annotated[Folders, typer.Option(help="Folder of train.tsv and test.tsv: text, label.")] = None,
    cross_tier: Annotated[bool, typer.Option("--cross-tier", help="Also score each tier against each other.")] = False,
    name: Annotated[list[str] | None, typer.Option(help="What to call a model; as many as models.")] = None,
    engine: EngineName = None,
    precision: PrecisionName = None,
    output: Annotated[Path | None, typer.Option("--output", "-o", help="Also write the tables as Markdown.")] = None,
    picture: Annotated[Path | None, typer.Option(help="Also draw score against tier, as a PNG.")] = None,
    as_json: Json = False,
) -> None:
    """Score every tier of a model, or compare several: STS, retrieval, classification.

    Example: edge-embed evaluate bundle --sts sts.tsv --retrieval folder --classification folder --cross-tier

    Example: edge-embed evaluate bundle other --name ours --name theirs --sts sts.tsv --picture scores.png
    """
    names = _names(models, name)
    sets = read_sets(sts, retrieval, classification)
    if sets is None:
        raise typer.BadParameter("name at least one --sts file, --retrieval folder or --classification folder")

    from edge_embed.evaluate.evaluation import check_cross, to_json
    from edge_embed.evaluate.evaluation import evaluate as score
    from edge_embed.evaluate.opening import open_model
    from edge_embed.evaluate.tables import score_tables, to_markdown
    from edge_embed.show.bars import bars
    from edge_embed.show.scores import draw_scores, print_scores
    from edge_embed_runtimes.files import writing_file

    opened = [open_model(place, engine=engine, precision=precision) for place in models]
    for model, called in zip(opened, names, strict=True) if cross_tier else ():
        check_cross(model, sets, name=called)
    evaluations = []
    for model, called in zip(opened, names, strict=True):
        with bars() as progress:
            evaluations.append(score(model, sets, name=called, cross=cross_tier, progress=progress))
    tables = score_tables(evaluations)
    typer.echo(to_json(evaluations), nl=False) if as_json else print_scores(tables)
    if output:
        with writing_file(output) as temporary:
            temporary.write_text(to_markdown(tables), encoding="utf-8")
    if picture:
        draw_scores(evaluations, picture)


def _names(models: Sequence[str], names: Sequence[str] | None) -> Sequence[str]:
    """What to call the models; anything but a name of its own for each is wrong usage."""
    if names and len(names) != len(models):
        raise typer.BadParameter(f"{len(names)} --name for {len(models)} models: name all of them or none")
    twice = [name for name in names or models if (names or models).count(name) > 1]
    if twice:
        raise typer.BadParameter(f"two models are called {twice[0]!r}: give each a --name of its own")
    return names or models


def read_sets(sts: Folders, retrieval: Folders, classification: Folders) -> "Sets | None":
    """What to score on, if anything; it is read before any model is opened, so that a wrong row costs no time."""
    if not (sts or retrieval or classification):
        return None
    from edge_embed.evaluate.classification import read_classification
    from edge_embed.evaluate.evaluation import Sets
    from edge_embed.evaluate.retrieval import read_retrieval
    from edge_embed.evaluate.sts import read_scored_pairs

    return Sets(
        sts=tuple(map(read_scored_pairs, sts or ())),
        retrieval=tuple(map(read_retrieval, retrieval or ())),
        classification=tuple(map(read_classification, classification or ())),
    )
