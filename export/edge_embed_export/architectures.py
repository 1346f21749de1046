"""What the export must know of each kind of encoder, in optimum's terms.

A new kind is one small class here, and an entry in `edge_embed.model.families.FAMILIES`.
"""

import torch
import transformers
from optimum.exporters.base import ExporterConfig
from optimum.exporters.tasks import TasksManager
from optimum.utils import DummyTextInputGenerator, NormalizedTextConfig

from edge_embed_runtimes.errors import EncoderError

BACKEND = "edge-embed"
TASK = "feature-extraction"
_register = TasksManager.create_register(BACKEND)


class TextEncoderConfig(ExporterConfig):
    """Two inputs of (batch, tokens); token types and positions are made inside the graph."""

    NORMALIZED_CONFIG_CLASS = NormalizedTextConfig
    DUMMY_INPUT_GENERATOR_CLASSES = (DummyTextInputGenerator,)
    ATOL_FOR_VALIDATION = 1e-4

    @property
    def inputs(self) -> dict[str, dict[int, str]]:
        """Input names, and the names of their free axes."""
        axes = {0: "batch", 1: "tokens"}
        return {"input_ids": axes, "attention_mask": axes}

    def example(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Inputs to trace with: two texts of nine tokens, the second one padded."""
        generator = self.DUMMY_INPUT_GENERATOR_CLASSES[0](
            self.task, self._normalized_config, batch_size=2, sequence_length=9
        )
        input_ids = generator.generate("input_ids", framework="pt")
        attention_mask = torch.ones_like(input_ids)
        attention_mask[1, 5:] = 0
        return input_ids, attention_mask


@_register("bert", TASK)
class BertEncoderConfig(TextEncoderConfig):
    """BERT and MiniLM."""


@_register("roberta", TASK)
class RobertaEncoderConfig(TextEncoderConfig):
    """RoBERTa; its positions are counted from the padding's id, so an example must not hold that id."""


@_register("xlm-roberta", TASK)
class XlmRobertaEncoderConfig(RobertaEncoderConfig):
    """XLM-RoBERTa, multilingual E5 and BGE-M3."""


@_register("distilbert", TASK)
class DistilBertEncoderConfig(TextEncoderConfig):
    """DistilBERT."""


@_register("mpnet", TASK)
class MPNetEncoderConfig(TextEncoderConfig):
    """MPNet, whose attention adds a bias by the distance of tokens."""


@_register("modernbert", TASK)
class ModernBertEncoderConfig(TextEncoderConfig):
    """ModernBERT, with rotary positions, and local attention in most layers."""


def config_for(config: transformers.PretrainedConfig) -> TextEncoderConfig:
    """The export's description of an encoder.

    Raises:
        EncoderError: no class is registered for its type.
    """
    try:
        make = TasksManager.get_exporter_config_constructor(
            BACKEND, model_type=config.model_type, task=TASK, library_name="transformers"
        )
    except (KeyError, ValueError) as error:
        raise EncoderError(
            f"encoders of type {config.model_type!r} can't be exported: register a TextEncoderConfig for it in "
            f"edge_embed_export.architectures"
        ) from error
    described = make(config)
    if not isinstance(described, TextEncoderConfig):
        raise EncoderError(f"the class registered for {config.model_type!r} is no TextEncoderConfig")
    return described
