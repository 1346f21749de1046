"""From a tiered encoder to the graphs of each engine and precision."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import assert_never

import onnx_ir as ir

from edge_embed.model.tiered import TieredEncoder
from edge_embed_export import openvino as to_openvino
from edge_embed_export.calibrate import ChannelRange, observe
from edge_embed_export.condition import condition
from edge_embed_export.fuse import fuse
from edge_embed_export.graph import export_ladder, save
from edge_embed_export.quantize import quantize
from edge_embed_export.share import write_onnx, write_openvino
from edge_embed_runtimes.manifest import Engine, Precision
from edge_embed_runtimes.progress import Progress
from edge_embed_runtimes.tokenizer import Batch


class Compiler:
    """Traces a model once, conditions it once where int8 asks for it, and writes it for any engine.

    Args:
        model: loaded with eager attention.
        batches: what int8 is calibrated on.
        scratch: an empty folder for passing things.
        progress: told after each stage.
    """

    def __init__(self, model: TieredEncoder, batches: Sequence[Batch], scratch: Path, progress: Progress) -> None:
        self._ladder = model.ladder
        self._heads = int(model.encoder.backbone.config.num_attention_heads)
        self._batches = batches
        self._scratch = scratch
        self._progress = progress
        progress("trace", 0, 1)
        self._plain = export_ladder(model)
        self._conditioned: ir.Model | None = None
        progress("trace", 1, 1)

    def write(self, engine: Engine, precision: Precision, target: Path) -> dict[str, int]:
        """Write a graph for each tier, and their weights file, into the new folder `target`.

        Returns:
            Tier name to how many bytes of the weights file its graph reads.
        """
        self._progress(f"compile {target.name}", 0, 1)
        graph = self._float_graph(precision)
        match engine:
            case "onnx":
                reads = self._write_onnx(graph, precision, target)
            case "openvino":
                reads = self._write_openvino(graph, precision, target)
            case _:
                assert_never(engine)
        self._progress(f"compile {target.name}", 1, 1)
        return reads

    def _float_graph(self, precision: Precision) -> ir.Model:
        """The plain graph, or the one that is ready to be quantized."""
        if precision == "fp32":
            return self._plain
        if self._conditioned is None:
            self._conditioned = condition(self._plain, self._ranges(self._plain))
        return self._conditioned

    def _ranges(self, graph: ir.Model) -> Mapping[str, ChannelRange]:
        return observe(graph, self._batches, self._scratch, self._progress)

    def _write_onnx(self, graph: ir.Model, precision: Precision, target: Path) -> dict[str, int]:
        if precision == "int8":
            graph = quantize(graph, self._ranges(graph))
        return write_onnx(fuse(graph, self._heads), self._ladder, target)

    def _write_openvino(self, graph: ir.Model, precision: Precision, target: Path) -> dict[str, int]:
        model = to_openvino.read(save(graph, self._scratch / f"{target.name}.onnx"))
        if precision == "int8":
            model = to_openvino.quantize(model, self._batches)
        separate = self._scratch / target.name
        separate.mkdir()
        return write_openvino(to_openvino.write_tiers(model, self._ladder, separate), target)
