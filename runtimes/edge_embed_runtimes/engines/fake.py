"""A session without a model, so that an app can be tested without one."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_embed_runtimes.engines import closed_error
from edge_embed_runtimes.errors import EngineError


class FakeSession:
    """Vectors made from the token ids alone: the same text always gets the same one, other texts other ones.

    Args:
        dim: length of a vector.
    """

    def __init__(self, dim: int = 32) -> None:
        self._dim = dim
        self._closed = False

    def run(self, input_ids: NDArray[np.int64], attention_mask: NDArray[np.int64]) -> NDArray[np.float32]:
        """See `Session.run`."""
        if self._closed:
            raise closed_error()
        if input_ids.ndim != 2 or input_ids.shape != attention_mask.shape:
            raise EngineError(f"input of shapes {input_ids.shape} and {attention_mask.shape}: expected (batch, tokens)")
        vectors = np.empty((len(input_ids), self._dim), dtype=np.float32)
        for row, (ids, mask) in enumerate(zip(input_ids, attention_mask, strict=True)):
            seen = ids[mask == 1]
            generator = np.random.default_rng([len(seen), *seen])
            vectors[row] = generator.standard_normal(self._dim)
        vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
        return vectors

    def compute(self, inputs: Mapping[str, NDArray[Any]]) -> list[NDArray[np.float32]]:
        """See `Computing.compute`; after the vectors a state that says nothing."""
        vectors = self.run(inputs["input_ids"], inputs["attention_mask"])
        return [vectors, np.zeros((*inputs["attention_mask"].shape, 1), dtype=np.float32)]

    def close(self) -> None:
        """See `Session.close`."""
        self._closed = True
