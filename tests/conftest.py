"""A tiny encoder, checkpoint and bundle, built once a run in seconds."""

import random
import string
from pathlib import Path

import pytest

SUBJECTS = (
    "a cat|the old man|a small dog|the red bus|my friend|the river|a bird|the train|her sister|the teacher".split("|")
)
VERBS = "sees|likes|follows|finds|carries|paints|hears|leaves".split("|")
OBJECTS = "the house|a green tree|the long road|a letter|some bread|the blue sea|a new song|the city".split("|")


@pytest.fixture(scope="session")
def tiny_texts() -> list[str]:
    """64 sentences of three to thirty words."""
    chooser = random.Random(7)
    clauses = [f"{s} {v} {o}" for s in SUBJECTS for v in VERBS for o in OBJECTS]
    chooser.shuffle(clauses)
    return [" and ".join(clauses[place : place + 1 + place % 5]) for place in range(64)]


@pytest.fixture(scope="session")
def tiny_text_file(tmp_path_factory: pytest.TempPathFactory, tiny_texts: list[str]) -> Path:
    """The sentences, one a line."""
    path = tmp_path_factory.mktemp("texts") / "tiny.txt"
    path.write_text("\n".join(tiny_texts) + "\n")
    return path


@pytest.fixture(scope="session")
def tiny_pair_file(tmp_path_factory: pytest.TempPathFactory, tiny_texts: list[str]) -> Path:
    """Pairs of a sentence and itself with a word more."""
    path = tmp_path_factory.mktemp("pairs") / "pairs.tsv"
    rows = [f"{text}\t{text} today" for text in tiny_texts[:24]]
    path.write_text("text\tparaphrase\n" + "\n".join(rows) + "\n")
    return path


@pytest.fixture(scope="session")
def tiny_scored_file(tmp_path_factory: pytest.TempPathFactory, tiny_texts: list[str]) -> Path:
    """Sentence pairs scored by how many words they share."""
    path = tmp_path_factory.mktemp("scored") / "scored.tsv"
    rows = []
    for one, other in zip(tiny_texts, tiny_texts[1:] + tiny_texts[:1], strict=True):
        shared = set(one.split()) & set(other.split())
        rows.append(f"{one}\t{other}\t{len(shared) / len(set(one.split()) | set(other.split())):.3f}")
    path.write_text("sentence1\tsentence2\tscore\n" + "\n".join(rows) + "\n")
    return path


@pytest.fixture(scope="session")
def tiny_encoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A seeded BERT of 3 layers, hidden size 32 and about 100 word pieces, as a transformers folder."""
    import torch
    from transformers import BertConfig, BertModel, BertTokenizer

    folder = tmp_path_factory.mktemp("encoder")
    words = sorted({word for part in (*SUBJECTS, *VERBS, *OBJECTS) for word in part.split()} | {"and", "today"})
    letters = [*string.ascii_lowercase, *string.digits]
    pieces = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *letters, *(f"##{x}" for x in letters), *words]
    pieces = list(dict.fromkeys(pieces))
    tokenizer = BertTokenizer(vocab={piece: place for place, piece in enumerate(pieces)})
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=len(pieces),
        hidden_size=32,
        num_hidden_layers=3,
        num_attention_heads=4,
        intermediate_size=64,
        max_position_embeddings=64,
        initializer_range=0.3,
    )
    BertModel(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def tiny_checkpoint(tmp_path_factory: pytest.TempPathFactory, tiny_encoder: Path, tiny_text_file: Path) -> Path:
    """The tiny encoder as a ladder with fitted heads: demi 1x8, short 2x16, tall 3x32."""
    from edge_embed.model.checkpoint import save_checkpoint
    from edge_embed.train.loop import prepare
    from edge_embed.train.recipe import Recipe
    from edge_embed_runtimes.tiers import parse_ladder

    folder = tmp_path_factory.mktemp("checkpoint") / "tiny"
    training = prepare(Recipe(str(tiny_encoder), texts=(tiny_text_file,), ladder=parse_ladder("1x8,2x16,3x32")))
    save_checkpoint(training.model, folder, training.origin)
    return folder


@pytest.fixture(scope="session")
def tiny_bundle(
    tmp_path_factory: pytest.TempPathFactory, tiny_checkpoint: Path, tiny_text_file: Path, tiny_scored_file: Path
) -> Path:
    """The tiny checkpoint compiled for both engines in both precisions, with scores."""
    from edge_embed.evaluate.sts import read_scored_pairs
    from edge_embed_export.build import ExportSettings, export_bundle

    folder = tmp_path_factory.mktemp("bundle") / "tiny"
    settings = ExportSettings(calibrate=(tiny_text_file,), pairs=read_scored_pairs(tiny_scored_file))
    export_bundle(tiny_checkpoint, folder, settings)
    return folder
