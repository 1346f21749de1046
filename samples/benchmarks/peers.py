"""What a careful user would run instead, on the same graph of one tier: the usual int8 recipes."""

import io
from collections.abc import Sequence
from contextlib import redirect_stdout
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edge_embed_runtimes.tokenizer import Batch

THREADS = 2


class OnnxPeer:
    """ONNX Runtime's dynamic int8: weights per channel, activations by the range of each batch."""

    def __init__(self, graph: Path, folder: Path) -> None:
        import onnxruntime
        from onnxruntime.quantization import QuantType, quantize_dynamic

        quantized = folder / f"{graph.stem}.dynamic.onnx"
        quantize_dynamic(graph, quantized, per_channel=True, weight_type=QuantType.QInt8)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = THREADS
        options.log_severity_level = 3
        self._session = onnxruntime.InferenceSession(str(quantized), options, providers=["CPUExecutionProvider"])

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
