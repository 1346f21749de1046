"""ONNX Runtime behind a `Session`.

On the CPU this is tested; with its other providers it was never run here, on hardware that needs them.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from edge_embed_runtimes.engines import EngineDevice, closed_error
from edge_embed_runtimes.engines.packed import packed_graph
from edge_embed_runtimes.errors import EngineError

VERSION: str = onnxruntime.__version__
_ERRORS_ONLY = 3
_SPIN_US = "1000"
"""As fast as spinning without an end; 200 gains two thirds of it, 50 nothing."""


PROVIDERS = {
    "CPU": "CPUExecutionProvider",
    "CoreML": "CoreMLExecutionProvider",
    "CUDA": "CUDAExecutionProvider",
    "DirectML": "DmlExecutionProvider",
    "OpenVINO": "OpenVINOExecutionProvider",
    "QNN": "QNNExecutionProvider",
}
"""What `open_session` calls the providers of ONNX Runtime; each but the CPU's comes with a package of its own."""


def list_devices() -> tuple[str, ...]:
    """Device names that `open_session` takes for this engine."""
    available = onnxruntime.get_available_providers()
    return tuple(name for name, provider in PROVIDERS.items() if provider in available)


def describe_devices() -> tuple[EngineDevice, ...]:
    """The same; ONNX Runtime does not tell the names of the hardware."""
    return tuple(EngineDevice(name) for name in list_devices())


class OnnxSession:
    """One graph in ONNX Runtime; see `edge_embed_runtimes.engines.open_session`."""

    def __init__(self, graph: Path, *, device: str = "CPU", threads: int = 1, key: str | None = None) -> None:
        if device not in list_devices():
            raise EngineError(
                f"ONNX Runtime runs on {', '.join(list_devices())} here, not on {device!r}: leave device out, "
                f"install the package of ONNX Runtime that has it, or use openvino"
            )
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
        if key is not None and device == "CPU":  # another provider packs weights its own way
            graph = packed_graph(graph, key)
        providers = list(dict.fromkeys((PROVIDERS[device], PROVIDERS["CPU"])))  # the CPU for what the device can't
        try:
            self._session: onnxruntime.InferenceSession | None = onnxruntime.InferenceSession(
                str(graph), options, providers=providers
            )
        except Exception as error:  # its errors derive from Exception alone
            raise EngineError(f"ONNX Runtime {VERSION} can't load {graph} on {device}: {error}") from error
        self._inputs = [given.name for given in self._session.get_inputs()]
        if PROVIDERS[device] not in self._session.get_providers():
            raise EngineError(f"ONNX Runtime {VERSION} fell back from {device} to the CPU: its driver may be missing")

    def run(self, input_ids: NDArray[np.int64], attention_mask: NDArray[np.int64]) -> NDArray[np.float32]:
        """See `Session.run`."""
        return self.compute({"input_ids": input_ids, "attention_mask": attention_mask})[0]

    def compute(self, inputs: Mapping[str, NDArray[Any]]) -> list[NDArray[np.float32]]:
        """See `edge_embed_runtimes.engines.Computing.compute`."""
        session = self._session
        if session is None:
            raise closed_error()
        wanted = inputs if len(inputs) == len(self._inputs) else {name: inputs[name] for name in self._inputs}
        try:
            outputs: list[NDArray[np.float32]] = session.run(None, wanted)
        except Exception as error:
            shape = inputs["attention_mask"].shape
            raise EngineError(f"ONNX Runtime failed on input of shape {shape}: {error}") from error
        return outputs

    def close(self) -> None:
        """See `Session.close`."""
        self._session = None
