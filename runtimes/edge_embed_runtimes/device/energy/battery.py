"""Power of the whole device, from the gauge of the battery that feeds it.

A gauge renews its figure every few seconds at best: it suits runs that are much longer than that.
"""

from pathlib import Path

from edge_embed_runtimes.device.energy import Finding, attempt, read_number, read_text
from edge_embed_runtimes.device.energy.sampled import SampledReader
from edge_embed_runtimes.errors import ProfileError

_RENEWS_S = 5.0  # gauges differ: some are quicker
_WHAT = "discharge of the battery"
_DENIED = "is readable by root alone: run as root, or allow reading power_now, current_now and voltage_now"
_ONLINE = ("1", "2")


def discharge_mw(root: Path) -> float:
    """Milliwatts that all batteries of the device give now; those of a mouse or a keyboard don't count.

    Raises:
        ProfileError: no battery, or none feeds the device alone.
        OSError: a gauge can't be read.
        ValueError: a gauge tells no power.
    """
    supplies = sorted((root / "sys/class/power_supply").glob("*"))
    own = [supply for supply in supplies if read_text(supply / "scope") != "Device"]
    batteries = [supply for supply in own if read_text(supply / "type") == "Battery"]
    if not batteries:
        raise ProfileError("no battery (sys/class/power_supply) in this device")
    discharging = [battery for battery in batteries if read_text(battery / "status") == "Discharging"]
    # a weak charger feeds the device together with its battery, and tells no power
    charger = any(read_text(supply / "online") in _ONLINE for supply in own if supply not in batteries)
    if charger or not discharging:
        raise ProfileError("the device is not running on battery")
    return sum(_power_mw(battery) for battery in discharging)


def find(root: Path) -> Finding:
    """Look for a battery below `root` that feeds the device now."""
    return attempt("battery", _WHAT, _DENIED, lambda: _find(root))


def _find(root: Path) -> Finding:
    discharge_mw(root)
    return Finding("battery", SampledReader("battery", _WHAT, lambda: discharge_mw(root), renews_s=_RENEWS_S), _WHAT)


def _power_mw(battery: Path) -> float:
    if (battery / "power_now").exists():
        power_mw = read_number(battery / "power_now") / 1e3
    else:
        power_mw = read_number(battery / "current_now") * read_number(battery / "voltage_now") / 1e9
    # some drivers count a discharge as negative; some say 0 until they have measured
    if power_mw == 0:
        raise ValueError(f"{battery} says 0 mW while it discharges")
    return abs(power_mw)
