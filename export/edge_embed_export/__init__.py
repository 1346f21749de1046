"""The compiler: from a checkpoint to a bundle of one graph per tier, engine and precision."""

from edge_embed.extras import require

require("export", "torch", "transformers", "safetensors", "scipy", "optimum", "onnx", "onnxscript", "nncf", "openvino")
