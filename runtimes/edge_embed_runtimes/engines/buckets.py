"""OpenVINO for devices that want fixed shapes, such as NPUs: one compiled model for each bucket of lengths.

Nobody here had an NPU: on the CPU this is tested to give what the graph gives without buckets; on an NPU it never ran.
"""

import logging
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_embed_runtimes.cache import private_folder
from edge_embed_runtimes.engines import closed_error
from edge_embed_runtimes.engines.openvino import check_device, check_shapes, compile_model, infer
from edge_embed_runtimes.engines.quick_openvino import openvino
from edge_embed_runtimes.errors import EngineError, OutputError

log = logging.getLogger(__name__)

SMALLEST = 16
"""Tokens of the smallest bucket; each next one has twice as many."""


class BucketSession:
    """One graph in OpenVINO, one text at a time, padded to its bucket.

    A bucket's model is compiled at its first text, which takes seconds on an NPU; the compiled form is kept on disk.

    Raises:
        EngineError: see `edge_embed_runtimes.engines.open_session`.
    """

    def __init__(
        self, graph: Path, weights: Path, *, device: str = "NPU", threads: int = 1, cache: Path | None = None
    ) -> None:
        self._core = openvino.Core()
        check_device(self._core, device)
        kept = cache or _private_cache()
        if kept is not None:
            self._core.set_property({"CACHE_DIR": str(kept)})
        self._graph, self._weights, self._device, self._threads = graph, weights, device, threads
        self._requests: dict[int, openvino.InferRequest] | None = {}
        self._lock = threading.Lock()  # a device of this kind does one thing at a time

    def run(self, input_ids: NDArray[np.int64], attention_mask: NDArray[np.int64]) -> NDArray[np.float32]:
        """See `Session.run`."""
        check_shapes(input_ids, attention_mask)
        return self.compute({"input_ids": input_ids, "attention_mask": attention_mask})[0]

    def compute(self, inputs: Mapping[str, NDArray[Any]]) -> list[NDArray[np.float32]]:
        """See `edge_embed_runtimes.engines.Computing.compute`."""
        kept = inputs["attention_mask"] == 1
        with self._lock:
            found = [
                self._run_one({name: array[row, kept[row]] for name, array in inputs.items()})
                for row in range(len(kept))
            ]
        outputs = [np.zeros((*kept.shape, part.shape[1]), dtype=np.float32) for part in found[0][1:]]
        for row, (_, *states) in enumerate(found):
            for whole, state in zip(outputs, states, strict=True):
                whole[row, kept[row]] = state[: kept[row].sum()]
        return [np.stack([vector for vector, *_ in found]), *outputs]

    def _run_one(self, inputs: Mapping[str, NDArray[Any]]) -> list[NDArray[np.float32]]:
        """The outputs for one text without padding, whose states still are as long as its bucket."""
        length = len(inputs["attention_mask"])
        tokens = bucket_of(length)
        request = self._request(tokens)
        padded = {}
        for given in request.model_inputs:
            array = inputs[given.get_any_name()]
            padded[given.get_any_name()] = np.zeros((1, tokens, *array.shape[1:]), dtype=array.dtype)
            padded[given.get_any_name()][0, :length] = array
        return [output[0] for output in infer(request, padded)]

    def _request(self, tokens: int) -> openvino.InferRequest:
        if self._requests is None:
            raise closed_error()
        if tokens not in self._requests:
            model = self._core.read_model(str(self._graph), str(self._weights))
            try:
                free = {given: given.get_partial_shape() for given in model.inputs}
                model.reshape(
                    {given: openvino.PartialShape([1, tokens, *list(shape)[2:]]) for given, shape in free.items()}
                )
            except RuntimeError as error:
                raise EngineError(f"{self._graph} can't be shaped for {tokens} tokens: {error}") from error
            self._requests[tokens] = compile_model(
                self._core, model, self._graph, device=self._device, threads=self._threads
            ).create_infer_request()
        return self._requests[tokens]

    def close(self) -> None:
        """See `Session.close`."""
        self._requests = None


def _private_cache() -> Path | None:
    """Where compiled models are kept; None, with a warning, where it is not private: OpenVINO runs what it finds."""
    try:
        return private_folder("openvino")
    except (OSError, OutputError) as error:
        log.warning("compiled models are not kept, since the cache can't be used: %s", error)
        return None


def bucket_of(tokens: int) -> int:
    """The length that a text of so many tokens is padded to: 16, 32, 64, 128, 256 and so on."""
    bucket = SMALLEST
    while bucket < tokens:
        bucket *= 2
    return bucket
