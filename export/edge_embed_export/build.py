"""The whole road from a checkpoint to a bundle; nothing appears at its place before everything has passed."""

import dataclasses
import json
import logging
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edge_embed.data.lines import read_lines
from edge_embed.evaluate.evaluation import Sets, evaluate
from edge_embed.evaluate.models import CheckpointModel
from edge_embed.model.checkpoint import Origin, load_checkpoint, space_of
from edge_embed.model.tiered import TieredEncoder, encode_tiers
from edge_embed_export.calibrate import LEAST_TEXTS, calibration_texts
from edge_embed_export.card import write_card
from edge_embed_export.compiler import STATIC, Compiler, Int8
from edge_embed_export.layout import CANARIES_NAME, CARD_NAME, TOKENIZER_NAME, graph_path, place, weights_path
from edge_embed_export.operations import count_operations
from edge_embed_export.reshape import reshape_ladder
from edge_embed_export.tune import BATCH_TOKENS, STEPS
from edge_embed_export.verify import (
    PARITY_TEXTS,
    Scores,
    Yardstick,
    grade_graph,
    main_scores,
    mean_cross,
    missed_gates,
)
from edge_embed_runtimes.bundle import sha256_of
from edge_embed_runtimes.errors import DataError, EngineError, GateMissed, RecipeError
from edge_embed_runtimes.files import check_target, writing_folder
from edge_embed_runtimes.manifest import (
    ENGINES,
    MANIFEST_NAME,
    PRECISIONS,
    BundleFile,
    Calibration,
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
from edge_embed_runtimes.tokenizer import Batch

log = logging.getLogger("edge_embed")

_CANARIES = (
    "A bicycle leans on the wall.",
    "How long does it take to boil an egg?",
    "The ferry leaves at 7:40, not at 8:15.",
    "ok",
)
_HARDEST = 64
_LIBRARIES = ("edge-embed", "torch", "transformers", "onnx", "onnxruntime", "openvino", "nncf")


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
        LadderError: other tiers than the checkpoint can give.
        DataError: calibration texts are missing or too few.
        GateMissed: a graph misses a gate, and that is not allowed.
        OutputError: something stands at `output` and `replace` is off, it can't be written, or the disk is full.

    Warns:
        UntrainedTier: a tier that the checkpoint was not trained for.
    """
    check_target(output, replace=replace)
    model, origin = load_checkpoint(checkpoint, attention="eager")
    untrained = reshape_ladder(model, settings.ladder) if settings.ladder else ()
    texts = list(dict.fromkeys(text for path in settings.calibrate for text in read_lines(path)))
    calibration = calibration_texts(texts)
    batches = list(model.encoder.tokenizer().batches(calibration))
    with (
        writing_folder(output, replace=replace) as folder,
        tempfile.TemporaryDirectory(prefix=".scratch.", dir=folder) as scratch,
    ):
        tune_on = model.encoder.tokenizer().batches(calibration, batch_tokens=BATCH_TOKENS) if settings.tune else ()
        compiler = Compiler(model, batches, Path(scratch), progress, tune_on=tuple(tune_on))
        exact = _measure_float(model, _held_out(texts, calibration), settings.sets, progress)
        assembly = _Assembly(model.ladder, settings, compiler, exact, folder, progress)
        for precision in settings.precisions:
            for engine in settings.engines:
                assembly.add(engine, precision)
        passport = dataclasses.replace(
            assembly.passport(),
            calibration=_describe_calibration(settings, batches),
            operations=count_operations(compiler.plain, model.ladder),
            untrained=untrained,
        )
        if passport.missed and not settings.allow_below_gate:
            raise GateMissed(_refusal(passport.missed))
        (folder / TOKENIZER_NAME).write_text(model.encoder.tokenizer_json, encoding="utf-8")
        _write_canaries(model, folder / CANARIES_NAME)
        manifest = _describe(model, origin, passport, assembly.files)
        write_card(folder / CARD_NAME, manifest, origin)
        manifest = dataclasses.replace(manifest, files=(*_single_files(folder), *assembly.files))
        (folder / MANIFEST_NAME).write_text(manifest.to_json(), encoding="utf-8")  # the last: without it nothing opens
    return manifest


@dataclass(frozen=True, slots=True)
class _Exact:
    """What the torch encoder gives in float: the vectors to compare with, and the scores."""

    yardstick: Yardstick
    reference: Scores
    cross: dict[str, dict[str, float]]


def _measure_float(model: TieredEncoder, texts: Sequence[str], sets: Sets | None, progress: Progress) -> _Exact:
    """The float vectors of texts spread over all of these, and the float scores."""
    chosen = [texts[i] for i in np.linspace(0, len(texts) - 1, min(PARITY_TEXTS, len(texts))).astype(int)]
    expected = encode_tiers(model, chosen, progress=progress)
    yardstick = Yardstick(chosen, expected, model.encoder.tokenizer(), sets)
    if sets is None:
        return _Exact(yardstick, {}, {})
    crossed = bool(sets.sts or sets.retrieval)
    found = evaluate(CheckpointModel(model), sets, name="float", cross=crossed, progress=progress)
    return _Exact(yardstick, main_scores(found), mean_cross(found))


@dataclass(frozen=True, slots=True)
class _Attempt:
    """The graphs of one engine and precision, compiled in some way, and what they reach.

    Attributes:
        hardest: the places of the texts whose vectors lie farthest from float at some tier.
    """

    how: Int8
    reads: Mapping[str, int]
    grades: tuple[Grade, ...]
    missed: Sequence[str]
    hardest: Sequence[int]


class _Assembly:
    """Writes and grades graphs, an engine and precision at a time."""

    def __init__(
        self,
        ladder: Ladder,
        settings: ExportSettings,
        compiler: Compiler,
        exact: _Exact,
        folder: Path,
        progress: Progress,
    ) -> None:
        self._ladder = ladder
        self._settings = settings
        self._compiler = compiler
        self._exact = exact
        self._folder = folder
        self._progress = progress
        self._grades: list[Grade] = []
        self._ways: dict[str, Int8] = {}
        self.files: list[BundleFile] = []

    def add(self, engine: Engine, precision: Precision) -> None:
        """Write the graphs of one engine and precision."""
        made = self._best_int8(engine) if precision == "int8" else self._attempt(engine, precision, STATIC)
        self._grades += made.grades
        self._ways |= {place(engine, precision): made.how} if precision == "int8" else {}
        self.files += self._entries(engine, precision, made.reads)

    def _best_int8(self, engine: Engine) -> _Attempt:
        """The fastest way that passes; where none does, the one that misses fewest gates."""
        attempts = list[_Attempt]()
        for how in self._compiler.ways(engine, hardest=lambda: self._exact.yardstick.batches(attempts[0].hardest)):
            attempts.append(self._attempt(engine, "int8", how))
            missed = attempts[-1].missed
            if not missed:
                return attempts[-1]
            log.warning("%s, %s: %d gates missed, such as %s", place(engine, "int8"), how, len(missed), missed[0])
        nearest = min(attempts, key=lambda attempt: len(attempt.missed))
        return nearest if nearest is attempts[-1] else self._attempt(engine, "int8", nearest.how)

    def _attempt(self, engine: Engine, precision: Precision, how: Int8) -> _Attempt:
        """Write the graphs in the place of an earlier attempt, and grade them."""
        target = self._folder / place(engine, precision)
        shutil.rmtree(target, ignore_errors=True)
        reads = self._compiler.write(engine, precision, target, how)
        grades, cosines = self._grade(engine, precision)
        hardest = np.argsort(np.min(cosines, axis=0), kind="stable")[:_HARDEST].tolist()
        each_alone = dataclasses.replace(self._settings.gates, monotone=False)
        return _Attempt(how, reads, grades, missed_gates(grades, self._exact.reference, each_alone), hardest)

    def passport(self) -> Passport:
        """All that was found."""
        return Passport(
            grades=tuple(self._grades),
            gates=self._settings.gates,
            missed=tuple(missed_gates(self._grades, self._exact.reference, self._settings.gates)),
            reference=self._exact.reference,
            cross=self._exact.cross,
            kept_float={folder: how.keep for folder, how in self._ways.items()},
            compiled={folder: how.form for folder, how in self._ways.items()},
        )

    def _grade(self, engine: Engine, precision: Precision) -> tuple[tuple[Grade, ...], list[NDArray[np.float32]]]:
        stage, tiers, found = f"verify {place(engine, precision)}", self._ladder.tiers, []
        for done, tier in enumerate(tiers):
            self._progress(stage, done, len(tiers))
            found.append(grade_graph(self._folder, tier, engine, precision, self._exact.yardstick))
        self._progress(stage, len(tiers), len(tiers))
        return tuple(grade for grade, _ in found), [cosines for _, cosines in found]

    def _entries(self, engine: Engine, precision: Precision, reads: Mapping[str, int]) -> list[BundleFile]:
        """The manifest's entries for the graphs and the weights of one engine and precision."""
        weights = _entry(self._folder, weights_path(engine, precision), "weights")
        entries = [dataclasses.replace(weights, engine=engine, precision=precision)]
        for tier in self._ladder:
            graph = _entry(self._folder, graph_path(tier, engine, precision), "graph")
            graph = dataclasses.replace(graph, tier=tier.name, engine=engine, precision=precision)
            entries.append(dataclasses.replace(graph, reads_bytes=reads[tier.name]))
        return entries


def _refusal(missed: Sequence[str]) -> str:
    advice = (
        "nothing was written; calibrate with texts nearer to yours, lower the gate, or pass --allow-below-gate, "
        "which writes the bundle and marks it"
    )
    return "\n".join([f"{len(missed)} gates were missed:", *(f"  {line}" for line in missed), advice])


def _describe_calibration(settings: ExportSettings, batches: Sequence[Batch]) -> Calibration:
    return Calibration(
        texts=sum(len(batch.rows) for batch in batches),
        tokens=sum(int(batch.attention_mask.sum()) for batch in batches),
        files={sha256_of(path): path.name for path in settings.calibrate},
        tuned_steps=STEPS if settings.tune else 0,
    )


def _write_canaries(model: TieredEncoder, path: Path) -> None:
    """Fixed texts with their float vectors, by which anyone can later see that a device computes the right thing."""
    vectors = {name: rows.round(6).tolist() for name, rows in encode_tiers(model, _CANARIES).items()}
    content = {"texts": _CANARIES, "vectors": vectors}
    path.write_text(json.dumps(content, indent=None, ensure_ascii=False) + "\n", encoding="utf-8")


def _describe(model: TieredEncoder, origin: Origin, passport: Passport, files: Sequence[BundleFile]) -> Manifest:
    return Manifest(
        name=f"{Path(origin.base_model).name}-{len(model.ladder)}-tiers",
        base_model=Path(origin.base_model).name,
        space=space_of(model),
        head=model.head,
        pooling=model.encoder.settings.pooling,
        max_tokens=model.encoder.settings.max_tokens,
        ladder=model.ladder,
        files=tuple(files),
        passport=passport,
        versions={library: version(library) for library in _LIBRARIES},
    )


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
