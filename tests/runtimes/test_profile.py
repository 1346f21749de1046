"""Profiles: measured here and in a process of their own, written, read, and told to be of another device."""

import json
import re
from dataclasses import replace
from importlib.resources import files

import jsonschema
import pytest

from edge_embed_runtimes.bundle import Bundle
from edge_embed_runtimes.device.probe import read_device
from edge_embed_runtimes.device.profile import FORMAT, DeviceProfile, bundle_id, engine_versions
from edge_embed_runtimes.errors import OutputError, ProfileError

DEMI = ("demi", "onnx", "int8")


@pytest.fixture
def bundle(bundle_folder) -> Bundle:
    return Bundle(bundle_folder)


@pytest.fixture
def profile(bundle, make_cost) -> DeviceProfile:
    costs = (make_cost(tokens=16, ms=1), make_cost(tokens=64, ms=4, energy_mj=0.5), make_cost(tokens=16, batch=32))
    return DeviceProfile(
        bundle_id(bundle), read_device(), engine_versions(("onnx",)), "CPU", "battery", "rapl", -0.2, costs
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
        *("", "null", "[]", "{}", "nonsense", f'{{"format": {FORMAT}}}', "[" * 100_000),
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


@pytest.mark.parametrize(
    ("tokens", "batch", "ms"),
    [
        (16, 1, 1.0),
        (40, 1, 2.5),  # on the line between 16 and 64
        (8, 1, 1.0),
        (128, 1, 8.0),  # beyond the longest
        (16, 2, 2.0),  # a batch of 2 was measured at 64 alone: of one text there
        (64, 2, 5.0),  # and here its own
        (16, 32, 20.0),
        (16, 40, 25.0),
        (64, 32, 80.0),
        (16, 8, None),  # much larger than 1 and 2, much smaller than 32
        (64, 4, 10.0),  # 2 at 64
        (16, 4, None),  # which tells nothing of texts so short
    ],
)
def test_what_a_call_should_take(profile, make_cost, tokens, batch, ms):
    measured = [(16, 1, 1), (64, 1, 4), (64, 2, 5), (16, 32, 20)]
    costs = tuple(make_cost(tokens=t, batch=b, ms=took) for t, b, took in measured)
    found = replace(profile, costs=costs).expected_ms(DEMI, tokens=tokens, batch=batch)
    assert found == (None if ms is None else pytest.approx(ms))


def test_what_was_not_measured_is_not_expected(profile):
    assert profile.expected_ms(("tall", "onnx", "int8"), tokens=16, batch=1) is None


def test_the_part_with_some_threads(profile, make_cost):
    both = replace(profile, costs=(*profile.costs, make_cost(ms=9, threads=1)))
    assert both.threads == (1, 2)
    assert both.with_threads(2) == profile
    assert both.with_threads(1).cost(DEMI, tokens=16).latency_ms.p50 == 9


@pytest.mark.parametrize(("drift", "stable"), [(0.0, True), (0.1, True), (-0.1, True), (0.11, False), (-0.2, False)])
def test_a_device_that_kept_its_pace(profile, drift, stable):
    assert replace(profile, drift=drift).stable is stable


def schema() -> dict:
    return json.loads(files("edge_embed_runtimes.device").joinpath("profile.schema.json").read_text())


def test_what_is_saved_is_as_the_schema_says(profile, tmp_path):
    jsonschema.Draft202012Validator.check_schema(schema())
    profile.save(tmp_path / "p.json")
    saved = json.loads((tmp_path / "p.json").read_text())
    jsonschema.validate(saved, schema())
    for place in (saved, saved["device"], saved["costs"][0], saved["costs"][0]["latency_ms"]):
        name = next(iter(place))
        value = place.pop(name)
        with pytest.raises(jsonschema.ValidationError, match=name):
            jsonschema.validate(saved, schema())
        place[name] = value
