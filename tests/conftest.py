"""Tiny encoders, a checkpoint and a bundle, built once a run in seconds."""

import functools
import random
import string
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    import transformers

SUBJECTS = (
    "a cat|the old man|a small dog|the red bus|my friend|the river|a bird|the train|her sister|the teacher".split("|")
)
VERBS = "sees|likes|follows|finds|carries|paints|hears|leaves".split("|")
OBJECTS = "the house|a green tree|the long road|a letter|some bread|the blue sea|a new song|the city".split("|")
WORDS = sorted({word for part in (*SUBJECTS, *VERBS, *OBJECTS) for word in part.split()} | {"and", "today"})
LETTERS = [*string.ascii_lowercase, *string.digits]


@pytest.fixture(scope="session", autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A cache folder of this run alone, also for the processes that tests start."""
    folder = tmp_path_factory.mktemp("cache")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("EDGE_EMBED_CACHE", str(folder))
        yield folder


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


def word_pieces(*special: str) -> dict[str, int]:
    """About 100 word pieces and their ids: the special ones, letters, the words of the texts."""
    pieces = dict.fromkeys([*special, *LETTERS, *(f"##{letter}" for letter in LETTERS), *WORDS])
    return {piece: place for place, piece in enumerate(pieces)}


@pytest.fixture(scope="session")
def tiny_encoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A seeded BERT of 3 layers, hidden size 32 and about 100 word pieces, as a transformers folder."""
    import torch
    from transformers import BertConfig, BertModel, BertTokenizer

    folder = tmp_path_factory.mktemp("encoder")
    pieces = word_pieces("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
    tokenizer = BertTokenizer(vocab=pieces)
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


def byte_pairs(*special: str) -> tuple[dict[str, int], list[tuple[str, str]]]:
    """A byte-level vocabulary and merges that lead to each word of the texts."""
    from tokenizers.pre_tokenizers import ByteLevel

    spaced = [f"\u0120{word}" for word in WORDS]
    steps = [(word[:end], word[end]) for word in spaced for end in range(1, len(word))]
    merges = list(dict.fromkeys(steps))
    pieces = dict.fromkeys([*special, *sorted(ByteLevel.alphabet()), *map("".join, merges)])
    return {piece: place for place, piece in enumerate(pieces)}, merges


def tiny_tokenizer(model_type: str) -> "transformers.PreTrainedTokenizerFast":
    """A tokenizer of the kind that encoders of this type have."""
    import tokenizers
    import transformers
    from tokenizers import models, normalizers, pre_tokenizers, processors

    match model_type:
        case "bert" | "distilbert":
            return transformers.BertTokenizer(vocab=word_pieces("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"))
        case "mpnet":
            return transformers.MPNetTokenizer(vocab=word_pieces("<s>", "<pad>", "</s>", "[UNK]", "<mask>"))
        case "roberta":
            vocabulary, merges = byte_pairs("<s>", "<pad>", "</s>", "<unk>", "<mask>")
            return transformers.RobertaTokenizer(vocab=vocabulary, merges=merges)
        case "xlm-roberta":
            special = [(piece, 0.0) for piece in ("<s>", "<pad>", "</s>", "<unk>")]
            words = [(f"\u2581{word}", -4.0) for word in WORDS]
            letters = [(letter, -8.0) for letter in ("\u2581", *LETTERS)]
            return transformers.XLMRobertaTokenizer(vocab=[*special, *words, *letters, ("<mask>", 0.0)])
        case "modernbert":
            vocabulary, merges = byte_pairs("[UNK]", "[CLS]", "[SEP]", "[PAD]", "[MASK]")
            backend = tokenizers.Tokenizer(models.BPE(vocab=vocabulary, merges=merges))
            backend.normalizer = normalizers.NFC()
            backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
            ends = [(piece, vocabulary[piece]) for piece in ("[CLS]", "[SEP]")]
            backend.post_processor = processors.TemplateProcessing(single="[CLS] $A [SEP]", special_tokens=ends)
            return transformers.PreTrainedTokenizerFast(
                tokenizer_object=backend, cls_token="[CLS]", sep_token="[SEP]", pad_token="[PAD]",
                unk_token="[UNK]", mask_token="[MASK]",
            )  # fmt: skip
    raise ValueError(model_type)


@pytest.fixture(scope="session")
def tiny_family(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """A maker of transformers folders by model type: seeded, 4 layers, hidden size 32, texts of up to 80 tokens.

    Every weight is random, biases and norms among them, and no activation in a config is the default; each folder
    holds the masked-language head as well.
    """
    import torch
    import transformers

    @functools.cache
    def make(model_type: str) -> Path:
        folder = tmp_path_factory.mktemp(model_type)
        tokenizer = tiny_tokenizer(model_type)
        torch.manual_seed(0)
        own = {
            "bert": {"hidden_act": "relu"},
            "roberta": {"hidden_act": "relu", "max_position_embeddings": 82, "type_vocab_size": 1},
            "xlm-roberta": {"hidden_act": "relu", "max_position_embeddings": 82, "type_vocab_size": 1},
            "mpnet": {"hidden_act": "relu", "max_position_embeddings": 82},
            "distilbert": {"activation": "relu", "hidden_dim": 64},
            # a token and four on each side, fewer than most texts have
            "modernbert": {"classifier_activation": "relu", "local_attention": 8},
        }
        common = {
            "vocab_size": len(tokenizer), "hidden_size": 32, "num_hidden_layers": 4, "num_attention_heads": 4,
            "intermediate_size": 64, "max_position_embeddings": 80, "initializer_range": 0.3,
        }  # fmt: skip
        for name in ("pad_token_id", "bos_token_id", "eos_token_id", "cls_token_id", "sep_token_id"):
            common[name] = getattr(tokenizer, name)
        config = transformers.AutoConfig.for_model(model_type, **common | own[model_type])
        model = transformers.AutoModelForMaskedLM.from_config(config)
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.add_(0.1 * torch.randn_like(parameter))
        model.save_pretrained(folder)
        tokenizer.save_pretrained(folder)
        return folder

    return make


@pytest.fixture(scope="session")
def tiny_checkpoint(tmp_path_factory: pytest.TempPathFactory, tiny_encoder: Path, tiny_text_file: Path) -> Path:
    """The tiny encoder as a ladder with fitted heads: demi 1x8, short 2x16, tall 3x32."""
    from edge_embed.model.checkpoint import save_checkpoint
    from edge_embed.train.prepare import prepare
    from edge_embed.train.recipe import Recipe
    from edge_embed.train.recipe_file import sources
    from edge_embed_runtimes.tiers import parse_ladder

    folder = tmp_path_factory.mktemp("checkpoint") / "tiny"
    data, ladder = sources("texts", [tiny_text_file]), parse_ladder("1x8,2x16,3x32")
    training = prepare(Recipe(base=str(tiny_encoder), data=data, ladder=ladder))
    save_checkpoint(training.model, folder, training.origin)
    return folder


@pytest.fixture(scope="session")
def tiny_bundle(
    tmp_path_factory: pytest.TempPathFactory, tiny_checkpoint: Path, tiny_text_file: Path, tiny_scored_file: Path
) -> Path:
    """The tiny checkpoint compiled for both engines in every precision, with scores."""
    from edge_embed.evaluate.evaluation import Sets
    from edge_embed.evaluate.sts import read_scored_pairs
    from edge_embed_export.build import export_bundle
    from edge_embed_export.settings import ExportSettings
    from edge_embed_runtimes.manifest import PRECISIONS, Gates

    folder = tmp_path_factory.mktemp("bundle") / "tiny"
    sets = Sets(sts=(read_scored_pairs(tiny_scored_file),))
    loose = Gates(cosine_mean=0.995, cosine_min=0.98, score_drop=1, monotone=False)  # its weights are random
    settings = ExportSettings(calibrate=(tiny_text_file,), precisions=PRECISIONS, sets=sets, gates=loose)
    export_bundle(tiny_checkpoint, folder, settings)
    return folder
