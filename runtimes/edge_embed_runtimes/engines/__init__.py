"""The seam between a graph and whatever runs it: `Session`, two methods."""

import importlib.util
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, assert_never

import numpy as np
from numpy.typing import NDArray

from edge_embed_runtimes.errors import EngineError, EngineMissing
from edge_embed_runtimes.manifest import ENGINES, Engine

_PIP = {"onnx": "pip install edge-embed", "openvino": "pip install 'edge-embed[openvino]'"}
_MODULE = {"onnx": "onnxruntime", "openvino": "openvino"}
ONNX_DEVICES = ("CoreML", "CUDA", "DirectML", "OpenVINO", "QNN")
"""Devices that are named after a provider of ONNX Runtime; every other one but the CPU is OpenVINO's."""
LANES: dict[Engine, int] = {"onnx": 1, "openvino": 4}
"""An engine takes texts of different length in one batch at no cost if they have as many whole lanes of tokens."""


class Session(Protocol):
    """One tier, ready to run. `run` may be called from several threads."""

    def run(self, input_ids: NDArray[np.int64], attention_mask: NDArray[np.int64]) -> NDArray[np.float32]:
        """Vectors of unit length, (batch, dim) float32, of two (batch, tokens) int64 arrays.

        Raises:
            EngineError: the session is closed, or the engine refused the input.
        """

    def close(self) -> None:
        """Give the memory back; a second call does nothing."""


class Computing(Session, Protocol):
    """A session of any graph: more inputs and outputs than a text's tokens and vectors."""

    def compute(self, inputs: Mapping[str, NDArray[Any]]) -> list[NDArray[np.float32]]:
        """Every output, in the graph's order; of the inputs those are taken that the graph has.

        Args:
            inputs: `attention_mask` (batch, tokens) int64 among them; the others begin with the same two axes.

        Raises:
            EngineError: see `Session.run`.
        """


def open_session(
    graph: Path,
    weights: Path,
    engine: Engine,
    *,
    device: str = "CPU",
    threads: int = 1,
    streams: int = 1,
    key: str | None = None,
) -> Computing:
    """Load a graph.

    Args:
        graph: `.onnx` or `.xml` file.
        weights: the file that the graph's tensors stand in.
        engine: which engine.
        device: `"CPU"`, or another name out of `edge-embed devices`, such as OpenVINO's `"GPU"` or `"CoreML"`.
        threads: how many threads it uses.
        streams: how many calls they are shared among; more than one makes a single call slower and many at once faster.
        key: of the files' content and the processor; what the engine makes of them is kept under it in the user's
            cache folder, and mapped from there. None: nothing is kept.

    Raises:
        EngineMissing: the engine isn't installed.
        EngineError: it can't load the graph, has no such device, or the name is unknown.
    """
    check_engine(engine)
    if threads < 1:
        raise EngineError(f"threads is {threads}: allowed is at least 1, or None for all that may be used")
    match engine:
        case "onnx":
            from edge_embed_runtimes.engines.onnx import OnnxSession

            return OnnxSession(graph, device=device, threads=max(1, threads // streams), key=key)
        case "openvino" if device.startswith("NPU"):
            from edge_embed_runtimes.engines.buckets import BucketSession

            return BucketSession(graph, weights, device=device, threads=threads)
        case "openvino":
            from edge_embed_runtimes.engines.openvino import OpenVinoSession

            return OpenVinoSession(graph, weights, device=device, threads=threads, streams=streams)
        case _:
            assert_never(engine)


def check_engine(engine: Engine) -> None:
    """Check that an engine is known and installed.

    Raises:
        EngineMissing: it isn't installed.
        EngineError: the name is unknown.
    """
    if engine not in ENGINES:
        raise EngineError(f"engine {engine!r} is unknown: allowed are {', '.join(ENGINES)}")
    if not is_installed(engine):
        raise EngineMissing(f"the engine {engine} isn't installed: {_PIP[engine]}")


def is_installed(engine: Engine) -> bool:
    """Whether an engine's package is there; it is not imported."""
    return importlib.util.find_spec(_MODULE[engine]) is not None


@dataclass(frozen=True, slots=True)
class EngineDevice:
    """A device that an engine can run on.

    Attributes:
        name: what `open_session` calls it.
        full_name: of the hardware; empty where the engine does not tell.
        capabilities: the types it computes in, as the engine calls them.
    """

    name: str
    full_name: str = ""
    capabilities: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class EngineFacts:
    """One engine on this device: its version and devices, or None and how to install it."""

    version: str | None
    devices: tuple[EngineDevice, ...]
    hint: str


def list_engines(engines: Iterable[Engine] = ENGINES) -> dict[Engine, EngineFacts]:
    """What there is of these engines, installed or not."""
    facts: dict[Engine, EngineFacts] = {}
    for engine in sorted(engines):
        if not is_installed(engine):
            facts[engine] = EngineFacts(None, (), _PIP[engine])
            continue
        match engine:
            case "onnx":
                from edge_embed_runtimes.engines.onnx import VERSION, describe_devices
            case "openvino":
                from edge_embed_runtimes.engines.openvino import VERSION, describe_devices
        facts[engine] = EngineFacts(VERSION, describe_devices(), _PIP[engine])
    return facts


def closed_error() -> EngineError:
    """The error of a session used after `close`."""
    return EngineError("this session is closed: open the bundle again")
