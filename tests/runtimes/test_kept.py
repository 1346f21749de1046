"""Profiles that were made before are found again, and only where they hold."""

from dataclasses import replace

import pytest

from edge_embed_runtimes.bundle import Bundle
from edge_embed_runtimes.device import kept
from edge_embed_runtimes.device.kept import keep_profile, kept_profiles
from edge_embed_runtimes.device.probe import PowerState, read_device
from edge_embed_runtimes.device.profile import DeviceProfile, bundle_id, engine_versions


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("EDGE_EMBED_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(kept, "read_power", lambda: PowerState("mains"))
    return tmp_path / "cache"


@pytest.fixture
def bundle(bundle_folder) -> Bundle:
    return Bundle(bundle_folder)


@pytest.fixture
def profile(bundle, make_cost) -> DeviceProfile:
    costs = (make_cost(), make_cost(threads=1, ms=3))
    return DeviceProfile(bundle_id(bundle), read_device(), engine_versions(("onnx",)), "CPU", "mains", None, 0.0, costs)


def found(bundle, threads=2, **named):
    return list(kept_profiles(bundle, threads=threads, **named))


def test_what_is_kept_is_found(bundle, profile, cache):
    assert found(bundle) == []
    place = keep_profile(profile)
    assert place.is_relative_to(cache)
    assert found(bundle) == [profile.with_threads(2)]
    assert found(bundle, 1) == [profile.with_threads(1)]


def test_the_power_source_of_the_moment_and_more_effort_come_first(bundle, profile, monkeypatch):
    kinds = [(source, quick) for source in ("mains", "battery", "unknown") for quick in (False, True)]
    for source, quick in kinds:
        keep_profile(replace(profile, power_source=source, quick=quick))
    assert [(p.power_source, p.quick) for p in found(bundle)] == kinds
    monkeypatch.setattr(kept, "read_power", lambda: PowerState("battery", 50.0))
    assert [(p.power_source, p.quick) for p in found(bundle)][:2] == kinds[2:4]


@pytest.mark.parametrize(
    "changes", [{"bundle": "0" * 64}, {"engine_versions": {"onnx": "0.1"}}, {"runs_on": "NPU"}], ids=str
)
def test_what_does_not_hold_here_is_not_found(bundle, profile, changes):
    keep_profile(replace(profile, **changes))
    assert found(bundle) == []


def test_what_was_not_measured_is_not_found(bundle, profile):
    keep_profile(profile)
    assert found(bundle, 4) == []
    assert found(bundle, runs_on="GPU") == []


def test_a_damaged_file_is_passed_over(bundle, profile):
    keep_profile(profile).write_text("{")
    assert found(bundle) == []


def test_a_cache_that_can_not_be_written_is_said(bundle, profile, cache, caplog):
    cache.write_text("")
    assert keep_profile(profile) is None
    assert "the profile is not kept" in caplog.text
    assert found(bundle) == []
