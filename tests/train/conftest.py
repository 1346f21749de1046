"""What the tests of training share: recipes for the tiny encoder, files of rows, sentence-transformers' own model."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from edge_embed.data.sources import Kind
from edge_embed.train.prepare import Training, prepare
from edge_embed.train.recipe import Recipe
from edge_embed.train.recipe_file import sources
from edge_embed_runtimes.tiers import parse_ladder

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

COLUMNS = {
    "texts": "text", "pairs": "one two", "triplets": "one two three", "ranked": "one two three",
    "scored": "sentence1 sentence2 score",    "labelled": "sentence1 sentence2 label", "groups": "a b c",
}  # fmt: skip
Write = Callable[..., Path]
Make = Callable[..., Recipe]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """A writer of tables: kind and rows to a file that a source of this kind reads."""

    def table(kind: Kind, rows: Sequence[Sequence[object]], name: str = "") -> Path:
        path = tmp_path / (name or f"{kind}.tsv")
        path.parent.mkdir(exist_ok=True)
        lines = [COLUMNS[kind].split(), *rows]
        path.write_text("".join("\t".join(map(str, line)) + "\n" for line in lines))
        return path

    return table


@pytest.fixture(scope="session")
def recipe(tiny_encoder: Path, tiny_text_file: Path) -> Make:
    """A recipe for the tiny encoder: twenty batches of 16 texts, changed as asked."""
    plain = Recipe(
        base=str(tiny_encoder),
        data=sources("texts", [tiny_text_file]),
        ladder=parse_ladder("1x8,2x16,3x32"),
        epochs=5,
        batch_size=16,
        learning_rate=5e-4,
        precision="fp32",
    )

    def make(**changes: object) -> Recipe:
        return replace(plain, **changes)

    return make


@pytest.fixture
def short(recipe: Make) -> Callable[..., Training]:
    """A maker of prepared trainings of eight steps."""

    def make(**changes: object) -> Training:
        return prepare(recipe(**{"epochs": 2, "max_tokens": 12, **changes}))

    return make


@pytest.fixture(scope="session")
def theirs(tiny_encoder: Path) -> "SentenceTransformer":
    """The tiny encoder as sentence-transformers has it: mean pooling, unit length, no dropout."""
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.base.modules import Transformer
    from sentence_transformers.sentence_transformer.modules import Normalize, Pooling

    modules = [Transformer(str(tiny_encoder)), Pooling(32, "mean"), Normalize()]
    return SentenceTransformer(modules=modules, device="cpu").eval()
