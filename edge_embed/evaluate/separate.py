"""A folder of checkpoints that were trained apart, one for each tier: what a ladder in one encoder is held against."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edge_embed.evaluate.models import CheckpointModel
from edge_embed_runtimes.errors import CheckpointError, LadderError
from edge_embed_runtimes.progress import Progress, silent
from edge_embed_runtimes.tiers import Tier

SEPARATE_NAME = "separate.json"
SEPARATE_FORMAT = 1


class SeparateModel:
    """Checkpoints of one tier each, trained apart: a ladder whose tiers share no vector space.

    Args:
        tiers: tier name to the model that has that tier alone, smallest first.
    """

    one_space = False

    def __init__(self, tiers: Mapping[str, CheckpointModel]) -> None:
        self._tiers = dict(tiers)

    @classmethod
    def open(cls, folder: Path) -> "SeparateModel":
        """Load the checkpoints that `separate.json` names, each from the subfolder called after its tier.

        Raises:
            ExtraMissing: torch or transformers isn't installed.
            CheckpointError: `separate.json` can't be read, or a checkpoint is unusable or has other tiers.
        """
        tiers = {}
        for name in _separate_names(folder / SEPARATE_NAME):
            tiers[name] = CheckpointModel.open(folder / name)
            if tiers[name].ladder_names != (name,):
                raise CheckpointError(
                    f"{folder / name} holds the tiers {', '.join(tiers[name].ladder_names)}: expected {name} alone, "
                    f"since the folder is called so"
                )
        return cls(tiers)

    @property
    def ladder_names(self) -> tuple[str, ...]:
        """The names of the tiers, smallest first."""
        return tuple(self._tiers)

    def encode_tiers(self, texts: Sequence[str], progress: Progress = silent) -> Mapping[str, NDArray[np.float32]]:
        """See `TieredModel.encode_tiers`."""
        vectors: dict[str, NDArray[np.float32]] = {}
        for name, model in self._tiers.items():
            vectors.update(model.encode_tiers(texts, _labelled(progress, name)))
        return vectors


def _separate_names(path: Path) -> list[str]:
    """The tiers that a `separate.json` lists."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise CheckpointError(f"{path} can't be read ({error}): copy or train it again") from error
    found = content.get("format") if isinstance(content, dict) else None
    if found != SEPARATE_FORMAT:
        raise CheckpointError(f"{path} has format {found!r}, this version reads {SEPARATE_FORMAT}: upgrade edge-embed")
    names = content.get("tiers")
    if not isinstance(names, list) or not names or not all(map(_is_tier_name, names)) or len(set(names)) < len(names):
        raise CheckpointError(
            f'{path} lists the tiers {names!r:.60}: expected at least one name, each once, such as ["demi", "tall"]'
        )
    return names


def _is_tier_name(name: object) -> bool:
    """Whether a name can be a tier's; such a name is no path out of the folder."""
    try:
        return isinstance(name, str) and bool(Tier(name, layers=1, dim=1))
    except LadderError:
        return False


def _labelled(progress: Progress, tier: str) -> Progress:
    def report(stage: str, done: int, total: int) -> None:
        progress(f"{stage} {tier}", done, total)

    return report
