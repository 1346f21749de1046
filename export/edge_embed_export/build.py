"""The whole road from a checkpoint to a bundle; nothing appears at its place before everything has passed."""

import dataclasses
import json
import tempfile
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path

from edge_embed.data.lines import read_lines
from edge_embed.model.checkpoint import Origin, load_checkpoint, space_of
from edge_embed.model.tiered import TieredEncoder, encode_tiers
from edge_embed_export.assembly import Assembly, file_entry, measure_float
from edge_embed_export.calibrate import LEAST_TEXTS, calibration_texts
from edge_embed_export.card import write_card
from edge_embed_export.compiler import Compiler
from edge_embed_export.layout import CANARIES_NAME, CARD_NAME, TOKENIZER_NAME
from edge_embed_export.operations import count_operations
from edge_embed_export.reshape import reshape_ladder
from edge_embed_export.settings import ExportSettings
from edge_embed_export.tune import BATCH_TOKENS, STEPS
from edge_embed_runtimes.bundle import sha256_of
from edge_embed_runtimes.errors import GateMissed
from edge_embed_runtimes.files import check_target, writing_folder
from edge_embed_runtimes.manifest import MANIFEST_NAME, BundleFile, Calibration, Manifest, Passport
from edge_embed_runtimes.progress import Progress, silent
from edge_embed_runtimes.tokenizer import Batch

_CANARIES = (
    "A bicycle leans on the wall.",
    "How long does it take to boil an egg?",
    "The ferry leaves at 7:40, not at 8:15.",
    "ok",
)
_LIBRARIES = ("edge-embed", "torch", "transformers", "onnx", "onnxruntime", "openvino", "nncf")


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
        exact = measure_float(model, _held_out(texts, calibration), settings.sets, progress)
        assembly = Assembly(model.ladder, settings, compiler, exact, folder, progress)
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
        described = _describe(model, origin, passport, exact.ranges, settings.name)
        manifest = dataclasses.replace(described, files=tuple(assembly.files))
        write_card(folder / CARD_NAME, manifest, origin, notes=settings.notes)
        manifest = dataclasses.replace(described, files=(*_single_files(folder), *assembly.files))
        (folder / MANIFEST_NAME).write_text(manifest.to_json(), encoding="utf-8")  # the last: without it nothing opens
    return manifest


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


def _describe(
    model: TieredEncoder, origin: Origin, passport: Passport, ranges: dict[str, tuple[float, ...]], name: str | None
) -> Manifest:
    return Manifest(
        name=name or f"{Path(origin.base_model).name}-{len(model.ladder)}-tiers",
        base_model=Path(origin.base_model).name,
        space=space_of(model),
        head=model.head,
        pooling=model.encoder.settings.pooling,
        max_tokens=model.encoder.settings.max_tokens,
        ladder=model.ladder,
        files=(),
        passport=passport,
        ranges=ranges,
        versions={library: version(library) for library in _LIBRARIES},
    )


def _single_files(folder: Path) -> tuple[BundleFile, ...]:
    return (
        file_entry(folder, TOKENIZER_NAME, "tokenizer"),
        file_entry(folder, CANARIES_NAME, "canaries"),
        file_entry(folder, CARD_NAME, "card"),
    )


def _held_out(texts: Sequence[str], calibration: Sequence[str]) -> list[str]:
    """The texts that int8 was not calibrated on; all of them if that leaves too few to tell anything."""
    used = set(calibration)
    rest = [text for text in texts if text not in used]
    return rest if len(rest) >= LEAST_TEXTS else list(texts)
