"""What several tests of the runtime share: a bundle of invented files, costs, a small tokenizer."""

import hashlib
import json
from collections.abc import Callable
from pathlib import Path

import pytest

from edge_embed_runtimes.device.measure import Cost, Latency
from edge_embed_runtimes.manifest import BundleFile, Grade, Manifest, Passport
from edge_embed_runtimes.tiers import parse_ladder

KINDS = (("onnx", "int8"), ("onnx", "fp32"), ("openvino", "int8"), ("openvino", "fp32"))
WORDS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "a", "bicycle", "leans", "on", "the", "wall", ".", "##s", "##ing")


def entry(folder: Path, path: str, content: bytes, role: str, **names: str) -> BundleFile:
    target = folder / path
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_bytes(content)
    return BundleFile(path, role, hashlib.sha256(content).hexdigest(), len(content), **names)


@pytest.fixture(scope="session")
def write_bundle() -> Callable[..., Path]:
    """A writer of folders that are bundles in all but the meaning of their graphs."""

    def write(folder: Path, *, kinds: tuple = KINDS, scored: bool = True, name: str = "invented") -> Path:
        ladder = parse_ladder("1x8,2x16,3x32")
        files = [entry(folder, "tokenizer.json", b"{}", "tokenizer"), entry(folder, "README.md", b"", "card")]
        for engine, precision in kinds:
            place, names = f"{engine}-{precision}", {"engine": engine, "precision": precision}
            files.append(entry(folder, f"{place}/weights.bin", b"weights of " + place.encode(), "weights", **names))
            for tier in ladder:
                content = f"{tier} {place}".encode()
                files.append(entry(folder, f"{place}/{tier.name}.graph", content, "graph", tier=tier.name, **names))
        grades = tuple(
            Grade(
                tier.name,
                engine,
                precision,
                10,
                0.999,
                0.995,
                0.99,
                1e-7,
                {"pairs": 0.5 + tier.layers / 10} if scored else {},
            )
            for engine, precision in kinds
            for tier in ladder
        )
        manifest = Manifest(
            name=name, base_model="tiny", space="s1", head="project", pooling="mean", max_tokens=16, ladder=ladder,
            files=tuple(files), passport=Passport(grades=grades), versions={"edge-embed": "0.1.0"},
            ranges={tier.name: (1.0,) * tier.dim for tier in ladder},
        )  # fmt: skip
        (folder / "manifest.json").write_text(manifest.to_json())
        return folder

    return write


@pytest.fixture
def bundle_folder(tmp_path: Path, write_bundle: Callable[..., Path]) -> Path:
    """One such bundle."""
    return write_bundle(tmp_path / "bundle")


@pytest.fixture(scope="session")
def make_cost() -> Callable[..., Cost]:
    """A cost of which only the given fields matter."""

    def make(
        tier: str = "demi",
        engine: str = "onnx",
        precision: str = "int8",
        *,
        tokens: int = 32,
        batch: int = 1,
        ms: float = 1.0,
        energy_mj: float | None = None,
        peak_mb: float | None = None,
        threads: int = 2,
    ) -> Cost:
        latency = Latency(ms, ms, ms)
        return Cost(tier, engine, precision, tokens, batch, latency, 1000 / ms, energy_mj, 1.0, peak_mb, threads)

    return make


@pytest.fixture(scope="session")
def wordpiece() -> str:
    """The text of a `tokenizer.json`: WordPiece, thirteen pieces, BERT's special tokens and normalizer."""
    special = [
        {"id": i, "content": word, "single_word": False, "lstrip": False, "rstrip": False, "normalized": False,
         "special": True}
        for i, word in enumerate(WORDS[:4])
    ]  # fmt: skip
    content = {
        "version": "1.0",
        "truncation": {"direction": "Left", "max_length": 3, "strategy": "LongestFirst", "stride": 0},
        "padding": {"strategy": {"Fixed": 9}, "direction": "Left", "pad_to_multiple_of": None, "pad_id": 0,
                    "pad_type_id": 0, "pad_token": "[PAD]"},
        "added_tokens": special,
        "normalizer": {"type": "BertNormalizer", "clean_text": True, "handle_chinese_chars": True,
                       "strip_accents": None, "lowercase": True},
        "pre_tokenizer": {"type": "BertPreTokenizer"},
        "post_processor": {"type": "BertProcessing", "sep": ["[SEP]", 3], "cls": ["[CLS]", 2]},
        "decoder": None,
        "model": {"type": "WordPiece", "unk_token": "[UNK]", "continuing_subword_prefix": "##",
                  "max_input_chars_per_word": 100, "vocab": {word: i for i, word in enumerate(WORDS)}},
    }  # fmt: skip
    return json.dumps(content)
