"""What an export is asked for."""

from dataclasses import dataclass, field
from pathlib import Path

from edge_embed.evaluate.evaluation import Sets
from edge_embed_runtimes.errors import DataError, EngineError, RecipeError
from edge_embed_runtimes.manifest import ENGINES, PRECISIONS, Engine, Gates, Precision
from edge_embed_runtimes.tiers import Ladder


@dataclass(frozen=True, slots=True)
class ExportSettings:
    """What to write, and what to hold it against.

    Attributes:
        calibrate: files of plain texts like those the bundle will see; they fix the int8 ranges and measure parity.
        sets: what tiers are scored on, in float and in every graph; None leaves scores out.
        gates: what every graph must reach.
        allow_below_gate: write the bundle all the same, with what was missed in its passport.
        ladder: other tiers than the checkpoint was trained for; None for its own.
        tune: train the weights behind int8 a little, on the calibration texts.
        name: of the bundle; None for one made of the encoder's and the number of tiers.
        notes: Markdown for the card: what its reader should know and only you do, such as licences.

    Raises:
        EngineError, RecipeError: an unknown or empty list of engines or precisions.
        DataError: no calibration texts.
    """

    calibrate: tuple[Path, ...]
    engines: tuple[Engine, ...] = ENGINES
    precisions: tuple[Precision, ...] = ("int8", "fp32")
    sets: Sets | None = None
    gates: Gates = field(default_factory=Gates)
    allow_below_gate: bool = False
    ladder: Ladder | None = None
    tune: bool = False
    name: str | None = None
    notes: str = ""

    def __post_init__(self) -> None:
        if not self.engines or not set(self.engines) <= set(ENGINES):
            raise EngineError(f"engines {list(self.engines)}: allowed are one or more of {', '.join(ENGINES)}")
        if not self.precisions or not set(self.precisions) <= set(PRECISIONS):
            raise RecipeError(f"precisions {list(self.precisions)}: allowed are one or more of {', '.join(PRECISIONS)}")
        if self.tune and "int8" not in self.precisions:
            raise RecipeError(f"precisions {list(self.precisions)}: tuning is for int8; add it, or leave tune out")
        if not self.calibrate:
            raise DataError("no calibration texts: name at least one file of texts like those you will embed")
