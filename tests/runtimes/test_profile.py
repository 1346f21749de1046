"""Profiles: measured here and in a process of their own, written, read, and told to be of another device."""

import json
import re
from dataclasses import replace

import pytest

from edge_embed_runtimes.bundle import Bundle
from edge_embed_runtimes.device import profile as profile_module
from edge_embed_runtimes.device.probe import read_device
from edge_embed_runtimes.device.profile import (
    FORMAT,
    QUICK_PLAN,
    DeviceProfile,
    Plan,
    bundle_id,
    engine_versions,
    profile_bundle,
)
from edge_embed_runtimes.errors import LadderError, OutputError, ProfileError
from edge_embed_runtimes.manifest import ENGINES

DEMI = ("demi", "onnx", "int8")


@pytest.fixture
def bundle(bundle_folder) -> Bundle:
    return Bundle(bundle_folder)


@pytest.fixture
def profile(bundle, make_cost) -> DeviceProfile:
    costs = (make_cost(tokens=16, ms=1), make_cost(tokens=64, ms=4, energy_mj=0.5), make_cost(tokens=16, batch=32))
    return DeviceProfile(
        bundle_id(bundle), read_device(), engine_versions(("onnx",)), 2, "CPU", "battery", "rapl", False, costs
    )


def test_what_is_saved_is_loaded(profile, tmp_path):
    profile.save(tmp_path / "deep" / "p.json")
    assert DeviceProfile.load(tmp_path / "deep" / "p.json") == profile
    assert [path.name for path in (tmp_path / "deep").iterdir()] == ["p.json"]


def test_a_place_that_can_not_be_written(profile, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError):
        profile.save(tmp_path / "file" / "p.json")


@pytest.mark.parametrize(
    "text",
    [
        *("", "null", "[]", "{}", "nonsense", '{"format": 1}', "[" * 100_000),
        json.dumps({"format": FORMAT, "device": {}, "costs": []}),
        json.dumps({"format": FORMAT, "device": None, "costs": []}),
    ],
)
def test_a_foreign_file_is_no_profile(tmp_path, text):
    (tmp_path / "p.json").write_text(text)
    with pytest.raises(ProfileError, match=r"p\.json is no profile of edge-embed.*edge-embed profile"):
        DeviceProfile.load(tmp_path / "p.json")


@pytest.mark.parametrize("change", [{"unheard": 1}, {"costs": [{"tier": "demi"}]}, {"costs": 5}, {"device": []}])
def test_a_changed_file_is_no_profile(profile, tmp_path, change):
    path = tmp_path / "p.json"
    profile.save(path)
    path.write_text(json.dumps({**json.loads(path.read_text()), **change}))
    with pytest.raises(ProfileError, match="no profile of edge-embed"):
        DeviceProfile.load(path)


def test_another_format_is_named(profile, tmp_path):
    replace(profile, format=FORMAT + 1).save(tmp_path / "p.json")
    with pytest.raises(ProfileError, match=f"format {FORMAT + 1}, not {FORMAT}: profile again"):
        DeviceProfile.load(tmp_path / "p.json")


@pytest.mark.parametrize("make", [lambda p: None, lambda p: p.mkdir(), lambda p: p.write_bytes(b"\xff\xfe\x00")])
def test_a_file_that_can_not_be_read(tmp_path, make):
    make(tmp_path / "p.json")
    with pytest.raises(ProfileError, match=r"p\.json.*edge-embed profile"):
        DeviceProfile.load(tmp_path / "p.json")


@pytest.mark.parametrize(("tokens", "measured"), [(1, 16), (16, 16), (17, 64), (64, 64), (500, 64)])
def test_the_cost_at_the_next_longer_measured_length(profile, tokens, measured):
    assert profile.cost(DEMI, tokens=tokens).tokens == measured


def test_costs_are_kept_apart_by_graph_and_batch(profile):
    assert profile.cost(DEMI, tokens=64, batch=32).tokens == 16
    assert profile.cost(DEMI, tokens=16, batch=8) is None
    assert profile.cost(("demi", "onnx", "fp32"), tokens=16) is None


def test_a_profile_of_this_bundle_on_this_device_matches(profile, bundle):
    assert profile.mismatch(bundle, 2) is None


@pytest.mark.parametrize(
    ("change", "threads", "says"),
    [
        ({"bundle": "0" * 64}, 2, "another bundle"),
        ({}, 4, "2 threads on CPU, not 4"),
        ({"engine_versions": {"onnx": "0.1"}}, 2, r"onnx 0\.1, not \d"),
        ({"engine_versions": {}}, 2, "onnx None, not"),
    ],
)
def test_why_a_profile_does_not_speak_for_us(profile, bundle, change, threads, says):
    assert re.search(says, replace(profile, **change).mismatch(bundle, threads))


@pytest.mark.parametrize("change", [{"cpu": "Cray-1"}, {"system": "Plan9 mips"}])
def test_a_profile_of_another_device(profile, bundle, change):
    other = replace(profile, device=replace(profile.device, **change))
    assert other.mismatch(bundle, 2) == f"it was made on {other.device.cpu}"


def test_another_manifest_is_another_bundle(profile, tmp_path, write_bundle):
    assert (
        profile.mismatch(Bundle(write_bundle(tmp_path / "other", name="other")), 2) == "it was made with another bundle"
    )


def test_a_copy_of_the_bundle_is_the_same_bundle(profile, tmp_path, write_bundle):
    assert profile.mismatch(Bundle(write_bundle(tmp_path / "copy")), 2) is None


@pytest.mark.parametrize("fields", [{"tokens": ()}, {"tokens": (0,)}, {"batches": ()}, {"batches": (1, -1)}])
def test_bad_plans_are_refused(fields):
    with pytest.raises(ProfileError, match=f"{next(iter(fields))} to profile"):
        Plan(**fields)


def test_nothing_to_profile(bundle):
    with pytest.raises(ProfileError, match="nothing to profile"):
        profile_bundle(bundle, [], plan=QUICK_PLAN)


def test_a_tier_that_is_not_there(bundle):
    with pytest.raises(LadderError):
        profile_bundle(bundle, [("venti", "onnx", "int8")], plan=replace(QUICK_PLAN, isolate=False))


def test_a_failing_process_is_named_with_its_last_word(bundle):
    with pytest.raises(ProfileError, match=r"measuring demi onnx int8 failed: BundleDamaged: .*tokenizer\.json"):
        profile_bundle(bundle, [DEMI], plan=QUICK_PLAN)


@pytest.mark.parametrize(("again_ms", "stable"), [(1.05, True), (0.95, True), (1.2, False), (0.8, False)])
def test_stable_is_the_first_graph_measured_again(bundle, monkeypatch, make_cost, again_ms, stable):
    times = iter([1.0, 5.0, again_ms])
    measured, told = [], []

    def fake(bundle, graph, plan, threads, runs_on):
        measured.append(graph)
        return (make_cost(*graph, ms=next(times)),)

    monkeypatch.setattr(profile_module, "measure_graph", fake)
    graphs = [DEMI, ("tall", "onnx", "int8")]
    profile = profile_bundle(
        bundle, graphs, plan=Plan(isolate=False), threads=3, progress=lambda *step: told.append(step)
    )
    assert profile.stable is stable
    assert measured == [*graphs, DEMI]
    assert [cost.latency_ms.p50 for cost in profile.costs] == [1.0, 5.0]
    assert told == [("profile", done, 3) for done in range(4)]
    assert (profile.threads, profile.bundle) == (3, bundle_id(bundle))
    assert set(profile.engine_versions) == {"onnx"}


@pytest.mark.parametrize("engine", ENGINES)
def test_a_quick_profile_in_this_process(tiny_bundle, engine):
    bundle = Bundle(tiny_bundle)
    plan = Plan(tokens=(8, 10_000, 20_000), batches=(1, 2), quick=True, isolate=False)
    profile = profile_bundle(bundle, [("demi", engine, "int8")], plan=plan, threads=1)
    longest = bundle.manifest.max_tokens
    assert [(c.tokens, c.batch) for c in profile.costs] == [(8, 1), (8, 2), (longest, 1), (longest, 2)]
    for cost in profile.costs:
        assert (cost.tier, cost.engine, cost.precision) == ("demi", engine, "int8")
        assert 0 < cost.latency_ms.p50 <= cost.latency_ms.p90 <= cost.latency_ms.p99
        assert cost.texts_per_s == pytest.approx(cost.batch / cost.latency_ms.p50 * 1000)
        assert cost.load_ms > 0 and cost.peak_mb is None
    assert profile.mismatch(bundle, 1) is None


def test_a_process_of_its_own_tells_its_peak_memory(tiny_bundle):
    plan = Plan(tokens=(8,), batches=(1,), quick=True)
    profile = profile_bundle(Bundle(tiny_bundle), [DEMI], plan=plan, threads=1)
    (cost,) = profile.costs
    assert 20 < cost.peak_mb < 2000
    assert cost.latency_ms.p50 > 0
