"""An encoder that is published as an ONNX graph alone, made a folder that transformers can load."""

import json
import shutil
from pathlib import Path

import torch
from safetensors.torch import save_file

from edge_embed.extras import require
from edge_embed_runtimes.errors import EncoderError

_ROOT = "auto_model."  # what sentence-transformers calls the transformers model inside its own
_NOT_TAKEN = ("model.safetensors", "README.md", ".*")


def unpack_graph(graph: Path, like: Path, folder: Path) -> None:
    """Write an encoder's folder: weights out of its graph, tokenizer and settings of another.

    Args:
        graph: what torch exported of a sentence-transformers model of the BERT family. Its products have the names of
            the modules that they come from; weights are found by them.
        like: folder of an encoder that has the same tokenizer, pooling and sizes, but not as many layers.
        folder: what to make.

    Raises:
        EncoderError: the graph has no such names.
        ExtraMissing: onnx is not installed.
    """
    weights = _weights(graph)
    layers = {name.split(".")[2] for name in weights if name.startswith("encoder.layer.")}
    if not layers:
        raise EncoderError(f"{graph} has no names of layers below {_ROOT}: a graph is needed that keeps torch's own")
    shutil.copytree(like, folder, ignore=shutil.ignore_patterns(*_NOT_TAKEN))
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    config["num_hidden_layers"] = len(layers)
    (folder / "config.json").write_text(json.dumps(config, indent=2), encoding="utf-8")
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})


def _weights(graph: Path) -> dict[str, torch.Tensor]:
    """A graph's weights under the names that transformers gives them.

    Tables, biases and norms keep their names in a graph. A matrix loses its own, being kept transposed; it is the
    second input of a product that is called by its module: `/model/auto_model/encoder/layer.0/output/dense/MatMul`.
    """
    require("paraphrase", "onnx")
    import onnx

    content = onnx.load(graph).graph
    values = {value.name: torch.from_numpy(onnx.numpy_helper.to_array(value).copy()) for value in content.initializer}
    found = {name.partition(_ROOT)[2]: value for name, value in values.items() if _ROOT in name}
    for node in content.node:
        _, root, module = node.name.replace("/", ".").partition(_ROOT)
        if root and node.op_type == "MatMul" and node.input[1] in values:
            found[module.removesuffix(".MatMul") + ".weight"] = values[node.input[1]].T.contiguous()
    return found
