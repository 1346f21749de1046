"""The class an app uses, over a fake session for its own work and over the tiny bundle for the whole."""

import logging
import shutil
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest

from edge_embed_runtimes.bundle import Bundle
from edge_embed_runtimes.choose.policy import Budget, Option
from edge_embed_runtimes.device.measure import Latency
from edge_embed_runtimes.device.probe import PowerState, read_device, usable_threads
from edge_embed_runtimes.device.profile import DeviceProfile, bundle_id, engine_versions
from edge_embed_runtimes.embedder import Embedder
from edge_embed_runtimes.engines.fake import FakeSession
from edge_embed_runtimes.errors import (
    BudgetError,
    BundleDamaged,
    BundleError,
    BundleNotFound,
    EngineError,
    LadderError,
    NoTierFits,
    ProfileError,
    TextError,
)
from edge_embed_runtimes.manifest import ENGINES, PRECISIONS
from edge_embed_runtimes.run import runner, setup
from edge_embed_runtimes.run.pool import SessionPool
from edge_embed_runtimes.run.runner import Runner
from edge_embed_runtimes.run.setup import Setup
from edge_embed_runtimes.tiers import parse_ladder
from edge_embed_runtimes.tokenizer import TextCut, Tokenizer

LADDER = parse_ladder("1x8,2x16,3x32")
TIERS = [tier.name for tier in LADDER]
TEXTS = ["a bicycle leans on the wall.", "", "the wall", "a", "walls leaning on walls", "\u00e4\u00f6 zebra 9"]


class CountingSession(FakeSession):
    calls = closes = 0

    def run(self, *arrays):
        self.calls += 1
        return super().run(*arrays)

    def close(self):
        self.closes += 1
        super().close()


@pytest.fixture
def session() -> CountingSession:
    return CountingSession(16)


@pytest.fixture
def fake(session, wordpiece, bundle_folder) -> Embedder:
    setup = Setup(
        [Option(LADDER.find("short"), "onnx", "int8")],
        None,
        SessionPool(lambda _: session),
        SessionPool(lambda _: session),
    )
    manifest = Bundle(bundle_folder).manifest
    return Embedder(setup, Runner(setup.pool, Budget()), Tokenizer(wordpiece, max_tokens=16), manifest)


@pytest.fixture
def no_measuring(monkeypatch):
    monkeypatch.setattr(setup, "profile_bundle", lambda *_, **__: pytest.fail("measured"))


@pytest.fixture
def power(monkeypatch):
    def set_power(state: PowerState) -> None:
        monkeypatch.setattr(runner, "read_power", lambda: state)

    set_power(PowerState("mains"))
    return set_power


@pytest.fixture(scope="module")
def profile(tiny_bundle, make_cost) -> DeviceProfile:
    """An invented profile that speaks for the tiny bundle here: 1, 10 and 100 ms and mJ."""
    costs = tuple(
        make_cost(
            name,
            engine,
            precision,
            ms=10.0**step,
            energy_mj=10.0**step,
            peak_mb=10.0**step,
            threads=usable_threads(),
        )
        for step, name in enumerate(TIERS)
        for engine in ENGINES
        for precision in PRECISIONS
    )
    return DeviceProfile(
        bundle_id(Bundle(tiny_bundle)),
        read_device(),
        engine_versions(ENGINES),
        "CPU",
        "mains",
        None,
        0.0,
        costs,
    )


def test_rows_stand_in_the_order_of_the_texts(fake):
    texts = ["a " * (i % 14) + "wall" for i in range(200)]
    alone = {text: fake.encode([text])[0] for text in set(texts)}
    vectors = fake.encode(texts)
    assert vectors.shape == (200, 16) and vectors.dtype == np.float32
    assert (vectors == np.stack([alone[text] for text in texts])).all()


def test_long_lists_run_in_batches(fake, session):
    fake.encode(["a"] * 200)
    assert 1 < session.calls < 20


@pytest.mark.parametrize("none", [[], ()])
def test_no_texts_no_rows(fake, session, none):
    vectors = fake.encode(none)
    assert vectors.shape == (0, 16) and vectors.dtype == np.float32 and session.calls == 0


@pytest.mark.parametrize("texts", ["a", b"a", None, 5, ["a", None], ["a", 5], ["\ud800"], np.array(["a"])])
def test_bad_input_is_refused_before_anything_runs(fake, session, texts):
    with pytest.raises(TextError):
        fake.encode(texts)
    assert session.calls == 0


@pytest.mark.parametrize("text", [" ", "\n\t", "\x00"])
def test_white_space_is_the_empty_text(fake, text):
    assert (fake.encode([text]) == fake.encode([""])).all()


def test_a_cut_text_warns_at_the_callers_line(fake):
    with pytest.warns(TextCut, match="1 of 1 texts") as caught:
        vectors = fake.encode(["wall " * 20_000])
    assert caught[0].filename == __file__
    assert vectors.shape == (1, 16)


def test_properties(fake):
    assert (fake.dim, fake.space, fake.tiers, fake.choice.because) == (16, "s1", LADDER, "the only tier to choose from")


def test_closed_is_closed(fake, session):
    fake.close()
    fake.close()
    assert session.closes == 1
    for texts in (["a"], []):
        with pytest.raises(EngineError, match="closed: open the bundle again"):
            fake.encode(texts)


def test_with_closes_also_on_an_error(fake, session):
    with pytest.raises(ZeroDivisionError), fake as same:
        assert same is fake
        raise ZeroDivisionError
    assert session.closes == 1


def test_threads_share_an_embedder(fake):
    expected = fake.encode(TEXTS)
    with ThreadPoolExecutor(4) as pool:
        for vectors in pool.map(lambda _: fake.encode(TEXTS), range(40)):
            assert (vectors == expected).all()


@pytest.mark.filterwarnings("ignore::edge_embed_runtimes.tokenizer.TextCut")
@pytest.mark.parametrize("tier", TIERS)
@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("precision", PRECISIONS)
def test_every_graph_gives_a_text_one_vector(tiny_bundle, no_measuring, tier, engine, precision):
    with Embedder.open(tiny_bundle, tier=tier, engine=engine, precision=precision) as embedder:
        choice = embedder.choice
        assert (choice.tier.name, choice.engine, choice.precision) == (tier, engine, precision)
        assert choice.passed_over == ()
        vectors = embedder.encode(TEXTS)
        assert vectors.shape == (len(TEXTS), LADDER.find(tier).dim) == (len(TEXTS), embedder.dim)
        assert np.linalg.norm(vectors, axis=1) == pytest.approx(1, abs=1e-5)
        alone = np.concatenate([embedder.encode([text]) for text in TEXTS])
        many = embedder.encode([*TEXTS[::-1], *(text * 3 for text in TEXTS)])[: len(TEXTS)][::-1]
        assert np.abs(vectors - alone).max() <= 1e-6
        assert np.abs(vectors - many).max() <= 1e-6


def test_without_wishes_the_best_tier_is_chosen_without_measuring(tiny_bundle, no_measuring, power):
    with Embedder.open(str(tiny_bundle)) as embedder:
        manifest = Bundle(tiny_bundle).manifest
        best = max(manifest.passport.grades, key=lambda grade: (grade.score, manifest.ladder.find(grade.tier).layers))
        assert embedder.choice.tier.name == best.tier
        assert embedder.choice.because.startswith("best quality")
        assert {tier.name for tier, _ in embedder.choice.passed_over} == set(TIERS) - {best.tier}
        assert embedder.tiers == manifest.ladder == LADDER
        assert embedder.space == manifest.space


@pytest.mark.parametrize("pin", [{"tier": "demi"}, {"tier": "3x32"}, {"engine": "openvino"}, {"precision": "fp32"}])
def test_what_is_pinned_is_kept_and_the_rest_is_chosen(tiny_bundle, no_measuring, profile, pin):
    with Embedder.open(tiny_bundle, **pin, budget=Budget(latency_ms=1000), profile=profile) as embedder:
        choice = embedder.choice
        assert choice.tier == LADDER.find(pin.get("tier", choice.tier.name))
        assert choice.engine == pin.get("engine", choice.engine)
        assert choice.precision == pin.get("precision", choice.precision)


@pytest.mark.parametrize("limit", ["latency_ms", "energy_mj", "memory_mb"])
@pytest.mark.parametrize(("value", "fitting"), [(5, {"demi"}), (50, {"demi", "short"}), (500, set(TIERS))])
def test_a_budget_and_a_profile_decide(tiny_bundle, no_measuring, power, profile, limit, value, fitting):
    with Embedder.open(tiny_bundle, budget=Budget(**{limit: value}), profile=profile) as embedder:
        assert embedder.choice.tier.name in fitting
        over = {tier.name for tier, reason in embedder.choice.passed_over if "is over" in reason}
        assert over == set(TIERS) - fitting


def test_a_profile_may_be_a_file(tiny_bundle, no_measuring, power, profile, tmp_path):
    profile.save(tmp_path / "p.json")
    for path in (tmp_path / "p.json", str(tmp_path / "p.json")):
        with Embedder.open(tiny_bundle, budget=Budget(latency_ms=5), profile=path) as embedder:
            assert embedder.choice.tier.name == "demi"


def test_on_battery_the_thriftiest_is_opened(tiny_bundle, no_measuring, power, profile):
    power(PowerState("battery", 30.0))
    lowest = min(grade.score for grade in Bundle(tiny_bundle).manifest.passport.grades)
    if lowest <= 0:
        pytest.skip("the tiny bundle scores below any floor")
    with Embedder.open(tiny_bundle, budget=Budget(min_quality=lowest), profile=profile) as embedder:
        assert embedder.choice.tier.name == "demi" and "on battery" in embedder.choice.because


def test_a_budget_that_no_tier_meets_lists_the_tiers(tiny_bundle, no_measuring, power, profile):
    with pytest.raises(NoTierFits) as caught:
        Embedder.open(tiny_bundle, budget=Budget(latency_ms=0.5), profile=profile)
    assert all(f"  {tier} (" in str(caught.value) for tier in LADDER)


def test_a_profile_of_another_bundle_is_ignored_and_said(tiny_bundle, monkeypatch, power, profile, caplog):
    """The foreign profile, in which every tier fits, gives way to the one that is measured instead."""
    cheap = tuple(replace(cost, latency_ms=Latency(1.0, 1.0, 1.0)) for cost in profile.costs)
    monkeypatch.setattr(setup, "profile_bundle", lambda *_, **__: profile)
    with caplog.at_level(logging.WARNING, "edge_embed"):
        other = replace(profile, bundle="0" * 64, costs=cheap)
        with Embedder.open(tiny_bundle, budget=Budget(latency_ms=5), profile=other) as embedder:
            assert embedder.choice.tier.name == "demi"
    assert "the profile is ignored: it was made with another bundle" in caplog.text


def test_without_a_profile_a_budget_measures_first_and_keeps_it(tiny_bundle, tmp_path, power, caplog, monkeypatch):
    monkeypatch.setenv("EDGE_EMBED_CACHE", str(tmp_path))
    wish = {"tier": "demi", "engine": "onnx", "precision": "int8"}

    def said(budget: Budget, **wish: str) -> bool:
        caplog.clear()
        with caplog.at_level(logging.WARNING, "edge_embed"), Embedder.open(tiny_bundle, budget=budget, **wish):
            return "no profile of this device: measuring 1 graphs first" in caplog.text

    assert said(Budget(latency_ms=10_000), **wish)
    assert not said(Budget(latency_ms=20_000, tokens=16), **wish)
    assert said(Budget(latency_ms=10_000), **{**wish, "tier": "short"})
    assert said(Budget(latency_ms=10_000, memory_mb=10_000), **wish), "its memory was not measured"
    assert not said(Budget(memory_mb=10_000), **wish)
    assert said(Budget(latency_ms=10_000, tokens=60), **wish), "of longer texts than were measured"


def test_a_memory_budget_without_a_profile_measures_memory(tiny_bundle, power):
    Embedder.open(tiny_bundle, tier="demi", engine="onnx", precision="int8", budget=Budget(memory_mb=100_000)).close()


@pytest.mark.parametrize(
    ("wish", "kind"),
    [
        ({"tier": "venti"}, LadderError),
        ({"engine": "cuda"}, EngineError),
        ({"precision": "int4"}, BundleError),
        ({"engine": "onnx", "device": "GPU"}, EngineError),
        ({"device": "TOASTER"}, EngineError),
        ({"verify": "sometimes"}, BundleError),
        ({"profile": "nowhere.json"}, ProfileError),
        ({"engine": "onnx", "threads": -1}, EngineError),
        ({"engine": "openvino", "threads": -1}, EngineError),
    ],
)
def test_a_bad_wish_is_our_error(tiny_bundle, wish, kind):
    with pytest.raises(kind):
        Embedder.open(tiny_bundle, **wish)


def test_a_bad_place_is_our_error(tmp_path):
    with pytest.raises(BundleNotFound, match="edge-embed export"):
        Embedder.open(tmp_path / "nowhere")


def test_a_damaged_tokenizer_stops_the_opening(bundle_folder, no_measuring):
    with pytest.raises(BundleDamaged, match=r"tokenizer\.json is no tokenizer file"):
        Embedder.open(bundle_folder)


@pytest.mark.parametrize("kind", ["graph", "weights"])
def test_an_altered_byte_stops_the_opening(tiny_bundle, tmp_path, kind):
    copy = shutil.copytree(tiny_bundle, tmp_path / "copy")
    bundle = Bundle(copy)
    demi = bundle.manifest.ladder.find("demi")
    path = bundle.graph(demi, "onnx", "int8") if kind == "graph" else bundle.weights("onnx", "int8")
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    with pytest.raises(BundleDamaged, match="sha256"):
        Embedder.open(copy, tier="demi", engine="onnx", precision="int8")


def test_a_bad_budget_never_gets_here():
    with pytest.raises(BudgetError):
        Embedder.open("anywhere", budget=Budget(latency_ms=-1))


# The default bundle


def test_without_a_name_the_installed_default_is_opened(tiny_bundle, tmp_path, monkeypatch):
    package = tmp_path / "edge_embed_starbucks_minilm_l6"
    package.mkdir()
    (package / "__init__.py").touch()  # or an installed package of that name goes before
    (package / "bundle").symlink_to(tiny_bundle)
    monkeypatch.syspath_prepend(tmp_path)
    with Embedder.open(tier="demi") as embedder:
        assert embedder.space == Bundle(tiny_bundle).manifest.space


def test_without_a_default_it_says_how_to_get_it(monkeypatch):
    monkeypatch.setattr("edge_embed_runtimes.bundle.find_spec", lambda module: None)
    with pytest.raises(BundleNotFound, match=r"pip install edge-embed-starbucks-minilm-l6 .* or name a folder that"):
        Embedder.open()


def test_an_empty_name_is_no_default():
    with pytest.raises(BundleError):
        Embedder.open("")
