"""What the export knows of kinds of encoders, and where it is registered."""

import copy

import pytest
import torch
import transformers
from optimum.exporters.tasks import TasksManager

from edge_embed.model.families import FAMILIES
from edge_embed_export import architectures
from edge_embed_export.architectures import BACKEND, TASK, BertEncoderConfig, TextEncoderConfig, config_for
from edge_embed_runtimes.errors import EncoderError

SMALL = transformers.BertConfig(vocab_size=50, hidden_size=8, num_attention_heads=2, num_hidden_layers=1)


def test_bert_is_registered_with_optimum():
    make = TasksManager.get_exporter_config_constructor(
        BACKEND, model_type="bert", task=TASK, library_name="transformers"
    )
    assert isinstance(make(SMALL), BertEncoderConfig)
    assert type(config_for(SMALL)) is BertEncoderConfig


@pytest.mark.parametrize("kind", FAMILIES)
def test_a_family_is_registered_or_refused_with_what_to_do(kind):
    config = transformers.AutoConfig.for_model(kind)
    if kind == "bert":
        assert isinstance(config_for(config), TextEncoderConfig)
        return
    with pytest.raises(EncoderError, match=f"type {kind!r} can't be exported: register a TextEncoderConfig"):
        config_for(config)


def test_inputs_have_two_free_axes():
    axes = {0: "batch", 1: "tokens"}
    assert config_for(SMALL).inputs == {"input_ids": axes, "attention_mask": axes}


def test_the_example_is_two_texts_one_of_them_padded():
    input_ids, attention_mask = config_for(SMALL).example()
    assert input_ids.shape == attention_mask.shape == (2, 9)
    assert input_ids.dtype == attention_mask.dtype == torch.int64
    assert attention_mask.tolist() == [[1] * 9, [1] * 5 + [0] * 4]
    assert 0 <= int(input_ids.min()) <= int(input_ids.max()) < SMALL.vocab_size


@pytest.mark.parametrize("config", [transformers.GPT2Config(), transformers.DistilBertConfig()], ids=["gpt2", "other"])
def test_an_unknown_kind_says_what_to_do(config):
    with pytest.raises(EncoderError, match=f"{config.model_type!r} can't be exported: register a TextEncoderConfig"):
        config_for(config)


@pytest.fixture
def own_registry(monkeypatch):
    """A copy of optimum's table, so that a test may add to it."""
    tables = copy.deepcopy(TasksManager._LIBRARY_TO_SUPPORTED_MODEL_TYPES)
    monkeypatch.setattr(TasksManager, "_LIBRARY_TO_SUPPORTED_MODEL_TYPES", tables)


@pytest.mark.usefixtures("own_registry")
def test_a_new_kind_is_one_registered_class():
    @architectures._register("distilbert", TASK)
    class DistilBertEncoderConfig(TextEncoderConfig):
        pass

    assert isinstance(config_for(transformers.DistilBertConfig()), DistilBertEncoderConfig)


@pytest.mark.usefixtures("own_registry")
def test_a_foreign_class_is_refused():
    @architectures._register("distilbert", TASK)
    class Foreign:
        def __init__(self, config, task):
            pass

    with pytest.raises(EncoderError, match="registered for 'distilbert' is no TextEncoderConfig"):
        config_for(transformers.DistilBertConfig())
