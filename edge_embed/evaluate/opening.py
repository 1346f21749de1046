"""Find out what stands at a place, and open it for scoring."""

from importlib.util import find_spec
from pathlib import Path

from edge_embed.evaluate.models import BundleModel, CheckpointModel, ForeignModel, TieredModel
from edge_embed.evaluate.separate import SEPARATE_NAME, SeparateModel
from edge_embed_runtimes.errors import EncoderError, ExtraMissing, RecipeError
from edge_embed_runtimes.manifest import MANIFEST_NAME, Engine, Precision

_CHECKPOINT_NAME = "starbucks.json"  # as in edge_embed.model.checkpoint, which needs torch


def open_model(place: str, *, engine: Engine | None = None, precision: Precision | None = None) -> TieredModel:
    """Open whatever stands at a place.

    Args:
        place: a bundle, a checkpoint, a folder of separate checkpoints, a folder or hub id of sentence-transformers,
            or a packaged encoder.
        engine, precision: of a bundle; None for the first that it has and this machine runs.

    Raises:
        RecipeError: an engine or a precision for something that is no bundle.
        BundleError, EngineError: see `BundleModel`.
        CheckpointError: a damaged checkpoint, or checkpoints that don't belong together.
        EncoderError: nothing that can be opened is there.
        ExtraMissing: torch or sentence-transformers is needed and isn't installed.
    """
    folder = Path(place)
    if (folder / MANIFEST_NAME).is_file():
        return BundleModel(folder, engine=engine, precision=precision)
    if engine is not None or precision is not None:
        wish = " ".join(filter(None, (engine, precision)))
        raise RecipeError(f"{place} is no bundle, so it can't run as {wish}: export it first, or name neither")
    if (folder / _CHECKPOINT_NAME).is_file():
        return CheckpointModel.open(folder)
    if (folder / SEPARATE_NAME).is_file():
        return SeparateModel.open(folder)
    return _open_foreign(place)


def _open_foreign(place: str) -> ForeignModel:
    where = _locate(place)
    if find_spec("sentence_transformers") is None:
        raise ExtraMissing(
            f"{place} is neither a bundle nor a checkpoint, and sentence-transformers, which may know it, is not "
            f"installed: pip install sentence-transformers"
        )
    from sentence_transformers import SentenceTransformer

    from edge_embed.model.quiet import quiet

    try:
        with quiet():
            encoder = SentenceTransformer(where)
    except Exception as error:  # it hands on whatever its own loaders and the hub's client raise
        way_out = "check the folder" if Path(where).is_dir() else "check the name and the network, or name a folder"
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise EncoderError(f"{place} can't be loaded by sentence-transformers ({reason}): {way_out}") from error
    return ForeignModel(encoder, name=place)


def _locate(place: str) -> str:
    """A folder or hub id that sentence-transformers may load."""
    folder = Path(place)
    if (folder / "modules.json").is_file():  # a model without a config.json of its own, such as static vectors
        return place
    if folder.exists() and not (folder / "config.json").is_file():
        raise EncoderError(
            f"{place} is no bundle ({MANIFEST_NAME}), no checkpoint ({_CHECKPOINT_NAME}, {SEPARATE_NAME}) and no "
            f"encoder (config.json): name a folder that holds one of these"
        )
    from edge_embed.model.source import locate

    return locate(place)
