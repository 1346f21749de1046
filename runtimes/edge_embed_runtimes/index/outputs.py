"""The types that vectors are kept in: floats, bytes with a range for each dimension, and bits."""

from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from edge_embed_runtimes.errors import VectorError

Dtype = Literal["float32", "float16", "int8", "bits"]
DTYPES: tuple[Dtype, ...] = get_args(Dtype)
_STEPS = 127
Values = NDArray[np.float32] | NDArray[np.float16] | NDArray[np.int8] | NDArray[np.uint8]


def convert(vectors: NDArray[np.float32], dtype: Dtype, ranges: NDArray[np.float32] | None = None) -> Values:
    """Unit vectors (n, dim) in another type.

    Args:
        ranges: (dim,) float32, the largest value that int8 can hold in each dimension; larger ones are cut to it.

    Returns:
        (n, dim), or of bits (n, ceil(dim / 8)) uint8: one bit a value, set where it is above 0, the first one highest.

    Raises:
        VectorError: an unknown type, or int8 without ranges of the right length.
    """
    check_dtype(dtype)
    match dtype:
        case "float32":
            return vectors
        case "float16":
            return vectors.astype(np.float16)
        case "int8":
            scaled = vectors * (_STEPS / _checked(ranges, vectors.shape[1]))
            return np.rint(scaled).clip(-_STEPS, _STEPS).astype(np.int8)
        case "bits":
            return np.packbits(vectors > 0, axis=1)


def restore(values: Values, dtype: Dtype, dim: int, ranges: NDArray[np.float32] | None = None) -> NDArray[np.float32]:
    """What `convert` was given, as near as its type allows: (n, dim) float32 of unit length."""
    check_dtype(dtype)
    match dtype:
        case "float32":
            return values.astype(np.float32, copy=False)
        case "float16":
            vectors = values.astype(np.float32)
        case "int8":
            vectors = np.multiply(values, _checked(ranges, dim) / _STEPS, dtype=np.float32)
        case "bits":
            vectors = np.unpackbits(values.view(np.uint8), axis=1, count=dim).astype(np.float32) * 2 - 1
    return unit_length(vectors)


def unit_length(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    """Rows of unit length; a row of zeros stays one."""
    norms = np.linalg.norm(vectors, axis=1, keepdims=True)
    norms[norms == 0] = 1
    rows: NDArray[np.float32] = vectors / norms
    return rows


def find_ranges(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    """The ranges that hold all of these vectors, (dim,) float32."""
    largest: NDArray[np.float32] = np.abs(vectors).max(axis=0, initial=0)
    return np.where(largest == 0, np.float32(1), largest)


def width_of(dtype: Dtype, dim: int) -> int:
    """How many values a row of this type has."""
    return -(-dim // 8) if dtype == "bits" else dim


def numpy_type(dtype: Dtype) -> np.dtype:
    """The type of one of them."""
    return np.dtype(np.uint8 if dtype == "bits" else dtype)


def check_dtype(dtype: Dtype) -> None:
    """Raise a VectorError unless the type is known."""
    if dtype not in DTYPES:
        raise VectorError(f"dtype {dtype!r} is unknown: allowed are {', '.join(DTYPES)}")


def _checked(ranges: NDArray[np.float32] | None, dim: int) -> NDArray[np.float32]:
    if ranges is None:
        raise VectorError("int8 needs a range for each dimension: take those of the bundle, or of other vectors")
    if ranges.shape != (dim,) or not (ranges > 0).all():
        raise VectorError(f"ranges of shape {ranges.shape}: int8 of {dim} dimensions needs that many numbers above 0")
    return ranges.astype(np.float32, copy=False)
