"""A bundle of invented files and a profile of invented costs."""

import hashlib
from collections.abc import Callable
from pathlib import Path

import pytest

from edge_embed_runtimes.bundle import Bundle
from edge_embed_runtimes.device.measure import Cost, Latency
from edge_embed_runtimes.device.probe import Device
from edge_embed_runtimes.device.profile import DeviceProfile, bundle_id
from edge_embed_runtimes.manifest import BundleFile, Grade, Manifest, Passport
from edge_embed_runtimes.tiers import parse_ladder

LADDER = parse_ladder("1x8,2x16,3x32")
KINDS = (("onnx", "int8"), ("openvino", "int8"), ("onnx", "fp32"))
SLOWER = {"int8": 1.0, "fp32": 2.0}


def graded(tier: str, layers: int, engine: str, precision: str, *, scored: bool) -> Grade:
    score = 0.5 + layers / 10 + (0.0004 if precision == "fp32" else 0.0002 if engine == "onnx" else 0.0)
    return Grade(tier, engine, precision, 10, 0.999, 0.995, 0.99, 1e-7, {"pairs": score} if scored else {})


@pytest.fixture(scope="session")
def make_bundle() -> Callable[..., Bundle]:
    """A maker of bundles in all but the meaning of their graphs."""

    def make(folder: Path, *, scored: bool = True, name: str = "invented", missed: tuple[str, ...] = ()) -> Bundle:
        files = []

        def add(path: str, role: str, reads_bytes: int = 0, **names: str) -> None:
            target, content = folder / path, path.encode()
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(content)
            sha256 = hashlib.sha256(content).hexdigest()
            files.append(BundleFile(path, role, sha256, len(content), reads_bytes=reads_bytes, **names))

        for engine, precision in KINDS:
            names = {"engine": engine, "precision": precision}
            add(f"{engine}-{precision}/weights.bin", "weights", **names)
            for tier in LADDER:
                add(f"{engine}-{precision}/{tier.name}.graph", "graph", 1000 * tier.layers, tier=tier.name, **names)
        tiers = [tier.name for tier in LADDER]
        passport = Passport(
            grades=tuple(
                graded(t.name, t.layers, engine, precision, scored=scored)
                for engine, precision in KINDS
                for t in LADDER
            ),
            missed=missed,
            reference={"pairs": {tier: 0.7 for tier in tiers}} if scored else {},
            cross={q: {d: 0.6 + i / 10 - j / 50 for j, d in enumerate(tiers)} for i, q in enumerate(tiers)},
        )
        manifest = Manifest(
            name=name, base_model="tiny", space="s1", head="project", pooling="mean", max_tokens=64, ladder=LADDER,
            files=tuple(files), passport=passport, versions={"edge-embed": "0.1.0"},
            ranges={tier.name: (1.0,) * tier.dim for tier in LADDER},
        )  # fmt: skip
        (folder / "manifest.json").write_text(manifest.to_json())
        return Bundle(folder)

    return make


@pytest.fixture(scope="session")
def make_profile() -> Callable[..., DeviceProfile]:
    """A maker of profiles: two lengths, one and two threads, batches of 1 and 8."""

    def make(bundle: Bundle, *, energy: bool = False, drift: float = 0.0, quick: bool = False) -> DeviceProfile:
        costs = []
        for engine, precision in KINDS:
            for tier in LADDER:
                for tokens in (16, 32):
                    for threads in (1, 2):
                        for batch in (1, 8):
                            ms = tier.layers * SLOWER[precision] * tokens / 16 * batch / threads
                            ms *= 1.1 if engine == "openvino" else 1.0
                            latency = Latency(ms, 1.0123 * ms, 1.5 * ms)
                            mj = (
                                (3 if engine == "openvino" else 4) * tier.layers * SLOWER[precision] if energy else None
                            )
                            cost = Cost(
                                tier.name, engine, precision, tokens, batch, latency, 1000 * batch / ms, mj,
                                20.0 * tier.layers, 80.0 + tier.layers, threads, 300.0 + tier.layers,
                            )  # fmt: skip
                            costs.append(cost)
        return DeviceProfile(
            bundle=bundle_id(bundle),
            device=Device("Some CPU", ("avx2",), 8, 2, 16384, "Linux x86_64"),
            engine_versions={"onnx": "1.31.0", "openvino": "2026.0.0"},
            runs_on="CPU",
            power_source="mains",
            energy_reader="a meter" if energy else None,
            drift=drift,
            costs=tuple(costs),
            made_at="2026-11-21T20:45:10+00:00",
            quick=quick,
        )

    return make
