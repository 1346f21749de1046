"""One weights file for all tiers: each tensor once, large ones 4 KiB aligned, those of shallow layers first."""

import hashlib
import re
import xml.etree.ElementTree as ET
from collections.abc import Sequence
from pathlib import Path
from typing import BinaryIO

import onnx_ir as ir

from edge_embed_export.graph import cut, cut_step
from edge_embed_export.layout import GRAPH_SUFFIX, WEIGHTS_NAME, graph_name
from edge_embed_runtimes.tiers import Ladder

PAGE = 4096
_LINE = 64
_INLINE_BYTES = 1024
_MADE_NAME = re.compile(r"(?P<kind>[A-Z][A-Za-z0-9]*)_\d+")


class SharedWeights:
    """A weights file being written; the same bytes are stored once.

    What fills a page begins on one, so that it can be mapped; smaller tensors stand close together.

    Args:
        file: open for writing in binary, empty.
    """

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._places: dict[bytes, int] = {}

    def place(self, content: bytes) -> int:
        """The offset of these bytes in the file; written now if they are new."""
        key = hashlib.sha256(content).digest()
        if key not in self._places:
            self._file.write(b"\0" * (-self._file.tell() % (PAGE if len(content) >= PAGE else _LINE)))
            self._places[key] = self._file.tell()
            self._file.write(content)
        return self._places[key]


def write_onnx(model: ir.Model, ladder: Ladder, folder: Path) -> dict[str, int]:
    """Write one `.onnx` for each tier of a ladder's graph, one for each step to it, and the weights file they share.

    Returns:
        Name of a graph's file to how many bytes of the weights file it reads.
    """
    folder.mkdir()
    with (folder / WEIGHTS_NAME).open("wb") as file:
        weights = SharedWeights(file)
        graphs = {tier.name: cut(model, tier) for tier in ladder}
        graphs |= {graph_name(tier, "step"): cut_step(model, ladder, tier) for tier in ladder}
        reads = {
            name: sum(_point_into(value, weights, folder) for value in one.graph.initializers.values())
            for name, one in graphs.items()
        }
    for name, one in graphs.items():
        ir.save(one, folder / f"{name}{GRAPH_SUFFIX['onnx']}")
    return reads


def write_openvino(xml_files: Sequence[Path], folder: Path) -> dict[str, int]:
    """Copy OpenVINO models, the smallest first, with their weights merged into the file they share.

    Names that OpenVINO made up count what the process has made so far; here they count the layers of the graph.

    Returns:
        Name of a graph's file to how many bytes of the weights file it reads.
    """
    folder.mkdir()
    reads: dict[str, int] = {}
    with (folder / WEIGHTS_NAME).open("wb") as file:
        weights = SharedWeights(file)
        for path in xml_files:
            content = path.with_suffix(".bin").read_bytes()
            reads[path.stem] = len(content)
            tree = ET.parse(path, ET.XMLParser(target=_Compact()))
            for data in tree.iterfind("./layers/layer[@type='Const']/data"):
                offset, size = int(data.attrib["offset"]), int(data.attrib["size"])
                data.set("offset", str(weights.place(content[offset : offset + size])))
            for layer in tree.iterfind("./layers/layer"):
                if made := _MADE_NAME.fullmatch(layer.attrib["name"]):
                    layer.set("name", f"{made['kind']}_{layer.attrib['id']}")
            tree.write(folder / path.name)
    return reads


class _Compact(ET.TreeBuilder):
    """Leaves out the white space between tags, a fifth of OpenVINO's files."""

    def data(self, data: str) -> None:
        if data.strip():
            super().data(data)


def _point_into(value: ir.Value, weights: SharedWeights, folder: Path) -> int:
    tensor = value.const_value
    if tensor is None or tensor.nbytes < _INLINE_BYTES:  # shapes and scalars: graph optimizers want them at hand
        return 0
    value.const_value = ir.ExternalTensor(
        location=WEIGHTS_NAME,
        offset=weights.place(tensor.tobytes()),
        length=tensor.nbytes,
        dtype=tensor.dtype,
        shape=ir.Shape(tensor.shape.numpy()),
        name=value.name or "",
        base_dir=folder,
    )
    return int(tensor.nbytes)
