"""From a bundle back to a ladder in float."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from edge_embed.model.checkpoint import Origin, load_checkpoint, save_checkpoint
from edge_embed.model.encoder import load_encoder
from edge_embed.model.families import FAMILIES
from edge_embed.model.tiered import TieredEncoder, encode_tiers
from edge_embed_export.build import export_bundle
from edge_embed_export.restore import restore
from edge_embed_export.settings import ExportSettings
from edge_embed_runtimes.bundle import Bundle
from edge_embed_runtimes.errors import BundleError, EncoderError
from edge_embed_runtimes.manifest import Gates, Precision
from edge_embed_runtimes.tiers import parse_ladder

LADDER = parse_ladder("1x8,2x16,3x32")
LOOSE = Gates(cosine_mean=0.5, cosine_min=0.0, score_drop=1, monotone=False)
Make = Callable[..., tuple[TieredEncoder, Path]]


@pytest.fixture(scope="module")
def make(tmp_path_factory: pytest.TempPathFactory, tiny_text_file: Path) -> Make:
    """A maker of ladders, every weight of them unlike that of their base encoder, and their bundles."""

    def ladder_and_bundle(base: Path, *precisions: Precision) -> tuple[TieredEncoder, Path]:
        folder = tmp_path_factory.mktemp("restored")
        model = TieredEncoder(load_encoder(str(base)), LADDER, "weigh")
        torch.manual_seed(1)
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.add_(0.3 * parameter.std(correction=0) * torch.randn_like(parameter))
            for tokens in model.token_weights.values():
                tokens.normal_()
        save_checkpoint(model, folder / "checkpoint", Origin(base.name))
        settings = ExportSettings(
            calibrate=(tiny_text_file,), engines=("onnx",), precisions=precisions, gates=LOOSE, allow_below_gate=True
        )
        export_bundle(folder / "checkpoint", folder / "bundle", settings)
        return load_checkpoint(folder / "checkpoint")[0], folder / "bundle"

    return ladder_and_bundle


def cosines(one: TieredEncoder, other: TieredEncoder, texts: list[str]) -> dict[str, float]:
    """The lowest of each tier."""
    mine, yours = encode_tiers(one, texts), encode_tiers(other, texts)
    return {tier: float((mine[tier] * yours[tier]).sum(1).min()) for tier in mine}


@pytest.mark.parametrize(("precision", "least"), [("fp32", 0.99999), ("int8", 0.99)])
def test_a_bundle_becomes_a_ladder_again(make, tiny_encoder, tiny_texts, precision, least):
    model, bundle = make(tiny_encoder, precision)
    restored = restore(Bundle(bundle), str(tiny_encoder))
    assert (restored.ladder, restored.head) == (model.ladder, "weigh")
    assert min(cosines(model, restored, tiny_texts).values()) > least
    untrained = TieredEncoder(load_encoder(str(tiny_encoder)), LADDER, "weigh")
    assert max(cosines(model, untrained, tiny_texts).values()) < 0.9


@pytest.mark.parametrize("kind", FAMILIES)
def test_every_family_is_restored(make, tiny_family, tiny_texts, kind):
    model, bundle = make(tiny_family(kind), "int8")
    found = cosines(model, restore(Bundle(bundle), str(tiny_family(kind))), tiny_texts)
    assert min(found.values()) > 0.99


def test_the_wrong_encoder_is_noticed(make, tiny_encoder, tiny_family, tmp_path):
    _, bundle = make(tiny_family("bert"), "fp32")
    with pytest.raises(BundleError, match=r"can't be restored in \S*roberta.* \(.*\): name the encoder that it was"):
        restore(Bundle(bundle), str(tiny_family("roberta")))
    with pytest.raises(EncoderError, match="nowhere"):
        restore(Bundle(bundle), "nowhere")


def test_other_vectors_than_the_bundles_are_noticed(make, tiny_family, monkeypatch):
    _, bundle = make(tiny_family("bert"), "fp32")
    monkeypatch.setattr("edge_embed_export.restore._restore_tables", lambda *_: None)
    with pytest.raises(
        BundleError, match=r"can't be restored in .*: the cosine to its own vectors is -?0\.\d+ at demi"
    ):
        restore(Bundle(bundle), str(tiny_family("bert")))


def test_only_what_was_compiled_for_onnx_runtime_is_restored(make, tiny_encoder):
    _, bundle = make(tiny_encoder, "fp16")
    with pytest.raises(BundleError, match="has no ONNX graphs in fp32 or int8 to restore a ladder from"):
        restore(Bundle(bundle), str(tiny_encoder))
