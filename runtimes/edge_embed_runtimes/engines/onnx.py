"""ONNX Runtime behind a `Session`."""

from pathlib import Path

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from edge_embed_runtimes.engines import closed_error
from edge_embed_runtimes.engines.packed import packed_graph
from edge_embed_runtimes.errors import EngineError

VERSION: str = onnxruntime.__version__
_ERRORS_ONLY = 3
_SPIN_US = "1000"
"""As fast as spinning without an end; 200 gains two thirds of it, 50 nothing."""


def list_devices() -> tuple[str, ...]:
    """Device names that `open_session` takes for this engine."""
    return ("CPU",)


class OnnxSession:
    """One graph in ONNX Runtime, on the CPU; see `edge_embed_runtimes.engines.open_session`."""

    def __init__(self, graph: Path, *, device: str = "CPU", threads: int = 1, key: str | None = None) -> None:
        if device != "CPU":
            raise EngineError(f"ONNX Runtime runs on 'CPU' here, not on {device!r}: leave device out, or use openvino")
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        options.log_severity_level = _ERRORS_ONLY
        # Threads that wait in a loop between operators save a tenth of the time; without an end an idle app would burn
        # half a core in that loop.
        options.add_session_config_entry("session.intra_op.spin_duration_us", _SPIN_US)
        # The arena keeps what the largest batch needed, and batches are bounded. Without it memory comes from the
        # system for every operator: a third slower, and fragments take more than the arena does.
        options.enable_cpu_mem_arena = True
        if key is not None:
            graph = packed_graph(graph, key)
        try:
            self._session: onnxruntime.InferenceSession | None = onnxruntime.InferenceSession(
                str(graph), options, providers=["CPUExecutionProvider"]
            )
        except Exception as error:  # its errors derive from Exception alone
            raise EngineError(f"ONNX Runtime {VERSION} can't load {graph}: {error}") from error

    def run(self, input_ids: NDArray[np.int64], attention_mask: NDArray[np.int64]) -> NDArray[np.float32]:
        """See `Session.run`."""
        session = self._session
        if session is None:
            raise closed_error()
        try:
            (vectors,) = session.run(None, {"input_ids": input_ids, "attention_mask": attention_mask})
        except Exception as error:
            raise EngineError(f"ONNX Runtime failed on input of shape {input_ids.shape}: {error}") from error
        return np.asarray(vectors, dtype=np.float32)

    def close(self) -> None:
        """See `Session.close`."""
        self._session = None
