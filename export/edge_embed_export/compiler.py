"""From a tiered encoder to the graphs of each engine and precision."""

import itertools
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Literal, assert_never

import onnx_ir as ir
import openvino

from edge_embed.model.tiered import TieredEncoder
from edge_embed_export import openvino as to_openvino
from edge_embed_export.attention import find_attentions
from edge_embed_export.calibrate import ChannelRange, observe
from edge_embed_export.condition import condition
from edge_embed_export.fuse import fuse
from edge_embed_export.graph import export_ladder, save
from edge_embed_export.halve import halve
from edge_embed_export.quantize import quantize, quantize_tables
from edge_embed_export.sensitivity import rank
from edge_embed_export.share import write_onnx, write_openvino
from edge_embed_export.tune import find_roundings, tune
from edge_embed_runtimes.manifest import Engine, Precision
from edge_embed_runtimes.progress import Progress
from edge_embed_runtimes.tokenizer import Batch

Form = Literal["static", "dynamic"]
"""How activations are quantized: by ranges that calibration fixed, or each by its own values."""


@dataclass(frozen=True, slots=True)
class Int8:
    """A way to quantize, and the products that stay in float."""

    form: Form = "static"
    keep: tuple[str, ...] = ()

    def __str__(self) -> str:
        return f"{self.form}, {len(self.keep)} products in float"


STATIC = Int8()
_BEFORE_DYNAMIC = 2
"""OpenVINO's own quantization while it runs takes 1.6 times as long; so few products in float take less. ONNX Runtime's
is no way at all: it takes one range for a whole batch."""


class Compiler:
    """Traces a model once, conditions it once for each engine's int8, and writes it for any engine.

    Args:
        model: loaded with eager attention.
        batches: what int8 is calibrated on.
        scratch: an empty folder for passing things.
        progress: told after each stage.
        tune_on: what the weights behind int8 are trained on, for int8; none leaves them as they are.
    """

    def __init__(
        self,
        model: TieredEncoder,
        batches: Sequence[Batch],
        scratch: Path,
        progress: Progress,
        *,
        tune_on: Sequence[Batch] = (),
    ) -> None:
        self._ladder = model.ladder
        self._heads = int(model.encoder.backbone.config.num_attention_heads)
        self._batches = batches
        self._scratch = scratch
        self._progress = progress
        progress("trace", 0, 1)
        self.plain = export_ladder(model)
        self._conditioned: dict[tuple[Engine, Int8], ir.Model] = {}
        progress("trace", 1, 1)
        self._for_int8 = self._tuned(model, tune_on) if tune_on else self.plain

    def write(self, engine: Engine, precision: Precision, target: Path, how: Int8 = STATIC) -> dict[str, int]:
        """Write a graph for each tier, and their weights file, into the new folder `target`.

        Args:
            how: of precision int8.

        Returns:
            Tier name to how many bytes of the weights file its graph reads.
        """
        self._progress(f"compile {target.name}", 0, 1)
        match engine:
            case "onnx":
                graph = fuse(self._for_onnx(precision, how), self._heads)
                reads = write_onnx(graph, self._ladder, target)
            case "openvino":
                reads = self._write_openvino(precision, target, how)
            case _:
                assert_never(engine)
        self._progress(f"compile {target.name}", 1, 1)
        return reads

    def ways(self, engine: Engine, hardest: Callable[[], Sequence[Batch]]) -> Iterator[Int8]:
        """The ways to int8, the fastest first; the last one leaves every product in float.

        Args:
            hardest: gives the texts that the first way served worst; called when the next way is asked for.
        """
        yield STATIC
        graph = self._condition(engine, STATIC)
        ranked = rank(graph, self._ranges(graph), hardest(), self._scratch, self._progress)
        count = 1
        while count < len(ranked):
            yield Int8(keep=tuple(itertools.chain(*ranked[:count])))
            if engine == "openvino" and count == _BEFORE_DYNAMIC:
                yield Int8("dynamic")
            count *= 2
        yield Int8(keep=tuple(itertools.chain(*ranked)))

    def _for_onnx(self, precision: Precision, how: Int8) -> ir.Model:
        match precision:
            case "fp32":
                return self.plain
            case "fp16":
                return halve(self.plain)
            case "int8":
                graph = self._condition("onnx", how)
                return quantize(graph, self._ranges(graph), how.keep)

    def _write_openvino(self, precision: Precision, target: Path, how: Int8) -> dict[str, int]:
        model = self._openvino_int8(how) if precision == "int8" else self._to_openvino(self.plain)
        separate = self._scratch / target.name
        shutil.rmtree(separate, ignore_errors=True)
        separate.mkdir()
        paths = to_openvino.write_tiers(model, self._ladder, separate, half=precision == "fp16")
        return write_openvino(paths, target)

    def _openvino_int8(self, how: Int8) -> openvino.Model:
        match how.form:
            case "static":
                model = self._to_openvino(quantize_tables(self._condition("openvino", how)))
                return to_openvino.quantize(model, self._batches, self._kept_by_nncf(how))
            case "dynamic":
                return to_openvino.compress(self._to_openvino(quantize_tables(self._for_int8)))

    def _to_openvino(self, graph: ir.Model) -> openvino.Model:
        return to_openvino.read(save(graph, self._scratch / "openvino.onnx"))

    def _condition(self, engine: Engine, how: Int8) -> ir.Model:
        """The graph that is ready to be quantized for an engine in some way."""
        if (engine, how) not in self._conditioned:
            ready = condition(self._for_int8, self._ranges_for_int8, mixed=engine == "openvino", keep=how.keep)
            self._conditioned = {(engine, how): ready}  # the last one: earlier ways were not near enough
        return self._conditioned[engine, how]

    def _kept_by_nncf(self, how: Int8) -> list[str]:
        """The products that NNCF is to leave alone: with the first of ours, those inside attention too."""
        inside = [node.name or "" for one in find_attentions(self.plain.graph) for node in (one.scores, one.mixed)]
        return [*how.keep, *(inside if how.keep else ())]

    @cached_property
    def _ranges_for_int8(self) -> Mapping[str, ChannelRange]:
        return self._ranges(self._for_int8)

    def _tuned(self, model: TieredEncoder, batches: Sequence[Batch]) -> ir.Model:
        """The float graph of a copy of the model that is trained for what int8 does to it."""
        before = self._ranges(self.plain)
        ready = condition(self.plain, before)
        roundings = find_roundings(self.plain, ready, before, self._ranges(ready))
        return export_ladder(tune(model, roundings, batches, self._progress))

    def _ranges(self, graph: ir.Model) -> Mapping[str, ChannelRange]:
        return observe(graph, self._batches, self._scratch, self._progress)
