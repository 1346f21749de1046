"""OpenVINO behind a `Session`."""

import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_embed_runtimes.engines import LANES, EngineDevice, closed_error
from edge_embed_runtimes.engines.quick_openvino import openvino
from edge_embed_runtimes.errors import EngineError

VERSION: str = openvino.__version__


def list_devices() -> tuple[str, ...]:
    """Device names that `open_session` takes for this engine."""
    return tuple(openvino.Core().available_devices)


def describe_devices() -> tuple[EngineDevice, ...]:
    """What OpenVINO says of each device here."""
    core = openvino.Core()
    return tuple(_describe(core, name) for name in core.available_devices)


def _describe(core: openvino.Core, name: str) -> EngineDevice:
    try:
        full_name = str(core.get_property(name, "FULL_DEVICE_NAME"))
        capabilities = tuple(map(str, core.get_property(name, "OPTIMIZATION_CAPABILITIES")))
    except RuntimeError:  # a plugin whose driver is missing
        return EngineDevice(name)
    return EngineDevice(name, full_name, capabilities)


def check_device(core: openvino.Core, device: str) -> None:
    """Raise an EngineError unless OpenVINO has the device."""
    if device.split(".")[0] not in {name.split(".")[0] for name in core.available_devices}:
        raise EngineError(f"OpenVINO finds no device {device!r} here: it has {', '.join(core.available_devices)}")


def compile_model(
    core: openvino.Core, model: openvino.Model, graph: Path, *, device: str, threads: int, streams: int = 1
) -> openvino.CompiledModel:
    """Compile a model that was read from `graph`.

    Raises:
        EngineError: OpenVINO can't.
    """
    settings: dict[str, str | int] = {"PERFORMANCE_HINT": "LATENCY"}
    if not device.startswith("NPU"):  # which computes in half precision alone
        # on processors with bf16 the default would round every activation to 8 bits of mantissa
        settings["INFERENCE_PRECISION_HINT"] = "f32"
    if device == "CPU":
        settings |= {"INFERENCE_NUM_THREADS": threads, "NUM_STREAMS": streams}
    try:
        return core.compile_model(model, device, settings)
    except Exception as error:
        raise EngineError(f"OpenVINO {VERSION} can't load {graph} on {device}: {error}") from error


def check_shapes(input_ids: NDArray[np.int64], attention_mask: NDArray[np.int64]) -> None:
    """Raise an EngineError unless both are (batch, tokens)."""
    if input_ids.ndim != 2 or input_ids.shape != attention_mask.shape:
        raise EngineError(f"input of shapes {input_ids.shape} and {attention_mask.shape}: expected (batch, tokens)")


def infer(request: openvino.InferRequest, inputs: Mapping[str, NDArray[Any]]) -> list[NDArray[np.float32]]:
    """The outputs for contiguous arrays.

    Raises:
        EngineError: OpenVINO failed.
    """
    try:
        request.infer(inputs, share_inputs=True)
    except Exception as error:
        shape = inputs["attention_mask"].shape
        raise EngineError(f"OpenVINO failed on input of shape {shape}: {error}") from error
    return [np.array(tensor.data, dtype=np.float32) for tensor in request.output_tensors]


class OpenVinoSession:
    """One graph in OpenVINO; see `edge_embed_runtimes.engines.open_session`."""

    def __init__(self, graph: Path, weights: Path, *, device: str = "CPU", threads: int = 1, streams: int = 1) -> None:
        core = openvino.Core()
        check_device(core, device)
        try:
            model = core.read_model(str(graph), str(weights))
        except Exception as error:
            raise EngineError(f"OpenVINO {VERSION} can't load {graph} on {device}: {error}") from error
        self._compiled: openvino.CompiledModel | None = compile_model(
            core, model, graph, device=device, threads=threads, streams=streams
        )
        self._inputs = [given.get_any_name() for given in self._compiled.inputs]
        self._requests = threading.local()

    def run(self, input_ids: NDArray[np.int64], attention_mask: NDArray[np.int64]) -> NDArray[np.float32]:
        """See `Session.run`."""
        check_shapes(input_ids, attention_mask)
        return self.compute({"input_ids": input_ids, "attention_mask": attention_mask})[0]

    def compute(self, inputs: Mapping[str, NDArray[Any]]) -> list[NDArray[np.float32]]:
        """See `edge_embed_runtimes.engines.Computing.compute`."""
        mask = inputs["attention_mask"]
        groups = _alike(mask)
        if len(groups) == 1:
            return self._infer({name: inputs[name][:, : groups[0][1]] for name in self._inputs})
        wholes: list[NDArray[np.float32]] = []
        for rows, tokens in groups:
            parts = self._infer({name: inputs[name][rows, :tokens] for name in self._inputs})
            for place, part in enumerate(parts):
                if place == len(wholes):
                    shape = (len(mask), part.shape[1]) if part.ndim == 2 else (*mask.shape, part.shape[2])
                    wholes.append(np.zeros(shape, dtype=np.float32))
                wholes[place][(rows,) if part.ndim == 2 else (rows, slice(tokens))] = part
        return wholes

    def _infer(self, inputs: Mapping[str, NDArray[Any]]) -> list[NDArray[np.float32]]:
        if self._compiled is None:
            raise closed_error()
        request = getattr(self._requests, "mine", None)
        if request is None:
            request = self._requests.mine = self._compiled.create_infer_request()
        count = len(inputs["attention_mask"])
        more = (1 << (count - 1).bit_length()) - count
        filled = {name: _filled(array, more) for name, array in inputs.items()}
        return [output[:count] for output in infer(request, filled)]

    def close(self) -> None:
        """See `Session.close`."""
        self._compiled = None
        self._requests = threading.local()


def _filled(array: NDArray[Any], more: int) -> NDArray[Any]:
    """With the first row repeated `more` times at the end.

    For each shape that it meets OpenVINO keeps about a megabyte, and takes a while: rows are counted in powers of two.
    """
    if not more:
        return np.ascontiguousarray(array)
    return np.concatenate([array, np.broadcast_to(array[:1], (more, *array.shape[1:]))])


def _alike(attention_mask: NDArray[np.int64]) -> list[tuple[NDArray[np.intp], int]]:
    """Rows that may stand in one batch, and their longest length in tokens.

    OpenVINO's fused attention sums in another order once padding fills a vector register, and int8 turns such a last
    bit into a whole step: values off by 1e-3. Registers hold a multiple of four values on every processor, so texts
    that differ by less than that, counted from a multiple, are summed as if each stood alone.
    """
    lengths = attention_mask.sum(1)
    if (attention_mask[:, 1:] > attention_mask[:, :-1]).any():  # padded at the left, or inside: by nobody here
        return [(np.arange(len(lengths)), attention_mask.shape[1])]
    blocks = lengths // LANES["openvino"]
    return [(rows := np.flatnonzero(blocks == block), max(1, int(lengths[rows].max()))) for block in np.unique(blocks)]
