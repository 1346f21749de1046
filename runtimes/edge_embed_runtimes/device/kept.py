"""Profiles that this device has made before, in the user's cache folder."""

import hashlib
import json
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import get_args

from edge_embed_runtimes.bundle import Bundle
from edge_embed_runtimes.cache import private_folder
from edge_embed_runtimes.device.probe import Device, PowerSource, read_device, read_power
from edge_embed_runtimes.device.profile import DeviceProfile, bundle_id
from edge_embed_runtimes.errors import OutputError, ProfileError

log = logging.getLogger("edge_embed")


def keep_profile(profile: DeviceProfile) -> Path | None:
    """Keep a profile where `kept_profiles` finds it; None where the cache folder can't be written."""
    try:
        place = _place(profile.bundle, profile.device, profile.runs_on, profile.power_source, quick=profile.quick)
        profile.save(place)
    except (OSError, OutputError) as error:
        log.warning("the profile is not kept: %s", error)
        return None
    return place


def kept_profiles(bundle: Bundle, *, threads: int, runs_on: str = "CPU") -> Iterator[DeviceProfile]:
    """Profiles of a bundle that speak for this device as it is.

    Those made at the power source of the moment come first, and of these the ones that took more effort.
    """
    now, device, bundle_key = read_power().source, read_device(), bundle_id(bundle)
    for source in sorted(get_args(PowerSource), key=lambda source: source != now):
        for quick in (False, True):
            try:
                place = _place(bundle_key, device, runs_on, source, quick=quick)
                profile = DeviceProfile.load(place)
            except (OSError, OutputError, ProfileError):
                continue  # none was kept, or an older version wrote it
            if profile.mismatch(bundle, threads, runs_on) is None:
                yield profile.with_threads(threads)


def _place(bundle: str, device: Device, runs_on: str, source: PowerSource, *, quick: bool) -> Path:
    key = json.dumps([bundle, device.cpu, device.features, device.system, runs_on, source])
    name = hashlib.sha256(key.encode()).hexdigest()[:24] + (".quick" if quick else "")
    return private_folder("profiles") / f"{name}.json"
