"""The whole road from a checkpoint to a bundle; nothing appears at its place before everything has passed."""

import dataclasses
import json
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path

import numpy as np

from edge_embed.data.lines import read_lines
from edge_embed.evaluate.sts import ScoredPairs
from edge_embed.model.checkpoint import Origin, load_checkpoint, space_of
from edge_embed.model.tiered import TieredEncoder, encode_tiers
from edge_embed_export.calibrate import LEAST_TEXTS, calibration_texts
from edge_embed_export.card import write_card
from edge_embed_export.compiler import Compiler
from edge_embed_export.layout import CANARIES_NAME, CARD_NAME, TOKENIZER_NAME, graph_path, place, weights_path
from edge_embed_export.verify import PARITY_TEXTS, Yardstick, check_gates, cross, grade_graph
from edge_embed_runtimes.bundle import sha256_of
from edge_embed_runtimes.errors import DataError, EngineError, RecipeError
from edge_embed_runtimes.files import check_target, writing_folder
from edge_embed_runtimes.manifest import (
    ENGINES,
    MANIFEST_NAME,
    PRECISIONS,
    BundleFile,
    Engine,
    Gates,
    Grade,
    Manifest,
    Passport,
    Precision,
    Role,
)
from edge_embed_runtimes.progress import Progress, silent
from edge_embed_runtimes.tiers import Ladder
from edge_embed_runtimes.tokenizer import Tokenizer

_CANARIES = (
    "A bicycle leans on the wall.",
    "How long does it take to boil an egg?",
    "The ferry leaves at 7:40, not at 8:15.",
    "ok",
)
_LIBRARIES = ("edge-embed", "torch", "transformers", "onnx", "onnxruntime", "openvino", "nncf")


@dataclass(frozen=True, slots=True)
class ExportSettings:
    """What to write, and what to hold it against.

    Attributes:
        calibrate: files of plain texts like those the bundle will see; they fix the int8 ranges and measure parity.
        pairs: scored pairs for the passport's scores; None leaves them out.
        gates: what every graph must reach.

    Raises:
        EngineError, RecipeError: an unknown or empty list of engines or precisions.
        DataError: no calibration texts.
    """

    calibrate: tuple[Path, ...]
    engines: tuple[Engine, ...] = ENGINES
    precisions: tuple[Precision, ...] = PRECISIONS
    pairs: ScoredPairs | None = None
    gates: Gates = field(default_factory=Gates)

    def __post_init__(self) -> None:
        if not self.engines or not set(self.engines) <= set(ENGINES):
            raise EngineError(f"engines {list(self.engines)}: allowed are one or more of {', '.join(ENGINES)}")
        if not self.precisions or not set(self.precisions) <= set(PRECISIONS):
            raise RecipeError(f"precisions {list(self.precisions)}: allowed are one or more of {', '.join(PRECISIONS)}")
        if not self.calibrate:
            raise DataError("no calibration texts: name at least one file of texts like those you will embed")


def export_bundle(
    checkpoint: Path,
    output: Path,
    settings: ExportSettings,
    *,
    replace: bool = False,
    progress: Progress = silent,
) -> Manifest:
    """Compile a checkpoint into a bundle at `output`; returns its manifest.

    Raises:
        CheckpointError: no usable checkpoint there.
        DataError: calibration texts are missing or too few.
        GateMissed: a graph is further from the torch encoder than its gate allows.
        OutputError: something stands at `output` and `replace` is off, it can't be written, or the disk is full.
    """
    check_target(output, replace=replace)
    model, origin = load_checkpoint(checkpoint, attention="eager")
    texts = list(dict.fromkeys(text for path in settings.calibrate for text in read_lines(path)))
    calibration = calibration_texts(texts)
    tokenizer = model.encoder.tokenizer()
    with writing_folder(output, replace=replace) as folder:
        with tempfile.TemporaryDirectory(prefix=".scratch.", dir=folder.parent) as scratch:
            compiler = Compiler(model, list(tokenizer.batches(calibration)), Path(scratch), progress)
            graphs = _write_graphs(compiler, model.ladder, settings, folder)
        (folder / TOKENIZER_NAME).write_text(model.encoder.tokenizer_json, encoding="utf-8")
        passport = _grade(model, settings, _held_out(texts, calibration), tokenizer, folder, progress)
        check_gates(passport.grades, settings.gates)
        _write_canaries(model, folder / CANARIES_NAME)
        manifest = _describe(model, origin, passport)
        write_card(folder / CARD_NAME, manifest, origin)
        manifest = dataclasses.replace(manifest, files=(*_single_files(folder), *graphs))
        (folder / MANIFEST_NAME).write_text(manifest.to_json(), encoding="utf-8")
    return manifest


def _grade(
    model: TieredEncoder,
    settings: ExportSettings,
    texts: Sequence[str],
    tokenizer: Tokenizer,
    folder: Path,
    progress: Progress,
) -> Passport:
    """Grade every graph against the torch encoder, on texts spread over all that were given."""
    chosen = [texts[i] for i in np.linspace(0, len(texts) - 1, min(PARITY_TEXTS, len(texts))).astype(int)]
    yardstick = Yardstick(chosen, encode_tiers(model, chosen, progress=progress), tokenizer, settings.pairs)
    jobs = [(tier, e, p) for p in settings.precisions for e in settings.engines for tier in model.ladder]
    grades: list[Grade] = []
    for done, (tier, engine, precision) in enumerate(jobs):
        progress("verify", done, len(jobs))
        grades.append(grade_graph(folder, tier, engine, precision, yardstick))
    progress("verify", len(jobs), len(jobs))
    pairs = settings.pairs
    return Passport(
        grades=tuple(grades),
        gates=settings.gates,
        cross={} if pairs is None else cross(encode_tiers(model, [*pairs.first, *pairs.second]), pairs),
        scored_on=None if pairs is None else pairs.name,
    )


def _write_canaries(model: TieredEncoder, path: Path) -> None:
    """Fixed texts with their float vectors, by which anyone can later see that a device computes the right thing."""
    vectors = {name: rows.round(6).tolist() for name, rows in encode_tiers(model, _CANARIES).items()}
    content = {"texts": _CANARIES, "vectors": vectors}
    path.write_text(json.dumps(content, indent=None, ensure_ascii=False) + "\n", encoding="utf-8")


def _describe(model: TieredEncoder, origin: Origin, passport: Passport) -> Manifest:
    return Manifest(
        name=f"{Path(origin.base_model).name}-{len(model.ladder)}-tiers",
        base_model=Path(origin.base_model).name,
        space=space_of(model),
        head=model.head,
        pooling=model.encoder.settings.pooling,
        max_tokens=model.encoder.settings.max_tokens,
        ladder=model.ladder,
        files=(),
        passport=passport,
        versions={library: version(library) for library in _LIBRARIES},
    )


def _write_graphs(compiler: Compiler, ladder: Ladder, settings: ExportSettings, folder: Path) -> tuple[BundleFile, ...]:
    """Write every graph and weights file; returns their entries in the manifest."""
    entries = []
    for precision in settings.precisions:
        for engine in settings.engines:
            reads = compiler.write(engine, precision, folder / place(engine, precision))
            weights = _entry(folder, weights_path(engine, precision), "weights")
            entries.append(dataclasses.replace(weights, engine=engine, precision=precision))
            for tier in ladder:
                graph = _entry(folder, graph_path(tier, engine, precision), "graph")
                graph = dataclasses.replace(graph, tier=tier.name, engine=engine, precision=precision)
                entries.append(dataclasses.replace(graph, reads_bytes=reads[tier.name]))
    return tuple(entries)


def _single_files(folder: Path) -> tuple[BundleFile, ...]:
    return (
        _entry(folder, TOKENIZER_NAME, "tokenizer"),
        _entry(folder, CANARIES_NAME, "canaries"),
        _entry(folder, CARD_NAME, "card"),
    )


def _held_out(texts: Sequence[str], calibration: Sequence[str]) -> list[str]:
    """The texts that int8 was not calibrated on; all of them if that leaves too few to tell anything."""
    used = set(calibration)
    rest = [text for text in texts if text not in used]
    return rest if len(rest) >= LEAST_TEXTS else list(texts)


def _entry(folder: Path, name: str, role: Role) -> BundleFile:
    path = folder / name
    return BundleFile(name, role, sha256_of(path), path.stat().st_size)
