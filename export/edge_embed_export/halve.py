"""Weights in half precision: half the file, and hardly another vector."""

import numpy as np
import onnx_ir as ir

from edge_embed_export.linear import add_constant, new_node

_LEAST_VALUES = 1024


def halve(model: ir.Model) -> ir.Model:
    """A copy of a float graph for ONNX Runtime whose large constants are float16; it computes in float32."""
    ready = model.clone()
    for name, value in list(ready.graph.initializers.items()):
        tensor = value.const_value
        if tensor is None or tensor.dtype != ir.DataType.FLOAT or tensor.size < _LEAST_VALUES:
            continue
        half = add_constant(ready.graph, f"{name}.half", tensor.numpy().astype(np.float16))
        cast, real = new_node("Cast", [half], f"{name}.float", to=int(ir.DataType.FLOAT))
        ready.graph.insert_before(ready.graph[0], [cast])
        ir.convenience.replace_all_uses_with(value, real)
        del ready.graph.initializers[name]
    return ready
