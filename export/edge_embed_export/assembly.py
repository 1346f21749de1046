"""Write the graphs of a bundle and hold each against the float model; of int8, the fastest way that passes."""

import dataclasses
import logging
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edge_embed.evaluate.evaluation import Sets, evaluate
from edge_embed.evaluate.models import CheckpointModel
from edge_embed.model.tiered import TieredEncoder, encode_tiers
from edge_embed_export.compiler import STATIC, Compiler, Int8
from edge_embed_export.layout import graph_name, graph_path, place, weights_path
from edge_embed_export.outputs import Remembered, grade_outputs
from edge_embed_export.settings import ExportSettings
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
from edge_embed_runtimes.index.outputs import find_ranges
from edge_embed_runtimes.manifest import GRAPH_ROLES, BundleFile, Engine, Grade, OutputGrade, Passport, Precision, Role
from edge_embed_runtimes.progress import Progress
from edge_embed_runtimes.tiers import Ladder

log = logging.getLogger("edge_embed")

_HARDEST = 64


@dataclass(frozen=True, slots=True)
class Exact:
    """What the torch encoder gives in float: the vectors to compare with, the scores, and what smaller types keep."""

    yardstick: Yardstick
    reference: Scores
    cross: dict[str, dict[str, float]]
    ranges: dict[str, tuple[float, ...]]
    outputs: tuple[OutputGrade, ...]


def measure_float(model: TieredEncoder, texts: Sequence[str], sets: Sets | None, progress: Progress) -> Exact:
    """The float vectors of texts spread over all of these, and the float scores."""
    chosen = [texts[i] for i in np.linspace(0, len(texts) - 1, min(PARITY_TEXTS, len(texts))).astype(int)]
    expected = encode_tiers(model, chosen, progress=progress)
    yardstick = Yardstick(chosen, expected, model.encoder.tokenizer(), sets)
    ranges = {tier: find_ranges(rows) for tier, rows in expected.items()}
    known = Remembered(CheckpointModel(model))
    reference, cross = {}, {}
    if sets is not None:
        crossed = bool(sets.sts or sets.retrieval)
        found = evaluate(known, sets, name="float", cross=crossed, progress=progress)
        reference, cross = main_scores(found), mean_cross(found)
    listed = {tier: tuple(float(f"{value:.6g}") for value in values) for tier, values in ranges.items()}
    return Exact(yardstick, reference, cross, listed, grade_outputs(known, expected, ranges, reference, sets))


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


class Assembly:
    """Writes and grades graphs, an engine and precision at a time."""

    def __init__(
        self,
        ladder: Ladder,
        settings: ExportSettings,
        compiler: Compiler,
        exact: Exact,
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
            outputs=self._exact.outputs,
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
        """The manifest's entries for the weights, the graphs and the steps of one engine and precision."""
        weights = file_entry(self._folder, weights_path(engine, precision), "weights")
        entries = [dataclasses.replace(weights, engine=engine, precision=precision)]
        for tier in self._ladder:
            for role in GRAPH_ROLES:
                graph = file_entry(self._folder, graph_path(tier, engine, precision, role), role)
                graph = dataclasses.replace(graph, tier=tier.name, engine=engine, precision=precision)
                entries.append(dataclasses.replace(graph, reads_bytes=reads[graph_name(tier, role)]))
        return entries


def file_entry(folder: Path, name: str, role: Role) -> BundleFile:
    """The manifest's entry for a file of a bundle folder."""
    path = folder / name
    return BundleFile(name, role, sha256_of(path), path.stat().st_size)
