"""Every setting of a training, checked."""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Literal, get_args

from edge_embed.data.sources import Source
from edge_embed.model.checkpoint import Json
from edge_embed.model.tiered import HEAD_KINDS, HeadKind
from edge_embed_runtimes.errors import DataError, RecipeError
from edge_embed_runtimes.tiers import STARBUCKS, Ladder

Method = Literal["srl", "2dmse", "mrl", "separate"]
METHODS: tuple[Method, ...] = get_args(Method)
Precision = Literal["auto", "fp32", "bf16"]
PRECISIONS: tuple[Precision, ...] = get_args(Precision)
SELF = "self"
"""The teacher that is no name of an encoder: the full base encoder itself."""


@dataclass(frozen=True, slots=True)
class LossWeights:
    """How much each part of the loss counts, at every tier.

    Attributes:
        task: the task of the rows: in-batch negatives for pairs, triplets and groups, CoSENT for ranked texts and
            scored pairs, the contrastive loss for labelled ones. Plain texts have none.
        kl: a tier's similarities between rows near those of the full tier.
        distill: a tier's similarities between texts near those of the teacher.
        directions: a tier's vectors near the teacher's leading principal directions.
        align: a tier's vectors near the first values of the full tier's.
    """

    task: float = 1.0
    kl: float = 1.0
    distill: float = 1.0
    directions: float = 4.0
    align: float = 1.0

    def __post_init__(self) -> None:
        for entry in fields(self):
            check_number(f"weight {entry.name}", getattr(self, entry.name), low=0.0, high=math.inf)
        if not any(asdict(self).values()):
            raise RecipeError("all loss weights are 0: nothing would be trained; give at least one a value above 0")

    @property
    def use_teacher(self) -> bool:
        """Whether any part needs a teacher's vectors."""
        return self.distill > 0 or self.directions > 0


@dataclass(frozen=True, slots=True, kw_only=True)
class LoopSettings:
    """What fine-tuning and pre-training have in common.

    Attributes:
        base: the encoder; see `edge_embed.model.source.locate`.
        data: what to train on.
        skip_bad_rows: count rows that can't be used and go on, instead of stopping at the first.
        epochs: passes over the data, each source as often in each as its weight says.
        batch_size: rows a step and process; the rows of a batch are each other's negatives.
        accumulation: batches a change of the weights.
        learning_rate: the highest; it rises over the share `warmup` of all steps, then falls as a cosine.
        max_tokens: texts are cut here while training.
        dropout: in every layer; distillation does best without.
        precision: of the encoder's products; `auto` takes bf16 where the device has instructions for it.
        gradient_checkpointing: compute hidden states twice to save memory.
        save_every: steps between two states from which a killed training goes on; 0 for none.
        seed: of everything random.

    Raises:
        RecipeError: a value outside its range.
        DataError: no data.
    """

    base: str
    data: tuple[Source, ...] = ()
    skip_bad_rows: bool = False
    ladder: Ladder = STARBUCKS
    epochs: float = 3.0
    batch_size: int = 64
    accumulation: int = 1
    learning_rate: float = 2e-4
    warmup: float = 0.1
    max_tokens: int = 128
    dropout: float = 0.0
    precision: Precision = "auto"
    gradient_checkpointing: bool = False
    save_every: int = 500
    seed: int = 0

    def __post_init__(self) -> None:
        if not self.data:
            raise DataError("nothing to train on: name at least one file of texts or of pairs")
        check_word("precision", self.precision, PRECISIONS)
        check_number("epochs", self.epochs, low=0.0, high=1e6)
        check_number("learning_rate", self.learning_rate, low=0.0, high=1.0)
        check_number("warmup", self.warmup, low=0.0, high=1.0)
        check_number("dropout", self.dropout, low=0.0, high=0.9)
        check_whole("batch_size", self.batch_size, low=2, high=10**6)
        check_whole("accumulation", self.accumulation, low=1, high=10**6)
        check_whole("max_tokens", self.max_tokens, low=3, high=10**6)
        check_whole("save_every", self.save_every, low=0, high=10**9)
        check_whole("seed", self.seed, low=0, high=2**32 - 1)

    @property
    def base_name(self) -> str:
        """The encoder's name: a folder's last part, or the hub id."""
        return name_of(self.base)

    def describe(self) -> Mapping[str, Json]:
        """As plain JSON values; files and folders by their names alone."""
        plain: dict[str, Json] = asdict(self)
        return {
            **plain,
            "base": self.base_name,
            "ladder": [str(tier) for tier in self.ladder],
            "data": [
                {
                    **asdict(source),
                    "place": name_of(source.place),
                    "folder": source.folder and name_of(source.folder),
                    "columns": list(source.columns),
                }
                for source in self.data
            ],
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe(LoopSettings):
    """How to train a ladder of tiers.

    Attributes:
        method: `srl` trains every tier of the ladder; `2dmse` a random layer and dimension a step; `mrl` the last
            layer alone, at every dimension; `separate` a small model of its own for each tier.
        teacher: names of encoders, `self` for the full base encoder. Several teach as one, whose cosines are the means
            of theirs; none teach nothing.
        temperature: of every softmax over cosines.
        alike: rows of a source or folder that the teacher finds alike stand in a batch in groups of so many; 1
            leaves it to chance.
        top_rate: learning rate of the last layer, as a share of that of the first; of those between, on a geometric
            line. The first layers have the most to learn, the last the most to lose.
        balance: a tier's loss weighs the inverse of its present size: the lowest tiers, which have the largest, then
            don't pull the shared layers hardest.
        dev: scored pairs; each tier is scored on them while training.
        dev_every: steps between two scorings; 0 for before and after alone.
        patience: scorings without a better mean after which training ends, with the best weights; 0 for never.
        start: folder of a checkpoint of this ladder and head, which is trained further; None: the base encoder is.
        keep_start: share of the weights from before the training in the result, the rest being those from after it
            (WiSE-FT, Wortsman et al. 2021, arXiv 2109.01903, section 3). What the data do not show stays better so.

    Raises:
        RecipeError: a value outside its range, or two that don't go together.
        DataError: no data.
    """

    head: HeadKind = "project"
    method: Method = "srl"
    teacher: tuple[str, ...] = (SELF,)
    temperature: float = 0.05
    alike: int = 1
    top_rate: float = 1.0
    weights: LossWeights = field(default_factory=LossWeights)
    balance: bool = False
    dev: Path | None = None
    dev_every: int = 0
    patience: int = 0
    start: str | None = None
    keep_start: float = 0.0

    def __post_init__(self) -> None:
        LoopSettings.__post_init__(self)
        check_word("method", self.method, METHODS)
        check_word("head", self.head, HEAD_KINDS)
        if len(set(self.teacher)) < len(self.teacher):
            raise RecipeError(f"teacher names one twice in {', '.join(self.teacher)}: name each once")
        check_number("temperature", self.temperature, low=1e-4, high=10.0)
        check_number("top_rate", self.top_rate, low=1e-3, high=1.0)
        check_number("keep_start", self.keep_start, low=0.0, high=0.99)
        check_whole("alike", self.alike, low=1, high=self.batch_size)
        check_whole("dev_every", self.dev_every, low=0, high=10**9)
        check_whole("patience", self.patience, low=0, high=10**6)
        if self.method in ("2dmse", "mrl") and self.head != "truncate":
            raise RecipeError(f"method {self.method} cuts vectors short, so it has no heads: choose head truncate")
        if self.method == "2dmse" and self.ladder.top.layers == 1:
            raise RecipeError(f"method 2dmse needs a layer below the top, {self.ladder.top}: choose a deeper ladder")
        if self.start and self.method != "srl":
            raise RecipeError(f"method {self.method} makes a ladder of its own: leave out start, or choose method srl")
        if self.alike > 1 and not self.taught:
            raise RecipeError(f"alike is {self.alike}, without a teacher to say what is alike: name one, and weights")
        if self.patience and not (self.dev and self.dev_every):
            raise RecipeError(f"patience is {self.patience}, without dev and dev_every: name pairs, and the steps")
        if all(source.kind == "texts" for source in self.data) and not (self.taught or self._tiers_teach):
            raise RecipeError("plain texts alone teach nothing here: name a teacher and its weights, or add pairs")

    @property
    def _tiers_teach(self) -> bool:
        """Whether tiers learn from the full one, whatever the rows."""
        return self.method == "srl" and (self.weights.kl > 0 or self.weights.align > 0)

    @property
    def other_teacher(self) -> bool:
        """Whether a teacher's vectors are needed that are not those of the base encoder alone."""
        return self.taught and self.teacher != (SELF,)

    @property
    def taught(self) -> bool:
        """Whether a teacher's vectors are needed."""
        return bool(self.teacher) and self.weights.use_teacher

    def describe(self) -> Mapping[str, Json]:
        """See `LoopSettings.describe`."""
        return {
            **LoopSettings.describe(self),
            "teacher": [name_of(name) for name in self.teacher],
            "dev": self.dev.name if self.dev else None,
            "start": name_of(self.start) if self.start else None,
        }


def name_of(place: str) -> str:
    """What to call a file, a folder, or something on a hub, without where it stands here."""
    return Path(place).resolve().name if Path(place).exists() else place


def check_number(name: str, value: float, *, low: float, high: float) -> None:
    """Raise a RecipeError unless low <= value <= high."""
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if not (number and math.isfinite(value) and low <= value <= high):
        raise RecipeError(f"{name} is {value!r}: allowed is {low:g} to {high:g}")


def check_whole(name: str, value: int, *, low: int, high: int) -> None:
    """Raise a RecipeError unless value is a whole number, low <= value <= high."""
    check_number(name, value, low=low, high=high)
    if type(value) is not int:
        raise RecipeError(f"{name} is {value!r}: allowed is a whole number")


def check_word(name: str, value: str, known: tuple[str, ...]) -> None:
    """Raise a RecipeError unless value is one of the known words."""
    if value not in known:
        raise RecipeError(f"{name} {value!r} is unknown: allowed are {', '.join(known)}")
