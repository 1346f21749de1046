"""What a careful user would run instead, on the same encoder: the usual int8 recipes, and other projects."""

import importlib.util
import io
import json
import shutil
from collections.abc import Callable, Sequence
from contextlib import redirect_stdout
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edge_embed_runtimes.engines import Session
from edge_embed_runtimes.tokenizer import Batch, Tokenizer, pack

THREADS, BATCH = 2, 32
Encode = Callable[[list[str]], object]


class OnnxPeer:
    """ONNX Runtime's dynamic int8: weights per channel, activations by the range of each batch."""

    def __init__(self, graph: Path, folder: Path) -> None:
        import onnxruntime
        from onnxruntime.quantization import QuantType, quantize_dynamic

        self.path = folder / f"{graph.stem}.dynamic.onnx"
        quantize_dynamic(graph, self.path, per_channel=True, weight_type=QuantType.QInt8)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = THREADS
        options.log_severity_level = 3
        self._session = onnxruntime.InferenceSession(str(self.path), options, providers=["CPUExecutionProvider"])

    def run(self, input_ids: NDArray[np.int64], attention_mask: NDArray[np.int64]) -> NDArray[np.float32]:
        """Vectors of a padded batch."""
        return self._session.run(None, {"input_ids": input_ids, "attention_mask": attention_mask})[0]


class OpenVinoPeer:
    """NNCF's static int8 with the settings of its guide for transformers."""

    def __init__(self, graph: Path, weights: Path, calibration: Sequence[Batch]) -> None:
        import nncf
        import openvino

        data = [{"input_ids": batch.input_ids, "attention_mask": batch.attention_mask} for batch in calibration]
        core = openvino.Core()
        with redirect_stdout(io.StringIO()):  # it draws bars there
            quantized = nncf.quantize(
                core.read_model(graph, weights), nncf.Dataset(data), model_type=nncf.ModelType.TRANSFORMER
            )
        settings = {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_NUM_THREADS": THREADS, "INFERENCE_PRECISION_HINT": "f32"}
        self._request = core.compile_model(quantized, "CPU", settings).create_infer_request()

    def run(self, input_ids: NDArray[np.int64], attention_mask: NDArray[np.int64]) -> NDArray[np.float32]:
        """Vectors of a padded batch."""
        self._request.infer({"input_ids": input_ids, "attention_mask": attention_mask}, share_inputs=True)
        return np.array(self._request.get_output_tensor(0).data)


class TextPeer:
    """A session as a careful user would feed it: batches of 32 texts in order of length, padded to the longest."""

    def __init__(self, session: Session, tokenizer: Tokenizer) -> None:
        self._session = session
        self._tokenizer = tokenizer

    def encode(self, texts: list[str]) -> NDArray[np.float32]:
        """Vectors in the order of the texts."""
        ids, _ = self._tokenizer.encode(texts)
        parts, rows = [], []
        for batch in pack(ids, pad_id=self._tokenizer.pad_id, batch_texts=BATCH, batch_tokens=1 << 30):
            parts.append(self._session.run(batch.input_ids, batch.attention_mask))
            rows.append(batch.rows)
        vectors = np.concatenate(parts)
        return vectors[np.argsort(np.concatenate(rows))]


def torch_peer(checkpoint: Path) -> Encode:
    """sentence-transformers in float32."""
    import torch
    from sentence_transformers import SentenceTransformer

    torch.set_num_threads(THREADS)
    model = SentenceTransformer(str(checkpoint), device="cpu")
    return lambda texts: model.encode(texts, batch_size=BATCH)


def library_peers(checkpoint: Path, graph: Path, folder: Path, output: str, dim: int) -> dict[str, Encode]:
    """Those of fastembed and light-embed, where they are installed, on a graph that gives whole vectors."""
    place = folder / "library"
    shutil.copytree(checkpoint, place, ignore=shutil.ignore_patterns("*.safetensors"))
    shutil.copy(graph, place / "model.onnx")
    special = {"cls_token": "[CLS]", "sep_token": "[SEP]", "pad_token": "[PAD]", "unk_token": "[UNK]"}
    (place / "special_tokens_map.json").write_text(json.dumps(special))
    found = {}
    if importlib.util.find_spec("fastembed"):
        from fastembed import TextEmbedding
        from fastembed.common.model_description import ModelSource, PoolingType

        TextEmbedding.add_custom_model(
            "local", PoolingType.DISABLED, True, ModelSource(hf="local"), dim, model_file="model.onnx"
        )
        fast = TextEmbedding("local", threads=THREADS, specific_model_path=str(place))
        found["fastembed"] = lambda texts: np.array(list(fast.embed(texts, batch_size=BATCH)))
    if importlib.util.find_spec("light_embed"):
        from light_embed import TextEmbedding as Light

        config = {"onnx_file": "model.onnx", "onnx_output_map": {output: "sentence_embedding"}}
        light = Light(str(place), device="cpu", model_config=config)
        found["light-embed"] = lambda texts: light.encode(texts, batch_size=BATCH)
    return found
