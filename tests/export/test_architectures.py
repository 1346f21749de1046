"""Every kind of encoder: what the export knows of it, and its graphs against torch on both engines."""

import copy
from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest
import torch
import transformers
from optimum.exporters.tasks import TasksManager

from edge_embed.model.encoder import load_encoder
from edge_embed.model.families import FAMILIES
from edge_embed.model.tiered import TieredEncoder
from edge_embed_export import architectures
from edge_embed_export.architectures import BACKEND, TASK, BertEncoderConfig, TextEncoderConfig, config_for
from edge_embed_export.calibrate import observe
from edge_embed_export.condition import condition
from edge_embed_export.fuse import fuse
from edge_embed_export.graph import cut, cut_step, export_ladder, save
from edge_embed_export.openvino import read, write_tiers
from edge_embed_runtimes.engines import open_session
from edge_embed_runtimes.errors import EncoderError
from edge_embed_runtimes.progress import silent
from edge_embed_runtimes.tiers import parse_ladder
from edge_embed_runtimes.tokenizer import Batch

SMALL = transformers.BertConfig(vocab_size=50, hidden_size=8, num_attention_heads=2, num_hidden_layers=1)
HEADS = 4


def test_bert_is_registered_with_optimum():
    make = TasksManager.get_exporter_config_constructor(
        BACKEND, model_type="bert", task=TASK, library_name="transformers"
    )
    assert isinstance(make(SMALL), BertEncoderConfig)
    assert type(config_for(SMALL)) is BertEncoderConfig


@pytest.mark.parametrize("kind", FAMILIES)
def test_every_family_is_registered(kind):
    assert isinstance(config_for(transformers.AutoConfig.for_model(kind)), TextEncoderConfig)


def test_inputs_have_two_free_axes():
    axes = {0: "batch", 1: "tokens"}
    assert config_for(SMALL).inputs == {"input_ids": axes, "attention_mask": axes}


def test_the_example_is_two_texts_one_of_them_padded():
    input_ids, attention_mask = config_for(SMALL).example()
    assert input_ids.shape == attention_mask.shape == (2, 9)
    assert input_ids.dtype == attention_mask.dtype == torch.int64
    assert attention_mask.tolist() == [[1] * 9, [1] * 5 + [0] * 4]
    assert 0 <= int(input_ids.min()) <= int(input_ids.max()) < SMALL.vocab_size


@pytest.mark.parametrize("config", [transformers.GPT2Config(), transformers.ElectraConfig()], ids=["gpt2", "electra"])
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
    @architectures._register("electra", TASK)
    class ElectraEncoderConfig(TextEncoderConfig):
        pass

    assert isinstance(config_for(transformers.ElectraConfig()), ElectraEncoderConfig)


@pytest.mark.usefixtures("own_registry")
def test_a_foreign_class_is_refused():
    @architectures._register("electra", TASK)
    class Foreign:
        def __init__(self, config, task):
            pass

    with pytest.raises(EncoderError, match="registered for 'electra' is no TextEncoderConfig"):
        config_for(transformers.ElectraConfig())


class Exported:
    """A tiny model, its graph of all tiers, and what a batch should give."""

    def __init__(self, folder: Path) -> None:
        encoder = load_encoder(str(folder), attention="eager")
        self.model = TieredEncoder(encoder, parse_ladder("1x8,2x16,4x32"), "project").eval()
        self.graph = export_ladder(self.model)
        self.pad_id = encoder.tokenizer().pad_id
        self.words = encoder.word_embeddings.num_embeddings
        self.longest = encoder.settings.max_tokens

    def texts(self, tokens: int) -> tuple[np.ndarray, np.ndarray]:
        """Four texts of up to so many tokens, the others padded; no token is the padding's."""
        generator = np.random.default_rng(tokens)
        ids = generator.integers(5, self.words, (4, tokens))
        mask = np.ones_like(ids)
        for row, length in enumerate((max(1, tokens // 2), max(1, tokens - 1), 1), start=1):
            mask[row, length:] = 0
        return np.where(mask == 1, ids, self.pad_id), mask

    def expected(self, ids: np.ndarray, mask: np.ndarray) -> dict[str, np.ndarray]:
        with torch.inference_mode():
            return {
                name: rows.numpy() for name, rows in self.model(torch.from_numpy(ids), torch.from_numpy(mask)).items()
            }


@pytest.fixture(scope="module", params=FAMILIES)
def exported(request, tiny_family) -> Exported:
    return Exported(tiny_family(request.param))


def open_all(exported: Exported, graph: ir.Model, engine: str, folder: Path) -> dict:
    """A session of each tier's own graph, and of each step."""
    ladder = exported.model.ladder
    if engine == "openvino":
        paths = write_tiers(read(save(graph, folder / "ladder.onnx")), ladder, folder)
    else:
        paths = [save(cut(graph, tier), folder / f"{tier.name}.onnx") for tier in ladder]
        paths += [save(cut_step(graph, ladder, tier), folder / f"{tier.name}.step.onnx") for tier in ladder]
    return {path.stem: open_session(path, path.with_suffix(".bin"), engine) for path in paths}


@pytest.mark.parametrize("engine", ["onnx", "openvino"])
def test_every_tier_equals_torch_at_every_length(exported, engine, tmp_path):
    graph = fuse(exported.graph, HEADS) if engine == "onnx" else exported.graph
    sessions = open_all(exported, graph, engine, tmp_path)
    for tokens in (1, 7, 64, exported.longest):
        ids, mask = exported.texts(tokens)
        for name, expected in exported.expected(ids, mask).items():
            found = sessions[name].run(ids, mask)
            np.testing.assert_allclose(found, expected, atol=1e-5, rtol=0, err_msg=f"{name}, {tokens} tokens")
        inputs = {"input_ids": ids, "attention_mask": mask}
        for name in exported.expected(ids, mask):
            vectors, *state = sessions[f"{name}.step"].compute(inputs)
            np.testing.assert_allclose(vectors, sessions[name].run(ids, mask), atol=1e-6, rtol=0)
            inputs |= {f"{name}.state": rows for rows in state}


def test_conditioning_changes_no_vector_by_much(exported, tmp_path):
    ids, mask = exported.texts(40)
    batches = [Batch(np.arange(len(ids)), ids, mask)]
    ready = condition(exported.graph, observe(exported.graph, batches, tmp_path, silent))
    sessions = open_all(exported, fuse(ready, HEADS), "onnx", tmp_path)
    for name, expected in exported.expected(ids, mask).items():
        np.testing.assert_allclose(sessions[name].run(ids, mask), expected, atol=1e-4, rtol=0)
