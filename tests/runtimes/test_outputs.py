"""Vectors in smaller types, and back."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from edge_embed_runtimes.errors import VectorError
from edge_embed_runtimes.index.outputs import DTYPES, convert, find_ranges, numpy_type, restore, unit_length, width_of

ROWS = unit_length(np.random.default_rng(5).standard_normal((50, 20)).astype(np.float32))


@pytest.mark.parametrize(("dtype", "least"), [("float32", 1 - 1e-6), ("float16", 0.999999), ("int8", 0.9998)])
def test_little_is_lost(dtype, least):
    ranges = find_ranges(ROWS)
    kept = convert(ROWS, dtype, ranges)
    assert (kept.dtype, kept.shape) == (numpy_type(dtype), (50, width_of(dtype, 20)))
    again = restore(kept, dtype, 20, ranges)
    assert again.dtype == np.float32
    assert np.linalg.norm(again, axis=1) == pytest.approx(1, abs=1e-5)
    assert (again * ROWS).sum(1).min() > least


def test_bits_are_signs_eight_to_a_byte():
    assert convert(np.array([[1, -1, 0, 2, -3, 1, 1, -1, 5]], dtype=np.float32), "bits").tolist() == [[0b10010110, 128]]
    bits = convert(ROWS, "bits")
    assert bits.shape == (50, 3) and width_of("bits", 20) == 3
    assert (np.sign(restore(bits, "bits", 20)) == np.sign(ROWS)).all()


def test_one_vector_alone_converts_as_among_others():
    ranges = find_ranges(ROWS)
    together = convert(ROWS, "int8", ranges)
    assert (together == np.concatenate([convert(row[None], "int8", ranges) for row in ROWS])).all()
    assert together.max() == 127


@settings(deadline=None, max_examples=100)
@given(arrays(np.float32, (3, 4), elements=st.floats(-8, 8, width=32)), st.floats(0.015625, 4, width=32))
def test_int8_is_as_near_as_half_a_step_within_its_ranges(rows, largest):
    ranges = np.full(4, largest, dtype=np.float32)
    again = convert(rows, "int8", ranges) * (ranges / 127)
    assert np.abs(again - rows.clip(-largest, largest)).max() <= largest / 254 * 1.001


def test_a_row_of_zeros_stays_one():
    none = np.zeros((1, 4), dtype=np.float32)
    assert (unit_length(none) == none).all()
    assert (find_ranges(none) == 1).all()
    assert find_ranges(np.empty((0, 4), dtype=np.float32)).shape == (4,)


@pytest.mark.parametrize(
    ("dtype", "ranges", "says"),
    [
        ("int4", None, "'int4' is unknown: allowed are float32, float16, int8, bits"),
        ("int8", None, "needs a range for each dimension"),
        ("int8", np.ones(3, dtype=np.float32), "20 dimensions needs that many"),
        ("int8", np.zeros(20, dtype=np.float32), "numbers above 0"),
    ],
)
def test_what_can_not_be_is_refused(dtype, ranges, says):
    with pytest.raises(VectorError, match=says):
        convert(ROWS, dtype, ranges)
    with pytest.raises(VectorError, match=says):
        restore(ROWS, dtype, 20, ranges)


def test_every_type_has_a_numpy_type():
    assert [numpy_type(dtype).name for dtype in DTYPES] == ["float32", "float16", "int8", "uint8"]
