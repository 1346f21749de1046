"""Sets of vectors: their types, their files, cut down and raised."""

import json
import sys
import zlib

import numpy as np
import pytest

from edge_embed_runtimes.errors import ExtraMissing, OutputError, SpaceMismatch, VectorError
from edge_embed_runtimes.index.outputs import DTYPES, unit_length
from edge_embed_runtimes.index.vectors import VectorSet
from edge_embed_runtimes.tiers import parse_ladder

DEMI, SHORT, TALL = parse_ladder("1x8,2x16,3x32").tiers
TEXTS = [f"text {number}" for number in range(2500)]


def rows_of(texts, dim):
    """The same text always gets the same row; the first values of a longer row are those of a shorter one."""
    generators = [np.random.default_rng(zlib.crc32(text.encode())) for text in texts]
    rows = np.array([generator.standard_normal(32)[:dim] for generator in generators], dtype=np.float32)
    return unit_length(rows.reshape(len(texts), dim))


class FakeEncoder:
    space = "s1"

    def __init__(self, fail_after=None):
        self.encoded, self._fail_after = 0, fail_after

    def encode_documents(self, texts, *, tier=None):
        if self._fail_after is not None and self.encoded >= self._fail_after:
            raise KeyboardInterrupt
        self.encoded += len(texts)
        tier = tier or TALL
        return VectorSet(rows_of(texts, tier.dim), tier, self.space, tier.dim)


def vectors(tier=TALL, count=40, dtype="float32", space="s1"):
    return VectorSet(rows_of(TEXTS[:count], tier.dim), tier, space, tier.dim).to(dtype)


def same(one, other):
    return (
        (one.values == other.values).all()
        and (one.tier, one.space, one.dim, one.dtype) == (other.tier, other.space, other.dim, other.dtype)
        and (one.ranges is other.ranges is None or (one.ranges == other.ranges).all())
    )


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("suffix", [".npz", ".parquet"])
def test_a_file_gives_back_what_was_saved(tmp_path, dtype, suffix):
    before = vectors(dtype=dtype)
    path = tmp_path / f"index{suffix}"
    before.save(path, texts=TEXTS[:40])
    assert same(before, VectorSet.load(path))
    assert [file.name for file in tmp_path.iterdir()] == [path.name]


def test_parquet_holds_the_texts(tmp_path):
    import pyarrow.parquet

    vectors().save(tmp_path / "a.parquet", texts=TEXTS[:40])
    assert pyarrow.parquet.read_table(tmp_path / "a.parquet").column("text").to_pylist() == TEXTS[:40]


@pytest.mark.parametrize("dtype", DTYPES)
def test_shrinking_keeps_the_first_values(dtype):
    small = vectors(dtype=dtype).shrink(DEMI)
    assert (small.dim, small.tier, small.dtype, len(small)) == (8, TALL, dtype, 40)
    exact = unit_length(vectors().floats()[:, :8])
    least = {"bits": 0.5, "int8": 0.999}.get(dtype, 0.999999)
    assert (small.floats() * exact).sum(1).min() > least
    if dtype == "bits":
        assert (np.sign(small.floats()) == np.sign(exact)).all()


def test_shrinking_does_not_raise():
    with pytest.raises(VectorError, match="can't shrink to the 32 of tall 3x32: upgrade"):
        vectors(SHORT).shrink(TALL)


def test_similarity_compares_what_both_have():
    index, queries = vectors(TALL), vectors(DEMI, count=3)
    found = index.similarity(queries)
    assert found.shape == (3, 40) and found.dtype == np.float32
    expected = unit_length(queries.floats()) @ unit_length(index.floats()[:, :8]).T
    assert found == pytest.approx(expected, abs=1e-6)
    assert vectors(DEMI, count=3).similarity(index) == pytest.approx(expected.T, abs=1e-6)


def test_spaces_do_not_mix():
    with pytest.raises(SpaceMismatch, match="'s2' can't be compared with vectors of 's1'"):
        vectors().similarity(vectors(space="s2"))
    with pytest.raises(SpaceMismatch):
        vectors(space="s2").upgrade(FakeEncoder(), TEXTS[:40])


@pytest.mark.parametrize("dtype", DTYPES)
def test_upgrading_gives_the_larger_tiers_vectors(tmp_path, dtype):
    index = vectors(DEMI, dtype=dtype)
    in_memory = index.upgrade(FakeEncoder(), TEXTS[:40])
    assert same(in_memory, vectors(TALL, dtype=dtype))
    on_disk = index.upgrade(FakeEncoder(), TEXTS[:40], tier=SHORT, path=tmp_path / "index.npz")
    assert same(on_disk, vectors(SHORT, dtype=dtype))
    assert same(on_disk, VectorSet.load(tmp_path / "index.npz"))


def test_a_killed_upgrade_goes_on_and_the_old_file_stands_meanwhile(tmp_path):
    path = tmp_path / "index.npz"
    index = vectors(DEMI, count=2500)
    index.save(path)
    first, second = FakeEncoder(fail_after=1024), FakeEncoder()
    with pytest.raises(KeyboardInterrupt):
        index.upgrade(first, TEXTS, path=path)
    assert same(VectorSet.load(path), index)
    steps = []
    raised = index.upgrade(second, TEXTS, path=path, progress=lambda *step: steps.append(step))
    assert second.encoded == 2500 - 1024 and steps[0] == ("upgrade", 1024, 2500)
    assert same(raised, vectors(TALL, count=2500)) and same(raised, VectorSet.load(path))
    assert [file.name for file in tmp_path.iterdir() if not file.name.endswith(".lock")] == ["index.npz"]


def test_other_texts_are_other_work(tmp_path):
    path = tmp_path / "index.npz"
    index = vectors(DEMI, count=2500)
    with pytest.raises(KeyboardInterrupt):
        index.upgrade(FakeEncoder(fail_after=1024), TEXTS, path=path)
    again = FakeEncoder()
    index.upgrade(again, [*TEXTS[:-1], "another"], path=path)
    assert again.encoded == 2500


def test_every_text_must_be_there():
    with pytest.raises(VectorError, match="39 texts for 40 vectors"):
        vectors(DEMI).upgrade(FakeEncoder(), TEXTS[:39])


@pytest.mark.parametrize(
    "change",
    [
        {"dim": 16},
        {"dim": 33},
        {"dtype": "float16"},
        {"dtype": "bits"},
        {"dtype": "int8"},
        {"dtype": "int4"},
        {"ranges": np.ones(32, dtype=np.float32)},
        {"values": np.zeros(32, dtype=np.float32)},
    ],
)
def test_parts_must_fit(change):
    parts = {"values": rows_of(TEXTS[:4], 32), "tier": TALL, "space": "s1", "dim": 32}
    with pytest.raises(VectorError):
        VectorSet(**{**parts, **change})


@pytest.mark.parametrize("name", ["index.npy", "index", "index.csv"])
def test_unknown_endings(tmp_path, name):
    with pytest.raises(OutputError, match=r"allowed are \.npz, \.parquet"):
        vectors().save(tmp_path / name)
    with pytest.raises(VectorError, match=r"allowed are \.npz, \.parquet"):
        VectorSet.load(tmp_path / name)


def test_nothing_there(tmp_path):
    for name in ("none.npz", "none.parquet"):
        with pytest.raises(VectorError, match="no vectors at"):
            VectorSet.load(tmp_path / name)


def test_foreign_files_are_refused(tmp_path):
    import pyarrow
    import pyarrow.parquet

    (tmp_path / "text.npz").write_text("hello")
    (tmp_path / "text.parquet").write_text("hello")
    np.savez(tmp_path / "other.npz", values=np.zeros((2, 2)))
    np.savez(tmp_path / "pickled.npz", values=np.array([{}], dtype=object), ranges=np.zeros(0), origin=np.array("{}"))
    pyarrow.parquet.write_table(pyarrow.table({"vector": [[1.0]]}), tmp_path / "other.parquet")
    wrong = {"space": "s1", "tier": "demi", "layers": 0, "tier_dim": 8, "dim": 8, "dtype": "float32"}
    np.savez(tmp_path / "tier.npz", values=rows_of(["a"], 8), ranges=np.zeros(0), origin=np.array(json.dumps(wrong)))
    for path in tmp_path.iterdir():
        with pytest.raises(VectorError, match="holds no vectors of edge-embed"):
            VectorSet.load(path)


def test_a_truncated_file_is_refused(tmp_path):
    path = tmp_path / "index.npz"
    vectors().save(path)
    path.write_bytes(path.read_bytes()[:-200])
    with pytest.raises(VectorError, match="embed the texts again"):
        VectorSet.load(path)


def test_parquet_without_pyarrow_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(ExtraMissing, match=r"edge-embed\[parquet\]"):
        vectors().save(tmp_path / "a.parquet")
    assert list(tmp_path.iterdir()) == []
