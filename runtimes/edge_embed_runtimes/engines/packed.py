"""ONNX Runtime's weights packed for this processor: made once, kept in a private folder, mapped by every process.

Mapped, they take no private memory and a quarter of the time to load. ONNX Runtime trusts their bytes, so they are
hashed before it sees them.
"""

import hashlib
import json
import logging
import shutil
from pathlib import Path

import onnxruntime

from edge_embed_runtimes.cache import private_folder
from edge_embed_runtimes.errors import OutputError
from edge_embed_runtimes.files import writing_folder

log = logging.getLogger(__name__)

_GRAPH, _WEIGHTS, _HASHES = "graph.onnx", "weights.bin", "sha256.json"
_INLINE_BYTES = 1024


def packed_graph(graph: Path, key: str) -> Path:
    """The packed form of a graph, made now if it isn't there; the graph itself where that can't be had.

    Args:
        key: of the graph's content, its weights' content, and the processor.
    """
    name = hashlib.sha256(f"{key} {onnxruntime.__version__}".encode()).hexdigest()[:32]
    try:
        folder = private_folder("packed") / name
        if not folder.exists():
            _pack(graph, folder)
        _check(folder)
    except (OSError, ValueError, KeyError, OutputError) as error:
        log.warning("weights are packed anew, since the cache can't be used: %s", error)
        return graph
    return folder / _GRAPH


def _pack(graph: Path, folder: Path) -> None:
    with writing_folder(folder) as temporary:
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3
        options.optimized_model_filepath = str(temporary / _GRAPH)
        for entry, value in {
            "session.optimized_model_external_initializers_file_name": _WEIGHTS,
            "session.optimized_model_external_initializers_min_size_in_bytes": str(_INLINE_BYTES),
            "session.save_external_prepacked_constant_initializers": "1",
        }.items():
            options.add_session_config_entry(entry, value)
        try:
            onnxruntime.InferenceSession(str(graph), options, providers=["CPUExecutionProvider"])
        except Exception as error:  # its errors derive from Exception alone
            raise OutputError(str(error)) from error
        hashes = {name: _sha256(temporary / name) for name in (_GRAPH, _WEIGHTS)}
        (temporary / _HASHES).write_text(json.dumps(hashes), encoding="utf-8")


def _check(folder: Path) -> None:
    """Refuse, and delete, a folder whose files are not as they were written."""
    hashes = json.loads((folder / _HASHES).read_text(encoding="utf-8"))
    for name in (_GRAPH, _WEIGHTS):
        if _sha256(folder / name) != hashes[name]:
            shutil.rmtree(folder, ignore_errors=True)
            raise OutputError(f"{folder / name} was altered; it is deleted")


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
