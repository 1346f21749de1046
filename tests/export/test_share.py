"""One weights file for all tiers: what stands where in the tiny bundle, and the writer by itself."""

import io
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_embed_export.share import PAGE, SharedWeights, write_onnx, write_openvino
from edge_embed_runtimes.bundle import Bundle
from edge_embed_runtimes.engines import open_session
from edge_embed_runtimes.tiers import parse_ladder
from edge_embed_runtimes.tokenizer import Tokenizer

KINDS = [(engine, precision) for engine in ("onnx", "openvino") for precision in ("int8", "fp32")]
LINE = 64
INLINE = 1024
SUFFIX = {"onnx": ".onnx", "openvino": ".xml"}


@settings(deadline=None)
@given(st.lists(st.tuples(st.integers(0, 3), st.sampled_from([1, 63, 64, 100, 4095, 4096, 5000])), max_size=20))
def test_the_same_bytes_stand_in_the_file_once(wanted):
    file = io.BytesIO()
    weights = SharedWeights(file)
    placed = {}
    for value, size in wanted:
        offset = weights.place(bytes([value]) * size)
        assert placed.setdefault((value, size), offset) == offset
        assert offset % (PAGE if size >= PAGE else LINE) == 0
    content = file.getvalue()
    for (value, size), offset in placed.items():
        assert content[offset : offset + size] == bytes([value]) * size
    places = sorted((offset, offset + size) for (_, size), offset in placed.items())
    assert all(end <= start for (_, end), (start, _) in pairwise(places))
    assert len(content) == max((end for _, end in places), default=0)


Place = tuple[int, int]
"""Offset and size."""


def onnx_places(path: Path) -> Iterator[Place]:
    for tensor in onnx.load(path, load_external_data=False).graph.initializer:
        entries = {entry.key: entry.value for entry in tensor.external_data}
        if entries:
            assert entries["location"] == "weights.bin"
            yield int(entries["offset"]), int(entries["length"])
        else:
            assert len(tensor.raw_data) < INLINE


def openvino_places(path: Path) -> Iterator[Place]:
    for data in ET.parse(path).iterfind("./layers/layer[@type='Const']/data"):
        yield int(data.attrib["offset"]), int(data.attrib["size"])


class Written:
    """One engine and precision of the tiny bundle: its weights, and where each tier reads them."""

    def __init__(self, bundle: Path, engine: str, precision: str) -> None:
        self.engine, self.precision = engine, precision
        self.folder = bundle / f"{engine}-{precision}"
        self.content = (self.folder / "weights.bin").read_bytes()
        self.ladder = Bundle(bundle).manifest.ladder
        read = onnx_places if engine == "onnx" else openvino_places
        self.places = {tier.name: set(read(self.folder / f"{tier.name}{SUFFIX[engine]}")) for tier in self.ladder}
        self.all = set.union(*self.places.values())


@pytest.fixture(scope="module", params=KINDS, ids="-".join)
def written(request, tiny_bundle) -> Written:
    return Written(tiny_bundle, *request.param)


def test_each_tensor_is_stored_once(written):
    stored = [written.content[offset : offset + size] for offset, size in written.all]
    assert len(set(stored)) == len(stored)
    places = sorted((offset, offset + size) for offset, size in written.all)
    assert all(end <= start for (_, end), (start, _) in pairwise(places))


def test_every_tensor_is_inside_the_file(written):
    assert all(0 <= offset and size > 0 for offset, size in written.all)
    assert max(offset + size for offset, size in written.all) == len(written.content)


def test_large_tensors_begin_on_a_page_and_small_ones_on_a_cache_line(written):
    large = [offset for offset, size in written.all if size >= PAGE]
    assert large
    assert all(offset % PAGE == 0 for offset in large)
    assert all(offset % LINE == 0 for offset, _ in written.all)


def test_shallow_layers_come_first(written):
    seen: set[Place] = set()
    for tier in written.ladder:
        new = written.places[tier.name] - seen
        assert new
        assert min(offset for offset, _ in new) >= max((offset + size for offset, size in seen), default=0)
        seen |= new


def test_tiers_share_what_they_have_in_common(written):
    sizes = {name: sum(size for _, size in places) for name, places in written.places.items()}
    # the whole ladder takes hardly more than its largest tier: the smaller ones add their heads and ranges of int8
    assert sum(size for _, size in written.all) < 1.07 * sizes["tall"]
    assert len(written.content) < 0.8 * sum(sizes.values())
    demi, short, tall = (written.places[name] for name in ("demi", "short", "tall"))
    assert len(demi & tall) > 0.75 * len(demi)
    assert len(short & tall) > 0.75 * len(short)


def test_only_alignment_is_added(written):
    gaps = len(written.content) - sum(size for _, size in written.all)
    large = sum(size >= PAGE for _, size in written.all)
    assert gaps < PAGE * large + LINE * (len(written.all) - large)


def test_the_manifest_says_how_much_each_graph_reads(written, tiny_bundle):
    manifest = Bundle(tiny_bundle).manifest
    for tier in written.ladder:
        entry = manifest.graph(tier, written.engine, written.precision)
        assert entry.reads_bytes == sum(size for _, size in written.places[tier.name])


def test_there_are_real_files_only(written):
    names = {path.name for path in written.folder.iterdir()}
    graphs = {f"{tier.name}{kind}{SUFFIX[written.engine]}" for tier in written.ladder for kind in ("", ".step")}
    assert names == {"weights.bin", *graphs}
    for path in written.folder.iterdir():
        assert path.is_file()
        assert not path.is_symlink()
        assert path.stat().st_nlink == 1


TWO_TIERS = """
<ir_version: 10, opset_import: ["": 20]>
g (int64[batch, tokens] input_ids, int64[batch, tokens] attention_mask) => (float[batch, tokens, 32] demi,
                                                                         float[batch, tokens, 32] short)
{
    rows = Gather(table, input_ids)
    one = MatMul(rows, first)
    demi = Relu(one)
    two = MatMul(demi, same)
    three = MatMul(two, second)
    short = Add(three, bias)
}
"""


@pytest.fixture
def two_tiers() -> ir.Model:
    generator = np.random.default_rng(8)
    arrays = {
        name: generator.standard_normal(shape).astype(np.float32)
        for name, shape in {"table": (50, 32), "first": (32, 32), "second": (32, 32), "bias": (32,)}.items()
    }
    arrays["same"] = arrays["first"].copy()
    model = ir.from_onnx_text(TWO_TIERS, [ir.tensor(array, name=name) for name, array in arrays.items()])
    state = model.graph[1].outputs[0]
    state.name = "demi.state"  # the text form has no dots
    model.graph.outputs.append(state)
    return model


def test_write_onnx_stores_equal_tensors_of_other_names_once(two_tiers, tmp_path):
    folder = tmp_path / "graphs"
    ladder = parse_ladder("1x16,2x32")
    reads = write_onnx(two_tiers, ladder, folder)
    matrix, table = 32 * 32 * 4, 50 * 32 * 4
    assert reads["demi"] == table + matrix
    assert (folder / "weights.bin").stat().st_size < table + 2 * matrix + 2 * PAGE
    first, same = (
        {tensor.name: {entry.key: entry.value for entry in tensor.external_data} for tensor in graph.initializer}[name]
        for graph in [onnx.load(folder / "short.onnx", load_external_data=False).graph]
        for name in ("first", "same")
    )
    assert first["offset"] == same["offset"]
    loaded = ir.load(folder / "short.onnx").graph.initializers
    for name, value in two_tiers.graph.initializers.items():
        np.testing.assert_array_equal(loaded[name].const_value.numpy(), value.const_value.numpy())


@pytest.mark.parametrize("writer", [write_onnx, write_openvino])
def test_a_folder_that_exists_is_not_written_over(writer, two_tiers, tmp_path):
    arguments = (two_tiers, parse_ladder("1x16,2x32")) if writer is write_onnx else ([],)
    with pytest.raises(FileExistsError):
        writer(*arguments, tmp_path)


def test_openvinos_compact_files_compute_the_same(tiny_bundle, tmp_path):
    """Files merged once more, from one model with a `.bin` of its own, give equal vectors."""
    folder = tiny_bundle / "openvino-int8"
    (tmp_path / "tall.xml").write_bytes((folder / "tall.xml").read_bytes())
    (tmp_path / "tall.bin").write_bytes((folder / "weights.bin").read_bytes())
    size = len((folder / "weights.bin").read_bytes())
    assert write_openvino([tmp_path / "tall.xml"], tmp_path / "merged") == {"tall": size}
    (batch,) = Tokenizer.from_file(tiny_bundle / "tokenizer.json", max_tokens=64).batches(["a cat sees the house"])
    found = []
    for graph, weights in (
        (folder / "tall.xml", folder / "weights.bin"),
        (tmp_path / "merged" / "tall.xml", tmp_path / "merged" / "weights.bin"),
    ):
        session = open_session(graph, weights, "openvino")
        found.append(session.run(batch.input_ids, batch.attention_mask))
        session.close()
    np.testing.assert_array_equal(*found)
    # the other tiers' heads are not in it, but alignment may take as much
    assert (tmp_path / "merged" / "weights.bin").stat().st_size < size + 4096
