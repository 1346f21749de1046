"""Every setting of a training, checked."""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Literal, get_args

from edge_embed.model.checkpoint import Json
from edge_embed.model.tiered import HEAD_KINDS, HeadKind
from edge_embed_runtimes.errors import DataError, RecipeError
from edge_embed_runtimes.tiers import STARBUCKS, Ladder

Method = Literal["srl"]
METHODS: tuple[Method, ...] = get_args(Method)


@dataclass(frozen=True, slots=True)
class LossWeights:
    """How much each part of the loss counts.

    Attributes:
        task: in-batch negatives at every tier, on pairs.
        kl: each tier's similarities against those of the full model, on pairs and on texts.
        align: each tier against the leading directions of the full model's vectors.
    """

    task: float = 1.0
    kl: float = 1.0
    align: float = 4.0

    def __post_init__(self) -> None:
        for entry in fields(self):
            _check_number(f"weight {entry.name}", getattr(self, entry.name), low=0.0, high=math.inf)
        if self.task == self.kl == self.align == 0:
            raise RecipeError("all loss weights are 0: nothing would be trained; give at least one a value above 0")


@dataclass(frozen=True, slots=True)
class Recipe:
    """What to train, on what, and how.

    Attributes:
        base: the encoder; see `edge_embed.model.source.locate`.
        texts: files of plain texts, one a line.
        pairs: TSV files of pairs that mean the same.
        temperature: of every softmax over cosines.
        max_tokens: texts are cut here while training.
        dropout: in every layer; distillation does best without.

    Raises:
        RecipeError: a value outside its range.
        DataError: neither texts nor pairs.
    """

    base: str
    texts: tuple[Path, ...] = ()
    pairs: tuple[Path, ...] = ()
    ladder: Ladder = STARBUCKS
    head: HeadKind = "project"
    method: Method = "srl"
    epochs: float = 3.0
    batch_size: int = 64
    learning_rate: float = 2e-4
    warmup: float = 0.1
    temperature: float = 0.05
    max_tokens: int = 128
    dropout: float = 0.0
    weights: LossWeights = field(default_factory=LossWeights)
    seed: int = 0

    def __post_init__(self) -> None:
        if not self.texts and not self.pairs:
            raise DataError("nothing to train on: name at least one file of texts or of pairs")
        _check_word("method", self.method, METHODS)
        _check_word("head", self.head, HEAD_KINDS)
        _check_number("epochs", self.epochs, low=0.0, high=1e6)
        _check_number("batch_size", self.batch_size, low=2, high=1e6)
        _check_number("learning_rate", self.learning_rate, low=0.0, high=1.0)
        _check_number("warmup", self.warmup, low=0.0, high=1.0)
        _check_number("temperature", self.temperature, low=1e-4, high=10.0)
        _check_number("max_tokens", self.max_tokens, low=3, high=1e6)
        _check_number("dropout", self.dropout, low=0.0, high=0.9)
        _check_number("seed", self.seed, low=0, high=2**32 - 1)
        for name in ("batch_size", "max_tokens", "seed"):
            if type(getattr(self, name)) is not int:
                raise RecipeError(f"{name} is {getattr(self, name)!r}: allowed is a whole number")

    @property
    def base_name(self) -> str:
        """The encoder's name: a folder's last part, or the hub id."""
        return Path(self.base).resolve().name if Path(self.base).is_dir() else self.base

    def describe(self) -> Mapping[str, Json]:
        """As plain JSON values; files and folders by their names alone."""
        plain = asdict(self)
        return {
            **plain,
            "base": self.base_name,
            "texts": [path.name for path in self.texts],
            "pairs": [path.name for path in self.pairs],
            "ladder": [str(tier) for tier in self.ladder],
        }


def _check_number(name: str, value: float, *, low: float, high: float) -> None:
    if not (math.isfinite(value) and low <= value <= high):
        raise RecipeError(f"{name} is {value}: allowed is {low:g} to {high:g}")


def _check_word(name: str, value: str, known: tuple[str, ...]) -> None:
    if value not in known:
        raise RecipeError(f"{name} {value!r} is unknown: allowed are {', '.join(known)}")
