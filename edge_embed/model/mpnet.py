"""MPNet with gradient checkpointing, which transformers' own lacks."""

import transformers
from torch import nn
from transformers.modeling_layers import GradientCheckpointingLayer
from transformers.models.mpnet import modeling_mpnet


class MPNetLayer(GradientCheckpointingLayer, modeling_mpnet.MPNetLayer):
    """A layer of MPNet whose activations can be made again in the backward pass."""


class MPNetModel(modeling_mpnet.MPNetModel):
    """MPNet of such layers; it reads and writes the same weights under the same names."""

    supports_gradient_checkpointing = True

    def __init__(self, config: transformers.MPNetConfig, add_pooling_layer: bool = True) -> None:
        super().__init__(config, add_pooling_layer=add_pooling_layer)
        self.encoder.layer = nn.ModuleList(MPNetLayer(config) for _ in range(config.num_hidden_layers))
        self.post_init()
